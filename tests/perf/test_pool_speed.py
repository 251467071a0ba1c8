"""How fast the worker pool steps MT10, against gymnasium's AsyncVectorEnv on the same cores.

`make perf`, or `pytest tests/perf/test_pool_speed.py --benchmark-only -s`. Taken in turns, so that
a machine whose speed drifts shifts both; the medians' ratio is what counts.
"""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import metaworld  # noqa: F401 - registers Meta-World's vector envs
import numpy as np

from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv

STEPS = 100
TURNS = 7


def test_pool_against_async_vector_env(benchmark: Any) -> None:
    goals = Goals("MT10", "preset", 0, 0, "fast")
    pool = VectorEnv(goals.names, 1, "v2", "fast")
    pool.reset(goals.training(0, 1))
    theirs = gym.make_vec("Meta-World/MT10", vector_strategy="async", seed=0)
    theirs.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 10, 4)).astype(np.float32)

    def ours_turn() -> float:
        pool.reset(goals.training(0, 1))
        start = time.perf_counter()
        for action in actions:
            pool.send(action)
            pool.receive()
        return time.perf_counter() - start

    def theirs_turn() -> float:
        theirs.reset()
        start = time.perf_counter()
        for action in actions:
            theirs.step(action)
        return time.perf_counter() - start

    def measure() -> np.ndarray[Any, Any]:
        return np.median([[ours_turn(), theirs_turn()] for _ in range(TURNS)], axis=0)

    ours, other = benchmark.pedantic(measure, rounds=1)
    pool.close()
    theirs.close()
    benchmark.extra_info.update(faster=other / ours, steps_per_second=10 * STEPS / ours)
    print(
        f"\nMT10 on {len(os.sched_getaffinity(0))} cores: {10 * STEPS / ours:,.0f} env steps/s, "
        f"AsyncVectorEnv {10 * STEPS / other:,.0f}: {other / ours:.2f}x"
    )
