"""Low-rank adapters (LoRA, arXiv 2106.09685), one per task, on layers that all tasks share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from algorithms.parts.adam import Adam, State
from algorithms.parts.network import Network


class Adapted(nn.Module):
    """layer(x) + x · down_t · up_t / rank. `up` begins at 0, so that at first nothing changes."""

    per_task = ("down", "up")

    def __init__(self, layer: nn.Module, tasks: int, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.empty(tasks, inputs, rank))
        self.up = nn.Parameter(torch.zeros(tasks, rank, outputs))
        nn.init.normal_(self.down, std=(inputs * rank) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        return self.layer(x) + x @ self.down @ self.up / self.down.shape[-1]


def of_modules(network: Network, kind: type[nn.Module]) -> Tensor:
    """Which of a network's weights [P] belong to modules of a kind themselves."""
    found = torch.zeros(network.size, dtype=torch.bool)
    owners = {name for name, part in network.module.named_modules() if isinstance(part, kind)}
    for entry in network.layout:
        if entry.name.rpartition(".")[0] in owners:
            found[entry.start : entry.start + entry.shape.numel()] = True
    return found.to(network.device)


@dataclass(frozen=True, kw_only=True)
class AdaptingAdam(Adam):
    """Adam on everything but the adapters and, once `state["adapting"]` is not 0, on them and on
    what is never frozen.
    """

    before: Tensor
    """[P] bool: what is trained at first."""
    after: Tensor
    """[P] bool: what is trained then."""

    def step(self, state: State, name: str, gradient: Tensor) -> None:
        trained = torch.where(state["adapting"] > 0, self.after, self.before)
        held = state[name].clone()
        super().step(state, name, gradient * trained)
        state[name].copy_(torch.where(trained, state[name], held))
