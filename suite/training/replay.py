"""Task-major replay: the newest C transitions of every task, as packed rows on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from algorithms.algorithm import Batch
from suite.envs import ACTION_SIZE, OBSERVATION_SIZE

OBSERVATION = slice(0, OBSERVATION_SIZE)
ACTION = slice(OBSERVATION.stop, OBSERVATION.stop + ACTION_SIZE)
REWARD, TIMEOUT = ACTION.stop, ACTION.stop + 1
NEXT = slice(TIMEOUT + 1, TIMEOUT + 1 + OBSERVATION_SIZE)
"""Where a row holds what: the observation, the action, reward, timeout, the next observation."""
WIDTH = NEXT.stop
"""Floats a row."""
Extras = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""What an algorithm adds to a transition: name → (shape, dtype)."""


class Replay:
    """A ring buffer [T, C, 84]; one gather per batch.

    All tasks fill in lockstep, so one position serves them all. float32 holds exactly what the
    networks see; extras keep the type that the algorithm declares.
    """

    def __init__(
        self,
        tasks: int,
        capacity: int,
        extras: Extras,
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        self.tasks, self.capacity, self.generator = tasks, capacity, generator
        self.rows = torch.zeros(tasks, capacity, WIDTH, device=device)
        self.extras = {
            name: torch.zeros(tasks, capacity, *shape, dtype=dtype, device=device)
            for name, (shape, dtype) in extras.items()
        }
        self.offsets = torch.arange(tasks, device=device).unsqueeze(1) * capacity
        self.written = 0
        """Rows ever added, per task."""
        self.next = torch.zeros((), dtype=torch.int64, device=device)
        self.held = torch.zeros((), dtype=torch.float64, device=device)
        """The next place and `size`, where a recorded step on a GPU reads them."""

    @property
    def size(self) -> int:
        """Transitions of each task that can be sampled."""
        return min(self.written, self.capacity)

    @staticmethod
    def bytes(tasks: int, capacity: int, extras: Extras) -> int:
        """Memory of a full replay."""
        row = WIDTH * 4
        for shape, dtype in extras.values():
            row += torch.Size(shape).numel() * dtype.itemsize
        return tasks * capacity * row

    def write(self, rows: Tensor, extras: Mapping[str, Tensor]) -> None:
        """Adds one lockstep of N envs, rows [T, N, 84] and extras [T, N, ...], which `count` must
        be told: a GPU can record this, as nothing of it is known to the host alone.
        """
        new = rows.shape[1]
        kept = min(new, self.capacity)
        places = self.next + torch.arange(new - kept, new, device=rows.device)
        for name, store in self.stores().items():
            values = rows if name == "rows" else extras[name]
            store.index_copy_(1, places % self.capacity, values[:, new - kept :])
        self.next.copy_((self.next + new) % self.capacity)
        self.held.copy_((self.held + new).clamp(max=self.capacity))

    def count(self, new: int) -> None:
        """N more rows have been written."""
        self.written += new

    def window(self, new: int) -> dict[str, Tensor]:
        """A copy of all that a `write` of N rows changes before they are counted."""
        places = torch.arange(self.written, self.written + new) % self.capacity
        parts = {name: store[:, places].clone() for name, store in self.stores().items()}
        return {**parts, "next": self.next.clone(), "held": self.held.clone()}

    def restore_window(self, state: Mapping[str, Tensor]) -> None:
        """Puts a window back."""
        new = state["rows"].shape[1]
        places = torch.arange(self.written, self.written + new) % self.capacity
        for name, store in self.stores().items():
            store[:, places] = state[name]
        self.next.copy_(state["next"])
        self.held.copy_(state["held"])

    def sample(self, batch_per_task: int) -> Batch:
        """Transitions drawn uniformly with replacement, the same number for every task."""
        index = self.places(batch_per_task)
        flat = (index + self.offsets).flatten()
        rows = self.rows.view(-1, WIDTH).index_select(0, flat)
        extras = {
            name: store.flatten(0, 1).index_select(0, flat).view(*index.shape, *store.shape[2:])
            for name, store in self.extras.items()
        }
        return unpack(rows.view(*index.shape, WIDTH), extras)

    def places(self, batch_per_task: int) -> Tensor:
        """Random places of held rows, [T, B]."""
        shape, device = (self.tasks, batch_per_task), self.rows.device
        if not self.rows.is_cuda:
            return torch.randint(self.size, shape, generator=self.generator)
        # A recorded step cannot be told how many there are now: it looks at `held`.
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64, device=device)
        return (drawn * self.held).long()

    def mean_rewards(self) -> Tensor:
        """The mean reward of each task's held transitions, [T] float64; NaN without any."""
        held: Tensor = self.rows[:, : self.size, REWARD]
        return held.mean(1, dtype=torch.float64)

    def stores(self) -> dict[str, Tensor]:
        """What is held, by name."""
        return {"rows": self.rows, **self.extras}

    def segment(self, start: int) -> dict[str, Tensor]:
        """What is still held of the rows added since `start`, oldest first, on the host."""
        first = max(start, self.written - self.capacity)
        slots = torch.arange(first, self.written, device=self.rows.device) % self.capacity
        return {name: store[:, slots].cpu() for name, store in self.stores().items()}

    def restore_segment(self, stop: int, segment: Mapping[str, Tensor]) -> None:
        """Puts back a segment whose last row was the `stop`-th; segments come oldest first, and
        `load_state_dict` after the last.
        """
        count = segment["rows"].shape[1]
        slots = torch.arange(stop - count, stop, device=self.rows.device) % self.capacity
        for name, store in self.stores().items():
            store[:, slots] = segment[name].to(store.device)

    def state_dict(self) -> dict[str, Any]:
        """Position and generator; the rows themselves travel as segments."""
        return {"written": self.written, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.written = state["written"]
        self.next.fill_(self.written % self.capacity)
        self.held.fill_(self.size)
        self.generator.set_state(state["generator"])


def unpack(rows: Tensor, extras: Mapping[str, Tensor]) -> Batch:
    """Views of packed rows [T, B, 84]."""
    return Batch(
        rows[..., OBSERVATION],
        rows[..., ACTION],
        rows[..., REWARD],
        rows[..., NEXT],
        rows[..., TIMEOUT],
        extras,
    )
