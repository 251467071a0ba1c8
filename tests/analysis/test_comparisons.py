"""Comparisons, against rliable, scipy and what chance does."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import metrics
from scipy import stats

from analysis.comparisons import (
    WITHOUT_WIDTH,
    Comparison,
    cautions,
    compare,
    compare_all,
    corrected_for,
    holm,
    permutation_test,
)
from analysis.coverage import normal_scores
from analysis.figures.matched import verdict
from analysis.power import could_be_seen
from analysis.statistics import Array, Estimate, iqm_of_runs
from analysis.study import MOST_AT_ONCE, compared, corrected_number

rates = st.sampled_from([0.0, 0.2, 0.5, 0.96, 1.0])
pairs = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 6)).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, (n[0], n[2]), elements=rates),
        arrays(np.float64, (n[1], n[2]), elements=rates),
    )
)


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_probability_of_improvement_is_rliables(pair: tuple[Array, Array]) -> None:
    expected = metrics.probability_of_improvement(*pair)
    assert compare(("a", pair[0]), ("b", pair[1]), repetitions=50).improvement.value == (
        pytest.approx(expected, abs=1e-12)
    )


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "expected"),
    [
        (0.01, 0.2, 0.04, (5, 5), True),
        (-0.2, -0.01, 0.04, (5, 5), True),
        (-0.01, 0.2, 0.04, (5, 5), False),
        (0.01, 0.2, 0.06, (5, 5), False),
        (0.01, 0.2, math.nan, (5, 5), False),
        (0.01, 0.2, 0.04, (5, 4), False),
    ],
)
def test_a_verdict_wants_interval_p_and_seeds(
    low: float, high: float, p: float, seeds: tuple[int, int], expected: bool
) -> None:
    difference = Estimate(0.1, low, high)
    found = Comparison("a", "b", difference, Estimate(0.6, 0.5, 0.7), p, seeds)
    assert found.significant == expected


def test_permutation_test_is_scipys() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(5, 1)), generator.normal(0.8, size=(6, 1))
    expected = stats.permutation_test((a[:, 0], b[:, 0]), lambda x, y: x.mean() - y.mean()).pvalue
    assert permutation_test(a, b) == pytest.approx(expected, abs=1e-12)


def test_many_runs_are_permuted_at_random_and_reproducibly() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(15, 1)), generator.normal(0.8, size=(15, 1))
    exact = stats.ttest_ind(a[:, 0], b[:, 0]).pvalue
    found = permutation_test(a, b)
    assert found == permutation_test(a, b)
    assert found == pytest.approx(exact, abs=0.02)


def test_clear_difference_of_ten_seeds_is_significant_and_stated() -> None:
    generator = np.random.default_rng(0)
    a, b = normal_scores(generator, 10) + 0.3, normal_scores(generator, 10)
    found = compare(("mega", a), ("mtsac", b))
    assert found.significant
    assert found.warning == ""
    expected = iqm_of_runs(a) - iqm_of_runs(b)
    assert found.difference.value == pytest.approx(expected[0])
    assert found.difference.low < found.difference.value < found.difference.high
    assert "(significant, p = " in found.sentence()
    assert "10 and 10 seeds" in found.sentence()


def test_no_difference_is_called_not_significant() -> None:
    generator = np.random.default_rng(3)
    found = compare(("a", normal_scores(generator, 10)), ("b", normal_scores(generator, 10)))
    assert not found.significant
    assert "not significant" in found.sentence()


@pytest.mark.parametrize(("first", "second"), [(3, 3), (4, 4), (5, 2), (9, 4)])
def test_fewer_than_five_seeds_are_no_evidence_and_say_so(first: int, second: int) -> None:
    generator = np.random.default_rng(0)
    a, b = normal_scores(generator, first) + 0.9, normal_scores(generator, second)
    found = compare(("a", a), ("b", b))
    assert found.difference.low > 0 and (first == 3 or found.p_value < 0.05)
    assert not found.significant
    assert found.warning == "fewer than 5 seeds, so nothing is called significant"
    assert f"{first} and {second} seeds" in found.sentence() and "warning" in found.sentence()


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    found = compare(("a", np.ones((1, 2))), ("b", np.zeros((6, 2))))
    assert found.difference.value == 1
    assert math.isnan(found.difference.low)
    assert not found.significant
    assert "nan" not in found.sentence()


def test_what_numbers_are_not_is_said() -> None:
    generator = np.random.default_rng(0)
    a, b, more = (normal_scores(generator, runs) for runs in (5, 5, 8))
    assert cautions([compare(("a", a), ("b", b))]) == []
    assert cautions([compare(("a", a), ("b", a + 2))]) == [WITHOUT_WIDTH]
    (line,) = cautions([compare(("a", a), ("b", more))])
    assert line.startswith("p takes runs as exchangeable")
    assert cautions([compare(("a", a[:3]), ("b", b + 2))]) == [], "there is no verdict"


def test_chance_is_rarely_called_significant() -> None:
    generator = np.random.default_rng(1)
    found = [
        compare(
            ("a", normal_scores(generator, 6)), ("b", normal_scores(generator, 6)), repetitions=500
        ).significant
        for _ in range(120)
    ]
    assert np.mean(found) <= 0.1


def test_pairs_are_corrected_for_their_number() -> None:
    generator = np.random.default_rng(0)
    scores = {name: normal_scores(generator, 5) + shift for name, shift in
              [("a", 0.0), ("b", 0.01), ("c", 0.5)]}  # fmt: skip
    together = {(c.a, c.b): c.p_value for c in compare_all(scores)}
    alone = compare(("a", scores["a"]), ("c", scores["c"])).p_value
    assert together["a", "c"] == pytest.approx(3 * alone)
    assert list(together) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_holm_is_the_textbooks() -> None:
    # Holm's procedure on four tests: 4·0.005, 3·0.01, 2·0.03, and no less than that.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_is_planned_and_missing_can_only_lower_p_values() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        every = generator.uniform(0, 0.1, 5).tolist()
        so_far = holm(every[:2], planned=5)
        assert so_far == holm([*every[:2], 1, 1, 1])[:2]
        assert all(a >= b for a, b in zip(so_far, holm(every), strict=False))
    assert holm([0.01, 0.02], planned=2) == holm([0.01, 0.02])


def test_a_planned_comparison_of_too_few_seeds_takes_no_rank() -> None:
    generator = np.random.default_rng(0)
    # The second is the surer one, but by too few seeds.
    scores = {"plain": normal_scores(generator, 6), "few": normal_scores(generator, 4) + 0.9}
    scores["many"] = normal_scores(generator, 5) + 0.05
    few, many = compare_all(scores, against="plain", planned=5)
    alone = compare(("plain", scores["plain"]), ("many", scores["many"])).p_value
    assert compare(("plain", scores["plain"]), ("few", scores["few"])).p_value < alone
    assert math.isnan(few.p_value) and "p =" not in few.sentence()
    assert many.p_value == pytest.approx(min(1.0, 5 * alone))
    assert corrected_for([few, many], 5) == "5 comparisons, of which 1 can be made so far"


def test_with_many_configurations_the_best_is_corrected_for_as_one_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    arrays = {f"c{i:02}": normal_scores(generator, 5) + i / 100 for i in range(MOST_AT_ONCE + 1)}
    group = [SimpleNamespace(label=k, final=SimpleNamespace(sample=v)) for k, v in arrays.items()]
    found = compared([group])  # type: ignore[list-item]
    (best,) = {c.a for c in found}
    every = math.comb(len(arrays), 2)
    assert [c.p_value for c in found] == [
        c.p_value for c in compare_all(arrays, against=best, planned=every)
    ]
    assert len(found) == MOST_AT_ONCE and all(c.p_value > 0.05 for c in found)
    (line,) = could_be_seen(arrays, found, corrected_number(group))  # type: ignore[arg-type]
    assert f"among {every} comparisons for no difference" in line
    few = compare_all({k: v[:3] for k, v in arrays.items()}, against=best, chosen_from=every)
    assert not any(math.isnan(c.p_value) for c in few)


def test_other_numbers_of_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="a was scored on 3 tasks, b on 2"):
        compare(("a", np.zeros((2, 3))), ("b", np.zeros((2, 2))))


def test_a_small_p_alone_is_no_verdict_beside_a_figure() -> None:
    wide, clear = Estimate(-0.1, -0.3, 0.01), Estimate(-0.1, -0.3, -0.01)
    found = Comparison("plain", "x", wide, Estimate(0.5, 0.4, 0.6), 0.03, (5, 5))
    assert verdict(found) == "+0.10, p = 0.030, interval holds 0"
    assert verdict(replace(found, difference=clear)) == "+0.10, p = 0.030"
