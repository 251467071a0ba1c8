"""The interface of suite.envs.meta_world: engines, goals, and what they leave alone."""

from __future__ import annotations

import subprocess
import sys

import metaworld
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from suite.envs import cache, goals
from suite.envs.fast import model as fast_model
from suite.envs.fast import verified
from suite.envs.meta_world import (
    ENGINES,
    EngineError,
    check_engine,
    make_env,
    preset_goals,
    reset_to_goal,
    reset_to_random_goal,
)
from suite.envs.verify_env import exact


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def fresh_verdict():
    verified.reason_to_refuse.cache_clear()
    yield
    verified.reason_to_refuse.cache_clear()


@pytest.mark.parametrize("engine", ENGINES)
def test_both_engines_follow_meta_worlds_own_task_api(engine):
    task = metaworld.MT1("window-close-v3", seed=3).train_tasks[7]
    theirs = ALL_V3_ENVIRONMENTS["window-close-v3"]()
    theirs.set_task(task)
    mine = make_env("window-close-v3", engine=engine)
    mine.set_task(task)
    for env in (theirs, mine):
        env.reset()
    action = np.full(4, 0.5, np.float32)
    assert exact(mine.step(action)) == exact(theirs.step(action))


def test_metaworld_engine_is_meta_worlds_own_class():
    assert type(make_env("reach-v3", engine="metaworld")) is ALL_V3_ENVIRONMENTS["reach-v3"]


@pytest.mark.parametrize("engine", ENGINES)
def test_goals_are_visible(engine):
    env = make_env("reach-v3", engine=engine)
    observation = reset_to_goal(env, np.array([0.0, 0.6, 0.02, 0.1, 0.8, 0.1]))
    assert observation.shape == (39,)
    np.testing.assert_array_equal(observation[-3:], [0.1, 0.8, 0.1])


def test_random_goals_come_from_the_generator_as_in_meta_world():
    drawn = []
    for engine in ENGINES:
        generator = np.random.default_rng(5)
        env = make_env("sweep-into-v3", engine=engine)  # a task that rejects some goals
        reset_to_random_goal(env, generator)
        reset_to_random_goal(env, generator)
        drawn.append((exact(env._last_rand_vec), generator.random()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("package", "number"), [("mujoco", "3.4.0"), ("metaworld", "3.0.0"), ("metaworld", "none")]
)
def test_other_versions_are_refused_in_one_line(package, number, monkeypatch, fresh_verdict):
    real = verified.installed
    monkeypatch.setattr(verified, "installed", lambda p: number if p == package else real(p))
    with pytest.raises(EngineError) as refusal:
        check_engine("fast")
    text = str(refusal.value)
    assert "\n" not in text
    for part in ("mujoco==3.3.0", "metaworld==3.1.1", f"{package}=={number}", "--engine metaworld"):
        assert part in text
    check_engine("metaworld")


def test_an_edited_meta_world_is_refused(monkeypatch, fresh_verdict):
    monkeypatch.setattr(verified, "FINGERPRINT", "0" * 16)
    with pytest.raises(EngineError, match=r"source was changed.*--engine metaworld"):
        make_env("reach-v3")


def test_other_arithmetic_is_refused(monkeypatch, fresh_verdict):
    from suite.envs.fast import scalar

    monkeypatch.setattr(scalar, "norm", lambda x: float(np.linalg.norm(x)) * (1 + 1e-15))
    with pytest.raises(EngineError, match=r"norm differs.*--engine metaworld"):
        check_engine("fast")


def test_unknown_names_are_refused():
    with pytest.raises(EngineError, match="fast, metaworld"):
        check_engine("quick")
    with pytest.raises(ValueError, match="reach-v9"):
        make_env("reach-v9")
    with pytest.raises(ValueError, match="v3"):
        make_env("reach-v3", "v3")


def test_preset_goals_are_those_of_meta_world():
    tasks = list(MT10_V3)[2:4]
    made = preset_goals(tasks, seed=11)
    assert [g.shape for g in made] == [(50, 6), (50, 3)]
    assert exact(made) == exact(preset_goals(tasks, seed=11, engine="metaworld"))


def test_preset_goals_are_read_from_the_cache(monkeypatch):
    made = preset_goals(["reach-v3"], seed=0)
    monkeypatch.setattr(goals, "drawn_preset_goals", None)
    assert exact(preset_goals(["reach-v3"], seed=0)) == exact(made)
    with pytest.raises(TypeError):
        preset_goals(["reach-v3"], seed=1)


def test_a_broken_cache_file_is_made_again():
    made = preset_goals(["reach-v3"], seed=0)
    file = cache.cache_file("goals", goals._key(["reach-v3"], 0))
    file.write_bytes(file.read_bytes()[:100])
    assert exact(preset_goals(["reach-v3"], seed=0)) == exact(made)
    assert goals.load_goals(["reach-v3"], 0) is not None
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_unwritable_cache_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(preset_goals(["reach-v3"], seed=0)[0]) == 50


@pytest.mark.parametrize(
    "damage", [lambda data: data, lambda data: data[:-1] + b"x", lambda _: b""]
)
def test_a_model_from_the_cache_has_the_bits_of_a_compiled_one(damage):
    path = ALL_V3_ENVIRONMENTS["hammer-v3"].model_name.fget(None)
    fast_model._compiled.cache_clear()
    compiled = fast_model._compiled(path)
    (file,) = cache.cache_file("goals", []).parents[1].glob("models/*")
    file.write_bytes(damage(file.read_bytes()))
    fast_model._compiled.cache_clear()
    loaded = fast_model._compiled(path)
    for name in dir(compiled):
        value = getattr(compiled, name)
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, getattr(loaded, name), equal_nan=True), name
    assert (loaded.names, loaded.nq, loaded.ngeom) == (compiled.names, compiled.nq, compiled.ngeom)


def test_a_model_is_not_compiled_twice(monkeypatch):
    path = ALL_V3_ENVIRONMENTS["reach-v3"].model_name.fget(None)
    fast_model._compiled.cache_clear()
    fast_model._compiled(path)
    fast_model._compiled.cache_clear()
    monkeypatch.setattr(fast_model, "compile_model", None)
    fast_model._compiled(path)


def test_the_engine_changes_nothing_outside_itself():
    state = np.random.get_state()  # noqa: NPY002
    before = {
        (owner, name): value
        for owner in (metaworld.sawyer_xyz_env, metaworld.utils.reward_utils, SawyerXYZEnv)
        for name, value in vars(owner).items()
    }
    norm, clip, hstack = np.linalg.norm, np.clip, np.hstack
    env = make_env("push-v3")
    reset_to_goal(env, preset_goals(["push-v3"], seed=0)[0][0])
    env.step(np.zeros(4, np.float32))
    assert exact(list(np.random.get_state())) == exact(list(state))  # noqa: NPY002
    assert all(vars(owner)[name] is value for (owner, name), value in before.items())
    assert (np.linalg.norm, np.clip, np.hstack) == (norm, clip, hstack)
    task = ALL_V3_ENVIRONMENTS["push-v3"]
    module = sys.modules[task.__module__]
    assert module.np is np
    assert module.SawyerPushEnvV3 is task
    assert module.Rotation.__module__.startswith("scipy")


def test_the_interface_imports_neither_meta_world_nor_torch():
    heavy = {"metaworld", "torch", "mujoco"}
    code = f"import suite.envs.meta_world, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
