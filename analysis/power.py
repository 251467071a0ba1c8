"""What a comparison of so few runs could have seen at all.

That two configurations are not told apart says little where only a huge difference would have been.
In standard deviations of a run, the difference of means that is called significant most of the time
depends on the numbers of runs and of comparisons alone; it is simulated with normal scores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import cache

import numpy as np

from analysis.comparisons import Comparison, splits
from analysis.statistics import LEVEL, TRIMMED, Array, checked, resampled, tail

POWER = 0.8
"""Share of experiments in which a difference is found that counts as one that can be."""
EXPERIMENTS = 1000
"""Simulated, of which the share is known to 0.013."""
MOST_SPLITS = 5000
"""Ways to split the runs that a simulated experiment tries, at random where there are more."""
RESAMPLED = 5000
"""Repetitions of the bootstrap that make its interval."""
NO_SCATTER = 1e-9
"""Below it there is rounding alone."""
LARGEST = 64.0
"""Standard deviations; a difference of so many is found wherever one can be."""


def could_be_seen(
    scores: Mapping[str, Array], found: Collection[Comparison], planned: int
) -> list[str]:
    """What comparisons of configurations with these `scores` [runs, tasks] could have seen, in a
    sentence of those of the fewest runs; none where all have too few. `planned` as in
    `compare_all`.
    """
    sizes = {c.seeds for c in found if c.enough}
    if not sizes:
        return []
    a, b = max(sizes, key=lambda seeds: 1 / seeds[0] + 1 / seeds[1])
    number = max(planned, len(found))
    level = 1 - LEVEL
    sides = f"{a} seeds a side" if a == b else f"{a} and {b} seeds"
    sides += ", the fewest here," if len(sizes) > 1 else ""
    among = f"among {number} comparisons" if number > 1 else "in one comparison"
    shift = in_deviations(a, b, level / number)
    if math.isnan(shift):
        return []
    if shift == math.inf:
        never = (
            "only where others have come first"
            if len(sizes) > 1
            else ("for no difference, however large")
        )
        return [f"{sides} reach p < {level:.2f} {among} {never}: more seeds are needed."]
    scatter = deviation(scores, [c for c in found if c.enough])
    if scatter < NO_SCATTER:
        return []
    return [
        f"What could be seen: if the runs of both sides are normal and scatter by {scatter:.3f}, "
        f"as those compared here do in the mean (standard deviation), {sides} find a difference of "
        f"means of {scatter * shift:.2f} {among}, by p and interval both, in {POWER:.0%} of all "
        "studies, and smaller ones less often."
    ]


def deviation(scores: Mapping[str, Array], found: Collection[Comparison]) -> float:
    """Standard deviation of the runs' means over tasks, mean over both sides of each comparison: a
    control's counts as often as it is compared. All sides have two runs or more.
    """
    sides = [checked(scores[name]).mean(axis=1) for c in found for name in (c.a, c.b)]
    return math.sqrt(float(np.mean([side.var(ddof=1) for side in sides])))


@cache
def in_deviations(a: int, b: int, threshold: float) -> float:
    """The difference of means, in standard deviations of a run, of which `a` runs and `b` runs give
    a p below `threshold`, and an interval that leaves out 0, in `POWER` of all experiments;
    infinite where no difference has them, NaN where so many splits cannot say.
    """
    random = np.random.default_rng(0)
    if math.comb(a + b, a) > MOST_SPLITS and threshold * MOST_SPLITS < 1:
        return math.nan
    chosen = splits(a, b, MOST_SPLITS, random)
    weights = np.full((len(chosen), a + b), -1 / b)
    np.put_along_axis(weights, chosen, 1 / a, axis=1)
    # The difference of means of each split, and what it gains where the first side is shifted by 1.
    runs = random.standard_normal((EXPERIMENTS, a + b))
    low, high = intervals(runs[:, :a], runs[:, a:])
    found = runs @ weights.T
    gained = weights[:, :a].sum(axis=1)

    def power(shift: float) -> float:
        moved = np.abs(found + shift * gained)
        p_values = (moved >= moved[:, :1] - 1e-9).mean(axis=1)
        apart = (low + shift > 0) | (high + shift < 0)
        return float((apart & (p_values < threshold)).mean())

    if power(LARGEST) < POWER:
        return math.inf
    seldom, often = 0.0, LARGEST
    while often - seldom > 1e-3 * often:
        middle = (seldom + often) / 2
        seldom, often = (seldom, middle) if power(middle) >= POWER else (middle, often)
    return often


def intervals(a: Array, b: Array) -> tuple[Array, Array]:
    """The ends [experiments] of the interval of the difference of IQMs, of runs [experiments, runs]
    of both sides: those of `difference_and_improvement`.
    """
    first, second = (
        np.sort(side, axis=1) @ middle_halves(side.shape[1], seed).T
        for seed, side in enumerate((a, b))
    )
    ordered = np.sort(first - second, axis=1)
    outside = int(tail(min(a.shape[1], b.shape[1])) * RESAMPLED)
    return ordered[:, outside], ordered[:, -1 - outside]


def middle_halves(runs: int, seed: int) -> Array:
    """[repetitions, runs]: by how much each of the runs, from least to most, counts in the IQM of a
    repetition of the bootstrap.
    """
    cut = int(TRIMMED * runs)
    upto = np.cumsum(np.concatenate([*resampled(runs, runs, RESAMPLED, seed)]), axis=1)
    inside = np.clip(upto, cut, runs - cut)
    return np.diff(inside, axis=1, prepend=cut) / (runs - 2 * cut)
