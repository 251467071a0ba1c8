"""MEGA, multi-task RL by model evolution (Yu et al., arXiv 2502.13569).

SAC trains the modules of the actor; which modules feed which is not routed but bred: every task
has a population of binary genotypes that decode to mixing weights (`algorithms.genetics`). The
critics are D2R's, static, with a learned router.

Off unless asked for, each in a module of its own, are the questions that the paper leaves open:
critics that are bred too (`algorithms.critic_evolution`), genotypes that learn by gradient
(`algorithms.genotype_gradient`), other triggers of growth (`algorithms.triggers`). Reports watch
over diversity and growth (`algorithms.diversity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Outcomes, ParameterCounts, Problem
from algorithms.critic_evolution import CriticSettings
from algorithms.diversity import Watch, WatchSettings
from algorithms.genetics import Evolution, GeneticSettings, Population
from algorithms.genotype_critics import GenotypeCritics
from algorithms.genotype_gradient import (
    GradientSettings,
    LearnedMixing,
    encode,
    learning,
    log_weights,
    segments_of_rows,
)
from algorithms.genotype_tables import decoded, fittest, keep, of_individuals
from algorithms.modules.genotype_network import GenotypeNetwork
from algorithms.modules.routing import ModuleSettings, routes
from algorithms.modules.stack import modules_in_use
from algorithms.parts.adam import Adam
from algorithms.parts.network import Network
from algorithms.parts.randomness import generator, seed_of
from algorithms.sac import AllWeights, Given, Phase, Purpose


def gene_bits(tasks: int) -> int:
    """The paper's precision: 2 bits on MT10, 4 on MT50 and, our choice, on anything above MT10."""
    return 2 if tasks <= 10 else 4


@dataclass(frozen=True)
class MEGASettings(
    CriticSettings, GradientSettings, WatchSettings, GeneticSettings, ModuleSettings
):
    """Genetic model evolution: binary genotypes, one population per task, wire the modules
    [MEGA: arXiv 2502.13569].
    """

    append_task_id: bool = False
    """Give the actor's base network the task id as well [choice]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_stage > self.modules:
            raise ValueError(
                f"first_stage {self.first_stage} is more than modules ({self.modules})"
            )
        if self.critic_genotypes and self.critic_first_stage > self.modules:
            raise ValueError(
                f"critic_first_stage {self.critic_first_stage} is more than modules "
                f"({self.modules})"
            )
        if self.genotype_gradient != "none" and self.individual == "random":
            raise ValueError(
                f"genotype_gradient {self.genotype_gradient} needs generations of all tasks that "
                "end together: add --individual round_robin"
            )
        if self.genotype_gradient == "lamarck" and not self.evolution:
            raise ValueError(
                "genotype_gradient lamarck writes into genes as a generation ends, and without "
                "evolution none does: add --evolution or --genotype-gradient baldwin"
            )


class MEGA(GenotypeCritics):
    """SAC on a module stack that genotypes wire, one population per task."""

    Settings = MEGASettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"gene_bits": gene_bits} for name in ("*", "smoke", "quick")
    }
    capturable = True

    tables: Tensor
    """Mixing weights of every individual, [T, N_p, n, n], n modules."""
    elites: Tensor
    """Each task's fittest individual, [T]."""
    evaluated: Tensor
    """The one to evaluate, [T]."""
    turns: Tensor
    """Those that act in the running episode, [T, N]."""
    segments: Tensor
    """The segment of the genotype that fills each row of a task's tables, [T, d]."""

    def __init__(self, settings: MEGASettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        start = seed_of(problem.seed, "evolution")
        self.evolution = Evolution(settings, self.tasks, problem.envs_per_task, start)
        self.watch = Watch(settings, self.tasks)
        self.stateful |= {"evolution": self.evolution, "watch": self.watch}
        self.generators["genotypes"] = generator(problem.seed, "training genotypes", problem.device)
        self.decode_populations()
        self.look_up()

    # Networks ----------------------------------------------------------------------------------

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        tasks = self.tasks if s.append_task_id else 0
        return GenotypeNetwork(tasks, p.observation_size, 2 * p.action_size, s.actor_width, s)

    def build_networks(self) -> dict[str, Network]:
        s, networks = self.settings, super().build_networks()
        if learning(s):
            networks["mixing"] = Network(
                lambda: LearnedMixing(self.tasks, s.population, s.modules), self.problem.device
            )
        return networks

    def build_optimisers(self) -> dict[str, Adam]:
        s, optimisers = self.settings, super().build_optimisers()
        if learning(s):
            optimisers["mixing"] = Adam(s.genotype_learning_rate, s.adam_epsilon)
        return optimisers

    def trained_by(self, name: str) -> tuple[str, ...]:
        if name == "actor" and "mixing" in self.networks:
            return ("actor", "mixing")
        return (name,)

    def parameter_counts(self) -> ParameterCounts:
        """Those of the networks; mixing weights that learn are, like genes, not counted."""
        counts = super().parameter_counts()
        mixing = self.networks["mixing"].count if "mixing" in self.networks else 0
        return ParameterCounts(counts.actor, counts.critic - mixing)

    # Populations -------------------------------------------------------------------------------

    @property
    def populations(self) -> list[Population]:
        """One per task."""
        return self.evolution.populations

    def decode_populations(self) -> None:
        """Decodes all genotypes."""
        device, modules = self.problem.device, self.settings.modules
        keep(self, "tables", decoded(self.populations, self.settings), device)
        stages = [p.stage for p in self.populations]
        keep(self, "segments", segments_of_rows(stages, modules), device)

    def look_up(self) -> None:
        """Who is fittest, who is evaluated and whose turn it is."""
        populations, device = self.populations, self.problem.device
        elites = evaluated = fittest(populations)
        if self.settings.evaluate_genotype == "oldest":
            births = [[i.birth for i in p.individuals] for p in populations]
            evaluated = torch.tensor(np.argmin(births, axis=1).tolist())
        turns = torch.from_numpy(np.tile(self.evolution.turn, (self.tasks, 1)))
        keep(self, "elites", elites, device)
        keep(self, "evaluated", evaluated, device)
        keep(self, "turns", turns, device)

    # Acting and learning -----------------------------------------------------------------------

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        """Who acts, is evaluated or trained is the settings' choice; one genotype per task serves a
        whole gradient step.
        """
        given = super().given(purpose, samples, random)
        if purpose == "explore":
            individuals = self.turns
        elif purpose in ("evaluate", "probe"):
            individuals = self.evaluated[:, None]
        elif self.settings.train_genotype == "best":
            individuals = self.elites[:, None]
        else:
            individuals = torch.randint(
                self.settings.population,
                (self.tasks, 1),
                generator=self.generators["genotypes"],
                device=self.problem.device,
            )
        given["table"] = of_individuals(self.tables, individuals)
        if "mixing" in self.networks:
            given |= {"individuals": individuals, "segments": self.segments}
        return given

    def wiring(self, weights: AllWeights, given: Given) -> Tensor:
        """The actor's tables, [T, B or 1, d, d]: decoded, and with what has been learned since."""
        if "mixing" not in self.networks:
            return given["table"]
        table, individuals, segments = (given[k] for k in ("table", "individuals", "segments"))
        return self.networks["mixing"](weights["mixing"], table, individuals, segments)

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        actor, table = self.networks["actor"], self.wiring(weights, given)
        return self.mean_and_log_std(actor(weights["actor"], observations, table))

    @torch.no_grad()
    def end_episodes(self, outcomes: Outcomes) -> None:
        """Fitness, and evolution where a generation has ended."""
        returns, successes = outcomes.returns.cpu().numpy(), outcomes.successes.cpu().numpy()
        self.watch.record(successes)
        due = self.evolution.record(returns, successes)
        if due:
            if "mixing" in self.networks:
                self.end_lifetimes(due)
            stages = [p.stage for p in self.populations]
            self.evolution.next_generation(due)
            self.watch.end_generation(due, stages, [p.stage for p in self.populations])
            self.decode_populations()
        self.look_up()
        super().end_episodes(outcomes)

    def end_lifetimes(self, due: list[int]) -> None:
        """Forgets what individuals of these tasks have learned, or encodes it into their genes."""
        s, views = self.settings, self.networks["mixing"].views
        learned = views(self.state["mixing"])["shift"].double().cpu().numpy()
        if s.genotype_gradient == "lamarck":
            for task in due:
                population = self.populations[task].individuals
                for own, shift in zip(population, learned[task], strict=True):
                    own.bits = encode(log_weights(own.bits, shift, s), own.bits, s)
        for part in ("mixing", "mixing.first_moment", "mixing.second_moment"):
            views(self.state[part])["shift"][due] = 0
        self.state["mixing.steps"].zero_()  # generations of all tasks end together

    @torch.no_grad()
    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: stage, modules in use, diversity, fitness, the evaluated genotype's weights,
        warnings, and of what is switched on its own.

        `weight/j/i` weighs module i as a source of module j + 1; j = stage is the head.
        """
        populations, nan = self.populations, float("nan")
        given = self.given("evaluate", 1, self.generators["genotypes"])  # which draws nothing
        table = self.wiring(self.weights(self.state), given)[:, 0]
        report = {
            "stage": [float(p.stage) for p in populations],
            "modules_in_use": modules_in_use(table, self.settings.use_threshold).tolist(),
            "population_diversity": [p.diversity() for p in populations],
            "best_fitness": [p.elite.fitness if p.elite.scores else nan for p in populations],
            "generation": [float(p.generation) for p in populations],
        }
        weights, depth = table.cpu().numpy(), table.shape[-1]
        for k in range(1, depth + 1):
            for source in range(k):
                report[f"weight/{k}/{source + 1}"] = [
                    float(weights[task, depth - 1 if k == p.stage else k - 1, source])
                    if k <= p.stage
                    else nan
                    for task, p in enumerate(populations)
                ]
        report |= self.watch.report(populations) | super().report(batch)
        if "mixing" in self.networks:
            shift = self.networks["mixing"].views(self.state["mixing"])["shift"]
            genes = torch.tensor([self.settings.population * routes(p.stage) for p in populations])
            squares = shift.square().sum((1, 2)).cpu()
            report["genotype_shift"] = (squares / genes).sqrt().tolist()
        return report

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.decode_populations()
        self.look_up()
