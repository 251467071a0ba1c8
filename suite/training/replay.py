"""Task-major replay: the newest C transitions of every task, as packed rows on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from algorithms.algorithm import Batch
from suite.envs import ACTION_SIZE, OBSERVATION_SIZE

WIDTH = 2 * OBSERVATION_SIZE + ACTION_SIZE + 2
"""Floats a row: observation, action, reward, timeout, next observation."""
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
        self.held = torch.zeros((), dtype=torch.float64, device=device)
        """`size`, where a recorded step on a GPU reads it."""

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

    def add(
        self,
        observations: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_observations: Tensor,
        timeout: bool,
        extras: Mapping[str, Tensor],
    ) -> None:
        """Adds one lockstep: [T, N, 39], [T, N, 4], [T, N], [T, N, 39], extras [T, N, ...].

        All but the extras may be on the host, where they are packed before they travel.
        """
        flag = torch.full_like(rewards, float(timeout))
        parts = [observations, actions, rewards[..., None], flag[..., None], next_observations]
        packed = torch.cat(parts, -1)
        if self.rows.is_cuda and not packed.is_cuda:
            packed = packed.pin_memory()
        self.put(self.rows, packed)
        for name, store in self.extras.items():
            self.put(store, extras[name])
        self.written += rewards.shape[1]
        self.held.fill_(self.size)

    def put(self, store: Tensor, values: Tensor) -> None:
        """Writes the next values [T, N, ...] of a store, which go on at its start at its end."""
        position = self.written
        while values.shape[1]:
            start = position % self.capacity
            part, values = values.tensor_split([self.capacity - start], 1)
            store[:, start : start + part.shape[1]].copy_(part, non_blocking=True)
            position += part.shape[1]

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
        held: Tensor = self.rows[:, : self.size, OBSERVATION_SIZE + ACTION_SIZE]
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
        """Puts back a segment whose last row was the `stop`-th; segments come oldest first."""
        count = segment["rows"].shape[1]
        slots = torch.arange(stop - count, stop, device=self.rows.device) % self.capacity
        for name, store in self.stores().items():
            store[:, slots] = segment[name].to(store.device)
        self.written = stop
        self.held.fill_(self.size)

    def state_dict(self) -> dict[str, Any]:
        """Position and generator; the rows themselves travel as segments."""
        return {"written": self.written, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.written = state["written"]
        self.generator.set_state(state["generator"])


def unpack(rows: Tensor, extras: Mapping[str, Tensor]) -> Batch:
    """Views of packed rows [T, B, 84]."""
    observations, actions, reward, timeout, following = torch.split(
        rows, [OBSERVATION_SIZE, ACTION_SIZE, 1, 1, OBSERVATION_SIZE], -1
    )
    return Batch(observations, actions, reward[..., 0], following, timeout[..., 0], extras)
