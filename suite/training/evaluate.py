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
    algorithm: Algorithm,
    envs: VectorEnv,
    goals: Sequence[Sequence[Goal]],
    horizon: int,
    device: torch.device,
) -> Evaluation:
    """Runs the deterministic policy once on every goal, [T][K], with envs.envs / T at a time."""
    tasks, episodes = len(goals), len(goals[0])
    at_once = envs.envs // tasks
    successes, returns = np.zeros((tasks, episodes)), np.zeros((tasks, episodes))
    for first in range(0, episodes, at_once):
        # In the last round some envs may have no goal left: they repeat one, uncounted.
        chosen = [min(first + i, episodes - 1) for i in range(at_once)]
        observations = envs.reset([goals[task][k] for task in range(tasks) for k in chosen])
        success, total = np.zeros(envs.envs), np.zeros(envs.envs)
        for _ in range(horizon):
            inputs = torch.from_numpy(observations).to(device, copy=True)
            decision = algorithm.act(inputs.view(tasks, at_once, OBSERVATION_SIZE), explore=False)
            actions = decision.actions.reshape(-1, ACTION_SIZE).cpu().numpy()
            if not np.isfinite(actions).all():
                raise TrainingDiverged("the deterministic policy's action is nan or infinite")
            envs.send(actions)
            observations, rewards, succeeded = envs.receive()
            total += rewards
            success = np.maximum(success, succeeded)
        count = min(at_once, episodes - first)
        window = slice(first, first + count)
        successes[:, window] = success.reshape(tasks, at_once)[:, :count]
        returns[:, window] = total.reshape(tasks, at_once)[:, :count]
    return Evaluation(successes, returns)
