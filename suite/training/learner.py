"""What a run does in an env step – act, remember, learn – and where its numbers cross to the host.

On a GPU each of the three is one CUDA graph, on a stream of the learner's own, so that seeds that
train together overlap. A step sends one packed block there and brings the actions back; metrics
stay there until the round ends. On the CPU the same lines run as they stand.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from algorithms.algorithm import Algorithm
from suite.envs import ACTION_SIZE
from suite.training.capture import Captured, Results, positions, put_back
from suite.training.replay import ACTION, NEXT, OBSERVATION, REWARD, TIMEOUT, WIDTH, Replay

HISTORY = 1024
"""Gradient steps whose metrics stay on the device; more of a round go to the host in between."""


class Learner:
    """An algorithm at work on a replay, in N envs per task."""

    def __init__(
        self, algorithm: Algorithm, replay: Replay, batch_per_task: int, envs_per_task: int = 1
    ) -> None:
        self.algorithm, self.replay, self.batch_per_task = algorithm, replay, batch_per_task
        self.device = device = replay.rows.device
        shape = (replay.tasks, envs_per_task)
        on_gpu = device.type == "cuda"
        self.block = torch.zeros(*shape, WIDTH, pin_memory=on_gpu)
        """The rows of this env step as they will stand in the replay, on the host."""
        self.rows = self.block.to(device)
        """The same on the device; on the CPU the same memory."""
        self.actions = torch.zeros(*shape, ACTION_SIZE, pin_memory=on_gpu)
        """What `act` decided, on the host."""
        self.extras = {
            name: torch.zeros(*shape, *of, dtype=dtype, device=device)
            for name, (of, dtype) in algorithm.extras.items()
        }
        """What `act` decided to remember, on the device."""
        self.layout: list[tuple[str, torch.Size]] = []
        """Names and shapes of the metrics that stand side by side in `history`."""
        self.history = torch.zeros(0)
        self.index = torch.zeros(1, dtype=torch.int64, device=device)
        """The next row of `history`, where a recorded step reads it."""
        self.kept = 0
        """Rows of `history` that wait to be fetched."""
        self.fetched: list[NDArray[Any]] = []
        self.generators = [*algorithm.generators.values(), replay.generator]
        self.stream: Any = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        changed = partial(replay.window, envs_per_task), replay.restore_window
        learned = self.snapshot, self.restore
        drawn = partial(positions, self.generators), partial(put_back, self.generators)
        on = on_gpu and capturable(algorithm)
        self.acting = Captured("acting", self.decide, self.generators, *drawn, on)
        self.storing = Captured("remembering", self.store, [], *changed, on)
        self.learning = Captured("the gradient step", self.update, self.generators, *learned, on)

    # In an env step ----------------------------------------------------------------------------

    def see(self, observations: NDArray[np.float32]) -> None:
        """The first observations of an episode, [T, N, 39]."""
        self.wait()
        with self.alone():
            self.block[..., NEXT] = torch.from_numpy(observations)
            self.rows.copy_(self.block, non_blocking=True)

    def act(self) -> None:
        """Starts deciding what to do about the newest observations; explores."""
        with self.alone():
            self.acting()

    def decided(self) -> NDArray[np.float32]:
        """The actions [T, N, 4] that `act` decided, as a view; waits for them."""
        self.wait()
        return self.actions.numpy()

    def remember(
        self,
        actions: NDArray[np.float32],
        rewards: NDArray[np.float64],
        observations: NDArray[np.float32],
        timeout: bool,
    ) -> None:
        """Adds what came of actions [T, N, 4] to the replay: [T, N] and [T, N, 39], seen next."""
        self.wait()  # what was remembered before may be on its way out of the block
        row = self.block.numpy()
        row[..., OBSERVATION] = row[..., NEXT]
        row[..., ACTION] = actions
        row[..., REWARD] = rewards
        row[..., TIMEOUT] = timeout
        row[..., NEXT] = observations
        with self.alone():
            self.storing()
        self.replay.count(rewards.shape[1])

    def learn(self) -> None:
        """Starts one gradient step on a batch from the replay."""
        with self.alone():
            self.learning()
        self.kept += 1
        if self.kept == HISTORY:
            self.fetch()

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Each metric of the gradient steps since the last call, [U, T] or [U]; waits for them."""
        self.fetch()
        if not self.fetched:
            return {}
        whole, self.fetched = np.concatenate(self.fetched).astype(np.float64), []
        ends = np.cumsum([shape.numel() for _, shape in self.layout])[:-1]
        parts = np.split(whole, ends, axis=1)
        named = zip(self.layout, parts, strict=True)
        return {name: part.reshape(-1, *shape) for (name, shape), part in named}

    # What is recorded --------------------------------------------------------------------------

    def decide(self) -> Results:
        """`act` itself."""
        decision = self.algorithm.act(self.rows[..., NEXT], explore=True)
        self.actions.copy_(decision.actions, non_blocking=True)
        for name, place in self.extras.items():
            place.copy_(decision.extras[name])
        return {"actions": decision.actions, **self.extras}

    def store(self) -> Results:
        """`remember` itself."""
        self.rows.copy_(self.block, non_blocking=True)
        self.replay.write(self.rows, self.extras)
        return {}

    def update(self) -> Results:
        """`learn` itself."""
        metrics = self.algorithm.update(self.replay.sample(self.batch_per_task))
        whole = torch.cat([value.flatten() for value in metrics.values()])
        layout = [(name, value.shape) for name, value in metrics.items()]
        if not self.layout:
            self.layout, self.history = layout, whole.new_zeros(HISTORY, len(whole))
        if layout != self.layout:
            raise ValueError("update must return the same metrics, in shape and order, every time")
        self.history.index_copy_(0, self.index, whole[None])
        self.index += 1
        return metrics

    def snapshot(self) -> Any:
        """A copy of all that a gradient step changes."""
        drawn = positions(self.generators)
        return copy.deepcopy(self.algorithm.state_dict()), drawn, self.index.clone()

    def restore(self, state: Any) -> None:
        """Puts a snapshot back."""
        algorithm, drawn, index = state
        self.algorithm.load_state_dict(algorithm)
        put_back(self.generators, drawn)
        self.index.copy_(index)

    # Between the host and the device -------------------------------------------------------------

    def fetch(self) -> None:
        """Brings the metrics that wait to the host."""
        self.join()
        if self.kept:
            self.fetched.append(self.history[: self.kept].to("cpu", copy=True).numpy())
            with self.alone():
                self.index.zero_()
            self.kept = 0

    def wait(self) -> None:
        """Waits until the learner's own stream has done all that was asked of it."""
        if self.stream is not None:
            self.stream.synchronize()

    def join(self) -> None:
        """Waits until the device has done all that was asked of it.

        What others do with weights and replay, in streams of their own, comes before or after.
        """
        if self.stream is not None:
            torch.cuda.synchronize(self.device)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within, the device is asked in the learner's own stream."""
        if self.stream is None:
            yield
        else:
            with torch.cuda.stream(self.stream):
                yield


def capturable(algorithm: Algorithm) -> bool:
    """Whether the algorithm's class itself, not a base of it, says that it can be recorded."""
    return bool(vars(type(algorithm)).get("capturable"))
