"""What so few runs could have seen, beside the textbook's power of a t-test."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.comparisons import compare, compare_all, holm
from analysis.power import POWER, could_be_seen, deviation, in_deviations


def of_a_t_test(runs: int, threshold: float) -> float:
    """The shift that a t-test of two samples finds in POWER of all experiments: noncentral t."""
    free, shifts = 2 * runs - 2, np.linspace(0.1, 6, 3000)
    beyond = stats.t.ppf(1 - threshold / 2, free)
    power = stats.nct.sf(beyond, free, shifts * math.sqrt(runs / 2))
    return float(shifts[(power >= POWER).argmax()])


@pytest.mark.parametrize(("runs", "threshold"), [(10, 0.01), (20, 0.002)])
def test_it_is_that_of_a_t_test_where_p_decides(runs: int, threshold: float) -> None:
    assert in_deviations(runs, runs, threshold) == pytest.approx(
        of_a_t_test(runs, threshold), rel=0.04
    )


@pytest.mark.parametrize(("runs", "comparisons"), [(5, 1), (5, 5), (8, 1)])
def test_so_many_experiments_have_a_verdict(runs: int, comparisons: int) -> None:
    random = np.random.default_rng(1)
    shift = in_deviations(runs, runs, 0.05 / comparisons)
    significant = 0
    for _ in range(200):
        a, b = random.normal(shift, 1, (runs, 1)), random.normal(0, 1, (runs, 1))
        found = compare(("a", a), ("b", b), repetitions=5000)
        (p_value,) = holm([found.p_value], comparisons)
        significant += replace(found, p_value=p_value).significant
    assert significant / 200 == pytest.approx(POWER, abs=0.09)


def test_five_seeds_find_nothing_among_seven_comparisons() -> None:
    # The least p is 2 of 252 splits.
    assert in_deviations(5, 5, 0.05 / 6) < math.inf
    assert in_deviations(5, 5, 0.05 / 7) == math.inf


def test_the_side_that_differs_does_not_matter() -> None:
    assert in_deviations(5, 8, 0.02) == pytest.approx(in_deviations(8, 5, 0.02), rel=0.05)


def test_the_deviation_is_that_of_the_sides_compared() -> None:
    random = np.random.default_rng(0)
    scores = {name: random.normal(0, 1 + 2 * (name == "a"), (6, 1)) for name in "abc"}
    of = {name: own.var(ddof=1) for name, own in scores.items()}
    found = compare_all(scores, against="a")
    # A t-test of two samples has the mean of their variances; the control is in both of them.
    expected = (2 * of["a"] + of["b"] + of["c"]) / 4
    assert deviation(scores, found) == pytest.approx(math.sqrt(expected))


def test_what_could_be_seen_is_said() -> None:
    random = np.random.default_rng(0)
    scores = {name: random.normal(0.5, 0.1, (5, 1)).clip(0, 1) for name in "abc"}
    found = compare_all(scores, against="a", planned=5)
    (line,) = could_be_seen(scores, found, 5)
    least = deviation(scores, found) * in_deviations(5, 5, 0.01)
    assert f"5 seeds a side find a difference of means of {least:.2f} among 5 comparisons" in line
    assert "by p and interval both, in 80% of all studies" in line
    (line,) = could_be_seen(scores, compare_all(scores, against="a", planned=7), 7)
    assert line.startswith("5 seeds a side reach p < 0.05 among 7 comparisons for no difference")
    scores["b"] = np.tile(scores["b"], (2, 1))
    (line,) = could_be_seen(scores, compare_all(scores, against="a", planned=7), 7)
    assert line.startswith(
        "5 seeds a side, the fewest here, reach p < 0.05 among 7 comparisons only"
    )
    alike = {name: np.full((7, 10), 0.7) for name in "ab"}
    assert could_be_seen(alike, compare_all(alike), 0) == []
    few = {name: own[:4] for name, own in scores.items()}
    assert could_be_seen(few, compare_all(few), 0) == []
