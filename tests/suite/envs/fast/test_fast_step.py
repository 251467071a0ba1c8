"""The fast step, part by part and whole, against Meta-World's."""

from __future__ import annotations

from types import FunctionType

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from suite.envs.fast import step as fast_step
from suite.envs.fast.caging import CAGING_OF_TASK
from suite.envs.fast.twin import STEP_FUNCTIONS, fast_class, undecorated
from suite.envs.meta_world import make_env, reset_to_random_goal
from suite.envs.verify_env import compare_task, exact

pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # of a scripted policy's actions

# One task at least for every helper: rotations of geoms and bodies, two objects, gaussian
# tolerance, tolerance of arrays, touching, joints, static rewards, each caging reward.
SAMPLE = [
    "assembly-v3", "basketball-v3", "box-close-v3", "dial-turn-v3", "door-open-v3", "hammer-v3",
    "lever-pull-v3", "peg-insert-side-v3", "pick-place-v3", "push-back-v3", "shelf-place-v3",
    "soccer-v3", "stick-pull-v3", "stick-push-v3", "sweep-into-v3", "sweep-v3", "window-open-v3",
]  # fmt: skip


def scripted(task, steps, engine="fast", seed=0):
    """An env after `steps` of the scripted policy, which grasps, touches and moves things."""
    env = make_env(task, engine=engine)
    observation = reset_to_random_goal(env, np.random.default_rng(seed))
    policy = ENV_POLICY_MAP[task]()
    for _ in range(steps):
        observation = env.step(policy.get_action(observation))[0]
        yield env


@pytest.mark.parametrize(
    ("task", "reward_version"),
    [*((task, "v2") for task in SAMPLE), *((task, "v1") for task in SAMPLE[::4])],
)
def test_a_sample_of_the_complete_check(task, reward_version):
    assert not any(compare_task(task, reward_version, seed=2, steps=50).values())


def test_episodes_end_as_meta_worlds_do():
    for engine in ("fast", "metaworld"):
        env = make_env("reach-v3", engine=engine)
        reset_to_random_goal(env, np.random.default_rng(0))
        truncated = [env.step(np.zeros(4, np.float32))[3] for _ in range(500)]
        assert truncated == [False] * 499 + [True]
        with pytest.raises(ValueError, match="truncate==True"):
            env.step(np.zeros(4, np.float32))
        with pytest.raises(AssertionError, match="size 4"):
            env.step(np.zeros(3, np.float32))


# Each override of suite.envs.fast.step against the method of Meta-World's that it overrides, called
# on the same simulation.


@pytest.mark.parametrize("task", ["push-v3", "stick-pull-v3", "plate-slide-v3", "window-open-v3"])
def test_observation_override(task):
    for env in scripted(task, 40):
        theirs = SawyerXYZEnv._get_curr_obs_combined_no_goal(env)
        assert exact(env._get_curr_obs_combined_no_goal()) == exact(theirs)


def test_named_position_overrides():
    for env in scripted("push-v3", 5):
        assert exact(env.tcp_center) == exact(SawyerXYZEnv.tcp_center.fget(env))
        assert exact(env.get_endeff_pos()) == exact(SawyerXYZEnv.get_endeff_pos(env))
        assert exact(env.get_body_com("obj")) == exact(SawyerXYZEnv.get_body_com(env, "obj"))
        assert exact(env._get_site_pos("goal")) == exact(SawyerXYZEnv._get_site_pos(env, "goal"))


def test_views_are_live_and_copies_are_not():
    env = next(scripted("push-v3", 1))
    for attribute in ("init_left_pad", "init_right_pad"):  # "initial" only in name
        assert np.shares_memory(getattr(env, attribute), env.data.xpos)
    assert not np.shares_memory(env._get_site_pos("goal"), env.data.site_xpos)
    assert env.tcp_center is not env.tcp_center
    with pytest.raises(KeyError):
        env.get_body_com("no such body")


def test_touching_override():
    touched = []
    rng = np.random.default_rng(0)
    for env in scripted("pick-place-v3", 100):
        geom = env._get_id_main_object()
        forces = env.data.efc_force.copy()
        for _ in range(4):
            touched.append(bool(env.touching_object(geom)))
            assert touched[-1] == bool(SawyerXYZEnv.touching_object(env, geom))
            # As if some contacts pulled, and in another order of magnitude.
            env.data.efc_force[:] = forces * rng.choice([-2.0, -1.0, 1.0], len(forces))
    assert sum(touched) > 20


@pytest.mark.parametrize("task", ["push-v3", "hand-insert-v3"])
def test_main_object_override(task):
    original = ALL_V3_ENVIRONMENTS[task]._get_id_main_object
    for env in scripted(task, 1):
        assert exact(env._get_id_main_object()) == exact(original(env))


def test_a_returned_observation_is_the_callers_own():
    envs = [make_env("push-v3", engine=engine) for engine in ("metaworld", "fast")]
    for env in envs:
        reset_to_random_goal(env, np.random.default_rng(0))
        env.step(np.ones(4, np.float32))[0][:] = 0
    results = [env.step(np.ones(4, np.float32)) for env in envs]
    assert exact(results[0]) == exact(results[1])


@pytest.mark.parametrize("task", [*CAGING_OF_TASK, "push-v3"])
def test_caging_override(task):
    """Meta-World's own function, run on the fast env's simulation."""
    original = ALL_V3_ENVIRONMENTS[task]._gripper_caging_reward
    caged = []
    rng = np.random.default_rng(0)
    for step, env in enumerate(scripted(task, 60)):
        obj = env._last_stable_obs[4:7]
        # What was measured of the positions at the reset is measured again when one moves.
        name = ("obj_init_pos", "stick_init_pos", "init_tcp")[step % 3]
        if hasattr(env, name):
            setattr(env, name, getattr(env, name) + rng.uniform(-0.001, 0.001, 3))
        for action in (rng.uniform(-1, 1, 4).astype(np.float32), rng.uniform(-1, 1, 4)):
            for density in ({}, {"high_density": True}, {"medium_density": True}):
                arguments = (action, obj, 0.015, 0.05, 0.01, 0.02)
                mine = env._gripper_caging_reward(*arguments, **density)
                assert exact(mine) == exact(original(env, *arguments, **density))
                caged.append(float(mine))
    assert len(set(caged)) > 40


def test_every_caging_reward_has_a_twin():
    own = {t for t, c in ALL_V3_ENVIRONMENTS.items() if "_gripper_caging_reward" in vars(c)}
    assert own == set(CAGING_OF_TASK)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, list])
def test_mocap_override(dtype):
    envs = [make_env("reach-v3", engine=engine) for engine in ("metaworld", "fast")]
    for env in envs:
        reset_to_random_goal(env, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    # Out of the action's bounds, and long enough one way to reach the hand's.
    drawn = [*rng.uniform(-2, 2, (30, 4)), *[np.array([1, 0.999, -1, 1])] * 60]
    for action in drawn:
        action = action.tolist() if dtype is list else action.astype(dtype)
        results = [env.step(action) for env in envs]
        assert exact(results[0]) == exact(results[1])
        assert exact(envs[0].data.mocap_pos) == exact(envs[1].data.mocap_pos)


def test_simulation_has_the_bits_of_the_unmodified_model():
    """The warm start and the contact forces too: what later steps depend on."""
    envs = [make_env("pick-place-v3", engine=engine) for engine in ("metaworld", "fast")]
    observations = [reset_to_random_goal(env, np.random.default_rng(0)) for env in envs]
    policy = ENV_POLICY_MAP["pick-place-v3"]()
    for _ in range(80):
        action = policy.get_action(observations[0])
        observations = [env.step(action)[0] for env in envs]
        for field in ("qpos", "qvel", "qacc_warmstart", "efc_force", "time"):
            mine, theirs = (getattr(env.data, field) for env in reversed(envs))
            assert exact(mine) == exact(theirs), field
        for name in ("goal", "leftEndEffector"):
            mine, theirs = (env.data.site(name).xpos for env in reversed(envs))
            assert exact(mine) == exact(theirs), name


@pytest.mark.parametrize("field", ["qpos", "qvel"])
def test_an_edited_state_is_simulated_from_scratch(field):
    envs = [make_env("push-v3", engine=engine) for engine in ("metaworld", "fast")]
    for env in envs:
        reset_to_random_goal(env, np.random.default_rng(0))
        env.step(np.ones(4, np.float32))
        getattr(env.data, field)[9] += 0.01
    results = [env.step(np.ones(4, np.float32)) for env in envs]
    assert exact(results[0]) == exact(results[1])


@pytest.mark.parametrize("field", ["qpos", "qvel"])
def test_a_state_gone_astray_is_left_to_mujoco(field, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warning into a file here
    envs = [make_env("push-v3", engine=engine) for engine in ("metaworld", "fast")]
    for env in envs:
        reset_to_random_goal(env, np.random.default_rng(0))
        env.step(np.ones(4, np.float32))
        getattr(env.data, field)[9] = 1e11
        if env is envs[1]:  # as if the step itself had ended there
            env._current_at = env._motion.tobytes()
    monkeypatch.setattr(fast_step, "mj_step2", None)  # no stage may be reused
    results = [env.step(np.ones(4, np.float32)) for env in envs]
    assert exact(results[0]) == exact(results[1])


def test_every_model_has_what_the_step_assumes():
    """Euler and Newton: `mj_step2` ends a step, and no constraint matrix is to be projected."""
    for task in SAMPLE:
        model = make_env(task).model
        assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
        assert model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON
        assert not model.opt.enableflags
        assert not model.nsensor
        assert not model.na
        mocap = model.body("mocap").id
        assert model.nmocap == 1
        assert mocap not in model.geom_bodyid[model.geom_contype > 0]
        assert not model.body_dofnum[mocap]
        assert mocap not in model.body_parentid


@pytest.mark.parametrize("task", list(ALL_V3_ENVIRONMENTS))
def test_rewards_are_meta_worlds_own_code(task):
    twin, original = fast_class(task), ALL_V3_ENVIRONMENTS[task]
    assert issubclass(twin, original)
    assert twin.__name__ == original.__name__
    for name in STEP_FUNCTIONS & vars(original).keys():
        mine, theirs = vars(twin)[name], vars(original)[name]
        if isinstance(mine, staticmethod):
            mine, theirs = mine.__func__, theirs.__func__
        theirs = undecorated(theirs)
        assert isinstance(mine, FunctionType)
        assert mine is not theirs
        assert mine.__code__.co_code == theirs.__code__.co_code
        names = zip(mine.__code__.co_names, theirs.__code__.co_names, strict=True)
        changed = {pair for pair in names if pair[0] != pair[1]}
        assert changed <= {("_views", "data"), ("_views", "model")}


def test_rendering_is_refused():
    with pytest.raises(RuntimeError, match="engine metaworld"):
        make_env("reach-v3").render()
