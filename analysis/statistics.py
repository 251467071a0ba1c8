"""Aggregates of scores [runs, tasks], and their intervals by resampling whole runs.

One multi-task agent gives one run for all of its tasks, so the scores of a row belong together: a
repetition of the bootstrap draws rows, never single scores. It is written as how often each run was
drawn, `counts` [repetitions, runs], and every aggregate is a function of scores and counts, which
is why 50,000 repetitions take a fraction of a second. Without counts an aggregate is the point
estimate, as in rliable (Agarwal et al. 2021, arXiv 2108.13264), whose definitions these are but for
`iqm_of_runs`.

Intervals are percentiles of the bootstrap distribution, widened for the few runs that there are
(`tail`). `python -m analysis coverage` measures how often they hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array, Array | None], Array]
"""(scores [runs, tasks], counts [repetitions, runs] or None for each run once) → [repetitions].

All rows of counts sum to the same number of runs, not necessarily to all of them."""

REPETITIONS = 50_000
LEVEL = 0.95
TRIMMED = 0.25
BLOCK = 400_000
"""Numbers that a block of repetitions may hold: 3 MB, what a processor keeps at hand."""


@dataclass(frozen=True)
class Estimate:
    """A point estimate and its interval; NaN ends where one run shows no spread to judge by."""

    value: float
    low: float
    high: float


def mean(scores: Array, counts: Array | None = None) -> Array:
    """Mean over runs and tasks."""
    counts = once(scores) if counts is None else counts
    return counts @ scores.mean(axis=1) / number(counts)


def median(scores: Array, counts: Array | None = None) -> Array:
    """Median over tasks of the mean over runs."""
    counts = once(scores) if counts is None else counts
    return np.median(counts @ scores / number(counts), axis=1)


def iqm(scores: Array, counts: Array | None = None) -> Array:
    """Mean of the middle half of all runs × tasks, of which int(0.25 · runs · tasks) at each end
    are left out. It saturates: at 0.76 of the tasks solved it is already near 1.
    """
    counts = once(scores) if counts is None else counts
    order = np.argsort(scores, axis=None, kind="stable")
    values = scores.ravel()[order]
    owners = order // scores.shape[1]
    size = number(counts) * scores.shape[1]
    cut = int(TRIMMED * size)
    # How many of a repetition's values do not exceed each value, and so, between the two cuts,
    # how often it is in the middle; the mean of the middle is then a sum by parts.
    upto = np.cumsum(counts[:, owners], axis=1)
    below = np.clip(upto, cut, size - cut, out=upto)[:, :-1] - cut
    return values[-1] - below @ np.diff(values) / (size - 2 * cut)


def iqm_of_runs(scores: Array, counts: Array | None = None) -> Array:
    """The headline: mean of the middle half of the runs' means over tasks."""
    return iqm(scores.mean(axis=1, keepdims=True), counts)


def optimality_gap(scores: Array, counts: Array | None = None) -> Array:
    """By how much scores miss 1 on average; those above 1 do not make up for others."""
    return 1 - mean(np.minimum(scores, 1), counts)


def median_of_runs(scores: Array, counts: Array | None = None) -> Array:
    """Median of the runs' means over tasks; values may be infinite, as steps to a threshold."""
    counts = once(scores) if counts is None else counts
    means = scores.mean(axis=1)
    order = np.argsort(means, kind="stable")
    drawn = np.cumsum(counts[:, order], axis=1)
    ranks = (number(counts) - 1) // 2, number(counts) // 2
    lower, upper = (means[order][(drawn > rank).argmax(axis=1)] for rank in ranks)
    return lower / 2 + upper / 2


AGGREGATES: dict[str, Statistic] = {
    "IQM over seeds": iqm_of_runs,
    "mean": mean,
    "median": median,
    "IQM over runs × tasks": iqm,
    "optimality gap": optimality_gap,
}
"""By the name that tables and figures use; the headline first."""
OF_TASKS = {"median", "IQM over runs × tasks", "optimality gap"}
"""Those over single tasks, which there are not where whole agents alone were scored."""


def point(statistic: Statistic, scores: Array) -> float:
    """A statistic of the runs as they are."""
    return float(statistic(checked(scores), None)[0])


def estimate(
    statistic: Statistic, scores: Array, *, repetitions: int = REPETITIONS, seed: int = 0
) -> Estimate:
    """A statistic of scores [runs, tasks] with its interval, the same for the same seed."""
    scores = checked(scores)
    value = point(statistic, scores)
    if len(scores) == 1:
        return Estimate(value, math.nan, math.nan)
    blocks = resampled(len(scores), scores.size, repetitions, seed)
    drawn = np.concatenate([statistic(scores, counts) for counts in blocks])
    return Estimate(value, *interval(drawn, len(scores)))


def band(values: Array, repetitions: int = 2000) -> tuple[Array, Array, Array]:
    """IQM over seeds of curves [runs, steps] with its pointwise interval: value, low, high [steps].

    All steps of a repetition come from the same runs. NaN ends where there is one run.
    """
    values = checked(values)
    columns = [estimate(iqm, column[:, None], repetitions=repetitions) for column in values.T]
    found = np.array([(e.value, e.low, e.high) for e in columns])
    return found[:, 0], found[:, 1], found[:, 2]


def performance_profile(
    scores: Array, thresholds: Array, repetitions: int = 2000
) -> tuple[Array, Array, Array]:
    """Share of runs × tasks with a score above each threshold: value, low, high [thresholds]."""
    scores = checked(scores)
    above = (scores[:, :, None] > thresholds).mean(axis=1)
    value = above.mean(axis=0)
    if len(scores) == 1:
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    blocks = resampled(len(scores), above.size, repetitions, seed=0)
    drawn = np.concatenate([counts @ above / len(scores) for counts in blocks])
    ends = np.array([interval(column, len(scores)) for column in drawn.T])
    return value, ends[:, 0], ends[:, 1]


def area_under_curve(steps: npt.ArrayLike, values: Array) -> Array:
    """Mean height of curves [runs, steps] over the steps that were measured: [runs]."""
    steps = np.asarray(steps, dtype=np.float64)
    if len(steps) == 1:
        return values[:, 0]
    heights = (values[:, 1:] + values[:, :-1]) / 2
    return heights @ np.diff(steps) / (steps[-1] - steps[0])


def steps_to_threshold(steps: npt.ArrayLike, values: Array, threshold: float) -> Array:
    """First measured step at which each of the curves [runs, steps] is at the threshold or above.

    [runs]; infinite where a run never is.
    """
    reached = values >= threshold
    first = np.asarray(steps, dtype=np.float64)[reached.argmax(axis=1)]
    return np.where(reached.any(axis=1), first, math.inf)


def resampled(runs: int, size: int, repetitions: int, seed: int) -> Iterator[Array]:
    """How often each run is drawn, [repetitions, runs], in blocks that `size` numbers fit into."""
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // max(size, runs))
    for start in range(0, repetitions, block):
        rows = min(block, repetitions - start)
        drawn = generator.integers(runs, size=(rows, runs)) + runs * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * runs)
        yield counts.reshape(rows, runs).astype(np.float64)


def interval(drawn: Array, runs: int) -> tuple[float, float]:
    """The ends of a bootstrap distribution [repetitions] beyond which a `tail` lies."""
    ordered = np.sort(drawn)
    outside = int(tail(runs) * len(ordered))
    return float(ordered[outside]), float(ordered[-1 - outside])


@cache
def tail(runs: int) -> float:
    """The share of the bootstrap distribution to leave out at each end.

    Less than half of 1 − LEVEL: resampled runs vary less than runs by √((n − 1) / n), and the
    normal quantile is too small for few of them, Student's is not. This is the expanded percentile
    interval of Hesterberg (2015, The American Statistician 69:4).
    """
    quantile = stats.t.ppf((1 + LEVEL) / 2, runs - 1) * math.sqrt(runs / (runs - 1))
    return float(stats.norm.sf(quantile))


def number(counts: Array) -> int:
    """How many runs each repetition draws."""
    return int(counts[0].sum())


def once(scores: Array) -> Array:
    """Counts of the runs as they are."""
    return np.ones((1, len(scores)))


def checked(scores: npt.ArrayLike) -> Array:
    """Scores as [runs, tasks]. Raises ValueError for another shape, no scores or NaN."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores must be [runs, tasks], not of shape {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: a run lacks a task")
    return scores
