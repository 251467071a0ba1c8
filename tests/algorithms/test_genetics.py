"""Populations and how they breed: closed forms and invariants of arXiv 2502.13569."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
from evolutions import evolution, play
from numpy.typing import NDArray

from algorithms.genetics import Evolution, Individual, Population, decode, genotype_length
from algorithms.mega import MEGASettings


def genotypes(population: Population) -> list[list[int]]:
    return [i.bits.tolist() for i in population.individuals]


def scored(fitness: list[float], length: int = 12, first_birth: int = 1) -> list[Individual]:
    """Individuals with a given fitness; individual i has the bits of a one at i."""
    return [
        Individual(np.eye(length, dtype=np.uint8)[i], first_birth + i, deque([f], maxlen=1))
        for i, f in enumerate(fitness)
    ]


# Individuals and populations -------------------------------------------------------------------


def test_fitness_is_the_mean_of_the_last_episodes() -> None:
    e = evolution(episodes_per_individual=3)
    individual = e.individual(np.zeros(12, np.uint8))
    assert individual.fitness == -np.inf
    individual.scores.extend([100.0, 1.0, 2.0, 6.0])
    assert individual.fitness == 3.0


def test_ties_go_to_the_older() -> None:
    first, second, third = scored([5.0, 7.0, 7.0])
    population = Population(3, [third, first, second])
    assert population.elite is second
    assert population.ranked() == [second, third, first]


def test_newborns_rank_below_whoever_has_been_scored() -> None:
    poor, newborn = scored([-1e6])[0], Individual(np.zeros(12, np.uint8), 0, deque(maxlen=1))
    assert Population(3, [newborn, poor]).elite is poor


def test_diversity_is_the_mean_share_of_differing_bits() -> None:
    bits = [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]
    individuals = [Individual(np.array(b, np.uint8), i, deque()) for i, b in enumerate(bits)]
    assert Population(1, individuals).diversity() == pytest.approx((1 + 2 + 3) / 4 / 3)
    assert Population(1, individuals[:1] * 2).diversity() == 0


def test_fresh_genotypes_are_fair_coins() -> None:
    e = evolution(tasks=50, first_stage=6, gene_bits=4)
    bits = np.concatenate([i.bits for p in e.populations for i in p.individuals])
    assert set(bits.tolist()) == {0, 1}
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits))


# Episodes and generations ----------------------------------------------------------------------


@pytest.mark.parametrize("envs", [1, 3, 4, 6])
def test_individuals_take_turns_and_all_have_their_episodes_before_a_generation_ends(
    envs: int,
) -> None:
    e = evolution(envs=envs, episodes_per_individual=5)
    started = list(e.populations[0].individuals)
    runs: Counter[int] = Counter()
    expected_turn, rounds = 0, 0
    while e.populations[0].generation == 0:
        turn = e.turn
        assert turn.tolist() == [(expected_turn + i) % 4 for i in range(envs)]
        expected_turn += envs
        runs.update(turn.tolist())
        changed = play(e, np.arange(envs))
        rounds += 1
        assert changed == (rounds * envs >= 20)
    assert min(runs.values()) >= 5
    assert rounds == -(-20 // envs)
    assert sum(i in e.populations[0].individuals for i in started) == 3


@pytest.mark.parametrize(("fitness", "expected"), [("return", 30.0), ("success", 1.0)])
def test_fitness_is_what_the_setting_says(fitness: str, expected: float) -> None:
    e = evolution(fitness=fitness, episodes_per_individual=5)
    play(e, 30.0, 1.0)
    assert [i.fitness for i in e.populations[0].individuals] == [expected] * 4


def test_each_env_scores_the_individual_that_it_ran() -> None:
    e = evolution(envs=2, episodes_per_individual=9)
    play(e, [[1.0, 2.0], [10.0, 20.0]])
    play(e, [[3.0, 4.0], [30.0, 40.0]])
    assert [i.fitness for i in e.populations[0].individuals] == [1, 2, 3, 4]
    assert [i.fitness for i in e.populations[1].individuals] == [10, 20, 30, 40]


def test_without_evolution_the_genotypes_stay() -> None:
    e = evolution(evolution=False)
    before = [genotypes(p) for p in e.populations]
    random = np.random.default_rng(0)
    assert not any(play(e, random.normal(size=(2, 4))) for _ in range(50))
    assert [genotypes(p) for p in e.populations] == before


# Selection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("population", [2, 4, 7])
@pytest.mark.parametrize("abandon_rate", [0.25, 1.0])
def test_the_elite_never_dies(population: int, abandon_rate: float) -> None:
    # At its largest stage a population cannot grow, so that only culling could kill.
    e = evolution(
        tasks=2, envs=population, population=population, abandon_rate=abandon_rate, first_stage=6
    )
    random = np.random.default_rng(1)
    for _ in range(60):
        # Coarse returns, so that ties are common.
        returns = random.integers(0, 3, (2, population)).astype(float)
        turn = e.turn
        expected = []
        for p, row in zip(e.populations, returns, strict=True):
            ranking = [(row[env], -p.individuals[i].birth, i) for env, i in enumerate(turn)]
            expected.append(p.individuals[max(ranking)[2]])
        play(e, returns)
        for p, elite in zip(e.populations, expected, strict=True):
            assert elite in p.individuals
            assert p.elite is elite


@pytest.mark.parametrize(
    ("population", "rate", "culled"),
    [(4, 0.25, 1), (3, 0.25, 1), (8, 0.25, 2), (4, 0.0, 1), (4, 0.5, 2), (4, 1.0, 3), (2, 1.0, 1)],
)
def test_culling_replaces_the_worst(population: int, rate: float, culled: int) -> None:
    e = evolution(envs=population, population=population, abandon_rate=rate)
    before = list(e.populations[0].individuals)
    returns = np.random.default_rng(0).permutation(population).astype(float)
    births = e.births
    play(e, returns)
    after = e.populations[0].individuals
    replaced = [i for i in range(population) if after[i] is not before[i]]
    assert sorted(replaced) == sorted(np.argsort(returns)[:culled].tolist())
    assert all(after[i].fitness == -np.inf and after[i].birth > births for i in replaced)
    assert all(after[i].fitness == returns[i] for i in range(population) if i not in replaced)


# Children ------------------------------------------------------------------------------------


def test_a_child_of_neither_crossover_nor_mutation_is_a_clone() -> None:
    e = evolution(crossover_rate=0.0, mutation_rate=0.0)
    survivors = e.populations[0].individuals[:3]
    parents = [i.bits.tolist() for i in survivors]
    for _ in range(30):
        child = e.child(0, survivors, [])
        assert child.tolist() in parents
        assert not any(np.shares_memory(child, i.bits) for i in survivors)


@pytest.mark.parametrize("gene_bits", [1, 2, 4])
def test_crossover_swaps_whole_genes(gene_bits: int) -> None:
    e = evolution(
        crossover_rate=1.0, mutation_rate=0.0, cross_population_rate=0.0, gene_bits=gene_bits
    )
    length = genotype_length(3, gene_bits)
    ones, zeros = scored([2.0, 1.0], length)
    ones.bits, zeros.bits = np.ones(length, np.uint8), np.zeros(length, np.uint8)
    shares = []
    for _ in range(400):
        genes = e.child(0, [ones, zeros], []).reshape(-1, gene_bits)
        assert np.all(genes == genes[:, :1]), "a gene came from two parents"
        shares.append(genes[:, 0].mean())
    # Both parents may be the same; where they differ, half of the genes come from each.
    mixed = [s for s in shares if 0 < s < 1]
    assert len(mixed) > 100
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.08)
    assert len(e.child(0, [ones, zeros], [])) == length
    assert ones.bits.all()
    assert not zeros.bits.any()


@pytest.mark.parametrize(("stage", "rate", "flips"), [(3, 0.02, 1), (16, 0.02, 5), (3, 0.5, 6)])
def test_mutation_flips_its_share_of_distinct_bits(stage: int, rate: float, flips: int) -> None:
    e = evolution(
        crossover_rate=0.0, mutation_rate=1.0, mutation_bits=rate, first_stage=stage, modules=16
    )
    parent = e.populations[0].individuals[:1]
    before = parent[0].bits.copy()
    hit = np.zeros(len(before), int)
    for _ in range(1500):
        differs = e.child(0, parent, []) != before
        assert differs.sum() == flips
        hit += differs
    assert hit.all(), "every bit can flip"
    assert np.array_equal(parent[0].bits, before), "the parent is left alone"


@pytest.mark.parametrize("rate", [0.0, 0.15, 1.0])
def test_mutation_and_crossover_happen_at_their_rates(rate: float) -> None:
    for field, other in (("mutation_rate", "crossover_rate"), ("crossover_rate", "mutation_rate")):
        e = evolution(**{field: rate, other: 0.0}, cross_population_rate=1.0)
        # The own parent is all zeros and the foreign elite all ones: any change shows.
        parent = scored([1.0])
        parent[0].bits = np.zeros(12, np.uint8)
        elites = [(3, parent[0].bits), (3, np.ones(12, np.uint8))]
        children = 2000
        changed = np.mean([e.child(0, parent, elites).any() for _ in range(children)])
        tolerance = 5 * np.sqrt(rate * (1 - rate) / children) + 2**-5 * rate
        assert changed == pytest.approx(rate, abs=tolerance)


def elites_of_stages(stages: list[int], gene_bits: int) -> list[tuple[int, NDArray[np.uint8]]]:
    random = np.random.default_rng(3)
    return [
        (s, random.integers(0, 2, genotype_length(s, gene_bits), dtype=np.uint8)) for s in stages
    ]


def test_foreign_parents_have_at_least_the_own_stage_and_are_cut_to_length() -> None:
    e = evolution(tasks=4, cross_population_rate=1.0)
    elites = elites_of_stages([3, 2, 4, 3], 2)
    survivors = scored([1.0])
    seen = {tuple(e.second_parent(0, survivors, elites).tolist()) for _ in range(60)}
    assert seen == {tuple(elites[2][1][:12].tolist()), tuple(elites[3][1].tolist())}


@pytest.mark.parametrize("stages", [[3, 2, 2], [3, 1, 2]])
def test_without_an_eligible_foreigner_the_second_parent_is_the_own(stages: list[int]) -> None:
    e = evolution(tasks=3, cross_population_rate=1.0)
    survivors = scored([1.0])
    for _ in range(20):
        parent = e.second_parent(0, survivors, elites_of_stages(stages, 2))
        assert np.array_equal(parent, survivors[0].bits)


def test_foreign_parents_come_at_their_rate() -> None:
    e = evolution(cross_population_rate=0.1)
    elites, survivors = elites_of_stages([3, 3], 2), scored([1.0])
    foreign = [
        np.array_equal(e.second_parent(0, survivors, elites), elites[1][1]) for _ in range(3000)
    ]
    assert np.mean(foreign) == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 3000))


def test_the_first_segments_of_a_longer_genotype_are_those_of_the_shorter() -> None:
    """What makes cutting a foreign parent to length meaningful."""
    ((_, bits),) = elites_of_stages([5], 2)
    long, short = decode(bits, 2, 5), decode(bits[: genotype_length(3, 2)], 2, 5)
    assert np.array_equal(long[:2], short[:2])
    assert np.array_equal(long[2], short[4])


def test_two_tasks_populations_differ_at_birth_and_after_evolution() -> None:
    e = evolution(first_stage=6)
    assert genotypes(e.populations[0]) != genotypes(e.populations[1])
    random = np.random.default_rng(0)
    for _ in range(20):
        play(e, random.normal(size=(2, 4)))
        assert genotypes(e.populations[0]) != genotypes(e.populations[1])


# Saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", ["extend", "reinitialise"])
@pytest.mark.parametrize("envs", [3, 4])
def test_a_restored_evolution_continues_identically(growth: str, envs: int) -> None:
    options: dict[str, Any] = {"growth": growth, "window": 2, "episodes_per_individual": 2}
    original = evolution(envs=envs, seed=1, **options)
    random = np.random.default_rng(0)
    rounds = [(random.normal(size=(2, envs)), random.random((2, envs))) for _ in range(41)]
    for returns, successes in rounds[:13]:
        play(original, returns, successes)
    # A different seed, so that everything that matters must come from the state.
    restored = evolution(envs=envs, seed=2, **options)
    restored.load_state_dict(json.loads(json.dumps(original.state_dict())))
    assert restored.state_dict() == original.state_dict()
    for returns, successes in rounds[13:]:
        assert play(restored, returns, successes) == play(original, returns, successes)
        assert restored.turn.tolist() == original.turn.tolist()
    assert restored.state_dict() == original.state_dict()
    assert max(p.stage for p in original.populations) > 3, "nothing has happened"


def test_a_newborn_evolution_with_its_infinities_can_be_saved() -> None:
    original, restored = evolution(seed=1), evolution(seed=2)
    restored.load_state_dict(original.state_dict())
    assert restored.populations[0].window_start == -np.inf
    assert restored.state_dict() == original.state_dict()


def test_the_seed_decides_everything() -> None:
    first, same, other = evolution(seed=1), evolution(seed=1), evolution(seed=2)
    for e in (first, same, other):
        for generation in range(1, 9):
            play(e, np.arange(8.0).reshape(2, 4) % (generation + 1))
    assert first.state_dict() == same.state_dict()
    assert first.state_dict() != other.state_dict()


def test_drawn_at_random_a_generation_ends_when_all_have_been_judged() -> None:
    settings = MEGASettings(individual="random", population=4, episodes_per_individual=3)
    evolution = Evolution(settings, 1, 1, seed=0)
    waited = 0
    for _ in range(400):
        (population,), turn = evolution.populations, int(evolution.turn[0])
        episodes = population.episodes + 1
        judged = [min(3, len(i.scores) + (k == turn)) for k, i in enumerate(population.individuals)]
        generation = population.generation
        play(evolution, 1.0)
        ended = evolution.populations[0].generation != generation
        assert ended == (episodes >= 12 and min(judged) == 3)
        waited += ended and episodes > 12
    assert waited, "or the draw was never uneven"


def test_individuals_may_be_drawn_at_random_and_the_draw_resumes() -> None:
    settings = MEGASettings(individual="random", population=4)
    one = Evolution(settings, 2, 3, seed=1)
    turns = []
    for _ in range(30):
        turns.append(one.turn.tolist())
        play(one, 1.0)
    assert {i for turn in turns for i in turn} == {0, 1, 2, 3}
    other = Evolution(settings, 2, 3, seed=2)
    other.load_state_dict(one.state_dict())
    assert other.turn.tolist() == one.turn.tolist()


def test_one_point_crossover_takes_a_head_of_one_parent_and_a_tail_of_the_other() -> None:
    settings = MEGASettings(
        crossover="one_point", crossover_rate=1, mutation_rate=0, cross_population_rate=1
    )
    evolution = Evolution(settings, 2, 1, seed=0)
    mother = [evolution.individual(np.zeros(12, np.uint8))]
    father = [(3, np.zeros(12, np.uint8)), (3, np.ones(12, np.uint8))]
    children = [evolution.child(0, mother, father) for _ in range(60)]
    assert all((np.diff(child.astype(int)) >= 0).all() for child in children)
    assert len({int(child.sum()) for child in children}) == 7  # whole genes: 0, 2, ... 12 bits


def test_parents_are_drawn_by_rank_or_alike() -> None:
    counts = {}
    for how in ("rank", "uniform"):
        evolution = Evolution(MEGASettings(parents=how), 1, 1, seed=0)
        ranked = [evolution.individual(np.full(12, i, np.uint8)) for i in range(3)]
        drawn = [int(evolution.roulette(ranked)[0]) for _ in range(3000)]
        counts[how] = np.bincount(drawn) / 3000
    np.testing.assert_allclose(counts["rank"], [1 / 2, 1 / 3, 1 / 6], atol=0.03)
    np.testing.assert_allclose(counts["uniform"], [1 / 3] * 3, atol=0.03)
