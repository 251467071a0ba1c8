"""MOORE, multi-task RL with a mixture of orthogonal experts (Hendawy et al., arXiv 2311.11385).

The experts' features of each sample are made orthonormal (Gram–Schmidt) and mixed with weights that
each task learns; a head per task reads the mixture. Actor and critics are such networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.fields import Depth, LogStd, Range, Rate, Width
from algorithms.parts.adam import Adam, State
from algorithms.parts.layers import (
    Experts,
    TaskHeads,
    TaskTable,
    fan_in_uniform,
    he_uniform,
    stacked,
    uniform,
    xavier_uniform,
    zero,
)
from algorithms.sac import MultiTaskSAC, SACSettings


@dataclass(frozen=True)
class MOORESettings(SACSettings):
    """MOORE. Defaults are those of the scaling study, whose numbers are compared with [scaling:
    arXiv 2503.05126]; the authors' own are in the preset "published" [MOORE: arXiv 2311.11385 and
    the authors' code].
    """

    actor_width: Width = 400
    """Units of each layer of the actor's experts [MOORE, scaling]."""
    actor_depth: Depth = 3
    """Layers of the actor's experts, the last one linear [MOORE, scaling]."""
    critic_width: Width = 400
    """Units of each layer of the critics' experts [MOORE, scaling]."""
    critic_depth: Depth = 3
    """Layers of the critics' experts, the last one linear [MOORE, scaling]."""
    experts: Depth = 4
    """Experts of each network: 4 on MT10, 6 on MT50 [MOORE, scaling]; at most as many as layers
    have units."""
    norm_epsilon: Annotated[float, Range(0, 1)] = 1e-8
    """Added to the norm that an expert's features are divided by: 1e-8 [scaling], 0 [MOORE]."""
    reorthogonalise: bool = False
    """Project every expert twice, so that nearly collinear ones become orthogonal too: never
    [MOORE, scaling]."""
    init: Literal["scaling", "original"] = "scaling"
    """Initial weights. scaling: He-uniform experts and task weights, biases of 0, heads U(±0.001)
    in the actor and U(±0.003) in the critics [scaling]. original: experts as torch has them,
    U(±1/√fan-in), task weights and heads Xavier-uniform, biases of heads as torch has them
    [MOORE]."""
    actor_delay: Annotated[int, Range(0, 10**9)] = 0
    """Gradient steps of the critics before actor and temperatures begin to learn: none [scaling],
    1,500 [MOORE]."""
    log_std_min: LogStd = -10.0
    """Lower clamp of the policy's log standard deviation: −10 [MOORE, and scaling on MT10], −20
    [scaling on MT50]."""
    temperature_learning_rate: Rate = 1e-4
    """Adam's learning rate of the temperatures [MOORE, scaling]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor", "critic"):
            if self.experts > (width := getattr(self, f"{name}_width")):
                raise ValueError(
                    f"experts {self.experts} cannot be orthogonal in {name}_width {width}: give at "
                    "most as many experts as units"
                )


class OrthogonalExperts(nn.Module):
    """K experts with orthonormal features, mixed by task weights, and a head per task."""

    def __init__(
        self,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        head_bound: float,
        s: MOORESettings,
    ) -> None:
        super().__init__()
        original = s.init == "original"
        init = (fan_in_uniform, fan_in_uniform) if original else (he_uniform, zero)
        head = (xavier_uniform, fan_in_uniform) if original else (uniform(head_bound),) * 2
        expert = partial(Experts, s.experts, weight=init[0], bias=init[1])
        self.epsilon, self.passes = s.norm_epsilon, 2 if s.reorthogonalise else 1
        self.experts = stacked(expert, inputs, *[width] * depth)
        self.task_weights = TaskTable(tasks, s.experts, xavier_uniform if original else he_uniform)
        self.heads = TaskHeads(tasks, width, outputs, *head)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        return self.heads(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the heads read, [T, B, width]."""
        basis = orthonormal(self.experts(x), self.epsilon, self.passes)
        return torch.tanh(torch.einsum("tk,ktbd->tbd", self.task_weights(), basis))


def orthonormal(vectors: Tensor, epsilon: float = 0.0, passes: int = 1) -> Tensor:
    """Gram–Schmidt on K vectors [K, ..., d], in their order: each less its projections on those
    before it, then divided by its norm + `epsilon`.

    A vector that lies in the span of those before it becomes noise of unit length or, where nothing
    is left of it, 0; values and gradients stay finite.
    """
    basis: list[Tensor] = []
    for vector in vectors:
        for _ in range(passes):
            projections = [(vector * one).sum(-1, keepdim=True) * one for one in basis]
            vector = vector - sum(projections)
        norm = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        basis.append(vector / torch.where(norm > 0, norm + epsilon, 1.0))
    return torch.stack(basis)


@dataclass(frozen=True)
class Late(Adam):
    """Adam that does nothing until the critics have made more than `after` steps."""

    after: int = 0

    def step(self, state: State, name: str, gradient: Tensor) -> None:
        own = [key for key in state if key == name or key.startswith(f"{name}.")]
        before = {key: state[key].clone() for key in own}
        super().step(state, name, gradient)
        for key, value in before.items():
            state[key].copy_(torch.where(state["critic.steps"] > self.after, state[key], value))


class MOORE(MultiTaskSAC):
    """SAC on mixtures of experts that are orthogonal for each sample."""

    Settings = MOORESettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "*": {"experts": lambda tasks: 4 if tasks <= 10 else 6},
        "scaling": {
            "log_std_min": lambda tasks: -10.0 if tasks <= 10 else -20.0,
            # The study's file for MT10 weighs tasks, that for MT50 does not.
            "task_weighting": lambda tasks: "temperature" if tasks <= 10 else "uniform",
        },
        # The authors' loop steps actor, temperatures and critics in this order, with targets of the
        # new actor; and their first 1,500 steps are the untrained policy's, not random ones.
        "published": {
            "norm_epsilon": 0.0,
            "init": "original",
            "actor_delay": 1500,
            "adam_epsilon": 1e-8,
            "gradient_clip": 0.0,
            "clip_critics": "separately",
            "horizon": 150,
            "goals": "preset",
            "reward_version": "v2",
            "steps": lambda tasks: tasks * 2_000_000,
            "random_steps": 1500,
            "buffer_per_task": lambda tasks: 1_000_000 if tasks <= 10 else 100_000,
            "evaluations": 20,
            "eval_episodes": 10,
            "final_episodes": 10,
        },
    }
    capturable = True

    def build_optimisers(self) -> dict[str, Adam]:
        optimisers, delay = super().build_optimisers(), self.settings.actor_delay
        if delay:
            for name in ("actor", "log_temperature"):
                optimisers[name] = Late(**vars(optimisers[name]), after=delay)
        return optimisers

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size, 2 * p.action_size, s.actor_width, s.actor_depth
        return OrthogonalExperts(self.tasks, *sizes, 1e-3, s)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size + p.action_size, 1, s.critic_width, s.critic_depth
        return OrthogonalExperts(self.tasks, *sizes, 3e-3, s)
