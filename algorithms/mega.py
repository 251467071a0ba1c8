"""MEGA, multi-task RL by model evolution (Yu et al., arXiv 2502.13569).

SAC trains the modules of the actor; which modules feed which is not routed but bred: every task
has a population of binary genotypes that decode to mixing weights (`algorithms.genetics`). The
critics are D2R's, static, with a learned router.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from algorithms.algorithm import Batch, NetworkProbe, Outcomes, Problem, generator
from algorithms.d2r import RoutedCritics
from algorithms.genetics import Evolution, decode
from algorithms.module_stack import ModuleStack, modules_in_use
from algorithms.networks import Linear, constant, fan_out_uniform, uniform
from algorithms.routing import Base
from algorithms.sac import Phase
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


class MEGA(RoutedCritics):
    """See the module's docstring."""

    Settings = MEGASettings

    def __init__(self, settings: MEGASettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        host = Problem(problem.tasks, problem.envs_per_task, problem.seed)
        seed = generator(host, "evolution").initial_seed()
        self.evolution = Evolution(settings, self.tasks, problem.envs_per_task, seed)
        self.draws = generator(host, "training genotypes")
        self.decode_populations()
        self.rank()

    def build(self, init: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """See `MultiTaskSAC.build`."""
        p = self.problem
        actor = GenotypeNetwork(
            self.tasks, p.observation_size, 2 * p.action_size, self.settings, init
        )
        return actor, self.build_critics(init)

    def decode_populations(self) -> None:
        """Caches the tables of all genotypes, [d, d, T, N_p], d the largest stage."""
        populations, s = self.evolution.populations, self.settings
        depth = max(p.stage for p in populations)
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
        self.tables = (torch.from_numpy(tables).permute(2, 3, 0, 1).float().contiguous()).to(
            self.problem.device
        )

    def rank(self) -> None:
        """Looks up each task's fittest individual, and the one to evaluate."""
        populations = self.evolution.populations
        self.elites = np.array([p.individuals.index(p.elite) for p in populations])
        self.evaluated = self.elites
        if self.settings.evaluate_genotype == "oldest":
            births = [[i.birth for i in p.individuals] for p in populations]
            self.evaluated = np.argmin(births, axis=1)

    def table(self, individuals: NDArray[np.int64]) -> Tensor:
        """Tables of the named individuals of each task: [T, B] → [d, d, T, B]."""
        index = torch.from_numpy(individuals).to(self.tables.device)
        return self.tables.gather(3, index.expand(*self.tables.shape[:2], *index.shape))

    def policy(
        self, observations: Tensor, phase: Phase, batch: Batch | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiTaskSAC.policy`; who acts, is evaluated or trained is the settings' choice."""
        if phase == "explore":
            turn = self.evolution.on_turn()
            individuals = np.broadcast_to(turn, (self.tasks, len(turn))).copy()
        else:
            individuals = (self.evaluated if phase == "evaluate" else self.in_training)[:, None]
        return self.split(self.actor(observations, self.table(individuals)))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """See `MultiTaskSAC.update`; one genotype a task serves the whole step."""
        self.in_training = self.elites
        if self.settings.train_genotype == "uniform":
            size = (self.tasks,)
            draw = torch.randint(self.settings.population, size, generator=self.draws)
            self.in_training = draw.numpy()
        return super().update(batch)

    def probe(self, batch: Batch, seed: int) -> dict[str, NetworkProbe]:
        """See `Algorithm.probe`: the evaluated individuals are probed."""
        self.in_training = self.evaluated
        return super().probe(batch, seed)

    def end_episodes(self, outcomes: Outcomes) -> None:
        """Fitness, and evolution where a generation has ended."""
        changed = self.evolution.end_episodes(
            outcomes.returns.cpu().numpy(), outcomes.successes.cpu().numpy()
        )
        if changed:
            self.decode_populations()
        self.rank()

    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: stage, modules in use, diversity, fitness, the evaluated genotype's weights.

        `weight/j/i` weighs module i as a source of module j + 1; j = stage is the head.
        """
        populations, nan = self.evolution.populations, float("nan")
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

    def state_dict(self) -> dict[str, Any]:
        """See `Algorithm.state_dict`."""
        return {
            **super().state_dict(),
            "evolution": self.evolution.state_dict(),
            "draws": self.draws.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm.load_state_dict`."""
        super().load_state_dict(state)
        self.evolution.load_state_dict(state["evolution"])
        self.draws.set_state(state["draws"])
        self.decode_populations()
        self.rank()
