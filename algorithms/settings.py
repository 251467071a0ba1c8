"""The settings of every built-in algorithm.

Frozen dataclasses without torch, so that the command line can explain and check them at once.
Sources are named per field: [scaling] is the scaling study (arXiv 2503.05126), [D2R] is
arXiv 2312.14472 with the authors' code, [MEGA] is arXiv 2502.13569, [choice] is ours where
these are silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from algorithms.fields import (
    Count,
    Depth,
    Limit,
    LogStd,
    NotNegative,
    Positive,
    Range,
    Rate,
    Share,
    Width,
)


@dataclass(frozen=True)
class SACSettings:
    """What all variants of multi-task soft actor-critic share."""

    discount: Share = 0.99
    """Discount factor γ [scaling, D2R]."""
    polyak: Share = 0.005
    """Rate τ at which the target critics follow the online critics [scaling, D2R]."""
    actor_learning_rate: Rate = 3e-4
    """Adam's learning rate of the actor [scaling, D2R]."""
    critic_learning_rate: Rate = 3e-4
    """Adam's learning rate of both critics [scaling, D2R]."""
    temperature_learning_rate: Rate = 3e-4
    """Adam's learning rate of the temperatures: 3e-4 [scaling], 1e-4 [D2R]."""
    adam_epsilon: Rate = 1e-5
    """Adam's ε: 1e-5 [scaling], 1e-8 [D2R]."""
    gradient_clip: NotNegative = 1.0
    """Largest global gradient norm of actor and critics; 0 turns it off [scaling, D2R]."""
    clip_critics: Literal["jointly", "separately"] = "jointly"
    """One norm over both critics and the mean of their losses [scaling], or one norm each and the
    sum of their losses [D2R]."""
    temperature_clip: NotNegative = 0.0
    """Largest gradient norm of the temperatures; 0 turns it off [scaling]; 1 [D2R]."""
    initial_temperature: Positive = 1.0
    """Initial temperature α of every task [scaling, D2R]."""
    max_log_temperature: Limit = float("inf")
    """Upper bound of log α: none [scaling], 0 [D2R]."""
    target_entropy: Annotated[float, Range(-1e6, 1e6)] = -4.0
    """Entropy that the temperatures steer to, in nats: minus the action size [scaling, D2R]."""
    log_std_min: LogStd = -20.0
    """Lower clamp of the policy's log standard deviation [scaling, D2R]."""
    log_std_max: LogStd = 2.0
    """Upper clamp of the policy's log standard deviation [scaling, D2R]."""
    reward_scale: Positive = 1.0
    """Factor on the rewards that are learned from; reported returns are unscaled: 1 [scaling],
    0.1 [D2R]."""
    update_order: Literal["critic_first", "simultaneous"] = "critic_first"
    """Actor loss through the critics after their step [scaling], or all losses at the old
    weights [D2R]."""
    task_weighting: Literal["uniform", "temperature"] = "uniform"
    """Weight of each task's loss: 1 [scaling], or T·softmax(−log α) [D2R: route balancing]."""
    task_loss_threshold: Annotated[float, Range(0, above_low=True, infinite=True)] = float("inf")
    """A task whose summed loss exceeds this is left out of the update: never [scaling], 3000 [D2R].
    Needs update_order simultaneous."""
    timeout_is_terminal: bool = False
    """Treat the time limit as a terminal state, as the D2R authors' code does. False bootstraps
    through it [scaling]."""

    def __post_init__(self) -> None:
        if self.log_std_min > self.log_std_max:
            raise ValueError(
                f"log_std_min {self.log_std_min:g} is more than log_std_max {self.log_std_max:g}"
            )
        if self.task_loss_threshold != float("inf") and self.update_order != "simultaneous":
            raise ValueError(
                f"task_loss_threshold {self.task_loss_threshold:g} needs every loss before any "
                "step: add --update-order simultaneous"
            )


@dataclass(frozen=True)
class MTSACSettings(SACSettings):
    """Multi-task SAC on plain networks whose actor and critic scale separately [scaling]."""

    actor_width: Width = 400
    """Units of each hidden layer of the actor [scaling]."""
    actor_depth: Depth = 3
    """Hidden layers of the actor [scaling]."""
    critic_width: Width = 400
    """Units of each hidden layer of each critic [scaling]."""
    critic_depth: Depth = 3
    """Hidden layers of each critic [scaling]."""
    multi_head: bool = True
    """One linear output head a task (MTMHSAC) instead of one for all (MTSAC) [scaling]."""


@dataclass(frozen=True)
class ModuleSettings(SACSettings):
    """What the module architectures, D2R and MEGA, share; defaults are the D2R authors'."""

    temperature_learning_rate: Rate = 1e-4
    adam_epsilon: Rate = 1e-8
    clip_critics: Literal["jointly", "separately"] = "separately"
    temperature_clip: NotNegative = 1.0
    max_log_temperature: Limit = 0.0
    reward_scale: Positive = 0.1
    update_order: Literal["critic_first", "simultaneous"] = "simultaneous"
    task_weighting: Literal["uniform", "temperature"] = "temperature"
    task_loss_threshold: Annotated[float, Range(0, above_low=True, infinite=True)] = 3e3

    actor_width: Width = 400
    """Width of the actor's base network; modules and router scale with it [D2R]."""
    critic_width: Width = 400
    """Width of each critic's base network; modules and router scale with it [D2R]."""
    base_depth: Depth = 2
    """Layers of the base networks [D2R]."""
    module_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.32
    """Module width over base width: 128 / 400 [D2R]."""
    router_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.64
    """Router width over base width: 256 / 400 [D2R]."""
    modules: Depth = 16
    """Modules in each stack, the largest depth [D2R, MEGA]."""
    top_k: Depth = 2
    """Sources that a routed slot mixes [D2R]."""
    use_threshold: Share = 0.01
    """Mixing weight above which a module counts as in use, in reports alone [choice]."""
    resrouting: bool = True
    """Block the gradient of transforms that the router does not trust (ResRouting) [D2R]."""


@dataclass(frozen=True)
class D2RSettings(ModuleSettings):
    """Dynamic depth routing: a router picks each sample's path through the modules [D2R]."""


@dataclass(frozen=True)
class MEGASettings(ModuleSettings):
    """Genetic model evolution: binary genotypes, one population a task, wire the modules [MEGA]."""

    append_task_id: bool = False
    """Give the actor's base network the task id as well [choice]."""
    gene_bits: Annotated[int, Range(1, 8)] = 2
    """Bits a gene, p_w: 2 on MT10, 4 on MT50 [MEGA]."""
    bit_order: Literal["msb_first", "lsb_first"] = "msb_first"
    """Which bit of a gene comes first [choice]."""
    decoding: Literal["halfsoftmax", "softmax"] = "halfsoftmax"
    """How genes become mixing weights: HalfSoftmax [MEGA], or plain softmax to compare with."""
    population: Annotated[int, Range(2, 1000)] = 4
    """Individuals a task, N_p: 3 to 4 [MEGA]."""
    first_stage: Depth = 3
    """Modules of a task at the start [MEGA]."""
    evolution: bool = True
    """Breed new generations; False keeps the first genotypes [choice]."""
    individual: Literal["round_robin", "random"] = "round_robin"
    """Who acts in an episode: each individual in turn, or a random one [choice]."""
    episodes_per_individual: Count = 5
    """Own episodes of each individual in a generation; their mean is its fitness [choice]."""
    fitness: Literal["return", "success"] = "return"
    """What an episode is worth: its unscaled return [MEGA], or its success [choice]."""
    abandon_rate: Share = 0.25
    """Share of a population that is culled a generation, r_a; at least one, never the elite
    [choice]."""
    parents: Literal["rank", "uniform"] = "rank"
    """How parents are drawn: roulette with rank weights, or all alike [choice]."""
    crossover: Literal["uniform", "one_point"] = "uniform"
    """Whole genes from either parent independently, or from the second one behind a random point
    [choice]."""
    crossover_rate: Share = 0.5
    """Probability that a child has two parents [MEGA]."""
    mutation_rate: Share = 0.15
    """Probability that a child mutates [MEGA]."""
    mutation_bits: Share = 0.02
    """Share of its bits that a mutating child flips; at least one [choice]."""
    cross_population_rate: Share = 0.1
    """Probability τ_cp that the second parent is another task's elite [MEGA; value: choice]."""
    window: Count = 10
    """Generations between two looks at whether a task stagnates [choice]."""
    cooldown_windows: Annotated[int, Range(0, 1_000_000)] = 1
    """Windows after growth in which a task does not grow again [choice]."""
    success_threshold: Share = 0.8
    """A task with at least this success counts as mastered and does not grow [choice]."""
    improvement_threshold: NotNegative = 0.02
    """Relative gain of the best fitness over a window below which a task stagnates [choice]."""
    growth: Literal["reinitialise", "extend"] = "reinitialise"
    """New genotypes after a stage grows: fresh coin flips [MEGA], or the old bits and a new
    segment [choice]."""
    evaluate_genotype: Literal["best", "oldest"] = "best"
    """Whose genotype is evaluated: the fittest, ties to the older, or the oldest [choice]."""
    train_genotype: Literal["uniform", "best"] = "uniform"
    """Whose genotype a gradient step trains, per task: a random individual or the fittest
    [choice]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.first_stage <= self.modules:
            raise ValueError(
                f"first_stage {self.first_stage} must lie between 1 and modules ({self.modules})"
            )
        if self.population < 2:
            raise ValueError(f"population {self.population} must be at least 2")
        if not 1 <= self.gene_bits <= 8:
            raise ValueError(f"gene_bits {self.gene_bits} must lie between 1 and 8")
