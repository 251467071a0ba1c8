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
from torch.overrides import has_torch_function_unary

from algorithms.modules.native import has_operators
from algorithms.modules.routes import Routes
from algorithms.modules.routes import apply as apply_routes
from algorithms.modules.stack_operator import MOST_MODULES, module_stack
from algorithms.modules.stack_operator import apply as apply_stack
from algorithms.parts.layers import Init, linear

FEWEST_MODULES = 8
"""From so many modules on the operator is faster than compiled torch by more than a quarter."""


def by_operator(modules: int, device: str, dtype: torch.dtype) -> bool:
    """Whether stacks of so many modules are run by the operator."""
    fits = FEWEST_MODULES <= modules <= MOST_MODULES
    return fits and has_operators(device, dtype)


class ModuleStack(nn.Module):
    """n modules of one width: M₁ = ReLU(Linear(in → H)), M₂ … Mₙ residual."""

    def __init__(self, inputs: int, modules: int, width: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.first = linear(inputs, width, weight, bias)
        self.later = nn.ModuleList(linear(width, width, weight, bias) for _ in range(modules - 1))

    @staticmethod
    def before_compiling() -> None:
        """Says which functions torch.compile need not look into.

        It imports the compiler, which takes as long as torch itself.
        """
        torch.compiler.assume_constant_result(has_operators)  # type: ignore[no-untyped-call]
        torch.compiler.allow_in_graph([apply_routes, apply_stack])  # type: ignore[no-untyped-call]

    def takes_routes(self, x: Tensor, top_k: int) -> bool:
        """Whether `forward` takes routes of k sources for this input."""
        modules = 1 + len(self.later)
        return top_k < modules and self.hands_over(x, modules)

    def hands_over(self, x: Tensor, modules: int) -> bool:
        """Whether the operator runs so many modules: not where somebody looks at hidden units."""
        return not has_torch_function_unary(x) and by_operator(modules, x.device.type, x.dtype)

    def forward(self, x: Tensor, table: Tensor | Routes, trusted: Tensor | None = None) -> Tensor:
        """X [T, B, in] → [T, B, H], wired by a table [T, B or 1, d, d], or by routes.

        A table of d < n rows runs the first d modules alone: the others get no gradient.
        `trusted` [T, B, d, d] is D2R's ResRouting, 1 where a slot trusts a source and else 0: the
        transform ReLU(W z) of an untrusted source receives no gradient through the module that
        reads it, nor through the head, while the shortcut z still does.
        """
        first = torch.relu(self.first(x))
        if isinstance(table, Routes):
            return self.operated(first, table, len(self.later))
        # Tables that learn are too rare for code of their own.
        learns = table.requires_grad or trusted is not None
        if not learns and self.hands_over(x, table.shape[-1]):
            return self.operated(first, table, table.shape[-1] - 1)
        return self.plain(first, table, trusted)

    def operated(self, first: Tensor, wiring: Tensor | Routes, later: int) -> Tensor:
        """`plain` by the operator."""
        weights, biases = zip(*((x.weight, x.bias) for x in self.later[:later]), strict=True)
        return module_stack(first, torch.stack(weights), torch.stack(biases), wiring)

    def plain(self, first: Tensor, table: Tensor, trusted: Tensor | None) -> Tensor:
        """The first module's output → the head's input."""
        # The table learns nothing from what is only ever multiplied by zero.
        distrusted = None if trusted is None else (table * (1 - trusted)).detach()
        transform = output = shortcut = z = first
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
