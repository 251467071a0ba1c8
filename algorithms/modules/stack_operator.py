"""The module stack as one operator that torch.compile does not look into: stack.c on CPUs.

The recursion is that of stack.py, which is the reference. There every operation goes through all
rows, and the next finds little of them in the cache; here a few rows go through all modules. The
same call works eagerly, in `torch.func` and in compiled code. It has no second derivatives.

Every tensor leads with an axis of M members, networks with weights of their own: whatever `vmap`
maps over is folded into it.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, library

from algorithms.modules.native import Stack, code, folded, gemm, last
from algorithms.modules.routes import Routes

CHUNK_BYTES = 1 << 20
"""Outputs of all modules for the rows that go through them at a time: what a core's cache holds."""
FEWEST_ROWS = 16
"""A chunk is a multiple of this: of fewer rows, products are slow."""
MOST_MODULES = 255
"""Sources are counted in bytes."""


def module_stack(first: Tensor, weight: Tensor, bias: Tensor, wiring: Routes | Tensor) -> Tensor:
    """Units [T, B, H] of the first module → input [T, B, H] of the head, as stack.py defines it.

    With weights [n-1, H, H] and biases [n-1, H] of the other modules. A table [T, B or 1, n, n] in
    place of routes must not learn; where it serves all samples of a task, modules above the last
    that is read are left out, task by task.

    Raises TypeError for tensors of different types, and ValueError for a table that learns.
    """
    routes = wiring if isinstance(wiring, Routes) else Routes(None, wiring)  # type: ignore[arg-type]
    given = (first, weight, bias, routes.weights, routes.sources, routes.trusted)
    types = {x.dtype for x in given[:4]}
    if len(types) > 1:
        raise TypeError(f"units, weights, biases and mixing weights differ in type: {types}")
    return apply(*(None if x is None else x.unsqueeze(0) for x in given))[0]


class Mixed(torch.autograd.Function):
    """The operator `stack_forward`, to be differentiated and mapped."""

    @staticmethod
    def forward(*args: Any) -> Any:
        return stack_forward(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, weight, _, mixing, sources, trusted = inputs
        if ctx.needs_input_grad[3] and sources is None:
            raise ValueError("a table of mixing weights does not learn here")
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(weight, mixing, sources, trusted, *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        _, by_weight, by_bias, by_mixing, *_ = ctx.needs_input_grad
        learns = by_weight or by_bias
        found = last(stack_backward)(gradient, *ctx.saved_tensors, learns, by_mixing)
        wanted = (True, by_weight, by_bias, by_mixing)
        return *(x if w else None for x, w in zip(found, wanted, strict=True)), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return folded(Mixed.apply)(info, in_dims, *args)


def apply(*args: Any) -> Tensor:
    """Operator and gradient, members first; see `module_stack`."""
    return Mixed.apply(*args)[0]  # type: ignore[no-untyped-call]


@library.custom_op("mtscale::stack_forward", mutates_args=(), device_types="cpu")
def stack_forward(
    first: Tensor,
    weight: Tensor,
    bias: Tensor,
    mixing: Tensor,
    sources: Tensor | None,
    trusted: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From first [M, T, B, H], weight [M, n-1, H, H], bias [M, n-1, H] and wiring [M, T, B, n, k]:
    the result [M, T, B, H], and for gradients outputs [N, n, H], inputs [n-1, N, H] and which units
    are active; N = M·T·B.
    """
    first, weight, bias = first.contiguous(), weight.contiguous(), bias.contiguous()
    result, outputs, inputs, active = empty_results(first, mixing)
    stack, kept = described(first, mixing, sources, trusted)
    stack.point(
        weight=weight,
        bias=bias,
        first=first,
        outputs=outputs,
        inputs=inputs,
        active=active,
        result=result,
    )
    code(first.dtype).forward(ctypes.byref(stack))
    del kept
    return result, outputs, inputs, active


@stack_forward.register_fake
def _(first: Tensor, weight: Tensor, bias: Tensor, mixing: Tensor, *_: Any) -> Any:
    return empty_results(first, mixing)


def empty_results(first: Tensor, mixing: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `stack_forward` fills; all lead with members."""
    members, tasks, samples, units = first.shape
    n, rows = mixing.shape[-2], tasks * samples
    return (
        first.new_empty(first.shape),
        first.new_empty(members, rows, n, units),
        first.new_empty(members, n - 1, rows, units),
        first.new_empty((members, n - 1, rows, units), dtype=torch.uint8),
    )


@library.custom_op("mtscale::stack_backward", mutates_args=(), device_types="cpu")
def stack_backward(
    gradient: Tensor,
    weight: Tensor,
    mixing: Tensor,
    sources: Tensor | None,
    trusted: Tensor | None,
    outputs: Tensor,
    inputs: Tensor,
    active: Tensor,
    learns: bool,
    by_mixing: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of first, weight, bias and mixing from that of the result; [M] where not wanted."""
    gradient, weight = gradient.contiguous(), weight.contiguous()
    outputs, inputs, active = outputs.contiguous(), inputs.contiguous(), active.contiguous()
    found = empty_gradients(gradient, weight, mixing, learns, by_mixing)
    each = gradient.new_empty(*gradient.shape[:3], *mixing.shape[-2:]) if by_mixing else None
    masked = torch.empty_like(inputs) if learns else None
    stack, kept = described(gradient, mixing, sources, trusted)
    stack.point(
        weight=weight,
        outputs=outputs,
        inputs=inputs,
        active=active,
        gradient=gradient,
        first_gradient=found[0],
        mixing_gradient=each,
        masked=masked,
        weight_gradient=found[1] if learns else None,
        bias_gradient=found[2] if learns else None,
    )
    code(gradient.dtype).backward(ctypes.byref(stack))
    del kept
    if each is not None:
        shared = mixing.shape[2] != each.shape[2]
        found = (*found[:3], each.sum(2, keepdim=True) if shared else each)
    return found


@stack_backward.register_fake
def _(gradient: Tensor, weight: Tensor, mixing: Tensor, *rest: Any) -> Any:
    *_, learns, by_mixing = rest
    return empty_gradients(gradient, weight, mixing, learns, by_mixing)


def empty_gradients(
    gradient: Tensor, weight: Tensor, mixing: Tensor, learns: bool, by_mixing: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `stack_backward` returns; all lead with members."""
    members = gradient.shape[0]
    return (
        gradient.new_empty(gradient.shape),
        weight.new_empty(weight.shape if learns else members),
        weight.new_empty(weight.shape[:-1] if learns else members),
        mixing.new_empty(mixing.shape if by_mixing else members),
    )


def described(
    rows: Tensor, mixing: Tensor, sources: Tensor | None, trusted: Tensor | None
) -> tuple[Stack, list[Tensor | None]]:
    """The sizes and the wiring as stack.c reads them, and the tensors that must live meanwhile."""
    members, tasks, samples, units = rows.shape
    n, k = mixing.shape[-2:]
    if n > MOST_MODULES or k > n:
        raise ValueError(f"{n} modules with {k} sources each are more than {MOST_MODULES}")
    shared = mixing.shape[2] != samples
    if mixing.shape[:2] != (members, tasks) or (shared and mixing.shape[2] != 1):
        raise ValueError(f"wiring {tuple(mixing.shape)} does not fit rows {tuple(rows.shape)}")
    all_rows, threads = members * tasks * samples, torch.get_num_threads()
    chunk = chunk_rows(all_rows, n * units * rows.element_size(), threads)
    stack = Stack(
        slots=n,
        members=members,
        rows=tasks * samples,
        samples=samples,
        units=units,
        sources=k,
        shared=shared,
        chunk=chunk,
        threads=threads,
        gemm=gemm(rows.dtype),
    )
    wiring = [None if x is None else x.contiguous() for x in (mixing, sources, trusted)]
    scratch = rows.new_empty(threads, chunk, 2 * n + 2, units)
    stack.point(mixing=wiring[0], source=wiring[1], trusted=wiring[2], scratch=scratch)
    return stack, [*wiring, scratch]


def chunk_rows(rows: int, row_bytes: int, threads: int) -> int:
    """Rows of a chunk: as many as the cache holds, and as many chunks for one thread as for all."""
    most = max(FEWEST_ROWS, CHUNK_BYTES // row_bytes)
    share = max(1, math.ceil(rows / threads))
    # Of so many rows, so that all threads find their memory aligned alike: products depend on it.
    even = math.ceil(share / math.ceil(share / most))
    return math.ceil(even / FEWEST_ROWS) * FEWEST_ROWS
