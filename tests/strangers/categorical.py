"""Critics that learn a distribution over 101 returns, with LayerNorm and AdamW.

HL-Gauss targets (Imani & White, arXiv 1806.04613; Farebrother et al., arXiv 2403.03950).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch
from algorithms.fields import Positive, Range, Share, Width
from algorithms.parts.adam import Adam, State
from algorithms.sac import MultiTaskSAC, SACSettings


@dataclass(frozen=True)
class CategoricalSettings(SACSettings):
    """SAC whose critics put out a distribution over bins of the return."""

    actor_width: Width = 256
    """Units of the actor's hidden layers."""
    critic_width: Width = 256
    """Units of each critic's hidden layers."""
    bins: Annotated[int, Range(2, 1000)] = 101
    """Bins of the return."""
    largest_return: Positive = 1000.0
    """The bins reach from minus this to this."""
    smoothing: Positive = 0.75
    """Width of the Gaussian that spreads a target over bins, in bins."""
    critic_weight_decay: Share = 0.01
    """AdamW's decay of the critics' weights."""
    warmup: Annotated[int, Range(1, 1_000_000)] = 100
    """Steps over which the critics' learning rate rises."""


def network(tasks: int, inputs: int, outputs: int, width: int) -> nn.Module:
    """Two hidden layers with LayerNorm, on the observation and the task's embedding."""

    class Body(nn.Module):
        per_task = ("task",)

        def __init__(self) -> None:
            super().__init__()
            self.task = nn.Parameter(torch.randn(tasks, width) / width**0.5)
            self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
            self.head = nn.Linear(width, outputs)

        def forward(self, x: Tensor) -> Tensor:
            h = nn.functional.silu(self.norms[0](self.first(x) + self.task[:, None]))
            h = nn.functional.silu(self.norms[1](self.second(h)))
            out: Tensor = self.head(h)
            return out

    return Body()


class Categorical(MultiTaskSAC):
    """SAC with categorical critics."""

    Settings = CategoricalSettings

    def build_actor(self) -> nn.Module:
        p = self.problem
        return network(self.tasks, p.observation_size, 2 * p.action_size, self.settings.actor_width)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        return network(self.tasks, p.observation_size + p.action_size, s.bins, s.critic_width)

    def build_optimisers(self) -> dict[str, Adam]:
        s, optimisers = self.settings, super().build_optimisers()
        optimisers["critic"] = replace(
            optimisers["critic"],
            weight_decay=s.critic_weight_decay,
            schedule=lambda step: (step / s.warmup).clamp(max=1.0),
        )
        return optimisers

    def edges(self, like: Tensor) -> Tensor:
        """Where bins begin and end, [V + 1]."""
        most = self.settings.largest_return
        return torch.linspace(-most, most, self.settings.bins + 1, device=like.device)

    def value(self, outputs: Tensor) -> Tensor:
        edges = self.edges(outputs)
        return (torch.softmax(outputs, -1) * (edges[1:] + edges[:-1]) / 2).sum(-1)

    def backup(self, state: State, batch: Batch, outputs: Tensor, log_density: Tensor) -> Tensor:
        mean = super().backup(state, batch, outputs, log_density)[..., None]
        edges = self.edges(outputs)
        sigma = self.settings.smoothing * (edges[1] - edges[0])
        mean = mean.clamp(edges[0], edges[-1])
        mass = torch.erf((edges - mean) / (sigma * 2**0.5)).diff(dim=-1)
        return mass / mass.sum(-1, keepdim=True)

    def critic_error(self, outputs: Tensor, target: Tensor) -> Tensor:
        return -(target * torch.log_softmax(outputs, -1)).sum(-1)
