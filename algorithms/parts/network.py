"""A plain module as a function of its weights, which are one flat vector per copy.

A user writes an ordinary `nn.Module` for one actor and one critic. Twin critics and targets are
copies [C, P] of a vector of P weights: norm, clipping, Adam and the target's step are each one
operation on it, and `torch.func` maps the module over the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from algorithms.parts.units import UnitRecord, recording

Weights = Mapping[str, Tensor]
"""Parameter name → tensor, with a leading axis of C copies where a network has them."""
ALIGNMENT = 16
"""Every tensor begins at a multiple of so many floats (64 bytes), as matrix products like it."""


class Entry(NamedTuple):
    """Where a parameter stands in the flat vector."""

    name: str
    start: int
    shape: torch.Size


class Network:
    """The structure of a module, and of `copies` of it (None: one without an axis for copies)."""

    def __init__(
        self, build: Callable[[], nn.Module], device: torch.device, copies: int | None = None
    ) -> None:
        self.build, self.device, self.copies = build, device, copies
        self.record: UnitRecord | None = None
        """Where hidden units go while somebody looks at them."""
        self.module = build()
        if not isinstance(self.module, nn.Module):
            kind, what = type(self.module), getattr(build, "__name__", "what builds a network")
            raise ValueError(f"{what} returns {kind.__name__}; return an nn.Module")
        refuse_hidden_state(self.module)
        self.module.to(device)
        self.layout: list[Entry] = []
        self.size = 0
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                self.layout.append(Entry(name, self.size, parameter.shape))
                self.size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        self.per_task = per_task_names(self.module)
        release(self.module)

    @property
    def lead(self) -> int:
        """Axes of the weights before those of the module: 1 where there are copies, else 0."""
        return 0 if self.copies is None else 1

    @property
    def count(self) -> int:
        """Trained parameters of all copies."""
        return sum(prod(entry.shape) for entry in self.layout) * (self.copies or 1)

    def fresh(self) -> Tensor:
        """New weights [C, P], or [P], drawn from torch's global generator: see `drawing`."""
        # Written piece by piece: joining would import torch's compiler where sizes are counted.
        whole = torch.zeros(self.copies or 1, self.size)
        for vector in whole:
            values = dict(self.build().named_parameters())
            for e in self.layout:
                vector[e.start : e.start + prod(e.shape)] = values[e.name].detach().flatten()
        return (whole if self.copies else whole[0]).to(self.device)

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters in a vector [..., P], as views [..., *shape]."""
        return {
            e.name: vector[..., e.start : e.start + prod(e.shape)].view(
                (*vector.shape[:-1], *e.shape)
            )
            for e in self.layout
        }

    def of_copy(self, tensors: Weights, copy: int) -> dict[str, Tensor]:
        """The part of one copy, without gradients; of a network without copies, all."""
        own = {k: t if self.copies is None else t[copy] for k, t in tensors.items()}
        return {k: t.detach() for k, t in own.items()}

    def flat(self, tensors: Weights, lead: int = 0) -> Tensor:
        """Inverse of `views` for tensors with `lead` leading axes."""
        parts = []
        for e in self.layout:
            part = tensors[e.name].reshape(*tensors[e.name].shape[:lead], -1)
            parts.append(part)
            if fill := -prod(e.shape) % ALIGNMENT:
                parts.append(part.new_zeros(*part.shape[:-1], fill))
        return torch.cat(parts, -1)

    def __call__(self, weights: Weights, *inputs: Any, apart: Sequence[int] = ()) -> Any:
        """The module's output; [C, ...] with copies.

        All copies see the same inputs, but for those whose index is in `apart`: these have an axis
        of copies themselves.
        """
        if self.copies is None:
            return self.call(weights, inputs)
        if self.record is not None:  # a loop, for whoever looks on: the same values
            outputs = []
            for copy in range(self.copies):
                own = [x[copy] if index in apart else x for index, x in enumerate(inputs)]
                with self.record.of_copy(copy):
                    outputs.append(self.call({k: w[copy] for k, w in weights.items()}, own))
            if isinstance(outputs[0], tuple):
                return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))
            return torch.stack(outputs)
        axes = [0 if index in apart else None for index in range(len(inputs))]
        return vmap(lambda w, *x: self.call(w, x), in_dims=(0, *axes))(dict(weights), *inputs)

    def call(self, weights: Weights, inputs: Sequence[Any]) -> Any:
        """One copy's output."""
        return functional_call(self.module, dict(weights), tuple(inputs))

    @contextmanager
    def recorded(self, tasks: int, samples: int) -> Iterator[UnitRecord]:
        """Within, hidden units of every call of every copy are recorded; see `units`."""
        with recording(self.module, tasks, samples) as self.record:
            try:
                yield self.record
            finally:
                self.record = None


def release(module: nn.Module) -> None:
    """Frees the trained parameters of a module of which only the structure is wanted."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.requires_grad:
                part.register_parameter(name, nn.Parameter(parameter.to("meta")))


def per_task_names(module: nn.Module) -> frozenset[str]:
    """Parameters whose first axis is the task axis: those that modules name in `per_task`.

    Raises ValueError where one names nothing: its parameters would be taken for shared ones.
    """
    for part in module.modules():
        names, kind = getattr(part, "per_task", ()), type(part).__name__
        if isinstance(names, str):
            raise ValueError(f"per_task of {kind} is a string; write per_task = ({names!r},)")
        for name in names:
            try:
                attrgetter(name)(part)
            except AttributeError:
                own = ", ".join(k for k, _ in part.named_parameters()) or "none"
                raise ValueError(
                    f"per_task of {kind} names {name!r}; its parameters are {own}"
                ) from None
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        for name in getattr(part, "per_task", ())
    )


def refuse_hidden_state(module: nn.Module) -> None:
    """Raises ValueError for layers that remember or draw what nobody would save."""
    for name, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"{name or 'the network'} is a {kind}, which keeps running statistics and mixes "
                "tasks; use nn.LayerNorm"
            )
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            raise ValueError(
                f"{name or 'the network'} is a {kind}, which draws from torch's global generator; "
                "leave it out, or draw noise in `given`"
            )
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet; give lazy layers their input size")
        if parameter.is_meta and torch.get_default_device().type != "meta":
            raise ValueError(
                f"{name} is another network's, too; build every layer anew, and let networks share "
                "through `build_networks`"
            )
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise ValueError(f"{name} is {parameter.dtype}; weights are torch.float32")
