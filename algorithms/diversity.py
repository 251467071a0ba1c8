"""How alike genotypes are, and warnings of what MEGA (arXiv 2502.13569) is known to fail by.

Distances are shares of differing bits (Hamming), over the segments that both genotypes have. The
first one is left out: it has a single source, whose weight is always 1. 0.5 is chance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.fields import Count, Share
from algorithms.genetics import Bits, Population


@dataclass(frozen=True)
class WatchSettings:
    """From when on there are warnings in the rows; changes nothing that is learned."""

    cluster_distance: Share = 0.1
    """Share of differing bits up to which elites of one stage count as alike [choice]."""
    growth_cost: Share = 0.2
    """Share of a task's success that growth may cost without a warning [choice]."""
    recovery_generations: Count = 10
    """Generations in which a task must recover from growth, without a warning [choice]."""


def distance(one: Bits, other: Bits, gene_bits: int) -> float:
    """Share of bits in which two genotypes differ; 0 where they share no segment but the first."""
    length = min(len(one), len(other))
    differ = one[gene_bits:length] != other[gene_bits:length]
    return float(differ.mean()) if len(differ) else 0.0


def population_distances(populations: Sequence[Population], gene_bits: int) -> list[float]:
    """Of each task's individuals from those of the other tasks, the mean of all pairs; NaN for a
    single task.
    """
    individuals = [i.bits for p in populations for i in p.individuals]
    ones, there = np.zeros((2, len(individuals), max(map(len, individuals))))
    for row, bits in enumerate(individuals):
        ones[row, gene_bits : len(bits)] = bits[gene_bits:]
        there[row, gene_bits : len(bits)] = 1
    differ = ones @ (there - ones).T
    apart = (differ + differ.T) / np.maximum(there @ there.T, 1)
    tasks = len(populations)
    if tasks == 1:
        return [float("nan")]
    between = apart.reshape(tasks, len(individuals) // tasks, tasks, -1).mean((1, 3))
    mean = (between.sum(1) - between.diagonal()) / (tasks - 1)
    return [float(value) for value in mean]


def clusters(populations: Sequence[Population], gene_bits: int, within: float) -> list[int]:
    """The cluster, from 0, of each task's elite: single linkage (Sneath, 1957).

    Elites of one stage that are at most `within` apart are linked, and so are those that others
    link. Of different stages they are different networks, and never linked directly.
    """
    elites = [(p.stage, p.elite.bits) for p in populations]
    found = list(range(len(elites)))
    for task, (stage, bits) in enumerate(elites):
        for other in range(task):
            alike = stage == elites[other][0]
            if alike and distance(bits, elites[other][1], gene_bits) <= within:
                joined, kept = found[task], found[other]
                found = [kept if cluster == joined else cluster for cluster in found]
    names = {cluster: index for index, cluster in enumerate(dict.fromkeys(found))}
    return [names[cluster] for cluster in found]


@dataclass
class Growth:
    """What growth has cost a task, in mean success of a generation's training episodes."""

    successes: list[float] = field(default_factory=list)
    """Of the running generation's episodes."""
    before: float = float("nan")
    """Success of the generation after which the task grew."""
    best: float = float("nan")
    """The best one since."""
    generations: int = 0
    """Since growth."""

    def end_generation(self, grown: bool) -> None:
        """Moves on by a generation, after which the task has `grown` or not."""
        success = float(np.mean(self.successes))
        self.successes = []
        if not np.isnan(self.before):
            self.best = float(np.fmax(self.best, success))
            self.generations += 1
        # Growth on growth that is not won back yet is one fall.
        if grown and (np.isnan(self.before) or self.best >= self.before):
            self.before, self.best, self.generations = success, float("nan"), 0

    @property
    def cost(self) -> float:
        """Share of the success before that no generation since has reached; NaN before growth,
        before a generation has ended after it, and where there was no success to lose.
        """
        if not self.before > 0 or np.isnan(self.best):
            return float("nan")
        return max(0.0, 1 - self.best / self.before)


class Watch:
    """Looks at the populations of all tasks, and remembers what growth has cost."""

    def __init__(self, settings: Any, tasks: int) -> None:
        self.settings = settings
        self.growths = [Growth() for _ in range(tasks)]

    def record(self, successes: NDArray[np.float64]) -> None:
        """Successes [T, N] of the episodes that have ended."""
        if self.settings.evolution:
            for growth, own in zip(self.growths, successes, strict=True):
                growth.successes.extend(own.tolist())

    def end_generation(self, due: Sequence[int], before: Sequence[int], now: Sequence[int]) -> None:
        """After a generation of these tasks, with all tasks' stages before and now."""
        for task in due:
            self.growths[task].end_generation(now[task] > before[task])

    def report(self, populations: Sequence[Population]) -> dict[str, list[float]]:
        """Per task: distances, clusters and warnings, which are 1 where there is one.

        - `warning/collapse`: the elites of all tasks, of which there are several, are one cluster;
        - `warning/largest_stage`: every task has grown to the largest stage;
        - `warning/growth_cost`: the last growth has cost more than the settings allow, and the task
          has not recovered in the generations that they give it.
        """
        s, tasks = self.settings, len(populations)
        found = clusters(populations, s.gene_bits, s.cluster_distance)
        # At stage 1 there is a single genotype that means anything.
        collapsed = tasks > 1 and len(set(found)) == 1 and populations[0].stage > 1
        largest = s.modules > s.first_stage and all(p.stage == s.modules for p in populations)
        costly = [
            growth.generations >= s.recovery_generations and growth.cost > s.growth_cost
            for growth in self.growths
        ]
        return {
            "population_distance": population_distances(populations, s.gene_bits),
            "elite_clusters": [float(len(set(found)))] * tasks,
            "elite_cluster_share": [found.count(own) / tasks for own in found],
            "growth_cost": [growth.cost for growth in self.growths],
            "warning/collapse": [float(collapsed)] * tasks,
            "warning/largest_stage": [float(largest)] * tasks,
            "warning/growth_cost": [float(c) for c in costly],
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as text: NaN included."""
        return {"json": json.dumps([vars(growth) for growth in self.growths])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.growths = [Growth(**own) for own in json.loads(state["json"])]
