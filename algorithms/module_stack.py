"""A stack of residual modules whose inputs are weighted mixtures of earlier modules' outputs.

The shared body of D2R (arXiv 2312.14472) and MEGA (arXiv 2502.13569): with out_i the output of
module i and w[j, i] mixing weights,

    out_1 = ReLU(V x)                       out_{j+1} = z + ReLU(W z),  z = Σ_{i≤j} w[j, i] out_i
    y     = Σ_i w[n, i] out_i.

Weights are a lower-triangular table [n, n, M·T, B]: row j < n feeds module j + 1, row n the head.
B is 1 where a whole task shares its weights.

This is the reference, and what runs where there is no compiled code (`compiled_stack`). That passes
over sources of weight 0 also where they are not a number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from algorithms.compiled_routes import Routes
from algorithms.compiled_stack import compilable, compiled_stack
from algorithms.networks import Init, Linear
from algorithms.scratch import scratch
from algorithms.wiring import Wiring, wire

_mask = torch.ops.aten.threshold_backward.grad_input


def slot_index(modules: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of the table at which the n(n+1)/2 segment entries stand, in order."""
    rows, columns = torch.tril_indices(modules, modules, device=device)
    return rows, columns


class _RoutedStack(torch.autograd.Function):
    """The recursion above with its backward pass written out.

    Autograd would keep a copy of every mixture's operands and launch some 30 kernels a module;
    this keeps the module inputs and outputs and launches a third of that. What is mixed, and how,
    is the wiring's. Where it has `distrusts` (D2R's ResRouting), the transform ReLU(W z) of an
    untrusted source receives no gradient through the module that reads it (nor through the head),
    while the shortcut z still does.
    """

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        weight: Tensor,
        bias: Tensor,
        mixing: Tensor,
        wiring: Wiring,
        keep: bool,
        show: bool,
    ) -> tuple[Tensor, Tensor | None]:
        # first [M, T, B, H]; weight [M, n-1, H, H]; bias [M, n-1, 1, H]; mixing, the wiring's
        # weights, is here for its gradient. Without `keep` no gradient can follow. With `show` the
        # transforms of all modules are returned as well.
        later = weight.shape[1]
        shape = (later + 1, *first.shape)
        outputs = first.new_empty(shape) if keep else scratch("outputs", shape, first)
        outputs[0] = first
        inputs, transformed = [], []
        for j in range(later):
            z = wiring.mixture(j, outputs)
            r = torch.baddbmm(bias[:, j], z.flatten(1, 2), weight[:, j]).relu_().view(z.shape)
            torch.add(z, r, out=outputs[j + 1])
            if keep:
                inputs.append(z)
                transformed.append(r)
        result = wiring.mixture(later, outputs)
        if keep:
            ctx.save_for_backward(weight, outputs, *inputs, *transformed)
            ctx.wiring, ctx.mixing = wiring, mixing.shape
        shown = None
        if show:
            shown = torch.stack(transformed) if later else first.new_empty(0, *first.shape)
            ctx.mark_non_differentiable(shown)
        return result, shown

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> Any:
        weight, outputs, *saved = ctx.saved_tensors
        wiring: Wiring = ctx.wiring
        n = outputs.shape[0]
        inputs, transformed = saved[: n - 1], saved[n - 1 :]
        need_weight, need_mixing = ctx.needs_input_grad[1], ctx.needs_input_grad[3]
        grad_weight = grad_bias = grad_mixing = None
        if need_weight:
            grad_weight = torch.empty_like(weight)
            grad_bias = weight.new_empty(weight.shape[0], n - 1, 1, weight.shape[-1])

        # The gradient of each slot, and the part of it that came by the module which reads the
        # slot and not by its shortcut; for the head, all of it.
        totals = scratch("totals", outputs.shape, grad)
        throughs = scratch("throughs", outputs.shape, grad) if wiring.distrusts else totals
        pre = scratch("pre", grad.shape, grad)
        rows = pre.flatten(1, 2)
        totals[n - 1] = grad
        throughs[n - 1] = grad
        for i in range(n - 1, 0, -1):
            shortcut, transform = wiring.pull(i, totals, throughs)
            _mask(transform, transformed[i - 1], 0, grad_input=pre)
            if grad_weight is not None and grad_bias is not None:
                z = inputs[i - 1].flatten(1, 2)
                torch.bmm(z.transpose(1, 2), rows, out=grad_weight[:, i - 1])
                torch.sum(rows, 1, keepdim=True, out=grad_bias[:, i - 1])
            through = throughs[i - 1]
            torch.bmm(rows, weight[:, i - 1].transpose(1, 2), out=through.flatten(1, 2))
            torch.add(through, shortcut, out=totals[i - 1])
        _, grad_first = wiring.pull(0, totals, throughs)
        if need_mixing:
            grad_mixing = wiring.weight_gradient(outputs, totals).view(ctx.mixing)
        return grad_first, grad_weight, grad_bias, grad_mixing, None, None, None


class StackUnits(nn.Identity):
    """Passes ReLU(W z) of modules 2 … d, [d-1, M, T, B, H], for whoever records activations."""


class ModuleStack(nn.Module):
    """n modules of one width: M₁ = ReLU(Linear(in → H)), M₂ … Mₙ residual."""

    def __init__(
        self, members: int, inputs: int, modules: int, width: int, weight: Init, bias: Init
    ) -> None:
        super().__init__()
        self.first = Linear(members, inputs, width, weight, bias)
        self.weight = nn.Parameter(torch.empty(members, modules - 1, width, width))
        self.bias = nn.Parameter(torch.empty(members, modules - 1, 1, width))
        with torch.no_grad():
            weight(self.weight, width, width)
            bias(self.bias, width, width)
        self.activation = nn.ReLU()
        self.units = StackUnits()

    def takes_routes(self, x: Tensor, top_k: int) -> bool:
        """Whether `forward` takes routes of k sources for this input."""
        watched = bool(self.units._forward_hooks)
        return not watched and compilable(x, self.weight.shape[1] + 1, top_k)

    def forward(self, x: Tensor, table: Tensor | Routes, trusted: Tensor | None = None) -> Tensor:
        """X [M, T, B, in] → [M, T, B, H], wired by a table [d, d, M·T, B or 1] or by routes.

        A table of d < n rows runs the first d modules alone: the others get no gradient.
        `trusted` is D2R's ResRouting for a table, 1 where a slot trusts a source and else 0.
        """
        first = self.activation(self.first(x))
        if isinstance(table, Routes):
            return compiled_stack(first, self.weight, self.bias, table)
        members, tasks, samples = first.shape[:3]
        # Whoever looks at the units wants to see those of all tasks and modules.
        watched = bool(self.units._forward_hooks)
        shared = table.shape[3] == 1 and trusted is None
        # Tables that learn, or are a sample's own, are too rare for code of their own.
        if shared and not watched and not table.requires_grad and compilable(first, len(table)):
            return compiled_stack(first, self.weight, self.bias, table)
        if trusted is not None:
            each = (*table.shape[:3], samples)
            table, trusted = table.expand(each), trusted.expand(each)
        later = len(table) - 1
        result: Tensor
        result, transformed = _RoutedStack.apply(  # type: ignore[no-untyped-call]
            first,
            self.weight[:, :later],
            self.bias[:, :later],
            table,
            wire(table, trusted, members, tasks),
            watched or torch.is_grad_enabled(),
            watched,
        )
        if watched:
            self.units(transformed)
        return result


def modules_in_use(table: Tensor, threshold: float = 0.01) -> Tensor:
    """How many modules reach the head through weights above `threshold`: [n, n, R, B] → [R, B]."""
    n = table.shape[0]
    reached = table[n - 1] > threshold
    for module in range(n - 1, 0, -1):
        reached |= (table[module - 1] > threshold) & reached[module]
    return reached.sum(0).to(table.dtype)
