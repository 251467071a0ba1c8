"""The module stack's passes on CPU, by stack.c.

The same recursion as in module_stack.py, which is the reference. There every operation goes through
all rows, and the next finds little of them in the cache; here a few rows go through all modules.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from algorithms.compiled import REALS, library
from algorithms.scratch import scratch
from algorithms.wiring import Routes

CHUNK_BYTES = 1 << 20
"""Outputs of all modules for the rows that go through them at a time: what a core's cache holds."""
FEWEST_ROWS = 16
"""Of a chunk: below, products are slow."""
MOST = 1024
"""Vectors that stack.c mixes at once."""

_INTEGERS = (
    *("slots", "members", "rows", "samples", "units", "sources"),
    *("chunk", "threads", "weight_stride", "bias_stride"),
)
_POINTERS = (
    *("gemm", "depth", "mixing", "source", "trusted", "weight", "bias", "first"),
    *("outputs", "inputs", "active", "result"),
    *("gradient", "first_gradient", "masked", "mixing_gradient"),
    *("weight_gradient", "bias_gradient", "scratch"),
)


class Stack(ctypes.Structure):
    """The struct of that name in stack.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _INTEGERS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )

    def point(self, **tensors: Tensor | None) -> None:
        """Sets pointers; the caller keeps the tensors."""
        for name, tensor in tensors.items():
            setattr(self, name, None if tensor is None else tensor.data_ptr())


class Layout:
    """A wiring as stack.c reads it, row by row."""

    def __init__(self, table: Tensor | Routes) -> None:
        self.source = self.trusted = None
        if isinstance(table, Routes):
            self.mixing = self.by_row(table.weights.detach())
            self.source = self.by_row(table.sources).to(torch.uint8)
            if table.trusted is not None:
                self.trusted = self.by_row(table.trusted).view(torch.uint8)
            self.slots, rows = table.weights.shape[:2]
            self.depth = torch.full((rows,), self.slots)
        else:
            self.slots = n = len(table)
            self.mixing = table[..., 0].permute(2, 0, 1).contiguous()
            # A task has the modules up to the last one that anything reads.
            module = torch.arange(1, n + 1)
            self.depth = ((self.mixing != 0).any(1) * module).amax(1).clamp(min=1)

    @staticmethod
    def by_row(x: Tensor) -> Tensor:
        """[n, M·T, B, k] → [M·T, B, n, k]."""
        return x.permute(1, 2, 0, 3).contiguous()


def compilable(table: Tensor | Routes, trusted: Tensor | None, like: Tensor) -> bool:
    """Whether stack.c has this case and can be had."""
    if like.device.type != "cpu" or like.dtype not in REALS:
        return False
    if isinstance(table, Routes):
        n, entries = len(table.weights), table.weights[:, 0, 0].numel()
    else:
        n = entries = len(table)
        # Tables that learn, or are a sample's own, are rare on a CPU.
        if table.requires_grad or table.shape[3] > 1 or trusted is not None:
            return False
    return n < 256 and entries <= MOST and library(like.dtype) is not None


def chunk_rows(rows: int, row_bytes: int, threads: int) -> int:
    """Rows of a chunk: as many as the cache holds, and as many chunks for one thread as for all."""
    most = max(FEWEST_ROWS, CHUNK_BYTES // row_bytes)
    share = math.ceil(rows / threads)
    return max(FEWEST_ROWS, math.ceil(share / math.ceil(share / most)))


class CompiledStack(torch.autograd.Function):
    """`module_stack.RoutedStack` of units that nobody watches."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        weight: Tensor,
        bias: Tensor,
        mixing: Tensor,
        layout: Layout,
        keep: bool,
    ) -> Tensor:
        # first [M, T, B, H]; weight [M, n-1, H, H]; bias [M, n-1, 1, H]; `mixing`, the wiring's
        # weights, is here for its gradient. Without `keep` no gradient can follow.
        members, tasks, samples, units = first.shape
        n, all_rows = layout.slots, members * tasks * samples
        found = library(first.dtype)
        assert found is not None and weight[:1].is_contiguous() and bias[:1].is_contiguous()
        code, gemm = found
        first = first.contiguous()
        threads = torch.get_num_threads()
        chunk = chunk_rows(all_rows, n * units * first.element_size(), threads)
        stack = Stack(
            slots=n,
            members=members,
            rows=tasks * samples,
            samples=samples,
            units=units,
            sources=0 if layout.source is None else layout.source.shape[-1],
            chunk=chunk,
            threads=threads,
            weight_stride=weight.stride(0),
            bias_stride=bias.stride(0),
            gemm=gemm,
        )
        outputs = inputs = active = None
        if keep:
            if mixing.requires_grad:
                outputs = first.new_empty(all_rows, n, units)
            inputs = first.new_empty(n - 1, all_rows, units)
            active = first.new_empty(inputs.shape, dtype=torch.uint8)
        result = torch.empty_like(first)
        memory = scratch("stack", (threads, chunk, 2 * n + 2, units), first)
        stack.point(
            depth=layout.depth,
            mixing=layout.mixing,
            source=layout.source,
            trusted=layout.trusted,
            weight=weight,
            bias=bias,
            first=first,
            outputs=outputs,
            inputs=inputs,
            active=active,
            result=result,
            scratch=memory,
        )
        code.forward(ctypes.byref(stack))
        if keep:
            ctx.save_for_backward(weight, bias, outputs, inputs, active)
            ctx.stack, ctx.layout, ctx.mixing = stack, layout, mixing.shape
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, bias, outputs, inputs, active = ctx.saved_tensors
        stack, layout = ctx.stack, ctx.layout
        found = library(gradient.dtype)
        assert found is not None
        code, _ = found
        gradient = gradient.contiguous()
        learns = ctx.needs_input_grad[1]
        masked = scratch("masked", inputs.shape, gradient) if learns else None
        by_first = torch.empty_like(gradient)
        by_mixing = None if outputs is None else torch.empty_like(layout.mixing)
        n, units = layout.slots, gradient.shape[-1]
        memory = scratch(
            "stack", (stack.threads, stack.chunk, 2 * n + 2, units), gradient
        )
        stack.point(
            weight=weight,
            outputs=outputs,
            active=active,
            inputs=inputs,
            gradient=gradient,
            first_gradient=by_first,
            masked=masked,
            mixing_gradient=by_mixing,
            scratch=memory,
        )
        code.backward(ctypes.byref(stack))
        by_weight = by_bias = None
        if learns:
            by_weight, by_bias = (x.new_empty(x.shape) for x in (weight, bias))
            stack.point(weight_gradient=by_weight, bias_gradient=by_bias)
            code.learn(ctypes.byref(stack))
        if by_mixing is not None:
            by_mixing = by_mixing.permute(2, 0, 1, 3).reshape(ctx.mixing)
        return by_first, by_weight, by_bias, by_mixing, None, None
