"""The fields of multi-task soft actor-critic, each with what the field's papers and codes have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from algorithms.combine import CombineSettings
from algorithms.fields import Limit, LogStd, NotNegative, Positive, Range, Rate, Share


@dataclass(frozen=True)
class SACSettings(CombineSettings):
    """What all variants of multi-task soft actor-critic share.

    Sources are named per field: [scaling] is the scaling study (arXiv 2503.05126), [D2R] is
    arXiv 2312.14472 with the authors' code, [choice] is ours where these are silent; the others are
    the authors of other methods: Soft Modularization [SM], [MOORE], [PaCo], [CARE], [CAGrad],
    [BRC], [ARS].
    """

    discount: Share = 0.99
    """Discount factor γ [scaling, D2R]."""
    polyak: Share = 0.005
    """Rate τ at which the target critics follow the online critics [scaling, D2R]."""
    actor_learning_rate: Rate = 3e-4
    """Adam's learning rate of the actor [scaling, D2R]."""
    critic_learning_rate: Rate = 3e-4
    """Adam's learning rate of the critics [scaling, D2R]."""
    temperature_learning_rate: Rate = 3e-4
    """Adam's learning rate of the temperatures: 3e-4 [scaling, SM, CARE, BRC, ARS], 1e-4 [D2R,
    PaCo, and MOORE in scaling too]."""
    adam_epsilon: Rate = 1e-5
    """Adam's ε: 1e-5 [scaling], 1e-8 [D2R, SM, MOORE, PaCo, CARE, BRC, ARS]."""
    weight_decay: Share = 0.0
    """AdamW's decoupled weight decay of actor and critics: none [scaling, D2R], 1e-4 [BRC]."""
    gradient_clip: NotNegative = 1.0
    """Largest global gradient norm of actor and critics: 1 [scaling, D2R, SM]; 0, no clipping
    [MOORE, PaCo, CARE, BRC, ARS]."""
    clip_critics: Literal["jointly", "separately"] = "jointly"
    """One norm over all critics and the mean of their losses [scaling], or one norm each and the
    sum of their losses [D2R, SM, MOORE, PaCo, CARE, BRC, ARS]."""
    temperature_clip: NotNegative = 0.0
    """Largest gradient norm of the temperatures; 0 turns it off [scaling]; 1 [D2R]."""
    critics: Annotated[int, Range(1, 100)] = 2
    """Critics that learn from the same targets [scaling, D2R: 2]."""
    critic_reduction: Literal["min", "mean"] = "min"
    """How the critics' values become one, in targets and in the policy's loss: min [scaling, D2R],
    mean [BRC]."""
    initial_temperature: Positive = 1.0
    """Initial temperature α of every task: 1 [scaling, D2R], 0.1 [BRC]."""
    max_log_temperature: Limit = math.inf
    """Upper bound of log α: none [scaling], 0 [D2R, PaCo]."""
    target_entropy: Annotated[float, Range(-1e6, 1e6)] = -4.0
    """Entropy that the temperatures steer to, in nats: minus the action size [scaling, D2R], half
    of that [BRC], 4 ln 0.2 [PaCo: by its library's default]."""
    temperature_loss: Literal["log_alpha", "alpha"] = "log_alpha"
    """What the excess entropy is multiplied by in the temperatures' loss: log α [scaling, D2R, SM],
    or α, whose gradient for log α is α times as large [CARE, BRC, ARS]."""
    shared_temperature: bool = False
    """One temperature for all tasks [BRC, CAGrad], which steps on the sum of their gradients,
    instead of one for each [scaling, D2R]."""
    log_std_min: LogStd = -20.0
    """Lower bound of the policy's log standard deviation, a clamp: −20 [scaling, D2R, SM], −10
    [MOORE, PaCo, and by a tanh BRC]."""
    log_std_max: LogStd = 2.0
    """Upper bound of the policy's log standard deviation [scaling, D2R]."""
    reward_scale: Positive = 1.0
    """Factor on the rewards that are learned from; reported returns are unscaled: 1 [scaling],
    0.1 [D2R]."""
    update_order: Literal["critic_first", "simultaneous"] = "critic_first"
    """Actor loss through the critics after their step [scaling], or all losses at the old
    weights [D2R, SM, PaCo]."""
    task_weighting: Literal["uniform", "temperature"] = "uniform"
    """Weight of each task's loss: 1 [scaling], or T·softmax(−log α) [D2R: route balancing, SM, and
    MOORE in scaling on MT10]."""
    task_loss_threshold: Annotated[float, Range(0, above_low=True, infinite=True)] = math.inf
    """A task whose summed loss exceeds this is left out of the update: never [scaling], 3000 [D2R,
    PaCo]. Needs update_order simultaneous."""
    timeout_is_terminal: bool = False
    """Treat the time limit as a terminal state, as the D2R authors' code does. False bootstraps
    through it [scaling]."""
    evaluated_actions: Literal["mode", "sample"] = "mode"
    """How evaluation acts: by the policy's mode [scaling, D2R, SM, BRC], or by sampling [ARS].
    Routes and genotypes are those of evaluation either way."""

    def __post_init__(self) -> None:
        if self.log_std_min > self.log_std_max:
            raise ValueError(
                f"log_std_min {self.log_std_min:g} is more than log_std_max {self.log_std_max:g}"
            )
        if math.log(self.initial_temperature) > self.max_log_temperature:
            raise ValueError(
                f"initial_temperature {self.initial_temperature:g} is more than "
                f"{math.exp(self.max_log_temperature):g}, to which max_log_temperature "
                f"{self.max_log_temperature:g} bounds it"
            )
        if self.task_loss_threshold != math.inf and self.update_order != "simultaneous":
            raise ValueError(
                f"task_loss_threshold {self.task_loss_threshold:g} needs every loss before any "
                "step: add --update-order simultaneous"
            )
        if self.shared_temperature and self.task_loss_threshold != math.inf:
            raise ValueError(
                f"task_loss_threshold {self.task_loss_threshold:g} leaves tasks out, which share "
                "one temperature: add --no-shared-temperature, or --task-loss-threshold inf"
            )
