"""What a run is: frozen dataclasses. `suite.presets` fills them, `suite.checks` checks them.

A run's identity is everything here but `ExecutionConfig`, which cannot change a result. The range
of every number stands with it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from algorithms.fields import Range
from suite.envs.tasks import task_names, task_sets
from suite.messages import UserError
from suite.values import check_value, coerced, default_of, kinds, whole

MOST_SEEDS = 10_000
LAST_SEED = 2**32 - 1
"""Meta-World takes no larger one."""
HORIZON_LIMIT = 500
"""Meta-World's own time limit."""
DESTRUCTIVE = ("force",)
"""Fields that delete something: they are given without a value, and no hint names them."""

Seed = Annotated[int, Range(0, LAST_SEED)]
Processes = Annotated[int, Range(0, 1024)]
Episodes = Annotated[int, Range(1, 10_000)]


@dataclass(frozen=True)
class TaskConfig:
    """What is learned."""

    tasks: str = "MT10"
    """MT10, MT25, MT50, MT1:<task>, or a comma-separated list such as reach-v3,push-v3."""
    goals: Literal["preset", "random", "fixed"] = "preset"
    """Goals of the episodes: Meta-World's 50 per task, a fresh one each reset (MT10-Rand of the D2R
    paper), or one for the whole run (MT10-Fixed)."""
    goal_seed: Annotated[int, Range(-1, LAST_SEED)] = -1
    """Seed of the preset goals, as in metaworld.MT10(seed); -1 is the run's seed."""
    reward_version: Literal["v1", "v2"] = "v2"
    """Meta-World's reward function [scaling: v2]."""
    horizon: Annotated[int, Range(1, HORIZON_LIMIT)] = 500
    """Steps per episode; episodes do not end on success: 500 [scaling], 200 [D2R]."""
    envs_per_task: Annotated[int, Range(1, 1000)] = 1
    """Parallel training environments per task [scaling, D2R: 1]."""


@dataclass(frozen=True)
class TrainingConfig:
    """How much data, and how it is used."""

    steps: Annotated[int, Range(1, 10**12)] = 20_000_000
    """Environment steps over all tasks, rounded up to whole episodes [scaling: 2M per task]."""
    batch_per_task: Annotated[int, Range(1, 100_000)] = 128
    """Transitions of each task in a gradient step [scaling, D2R: 128, so 1280 on MT10]. What papers
    give in all is dealt out evenly, hence rounded: BRC's 1024 are 1020 on MT10 and 1000 on MT50,
    and on MT50 PaCo's and CARE's 1280 are 1300."""
    buffer_per_task: Annotated[int, Range(1, 10**9)] = 100_000
    """Transitions of each task that the replay holds [scaling: 100k]."""
    random_steps: Annotated[int, Range(0, 10**9)] = 4000
    """First steps of each task with uniform random actions and no learning [scaling: 4000]."""
    update_every: Annotated[int, Range(1, HORIZON_LIMIT)] = 1
    """Lockstep env steps per gradient step, for fewer updates; not more than an episode has
    [scaling, D2R: 1]."""
    updates_per_step: Annotated[int, Range(1, 64)] = 1
    """Gradient steps after each lockstep env step, for more updates; not together with update_every
    [scaling, D2R: 1]."""
    precision: Literal["auto", "float32", "tf32"] = "auto"
    """Of matrix products: float32, or TF32, which a GPU multiplies faster, with a mantissa of 10
    bits. auto is TF32 on a GPU, as in the JAX codes that numbers are compared with [choice]."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How the run is measured."""

    evaluations: Annotated[int, Range(1, 100_000)] = 100
    """Evenly spaced evaluations during the run, at most one per episode; the last is at its end."""
    eval_goals: Literal["same", "preset"] = "same"
    """Goals that are evaluated on: those that `goals` says, or Meta-World's 50 per task, whatever
    is trained on [ARS trains on random goals, and evaluates on the first 10 preset ones, which is
    "random+preset" in rows]."""
    eval_episodes: Episodes = 50
    """Episodes per task in each evaluation but the last. With preset goals, the first so many of
    them, each once."""
    final_episodes: Episodes = 50
    """Episodes per task in the last evaluation [scaling: 50, D2R: 32]."""
    probe_size: Annotated[int, Range(1, 1_000_000)] = 4200
    """Transitions in the fixed batch that plasticity is measured on, for every task set the same;
    at least the widest layer's units, so that ranks are not cut."""
    metrics_every: Annotated[int, Range(1, 1_000_000)] = 1
    """Rounds of episodes from one row of each training metric to the next; a row is the mean over
    its own round. More than 1 makes a long run's rows smaller."""


@dataclass(frozen=True)
class ExecutionConfig:
    """How the run is carried out; nothing here changes what is learned.

    Only `threads` and `compile` may change how a sum is rounded: a run keeps what it began with.
    """

    workers: Processes = 0
    """Environment processes; 0 is one for each CPU that this process may use."""
    threads: Processes = 0
    """Threads of the learner on the CPU; 0 is one for each CPU that this process may use."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether torch.compile makes one program of the learner: auto where it works on this machine,
    on or refused, off."""
    engine: Literal["fast", "metaworld"] = "fast"
    """Meta-World's step: the exact fast one, or Meta-World's own classes."""
    checkpoint_minutes: Annotated[float, Range(0, 1_000_000)] = 5.0
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
    """Further seeds, each a run of its own: how many, counted from the seed, or, without a seed, a
    list such as 0,5,7."""
    batched: bool = False
    """Train all seeds at once in this process, side by side on shared environment processes,
    instead of one after the other: faster where one seed leaves the device idle. Results equal
    those of single runs, on a CPU to the bit."""


@dataclass(frozen=True)
class RunConfig:
    """One run, fully resolved."""

    algorithm: str
    """A registered name or package.module:Class."""
    settings: Any
    """The algorithm's own settings."""
    seed: Seed = 0
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
    def locksteps(self) -> int:
        """Steps that every env makes."""
        return self.rounds * self.task.horizon

    @property
    def evaluated_goals(self) -> str:
        """Where the goals of evaluations come from: preset, random or fixed."""
        chosen = self.evaluation.eval_goals
        return self.task.goals if chosen == "same" else chosen

    def evaluated_episodes(self, final: bool) -> int:
        """Episodes per task in an evaluation; of a fixed goal there is one."""
        e = self.evaluation
        if self.evaluated_goals == "fixed":
            return 1
        return e.final_episodes if final else e.eval_episodes

    @property
    def goal_seed(self) -> int:
        """The seed that the preset goals come from."""
        return self.seed if self.task.goal_seed < 0 else self.task.goal_seed

    def values(self) -> dict[str, Any]:
        """Every field's value by the field's name, the suite's and the algorithm's."""
        flat = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in PARTS}
        for part in (*(getattr(self, name) for name in PARTS), flat.pop("settings")):
            flat |= {f.name: getattr(part, f.name) for f in fields(part)}
        return flat

    @property
    def precision(self) -> Literal["float32", "tf32"]:
        """That of matrix products, `auto` resolved."""
        chosen = self.training.precision
        if chosen == "auto":
            return "float32" if self.device == "cpu" else "tf32"
        return chosen

    def each_seed(self) -> list[RunConfig]:
        """The runs that this stands for, one for each seed. Raises UserError for wrong seeds."""
        if not self.execution.seeds:
            return [self]
        execution = replace(self.execution, seeds="")
        seeds = seeds_of(self.execution.seeds, self.seed)
        return [replace(self, seed=seed, execution=execution) for seed in seeds]

    def identity(self) -> dict[str, Any]:
        """Everything that can change a result, as plain data."""
        plain = asdict(self)
        del plain["execution"]
        plain["training"]["precision"] = self.precision
        for part, younger in YOUNGER.items():
            for name, value in younger.items():
                if part == "settings" and not inherited(type(self.settings), name):
                    continue
                if plain[part].get(name) == value:
                    del plain[part][name]
        # One spelling for one task set: "mt1:reach" and "reach-v3" are the same run.
        named = self.task.tasks.upper()
        plain["task"]["tasks"] = named if named in task_sets() else ",".join(self.tasks)
        plain["task"]["goal_seed"] = self.goal_seed
        return plain

    def hash(self) -> str:
        """Eight hexadecimal digits that stand for the identity."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def name(self) -> str:
        """Readable and unique: the directory of the run."""
        tasks = self.task.tasks.upper()
        if tasks not in task_sets():
            short = [name.removesuffix("-v3") for name in self.tasks]
            tasks = "+".join(short) if len(short) < 4 else f"{len(short)}tasks"
        parts = [self.algorithm.rpartition(":")[2], tasks, self.task.goals]
        widths = [getattr(self.settings, f"{net}_width", None) for net in ("actor", "critic")]
        if None not in widths:
            parts.append(f"a{widths[0]}-c{widths[1]}")
        return "-".join([*parts, f"s{self.seed}", self.hash()])


PARTS: dict[str, type[Any]] = {
    "task": TaskConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "execution": ExecutionConfig,
}
"""The suite's fields."""
YOUNGER: dict[str, dict[str, Any]] = {
    "training": {"precision": "float32", "updates_per_step": 1},
    "evaluation": {"metrics_every": 1, "eval_goals": "same"},
    "settings": {
        "value_clip": math.inf,
        "gradnorm_detach": True,
        "shared_temperature": False,
        "evaluated_actions": "mode",
    },
}
"""Fields that came after runs had been made, by part, and what these had: such a value is no part
of the identity, so that those runs keep their names."""


def inherited(settings: type[Any], name: str) -> bool:
    """Whether settings have a field from ours alone. Where a stranger's declare it, or ours with a
    default of their own, it is part of the identity, whatever its value.
    """
    owners = [base.__module__ for base in settings.__mro__ if name in vars(base)]
    return len(owners) == 1 and owners[0].startswith("algorithms.")


def assembled(algorithm: str, settings: type[Any], values: Mapping[str, Any]) -> RunConfig:
    """The run with these values by field name, and the defaults of all other fields.

    Raises ValueError where the settings refuse a combination.
    """
    own = {name: values[name] for name in ("seed", "device") if name in values}
    parts = {name: filled(kind, values) for name, kind in PARTS.items()}
    return RunConfig(algorithm, filled(settings, values), **own, **parts)


def filled(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass of fields with these values, or their defaults, in the form of their types."""
    types = kinds(kind)
    return kind(
        **{f.name: coerced(types[f.name], values.get(f.name, default_of(f))) for f in fields(kind)}
    )


def seeds_of(given: str, first: int) -> Sequence[int]:
    """The seeds that `--seeds` stands for: so many from the first on, or those of a list alone.

    Raises UserError where they are none.
    """
    if "," not in given:
        count = whole("seeds", given)
        if count > MOST_SEEDS:
            one = f"; for the one seed {given}, give --seed" if count <= LAST_SEED else ""
            raise UserError(f"seeds: {given} are too many, more than {MOST_SEEDS:,}{one}")
        if count < 1:
            raise UserError(
                f"seeds: {given} is how many, counted from --seed: none; give 1 or more, or for "
                "seed 0 alone SEED=0 (--seed 0)"
            )
        seeds: Sequence[int] = range(first, first + count)
    else:
        seeds = [whole("seeds", part) for part in given.split(",")]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: {given!r} names a seed twice; name each once")
    for seed in (seeds[0], seeds[-1]) if isinstance(seeds, range) else seeds:
        check_value("seed", Seed, seed)
    return seeds
