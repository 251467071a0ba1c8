"""Aggregates and intervals, against rliable, closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import library, metrics
from scipy import stats

from analysis.coverage import coverage, coverage_of_difference, normal_scores, per_task
from analysis.statistics import (
    AGGREGATES,
    Array,
    area_under_curve,
    band,
    estimate,
    interval,
    iqm,
    iqm_of_runs,
    mean,
    median,
    median_of_runs,
    optimality_gap,
    performance_profile,
    point,
    resampled,
    steps_to_threshold,
    tail,
)

RLIABLE = {
    mean: metrics.aggregate_mean,
    median: metrics.aggregate_median,
    iqm: metrics.aggregate_iqm,
    optimality_gap: metrics.aggregate_optimality_gap,
}
# Success rates tie often, returns are large and of any sign.
values = st.one_of(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]), st.floats(-1e3, 1e3, width=32))
shapes = st.tuples(st.integers(1, 12), st.integers(1, 11))
matrices = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=values))


@pytest.mark.parametrize("ours", RLIABLE, ids=lambda f: f.__name__)
@settings(max_examples=150, deadline=None)
@given(scores=matrices)
def test_point_estimates_equal_rliables(ours: object, scores: Array) -> None:
    expected = RLIABLE[ours](scores)  # type: ignore[index]
    scale = max(1.0, float(np.abs(scores).max()))
    assert point(ours, scores) == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_headline_is_the_trimmed_mean_of_the_runs_task_means(scores: Array) -> None:
    expected = stats.trim_mean(scores.mean(axis=1), 0.25)
    assert point(iqm_of_runs, scores) == pytest.approx(expected, rel=1e-12, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_median_of_runs_is_numpys(scores: Array) -> None:
    expected = np.median(scores.mean(axis=1))
    assert point(median_of_runs, scores) == pytest.approx(expected, rel=1e-12, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(0, 2**32 - 1))
def test_counts_stand_for_the_runs_that_were_drawn(scores: Array, seed: int) -> None:
    (counts,) = resampled(len(scores), scores.size, 5, seed)
    assert (counts.sum(axis=1) == len(scores)).all()
    for name, statistic in {**AGGREGATES, "median of runs": median_of_runs}.items():
        found = statistic(scores, counts)
        drawn = [np.repeat(scores, row.astype(int), axis=0) for row in counts]
        expected = [point(statistic, sample) for sample in drawn]
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), name


def test_counts_may_draw_part_of_the_runs() -> None:
    scores = np.random.default_rng(0).random((9, 4))
    part = np.array([[1.0, 0, 1, 1, 0, 0, 1, 1, 0]])
    for name, statistic in {**AGGREGATES, "median of runs": median_of_runs}.items():
        expected = point(statistic, scores[part[0] == 1])
        assert statistic(scores, part)[0] == pytest.approx(expected, rel=1e-12), name


def test_interval_is_that_of_resampled_rows_and_reproducible() -> None:
    scores = normal_scores(np.random.default_rng(0), 8)
    first = estimate(mean, scores, seed=3)
    assert first == estimate(mean, scores, seed=3)
    assert first != estimate(mean, scores, seed=4)
    # Hesterberg's interval by its own route: rows drawn one by one, NumPy's quantiles.
    generator = np.random.default_rng(9)
    drawn = [scores[generator.integers(8, size=8)].mean() for _ in range(20_000)]
    outside = stats.norm.sf(stats.t.ppf(0.975, 7) * math.sqrt(8 / 7))
    low, high = np.quantile(drawn, [outside, 1 - outside])
    assert (first.low, first.high) == pytest.approx((low, high), abs=0.006)
    assert first.low < first.value < first.high


def test_interval_of_a_mean_approaches_the_textbooks() -> None:
    scores = np.random.default_rng(1).normal(size=(200, 1))
    found = estimate(mean, scores)
    expected = stats.t.interval(0.95, 199, scores.mean(), stats.sem(scores[:, 0]))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.01)


def test_fewer_runs_leave_out_less_at_the_ends() -> None:
    tails = [tail(runs) for runs in (2, 3, 5, 10, 30, 1000)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(0.025, abs=2e-4)
    drawn = np.arange(1000.0)
    assert interval(drawn, 2) == (0.0, 999.0)


def test_one_run_has_no_interval() -> None:
    found = estimate(mean, np.array([[0.5, 1.0]]))
    assert found.value == 0.75
    assert math.isnan(found.low) and math.isnan(found.high)
    assert np.isnan(band(np.array([[0.5, 1.0]]))[1]).all()
    assert np.isnan(performance_profile(np.array([[0.5, 1.0]]), np.array([0.1]))[1]).all()


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 3)), np.zeros((1, 2, 3))])
def test_scores_of_another_shape_are_refused(scores: Array) -> None:
    with pytest.raises(ValueError, match="runs, tasks"):
        point(mean, scores)


def test_a_missing_task_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks a task"):
        estimate(mean, np.array([[0.5, math.nan]]))


@pytest.mark.parametrize("world", ["normal", "success rates"])
@pytest.mark.parametrize("statistic", ["IQM over seeds", "mean", "IQM over runs × tasks"])
def test_nominal_95_percent_covers_at_least_85_at_ten_runs(world: str, statistic: str) -> None:
    found = coverage(world, 10, statistic, simulations=200, repetitions=500)
    assert found.ours >= 0.85
    assert found.per_task <= 0.75


@pytest.mark.parametrize("world", ["normal", "success rates"])
def test_intervals_of_differences_hold_at_least_what_they_say_from_five_runs_on(world: str) -> None:
    assert coverage_of_difference(world, 5, simulations=200, repetitions=500) >= 0.95


def test_rliables_own_interval_covers_about_half() -> None:
    generator = np.random.default_rng(0)
    truth, held, simulations = 0.5, 0, 60
    before = np.random.get_state()  # noqa: NPY002
    try:
        # rliable draws from the global generator, whatever it is given.
        np.random.seed(0)  # noqa: NPY002
        for _ in range(simulations):
            scores = {"x": normal_scores(generator, 10)}
            _, ends = library.get_interval_estimates(
                scores, lambda x: np.array([metrics.aggregate_mean(x)]), reps=200
            )
            held += bool(ends["x"][0, 0] <= truth <= ends["x"][1, 0])
    finally:
        np.random.set_state(before)  # noqa: NPY002
    ours = coverage("normal", 10, "mean", simulations=60, repetitions=200).per_task
    assert held / simulations < 0.65
    assert held / simulations == pytest.approx(ours, abs=0.2)


@pytest.mark.parametrize("name", ["mean", "IQM over seeds", "IQM over runs × tasks", "median"])
def test_what_is_shown_as_rliables_is_its_distribution(name: str) -> None:
    scores = normal_scores(np.random.default_rng(2), 6)
    statistic = AGGREGATES[name]
    mine = per_task(scores, statistic, 4000, np.random.default_rng(0))
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(1)  # noqa: NPY002
        sampler = library.StratifiedBootstrap(scores)
        theirs = [point(statistic, data[0][0]) for data in sampler.bootstrap(2000)]
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert stats.ks_2samp(mine, theirs).pvalue > 1e-4


def test_performance_profile_is_rliables_with_whole_runs() -> None:
    scores = normal_scores(np.random.default_rng(4), 7)
    thresholds = np.linspace(0, 1, 11)
    value, low, high = performance_profile(scores, thresholds)
    assert value == pytest.approx(library.score_distributions(scores, thresholds), abs=1e-12)
    assert ((low <= value) & (value <= high)).all()
    # Each threshold alone is a mean of shares.
    share = (scores > thresholds[5]).astype(float)
    alone = estimate(mean, share, repetitions=2000)
    assert (low[5], high[5]) == pytest.approx((alone.low, alone.high), abs=0.05)


def test_band_is_the_interval_at_each_step() -> None:
    curves = np.random.default_rng(5).random((6, 3))
    value, low, high = band(curves)
    assert value == pytest.approx([point(iqm, column[:, None]) for column in curves.T])
    second = estimate(iqm, curves[:, 1:2], repetitions=2000)
    assert (low[1], high[1]) == (second.low, second.high)


def test_area_under_a_curve_is_its_mean_height() -> None:
    curves = np.array([[0.0, 1.0, 1.0], [0.5, 0.5, 0.5]])
    assert area_under_curve([10, 20, 40], curves) == pytest.approx([25 / 30, 0.5])
    assert area_under_curve([10], curves[:, :1]).tolist() == [0.0, 0.5]


def test_steps_to_a_threshold_are_infinite_where_it_is_never_reached() -> None:
    curves = np.array([[0.1, 0.6, 0.4], [0.1, 0.2, 0.3], [0.5, 0.5, 0.9]])
    found = steps_to_threshold([10, 20, 30], curves, 0.5)
    assert found.tolist() == [20, math.inf, 10]
    assert point(median_of_runs, found[:, None]) == 20
    whole = estimate(median_of_runs, found[:, None], repetitions=1000)
    assert (whole.low, whole.high) == (10, math.inf)
