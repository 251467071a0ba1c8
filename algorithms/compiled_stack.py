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

from algorithms.compiled import REALS, Struct, fields, gpu_code, library
from algorithms.compiled_routes import Routes
from algorithms.scratch import scratch

CHUNK_BYTES = 1 << 20
"""Outputs of all modules for the rows that go through them at a time: what a core's cache holds."""
FEWEST_ROWS = 16
"""A chunk is a multiple of this: of fewer rows, products are slow."""
MOST = 1024
"""Vectors that stack.c mixes at once."""


class Stack(Struct):
    """The struct of that name in stack.c."""

    _fields_ = fields(
        "slots members rows samples units sources chunk threads weight_stride bias_stride",
        "gemm depth mixing source trusted weight bias first outputs inputs active result "
        "gradient first_gradient masked mixing_gradient weight_gradient bias_gradient scratch",
    )


class Layout:
    """A wiring as stack.c reads it, row by row."""

    def __init__(self, table: Tensor | Routes) -> None:
        self.source: Tensor | None = None
        self.trusted: Tensor | None = None
        if isinstance(table, Routes):
            self.mixing = table.weights.detach().contiguous()
            self.source = table.sources.contiguous()
            self.trusted = None if table.trusted is None else table.trusted.contiguous()
            rows, _, self.slots, _ = self.mixing.shape
            self.depth = torch.full((rows,), self.slots)
        else:
            self.slots = n = len(table)
            self.mixing = table[..., 0].permute(2, 0, 1).contiguous()
            # A task has the modules up to the last one that anything reads.
            module = torch.arange(1, n + 1)
            self.depth = ((self.mixing != 0).any(1) * module).amax(1).clamp(min=1)


def compilable(like: Tensor, slots: int, sources: int = 1) -> bool:
    """Whether there is compiled code for rows like these, for tables or for k sources a slot."""
    if slots > 255 or slots * sources > MOST:
        return False
    if like.is_cuda:
        return like.dtype == torch.float32 and gpu_code() is not None
    return like.device.type == "cpu" and like.dtype in REALS and library(like.dtype) is not None


def chunk_rows(rows: int, row_bytes: int, threads: int) -> int:
    """Rows of a chunk: as many as the cache holds, and as many chunks for one thread as for all."""
    most = max(FEWEST_ROWS, CHUNK_BYTES // row_bytes)
    share = math.ceil(rows / threads)
    # Of so many rows, so that all threads find their memory aligned alike: products depend on it.
    even = math.ceil(share / math.ceil(share / most))
    return math.ceil(even / FEWEST_ROWS) * FEWEST_ROWS


class CompiledStack(torch.autograd.Function):
    """`module_stack._RoutedStack` of units that nobody watches."""

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
            if ctx.needs_input_grad[3]:
                outputs = first.new_empty(all_rows, n, units)
            if ctx.needs_input_grad[1]:
                inputs = first.new_empty(n - 1, all_rows, units)
            active = first.new_empty(n - 1, all_rows, units, dtype=torch.uint8)
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
            ctx.save_for_backward(weight, bias, outputs, inputs, active, layout.mixing)
            ctx.stack, ctx.layout = stack, layout
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, bias, outputs, inputs, active, mixing = ctx.saved_tensors
        stack, layout = ctx.stack, ctx.layout
        found = library(gradient.dtype)
        assert found is not None
        code, _ = found
        gradient = gradient.contiguous()
        masked = None if inputs is None else scratch("masked", inputs.shape, gradient)
        by_first = torch.empty_like(gradient)
        by_mixing = None if outputs is None else torch.empty_like(mixing)
        n, units = layout.slots, gradient.shape[-1]
        memory = scratch("stack", (stack.threads, stack.chunk, 2 * n + 2, units), gradient)
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
        if inputs is not None:
            by_weight, by_bias = (x.new_empty(x.shape) for x in (weight, bias))
            stack.point(weight_gradient=by_weight, bias_gradient=by_bias)
            code.learn(ctypes.byref(stack))
        return by_first, by_weight, by_bias, by_mixing, None, None


def compiled_stack(first: Tensor, weight: Tensor, bias: Tensor, table: Tensor | Routes) -> Tensor:
    """Units [M, T, B, H] of the first module → input of the head, as module_stack.py defines it.

    With weights [M, n-1, H, H] and biases [M, n-1, 1, H] of the others. A table [d, d, M·T, 1]
    must not require a gradient; where d < n it runs the first d modules. On a CPU, modules above
    the last that any task of a chunk of rows reads are left out. Ask `compilable` first.

    Raises TypeError for weights of another type than the units', and ValueError for a table that
    requires a gradient.
    """
    weights = table.weights if isinstance(table, Routes) else table
    if not first.dtype == weights.dtype == weight.dtype == bias.dtype:
        found = (first.dtype, weights.dtype, weight.dtype, bias.dtype)
        raise TypeError(f"units, mixing weights, weights and biases differ in type: {found}")
    if weights is table and weights.requires_grad:
        raise ValueError("a compiled table does not learn")
    if first.is_cuda and (gpu := gpu_code()):
        on_gpu: Tensor = gpu.gpu_stack(first, weight, bias, table)
        return on_gpu
    layout = Layout(table)
    later = layout.slots - 1
    result: Tensor = CompiledStack.apply(  # type: ignore[no-untyped-call]
        first, weight[:, :later], bias[:, :later], weights, layout, torch.is_grad_enabled()
    )
    return result
