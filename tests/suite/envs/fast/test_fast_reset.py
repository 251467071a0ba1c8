"""Resets: exact, free of the env's history, and settled once."""

from __future__ import annotations

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from suite.envs.fast import reset as fast_reset
from suite.envs.meta_world import make_env, preset_goals, reset_to_goal, reset_to_random_goal
from suite.envs.verify_env import exact


def play(env, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    return [exact(env.step(rng.uniform(-1, 1, 4).astype(np.float32))) for _ in range(steps)]


def used(env):
    for seed in (1, 2):
        reset_to_random_goal(env, np.random.default_rng(seed))
        play(env, 15, seed)
    return env


@pytest.mark.parametrize("task", list(ALL_V3_ENVIRONMENTS))
def test_a_reset_forgets_what_came_before(task):
    """A used env of either engine goes on like a fresh one of Meta-World's."""
    fresh = make_env(task, engine="metaworld")
    first = reset_to_random_goal(fresh, np.random.default_rng(3))
    expected = [exact(first), exact(fresh._last_rand_vec), *play(fresh)]
    for env in (fresh, make_env(task, engine="fast")):
        used(env)
        first = reset_to_random_goal(env, np.random.default_rng(3))
        assert [exact(first), exact(env._last_rand_vec), *play(env)] == expected, type(env)


def test_a_reset_starts_from_the_env_as_built():
    """Whatever a task, or its user, left in attributes and fixtures: nothing of it remains."""
    goal = preset_goals(["push-v3"], seed=0)[0][0]
    fresh, env = make_env("push-v3"), make_env("push-v3")
    env.left_behind = True
    env.hand_init_pos = env.hand_init_pos + 0.05
    env.model.body("obj").pos[2] += 0.1
    assert exact(reset_to_goal(env, goal)) == exact(reset_to_goal(fresh, goal))
    assert play(env) == play(fresh)
    assert not hasattr(env, "left_behind")


@pytest.mark.parametrize("task", ["push-v3", "door-lock-v3", "basketball-v3", "assembly-v3"])
def test_a_known_goal_is_restored(task):
    goals = preset_goals([task], seed=0)[0][:2]
    for reward_version in ("v1", "v2"):
        reference = make_env(task, reward_version, "metaworld")
        env = make_env(task, reward_version)
        for goal in (goals[0], goals[1], goals[0], goals[1]):
            pair = [reset_to_goal(each, goal) for each in (reference, env)]
            assert exact(pair[0]) == exact(pair[1])
            assert exact(env.tcp_center) == exact(reference.tcp_center)
            assert play(reference) == play(env)
        assert len(env._kept) == 2


def test_a_known_goal_costs_no_physics(monkeypatch):
    env = make_env("reach-v3")
    goal = preset_goals(["reach-v3"], seed=0)[0][0]
    first = reset_to_goal(env, goal)
    play(env)
    monkeypatch.setattr(fast_reset, "mj_step", None)
    again = reset_to_goal(env, goal)
    assert exact(again) == exact(first)
    again[:] = 0  # the caller's own
    assert exact(reset_to_goal(env, goal)) == exact(first)


def test_the_goals_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(fast_reset, "KEPT_GOALS", 3)
    env = make_env("reach-v3")
    goals = preset_goals(["reach-v3"], seed=0)[0][:5]
    for goal in (*goals, goals[0]):
        reset_to_goal(env, goal)
    assert len(env._kept) == 3


def test_a_goal_is_kept_by_reward_version():
    goal = preset_goals(["assembly-v3"], seed=0)[0][0]
    env, reference = make_env("assembly-v3", "v2"), make_env("assembly-v3", "v2", "metaworld")
    for reward_version in ("v2", "v1", "v2"):
        for each in (env, reference):
            each.reward_function_version = reward_version
            reset_to_goal(each, goal)
        assert play(env) == play(reference)


def test_settling_is_meta_worlds_loop():
    """One long `mj_step` against 50 of five; the scripted first pass does not matter."""
    theirs, mine = make_env("push-v3", engine="metaworld"), make_env("push-v3")
    SawyerXYZEnv._reset_hand(theirs)
    mine._reset_hand()
    for field in ("qpos", "qvel", "qacc_warmstart", "time"):
        assert exact(getattr(mine.data, field)) == exact(getattr(theirs.data, field)), field
    for name in ("hand", "leftpad", "obj"):
        assert exact(mine.data.body(name).xpos) == exact(theirs.data.body(name).xpos), name
    assert exact(mine.init_tcp) == exact(theirs.init_tcp)


@pytest.mark.parametrize("task", ["push-v3", "window-open-v3"])
def test_the_same_fixtures_are_settled_once(task, monkeypatch):
    env = make_env(task)
    reset_to_random_goal(env, np.random.default_rng(0))
    steps = []
    monkeypatch.setattr(fast_reset, "mj_step", lambda model, data, n: steps.append(n))
    reset_to_random_goal(env, np.random.default_rng(1))
    assert steps == ([1] if task == "push-v3" else [249, 1])


def test_a_goal_that_the_task_rejects_is_an_error():
    env = make_env("push-v3")
    with pytest.raises(ValueError, match="cannot have the goal"):
        reset_to_goal(env, np.array([0.0, 0.6, 0.02, 0.0, 0.61, 0.02]))
    goal = preset_goals(["push-v3"], seed=0)[0][0]
    reference = make_env("push-v3", engine="metaworld")
    assert exact(reset_to_goal(env, goal)) == exact(reset_to_goal(reference, goal))


def test_the_goal_given_is_copied():
    goal = preset_goals(["reach-v3"], seed=0)[0][0]
    for engine in ("fast", "metaworld"):
        env = make_env("reach-v3", engine=engine)
        mutable = goal.copy()
        reset_to_goal(env, mutable)
        mutable[:] = 0
        np.testing.assert_array_equal(env._last_rand_vec, goal)
        np.testing.assert_array_equal(env._target_pos, goal[3:])
