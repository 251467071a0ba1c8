"""Is A better than B? Probability of improvement, differences, and whether chance would do.

Whole runs are resampled and permuted, as in `analysis.statistics`. A difference counts as
significant where a permutation test of whole runs says so after Holm's correction for the number of
comparisons made at once, its interval does not hold 0, and there are five runs or more on either
side: resampling alone finds differences between three runs and three where there are none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.messages import AnalysisError
from analysis.statistics import (
    BLOCK,
    LEVEL,
    REPETITIONS,
    Array,
    Estimate,
    checked,
    interval,
    iqm_of_runs,
    mean,
    resampled,
)

FEW_SEEDS = 5
"""Below this number of seeds on either side a comparison is no evidence, and says so."""
WITHOUT_WIDTH = (
    "An interval of a probability of improvement that has no width is no certainty: these runs do "
    "not overlap, others may."
)
MOST_EXACT = 20_000
"""Ways to split the runs up to which all are tried; as many random ones where there are more."""


@dataclass(frozen=True)
class Comparison:
    """Configuration `a` against `b`."""

    a: str
    b: str
    difference: Estimate
    """The IQM over seeds of a less that of b."""
    improvement: Estimate
    """Probability that a run of a beats one of b on a task."""
    p_value: float
    """Of the permutation test of the means, corrected for the comparisons made along with it; NaN
    where a protocol plans it and it cannot be made yet.
    """
    seeds: tuple[int, int]
    """Runs of a and of b."""

    @property
    def enough(self) -> bool:
        """Whether both sides have the seeds that a verdict wants."""
        return min(self.seeds) >= FEW_SEEDS

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance explains, at `LEVEL`, by enough seeds."""
        apart = self.difference.low > 0 or self.difference.high < 0
        return apart and self.p_value < 1 - LEVEL and self.enough

    @property
    def warning(self) -> str:
        """What a reader must know of so few seeds; empty where there are enough."""
        if self.enough:
            return ""
        return f"fewer than {FEW_SEEDS} seeds, so nothing is called significant"

    def sentence(self) -> str:
        """One line for a caption or a report."""
        d, i = self.difference, self.improvement
        verdict = "significant" if self.significant else "not significant"
        if not math.isnan(self.p_value):
            verdict += f", p = {self.p_value:.2g} of the means"
        warning = f"; warning: {self.warning}" if self.warning else ""
        return (
            f"{self.a} − {self.b}: {d.value:+.3f}{ends(d, '+')} ({verdict}), "
            f"P({self.a} > {self.b}) = {i.value:.2f}{ends(i)}, "
            f"{self.seeds[0]} and {self.seeds[1]} seeds{warning}"
        )


def cautions(found: Collection[Comparison]) -> list[str]:
    """What readers of these comparisons must not take their numbers for."""
    made = [c for c in found if c.enough]
    lines = []
    if any(c.improvement.low == c.improvement.high for c in made):
        lines.append(WITHOUT_WIDTH)
    if any(c.seeds[0] != c.seeds[1] for c in made):
        lines.append(
            "p takes runs as exchangeable: where the side with fewer seeds scatters more, it is "
            "too small."
        )
    return lines


def ends(estimate: Estimate, sign: str = "") -> str:
    """An interval in brackets; nothing where there is none."""
    if math.isnan(estimate.low):
        return ""
    return f" [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def compare(
    a: tuple[str, Array], b: tuple[str, Array], repetitions: int = REPETITIONS
) -> Comparison:
    """Two configurations by name, with scores [runs, tasks] on the same tasks in the same order.

    Raises ValueError where the numbers of tasks differ.
    """
    scores_a, scores_b = checked(a[1]), checked(b[1])
    if scores_a.shape[1] != scores_b.shape[1]:
        raise ValueError(
            f"{a[0]} was scored on {scores_a.shape[1]} tasks, {b[0]} on {scores_b.shape[1]}"
        )
    difference, improvement = difference_and_improvement(scores_a, scores_b, repetitions)
    p_value = permutation_test(scores_a, scores_b)
    seeds = len(scores_a), len(scores_b)
    return Comparison(a[0], b[0], difference, improvement, p_value, seeds)


def difference_and_improvement(
    a: Array, b: Array, repetitions: int = REPETITIONS, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """The difference of IQMs over seeds, of scores [runs, tasks], and the probability of
    improvement, with their intervals where both have two runs or more.
    """
    wins, least = beaten(a, b), min(len(a), len(b))
    difference, improvement = float((iqm_of_runs(a) - iqm_of_runs(b))[0]), float(wins.mean())
    if least == 1:
        none = (math.nan, math.nan)
        return Estimate(difference, *none), Estimate(improvement, *none)
    size = max(a.size, b.size, wins.size)
    first, second = np.random.SeedSequence(seed).generate_state(2).tolist()
    drawn = [
        (iqm_of_runs(a, x) - iqm_of_runs(b, y), ((x @ wins) * y).sum(axis=1))
        for x, y in zip(
            resampled(len(a), size, repetitions, first),
            resampled(len(b), size, repetitions, second),
            strict=True,
        )
    ]
    differences, shares = (np.concatenate(column) for column in zip(*drawn, strict=True))
    return (
        Estimate(difference, *interval(differences, least)),
        Estimate(improvement, *interval(shares / wins.size, least)),
    )


def compare_all(
    scores: Mapping[str, Array],
    *,
    against: str | None = None,
    planned: int = 0,
    chosen_from: int = 0,
) -> list[Comparison]:
    """Every pair once, or each with one, with p-values corrected for their number, or for the
    number that a protocol has planned (`holm`), or that the scores have chosen them from.

    Raises AnalysisError where these are more than were planned.
    """
    if against is None:
        pairs = list(itertools.combinations(scores, 2))
    else:
        pairs = [(against, name) for name in scores if name != against]
    found = [compare((a, scores[a]), (b, scores[b])) for a, b in pairs]
    if planned and len(found) > planned:
        raise AnalysisError(f"planned: these rows make {len(found)} comparisons, not {planned}")
    # By too few seeds a planned comparison has not been made yet.
    made = [index for index, c in enumerate(found) if c.enough or not planned]
    p_values = holm([found[index].p_value for index in made], max(planned, chosen_from, len(found)))
    corrected = dict(zip(made, p_values, strict=True))
    return [replace(c, p_value=corrected.get(i, math.nan)) for i, c in enumerate(found)]


def corrected_for(found: Collection[Comparison], planned: int) -> str:
    """The number of comparisons that p-values are corrected for, in words."""
    made = sum(c.enough for c in found) if planned else len(found)
    number = max(len(found), planned)
    return f"{number} comparison{'s' * (number != 1)}" + (
        f", of which {made} can be made so far" if made < planned else ""
    )


def beaten(a: Array, b: Array) -> Array:
    """[runs of a, runs of b]: share of tasks on which the run of a scores more, ties ½."""
    return np.array([(row > b).mean(axis=1) + (row == b).mean(axis=1) / 2 for row in a])


def permutation_test(a: Array, b: Array) -> float:
    """Two-sided p-value of a difference of means, were whole runs exchangeable: over all splits up
    to `MOST_EXACT`.

    Not of IQMs: the hypothesis is the same, and trimming four runs to two would make many splits
    look alike.
    """
    runs = np.concatenate([a, b])
    chosen = splits(len(a), len(b), MOST_EXACT, np.random.default_rng(0))
    first = np.zeros((len(chosen), len(runs)))
    np.put_along_axis(first, chosen, 1, axis=1)
    blocks = np.array_split(first, 1 + first.shape[0] * runs.size // BLOCK)
    differences = np.concatenate([mean(runs, x) - mean(runs, 1 - x) for x in blocks])
    # Splits that differ from the observed one by rounding alone are as extreme as it is.
    return float(np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12))


def splits(a: int, b: int, most: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which `a` of a + b runs stand on the first side, [ways, a]: all ways up to `most`, else as
    many random ones behind the one that was observed, the first.
    """
    if math.comb(a + b, a) <= most:
        return np.array(list(itertools.combinations(range(a + b), a)))
    drawn = random.random((most, a + b)).argsort(axis=1)[:, :a]
    return np.vstack([np.arange(a), drawn])


def holm(p_values: Sequence[float], planned: int = 0) -> list[float]:
    """p-values corrected for their number (Holm 1979), in their order.

    Of `planned` comparisons those that are not made yet count as made with a p of 1: whatever they
    bring, none of these values will grow.
    """
    number = max(planned, len(p_values))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (number - rank) * p_values[index]))
        corrected[index] = least
    return corrected
