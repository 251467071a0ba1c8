"""Which outputs of a module stack are mixed into which inputs, forward and backward.

A stack of n modules has n slots: slot j < n - 1 is the input of module j + 1 (counted from 0) and
slot n - 1 that of the head. Slot j mixes outputs 0 … j. Mixing does little arithmetic on much
memory, so each kind of wiring has its own way to touch less of it:

- `Shared`: one weight for all samples of a task. A few slots at a time are one matrix product.
- `PerSample`: any weights of each sample. Reads every source of every slot.

Shapes: M members of T tasks with B samples each; all rows together N = M·T·B, of H units.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

BLOCK = 4
"""Slots that `Shared` fills at a time; their common sources are read once for all of them."""


class Wiring(Protocol):
    """What a stack asks of its wiring. An object serves one forward and one backward pass."""

    distrusts: bool
    """Whether `pull` needs `throughs` and returns two tensors."""

    def mixture(self, slot: int, outputs: Tensor) -> Tensor:
        """The slot's input [M, T, B, H] from outputs [n, M, T, B, H]. Asked for in order."""

    def pull(self, source: int, totals: Tensor, throughs: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients [M, T, B, H] that reach an output's shortcut and its transform.

        `totals` [n, M, T, B, H] are the gradients of the slots, `throughs` the part of them that
        came by the transform of the module that reads the slot. Asked for in reverse order.
        """

    def weight_gradient(self, outputs: Tensor, totals: Tensor) -> Tensor:
        """The gradient of the mixing weights."""


def mix(tensors: Tensor, weights: Tensor) -> Tensor:
    """Σ_i weights[i] · tensors[i]: [k, M, T, B, H] by [k, M, T, B, 1] → [M, T, B, H]."""
    total = tensors[0] * weights[0]
    # Faster than one product and sum, which writes and reads k times the memory.
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.addcmul_(tensor, weight)
    return total


class PerSample:
    """A table [n, n, M, T, B] of weights, and of 0 and 1 for what is trusted."""

    def __init__(self, table: Tensor, trusted: Tensor | None) -> None:
        self.table, self.distrusts = table.unsqueeze(-1), trusted is not None
        if trusted is not None:
            self.blocked = self.table * (1 - trusted.unsqueeze(-1))

    def mixture(self, slot: int, outputs: Tensor) -> Tensor:
        """See `Wiring.mixture`."""
        return mix(outputs[: slot + 1], self.table[slot, : slot + 1])

    def pull(self, source: int, totals: Tensor, throughs: Tensor) -> tuple[Tensor, Tensor]:
        """See `Wiring.pull`."""
        shortcut = mix(totals[source:], self.table[source:, source])
        if not self.distrusts:
            return shortcut, shortcut
        return shortcut, shortcut - mix(throughs[source:], self.blocked[source:, source])

    def weight_gradient(self, outputs: Tensor, totals: Tensor) -> Tensor:
        """See `Wiring.weight_gradient`."""
        # A product [n, H] × [H, n] for each of the N rows.
        left, right = (x.flatten(1, 3).transpose(0, 1) for x in (totals, outputs))
        products = torch.bmm(left, right.transpose(1, 2)).tril_().permute(1, 2, 0)
        return products.reshape(self.table.shape[:-1])


class Shared:
    """A table [n, n, M, T] of weights that all samples of a task share."""

    distrusts = False

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.slots = table.shape[0]
        # [M, T, slot, source], for matrix products over many slots and sources of a task.
        self.by_task = table.permute(2, 3, 0, 1).contiguous()

    def blend(self, weights: Tensor, tensors: Tensor) -> Tensor:
        """[M, T, targets, k] by [k, M, T, B, H] → [targets, M, T, B, H]."""
        shape = tensors.shape
        result = tensors.new_empty(weights.shape[2], *shape[1:])
        for member, weight in enumerate(weights):
            torch.bmm(
                weight,
                tensors[:, member].flatten(2).transpose(0, 1),
                out=result[:, member].flatten(2).transpose(0, 1),
            )
        return result

    def mixture(self, slot: int, outputs: Tensor) -> Tensor:
        """See `Wiring.mixture`."""
        if slot == self.slots - 1:
            return self.blend(self.by_task[:, :, slot:], outputs)[0]
        start = slot - slot % BLOCK
        if slot == start:
            stop = min(start + BLOCK, self.slots - 1)
            self.block = self.blend(self.by_task[:, :, start:stop, : slot + 1], outputs[: slot + 1])
        z = self.block[slot - start]
        for source in range(start + 1, slot + 1):
            z.addcmul_(outputs[source], self.table[slot, source, :, :, None, None])
        return z

    def pull(self, source: int, totals: Tensor, throughs: Tensor) -> tuple[Tensor, Tensor]:
        """See `Wiring.pull`."""
        start = source - source % BLOCK
        last = min(start + BLOCK, self.slots) - 1
        if source == last:
            weights = self.by_task[:, :, last:, start : last + 1].transpose(2, 3)
            self.block = self.blend(weights, totals[last:])
        shortcut = self.block[source - start]
        for slot in range(source, last):
            shortcut.addcmul_(totals[slot], self.table[slot, source, :, :, None, None])
        return shortcut, shortcut

    def weight_gradient(self, outputs: Tensor, totals: Tensor) -> Tensor:
        """See `Wiring.weight_gradient`."""
        left, right = (x.flatten(3).flatten(1, 2).transpose(0, 1) for x in (totals, outputs))
        products = torch.bmm(left, right.transpose(1, 2)).tril_().permute(1, 2, 0)
        return products.reshape(self.table.shape)


def wire(table: Tensor, trusted: Tensor | None, members: int, tasks: int) -> Wiring:
    """The wiring of a table [n, n, M·T, B or 1], and of what is trusted, 0 or 1 alike."""
    n, samples = len(table), table.shape[3]
    values = table.detach().reshape(n, n, members, tasks, samples)
    if samples > 1 or trusted is not None:
        shape = values.shape
        return PerSample(values, None if trusted is None else trusted.reshape(shape))
    return Shared(values.squeeze(-1))
