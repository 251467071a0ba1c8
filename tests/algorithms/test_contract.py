"""The contract: kept by every algorithm of the registry, and each breach caught by its point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from broken import BROKEN, Plain
from broken_class import NOTED, NamesOneLetterEach, OwnHelper
from extensions import EXTENSIONS

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Algorithm, Batch
from algorithms.check import FIRST, IF_REPEATED, POINTS, check

ALL = [*FIRST, *POINTS, *IF_REPEATED]
HERE = ("horizon", "goals", "steps", "buffer_per_task", "evaluations", "eval_episodes")


def failed(kind: type[Algorithm]) -> dict[str, str]:
    """Points that failed, and what they say."""
    points = check(kind)
    assert [point.name for point in points] == ALL
    return {point.name: point.change for point in points if point.passed is False}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_registry_keeps_it(name: str) -> None:
    assert failed(load(name)) == {}


@pytest.mark.parametrize("kind", EXTENSIONS, ids=[kind.__name__ for kind in EXTENSIONS])
def test_mega_keeps_it_with_each_extension(kind: type[Algorithm]) -> None:
    assert failed(kind) == {}


def test_a_plain_method_keeps_it() -> None:
    assert failed(Plain) == {}


@pytest.mark.parametrize(("point", "kind"), BROKEN, ids=[kind.__name__ for _, kind in BROKEN])
def test_a_breach_is_caught_by_the_point_that_is_for_it(point: str, kind: type[Algorithm]) -> None:
    presets = point.startswith("presets")
    found = check(kind, HERE if presets else None, ("smoke", "quick") if presets else None)
    assert [p.name for p in found if p.passed is False] == [point], found
    change = next(p.change for p in found if p.name == point)
    assert change and "\n" not in change


def test_every_point_catches_something() -> None:
    assert {point for point, *_ in [*BROKEN, *NOTED]} == set(ALL)


@pytest.mark.parametrize(("point", "note", "kind"), NOTED, ids=[k.__name__ for *_, k in NOTED])
def test_what_may_be_meant_is_noted(point: str, note: str, kind: type[Algorithm]) -> None:
    found = check(kind)
    assert all(p.passed for p in found), found
    assert [p.name for p in found if p.change] == [point]
    assert note in next(p.change for p in found if p.change)


def test_a_helper_of_ones_own_is_not_noted() -> None:
    assert not any(point.change for point in check(OwnHelper))


def test_a_fault_is_told_once() -> None:
    class Fails(Plain):
        def report(self, batch: Batch) -> dict[str, list[float]]:
            raise KeyError("stage")

        def state_dict(self) -> dict[str, Any]:
            raise KeyError("stage")

    changes = list(failed(Fails).values())
    told = [change for change in changes if "KeyError" in change]
    assert len(set(told)) == len(told) < len(changes)
    assert all(change.startswith("as '") for change in changes if change not in told)


def test_names_that_are_a_string_are_told_as_such() -> None:
    assert failed(NamesOneLetterEach)["builds"].endswith("a string; write per_task = ('task',)")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_mode_does_not_depend_on_the_number_of_samples(
    name: str, build: Callable[..., Any]
) -> None:
    algorithm = build(name)
    x = torch.randn(3, 7, 39, generator=torch.Generator().manual_seed(0))
    alone = algorithm.act(x[:, 3:4], explore=False).actions
    torch.testing.assert_close(alone, algorithm.act(x, explore=False).actions[:, 3:4])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_failing_probe_leaves_no_trace(
    name: str, build: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    algorithm, other = build(name), build(name)
    batch = collect(algorithm)
    collect(other)
    with pytest.raises((RuntimeError, ValueError)):
        algorithm.probe(batch._replace(actions=torch.zeros(3, 6, 7)), 0)
    drawn = [a.update(batch)["actor_loss"] for a in (algorithm, other)]
    assert torch.equal(*drawn)
