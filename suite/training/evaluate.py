"""Evaluation: own envs, deterministic policy, each goal exactly once, success at any step.

Nothing here touches the training envs or a generator of the algorithm. An episode is a success if
any of its steps is, which is what `metaworld.evaluation` counts too: it stops at the first success,
while this runs on, so that returns are those of whole episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from algorithms.algorithm import Algorithm
from suite.envs import ACTION_SIZE, OBSERVATION_SIZE
from suite.envs.tasks import Goal
from suite.envs.vector import VectorEnv
from suite.training.metrics import TrainingDiverged


class Evaluation(NamedTuple):
    """Outcomes of K episodes of each of T tasks."""

    successes: NDArray[np.float64]
    """[T, K], 1 or 0."""
    returns: NDArray[np.float64]
    """[T, K], sums of unscaled rewards over the whole horizon."""

    def success_rates(self) -> NDArray[np.float64]:
        """[T]."""
        rates: NDArray[np.float64] = self.successes.mean(1)
        return rates


def evaluate(
    algorithms: Sequence[Algorithm],
    envs: VectorEnv,
    goals: Sequence[Sequence[Sequence[Goal]]],
    horizon: int,
    device: torch.device,
) -> list[Evaluation]:
    """Runs the deterministic policy of each of S seeds once on every goal, [S][T][K].

    The envs hold all tasks of the first seed, then all of the second, the same number per task.
    """
    seeds, tasks, episodes = len(goals), len(goals[0]), len(goals[0][0])
    at_once = envs.envs // (seeds * tasks)
    successes, returns = np.zeros((2, seeds, tasks, episodes))
    for first in range(0, episodes, at_once):
        # In the last round some envs may have no goal left: they repeat one, uncounted.
        chosen = [min(first + i, episodes - 1) for i in range(at_once)]
        observations = envs.reset([own[k] for of_seed in goals for own in of_seed for k in chosen])
        success, total = np.zeros(envs.envs), np.zeros(envs.envs)
        for _ in range(horizon):
            seen = torch.from_numpy(observations).to(device, copy=True)
            by_seed = seen.view(seeds, tasks, at_once, OBSERVATION_SIZE)
            decided = [
                algorithm.act(own, explore=False).actions
                for algorithm, own in zip(algorithms, by_seed, strict=True)
            ]
            actions = torch.stack(decided).view(-1, ACTION_SIZE).cpu().numpy()
            if not np.isfinite(actions).all():
                raise TrainingDiverged("the deterministic policy's action is nan or infinite")
            envs.send(actions)
            observations, rewards, succeeded = envs.receive()
            total += rewards
            success = np.maximum(success, succeeded)
        count = min(at_once, episodes - first)
        window = slice(first, first + count)
        shape = (seeds, tasks, at_once)
        successes[..., window] = success.reshape(shape)[..., :count]
        returns[..., window] = total.reshape(shape)[..., :count]
    return [Evaluation(*own) for own in zip(successes, returns, strict=True)]
