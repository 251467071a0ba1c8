"""How fast the fast engine steps against EnvPool's C++ port of Meta-World, on one core.

`pip install envpool`, then `pytest tests/perf/test_envpool_speed.py --benchmark-only -s`. EnvPool
steps eight environments a call on one thread, which spreads its cost of a call; ours step alone. It
is a reference of speed only: its goals, some rewards and some success flags are not Meta-World's.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from suite.envs.meta_world import make_env, reset_to_random_goal

envpool = pytest.importorskip("envpool", reason="envpool is not installed")
ENVS = 8
CALLS = 6  # of a turn
TURNS = 7


@pytest.fixture(autouse=True)
def one_core(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


def medians(task: str, theirs: Any) -> np.ndarray[Any, Any]:
    """Seconds a step of the fast engine and of EnvPool, in turns."""
    ours = make_env(task)
    reset_to_random_goal(ours, np.random.default_rng(0))
    theirs.reset()
    turns = np.random.default_rng(1).uniform(-1, 1, (TURNS, CALLS, ENVS, 4)).astype(np.float32)
    times = []
    for turn in turns:
        start = time.perf_counter()
        for action in turn.reshape(-1, 4):
            ours.step(action)
        middle = time.perf_counter()
        for actions in turn:
            theirs.step(actions)
        times.append((middle - start, time.perf_counter() - middle))
    median: np.ndarray[Any, Any] = np.median(times, axis=0) / (CALLS * ENVS)
    return median


@pytest.mark.parametrize(
    ("name", "tasks"), [("MT10", list(MT10_V3)), ("MT50", list(ALL_V3_ENVIRONMENTS))]
)
def test_step_against_envpool(benchmark: Any, name: str, tasks: list[str]) -> None:
    prefix = "MetaWorld/"
    ids = {
        full.removeprefix(prefix).lower(): full
        for full in envpool.list_all_envs()
        if full.startswith(prefix)
    }
    names = {task: ids.get(task.replace("-", "", task.count("-") - 1), "") for task in tasks}
    assert all(names.values()), names

    def measure() -> np.ndarray[Any, Any]:
        rows = []
        for task in tasks:
            full = names[task]
            theirs = envpool.make_gymnasium(full, num_envs=ENVS, num_threads=1, seed=0)
            rows.append(medians(task, theirs))
        return np.array(rows)

    ours, theirs = benchmark.pedantic(measure, rounds=1).T
    ratio = float(np.exp(np.log(theirs / ours).mean()))
    benchmark.extra_info.update(faster=ratio)
    print(
        f"\n{name}: {ratio:.2f}x EnvPool's step "
        f"({np.median(ours) * 1e6:.0f} µs against {np.median(theirs) * 1e6:.0f} µs)"
    )
