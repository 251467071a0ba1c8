"""The few sources that each slot of a module stack mixes, chosen by one operator: routes.c on CPUs.

What it does, `largest`, a softmax and `trust` of routing.py do with tables of all sources, most of
them zeros; they are the reference.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, library

from algorithms.modules.native import Router, code, folded, last

NONE = 255
"""In place of a source that there is not."""


class Routes(NamedTuple):
    """The k sources that each slot mixes, ascending; a slot with fewer has NONE at weight 0."""

    sources: Tensor
    """[..., n, k] uint8; those of slot j, from 0, are at most j."""
    weights: Tensor
    """[..., n, k]."""
    trusted: Tensor | None = None
    """[..., n, k] uint8, 0 or 1: ResRouting's trust, all of it if None."""

    def chosen(self) -> Tensor:
        """The sources as a table of bools, [..., n, n]."""
        places = torch.arange(self.sources.shape[-2], device=self.sources.device)
        chosen = torch.zeros((), dtype=torch.bool, device=self.sources.device)
        for source in self.sources.unbind(-1):
            chosen = chosen | (source[..., None] == places)
        return chosen


def choose(logits: Tensor, score: Tensor, k: int, trusts: bool) -> Routes:
    """The at most k sources of the largest scores above −∞, weighed by the softmax of their logits.

    Both are flat, [..., n(n+1)/2]. With `trusts` the routes say which sources are trusted.
    """
    weights, sources, trusted = apply(logits[None], score.detach()[None], k, trusts)
    return Routes(sources[0], weights[0], trusted[0] if trusts else None)


class Choice(torch.autograd.Function):
    """The operator `route_forward`, to be differentiated and mapped."""

    @staticmethod
    def forward(*args: Any) -> Any:
        return route_forward(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        weights, sources, trusted = output
        ctx.mark_non_differentiable(sources, trusted)
        ctx.save_for_backward(weights, sources)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        return last(route_backward)(gradient, *ctx.saved_tensors), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return folded(Choice.apply)(info, in_dims, *args)


def apply(*args: Any) -> Any:
    """Operator and gradient, members first; see `choose`."""
    return Choice.apply(*args)  # type: ignore[no-untyped-call]


@library.custom_op("mtscale::route_forward", mutates_args=(), device_types="cpu")
def route_forward(
    logits: Tensor, score: Tensor, k: int, trusts: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, sources and trust [M, ..., n, k]; the latter [M] where it is not wanted."""
    logits, score = logits.contiguous(), score.contiguous()
    weights, sources, trusted = empty_routes(logits, score, k, trusts)
    router = described(weights)
    router.point(
        logits=logits,
        score=score,
        source=sources,
        weight=weights,
        trusted=trusted if trusts else None,
    )
    code(logits.dtype).route(ctypes.byref(router))
    return weights, sources, trusted


@route_forward.register_fake
def empty_routes(
    logits: Tensor, score: Tensor, k: int, trusts: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What `route_forward` fills; all lead with members."""
    shape = (*logits.shape[:-1], math.isqrt(2 * logits.shape[-1]), k)
    return (
        logits.new_empty(shape),
        logits.new_empty(shape, dtype=torch.uint8),
        logits.new_empty(shape if trusts else shape[:1], dtype=torch.uint8),
    )


@library.custom_op("mtscale::route_backward", mutates_args=(), device_types="cpu")
def route_backward(gradient: Tensor, weights: Tensor, sources: Tensor) -> Tensor:
    """Through the softmax over the sources of each slot, to the flat logits."""
    gradient, weights, sources = gradient.contiguous(), weights.contiguous(), sources.contiguous()
    by_logits: Tensor = empty_logits(gradient, weights, sources)
    router = described(weights)
    router.point(weight=weights, source=sources, gradient=gradient, logits_gradient=by_logits)
    code(gradient.dtype).route_gradient(ctypes.byref(router))
    return by_logits


@route_backward.register_fake
def empty_logits(gradient: Tensor, weights: Tensor, sources: Tensor) -> Tensor:
    """What `route_backward` fills."""
    n = weights.shape[-2]
    return gradient.new_empty(*gradient.shape[:-2], n * (n + 1) // 2)


def described(weights: Tensor) -> Router:
    """The sizes as routes.c reads them."""
    *lead, n, k = weights.shape
    return Router(rows=math.prod(lead), slots=n, sources=k, threads=torch.get_num_threads())
