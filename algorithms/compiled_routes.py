"""Routes of k sources a slot on CPU, by routes.c.

`select`, `mixing_weights` and `trust` in routing.py are the reference: they fill tables of all
sources, most of them with zeros.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from algorithms.compiled import Struct, fields, gpu_code, library


@dataclass(frozen=True)
class Routes:
    """The k sources that each slot mixes; a slot with fewer repeats source 0 at weight 0."""

    sources: Tensor
    """[M·T, B, n, k] uint8; those of slot j are at most j, ascending."""
    weights: Tensor
    """[M·T, B, n, k]."""
    trusted: Tensor | None = None
    """[M·T, B, n, k] uint8, 0 or 1: ResRouting's trust, all of it if None."""


class Router(Struct):
    """The struct of that name in routes.c."""

    _fields_ = fields(
        "rows samples slots sources threads",
        "logits temperature noise given selected source weight trusted gradient logits_gradient",
    )


class _Route(torch.autograd.Function):
    """From flat logits: weights, sources, trust (empty without `needs_trust`) and selection."""

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
        found = library(logits.dtype)
        assert found is not None
        logits = logits.contiguous()
        router = Router(
            rows=members * tasks * samples,
            samples=samples,
            slots=slots,
            sources=top_k,
            threads=torch.get_num_threads(),
        )
        shape = (members * tasks, samples, slots, top_k)
        weights = logits.new_empty(shape)
        sources = logits.new_empty(shape, dtype=torch.uint8)
        trusted = logits.new_empty(shape if needs_trust else 0, dtype=torch.uint8)
        selected = logits.new_empty((members, tasks, samples, slots, slots), dtype=torch.bool)
        if temperature is not None:
            temperature = temperature.expand(members, tasks).to(logits.dtype).contiguous()
        if noise is not None:
            noise = noise.contiguous()
        if given is not None:
            given = given.expand(selected.shape).contiguous()
        router.point(
            logits=logits,
            temperature=temperature,
            noise=noise,
            given=given,
            selected=selected,
            source=sources,
            weight=weights,
            trusted=trusted if needs_trust else None,
        )
        found[0].route(ctypes.byref(router))
        ctx.mark_non_differentiable(sources, trusted, selected)
        ctx.save_for_backward(weights, sources)
        ctx.router, ctx.shape = router, logits.shape
        return weights, sources, trusted, selected

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        weights, sources = ctx.saved_tensors
        found = library(gradient.dtype)
        assert found is not None
        gradient = gradient.contiguous()
        by_logits = gradient.new_empty(ctx.shape)
        ctx.router.point(
            weight=weights, source=sources, gradient=gradient, logits_gradient=by_logits
        )
        found[0].route_gradient(ctypes.byref(ctx.router))
        return by_logits, None, None, None, None, None, None


def compiled_routes(
    logits: Tensor,
    slots: int,
    top_k: int,
    *,
    temperature: Tensor | None = None,
    noise: Tensor | None = None,
    given: Tensor | None = None,
    needs_trust: bool,
) -> tuple[Routes, Tensor]:
    """Routes from flat logits [M, T, B, n(n+1)/2], and which sources [M, T, B, n, n] they select.

    The k sources of a slot are those of highest logit / temperature + noise, with temperature
    [M or 1, T] and noise [M, T, B, n, n]; or those of a stored selection [M or 1, T, B, n, n].
    """
    function: Any = _Route
    if logits.is_cuda and (gpu := gpu_code()):
        function = gpu.GpuRoutes
    weights, sources, trusted, selected = function.apply(
        logits, slots, top_k, temperature, noise, given, needs_trust
    )
    return Routes(sources, weights, trusted if needs_trust else None), selected
