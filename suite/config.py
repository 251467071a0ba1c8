"""What a run is: frozen dataclasses. `suite.presets` fills them, `suite.checks` checks them.

A run's identity is everything here but `ExecutionConfig`, which cannot change a result.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from suite.envs.tasks import task_names
from suite.messages import UserError

MOST_SEEDS = 10_000


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
        if counted and listed[0] > MOST_SEEDS:
            raise UserError(f"seeds: {given} are too many; for the one seed {given}, give --seed")
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
