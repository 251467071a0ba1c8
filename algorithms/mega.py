"""MEGA, multi-task RL by model evolution (Yu et al., arXiv 2502.13569).

SAC trains the modules of the actor; which modules feed which is not routed but bred: every task
has a population of binary genotypes that decode to mixing weights (`algorithms.genetics`). The
critics are D2R's, static, with a learned router.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Outcomes, Problem
from algorithms.d2r import RoutedCritics
from algorithms.genetics import Evolution, GeneticSettings, Population, decode
from algorithms.modules.routing import Base, ModuleSettings
from algorithms.modules.stack import ModuleStack, by_operator, modules_in_use
from algorithms.parts.layers import constant, fan_out_uniform, linear, scaled, uniform
from algorithms.parts.randomness import generator, seed_of
from algorithms.sac import AllWeights, Given, Phase, Purpose


def gene_bits(tasks: int) -> int:
    """The paper's precision: 2 bits on MT10, 4 on MT50 and, our choice, on anything above MT10."""
    return 2 if tasks <= 10 else 4


@dataclass(frozen=True)
class MEGASettings(GeneticSettings, ModuleSettings):
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


class GenotypeNetwork(nn.Module):
    """The actor: D2R's base, modules and head, wired by a table instead of a router."""

    def __init__(self, tasks: int, inputs: int, outputs: int, s: MEGASettings) -> None:
        super().__init__()
        module_width = scaled(s.module_ratio, s.actor_width)
        self.base = Base(inputs, s.actor_width, s.base_depth, tasks if s.append_task_id else 0)
        self.stack = ModuleStack(
            s.actor_width, s.modules, module_width, fan_out_uniform, constant(0.1)
        )
        self.head = linear(module_width, outputs, uniform(3e-3), uniform(3e-3))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """[T, B, in] and a table [T, B or 1, d, d] → [T, B, out]."""
        result: Tensor = self.head(self.stack(torch.relu(self.base(x)), table))
        return result


class MEGA(RoutedCritics):
    """SAC on a module stack that genotypes wire, one population per task."""

    Settings = MEGASettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "scaling": {"gene_bits": gene_bits},
        "d2r": {"gene_bits": gene_bits},
        "published": {"gene_bits": gene_bits},
    }
    capturable = True

    tables: Tensor
    """Mixing weights of every individual, [T, N_p, d, d], d the largest stage."""
    elites: Tensor
    """Each task's fittest individual, [T]."""
    evaluated: Tensor
    """The one to evaluate, [T]."""
    turns: Tensor
    """Those that act in the running episode, [T, N]."""

    def __init__(self, settings: MEGASettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        start = seed_of(problem.seed, "evolution")
        self.evolution = Evolution(
            settings, settings.modules, self.tasks, problem.envs_per_task, start
        )
        self.stateful["evolution"] = self.evolution
        self.generators["genotypes"] = generator(problem.seed, "training genotypes", problem.device)
        self.decode_populations()
        self.look_up()

    def build_actor(self) -> nn.Module:
        p = self.problem
        return GenotypeNetwork(self.tasks, p.observation_size, 2 * p.action_size, self.settings)

    @property
    def populations(self) -> list[Population]:
        """One per task."""
        return self.evolution.populations

    def decode_populations(self) -> None:
        """Decodes all genotypes.

        On a GPU, and where unread modules cost nothing, d is the number of modules and the tables
        keep their place, so that a recorded or compiled step stays right when populations grow.
        """
        s, device = self.settings, self.problem.device.type
        fixed = device != "cpu" or by_operator(s.modules, device, torch.float32)
        depth = s.modules if fixed else max(p.stage for p in self.populations)
        tables = np.stack(
            [
                np.stack(
                    [
                        decode(i.bits, s.gene_bits, depth, s.decoding, s.bit_order)
                        for i in population.individuals
                    ]
                )
                for population in self.populations
            ]
        )
        self.keep("tables", torch.from_numpy(tables).float())

    def look_up(self) -> None:
        """Who is fittest, who is evaluated and whose turn it is."""
        populations = self.populations
        elites = evaluated = [p.individuals.index(p.elite) for p in populations]
        if self.settings.evaluate_genotype == "oldest":
            births = [[i.birth for i in p.individuals] for p in populations]
            evaluated = np.argmin(births, axis=1).tolist()
        self.keep("elites", torch.tensor(elites))
        self.keep("evaluated", torch.tensor(evaluated))
        self.keep("turns", torch.from_numpy(np.tile(self.evolution.turn, (self.tasks, 1))))

    def keep(self, name: str, value: Tensor) -> None:
        """Sets an attribute on the device, in its place if it has one of this shape."""
        before = getattr(self, name, None)
        if before is not None and before.shape == value.shape:
            before.copy_(value)
        else:
            setattr(self, name, value.to(self.problem.device))

    def table(self, individuals: Tensor) -> Tensor:
        """Tables of individuals of each task: [T, B] → [T, B, d, d]."""
        tasks = torch.arange(self.tasks, device=individuals.device)
        return self.tables[tasks[:, None], individuals]

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
        given["table"] = self.table(individuals)
        return given

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        actor = self.networks["actor"]
        return self.mean_and_log_std(actor(weights["actor"], observations, given["table"]))

    def end_episodes(self, outcomes: Outcomes) -> None:
        """Fitness, and evolution where a generation has ended."""
        returns, successes = outcomes.returns.cpu().numpy(), outcomes.successes.cpu().numpy()
        if self.evolution.end_episodes(returns, successes):
            self.decode_populations()
        self.look_up()

    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: stage, modules in use, diversity, fitness, the evaluated genotype's weights.

        `weight/j/i` weighs module i as a source of module j + 1; j = stage is the head.
        """
        populations, nan = self.populations, float("nan")
        table = self.table(self.evaluated[:, None])[:, 0]
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
        return report

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.decode_populations()
        self.look_up()
