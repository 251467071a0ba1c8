"""Genotypes, their decoding and their evolution: the genetic half of MEGA (arXiv 2502.13569).

A genotype of stage n is n segments; segment k holds k genes of p_w bits and weighs the outputs of
modules 1 … k, as the input of module k + 1 or, for k = n, of the head. Pure NumPy.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from algorithms.fields import Count, Range, Share
from algorithms.triggers import TriggerSettings, fires

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class GeneticSettings(TriggerSettings):
    """How genotypes are read, judged, bred and grown."""

    gene_bits: Annotated[int, Range(1, 8)] = 2
    """Bits per gene, p_w: 2 on MT10, 4 on MT50 [MEGA]."""
    bit_order: Literal["msb_first", "lsb_first"] = "msb_first"
    """Which bit of a gene comes first [choice]."""
    decoding: Literal["halfsoftmax", "softmax"] = "halfsoftmax"
    """How genes become mixing weights: HalfSoftmax [MEGA], or plain softmax to compare with."""
    population: Annotated[int, Range(2, 1000)] = 4
    """Individuals per task, N_p: 3 to 4 [MEGA]."""
    first_stage: Annotated[int, Range(1, 64)] = 3
    """Modules of a task at the start [MEGA]."""
    evolution: bool = True
    """Breed new generations; False keeps the first genotypes [choice]."""
    individual: Literal["round_robin", "random"] = "round_robin"
    """Who acts in an episode: each individual in turn, or a random one [choice]."""
    episodes_per_individual: Count = 5
    """Own episodes of each individual in a generation; their mean is its fitness, and until then
    the mean of those that it has had: a newborn may lead, and be evaluated, on one [choice]."""
    fitness: Literal["return", "success"] = "return"
    """What an episode is worth: its unscaled return [MEGA], or its success [choice]."""
    abandon_rate: Share = 0.25
    """Share of a population that is culled per generation, r_a; at least one, never the elite
    [choice]."""
    parents: Literal["rank", "uniform"] = "rank"
    """How parents are drawn: roulette with rank weights, or all alike [choice]."""
    crossover: Literal["uniform", "one_point"] = "uniform"
    """Whole genes from either parent independently, or from the second one behind a random point
    [choice]."""
    crossover_rate: Share = 0.5
    """Probability that a child has two parents [MEGA]."""
    mutation_rate: Share = 0.15
    """Probability that a child mutates [MEGA]."""
    mutation_bits: Share = 0.02
    """Share of its bits that a mutating child flips; at least one [choice]."""
    cross_population_rate: Share = 0.1
    """Probability τ_cp that the second parent is another task's elite [MEGA; value: choice]."""
    evaluate_genotype: Literal["best", "oldest"] = "best"
    """Whose genotype is evaluated: the fittest, ties to the older, or the oldest [choice]."""
    train_genotype: Literal["uniform", "best"] = "uniform"
    """Whose genotype a gradient step trains, per task: a random individual or the fittest
    [choice]."""


def genotype_length(stage: int, gene_bits: int) -> int:
    """Bits of a genotype: l_g = ½·p_w·(n+1)·n."""
    return gene_bits * stage * (stage + 1) // 2


def segment_weights(genes: NDArray[np.int64], decoding: str) -> NDArray[np.float64]:
    """Mixing weights of one segment's genes d: HalfSoftmax (e^d − 0.99) / Σ(e^d − 0.99), or
    softmax.
    """
    strength = gene_strengths(genes, decoding)
    return strength / strength.sum()


def gene_strengths(genes: NDArray[np.int64], decoding: str) -> NDArray[np.float64]:
    """What mixing weights are proportional to: e^d − 0.99 or, for softmax, e^d."""
    return np.exp(genes.astype(np.float64)) - (0.99 if decoding == "halfsoftmax" else 0.0)


def genes_of(bits: Bits, gene_bits: int, bit_order: str) -> NDArray[np.int64]:
    """The whole numbers that bits stand for, one per gene."""
    powers = 2 ** np.arange(gene_bits)
    if bit_order == "msb_first":
        powers = powers[::-1]
    return bits.reshape(-1, gene_bits).astype(np.int64) @ powers


def decode(
    bits: Bits,
    gene_bits: int,
    depth: int,
    decoding: str = "halfsoftmax",
    bit_order: str = "msb_first",
) -> NDArray[np.float64]:
    """Genotype → lower-triangular table [depth, depth].

    Row j feeds module j + 2 and the last row the head, so a genotype of a stage below `depth`
    leaves the rows between empty: modules above its stage reach nothing.
    """
    genes = genes_of(bits, gene_bits, bit_order)
    stage = round((np.sqrt(8 * len(genes) + 1) - 1) / 2)
    table = np.zeros((depth, depth))
    for k in range(1, stage + 1):
        row = depth - 1 if k == stage else k - 1
        table[row, :k] = segment_weights(genes[k * (k - 1) // 2 : k * (k + 1) // 2], decoding)
    return table


@dataclass(eq=False)
class Individual:
    """One genotype and how its last episodes went."""

    bits: Bits
    birth: int
    """Running number: breaks ties of fitness towards the older."""
    scores: deque[float]
    """Fitness of its last episodes, oldest first."""

    @property
    def fitness(self) -> float:
        """Mean of the last episodes; −∞ before the first."""
        return float(np.mean(self.scores)) if self.scores else -np.inf


@dataclass
class Population:
    """The genotypes of one task and the watch over its progress."""

    stage: int
    individuals: list[Individual]
    generation: int = 0
    episodes: int = 0
    """Episodes in the running generation."""
    window_start: float = -np.inf
    """Best fitness when the window began."""
    window_successes: list[float] = field(default_factory=list)
    cooling: int = 0
    """Windows to come in which the task does not grow."""

    def ranked(self) -> list[Individual]:
        """Fittest first; ties to the older."""
        return sorted(self.individuals, key=lambda i: (-i.fitness, i.birth))

    @property
    def elite(self) -> Individual:
        """The fittest individual: it never dies."""
        return self.ranked()[0]

    def diversity(self) -> float:
        """Mean share of bits in which two individuals differ; 0.5 for random ones."""
        bits = np.stack([i.bits for i in self.individuals])
        pairs = np.triu_indices(len(bits), 1)
        return float(np.mean(bits[pairs[0]] != bits[pairs[1]]))


class Evolution:
    """One population per task, in lockstep with the training episodes."""

    def __init__(self, settings: Any, tasks: int, envs_per_task: int, seed: int) -> None:
        """`settings` are `GeneticSettings` that know the number of modules, the largest stage."""
        self.settings, self.envs_per_task = settings, envs_per_task
        self.random = np.random.default_rng(seed)
        self.births = 0
        self.turn: NDArray[np.int64] = np.arange(envs_per_task) % settings.population
        """Individual of each env of every task in the running episode."""
        self.populations = [self.fresh(settings.first_stage) for _ in range(tasks)]

    def fresh(self, stage: int) -> Population:
        """A population of fair coin flips."""
        length = genotype_length(stage, self.settings.gene_bits)
        draws = self.random.integers(0, 2, (self.settings.population, length), dtype=np.uint8)
        return Population(stage, [self.individual(bits) for bits in draws])

    def individual(self, bits: Bits) -> Individual:
        """A newborn."""
        self.births += 1
        return Individual(bits, self.births, deque(maxlen=self.scores_kept))

    @property
    def generation_episodes(self) -> int:
        """Episodes of a task in a generation."""
        return self.settings.population * self.settings.episodes_per_individual

    @property
    def scores_kept(self) -> int:
        """Scores whose mean is an individual's fitness."""
        return self.settings.episodes_per_individual

    def record(self, returns: NDArray[np.float64], successes: NDArray[np.float64]) -> list[int]:
        """Records returns and successes [T, N]; the tasks whose generation has ended."""
        s, turn = self.settings, self.turn
        if s.individual == "round_robin":
            self.turn = (turn + self.envs_per_task) % s.population
        else:
            self.turn = self.random.integers(0, s.population, self.envs_per_task)
        score = returns if s.fitness == "return" else successes
        due = []
        for task, population in enumerate(self.populations):
            for env, index in enumerate(turn):
                population.individuals[index].scores.append(float(score[task, env]))
                if s.evolution:
                    population.window_successes.append(float(successes[task, env]))
            population.episodes += self.envs_per_task
            # Who acts at random may have had fewer than its own episodes by then.
            judged = all(len(i.scores) == self.scores_kept for i in population.individuals)
            if s.evolution and judged and population.episodes >= self.generation_episodes:
                due.append(task)
        return due

    def next_generation(self, due: list[int]) -> None:
        """Breeds the next generation of these tasks, and grows the stage of those that stagnate."""
        # Elites are fixed before any task breeds, so that the order of tasks does not matter.
        elites = [(p.stage, p.elite.bits) for p in self.populations]
        for task in due:
            population = self.populations[task]
            population.generation += 1
            population.episodes = 0
            if fires(self.settings, population, self.settings.modules):
                self.grow(task)
            else:
                self.breed(task, elites)

    def grow(self, task: int) -> None:
        """One more module: fresh genotypes, or the old ones with a new random segment."""
        s, old = self.settings, self.populations[task]
        grown = self.fresh(old.stage + 1)
        grown.generation, grown.cooling = old.generation, s.cooldown_windows
        if s.growth == "extend":
            for new, individual in zip(grown.individuals, old.individuals, strict=True):
                new.bits[: len(individual.bits)] = individual.bits
        self.populations[task] = grown

    def breed(self, task: int, elites: list[tuple[int, Bits]]) -> None:
        """Replaces the worst r_a of the population by children of the others."""
        s, population = self.settings, self.populations[task]
        ranked = population.ranked()
        culled = min(max(1, round(s.abandon_rate * len(ranked))), len(ranked) - 1)
        survivors = ranked[:-culled]
        for dead in ranked[-culled:]:
            child = self.child(task, survivors, elites)
            population.individuals[population.individuals.index(dead)] = self.individual(child)

    def child(self, task: int, survivors: list[Individual], elites: list[tuple[int, Bits]]) -> Bits:
        """Crossover over whole genes or a clone, then perhaps mutation."""
        s, random = self.settings, self.random
        bits = self.roulette(survivors).copy()
        if random.random() < s.crossover_rate:
            other = self.second_parent(task, survivors, elites)
            genes = len(bits) // s.gene_bits
            if s.crossover == "uniform":
                from_other = random.random(genes) < 0.5
            else:
                from_other = np.arange(genes) >= random.integers(0, genes + 1)
            bits = np.where(np.repeat(from_other, s.gene_bits), other, bits)
        if random.random() < s.mutation_rate:
            flips = max(1, round(s.mutation_bits * len(bits)))
            bits[random.choice(len(bits), flips, replace=False)] ^= 1
        return bits

    def roulette(self, survivors: list[Individual]) -> Bits:
        """A parent; with rank weights, of K the best counts K times and the worst once."""
        weights = np.arange(len(survivors), 0, -1, dtype=np.float64)
        if self.settings.parents == "uniform":
            weights = np.ones(len(survivors))
        return survivors[self.random.choice(len(survivors), p=weights / weights.sum())].bits

    def second_parent(
        self, task: int, survivors: list[Individual], elites: list[tuple[int, Bits]]
    ) -> Bits:
        """With probability τ_cp another task's elite, cut to length; else one of the own."""
        own = self.populations[task].stage
        foreign = [b for t, (stage, b) in enumerate(elites) if t != task and stage >= own]
        if foreign and self.random.random() < self.settings.cross_population_rate:
            length = genotype_length(own, self.settings.gene_bits)
            return foreign[self.random.integers(len(foreign))][:length]
        return self.roulette(survivors)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as one JSON text: big integers and −∞ included."""
        populations = [
            {
                **{name: value for name, value in vars(p).items() if name != "individuals"},
                "individuals": [
                    {"bits": i.bits.tolist(), "birth": i.birth, "scores": list(i.scores)}
                    for i in p.individuals
                ],
            }
            for p in self.populations
        ]
        state = {
            "random": self.random.bit_generator.state,
            "births": self.births,
            "turn": self.turn.tolist(),
            "populations": populations,
        }
        return {"json": json.dumps(state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        loaded = json.loads(state["json"])
        self.random.bit_generator.state = loaded["random"]
        self.births, self.turn = loaded["births"], np.array(loaded["turn"], np.int64)
        self.populations = []
        for entry in loaded["populations"]:
            entry["individuals"] = [
                Individual(
                    np.array(i["bits"], np.uint8),
                    i["birth"],
                    deque(i["scores"], maxlen=self.scores_kept),
                )
                for i in entry["individuals"]
            ]
            self.populations.append(Population(**entry))
