"""The batch that plasticity is measured on: the same number of transitions for every task set.

Half of each task's transitions come from uniform random actions and half from Meta-World's own
scripted policy, so that the states of an untrained and of a solving agent are both seen. It depends
on the tasks, their preset goals and the seed of the goals, never on the algorithm.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from algorithms.algorithm import Batch
from suite.envs.meta_world import make_env, reset_to_goal, reset_to_random_goal
from suite.randomness import stream
from suite.training.replay import WIDTH, unpack

EPISODE = 200
"""Steps of a probe episode; fewer where the run's horizon is shorter."""

Policy = Callable[[NDArray[np.float64]], Any]


def probe_batch(
    tasks: Sequence[str],
    goals: Sequence[NDArray[np.float64]],
    size: int,
    horizon: int,
    reward_version: str,
    engine: str,
    device: torch.device,
) -> Batch:
    """`size` // T transitions of each task, [T, size // T, ...]; no extras.

    `goals` are arrays [K, d] of goals to take in turn, or empty for fresh ones.
    """
    from metaworld.policies import ENV_POLICY_MAP

    each, length = size // len(tasks), min(horizon, EPISODE)
    rows = np.zeros((len(tasks), each, WIDTH), np.float32)
    for t, name in enumerate(tasks):
        env = make_env(name, reward_version, engine)
        random = stream(0, "probe", name)
        vectors = list(goals[t]) if len(goals) else []
        scripted: Any = ENV_POLICY_MAP[name]
        half = each // 2

        def uniform(_: Any, random: np.random.Generator = random) -> Any:
            return random.uniform(-1, 1, 4)

        for policy, part in ((uniform, slice(0, half)), (scripted().get_action, slice(half, each))):
            count = part.stop - part.start
            with warnings.catch_warnings():
                # The scripted policies ask for more than the action space holds.
                warnings.filterwarnings("ignore", "Constant.s. may be too high")
                rows[t, part] = transitions(env, policy, vectors, random, count, length)
    return unpack(torch.from_numpy(rows).to(device), {})


def transitions(
    env: Any,
    policy: Policy,
    goals: list[NDArray[np.float64]],
    random: np.random.Generator,
    count: int,
    length: int,
) -> NDArray[np.float32]:
    """`count` packed transitions, evenly spaced over as few episodes as hold them."""
    episodes = math.ceil(count / length)
    rows = np.zeros((episodes * length, WIDTH), np.float32)
    for episode in range(episodes):
        if goals:
            observation = reset_to_goal(env, goals[episode % len(goals)])
        else:
            observation = reset_to_random_goal(env, random)
        for step in range(length):
            action = np.clip(policy(observation), -1, 1).astype(np.float32)
            following, reward, _, _, _ = env.step(action)
            end = [reward, float(step == length - 1)]
            rows[episode * length + step] = np.concatenate([observation, action, end, following])
            observation = following
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)] if count else rows[:0]
