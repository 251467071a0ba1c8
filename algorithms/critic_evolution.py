"""Critics whose wiring is bred like the actor's: what MEGA's paper (arXiv 2502.13569) left open for
want of a fitness.

Every task has a population of critic genotypes with a stage of its own, and the genetics of the
actor's. One genotype wires all critics of a task, twins and targets alike. A gradient step trains a
random individual; the fittest makes the targets and is what the policy climbs.

**Held out.** Every transition gets one of K folds as it is made. Generation g trains the critics on
none of fold g mod K, so these transitions have not been trained on since the last generation. They
judge the individual whose turn it is, against the targets that all individuals share:

- `bellman`: minus the mean squared error over the variance of the task's targets, so that tasks and
  times compare: 0 is perfect, −1 as good as the targets' mean. A small error on shared targets
  need not mean a good value (Fujimoto et al., arXiv 2201.12417);
- `correlation`: Pearson's correlation of values and targets. A policy follows differences of
  values, so a critic is not blamed for a wrong offset or scale, which `bellman` punishes most.

**Targets.** A generation may bring another fittest genotype. The target critics follow the online
critics' weights as ever, and take on the new wiring at the same moment as the policy's loss; no
weight changes. Their values jump by mean |Q_target(new) − Q_target(old)| on transitions of the last
gradient step, which is reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from algorithms.algorithm import Batch, Problem
from algorithms.fields import Depth, Range
from algorithms.genetics import Evolution
from algorithms.genotype_tables import decoded, fittest, keep, of_individuals
from algorithms.modules.stack import modules_in_use
from algorithms.parts.adam import State
from algorithms.parts.randomness import generator, seed_of
from algorithms.sac import Purpose

SAMPLE = 32
"""Transitions of each task on which a jump of the targets is measured."""
FEWEST = 2
"""Held-out transitions without which an individual is not judged."""
LEAST_VARIANCE = 1e-12
"""Of targets: they count as constant below it."""


@dataclass(frozen=True)
class CriticSettings:
    """Whether and how the critics' wiring is bred."""

    critic_genotypes: bool = False
    """Breed the critics' wiring too, with a population per task, instead of D2R's learned router
    [choice: an open question of MEGA]."""
    critic_first_stage: Depth = 3
    """Modules of a task's critics at the start, where they are bred [choice]."""
    critic_fitness: Literal["bellman", "correlation"] = "bellman"
    """What critic genotypes are judged by on held-out transitions: minus the Bellman error over the
    variance of the targets, or the correlation of values and targets [choice]."""
    critic_folds: Annotated[int, Range(2, 255)] = 10
    """K: each generation holds one K-th of the transitions out of the training of critics that
    are bred [choice]."""
    critic_task_id: bool = True
    """Give the base network of critics that are bred the task id, as D2R's critics have a task
    embedding [choice]."""


class CriticPopulations(Evolution):
    """The critics' genotypes: judged once per generation instead of once per episode."""

    @property
    def scores_kept(self) -> int:
        """The last one alone: earlier ones were measured against other targets."""
        return 1

    def judge(
        self,
        fitness: NDArray[np.float64],
        measured: NDArray[np.bool_],
        successes: NDArray[np.float64],
    ) -> list[int]:
        """The tasks whose generation has ended, their individuals with the fitness [T, N_p].

        A generation ends when it has had its episodes and every individual is `measured` [T, N_p].
        Successes [T, N] of the episodes that have ended are the trigger's.
        """
        due = []
        for task, population in enumerate(self.populations):
            population.window_successes.extend(successes[task].tolist())
            population.episodes += self.envs_per_task
            if population.episodes >= self.generation_episodes and measured[task].all():
                due.append(task)
                for individual, score in zip(population.individuals, fitness[task], strict=True):
                    individual.scores.append(float(score))
        return due


class BredCritics:
    """The critics' populations, who of them is used for what, and how they were last judged."""

    tables: Tensor
    """Mixing weights of every individual, [T, N_p, d, d]."""
    elites: Tensor
    """Each task's fittest individual, [T]."""
    held_fold: Tensor
    """The fold that each task's critics are not trained on, [T, 1] uint8."""

    def __init__(self, settings: Any, problem: Problem) -> None:
        self.settings, self.problem, self.tasks = settings, problem, len(problem.tasks)
        self.evolution = CriticPopulations(
            replace(settings, first_stage=settings.critic_first_stage),
            self.tasks,
            problem.envs_per_task,
            seed_of(problem.seed, "critic evolution"),
        )
        self.generators = {
            "critic genotypes": generator(problem.seed, "critic genotypes", problem.device),
            "folds": generator(problem.seed, "folds", problem.device),
        }
        nan = float("nan")
        self.judged: list[list[float]] = [[nan] * settings.critics for _ in range(self.tasks)]
        """Fitness of the fittest in the last generation, by critic, [T][C]."""
        self.jumps: list[float] = [nan] * self.tasks
        """Of the target at the last change of the fittest."""
        self.changes: list[float] = [0.0] * self.tasks
        """Changes of the fittest so far."""
        self.look_up()

    def look_up(self) -> None:
        """Decodes all genotypes, and finds the fittest and the fold that is held out."""
        populations, device = self.evolution.populations, self.problem.device
        keep(self, "tables", decoded(populations, self.settings), device)
        keep(self, "elites", fittest(populations), device)
        fold = [[p.generation % self.settings.critic_folds] for p in populations]
        keep(self, "held_fold", torch.tensor(fold, dtype=torch.uint8), device)

    def given(self, purpose: Purpose, samples: int) -> dict[str, Tensor]:
        """What the critics need, [T, ...]: tables, and who is trained; exploring draws folds."""
        s, device = self.settings, self.problem.device
        if purpose == "evaluate":
            return {}
        if purpose == "explore":
            shape, random = (self.tasks, samples), self.generators["folds"]
            fold = torch.randint(s.critic_folds, shape, generator=random, device=device)
            return {"fold": fold.to(torch.uint8)}
        trained = elites = self.elites[:, None]
        if purpose == "update":
            random = self.generators["critic genotypes"]
            trained = torch.randint(s.population, (self.tasks, 1), generator=random, device=device)
        return {
            "critic_individual": trained,
            "critic_table": of_individuals(self.tables, trained),
            "target_table": of_individuals(self.tables, elites),
            "held_fold": self.held_fold,
        }

    def end_episodes(
        self, state: State, successes: Tensor, target_value: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """Judges and breeds where a generation has ended.

        `target_value` gives the target critics' values [C, T, B] of observations with actions
        appended [T, B, in] under tables [T, 1, d, d].
        """
        if not self.settings.evolution:
            return
        record = state["critic_record"]
        by_critic = fitness(record, self.settings.critic_fitness).cpu().numpy()
        measured = (record[..., 0] >= FEWEST).all(-1).cpu().numpy()
        due = self.evolution.judge(by_critic.mean(-1), measured, successes.cpu().numpy())
        if not due:
            return
        populations = self.evolution.populations
        before, sample = of_individuals(self.tables, self.elites[:, None]), state["critic_sample"]
        genotypes = [p.individuals[e].bits for p, e in zip(populations, self.elites, strict=True)]
        for task in due:
            best = populations[task].individuals.index(populations[task].elite)
            self.judged[task] = by_critic[task, best].tolist()
        values = target_value(sample, before)
        self.evolution.next_generation(due)
        self.look_up()
        now = target_value(sample, of_individuals(self.tables, self.elites[:, None]))
        jumps = (now - values).abs().mean((0, 2)).tolist()
        for task in due:
            record[task] = 0
            if not np.array_equal(genotypes[task], populations[task].elite.bits):
                self.jumps[task] = jumps[task]
                self.changes[task] += 1

    def report(self) -> dict[str, list[float]]:
        """Per task: stage, modules in use, generation, fitness by critic, jumps of the targets."""
        populations = self.evolution.populations
        tables = of_individuals(self.tables, self.elites[:, None])[:, 0]
        in_use = modules_in_use(tables, self.settings.use_threshold)
        by_critic = {
            f"critic_fitness/{critic}": [own[critic] for own in self.judged]
            for critic in range(self.settings.critics)
        }
        return {
            "critic_stage": [float(p.stage) for p in populations],
            "critic_modules_in_use": in_use.tolist(),
            "critic_generation": [float(p.generation) for p in populations],
            "critic_population_diversity": [p.diversity() for p in populations],
            "critic_fitness": [float(np.mean(own)) for own in self.judged],
            **by_critic,
            "critic_target_jump": list(self.jumps),
            "critic_genotype_changes": list(self.changes),
        }

    def state_dict(self) -> dict[str, Any]:
        """Populations, fitness and jumps; NaN included, so as text."""
        own = {name: getattr(self, name) for name in ("judged", "jumps", "changes")}
        return {"populations": self.evolution.state_dict(), "json": json.dumps(own)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.evolution.load_state_dict(state["populations"])
        for name, value in json.loads(state["json"]).items():
            setattr(self, name, value)
        self.look_up()


# In a gradient step ---------------------------------------------------------------------------


def start_record(settings: Any, state: State, tasks: int, inputs: int, device: Any) -> None:
    """Adds what gradient steps keep: moments of held-out transitions, and some transitions."""
    shape = (tasks, settings.population, settings.critics, 7)
    state["critic_record"] = torch.zeros(shape, dtype=torch.float64, device=device)
    state["critic_sample"] = torch.zeros(tasks, SAMPLE, inputs, device=device)


def held_out(given: Mapping[str, Tensor]) -> Tensor:
    """Which transitions of a batch the critics are not trained on, [T, B]."""
    return given["fold"] == given["held_fold"]


def trained_loss(error: Tensor, held: Tensor) -> Tensor:
    """Mean of errors [C, T, B] over what is not held out, [C, T]; 0 where all is."""
    return (error * ~held).sum(-1) / (~held).sum(-1).clamp(min=1)


def moments(values: Tensor, target: Tensor, held: Tensor) -> Tensor:
    """Sums over the held-out of values [C, T, B] and targets [T, B]: their number, squared errors,
    targets, their squares, values, their squares, products; [T, C, 7] float64.
    """
    q, y = values.detach().double(), target.double().expand_as(values)
    parts = torch.stack([torch.ones_like(q), (q - y).square(), y, y * y, q, q * q, q * y], -1)
    return (parts * held[..., None]).sum(-2).movedim(0, 1)


def remember(state: State, batch: Batch, found: Tensor) -> None:
    """Adds the moments [T, C, 7] of a step to those of the individual that it trained, and keeps
    some of its transitions.
    """
    record, rows = state["critic_record"], batch.rewards.shape[1]
    individuals = torch.arange(record.shape[1], device=record.device)
    mine = individuals == batch.extras["critic_individual"]
    record.copy_(record + mine[..., None, None] * found[:, None])
    inputs = torch.cat([batch.observations, batch.actions], -1)
    taken = torch.arange(SAMPLE, device=record.device) % rows
    state["critic_sample"].copy_(inputs[:, taken])


def fitness(record: Tensor, kind: str) -> Tensor:
    """Of moments [T, N_p, C, 7] the fitness of each individual by critic, [T, N_p, C].

    What `kind` names is defined in the module's docstring. The variance of a task's targets is
    that over all of its individuals' held-out transitions.
    """
    count = record[..., 0].clamp(min=1)
    error, y, yy, q, qq, qy = (part / count for part in record.unbind(-1)[1:])
    if kind == "bellman":
        _, _, y_all, yy_all, *_ = record.sum(1, keepdim=True).unbind(-1)
        count = record[..., 0].sum(1, keepdim=True).clamp(min=1)
        variance = yy_all / count - (y_all / count).square()
        return -error / variance.clamp(min=LEAST_VARIANCE)
    spread = (qq - q * q).clamp(min=0) * (yy - y * y).clamp(min=0)
    return (qy - q * y) / spread.sqrt().clamp(min=LEAST_VARIANCE)
