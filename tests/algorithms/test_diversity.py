"""Distances between populations, clusters of elites and warnings, by hand and by brute force."""

from __future__ import annotations

import math
from collections import deque
from itertools import product
from typing import Any

import numpy as np
import pytest

from algorithms.diversity import Growth, Watch, clusters, distance, population_distances
from algorithms.genetics import Individual, Population
from algorithms.mega import MEGASettings


def population(*genotypes: str, stage: int = 2) -> Population:
    """A population of written genotypes of 2-bit genes, the first of which is the fittest."""
    bits = [np.array([int(b) for b in text], np.uint8) for text in genotypes]
    return Population(stage, [Individual(b, i, deque([float(-i)])) for i, b in enumerate(bits)])


def watch(tasks: int, **fields: Any) -> Watch:
    return Watch(MEGASettings(**{"modules": 3, "first_stage": 2} | fields), tasks)


def test_the_first_segment_and_what_only_one_has_do_not_count() -> None:
    one, other = (population(g).individuals[0].bits for g in ("000011", "110111"))
    assert distance(one, other, 2) == 0.25
    longer = population("000111" + "1" * 6, stage=3).individuals[0].bits
    assert distance(one, longer, 2) == 0.25
    assert distance(one[:2], longer, 2) == 0.0


def test_population_distances_are_means_over_pairs_with_other_tasks() -> None:
    random = np.random.default_rng(0)
    populations = []
    for stage in (2, 3, 2):
        length = stage * (stage + 1)
        texts = ["".join(map(str, random.integers(0, 2, length))) for _ in range(4)]
        populations.append(population(*texts, stage=stage))
    found = population_distances(populations, 2)
    for task, own in enumerate(populations):
        others = [
            distance(a.bits, b.bits, 2)
            for index, p in enumerate(populations)
            if index != task
            for a, b in product(own.individuals, p.individuals)
        ]
        assert found[task] == pytest.approx(np.mean(others))
    assert math.isnan(population_distances(populations[:1], 2)[0])


def test_elites_are_linked_by_others_and_only_at_one_stage() -> None:
    chain = [population(g) for g in ("000000", "000011", "000001")]
    assert clusters(chain, 2, 0.25) == [0, 0, 0], "the third links the first two"
    assert clusters(chain[:2], 2, 0.25) == [0, 1]
    grown = population("000000" + "0" * 6, stage=3)
    assert clusters([chain[0], grown, chain[2]], 2, 0.25) == [0, 1, 0]


def test_only_elites_make_a_collapse() -> None:
    alike = [population("110000", "000111"), population("000000", "001111")]
    report = watch(2).report(alike)
    assert report["warning/collapse"] == [1.0, 1.0]
    assert report["elite_clusters"] == [1.0, 1.0]
    apart = watch(2).report([alike[0], population("000111", "000000")])
    assert apart["warning/collapse"] == [0.0, 0.0]
    assert apart["elite_cluster_share"] == [0.5, 0.5]
    assert watch(1).report(alike[:1])["warning/collapse"] == [0.0]


def test_growth_to_the_largest_stage_everywhere_is_a_warning() -> None:
    largest, smaller = population("0" * 12, stage=3), population("000000")
    assert watch(2).report([largest, largest])["warning/largest_stage"] == [1.0, 1.0]
    assert watch(2).report([largest, smaller])["warning/largest_stage"] == [0.0, 0.0]
    start = watch(2, first_stage=3).report([largest, largest])
    assert start["warning/largest_stage"] == [0.0, 0.0], "nothing has grown"


def after(successes: list[float], *grown_after: int) -> Growth:
    """A task's growth after so many generations, each with this success."""
    growth = Growth()
    for index, success in enumerate(successes, 1):
        growth.successes = [success, success]
        growth.end_generation(grown=index in grown_after)
    return growth


def test_growth_costs_what_no_generation_since_has_won_back() -> None:
    assert after([0.5, 0.8, 0.2, 0.4, 0.3], 2).cost == pytest.approx(0.5)
    assert after([0.5, 0.8, 0.2, 0.9], 2).cost == 0
    assert math.isnan(after([0.5, 0.8], 2).cost)
    assert math.isnan(after([0.5, 0.0, 0.0], 2).cost), "there was nothing to lose"
    assert math.isnan(after([0.5, 0.8, 0.2], 9).cost), "nothing has grown"


def test_growth_on_growth_that_is_not_won_back_is_one_fall() -> None:
    fallen = after([0.15] * 5 + [0.0] * 10, 5, 10, 15)
    assert fallen.cost == 1 and fallen.generations == 10
    assert after([0.2, 0.1, 0.4, 0.3], 1, 3).cost == pytest.approx(0.25), "won back, and then more"


def test_a_task_that_does_not_recover_in_time_is_a_warning() -> None:
    w, alike = watch(2, recovery_generations=3, growth_cost=0.2), population("000000")
    warned = []
    for generation, success in enumerate([0.5, 0.3, 0.3, 0.3, 0.3, 0.45]):
        w.record(np.array([[success], [0.5]]))
        w.end_generation([0, 1], [2, 2], [3, 2] if generation == 0 else [2, 2])
        copy = watch(2, recovery_generations=3)
        copy.load_state_dict(w.state_dict())
        assert str(copy.report([alike, alike])) == str(w.report([alike, alike]))
        warned.append(copy.report([alike, alike])["warning/growth_cost"])
    assert [own for own, _ in warned] == [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    assert not any(other for _, other in warned)
