"""MEGA, multi-task RL by model evolution (Yu et al., arXiv 2502.13569).

SAC trains the modules of the actor; which modules feed which is not routed but bred: every task
has a population of binary genotypes that decode to mixing weights (`algorithms.genetics`). The
critics are D2R's, static, with a learned router.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, NetworkProbe, Outcomes, Problem
from algorithms.d2r import RoutedCritics
from algorithms.draws import Draws, generator
from algorithms.genetics import Evolution, Population, decode
from algorithms.module_stack import ModuleStack, modules_in_use
from algorithms.networks import Linear, constant, fan_out_uniform, uniform
from algorithms.routing import Base
from algorithms.sac import HOST, Phase
from algorithms.settings import MEGASettings


class GenotypeNetwork(nn.Module):
    """The actor: D2R's base, modules and head, wired by a table instead of a router."""

    def __init__(
        self, tasks: int, inputs: int, outputs: int, s: MEGASettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        weight, bias = fan_out_uniform(generator), constant(0.1)
        head, module_width = uniform(generator, 3e-3), max(1, round(s.module_ratio * s.actor_width))
        self.base = Base(
            1, inputs, s.actor_width, s.base_depth, generator, tasks if s.append_task_id else 0
        )
        self.activation = nn.ReLU()
        self.stack = ModuleStack(1, s.actor_width, s.modules, module_width, weight, bias)
        self.head = Linear(1, module_width, outputs, head, head)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """[T, B, in] and a table [d, d, T, B or 1] → [1, T, B, out]."""
        result: Tensor = self.head(self.stack(self.activation(self.base(x)), table))
        return result


def gene_bits(tasks: int) -> int:
    """MEGA's precision: 2 bits a gene on MT10, 4 on MT50 and, our choice, on all above MT10."""
    return 2 if tasks <= 10 else 4


class MEGA(RoutedCritics):
    """See the module's docstring."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "scaling": {"gene_bits": gene_bits},
        "d2r": {"gene_bits": gene_bits},
        "published": {"gene_bits": gene_bits},
    }
    Settings = MEGASettings
    seeds_together = True
    capturable = True

    tables: Tensor
    elites: Tensor
    evaluated: Tensor
    turns: Tensor

    def __init__(self, settings: MEGASettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        starts = [generator(seed, "evolution", HOST).initial_seed() for seed in problem.seeds]
        self.evolutions = [
            Evolution(settings, self.tasks, problem.envs_per_task, start) for start in starts
        ]
        self.draws = Draws.of(problem, "training genotypes")
        self.decode_populations()
        self.look_up()

    def build(self, init: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """See `MultiTaskSAC.build`."""
        p = self.problem
        actor = GenotypeNetwork(
            self.tasks, p.observation_size, 2 * p.action_size, self.settings, init
        )
        return actor, self.build_critics(init)

    @property
    def populations(self) -> list[Population]:
        """One a task, those of all seeds."""
        return [population for e in self.evolutions for population in e.populations]

    def decode_populations(self) -> None:
        """Caches the tables of all genotypes, [d, d, T, N_p], d the largest stage.

        On a GPU d is the number of modules and the tables keep their place, so that a recorded step
        stays right when populations breed and grow.
        """
        populations, s, device = self.populations, self.settings, self.problem.device
        depth = max(p.stage for p in populations) if device.type == "cpu" else s.modules
        tables = np.stack(
            [
                np.stack(
                    [
                        decode(i.bits, s.gene_bits, depth, s.decoding, s.bit_order)
                        for i in p.individuals
                    ]
                )
                for p in populations
            ]
        )
        self.keep("tables", torch.from_numpy(tables).permute(2, 3, 0, 1).float().contiguous())

    def look_up(self) -> None:
        """Each task's fittest individual, the one to evaluate, and those on turn, [T, N]."""
        populations = self.populations
        elites = evaluated = [p.individuals.index(p.elite) for p in populations]
        if self.settings.evaluate_genotype == "oldest":
            births = [[i.birth for i in p.individuals] for p in populations]
            evaluated = np.argmin(births, axis=1).tolist()
        turns = np.stack([evolution.on_turn() for evolution in self.evolutions])
        self.keep("elites", torch.tensor(elites))
        self.keep("evaluated", torch.tensor(evaluated))
        self.keep("turns", torch.from_numpy(np.repeat(turns, self.tasks, axis=0)))

    def keep(self, name: str, value: Tensor) -> None:
        """Sets an attribute on the device, in its place if it has one of this shape."""
        before = getattr(self, name, None)
        if before is not None and before.shape == value.shape:
            before.copy_(value)
        else:
            setattr(self, name, value.to(self.problem.device))

    def table(self, individuals: Tensor) -> Tensor:
        """Tables of the individuals of each task: [T, B] → [d, d, T, B]."""
        index = individuals.expand(*self.tables.shape[:2], *individuals.shape)
        return self.tables.gather(3, index)

    def policy(
        self, observations: Tensor, phase: Phase, batch: Batch | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiTaskSAC.policy`; who acts, is evaluated or trained is the settings' choice."""
        if phase == "explore":
            individuals = self.turns
        else:
            individuals = (self.evaluated if phase == "evaluate" else self.in_training)[:, None]
        return self.split(self.actor(self.for_members(observations), self.table(individuals)))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """See `MultiTaskSAC.update`; one genotype a task serves the whole step."""
        self.in_training = self.elites
        if self.settings.train_genotype == "uniform":
            self.in_training = self.draws.integers(self.settings.population, (self.tasks,))
        return super().update(batch)

    def generators(self) -> list[torch.Generator]:
        """See `Algorithm.generators`."""
        return [*super().generators(), *self.draws.generators]

    def probes(self, batch: Batch, seed: int) -> list[dict[str, NetworkProbe]]:
        """See `MultiTaskSAC.probes`: the evaluated individuals are probed."""
        self.in_training = self.evaluated
        return super().probes(batch, seed)

    def end_episodes(self, outcomes: Outcomes) -> None:
        """Fitness, and evolution where a generation has ended."""
        returns = np.split(outcomes.returns.cpu().numpy(), self.seeds)
        successes = np.split(outcomes.successes.cpu().numpy(), self.seeds)
        changed = False
        for evolution, *outcome in zip(self.evolutions, returns, successes, strict=True):
            changed |= evolution.end_episodes(*outcome)
        if changed:
            self.decode_populations()
        self.look_up()

    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: stage, modules in use, diversity, fitness, the evaluated genotype's weights.

        `weight/j/i` weighs module i as a source of module j + 1; j = stage is the head.
        """
        populations, nan = self.populations, float("nan")
        table = self.table(self.evaluated[:, None])
        used = modules_in_use(table, self.settings.use_threshold).mean(-1).tolist()
        report = {
            "stage": [float(p.stage) for p in populations],
            "modules_in_use": used,
            "population_diversity": [p.diversity() for p in populations],
            "best_fitness": [p.elite.fitness if p.elite.scores else nan for p in populations],
            "generation": [float(p.generation) for p in populations],
        }
        weights, depth = table[..., 0].cpu().numpy(), table.shape[0]
        for k in range(1, depth + 1):
            for source in range(k):
                report[f"weight/{k}/{source + 1}"] = [
                    float(weights[depth - 1 if k == p.stage else k - 1, source, task])
                    if k <= p.stage
                    else nan
                    for task, p in enumerate(populations)
                ]
        return report

    def states(self) -> list[dict[str, Any]]:
        """See `MultiTaskSAC.states`."""
        own = zip(super().states(), self.evolutions, self.draws.generators, strict=True)
        return [
            {**state, "evolution": evolution.state_dict(), "draws": draws.get_state()}
            for state, evolution, draws in own
        ]

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """See `MultiTaskSAC.load_states`."""
        super().load_states(states)
        own = zip(states, self.evolutions, self.draws.generators, strict=True)
        for state, evolution, draws in own:
            evolution.load_state_dict(state["evolution"])
            draws.set_state(state["draws"])
        self.decode_populations()
        self.look_up()
