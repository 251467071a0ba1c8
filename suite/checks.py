"""What a configuration must pass before any work is done."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from typing import Any

from algorithms import ALGORITHMS
from suite.config import RunConfig
from suite.envs.tasks import PRESET_GOALS
from suite.messages import UserError, choose

HORIZON_LIMIT = 500
"""Meta-World's own time limit."""
NOT_NEGATIVE = {
    *("random_steps", "workers", "threads", "checkpoint_minutes"),
    *("gradient_clip", "temperature_clip", "improvement_threshold", "cooldown_windows"),
    "use_threshold",
}
SHARES = {
    *("discount", "polyak", "abandon_rate", "crossover_rate", "mutation_rate", "mutation_bits"),
    *("cross_population_rate", "success_threshold"),
}
ANY_NUMBER = {"target_entropy", "log_std_min", "log_std_max", "max_log_temperature", "goal_seed"}


def check_range(name: str, value: float) -> None:
    """Raises UserError unless a number is positive, or what the sets above allow instead."""
    shown = name.replace("_", "-")
    if math.isnan(value):
        raise UserError(f"{shown}: nan is not a number to work with")
    if name in SHARES:
        if not 0 <= value <= 1:
            raise UserError(f"{shown}: {value} does not lie between 0 and 1")
    elif name in NOT_NEGATIVE:
        if value < 0:
            raise UserError(f"{shown}: {value} is negative; give 0 or more")
    elif name not in ANY_NUMBER and value <= 0:
        raise UserError(f"{shown}: {value} is not a positive number; give more than 0")


def check(config: RunConfig, here: bool = True) -> None:
    """Raises UserError, before any work, for a configuration that cannot run.

    What this machine has is not looked at where the run will be carried out on another one.
    """
    # A user's own algorithm may have fields whose ranges only it knows.
    ours = {f.name for known in ALGORITHMS.values() for f in fields(known.settings)}
    values: dict[str, Any] = {}
    for part in (config.task, config.training, config.evaluation, config.execution):
        values |= {f.name: getattr(part, f.name) for f in fields(part)}
    for f in fields(config.settings):
        if f.name in ours:
            values[f.name] = getattr(config.settings, f.name)
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            check_range(name, value)
    horizon, task = config.task.horizon, config.task
    if horizon > HORIZON_LIMIT:
        raise UserError(
            f"horizon: {horizon} is more than Meta-World's limit; give 1 to {HORIZON_LIMIT}"
        )
    evaluation = config.evaluation
    for name in ("eval_episodes", "final_episodes"):
        if task.goals == "preset" and values[name] > PRESET_GOALS:
            raise UserError(
                f"{name.replace('_', '-')}: {values[name]} is more than the {PRESET_GOALS} preset "
                f"goals, each of which is evaluated once; give 1 to {PRESET_GOALS}"
            )
    if evaluation.probe_size < len(config.tasks):
        raise UserError(
            f"probe-size: {evaluation.probe_size} is less than one a task; give at least "
            f"{len(config.tasks)}"
        )
    runs = config.each_seed()
    named = [("seed", run.seed) for run in runs]
    for name, seed in (*named, ("goal-seed", config.goal_seed)):
        if not 0 <= seed < 2**32:
            raise UserError(f"{name}: {seed} does not lie between 0 and 2**32 - 1")
    if len(runs) > 1 and config.execution.run_dir:
        raise UserError("run-dir: several seeds have a directory each; name their --results folder")
    widest = max(getattr(config.settings, f"{net}_width", 0) for net in ("actor", "critic"))
    if evaluation.probe_size < widest:
        raise UserError(
            f"probe-size: {evaluation.probe_size} is less than the widest layer ({widest}), which "
            f"would cut its rank; add --probe-size {math.ceil(widest / 100) * 100}"
        )
    check_device_name(config.device)
    if config.training.precision == "tf32" and config.device == "cpu":
        raise UserError("precision: tf32 is a GPU's; leave it out, or add --device cuda")
    if here:
        check_device(config.device)


def check_device_name(device: str) -> None:
    """Raises UserError for a device that is none."""
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not index.isdigit())):
        raise UserError(choose("device", device, ("cpu", "cuda"), "cpu, cuda, cuda:<n>"))


def check_device(device: str) -> None:
    """Raises UserError for a device that is not there; imports torch only if there may be one."""
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
