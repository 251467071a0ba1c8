"""A recorded step gives what the plain one gives, or the plain one goes on with a warning."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Outcomes, Problem
from algorithms.parts.randomness import generator
from suite.training import capture
from suite.training.capture import WARM_CALLS, Captured
from suite.training.learner import Learner, capturable
from suite.training.replay import Replay, unpack

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Counter:
    """A function with state: each call adds 1 and a random number."""

    def __init__(self) -> None:
        self.total = torch.zeros(())
        self.draws = torch.Generator().manual_seed(0)
        self.plain_calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.plain_calls += 1
        self.total += 1 + torch.rand((), generator=self.draws)
        return {"total": self.total.clone()}

    def snapshot(self) -> Any:
        return self.total.clone(), self.draws.get_state()

    def restore(self, state: Any) -> None:
        self.total.copy_(state[0])
        self.draws.set_state(state[1])


class FakeGraph:
    """Replays by a plain call whose results go to the recorded place."""

    def __init__(self, function: Callable[[], dict[str, Tensor]], wrong_by: float) -> None:
        self.function, self.wrong_by = function, wrong_by
        self.results = {"total": torch.zeros(())}
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.results["total"].copy_(self.function()["total"] * (1 + self.wrong_by))


def recorder(monkeypatch: pytest.MonkeyPatch, wrong_by: float = 0.0) -> list[FakeGraph]:
    graphs: list[FakeGraph] = []

    def record(function: Any, generators: Any) -> Any:
        graphs.append(FakeGraph(function, wrong_by))
        return graphs[-1], graphs[-1].results

    monkeypatch.setattr(capture, "record", record)
    return graphs


def plain_totals(calls: int) -> list[float]:
    counter = Counter()
    return [counter()["total"].item() for _ in range(calls)]


def totals(counter: Counter, calls: int) -> list[float]:
    captured = Captured("the test", counter, [], counter.snapshot, counter.restore)
    return [captured()["total"].item() for _ in range(calls)]


def test_a_recorded_step_goes_on_where_the_plain_ones_were(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = recorder(monkeypatch)
    assert totals(Counter(), 10) == plain_totals(10)
    assert graphs[0].replays == 10 - WARM_CALLS
    assert capsys.readouterr().err == ""


def test_a_recording_with_other_results_is_not_used_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = recorder(monkeypatch, wrong_by=0.05)
    assert totals(Counter(), 10) == plain_totals(10)
    assert graphs[0].replays == 1
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "the test runs without a CUDA graph, and slower: its results differ by 0.05" in warning


@pytest.mark.parametrize("ran", [True, False])
def test_a_graph_that_does_nothing_is_not_used(ran: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the recording itself was carried out, so that all looks as it should once."""

    class Empty:
        def replay(self) -> None: ...

    def record(function: Any, generators: Any) -> Any:
        return Empty(), function() if ran else {"total": torch.zeros(())}

    monkeypatch.setattr(capture, "record", record)
    assert totals(Counter(), 10) == plain_totals(10)


def test_a_graph_that_returns_the_right_and_changes_nothing_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Reading(FakeGraph):
        def __init__(self, counter: Counter) -> None:
            super().__init__(counter, 0.0)
            self.counter = counter

        def replay(self) -> None:
            state = self.counter.snapshot()
            super().replay()
            self.counter.restore(state)

    def record(function: Any, generators: Any) -> Any:
        graph = Reading(function)
        return graph, graph.results

    monkeypatch.setattr(capture, "record", record)
    assert totals(Counter(), 10) == plain_totals(10)
    assert "without a CUDA graph" in capsys.readouterr().err


def test_a_recording_that_fails_is_said_once_and_the_plain_step_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record(function: Any, generators: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(capture, "record", record)
    assert totals(Counter(), 10) == plain_totals(10)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "slower: operation not permitted when stream is capturing" in warning


@pytest.mark.parametrize("copies", [0, 1])
def test_where_the_memory_does_not_suffice_for_copies_the_plain_step_goes_on(
    copies: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(Counter):
        snapshots = 0

        def snapshot(self) -> Any:
            self.snapshots += 1
            if self.snapshots > copies:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore")
            return super().snapshot()

    graphs = recorder(monkeypatch)
    full = Full()
    assert totals(full, 10) == plain_totals(10)
    assert (graphs, full.snapshots) == ([], copies + 1)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "without a CUDA graph, and slower: CUDA out of memory. Tried" in warning


def test_not_a_number_is_different_from_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    nan, zero, small = (torch.tensor([x, 1.0]) for x in (float("nan"), 0.0, 1e-9))
    far = capture.largest_difference
    assert far(nan, nan, zero) == 0
    for wrong, own in ((nan, zero), (nan, small), (small, nan)):
        assert far(wrong, own, torch.zeros(2)) == float("inf")
        # Wherever it stands.
        assert far([zero, wrong], [zero, own], [zero, zero]) == float("inf")
        assert far({"a": wrong, "b": zero}, {"a": own, "b": zero}, {"a": zero, "b": zero}) > 1
    infinite = torch.tensor([float("inf"), 1.0])
    assert far(infinite, infinite, zero) == 0
    assert far(-infinite, infinite, -infinite) == float("inf")


def test_nothing_is_collected_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "graph", contextlib.nullcontext)
    done: list[object] = []
    forget = "_cuda_clearCublasWorkspaces"  # which graphs that are recorded alike would share
    monkeypatch.setattr(torch._C, forget, lambda: done.append("forgets"), raising=False)
    _, results = capture.record(lambda: done.append(gc.isenabled()) or {}, [])
    assert (done, results, gc.isenabled()) == (["forgets", False, "forgets"], {}, True)

    def fails() -> dict[str, Tensor]:
        raise RuntimeError("not while capturing")

    with pytest.raises(RuntimeError):
        capture.record(fails, [])
    assert gc.isenabled()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_recording_without_a_gpu_falls_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert totals(Counter(), 6) == plain_totals(6)
    assert "the test runs without a CUDA graph" in capsys.readouterr().err


def learner(name: str, device: str, **extra: Any) -> Learner:
    """A small algorithm on a filled replay."""
    trained = load(name)
    small = {"actor_width": 64, "critic_width": 64, "modules": 6, "episodes_per_individual": 1}
    small |= {"window": 1, "success_threshold": 1.0, **extra}
    known = {f.name for f in fields(trained.Settings)}
    settings = trained.Settings(**{k: v for k, v in small.items() if k in known})
    problem = Problem(("a", "b", "c"), 2, 0, torch.device(device))
    algorithm = trained(settings, problem)
    replay = Replay(
        3, 500, algorithm.extras, problem.device, generator(0, "replay", problem.device)
    )
    one = Learner(algorithm, replay, 16, envs_per_task=2)
    random = np.random.default_rng(0)
    one.see(random.normal(size=(3, 2, 39)))
    for step in range(60):
        act_and_remember(one, random, step)
    return one


def act_and_remember(one: Learner, random: np.random.Generator, step: int) -> Any:
    """An env step with random outcomes; returns the actions."""
    one.act()
    actions = one.decided().copy()
    one.remember(actions, random.random((3, 2)), random.normal(size=(3, 2, 39)), step % 20 == 19)
    return actions


COMBINERS = ("pcgrad", "cagrad", "gradnorm")


@needs_gpu
@pytest.mark.parametrize(
    ("name", "combine"),
    [*((name, "mean") for name in ALGORITHMS), *(("mtsac", kind) for kind in COMBINERS)],
)
def test_eager_and_recorded_learners_agree(name: str, combine: str, capsys: Any) -> None:
    recorded, eager = (learner(name, "cuda", combine=combine) for _ in range(2))
    for part in (eager.acting, eager.storing, eager.learning):
        part.plain, part.graph = True, None
    random, same = np.random.default_rng(1), np.random.default_rng(1)
    for step in range(30):
        mine, own = act_and_remember(recorded, random, step), act_and_remember(eager, same, step)
        np.testing.assert_allclose(mine, own, rtol=1e-3, atol=1e-3)
        recorded.learn()
        eager.learn()
        if step % 5 == 4:  # populations breed and grow under the recording
            found, expected = recorded.metrics(), eager.metrics()
            for metric, value in expected.items():
                np.testing.assert_allclose(found[metric], value, rtol=1e-2, atol=1e-3)
            score = torch.rand(3, 2, dtype=torch.float64)
            steps = torch.zeros(3, 2, 1), torch.zeros(3, dtype=torch.float64)
            for one in (recorded, eager):
                one.algorithm.end_episodes(Outcomes(score, torch.zeros_like(score), *steps))
    torch.testing.assert_close(recorded.replay.rows, eager.replay.rows, rtol=1e-3, atol=1e-3)
    assert None not in (recorded.learning.graph, recorded.storing.graph, recorded.acting.graph)
    assert capsys.readouterr().err == ""


@needs_gpu
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_gpu_learns_what_the_cpu_learns(name: str) -> None:
    """Of one batch, the hidden units of the networks that both begin with."""
    on_cpu, on_gpu = learner(name, "cpu"), learner(name, "cuda")
    batch = on_cpu.replay.sample(64)
    same = batch._replace(
        **{k: v.cuda() for k, v in batch._asdict().items() if isinstance(v, Tensor)},
        extras={k: v.cuda() for k, v in batch.extras.items()},
    )
    expected, found = on_cpu.algorithm.probe(batch, 0), on_gpu.algorithm.probe(same, 0)
    for layer, units in expected["actor"].activations.items():
        close = found["actor"].activations[layer].cpu()
        torch.testing.assert_close(close, units, rtol=1e-3, atol=1e-4)


@needs_gpu
def test_learners_side_by_side_learn_what_each_learns_alone() -> None:
    """To the bit, in products that are split among blocks whose sums need room to meet."""
    several = [learner("mtsac", "cuda", actor_width=400, critic_width=400) for _ in range(5)]
    for _ in range(200):
        for one in several:
            one.learn()
    alone = learner("mtsac", "cuda", actor_width=400, critic_width=400)
    for _ in range(200):
        alone.learn()
        alone.join()
    for one in several:
        one.join()
        for name, value in alone.algorithm.state_dict()["tensors"].items():
            assert torch.equal(one.algorithm.state_dict()["tensors"][name], value), name


def test_the_cpu_learner_is_the_algorithm_itself() -> None:
    one, other = learner("mtsac", "cpu"), learner("mtsac", "cpu")
    assert one.acting.plain and one.storing.plain and one.learning.plain
    expected = [other.algorithm.update(other.replay.sample(16)) for _ in range(3)]
    for _ in range(3):
        one.learn()
    found = one.metrics()
    for name in expected[0]:
        steps = torch.stack([metrics[name] for metrics in expected])
        np.testing.assert_array_equal(found[name], steps.numpy())
    assert one.metrics() == {}


def test_metrics_of_a_long_round_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, small = learner("mtsac", "cpu"), learner("mtsac", "cpu")
    monkeypatch.setattr("suite.training.learner.HISTORY", 2)
    for one in (small, whole):
        for _ in range(5):
            one.learn()
        monkeypatch.undo()
    expected = whole.metrics()
    for name, values in small.metrics().items():
        assert len(values) == 5
        np.testing.assert_array_equal(values, expected[name])


def test_what_is_remembered_is_what_was_seen_and_done() -> None:
    one = learner("d2r", "cpu")
    random, before = np.random.default_rng(5), one.replay.written
    seen = [random.normal(size=(3, 2, 39)).astype(np.float32) for _ in range(3)]
    one.see(seen[0])
    for step in range(2):
        one.act()
        route = one.extras["route"].clone()
        done, rewards = one.decided().copy(), random.random((3, 2))
        one.remember(done, rewards, seen[step + 1], step == 1)
        places = slice(before + 2 * step, before + 2 * step + 2)
        rows = unpack(one.replay.rows[:, places], {})
        assert np.array_equal(rows.observations, seen[step])
        assert np.array_equal(rows.actions, done)
        assert np.array_equal(rows.rewards, rewards.astype(np.float32))
        assert np.array_equal(rows.next_observations, seen[step + 1])
        assert (rows.timeouts == step).all()
        assert torch.equal(one.replay.extras["route"][:, places], route)


def test_all_built_in_algorithms_can_be_recorded_and_name_their_generators() -> None:
    for name in ALGORITHMS:
        made = learner(name, "cpu").algorithm
        assert capturable(made)
        owned = {id(v) for v in vars(made).values() if isinstance(v, torch.Generator)}
        assert owned <= {id(g) for g in made.generators.values()}
