"""How often do nominal 95 % intervals hold the truth? `python -m analysis coverage` measures it.

Simulated agents whose scores on all tasks share a run effect, as a multi-task agent's do. The truth
is known: the aggregate of very many such agents. rliable's interval resamples every task by itself
(`StratifiedBootstrap`), as if the scores of one agent had nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from analysis.comparisons import difference_and_improvement
from analysis.statistics import (
    AGGREGATES,
    TRIMMED,
    Array,
    Statistic,
    interval,
    iqm,
    iqm_of_runs,
    mean,
    resampled,
)

TASKS = 10
EPISODES = 50
MANY = 40_000
"""Runs whose aggregate stands for the truth."""

World = Callable[[np.random.Generator, int], Array]


def normal_scores(generator: np.random.Generator, runs: int) -> Array:
    """[runs, TASKS]: tasks of their own difficulty, a run effect of 0.1, 0.045 on each score."""
    tasks = np.linspace(0.2, 0.8, TASKS)
    shared = generator.normal(0, 0.1, (runs, 1))
    return tasks + shared + generator.normal(0, 0.045, (runs, TASKS))


def success_rates(generator: np.random.Generator, runs: int) -> Array:
    """[runs, TASKS]: successes in 50 episodes, of tasks from nearly never to nearly always
    solved, with a run effect of 1 and 0.5 on each score, in logits.
    """
    logits = np.linspace(-2.5, 3.5, TASKS) + generator.normal(0, 1, (runs, 1))
    logits = logits + generator.normal(0, 0.5, (runs, TASKS))
    return generator.binomial(EPISODES, 1 / (1 + np.exp(-logits))) / EPISODES


WORLDS: dict[str, World] = {"normal": normal_scores, "success rates": success_rates}


class Coverage(NamedTuple):
    """Shares of nominal 95 % intervals that held the truth."""

    ours: float
    percentile: float
    """Whole runs, but plain percentiles."""
    per_task: float
    """Every task resampled by itself, as rliable does."""


def coverage(
    world: str, runs: int, statistic: str, *, simulations: int = 400, repetitions: int = 1000
) -> Coverage:
    """Simulates that many experiments of so many runs and counts the intervals that hold."""
    generator = np.random.default_rng([0, runs])
    function = AGGREGATES[statistic]
    truth = float(function(WORLDS[world](generator, MANY), None)[0])
    held = np.zeros(3)
    for _ in range(simulations):
        scores = WORLDS[world](generator, runs)
        own_seed = int(generator.integers(2**32))
        blocks = resampled(runs, scores.size, repetitions, own_seed)
        drawn = np.concatenate([function(scores, counts) for counts in blocks])
        alone = per_task(scores, function, repetitions, generator)
        ends = (
            interval(drawn, runs),
            np.quantile(drawn, [0.025, 0.975]),
            np.quantile(alone, [0.025, 0.975]),
        )
        held += [low <= truth <= high for low, high in ends]
    return Coverage(*(held / simulations).tolist())


def coverage_of_difference(
    world: str, runs: int, simulations: int = 400, repetitions: int = 1000
) -> float:
    """The share of intervals of a difference of IQMs over seeds that held 0, of so many runs a side
    that are alike.
    """
    generator = np.random.default_rng([0, runs])
    held = 0
    for _ in range(simulations):
        one, other = (WORLDS[world](generator, runs) for _ in range(2))
        own_seed = int(generator.integers(2**32))
        found, _ = difference_and_improvement(one, other, repetitions, own_seed)
        held += found.low <= 0 <= found.high
    return held / simulations


def per_task(
    scores: Array, statistic: Statistic, repetitions: int, generator: np.random.Generator
) -> Array:
    """[repetitions]: a statistic of runs drawn for every task by itself, as rliable draws them."""
    runs, tasks = scores.shape
    drawn = generator.integers(runs, size=(repetitions, runs, tasks))
    samples = scores[drawn, np.arange(tasks)]
    if statistic is mean:
        return samples.mean(axis=(1, 2))
    if statistic is iqm_of_runs:
        samples = samples.mean(axis=2)
    elif statistic is not iqm:
        return np.array([statistic(sample, None)[0] for sample in samples])
    ordered = np.sort(samples.reshape(repetitions, -1), axis=1)
    cut = int(TRIMMED * ordered.shape[1])
    return ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)


def coverage_table(simulations: int) -> str:
    """The documentation's table, in Markdown."""
    lines = [
        "| scores | runs | statistic | whole runs, widened (ours) | whole runs, percentiles "
        "| each task by itself (rliable) |",
        "|---|---|---|---|---|---|",
    ]
    for world in WORLDS:
        for runs in (3, 5, 10, 20):
            for name in ("IQM over seeds", "mean", "IQM over runs × tasks"):
                held = coverage(world, runs, name, simulations=simulations)
                shares = " | ".join(f"{x:.0%}" for x in held)
                lines.append(f"| {world} | {runs} | {name} | {shares} |")
            apart = coverage_of_difference(world, runs, simulations)
            lines.append(
                f"| {world} | {runs} a side | difference of IQM over seeds | {apart:.0%} | | |"
            )
    return "\n".join(lines)
