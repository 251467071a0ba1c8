"""How fast the fast engine steps, resets and builds, as ratios taken interleaved on one core.

`pytest tests/perf/test_env_speed.py --benchmark-only -s`. The floor is `5 x mj_step + mj_forward`
of Meta-World's unmodified model under the same actions.
"""

from __future__ import annotations

import shutil
import time

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from suite.envs.meta_world import make_env, preset_goals, reset_to_goal, reset_to_random_goal

pytest.importorskip("pytest_benchmark")
STEPS = 50  # of a turn
TURNS = 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def step(env, actions):
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return time.perf_counter() - start


def physics(env, actions):
    spent = 0.0
    for action in actions:
        env.set_xyz_action(action[:3])
        env.data.ctrl[:] = (action[3], -action[3])
        start = time.perf_counter()
        mujoco.mj_step(env.model, env.data, 5)
        mujoco.mj_forward(env.model, env.data)
        spent += time.perf_counter() - start
    return spent


def medians(task, reward_version):
    """Seconds a step of Meta-World, of the fast engine and of the floor, in turns."""
    kinds = (("metaworld", step), ("fast", step), ("metaworld", physics))
    envs = [make_env(task, reward_version, engine) for engine, _ in kinds]
    for env in envs:
        reset_to_random_goal(env, np.random.default_rng(0))
    actions = np.random.default_rng(1).uniform(-1, 1, (TURNS, STEPS, 4)).astype(np.float32)
    times = [
        [work(env, turn) / STEPS for env, (_, work) in zip(envs, kinds, strict=True)]
        for turn in actions
    ]
    return np.median(times, axis=0)


def geometric_mean(ratios):
    return float(np.exp(np.log(ratios).mean()))


@pytest.mark.parametrize(
    ("name", "tasks", "reward_version"),
    [
        ("MT10", list(MT10_V3), "v2"),
        ("MT10", list(MT10_V3), "v1"),
        ("MT50", list(ALL_V3_ENVIRONMENTS), "v2"),
    ],
)
def test_step(benchmark, name, tasks, reward_version):
    def measure():
        return np.array([medians(task, reward_version) for task in tasks])

    metaworld, fast, floor = benchmark.pedantic(measure, rounds=1).T
    faster, above = geometric_mean(metaworld / fast), geometric_mean(fast / floor)
    benchmark.extra_info.update(faster=faster, above_floor=above)
    print(f"\n{name} {reward_version}: {faster:.2f}x Meta-World's step, {above:.2f} of the floor")


def test_reset_to_a_known_goal(benchmark):
    env = make_env("door-open-v3")
    goal = preset_goals(["door-open-v3"], seed=0)[0][0]
    reset_to_goal(env, goal)
    benchmark(reset_to_goal, env, goal)
    print(f"\nknown goal: {benchmark.stats['median'] * 1e3:.3f} ms")


def test_reset_to_a_new_goal(benchmark):
    """Of the tasks that move fixtures, where nothing can be kept; MT50's mean."""
    generator = np.random.default_rng(0)
    envs = [make_env(task) for task in ALL_V3_ENVIRONMENTS]
    for env in envs:
        reset_to_random_goal(env, generator)

    def reset_all():
        for env in envs:
            reset_to_random_goal(env, generator)

    benchmark.pedantic(reset_all, rounds=3)
    mean = benchmark.stats["median"] / len(envs)
    print(f"\nnew goal: {mean * 1e3:.2f} ms")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("count", [10, 50])
def test_building_envs_and_goals(benchmark, tmp_path, count, cached):
    from suite.envs.fast.model import _compiled
    from suite.envs.fast.twin import fast_class

    tasks = list(MT10_V3) if count == 10 else list(ALL_V3_ENVIRONMENTS)

    def build():
        _compiled.cache_clear()
        fast_class.cache_clear()
        for task in tasks:
            make_env(task)
        preset_goals(tasks, seed=0)

    def forget():
        if not cached:
            shutil.rmtree(tmp_path / "mtscale", ignore_errors=True)

    build()
    benchmark.pedantic(build, setup=forget, rounds=3)
    how = "from the cache" if cached else "the first time"
    print(f"\nMT{count}: built, with its goals, in {benchmark.stats['median']:.2f} s {how}")


def test_goals_from_the_cache(benchmark):
    tasks = list(ALL_V3_ENVIRONMENTS)
    preset_goals(tasks, seed=0)
    benchmark(preset_goals, tasks, 0)
