"""A stack of residual modules whose inputs are weighted mixtures of earlier modules' outputs.

The shared body of D2R (arXiv 2312.14472) and MEGA (arXiv 2502.13569): with y_i the output of
module i and w[j, i] mixing weights,

    y_1 = ReLU(V x)                     y_{j+1} = z_j + ReLU(W z_j),   z_j = Σ_{i≤j} w[j, i] y_i

and slot n feeds the head. Weights are a lower-triangular table [T, B, n, n]: row j < n feeds module
j + 1, row n the head. B is 1 where all samples of a task share their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithms.parts.layers import Init, linear


class ModuleStack(nn.Module):
    """n modules of one width: M₁ = ReLU(Linear(in → H)), M₂ … Mₙ residual."""

    def __init__(self, inputs: int, modules: int, width: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.first = linear(inputs, width, weight, bias)
        self.later = nn.ModuleList(linear(width, width, weight, bias) for _ in range(modules - 1))

    def forward(self, x: Tensor, table: Tensor, trusted: Tensor | None = None) -> Tensor:
        """X [T, B, in] → [T, B, H], wired by a table [T, B or 1, d, d].

        A table of d < n rows runs the first d modules alone: the others get no gradient.
        `trusted` [T, B, d, d] is D2R's ResRouting, 1 where a slot trusts a source and else 0: the
        transform ReLU(W z) of an untrusted source receives no gradient through the module that
        reads it, nor through the head, while the shortcut z still does.
        """
        distrusted = None if trusted is None else table * (1 - trusted)
        transform = output = shortcut = z = torch.relu(self.first(x))
        slots = taken = torch.zeros(())  # of the slots that are not filled yet, the next one first
        for module in range(table.shape[-1]):
            if module:
                transform = torch.relu(self.later[module - 1](z))
                output = shortcut + transform
                slots = slots[1:]
            slots = slots + readers(table, module) * output
            z = shortcut = slots[0]
            if distrusted is not None:
                # Values of zero whose gradients take away what the untrusted would receive.
                nothing = readers(distrusted, module) * (transform - transform.detach())
                taken = nothing + (taken[1:] if module else taken)
                z = shortcut - taken[0]
        return z


def readers(table: Tensor, module: int) -> Tensor:
    """The weights of a module, from 0, in the slots that may read it: [n - module, T, B, 1]."""
    return table[..., module:, module].movedim(-1, 0)[..., None]


def modules_in_use(table: Tensor, threshold: float = 0.01) -> Tensor:
    """How many modules reach the head through weights above `threshold`: [..., n, n] → [...]."""
    n = table.shape[-1]
    reached = table[..., n - 1, :] > threshold
    for module in range(n - 1, 0, -1):
        reached = reached | (table[..., module - 1, :] > threshold) & reached[..., module, None]
    return reached.sum(-1).to(table.dtype)
