"""The contract, for every algorithm in the registry, and how algorithms are found."""

from __future__ import annotations

import ast
import dataclasses
import io
import random as python_random
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from algorithms.draws import Draws
from torch import Tensor

import algorithms
from algorithms import ALGORITHMS, algorithm_names, load, path_of
from algorithms.algorithm import Algorithm, Batch, Outcomes, Problem

every_algorithm = pytest.mark.parametrize("name", list(ALGORITHMS))

T, N, B = 3, 2, 6
Build, Collect = Callable[..., Any], Callable[..., Batch]


def observations(samples: int = N, seed: int = 0) -> Tensor:
    return torch.randn(T, samples, 39, generator=torch.Generator().manual_seed(seed))


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists, by path."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in pairs for k, v in flat(value, f"{path}/{key}").items()}
    return {path: state}


def saved(state: Any) -> dict[str, Any]:
    """What a checkpoint would bring back; also a copy that shares no memory."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def differences(one: Any, other: Any) -> list[str]:
    """Paths at which two states are not identical to the bit."""
    a, b = flat(one), flat(other)
    assert a.keys() == b.keys()

    def same(x: Any, y: Any) -> bool:
        return torch.equal(x, y) if isinstance(x, Tensor) else x == y

    return [path for path in a if not same(a[path], b[path])]


def returns_of(episode: int, envs: int = N) -> Outcomes:
    values = np.random.default_rng(episode).normal(size=(T, envs))
    return Outcomes(torch.from_numpy(values), torch.from_numpy((values > 0.5).astype(np.float64)))


def train(algorithm: Any, collect: Collect, steps: int, start: int = 0) -> list[Any]:
    """Acts, learns and ends episodes; everything that it sees on the way."""
    seen: list[Any] = []
    for step in range(start, start + steps):
        decision = algorithm.act(observations(seed=step), explore=True)
        metrics = algorithm.update(collect(algorithm, samples=B, seed=step))
        algorithm.end_episodes(returns_of(step))
        mode = algorithm.act(observations(seed=step), explore=False)
        # Copies: a metric may be a view of something that changes.
        metrics = {k: v.clone() for k, v in metrics.items()}
        seen.append([decision.actions, dict(decision.extras), metrics, mode.actions])
    return seen


# Acting --------------------------------------------------------------------------------------


@every_algorithm
@pytest.mark.parametrize("explore", [True, False])
def test_actions_are_finite_and_in_range(name: str, explore: bool, build: Build) -> None:
    actions = build(name, envs=N).act(100 * observations(), explore).actions
    assert actions.shape == (T, N, 4)
    assert actions.dtype == torch.float32
    assert actions.isfinite().all()
    assert actions.abs().max() <= 1
    assert not actions.requires_grad


@every_algorithm
def test_the_mode_does_not_depend_on_chance_nor_on_the_number_of_samples(
    name: str, build: Build
) -> None:
    algorithm = build(name)
    x = observations(samples=7)
    first = algorithm.act(x, explore=False).actions
    algorithm.act(observations(), explore=True)
    assert torch.equal(algorithm.act(x, explore=False).actions, first)
    alone = algorithm.act(x[:, 3:4], explore=False).actions
    torch.testing.assert_close(alone, first[:, 3:4])


@every_algorithm
def test_acting_for_evaluation_changes_no_state(name: str, build: Build) -> None:
    algorithm = build(name)
    before = saved(algorithm.state_dict())
    algorithm.act(observations(), explore=False)
    assert differences(algorithm.state_dict(), before) == []


@every_algorithm
def test_exploration_is_noisy(name: str, build: Build) -> None:
    algorithm = build(name)
    first, second = (algorithm.act(observations(), explore=True).actions for _ in range(2))
    assert not torch.equal(first, second)


@every_algorithm
def test_exploring_returns_the_extras_that_are_declared(name: str, build: Build) -> None:
    algorithm = build(name)
    extras = algorithm.act(observations(), explore=True).extras
    assert extras.keys() == algorithm.extras.keys()
    for key, (shape, dtype) in algorithm.extras.items():
        assert extras[key].shape == (T, N, *shape)
        assert extras[key].dtype == dtype


# Learning ------------------------------------------------------------------------------------


@every_algorithm
def test_update_returns_finite_metrics_a_task_or_a_scalar(
    name: str, build: Build, collect: Collect
) -> None:
    algorithm = build(name)
    for step in range(3):
        metrics = algorithm.update(collect(algorithm, seed=step))
        assert metrics
        for key, value in metrics.items():
            assert value.shape in {(T,), ()}, key
            assert value.isfinite().all(), key
            assert not value.requires_grad, key


@every_algorithm
def test_update_trains_everything_there_is_to_train(
    name: str, build: Build, collect: Collect
) -> None:
    algorithm = build(name)
    before = saved(algorithm.state_dict())
    for step in range(2):
        algorithm.update(collect(algorithm, seed=step))
    after = algorithm.state_dict()
    for part in ("actor", "critic", "target"):
        for key, value in after[part].items():
            assert not torch.equal(value, before[part][key]), f"{part}.{key}"
    assert (after["log_temperature"] != before["log_temperature"]).all()


@every_algorithm
def test_update_does_not_write_into_the_batch(name: str, build: Build, collect: Collect) -> None:
    algorithm = build(name)
    batch = collect(algorithm)
    copy = [*(x.clone() for x in batch[:5]), {k: v.clone() for k, v in batch.extras.items()}]
    algorithm.update(batch)
    assert differences([*batch[:5], dict(batch.extras)], copy) == []


@every_algorithm
def test_one_task_and_one_env_suffice(name: str, build: Build, collect: Collect) -> None:
    algorithm = build(name, tasks=1, envs=1)
    metrics = algorithm.update(collect(algorithm))
    assert all(value.isfinite().all() for value in metrics.values())


@every_algorithm
def test_end_episodes_accepts_outcomes_and_leaves_a_working_algorithm(
    name: str, build: Build, collect: Collect
) -> None:
    algorithm = build(name)
    for episode in range(30):
        algorithm.end_episodes(returns_of(episode))
    algorithm.update(collect(algorithm))
    assert algorithm.act(observations(), explore=False).actions.isfinite().all()


@every_algorithm
def test_report_has_a_value_a_task_and_changes_nothing(
    name: str, build: Build, collect: Collect
) -> None:
    algorithm = build(name)
    batch = collect(algorithm)
    train(algorithm, collect, 4)
    before = saved(algorithm.state_dict())
    report = algorithm.report(batch._replace(extras={}))
    assert all(len(values) == T for values in report.values())
    assert all(isinstance(v, float) for values in report.values() for v in values)
    assert differences(algorithm.state_dict(), before) == []


# Randomness ----------------------------------------------------------------------------------


@every_algorithm
def test_the_seed_decides_everything(name: str, build: Build, collect: Collect) -> None:
    runs, states = [], []
    for seed in (0, 0, 1):
        algorithm = build(name, seed=seed)
        runs.append(train(algorithm, collect, 4))
        states.append(saved(algorithm.state_dict()))
    assert differences(runs[0], runs[1]) == []
    assert differences(states[0], states[1]) == []
    assert not torch.equal(runs[0][0][0], runs[2][0][0])
    networks = [s for s in differences(states[0], states[2]) if s.startswith(("/actor", "/critic"))]
    weights = [k for k in flat(states[0]) if k.startswith(("/actor", "/critic"))]
    assert networks == weights, "another seed must change every weight"


@every_algorithm
def test_no_global_generator_is_used_or_changed(name: str, build: Build, collect: Collect) -> None:
    def run(global_seed: int) -> list[Any]:
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002 - the global generator is the point
        python_random.seed(global_seed)
        before = global_states()
        algorithm = build(name)
        seen = train(algorithm, collect, 3)
        algorithm.probe(collect(algorithm), 0)
        algorithm.load_state_dict(saved(algorithm.state_dict()))
        assert global_states() == before
        return seen

    def global_states() -> list[Any]:
        numpy_state = np.random.get_state()  # noqa: NPY002
        return [
            torch.get_rng_state().tolist(),
            numpy_state[1].tolist(),
            numpy_state[2],
            python_random.getstate(),
        ]

    # What they return is checked too: reading a global generator need not change it.
    assert differences(run(1), run(2)) == []


def test_generators_depend_on_seed_and_purpose_alone() -> None:
    def draw(seed: int, purpose: str, tasks: tuple[str, ...] = ("a",)) -> list[float]:
        (own,) = Draws.of(Problem(tasks, 1, seed), purpose).generators
        return torch.rand(4, generator=own).tolist()

    assert draw(0, "init") == draw(0, "init", ("b", "c"))
    assert draw(0, "init") != draw(1, "init")
    assert draw(0, "init") != draw(0, "exploration")
    # "1/1x" and "11/x" must not run together.
    assert draw(1, "1/x") != draw(11, "x")


# Saving --------------------------------------------------------------------------------------


@every_algorithm
def test_a_saved_algorithm_continues_to_the_bit(name: str, build: Build, collect: Collect) -> None:
    original = build(name)
    train(original, collect, 5)
    state = saved(original.state_dict())
    # Another seed, so that everything that matters must come from the state.
    restored = build(name, seed=99)
    restored.load_state_dict(state)
    assert differences(restored.state_dict(), original.state_dict()) == []
    assert (
        differences(train(restored, collect, 3, start=5), train(original, collect, 3, start=5))
        == []
    )
    assert differences(restored.state_dict(), original.state_dict()) == []


@every_algorithm
def test_a_newborn_algorithm_can_be_saved(name: str, build: Build, collect: Collect) -> None:
    original, restored = build(name), build(name, seed=99)
    restored.load_state_dict(saved(original.state_dict()))
    assert differences(train(restored, collect, 2), train(original, collect, 2)) == []


@every_algorithm
def test_saving_changes_nothing(name: str, build: Build, collect: Collect) -> None:
    plain, watched = build(name), build(name)
    seen = train(plain, collect, 3)
    again = []
    for step in range(3):
        saved(watched.state_dict())
        again += train(watched, collect, 1, start=step)
    assert differences(seen, again) == []


# What is loaded must be the loader's own, also where no file lies between the two.
@every_algorithm
def test_a_loaded_state_is_a_copy(name: str, build: Build, collect: Collect) -> None:
    original, restored = build(name), build(name, seed=99)
    train(original, collect, 2)
    restored.load_state_dict(original.state_dict())
    before = saved(original.state_dict())
    train(restored, collect, 1)
    assert differences(original.state_dict(), before) == []


# Looking in ----------------------------------------------------------------------------------


@every_algorithm
@pytest.mark.parametrize("with_extras", [True, False])
def test_probe_shows_units_weights_and_gradients(
    name: str, with_extras: bool, build: Build, collect: Collect
) -> None:
    algorithm = build(name)
    train(algorithm, collect, 2)
    batch = collect(algorithm)
    probes = algorithm.probe(batch if with_extras else batch._replace(extras={}), 0)
    assert probes.keys() >= {"actor", "critic_0", "critic_1"}
    for network, probe in probes.items():
        assert probe.activations, network
        for layer, units in probe.activations.items():
            assert units.dim() == 2, (network, layer)
            assert units.shape[0] == T * B, (network, layer)
            assert units.isfinite().all()
        assert probe.gradients.keys() == probe.weights.keys()
        for layer, gradient in probe.gradients.items():
            assert gradient.shape == probe.weights[layer].shape
            assert gradient.isfinite().all()
            assert gradient.any() or network == "actor", (network, layer)
        assert any(gradient.any() for gradient in probe.gradients.values())
    counts = algorithm.parameter_counts()
    sizes = {k: sum(w.numel() for w in probe.weights.values()) for k, probe in probes.items()}
    assert sizes["actor"] == counts.actor
    assert sizes["critic_0"] + sizes["critic_1"] == counts.critic


@every_algorithm
def test_probe_leaves_no_trace(name: str, build: Build, collect: Collect) -> None:
    plain, probed = build(name), build(name)
    seen = train(plain, collect, 5)
    again = train(probed, collect, 2)
    batch = collect(plain)  # of the other one, whose generators no longer matter
    before = saved(probed.state_dict())
    first = probed.probe(batch, 0)
    assert differences(probed.state_dict(), before) == []
    again += train(probed, collect, 3, start=2)
    assert differences(seen, again) == []
    assert first["actor"].activations


@every_algorithm
def test_probe_depends_on_its_seed_alone(name: str, build: Build, collect: Collect) -> None:
    algorithm = build(name)
    batch = collect(algorithm)

    def gradients(seed: int) -> Tensor:
        probe = algorithm.probe(batch, seed)["actor"]
        return torch.cat([g.flatten() for g in probe.gradients.values()])

    first = gradients(0)
    algorithm.act(observations(), explore=True)
    assert torch.equal(gradients(0), first)
    assert not torch.equal(gradients(1), first)


@every_algorithm
def test_probe_of_a_failing_batch_gives_the_generator_back(
    name: str, build: Build, collect: Collect
) -> None:
    algorithm = build(name)
    batch = collect(algorithm)
    before = saved(algorithm.state_dict())
    with pytest.raises((RuntimeError, ValueError)):
        algorithm.probe(batch._replace(actions=torch.zeros(T, B, 7)), 0)
    assert differences(algorithm.state_dict(), before) == []


@every_algorithm
def test_parameter_counts_are_sums_over_trained_parameters(name: str, build: Build) -> None:
    algorithm = build(name)
    counts = algorithm.parameter_counts()
    assert counts.actor == sum(p.numel() for p in algorithm.actor.parameters() if p.requires_grad)
    assert counts.critic == sum(p.numel() for p in algorithm.critic.parameters() if p.requires_grad)
    assert counts.total == counts.actor + counts.critic
    assert not any(p.requires_grad for p in algorithm.target.parameters())


# Finding -------------------------------------------------------------------------------------


@every_algorithm
def test_registry_entries_are_algorithms_with_frozen_settings(name: str) -> None:
    cls = load(name)
    assert issubclass(cls, Algorithm)
    assert cls.Settings.__dataclass_params__.frozen
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls.Settings(), dataclasses.fields(cls.Settings)[0].name, 1)


OWN = """
from dataclasses import dataclass
from algorithms.mtsac import MTSAC
from algorithms.settings import MTSACSettings

@dataclass(frozen=True)
class MineSettings(MTSACSettings):
    extra: float = 2.5

class Mine(MTSAC):
    Settings = MineSettings

class NoAlgorithm:
    Settings = MineSettings

function = len

class Bare(__import__("algorithms.algorithm").algorithm.Algorithm):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's, importable for this test alone."""
    module = "a_users_own_algorithm"
    (tmp_path / f"{module}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    return module


def test_a_users_own_algorithm_is_found_by_its_path_and_runs(
    own: str, build: Build, collect: Collect
) -> None:
    assert load(f"{own}:Mine").Settings().extra == 2.5
    algorithm = build(f"{own}:Mine", extra=3.0)
    assert algorithm.settings.extra == 3.0
    train(algorithm, collect, 2)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("unknown", LookupError),
        ("no_such_module_anywhere:Mine", ImportError),
        ("{own}:Missing", AttributeError),
        ("{own}:", AttributeError),
        ("{own}:NoAlgorithm", TypeError),
        ("{own}:function", TypeError),
        ("{own}:Bare", TypeError),
        (":Mine", ImportError),
    ],
)
def test_a_wrong_path_gives_the_documented_error(
    path: str, error: type[Exception], own: str
) -> None:
    with pytest.raises(error):
        load(path.format(own=own))


def test_installed_packages_add_algorithms(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{own}:Mine", algorithms.ENTRY_POINTS)
    asked = []

    def points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [point]

    monkeypatch.setattr(algorithms, "entry_points", points)
    assert algorithm_names() == [*ALGORITHMS, "mine"]
    assert path_of("mine") == f"{own}:Mine"
    assert load("mine").Settings.__name__ == "MineSettings"
    assert set(asked) == {"mtscale.algorithms"}


def test_an_outsider_cannot_shadow_a_built_in_algorithm(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("mtsac", f"{own}:Mine", algorithms.ENTRY_POINTS)
    monkeypatch.setattr(algorithms, "entry_points", lambda group: [point])
    assert path_of("mtsac") == ALGORITHMS["mtsac"]


# Layers --------------------------------------------------------------------------------------


def test_names_can_be_read_without_torch() -> None:
    code = (
        "import sys, algorithms; [algorithms.path_of(n) for n in algorithms.algorithm_names()];"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(algorithms.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_algorithms_know_nothing_of_the_suite_and_the_analysis() -> None:
    for file in Path(algorithms.__file__).parent.glob("**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"suite", "analysis"}, file.name
