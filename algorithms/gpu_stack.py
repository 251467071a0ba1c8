"""The module stack's passes and its routes on a GPU: products by torch, the rest by gpu_kernels.py.

A pass is two launches a module, whatever the number of sources. Nothing asks the host, so that a
step can be one CUDA graph, and modules above a task's stage are computed: a graph must survive the
genotypes of the next generation.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from algorithms import gpu_kernels as kernels
from algorithms.compiled_routes import Routes

ELEMENTS = 1024
"""Entries of the tile that a program works on, at least one row."""


class Wired:
    """What the kernels of all slots are told, and how they are launched."""

    def __init__(self, table: Tensor | Routes, first: Tensor, bias: Tensor) -> None:
        members, tasks, samples, units = first.shape
        if isinstance(table, Routes):
            self.mixing = table.weights.detach().contiguous()
            self.sources = table.sources.contiguous()
            # Where a kernel is told not to look, anything will do.
            self.trusted = self.sources if table.trusted is None else table.trusted.contiguous()
            self.trust, self.k, self.n = table.trusted is not None, *self.sources.shape[:1:-1]
        else:
            self.mixing = table[..., 0].contiguous()
            self.sources = self.trusted = self.mixing
            self.trust, self.k, self.n = False, 0, len(table)
        self.members, self.rows, self.units = members, members * tasks * samples, units
        self.samples, self.member_rows = samples, tasks * samples
        self.bias_stride = bias.stride(0)
        width = triton.next_power_of_2(units)
        self.tile = {"ROWS": max(1, ELEMENTS // width), "UNITS": width}
        self.grid = (triton.cdiv(self.rows, self.tile["ROWS"]),)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The kernels' arguments between the slot and the constants."""
        return (
            *(self.n, self.rows, self.units, self.samples, self.member_rows),
            self.bias_stride,
        )


class GpuStack(torch.autograd.Function):
    """`module_stack._RoutedStack` of units that nobody watches."""

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, weight: Tensor, bias: Tensor, _: Tensor, wired: Wired
    ) -> Tensor:
        # first [M, T, B, H]; weight [M, n-1, H, H]; bias [M, n-1, 1, H]; the fourth are the
        # wiring's weights, here for their gradient.
        n = wired.n
        rows = (wired.members, wired.member_rows, wired.units)
        outputs = first.new_empty(n, *rows)
        outputs[0] = first.reshape(rows)
        inputs, products = first.new_empty(n - 1, *rows), first.new_empty(n - 1, *rows)
        result = torch.empty_like(first, memory_format=torch.contiguous_format)
        for slot in range(n):
            if slot:
                torch.bmm(inputs[slot - 1], weight[:, slot - 1], out=products[slot - 1])
            kernels.forward_slot[wired.grid](
                outputs,
                inputs,
                products,
                bias,
                wired.mixing,
                wired.sources,
                result if slot == n - 1 else inputs[slot],
                slot,
                *wired.sizes,
                K=wired.k,
                MODULE=slot > 0,
                **wired.tile,
            )
        ctx.save_for_backward(weight, bias, outputs, inputs, products)
        ctx.wired = wired
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, bias, outputs, inputs, products = ctx.saved_tensors
        wired: Wired = ctx.wired
        n, k = wired.n, wired.k
        by_first = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        # Routes add to their sources, a table's outputs read their readers.
        shortcuts = torch.zeros_like(outputs) if k else torch.empty_like(outputs)
        throughs = torch.zeros_like(outputs) if wired.trust else shortcuts
        totals = shortcuts if k else torch.empty_like(outputs)
        masked = torch.empty_like(inputs)
        by_mixing = torch.empty_like(wired.mixing) if k else wired.mixing
        pulled = gradient.contiguous()
        for slot in range(n - 1, -1, -1):
            kernels.backward_slot[wired.grid](
                pulled,
                outputs,
                products,
                bias,
                wired.mixing,
                wired.sources,
                wired.trusted,
                totals,
                shortcuts,
                throughs,
                masked[slot - 1] if slot else by_first,
                by_mixing,
                slot,
                *wired.sizes,
                K=k,
                TRUST=wired.trust,
                HEAD=slot == n - 1,
                MODULE=slot > 0,
                **wired.tile,
            )
            if slot:
                pulled = torch.bmm(masked[slot - 1], weight[:, slot - 1].transpose(1, 2))
        by_weight = by_bias = None
        if ctx.needs_input_grad[1]:
            # [n-1, M, ...] as one batch of products.
            by_weight = torch.matmul(inputs.transpose(2, 3), masked).transpose(0, 1).contiguous()
            by_bias = masked.sum(2, keepdim=True).transpose(0, 1).contiguous()
        return by_first, by_weight, by_bias, by_mixing if k else None, None


def gpu_stack(first: Tensor, weight: Tensor, bias: Tensor, table: Tensor | Routes) -> Tensor:
    """See `compiled_stack.compiled_stack`."""
    mixing = table.weights if isinstance(table, Routes) else table
    later = mixing.shape[2] - 1 if isinstance(table, Routes) else len(table) - 1
    weight, bias = weight[:, :later], bias[:, :later]
    wired = Wired(table, first, bias)
    result: Tensor = GpuStack.apply(first, weight, bias, mixing, wired)  # type: ignore[no-untyped-call]
    return result


class GpuRoutes(torch.autograd.Function):
    """See `compiled_routes._Route`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        slots: int,
        top_k: int,
        temperature: Tensor | None,
        noise: Tensor | None,
        given: Tensor | None,
        needs_trust: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        members, tasks, samples, _ = logits.shape
        logits = logits.contiguous()
        shape = (members * tasks, samples, slots, top_k)
        weights = logits.new_empty(shape)
        sources = logits.new_empty(shape, dtype=torch.uint8)
        trusted = logits.new_empty(shape if needs_trust else 1, dtype=torch.uint8)
        selected = logits.new_empty((members, tasks, samples, slots, slots), dtype=torch.uint8)
        # Where a kernel is told not to look, anything will do.
        heat = logits if temperature is None else temperature.expand(members, tasks).contiguous()
        stored = selected if given is None else given.expand(selected.shape).to(torch.uint8)
        kernels.route[(members * tasks * samples,)](
            logits,
            heat,
            logits if noise is None else noise.contiguous(),
            stored.contiguous(),
            selected,
            sources,
            weights,
            trusted,
            slots,
            samples,
            K=top_k,
            SAMPLED=noise is not None,
            GIVEN=given is not None,
            TRUST=needs_trust,
            SLOTS=triton.next_power_of_2(slots),
        )
        chosen = selected.view(torch.bool)
        ctx.mark_non_differentiable(sources, trusted, chosen)
        ctx.save_for_backward(weights, sources)
        ctx.shape = logits.shape
        return weights, sources, trusted, chosen

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        weights, sources = ctx.saved_tensors
        slots, top_k = weights.shape[2:]
        by_logits = gradient.new_empty(ctx.shape)
        kernels.route_gradient[(weights.shape[0] * weights.shape[1],)](
            gradient.contiguous(),
            weights,
            sources,
            by_logits,
            slots,
            K=top_k,
            SLOTS=triton.next_power_of_2(slots),
        )
        return by_logits, None, None, None, None, None, None


@torch.enable_grad()
def try_out(device: torch.device) -> None:
    """Launches every kernel once; raises whatever stands against it."""
    logits, first, weight, bias = (
        torch.zeros(shape, device=device, requires_grad=True)
        for shape in ((1, 1, 2, 3), (1, 1, 2, 4), (1, 1, 4, 4), (1, 1, 1, 4))
    )
    weights, sources, trusted, _ = GpuRoutes.apply(  # type: ignore[no-untyped-call]
        logits, 2, 1, None, None, None, True
    )
    table = torch.zeros(2, 2, 1, 1, device=device)
    routed = gpu_stack(first, weight, bias, Routes(sources, weights, trusted))
    torch.autograd.grad(routed.sum() + gpu_stack(first, weight, bias, table).sum(), [first, logits])
