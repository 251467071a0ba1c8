"""What the learner does in an env step, act and learn; on a GPU each is one CUDA graph."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from algorithms.algorithm import Algorithm, Decision
from suite.training.capture import Captured, Results
from suite.training.replay import Replay

WHOLE = ""
"""Among results that are named by the algorithm: all metrics in one tensor, or the actions."""


class Learner:
    """An algorithm at work on a replay."""

    def __init__(self, algorithm: Algorithm, replay: Replay, batch_per_task: int) -> None:
        self.algorithm, self.replay, self.batch_per_task = algorithm, replay, batch_per_task
        self.device = replay.rows.device
        self.captures = able(algorithm, "capturable") and self.device.type == "cuda"
        self.layout: list[tuple[str, torch.Size]] = []
        """Names and shapes of the metrics that stand one behind the other."""
        self.seen = torch.empty(0)
        """Where a recorded `act` reads the observations."""
        self.generators = [*algorithm.generators.values(), replay.generator]
        self.learning = Captured(
            "the gradient step", self.update, self.generators, self.snapshot, self.restore
        )
        self.acting = Captured("acting", self.decide, self.generators, self.drawn, self.draw_again)

    def learn(self) -> dict[str, Tensor]:
        """One gradient step on a batch from the replay; returns its metrics."""
        if not self.captures:
            return self.algorithm.update(self.replay.sample(self.batch_per_task))
        whole = self.learning()[WHOLE].clone()  # the next step writes to the same memory
        parts = torch.split(whole, [shape.numel() for _, shape in self.layout])
        named = zip(self.layout, parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in named}

    def update(self) -> Results:
        """The step itself, with all metrics in one tensor."""
        metrics = self.algorithm.update(self.replay.sample(self.batch_per_task))
        self.layout = [(name, value.shape) for name, value in metrics.items()]
        whole = torch.cat([value.flatten() for value in metrics.values()])
        return {WHOLE: whole, **metrics}

    def act(self, observations: Tensor) -> Decision:
        """Explores: see `Algorithm.act`. What it returns is valid until the next call."""
        if not self.captures:
            return self.algorithm.act(observations, explore=True)
        if self.seen.shape != observations.shape:
            self.seen = torch.empty_like(observations)
        self.seen.copy_(observations)
        results = dict(self.acting())
        return Decision(results.pop(WHOLE), results)

    def decide(self) -> Results:
        """`act` on the observations in their place."""
        decision = self.algorithm.act(self.seen, explore=True)
        return {WHOLE: decision.actions, **decision.extras}

    def drawn(self) -> list[Tensor]:
        """How far each generator is."""
        return [generator.get_state() for generator in self.generators]

    def draw_again(self, states: list[Tensor]) -> None:
        """Puts the generators back."""
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

    def snapshot(self) -> Any:
        """A copy of all that a gradient step changes."""
        return copy.deepcopy(self.algorithm.state_dict()), self.drawn()

    def restore(self, state: Any) -> None:
        """Puts a snapshot back."""
        algorithm, drawn = state
        self.algorithm.load_state_dict(algorithm)
        self.draw_again(drawn)


def able(algorithm: Algorithm, ability: str) -> bool:
    """Whether the algorithm's class itself, not a base of it, has this ability."""
    return bool(vars(type(algorithm)).get(ability))


def to_host(values: Tensor) -> NDArray[np.float32]:
    """A tensor as an array on the host, by way of pinned memory where it is on a GPU."""
    if values.device.type == "cpu":
        return values.numpy()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return host.numpy()


def on_host(values: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array, in pinned memory where it goes on to a GPU."""
    copied = torch.empty(values.shape, dtype=torch.float32, pin_memory=device.type == "cuda")
    return copied.copy_(torch.from_numpy(values))


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, without waiting for it to arrive there."""
    return values.to(device, non_blocking=True)
