"""A stack of residual modules whose inputs are weighted mixtures of earlier modules' outputs.

The shared body of D2R (arXiv 2312.14472) and MEGA (arXiv 2502.13569): with out_i the output of
module i and w[j, i] mixing weights,

    out_1 = ReLU(V x)                       out_{j+1} = z + ReLU(W z),  z = Σ_{i≤j} w[j, i] out_i
    y     = Σ_i w[n, i] out_i.

Weights are a lower-triangular table [n, n, M·T, B]: row j < n feeds module j + 1, row n the head.
B is 1 where a whole task shares its weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from algorithms.networks import Init, Linear


def slot_index(modules: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of the table at which the n(n+1)/2 segment entries stand, in order."""
    rows, columns = torch.tril_indices(modules, modules, device=device)
    return rows, columns


def mix(outputs: Tensor, weights: Tensor) -> Tensor:
    """Σ_i weights[i] · outputs[i]: [k, R, B, H] by [k, R, B or 1] → [R, B, H]."""
    if weights.shape[0] == 1:
        return outputs[0] * weights[0].unsqueeze(-1)
    if weights.shape[2] == 1:
        # One weight a task: a matrix product [1, k] × [k, B·H] per row of the first axis.
        flat = outputs.permute(1, 0, 2, 3).flatten(2)
        return torch.bmm(weights.permute(1, 2, 0), flat).view(outputs.shape[1:])
    # Faster than one product and sum, which writes and reads k times the memory.
    total = outputs[0] * weights[0].unsqueeze(-1)
    for output, weight in zip(outputs[1:], weights[1:], strict=True):
        total.addcmul_(output, weight.unsqueeze(-1))
    return total


class _RoutedStack(torch.autograd.Function):
    """The recursion above with its backward pass written out.

    Autograd would keep a copy of every mixture's operands and launch some 30 kernels a module;
    this keeps the module inputs and outputs and launches a third of that. `trusted` is D2R's
    ResRouting: where it is 0, the transform ReLU(W z) of that source receives no gradient through
    the module that reads it (nor through the head), while the shortcut z still does.
    """

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, weight: Tensor, bias: Tensor, table: Tensor, trusted: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        # first [M·T, B, H]; weight [M, n-1, H, H]; bias [M, n-1, 1, H]; table [n, n, M·T, B or 1]
        n, members = table.shape[0], weight.shape[0]
        rows, samples, width = first.shape
        outputs = first.new_empty(n, rows, samples, width)
        inputs = first.new_empty(n - 1, rows, samples, width)
        transformed = first.new_empty(n - 1, members, rows // members * samples, width)
        outputs[0] = first
        for j in range(n - 1):
            z = mix(outputs[: j + 1], table[j, : j + 1])
            inputs[j] = z
            r = transformed[j]
            torch.baddbmm(bias[:, j], z.view(r.shape), weight[:, j], out=r)
            torch.add(z, r.relu_().view(z.shape), out=outputs[j + 1])
        transformed = transformed.view(n - 1, rows, samples, width)
        ctx.save_for_backward(weight, table, trusted, outputs, inputs, transformed)
        ctx.mark_non_differentiable(transformed)
        return mix(outputs, table[n - 1]), transformed

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Any:
        weight, table, trusted, outputs, inputs, transformed = ctx.saved_tensors
        n, members = table.shape[0], weight.shape[0]
        need_weight, need_table = ctx.needs_input_grad[1], ctx.needs_input_grad[3]
        grad_weight = torch.empty_like(weight) if need_weight else None
        grad_bias = weight.new_empty(members, n - 1, 1, weight.shape[-1]) if need_weight else None
        grad_table = torch.zeros_like(table) if need_table else None
        blocked = None if trusted is None else table * (1 - trusted)

        # The gradient of each slot's mixture, and the part of it that came by the module which
        # reads the slot and not by its shortcut; for the head, all of it.
        totals = torch.empty_like(outputs)
        throughs = totals if blocked is None else torch.empty_like(outputs)
        totals[n - 1] = grad
        throughs[n - 1] = grad
        for i in range(n - 1, -1, -1):
            if grad_table is not None:
                for slot in range(i, n):
                    product = (outputs[i] * totals[slot]).sum(-1)
                    shared = table.shape[3] == 1
                    grad_table[slot, i] = product.sum(-1, keepdim=True) if shared else product
            # Output i is read by slots i … n - 1.
            shortcut = mix(totals[i:], table[i:, i])
            transform = shortcut
            if blocked is not None:
                transform = shortcut - mix(throughs[i:], blocked[i:, i])
            if i == 0:
                break
            pre = torch.ops.aten.threshold_backward(transform, transformed[i - 1], 0)
            pre = pre.view(members, -1, grad.shape[-1])
            if grad_weight is not None and grad_bias is not None:
                rows = inputs[i - 1].view(pre.shape)
                grad_weight[:, i - 1] = torch.bmm(rows.transpose(1, 2), pre)
                grad_bias[:, i - 1] = pre.sum(1, keepdim=True)
            through = torch.bmm(pre, weight[:, i - 1].transpose(1, 2)).view(grad.shape)
            torch.add(through, shortcut, out=totals[i - 1])
            if blocked is not None:
                throughs[i - 1] = through
        return transform, grad_weight, grad_bias, grad_table, None


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

    def forward(self, x: Tensor, table: Tensor, trusted: Tensor | None = None) -> Tensor:
        """X [M, T, B, in], table [d, d, M·T, B or 1] → [M, T, B, H].

        A table of d < n rows runs the first d modules alone: the others get no gradient.
        """
        first = self.activation(self.first(x))
        later = table.shape[0] - 1
        result, transformed = _RoutedStack.apply(  # type: ignore[no-untyped-call]
            first.flatten(0, 1), self.weight[:, :later], self.bias[:, :later], table, trusted
        )
        self.units(transformed.view(later, *first.shape))
        mixed: Tensor = result.view(first.shape)
        return mixed


def modules_in_use(table: Tensor, threshold: float = 0.01) -> Tensor:
    """How many modules reach the head through weights above `threshold`: [n, n, R, B] → [R, B]."""
    n = table.shape[0]
    reached = table[n - 1] > threshold
    for module in range(n - 1, 0, -1):
        reached |= (table[module - 1] > threshold) & reached[module]
    return reached.sum(0).to(table.dtype)
