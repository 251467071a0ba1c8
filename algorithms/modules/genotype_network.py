"""D2R's network with genotypes in the router's place: MEGA's actor (arXiv 2502.13569)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithms.modules.routing import Base, ModuleSettings
from algorithms.modules.stack import ModuleStack
from algorithms.parts.layers import constant, fan_out_uniform, linear, scaled, uniform


class GenotypeNetwork(nn.Module):
    """D2R's base, modules and head, wired by a table instead of a router: the actor, and a critic
    that is bred.
    """

    def __init__(
        self, tasks: int, inputs: int, outputs: int, width: int, s: ModuleSettings
    ) -> None:
        """`tasks` is 0 for a base network that does not see the task id."""
        super().__init__()
        module_width = scaled(s.module_ratio, width)
        self.base = Base(inputs, width, s.base_depth, tasks)
        self.stack = ModuleStack(width, s.modules, module_width, fan_out_uniform, constant(0.1))
        self.head = linear(module_width, outputs, uniform(3e-3), uniform(3e-3))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """[T, B, in] and a table [T, B or 1, d, d] → [T, B, out]."""
        return self.head(self.stack(torch.relu(self.base(x)), table))
