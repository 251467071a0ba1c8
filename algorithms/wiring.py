"""Which outputs of a module stack are mixed into which inputs, forward and backward.

A stack of n modules has n slots: slot j < n - 1 is the input of module j + 1 (counted from 0) and
slot n - 1 that of the head. Slot j mixes outputs 0 … j. Mixing does little arithmetic on much
memory, so each kind of wiring has its own way to touch less of it:

- `Shared`: one weight for all samples of a task. A few slots at a time are one matrix product.
- `PerSample`: any weights of each sample. Reads every source of every slot.
- `Sparse`: k sources a slot, chosen for each sample. Reads k rows a sample.

Shapes: M members of T tasks with B samples each; all rows together N = M·T·B, of H units.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 4
"""Slots that `Shared` fills at a time; their common sources are read once for all of them."""


@dataclass(frozen=True)
class Routes:
    """The k sources that each slot mixes; a slot with fewer repeats some at weight 0."""

    sources: Tensor
    """[n, M·T, B, k], integers; those of slot j are at most j."""
    weights: Tensor
    """[n, M·T, B, k]."""
    trusted: Tensor | None = None
    """[n, M·T, B, k] bool: ResRouting's trust, all of it if None."""


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
    """A table [n, n, M, T] of weights that all samples of a task share.

    `alive[j]` says how many tasks, which must stand first, read module j; the rest is left out.
    """

    distrusts = False

    def __init__(self, table: Tensor, alive: list[int] | None) -> None:
        self.table, self.alive = table, alive
        self.slots = table.shape[0]
        # [M, T, slot, source], for matrix products over many slots and sources of a task.
        self.by_task = table.permute(2, 3, 0, 1).contiguous()

    def tasks(self, module: int) -> int:
        """How many tasks read the module."""
        return self.alive[module] if self.alive else self.table.shape[3]

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
        start, tasks = slot - slot % BLOCK, self.tasks(slot + 1)
        if slot == start:
            stop = min(start + BLOCK, self.slots - 1)
            weights = self.by_task[:, :tasks, start:stop, : start + 1]
            self.block = self.blend(weights, outputs[: start + 1, :, :tasks])
        z = self.block[slot - start, :, :tasks]
        for source in range(start + 1, slot + 1):
            weight = self.table[slot, source, :, :tasks, None, None]
            z.addcmul_(outputs[source, :, :tasks], weight)
        return z

    def pull(self, source: int, totals: Tensor, throughs: Tensor) -> tuple[Tensor, Tensor]:
        """See `Wiring.pull`."""
        start, tasks = source - source % BLOCK, self.tasks(source)
        last = min(start + BLOCK, self.slots) - 1
        if source == last:
            most = self.tasks(start)
            weights = self.by_task[:, :most, last:, start : last + 1].transpose(2, 3)
            self.block = self.blend(weights, totals[last:, :, :most])
        shortcut = self.block[source - start, :, :tasks]
        for slot in range(source, last):
            weight = self.table[slot, source, :, :tasks, None, None]
            shortcut.addcmul_(totals[slot, :, :tasks], weight)
        return shortcut, shortcut

    def weight_gradient(self, outputs: Tensor, totals: Tensor) -> Tensor:
        """See `Wiring.weight_gradient`."""
        left, right = (x.flatten(3).flatten(1, 2).transpose(0, 1) for x in (totals, outputs))
        products = torch.bmm(left, right.transpose(1, 2)).tril_().permute(1, 2, 0)
        return products.reshape(self.table.shape)


def deepest_first(table: Tensor) -> tuple[Tensor, list[int] | None, Tensor | None]:
    """Sorts each member's tasks so that those which read the latest modules stand first.

    From a table [n, n, M, T]: the table in that order, how many tasks read each module (at most,
    over the members), and the order as indices of the M·T rows; None where there is nothing to
    gain. Asks the values of the table, so not for a captured graph.
    """
    n, _, members, tasks = table.shape
    module = torch.arange(1, n + 1).view(n, 1, 1)
    depth = ((table != 0).any(0) * module).amax(0)
    alive = [int((depth > j).sum(1).max()) for j in range(n)]
    if alive[-1] == tasks:
        return table, None, None
    alive[0] = tasks
    order = depth.sort(dim=1, stable=True, descending=True).indices
    table = table.gather(3, order.expand(n, n, members, tasks))
    return table, alive, (order + torch.arange(members).view(-1, 1) * tasks).flatten()


class Sparse:
    """Routes: every mixture gathers its k rows, and every gradient gathers the rows that read it.

    `embedding_bag` is a fused gather and weighted sum. Backward, the readers of an output differ
    in number from row to row: the entries (slot, row, rank) are sorted by the output that they
    read, (source, row), and each output's readers are a bag.
    """

    def __init__(self, routes: Routes, members: int) -> None:
        self.n, rows, samples, self.k = routes.sources.shape
        self.shape = (members, rows // members, samples)
        self.rows = rows * samples
        row = torch.arange(self.rows, device=routes.sources.device)
        index = routes.sources.view(self.n, self.rows, self.k) * self.rows + row.unsqueeze(-1)
        # 32 bits halve what a gather reads of its index.
        self.index = index.int()
        # Weights that still require a gradient would make the gather prepare for one.
        self.weights = routes.weights.detach().view(index.shape)
        self.trusted, self.distrusts = routes.trusted, routes.trusted is not None

    def mixture(self, slot: int, outputs: Tensor) -> Tensor:
        """See `Wiring.mixture`."""
        units = outputs.shape[-1]
        z = functional.embedding_bag(
            self.index[slot],
            outputs.view(-1, units),
            per_sample_weights=self.weights[slot],
            mode="sum",
        )
        return z.view(*self.shape, units)

    def sort(self) -> None:
        """Finds the readers of each output."""
        total = self.n * self.rows
        order = self.index.flatten().sort(stable=True).indices
        weights = self.weights.flatten()[order]
        counts = torch.bincount(self.index.flatten(), minlength=total)
        ends = functional.pad(counts.cumsum(0), (1, 0))
        self.readers = self.bag(order, weights, ends)
        if self.trusted is not None:
            distrust = self.trusted.flatten().logical_not()[order]
            ends = functional.pad(distrust.cumsum(0), (1, 0))[ends]
            kept = distrust.nonzero().squeeze(1)
            self.blocked = self.bag(order[kept], weights[kept], ends)

    def bag(self, order: Tensor, weights: Tensor, ends: Tensor) -> list[tuple[Tensor, ...]]:
        """For each source, which slots' rows [readers] its rows sum, how weighted, and where each
        row's readers begin [N + 1].
        """
        index, ends = (order // self.k).int(), ends.int()
        borders = ends[:: self.rows].tolist()
        starts = ends[:-1].view(self.n, self.rows)
        offsets = functional.pad(starts - starts[:, :1], (0, 1))
        offsets[:, -1] = ends[self.rows :: self.rows] - starts[:, 0]
        return [
            (index[begin:end], weights[begin:end], offsets[source])
            for source, (begin, end) in enumerate(pairwise(borders))
        ]

    def summed(self, bag: tuple[Tensor, ...], slots: Tensor) -> Tensor:
        """Each row's weighted sum over its bag, [M, T, B, H]."""
        index, weights, offsets = bag
        units = slots.shape[-1]
        total = functional.embedding_bag(
            index,
            slots.view(-1, units),
            offsets,
            per_sample_weights=weights,
            mode="sum",
            include_last_offset=True,
        )
        return total.view(*self.shape, units)

    def pull(self, source: int, totals: Tensor, throughs: Tensor) -> tuple[Tensor, Tensor]:
        """See `Wiring.pull`."""
        if source == self.n - 1:
            self.sort()
        shortcut = self.summed(self.readers[source], totals)
        if not self.distrusts:
            return shortcut, shortcut
        if not len(self.blocked[source][0]):
            return shortcut, shortcut
        return shortcut, shortcut - self.summed(self.blocked[source], throughs)

    def weight_gradient(self, outputs: Tensor, totals: Tensor) -> Tensor:
        """See `Wiring.weight_gradient`."""
        units = outputs.shape[-1]
        entries = torch.arange(self.index.numel(), dtype=torch.int32, device=outputs.device)
        products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            totals.view(-1, units),
            outputs.view(-1, units),
            self.index.flatten(),
            entries[:: self.k],
            entries // self.k,
            0,
        )
        rows = self.shape[0] * self.shape[1]
        gradient: Tensor = products.view(self.n, rows, self.shape[2], self.k)
        return gradient


def wire(
    table: Tensor | Routes, trusted: Tensor | None, members: int, tasks: int, skip: bool
) -> tuple[Wiring, Tensor | None]:
    """The wiring for routes or a table [n, n, M·T, B or 1], and the order of the M·T rows, or None.

    With `skip`, modules that no task or not all tasks read are left out where that costs nothing:
    the tasks must then be put in the order that is returned.
    """
    if isinstance(table, Routes):
        return Sparse(table, members), None
    n, samples = len(table), table.shape[3]
    values = table.detach().reshape(n, n, members, tasks, samples)
    if samples > 1 or trusted is not None:
        shape = values.shape
        return PerSample(values, None if trusted is None else trusted.reshape(shape)), None
    # Weights that learn need a gradient at 0 too, and looking at values stops the GPU.
    if skip and not table.requires_grad and not table.is_cuda:
        ordered, alive, order = deepest_first(values.squeeze(-1))
        return Shared(ordered, alive), order
    return Shared(values.squeeze(-1), None), None
