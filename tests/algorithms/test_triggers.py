"""When a stage grows: each criterion by its own words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evolutions import play
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.genetics import Evolution
from algorithms.mega import MEGASettings


def evolution(**fields: Any) -> Evolution:
    """One task in one env; every second episode ends a generation."""
    small: dict[str, Any] = {"population": 2, "episodes_per_individual": 1, "modules": 5}
    return Evolution(MEGASettings(**small | fields), 1, 1, 0)


def stages(e: Evolution, successes: list[float]) -> list[int]:
    """The stage after each episode; all returns are alike, so that they always stagnate."""
    found = []
    for success in successes:
        play(e, 1.0, success)
        found.append(e.populations[0].stage)
    return found


def grown_at(found: list[int]) -> list[int]:
    """The episodes, from 1, after which the stage grew."""
    return [i + 1 for i in range(1, len(found)) if found[i] > found[i - 1]]


def test_it_grows_when_success_was_too_small_for_so_many_episodes() -> None:
    """The criterion that was suggested, in small: success < 0.2 for 10 episodes."""
    e = evolution(trigger="success", trigger_episodes=10, trigger_success=0.2)
    assert grown_at(stages(e, [0.0] * 24)) == [10, 20]


def test_old_successes_are_forgotten_and_the_threshold_itself_is_enough() -> None:
    fields: dict[str, Any] = {"trigger_episodes": 10, "trigger_success": 0.2}
    e = evolution(trigger="success", **fields)
    assert grown_at(stages(e, [1.0] * 10 + [0.0] * 10)) == [20]
    e = evolution(trigger="success", **fields)
    assert grown_at(stages(e, ([1.0] + [0.0] * 4) * 6)) == []


def test_growth_waits_for_the_end_of_a_generation() -> None:
    e = evolution(trigger="success", trigger_episodes=3, trigger_success=0.2)
    assert grown_at(stages(e, [0.0] * 8)) == [4, 8]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 1), min_size=30, max_size=60), st.integers(1, 9))
def test_by_the_definition(successes: list[int], episodes: int) -> None:
    """Against the definition, written out."""
    e = evolution(trigger="success", trigger_episodes=episodes, trigger_success=0.3)
    expected, stage, since = [], 3, 0
    for index in range(len(successes)):
        due = (index + 1) % 2 == 0 and index + 1 - since >= episodes and stage < 5
        if due and np.mean(successes[index + 1 - episodes : index + 1]) < 0.3:
            stage, since = stage + 1, index + 1
        expected.append(stage)
    assert stages(e, [float(s) for s in successes]) == expected


@pytest.mark.parametrize("trigger", ["success", "none"])
def test_it_never_grows_above_the_largest_stage_and_keeps_no_more_than_it_needs(
    trigger: str,
) -> None:
    e = evolution(trigger=trigger, trigger_episodes=4, trigger_success=1.0)
    last = stages(e, [0.0] * 60)[-1]
    assert last == (5 if trigger == "success" else 3)
    assert len(e.populations[0].window_successes) <= 4


def test_growth_by_success_may_extend_genotypes() -> None:
    e = evolution(trigger="success", trigger_episodes=2, growth="extend")
    before = {i.bits.tobytes() for i in e.populations[0].individuals}
    stages(e, [0.0] * 2)
    now = e.populations[0].individuals
    assert e.populations[0].stage == 4
    assert {i.bits[:12].tobytes() for i in now} == before
