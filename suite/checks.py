"""What a configuration must pass before any work is done.

Ranges stand with their fields. Contradictions between fields are rules here: functions whose
parameters are the fields that they need, so that each is asked as soon as these are known.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from suite.config import PARTS, RunConfig, Seed, seeds_of
from suite.envs import PRESET_GOALS
from suite.envs.tasks import task_names
from suite.memory import check_bytes, host_memory
from suite.messages import UserError, choose
from suite.values import check_value, kinds

SHARED = 4
"""Threads or processes for each CPU, beyond which they only wait for one another."""
LONGEST_PATH, LONGEST_NAME = 3000, 255
"""Bytes; a run's own names come on top of the path."""
BEFORE_A_RUN = {"lock", "log.txt", "failure.json"}
"""What may stand in a run's directory before its configuration does."""
Rule = Callable[..., None]


def check(config: RunConfig, here: bool = True) -> None:
    """Raises UserError, before any work, for a configuration that cannot run.

    What this machine has is not looked at where the run will be carried out on another one.
    """
    check_value("seed", Seed, config.seed)
    for part in (*(getattr(config, name) for name in PARTS), config.settings):
        for name, kind in kinds(type(part)).items():
            check_value(name, kind, getattr(part, name))
    values = config.values()
    ask(RULES, values)
    if here:
        ask(RULES_HERE, values)


def ask(rules: Iterable[Rule], values: Mapping[str, Any]) -> None:
    """Asks the rules whose fields are all known; one with a default may be unknown."""
    for rule in rules:
        parameters = inspect.signature(rule).parameters.values()
        needed = {p.name for p in parameters if p.default is p.empty}
        if needed <= values.keys():
            rule(**{p.name: values[p.name] for p in parameters if p.name in values})


# On any machine ------------------------------------------------------------------------------


def preset_goals_are_enough(
    goals: str, eval_goals: str = "same", eval_episodes: int = 1, final_episodes: int = 1
) -> None:
    """Each preset goal is evaluated once."""
    preset = "preset" in (eval_goals, goals if eval_goals == "same" else "")
    for name, episodes in (("eval", eval_episodes), ("final", final_episodes)):
        if preset and episodes > PRESET_GOALS:
            raise UserError(
                f"{name}-episodes: {episodes} is more than the {PRESET_GOALS} preset goals, each "
                f"of which is evaluated once; give 1 to {PRESET_GOALS}"
            )


def probe_holds_every_task(tasks: str, probe_size: int) -> None:
    """One transition of each at the least."""
    count = len(task_names(tasks))
    if probe_size < count:
        raise UserError(
            f"probe-size: {probe_size} is less than one per task; give at least {count}"
        )


def probe_has_every_rank(probe_size: int, actor_width: int = 0, critic_width: int = 0) -> None:
    """A matrix of fewer samples than units has no full rank."""
    widest = max(actor_width, critic_width)
    if probe_size < widest:
        raise UserError(
            f"probe-size: {probe_size} is less than the widest layer ({widest}), which would cut "
            f"its rank; add --probe-size {math.ceil(widest / 100) * 100}"
        )


def replay_holds_a_batch(buffer_per_task: int, batch_per_task: int) -> None:
    """A batch from a smaller replay would be mostly copies."""
    if buffer_per_task < batch_per_task:
        raise UserError(
            f"buffer-per-task: {buffer_per_task} is less than batch-per-task ({batch_per_task}); "
            f"give at least {batch_per_task}"
        )


def one_pace(update_every: int, updates_per_step: int) -> None:
    """Fewer gradient steps than env steps, or more."""
    if update_every > 1 and updates_per_step > 1:
        raise UserError(
            f"updates-per-step: {updates_per_step} for more updates and update-every "
            f"{update_every} for fewer exclude each other; leave out one of the two"
        )


def an_episode_has_an_update(update_every: int, horizon: int) -> None:
    """Locksteps are counted in each episode anew."""
    if update_every > horizon:
        raise UserError(
            f"update-every: {update_every} is more than an episode's steps (horizon {horizon}); "
            f"give 1 to {horizon}"
        )


def something_is_learned(
    tasks: str, steps: int, random_steps: int, horizon: int, envs_per_task: int
) -> None:
    """Random actions must end before the run does."""
    count = len(task_names(tasks))
    rounds = math.ceil(steps / (count * envs_per_task * horizon))
    of_each = rounds * horizon * envs_per_task
    if random_steps >= of_each:
        raise UserError(
            f"random-steps: {random_steps} are all {of_each} steps of each task (steps {steps}), "
            f"after which nothing is learned; give fewer than {of_each}, or more --steps"
        )


def seeds_are_seeds(seed: int, seeds: str, run_dir: str = "") -> None:
    """Further seeds have directories of their own."""
    if seeds and len(seeds_of(seeds, seed)) > 1 and run_dir:
        raise UserError("run-dir: several seeds have a directory each; name their --results folder")


def paths_are_paths(results: str, run_dir: str = "") -> None:
    """No file system takes longer names."""
    for name, path in (("results", results), ("run-dir", run_dir)):
        encoded = os.fsencode(path)
        if len(encoded) > LONGEST_PATH or any(len(p) > LONGEST_NAME for p in encoded.split(b"/")):
            raise UserError(f"{name}: the path is too long; choose a shorter one")


def device_is_one(device: str) -> None:
    """Cpu, cuda or cuda:<n>."""
    kind, colon, index = device.partition(":")
    number = index.isascii() and index.isdigit() and len(index) <= 3 and index == str(int(index))
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number)):
        known = "cpu, cuda, cuda:<n>"
        if "gpu" in device.lower():  # which is spelled nearer to cpu
            raise UserError(f"device: {device!r} is not one of {known}; did you mean cuda?")
        raise UserError(choose("device", device, ("cpu", "cuda"), known))


def tf32_has_a_gpu(precision: str, device: str) -> None:
    """The CPU has none."""
    if precision == "tf32" and device == "cpu":
        raise UserError("precision: tf32 is a GPU's; leave it out, or add --device cuda")


RULES: tuple[Rule, ...] = (
    device_is_one,
    seeds_are_seeds,
    paths_are_paths,
    preset_goals_are_enough,
    probe_holds_every_task,
    probe_has_every_rank,
    replay_holds_a_batch,
    one_pace,
    an_episode_has_an_update,
    something_is_learned,
    tf32_has_a_gpu,
)


# On this machine -----------------------------------------------------------------------------


def device_is_there(device: str) -> None:
    """Imports torch only if there may be one."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return
    if not os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/dxg"):
        raise UserError(f"device: {device!r} is not there (no NVIDIA driver); use --device cpu")
    import torch

    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        have = ", ".join(f"cuda:{i}" for i in range(count)) or "no CUDA device that torch can use"
        raise UserError(f"device: {device!r} is not there; this machine has cpu, {have}")


def cpus_are_there(threads: int = 0, workers: int = 0) -> None:
    """Many more than CPUs take the machine down instead of being faster."""
    most = SHARED * (os.cpu_count() or 1)
    for name, number in (("threads", threads), ("workers", workers)):
        if number > most:
            raise UserError(
                f"{name}: {number} are too many for this machine's {os.cpu_count()} CPUs; give 0 "
                f"to {most}, or leave it out"
            )


RULES_HERE: tuple[Rule, ...] = (device_is_there, cpus_are_there)


def memory_is_there(
    tasks: str,
    device: str,
    seed: int,
    seeds: str = "",
    batched: bool = False,
    buffer_per_task: int = 1,
    envs_per_task: int = 1,
) -> None:
    """The replay and the envs alone must fit; a sweep tries its runs one by one instead."""
    if device == "cpu":
        together = len(seeds_of(seeds, seed)) if seeds and batched else 1
        sizes = len(task_names(tasks)), together, buffer_per_task, envs_per_task
        check_bytes(device, host_memory(), *sizes)


def check_directory(values: Mapping[str, Any]) -> None:
    """Raises UserError where the results cannot be written, or the run's directory holds a run that
    differs in one of the values that are known.

    A first look without torch: opening the directory compares everything.
    """
    name = "run-dir" if values.get("run_dir") else "results"
    folder = Path(values.get("run_dir") or values["results"])
    there = folder
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise UserError(f"{name}: {there} is a file; name a directory")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"{name}: cannot write to {there}; name another directory")
        if name == "results" or folder != there:
            return
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        if names - BEFORE_A_RUN and "config.json" not in names:
            raise UserError(f"run-dir: {folder} is not empty and not a run; name another")
        stored = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{name}: cannot use {folder}: {error.strerror}") from None
    except ValueError:
        return  # damaged: opening the directory says so
    if values.get("force") or not isinstance(stored, dict):
        return
    parts = (stored, *(stored.get(part) for part in PARTS))
    for part in (part for part in parts if isinstance(part, dict)):
        for field in sorted(part.keys() & values.keys() - {"goal_seed"}):
            before, now = part[field], values[field]
            # As a run's identity spells them.
            spelled = (now.upper(), ",".join(task_names(now))) if field == "tasks" else (now,)
            if before not in spelled:
                raise UserError(
                    f"run-dir: {folder} holds a run with {field.replace('_', '-')} {before!r}, not "
                    f"{now!r}; name another directory"
                )
