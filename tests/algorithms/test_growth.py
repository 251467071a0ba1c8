"""Growth of a task's stage: when it comes, and what becomes of the genotypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evolutions import evolution, play

from algorithms.genetics import Evolution, decode, genotype_length
from algorithms.mega import MEGASettings


def stages_over(
    e: Evolution, generations: int, returns: Any, successes: Any = 0.0
) -> list[list[int]]:
    """Stages [generation][task]; `returns` may be a function of the generation, from 1."""
    history = []
    for generation in range(1, generations + 1):
        value = returns(generation) if callable(returns) else returns
        play(e, value, successes)
        history.append([p.stage for p in e.populations])
    return history


@pytest.mark.parametrize("mastered", [True, False])
@pytest.mark.parametrize("improves", [True, False])
def test_a_task_grows_exactly_where_it_neither_succeeds_nor_improves(
    mastered: bool, improves: bool
) -> None:
    e = evolution(window=4)
    slope = 1.0 if improves else 0.0
    history = stages_over(e, 4, lambda g: 100 + slope * g, 0.9 if mastered else 0.5)
    grows = not mastered and not improves
    assert history == [[3, 3]] * 3 + [[4, 4] if grows else [3, 3]]


def test_tasks_grow_apart() -> None:
    e = evolution(tasks=3, window=4)
    stages_over(e, 4, lambda g: np.array([[5.0], [5.0], [5.0 * g]]), [[0.0], [1.0], [0.0]])
    assert [p.stage for p in e.populations] == [4, 3, 3]


@pytest.mark.parametrize(
    ("start", "end", "grows"),
    [
        (100.0, 101.9, True),
        (100.0, 102.0, False),  # 2 % is not below 2 %
        (100.0, 50.0, True),  # worse is no improvement
        (-100.0, -98.0, False),  # relative to the size, whatever the sign
        (-100.0, -98.1, True),
        (0.0, 0.0, True),  # a flat zero stagnates although 0 < 2 % of 0 is false
        (0.0, 1.0, False),
    ],
)
def test_improvement_is_measured_from_the_first_generation_to_the_last_of_a_window(
    start: float, end: float, grows: bool
) -> None:
    e = evolution(window=3, improvement_threshold=0.02)
    history = stages_over(e, 3, lambda g: start if g < 3 else end)
    assert history[-1] == ([4, 4] if grows else [3, 3])


@pytest.mark.parametrize(("row", "grows"), [([1, 1, 1, 0], False), ([1, 1, 0, 0], True)])
def test_success_at_the_threshold_counts_as_mastered(row: list[int], grows: bool) -> None:
    e = evolution(window=3, success_threshold=0.75)
    assert stages_over(e, 3, 10.0, row)[-1] == ([4, 4] if grows else [3, 3])


def test_success_is_that_of_the_whole_window_and_of_no_other() -> None:
    e = evolution(tasks=1, window=3)
    for generation in range(1, 7):
        # The first window succeeds, the second does not: an average over both would pass.
        play(e, 10.0, 1.0 if generation <= 3 else 0.7)
    assert e.populations[0].stage == 4


def test_improvement_in_an_earlier_window_does_not_count() -> None:
    e = evolution(tasks=1, window=3)
    history = stages_over(e, 6, lambda g: 100.0 * min(g, 3))
    assert [row[0] for row in history] == [3, 3, 3, 3, 3, 4]


def test_growth_is_followed_by_a_window_of_cool_down_and_ends_at_the_last_module() -> None:
    e = evolution(tasks=1, window=3, modules=5)
    history = [row[0] for row in stages_over(e, 24, 10.0)]
    grown_at = [g for g in range(2, 25) if history[g - 1] > history[g - 2]]
    assert grown_at == [3, 9]
    assert history[-1] == 5


@pytest.mark.parametrize("gene_bits", [2, 4])
def test_growth_by_extension_keeps_every_segment(gene_bits: int) -> None:
    e = evolution(window=1, growth="extend", gene_bits=gene_bits, tasks=1)
    before = [i.bits.copy() for i in e.populations[0].individuals]
    tables = [decode(b, gene_bits, 3) for b in before]
    play(e, 5.0)
    population = e.populations[0]
    assert population.stage == 4
    for individual, bits, table in zip(population.individuals, before, tables, strict=True):
        assert len(individual.bits) == genotype_length(4, gene_bits)
        assert np.array_equal(individual.bits[: len(bits)], bits)
        # The old head's mixture is now what the new module reads.
        assert np.array_equal(decode(individual.bits, gene_bits, 4)[:3, :3], table)
        assert individual.fitness == -np.inf


def test_growth_by_reinitialisation_draws_new_genotypes() -> None:
    e = evolution(window=1, growth="reinitialise", tasks=1, gene_bits=4)
    before = [i.bits.copy() for i in e.populations[0].individuals]
    play(e, 5.0)
    population = e.populations[0]
    assert population.stage == 4
    assert all(len(i.bits) == genotype_length(4, 4) for i in population.individuals)
    kept = [
        np.mean(i.bits[: len(b)] == b) for i, b in zip(population.individuals, before, strict=True)
    ]
    assert 0.3 < np.mean(kept) < 0.7, "coin flips agree with anything half of the time"
    assert all(i.fitness == -np.inf for i in population.individuals)


@pytest.mark.parametrize("windows", [0, 1, 2])
def test_a_grown_task_rests_for_as_many_windows_as_configured(windows: int) -> None:
    settings = MEGASettings(
        population=2, episodes_per_individual=1, window=2, cooldown_windows=windows
    )
    evolution = Evolution(settings, 1, 1, seed=0)
    stages = []
    for _ in range(2 * 2 * 6):
        play(evolution, 1.0)
        stages.append(evolution.populations[0].stage)
    grown = [i for i in range(1, len(stages)) if stages[i] > stages[i - 1]]
    assert set(np.diff(grown)) == {4 * (windows + 1)}
