"""Soft Modularization (arXiv 2003.13661) with plain layers, as somebody from outside writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from algorithms.fields import Range, Width
from algorithms.sac import MultiTaskSAC, SACSettings


@dataclass(frozen=True)
class SoftSettings(SACSettings):
    """Layers of modules that a routing network mixes."""

    actor_width: Width = 256
    """Units of the actor's modules."""
    critic_width: Width = 256
    """Units of each critic's modules."""
    depth: Annotated[int, Range(2, 16)] = 3
    """Layers of modules."""
    experts: Annotated[int, Range(1, 64)] = 3
    """Modules of each layer."""


class SoftNetwork(nn.Module):
    """Each module reads a mixture of the modules before it; the task chooses the mixtures."""

    per_task = ("task",)

    def __init__(self, tasks: int, inputs: int, outputs: int, width: int, s: SoftSettings) -> None:
        super().__init__()
        n = self.experts = s.experts
        self.encoder = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
        self.task = nn.Parameter(0.1 * torch.randn(tasks, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, width) for _ in range(n)) for _ in range(s.depth)
        )
        self.conditions = nn.ModuleList(nn.Linear(n * n, width) for _ in range(s.depth - 1))
        sizes = [n * n] * (s.depth - 1) + [n]
        self.routers = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        f = self.encoder(x)
        task = torch.relu(self.task[:, None] * f)
        mixture: Tensor | None = None
        sources = [torch.relu(f)] * self.experts
        for index, (layer, router) in enumerate(zip(self.layers, self.routers, strict=True)):
            outputs = torch.stack([m(h) for m, h in zip(layer, sources, strict=True)], 2)
            if mixture is not None:
                task = torch.relu(task * self.conditions[index - 1](mixture.flatten(2)))
            mixture = torch.softmax(router(task).unflatten(-1, (-1, self.experts)), -1)
            sources = list(torch.relu(mixture @ outputs).unbind(2))
        out: Tensor = self.head(sources[0])
        return out


class SoftModules(MultiTaskSAC):
    """Soft Modularization with SAC."""

    Settings = SoftSettings

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        return SoftNetwork(self.tasks, p.observation_size, 2 * p.action_size, s.actor_width, s)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        inputs = p.observation_size + p.action_size
        return SoftNetwork(self.tasks, inputs, 1, s.critic_width, s)
