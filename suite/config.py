"""What a run is: frozen dataclasses, the presets that fill them, and the checks they must pass.

A run's identity is everything here but `ExecutionConfig`, which cannot change a result.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from algorithms import ALGORITHMS, algorithm_names, entry
from suite.messages import UserError, choose
from suite.tasks import PRESET_GOALS, task_names

TRANSITION_BYTES = 4 * 84
"""A transition in the replay: 84 floats."""
HORIZON_LIMIT = 500
"""Meta-World's own time limit."""


@dataclass(frozen=True)
class TaskConfig:
    """What is learned."""

    tasks: str = "MT10"
    """MT10, MT25, MT50, MT1:<task>, or a comma-separated list such as reach-v3,push-v3."""
    goals: Literal["preset", "random", "fixed"] = "preset"
    """Goals of the episodes: Meta-World's 50 a task, a fresh one each reset (MT10-Rand of the D2R
    paper), or one for the whole run (MT10-Fixed)."""
    goal_seed: int = -1
    """Seed of the preset goals, as in metaworld.MT10(seed); -1 is the run's seed."""
    reward_version: Literal["v1", "v2"] = "v2"
    """Meta-World's reward function [scaling: v2]."""
    horizon: int = 500
    """Steps an episode, at most 500; episodes do not end on success: 500 [scaling], 200 [D2R]."""
    envs_per_task: int = 1
    """Parallel training environments a task [scaling, D2R: 1]."""


@dataclass(frozen=True)
class TrainingConfig:
    """How much data, and how it is used."""

    steps: int = 20_000_000
    """Environment steps over all tasks, rounded up to whole episodes [scaling: 2M a task]."""
    batch_per_task: int = 128
    """Transitions of each task in a gradient step [scaling, D2R: 128, so 1280 on MT10]."""
    buffer_per_task: int = 100_000
    """Transitions of each task that the replay holds [scaling: 100k]."""
    random_steps: int = 4000
    """First steps of each task with uniform random actions and no learning [scaling: 4000]."""
    update_every: int = 1
    """Lockstep env steps a gradient step [scaling, D2R: 1]."""
    precision: Literal["float32", "tf32"] = "float32"
    """Of matrix products: float32, or TF32, which a GPU multiplies faster, with 10 bits of mantissa
    [choice]."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How the run is measured."""

    evaluations: int = 100
    """Evenly spaced evaluations during the run; the last is at its end."""
    eval_episodes: int = 50
    """Episodes a task in each evaluation but the last. With preset goals, the first so many of
    them, each once."""
    final_episodes: int = 50
    """Episodes a task in the last evaluation [scaling: 50, D2R: 32]."""
    probe_size: int = 4200
    """Transitions in the fixed batch that plasticity is measured on, for every task set the same;
    at least the widest layer's units, so that ranks are not cut."""


@dataclass(frozen=True)
class ExecutionConfig:
    """How the run is carried out; nothing here changes what is learned.

    Only `threads` may change how a sum is rounded: a run keeps those that it began with.
    """

    workers: int = 0
    """Environment processes; 0 is one for each CPU that this process may use."""
    threads: int = 0
    """Threads of the learner on the CPU; 0 is one for each CPU that this process may use."""
    engine: Literal["fast", "metaworld"] = "fast"
    """Meta-World's step: the exact fast one, or Meta-World's own classes."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints, which are written at the next end of an episode."""
    results: str = "results/runs"
    """Folder in which runs get their directories."""
    run_dir: str = ""
    """This run's directory, instead of one in the folder above."""
    track: Literal["auto", "none", "tensorboard", "wandb", "trackio"] = "auto"
    """Live tracking beside the rows: auto is TensorBoard where it is installed."""
    force: bool = False
    """Delete what an earlier run left in the directory and start again."""
    seeds: str = ""
    """Further seeds, each a run of its own: how many, counted from the seed, or a list such as
    0,5,7."""
    batched: bool = False
    """Train all seeds at once in this process, with batched networks, instead of one after the
    other: faster where one seed leaves the device idle. Results equal those of single runs up to
    rounding."""


@dataclass(frozen=True)
class RunConfig:
    """One run, fully resolved."""

    algorithm: str
    """A registered name or package.module:Class."""
    settings: Any
    """The algorithm's own settings."""
    seed: int = 0
    """Root of all randomness."""
    device: str = "cpu"
    """Where the learner runs: cpu, cuda or cuda:<n>."""
    task: TaskConfig = field(default_factory=TaskConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in the order of the task axis."""
        return task_names(self.task.tasks)

    @property
    def steps_per_round(self) -> int:
        """Env steps in a round: one episode of every env."""
        return len(self.tasks) * self.task.envs_per_task * self.task.horizon

    @property
    def rounds(self) -> int:
        """Rounds that cover `training.steps`."""
        return math.ceil(self.training.steps / self.steps_per_round)

    @property
    def goal_seed(self) -> int:
        """The seed that the preset goals come from."""
        return self.seed if self.task.goal_seed < 0 else self.task.goal_seed

    def each_seed(self) -> list[RunConfig]:
        """The runs that this stands for, one a seed. Raises UserError for seeds that are none."""
        given = self.execution.seeds
        if not given:
            return [self]
        try:
            listed = [int(part) for part in given.split(",")]
        except ValueError:
            raise UserError(
                f"seeds: {given!r} is neither a number of seeds nor a list such as 0,1,2"
            ) from None
        counted = "," not in given
        seeds = range(self.seed, self.seed + listed[0]) if counted else listed
        if not seeds or len(set(seeds)) < len(seeds):
            raise UserError(f"seeds: {given!r} names {'a seed twice' if seeds else 'no seed'}")
        execution = replace(self.execution, seeds="")
        return [replace(self, seed=seed, execution=execution) for seed in seeds]

    def identity(self) -> dict[str, Any]:
        """Everything that can change a result, as plain data."""
        plain = asdict(self)
        del plain["execution"]
        # A field that came after runs had been made is left out where it changes nothing, so that
        # they keep their names.
        if self.training.precision == "float32":
            del plain["training"]["precision"]
        # One spelling for one task set: "mt1:reach" and "reach-v3" are the same run.
        if self.task.tasks.upper() not in PRESET_STEPS:
            plain["task"]["tasks"] = ",".join(self.tasks)
        else:
            plain["task"]["tasks"] = self.task.tasks.upper()
        plain["task"]["goal_seed"] = self.goal_seed
        return plain

    def hash(self) -> str:
        """Eight hexadecimal digits that stand for the identity."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def name(self) -> str:
        """Readable and unique: the directory of the run."""
        tasks = self.task.tasks.upper()
        if tasks not in PRESET_STEPS:
            short = [name.removesuffix("-v3") for name in self.tasks]
            tasks = "+".join(short) if len(short) < 4 else f"{len(short)}tasks"
        parts = [self.algorithm.rpartition(":")[2], tasks, self.task.goals]
        widths = [getattr(self.settings, f"{net}_width", None) for net in ("actor", "critic")]
        if None not in widths:
            parts.append(f"a{widths[0]}-c{widths[1]}")
        return "-".join([*parts, f"s{self.seed}", self.hash()])


PRESET_STEPS = {"MT10": 10, "MT25": 25, "MT50": 50}

PRESETS = {
    "smoke": "seconds: shows that everything runs, learns nothing",
    "quick": "about 10 minutes on MT10 with 2 CPU cores",
    "scaling": "the scaling study's protocol (arXiv 2503.05126)",
    "d2r": "the D2R paper's protocol (arXiv 2312.14472)",
}

SMALL = {"actor_width": 64, "critic_width": 64, "modules": 4}
MEDIUM = {"actor_width": 128, "critic_width": 128, "modules": 4}

# From α = 1 the temperature needs tens of thousands of gradient steps to fall to where policies
# learn; a short run starts near there.
SHORT_RUN = {"reward_scale": 0.1, "initial_temperature": 0.05, "temperature_learning_rate": 3e-4}


def preset(name: str, algorithm: str, tasks: str) -> RunConfig:
    """The configuration of a preset, before any field is overridden.

    Raises UserError for an unknown preset, algorithm or task.
    """
    if name not in PRESETS:
        raise UserError(choose("preset", name, PRESETS))
    settings = settings_of(algorithm)()
    count = len(task_names(tasks))
    # MEGA's precision: 2 bits a gene on MT10, 4 on MT50 and, our choice, on anything above MT10.
    genes = {"gene_bits": 2 if count <= 10 else 4}
    base = RunConfig(algorithm, settings, task=TaskConfig(tasks))
    if name == "smoke":
        return replace(
            base,
            settings=override(settings, SMALL),
            task=replace(base.task, horizon=20),
            training=TrainingConfig(
                steps=count * 200, batch_per_task=8, buffer_per_task=1000, random_steps=40
            ),
            evaluation=EvaluationConfig(2, eval_episodes=1, final_episodes=2, probe_size=300),
            execution=ExecutionConfig(checkpoint_minutes=0),
        )
    if name == "quick":
        return replace(
            base,
            settings=override(settings, MEDIUM | SHORT_RUN),
            task=replace(base.task, horizon=200),
            training=TrainingConfig(
                steps=count * 16_000, batch_per_task=32, buffer_per_task=50_000, random_steps=1000
            ),
            evaluation=EvaluationConfig(8, eval_episodes=10),
            execution=ExecutionConfig(checkpoint_minutes=1),
        )
    if name == "scaling":
        return replace(
            base,
            settings=override(settings, genes),
            training=TrainingConfig(steps=count * 2_000_000),
        )
    # The D2R authors' MT50 runs are a third shorter a task and keep twice the transitions.
    large = count > 10
    return replace(
        base,
        settings=override(settings, {"reward_scale": 0.1, **genes}),
        task=replace(base.task, horizon=200, goals="fixed"),
        training=TrainingConfig(
            steps=count * (1_000_000 if large else 1_500_000),
            buffer_per_task=200_000 if large else 100_000,
        ),
        evaluation=EvaluationConfig(150, eval_episodes=32, final_episodes=32),
    )


def override(settings: Any, values: dict[str, Any]) -> Any:
    """The settings with those of the values that they have a field for."""
    known = {f.name for f in fields(settings)}
    return replace(settings, **{k: v for k, v in values.items() if k in known})


def settings_of(algorithm: str) -> type[Any]:
    """The settings class of an algorithm. Raises UserError where there is none."""
    try:
        return entry(algorithm).settings
    except LookupError:
        shown = f"{', '.join(algorithm_names())}, or package.module:Class"
        raise UserError(choose("algorithm", algorithm, algorithm_names(), shown)) from None
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"algorithm: {algorithm!r} cannot be loaded: {error}") from None


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
        check_memory(config)
        check_device(config.device)


def check_memory(config: RunConfig) -> None:
    """Raises UserError for a replay that is larger than this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    seeds = len(config.each_seed()) if config.execution.batched else 1
    replay = seeds * len(config.tasks) * config.training.buffer_per_task * TRANSITION_BYTES
    if replay > memory and config.device == "cpu":
        of_seeds = f" and {seeds} seeds" if seeds > 1 else ""
        raise UserError(
            f"buffer-per-task: {config.training.buffer_per_task} needs {replay / 1e9:.1f} GB for "
            f"{len(config.tasks)} tasks{of_seeds}, and this machine has {memory / 1e9:.1f} GB"
        )


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
