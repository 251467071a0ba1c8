"""Evaluation: own envs, each goal exactly once, success at any step.

Nothing here touches the training envs or what training draws from; a method acts by its mode or,
where `Algorithm.evaluated_by` says so, by sampling, with a generator for that alone. An episode is
a success if any of its steps is, which is what `metaworld.evaluation` counts too: it stops at the
first success, while this runs on, so that returns are those of whole episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from algorithms.algorithm import Algorithm
from suite.envs import ACTION_SIZE, EVALUATION_ENVS, OBSERVATION_SIZE
from suite.envs.tasks import Goal
from suite.envs.vector import VectorEnv
from suite.training.capture import Captured, Results, positions, put_back
from suite.training.learner import capturable
from suite.training.metrics import TrainingDiverged


class Policy:
    """What an algorithm is evaluated by, in N envs per task; on a GPU one CUDA graph."""

    def __init__(
        self,
        algorithm: Algorithm,
        tasks: int,
        device: torch.device,
        envs_per_task: int = EVALUATION_ENVS,
    ) -> None:
        self.algorithm, shape, on_gpu = algorithm, (tasks, envs_per_task), device.type == "cuda"
        self.observations = torch.zeros(*shape, OBSERVATION_SIZE, pin_memory=on_gpu)
        """The newest observations, on the host."""
        self.seen = self.observations.to(device)
        """The same on the device; on the CPU the same memory."""
        self.actions = torch.zeros(*shape, ACTION_SIZE, pin_memory=on_gpu)
        """What was decided, on the host."""
        self.stream = torch.cuda.current_stream(device) if on_gpu else None
        drawn = [own for name, own in algorithm.generators.items() if name == "evaluation"]
        self.deciding = Captured(
            "acting in evaluations",
            self.decide,
            drawn,
            partial(positions, drawn),
            partial(put_back, drawn),
            on_gpu and capturable(algorithm),
        )

    def act(self) -> None:
        """Starts deciding on `observations`."""
        self.deciding()

    def decided(self) -> NDArray[np.float32]:
        """The actions [T, N, 4] that `act` decided, as a view; waits for them."""
        if self.stream is not None:
            self.stream.synchronize()
        return self.actions.numpy()

    def decide(self) -> Results:
        """`act` itself."""
        self.seen.copy_(self.observations, non_blocking=True)
        actions = self.algorithm.act(self.seen, explore=False).actions
        self.actions.copy_(actions, non_blocking=True)
        return {"actions": actions}


class Evaluation(NamedTuple):
    """Outcomes of K episodes of each of T tasks."""

    successes: NDArray[np.float64]
    """[T, K], 1 or 0."""
    returns: NDArray[np.float64]
    """[T, K], sums of unscaled rewards over the whole horizon."""


def evaluate(
    policies: Sequence[Policy],
    envs: VectorEnv,
    goals: Sequence[Sequence[Sequence[Goal]]],
    horizon: int,
) -> list[Evaluation]:
    """Runs the policy of each of S seeds once on every goal, [S][T][K].

    The envs hold all tasks of the first seed, then all of the second, the same number per task.
    Their parts take turns: while one steps, the actions of the other are decided.
    """
    seeds, tasks, episodes = len(goals), len(goals[0]), len(goals[0][0])
    at_once = envs.envs // (seeds * tasks)
    successes, returns = np.zeros((2, seeds, tasks, episodes))
    observed = np.zeros((envs.envs, OBSERVATION_SIZE), np.float32)
    shape = (seeds, tasks, at_once)
    for first in range(0, episodes, at_once):
        # In the last round some envs may have no goal left: they repeat one, uncounted.
        chosen = [min(first + i, episodes - 1) for i in range(at_once)]
        observed[:] = envs.reset([own[k] for of_seed in goals for own in of_seed for k in chosen])
        success, total = np.zeros(envs.envs), np.zeros(envs.envs)
        for step in range(horizon + 1):
            for part, places in enumerate(envs.parts):
                if step > 0:
                    found = envs.receive()
                    observed[places] = found.observations[places]
                    total[places] += found.rewards[places]
                    success[places] = np.maximum(success[places], found.successes[places])
                if step < horizon:
                    actions = decide(policies, observed.reshape(*shape, -1))
                    check(actions, envs)
                    envs.send(actions, part)
        count = min(at_once, episodes - first)
        window = slice(first, first + count)
        successes[..., window] = success.reshape(shape)[..., :count]
        returns[..., window] = total.reshape(shape)[..., :count]
    return [Evaluation(*own) for own in zip(successes, returns, strict=True)]


def decide(policies: Sequence[Policy], observed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each policy's actions, together [E, 4], on what its envs show, [S, T, N, 39].

    Of all envs, also where a part of them is sent: rows are so few that the other part's cost
    little, and of one shape they round alike.
    """
    for policy, own in zip(policies, observed, strict=True):
        policy.observations.numpy()[:] = own
        policy.act()
    actions = np.stack([policy.decided() for policy in policies])
    return actions.reshape(-1, ACTION_SIZE)


def check(actions: NDArray[np.float32], envs: VectorEnv) -> None:
    """Raises TrainingDiverged, naming task and env step, for actions [E, 4] that are not finite."""
    finite = np.isfinite(actions)
    if not finite.all():
        label = envs.labels[int(np.flatnonzero(~finite.all(1))[0])]
        raise TrainingDiverged(f"action of {label} is nan or infinite in {envs.episode}")
