"""The hidden layers of an MLP with their backward pass written out.

Autograd on plain modules is the reference: it gives a new tensor to every ReLU and to every
gradient. Here a ReLU works in place, forward and backward, and no such tensor is made. The forward
pass has the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_mask = torch.ops.aten.threshold_backward.grad_input


class _HiddenLayers(torch.autograd.Function):
    """h₁ = ReLU(x W₁ + offset), h_l = ReLU(h_{l-1} W_l + b_l); returns the last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, first: Tensor, *later: Tensor) -> Tensor:
        # x [M or 1, T, B, in]; offset [M, T, 1, W]; first [M, in, W]; later W_l [M, W, W], b_l
        members, tasks, _, width = offset.shape
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        hidden = torch.bmm(rows.expand(members, -1, -1), first)
        hidden.view(members, tasks, -1, width).add_(offset)
        units = [hidden.relu_()]
        for weight, bias in zip(later[::2], later[1::2], strict=True):
            units.append(torch.baddbmm(bias, units[-1], weight).relu_())
        ctx.save_for_backward(rows, first, *later, *units)
        ctx.layers = len(units)
        return units[-1].view(members, tasks, -1, width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        saved = ctx.saved_tensors
        rows, first, later, units = saved[0], saved[1], saved[2 : -ctx.layers], saved[-ctx.layers :]
        need_input, need_offset, need_weights = ctx.needs_input_grad[:3]
        members, tasks, samples, width = grad.shape
        through = torch.ops.aten.threshold_backward(grad.reshape(members, -1, width), units[-1], 0)
        grads: list[Tensor | None] = []
        for index in range(ctx.layers - 1, 0, -1):
            weight, below = later[2 * index - 2], units[index - 1]
            if need_weights:
                by_bias = through.sum(1, keepdim=True)
                grads = [torch.bmm(below.transpose(1, 2), through), by_bias, *grads]
            else:
                grads = [None, None, *grads]
            through = torch.bmm(through, weight.transpose(1, 2))
            _mask(through, below, 0, grad_input=through)
        by_input = by_offset = by_first = None
        if need_weights:
            by_first = torch.bmm(rows.transpose(1, 2).expand(members, -1, -1), through)
        if need_offset:
            by_offset = through.view(members, tasks, samples, width).sum(2, keepdim=True)
        if need_input:
            by_input = torch.bmm(through, first.transpose(1, 2))
            if rows.shape[0] < members:
                by_input = by_input.sum(0, keepdim=True)
            by_input = by_input.view(-1, tasks, samples, rows.shape[-1])
        return by_input, by_offset, by_first, *grads


def hidden_layers(x: Tensor, offset: Tensor, first: Tensor, later: list[Tensor]) -> Tensor:
    """[T, B, in] or [M, T, B, in] → the last hidden layer's units [M, T, B, W].

    `offset` [M, T, 1, W] is added to x · `first`; `later` holds weight and bias of each further
    layer in turn.
    """
    x = x if x.dim() == 4 else x.unsqueeze(0)
    result: Tensor = _HiddenLayers.apply(x, offset, first, *later)  # type: ignore[no-untyped-call]
    return result
