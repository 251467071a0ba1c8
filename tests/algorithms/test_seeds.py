"""Seeds trained side by side are the seeds that they would be alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from algorithms.seeds import joined, part_of
from torch import Tensor

from algorithms import ALGORITHMS
from algorithms.algorithm import Algorithm, Batch, Outcomes

SEEDS, TASKS, ENVS, UPDATES = (3, 0, 11), 3, 2, 12
# MEGA's populations breed and grow within a few episodes.
EVOLVING = {"population": 2, "window": 1, "success_threshold": 1.0, "improvement_threshold": 10.0}


def cat(batches: list[Batch]) -> Batch:
    """Batches of single seeds as one of all, [S·T, B, ...]."""
    extras = {name: torch.cat([b.extras[name] for b in batches]) for name in batches[0].extras}
    return Batch(*(torch.cat(parts) for parts in list(zip(*batches, strict=True))[:-1]), extras)


@pytest.fixture(params=ALGORITHMS)
def learners(request: Any, build: Callable[..., Algorithm]) -> tuple[Any, list[Any]]:
    """One learner of three seeds, and three of one."""
    fields = EVOLVING if request.param == "mega" else {}
    alone = [build(request.param, TASKS, ENVS, seed, **fields) for seed in SEEDS]
    return build(request.param, TASKS, ENVS, SEEDS[0], together=SEEDS, **fields), alone


def close(actual: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5, msg=lambda m: f"{what}: {m}")


def trained(
    learners: tuple[Any, list[Any]], collect: Callable[..., Batch], updates: int = UPDATES
) -> list[list[Batch]]:
    """Trains both in the same way, and compares what they say on the way."""
    together, alone = learners
    seen = []
    for step in range(updates):
        batches = [collect(a, seed=100 * step + i) for i, a in enumerate(alone)]
        for mine, own in zip(together.exploration.generators, alone, strict=True):
            mine.set_state(own.exploration.generators[0].get_state())  # they acted in `collect`
        observations = torch.cat([b.observations[:, :ENVS] for b in batches])
        decision = together.act(observations, explore=True)
        single = [
            a.act(b.observations[:, :ENVS], explore=True)
            for a, b in zip(alone, batches, strict=True)
        ]
        close(decision.actions, torch.cat([d.actions for d in single]), "actions")
        for name, extra in decision.extras.items():
            assert torch.equal(extra, torch.cat([d.extras[name] for d in single]))
        metrics = together.update(cat(batches))
        for index, (a, batch) in enumerate(zip(alone, batches, strict=True)):
            for name, value in a.update(batch).items():
                assert metrics[name].shape == (len(SEEDS), *value.shape)
                close(metrics[name][index], value, f"{name} of update {step}")
        returns = torch.rand(len(alone) * TASKS, ENVS, dtype=torch.float64,
                             generator=torch.Generator().manual_seed(step))  # fmt: skip
        together.end_episodes(Outcomes(returns, (returns > 0.5).double()))
        for a, part in zip(alone, returns.chunk(len(alone)), strict=True):
            a.end_episodes(Outcomes(part, (part > 0.5).double()))
        seen.append(batches)
    return seen


def assert_states_close(actual: Any, expected: Any, path: str = "") -> None:
    if isinstance(expected, Tensor):
        if expected.is_floating_point():
            close(actual, expected, path)
        else:
            assert torch.equal(actual, expected), path
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_states_close(actual[key], value, f"{path}/{key}")
    elif isinstance(expected, list | tuple):
        assert type(actual) is type(expected) and len(actual) == len(expected), path
        for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_states_close(a, e, f"{path}/{index}")
    else:
        assert actual == expected, path


def test_each_seed_learns_what_it_learns_alone(
    learners: tuple[Any, list[Any]], collect: Callable[..., Batch]
) -> None:
    """Actions, metrics, and in the end the whole state: weights, moments, generators, genotypes."""
    together, alone = learners
    batches = trained(learners, collect)[-1]
    for index, (state, a) in enumerate(zip(together.state_by_seed(), alone, strict=True)):
        assert_states_close(state, a.state_dict(), f"seed {SEEDS[index]}")
    if hasattr(together, "evolutions"):
        stages = [[p.stage for p in a.populations] for a in alone]
        assert len({max(s) for s in stages}) > 1 or max(map(max, stages)) > 3, "nothing has grown"
    assert together.parameter_counts() == alone[0].parameter_counts()
    report = together.report(cat(batches))
    for index, a in enumerate(alone):
        for name, values in a.report(batches[index]).items():
            mine = report[name][index * TASKS : (index + 1) * TASKS]
            assert mine == pytest.approx(values, rel=1e-3, abs=1e-4, nan_ok=True), name


def test_each_seeds_probe_is_its_own(
    learners: tuple[Any, list[Any]], collect: Callable[..., Batch]
) -> None:
    together, alone = learners
    batches = trained(learners, collect, updates=2)[-1]
    noise = together.noise.generators[1].get_state()
    probes = together.probe_by_seed(cat(batches), 5)
    assert torch.equal(together.noise.generators[1].get_state(), noise)
    for probe, a, batch in zip(probes, alone, batches, strict=True):
        expected = a.probe(batch, 5)
        assert list(probe) == list(expected)
        for network, one in expected.items():
            for mine, own in zip(probe[network], one, strict=True):
                assert mine.keys() >= own.keys()
                for layer, tensor in own.items():
                    close(mine[layer], tensor, f"{network} {layer}")


def test_seeds_go_on_alone_and_together(
    learners: tuple[Any, list[Any]], collect: Callable[..., Batch], build: Callable[..., Algorithm]
) -> None:
    """What single seeds have saved goes on side by side, and what was saved there goes on alone."""
    together, alone = learners
    trained(learners, collect, updates=3)
    together.load_state_by_seed([a.state_dict() for a in alone])
    for a, state in zip(alone, together.state_by_seed(), strict=True):
        assert_states_close(state, a.state_dict())
        a.load_state_dict(state)
    trained(learners, collect, updates=3)


def test_parts_are_tensors_of_their_own_and_join_again() -> None:
    state = {"w": torch.arange(6.0).view(6, 1), "step": torch.tensor(4.0), "betas": (0.9, [1, 2])}
    parts = [part_of(state, index, 3) for index in range(3)]
    assert [p["w"].flatten().tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]
    assert parts[0]["w"].untyped_storage().nbytes() == 8, "a view would be saved whole"
    assert_states_close(joined(parts), state)
    assert part_of(state, 0, 1) is state and joined([state]) is state
