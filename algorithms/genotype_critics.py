"""MEGA's critics: D2R's, which the paper has, or such whose wiring is bred like the actor's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Outcomes, Problem
from algorithms.critic_evolution import (
    BredCritics,
    held_out,
    moments,
    remember,
    start_record,
    trained_loss,
)
from algorithms.d2r import RoutedCritics
from algorithms.modules.genotype_network import GenotypeNetwork
from algorithms.parts.adam import State
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, Purpose


class GenotypeCritics(RoutedCritics):
    """SAC whose critics are D2R's or, with `critic_genotypes`, bred: see `critic_evolution`."""

    critics: BredCritics | None = None

    def __init__(self, settings: Any, problem: Problem) -> None:
        super().__init__(settings, problem)
        if settings.critic_genotypes:
            self.critics = BredCritics(settings, problem)
            self.stateful["critics"] = self.critics
            self.generators |= self.critics.generators
            self.extras = {"fold": ((), torch.uint8)}

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        if not s.critic_genotypes:
            return super().build_critic()
        tasks = self.tasks if s.critic_task_id else 0
        return GenotypeNetwork(tasks, p.observation_size + p.action_size, 1, s.critic_width, s)

    def initial_state(self, purpose: str) -> State:
        s, p, state = self.settings, self.problem, super().initial_state(purpose)
        if s.critic_genotypes:
            start_record(s, state, self.tasks, p.observation_size + p.action_size, p.device)
        return state

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        if self.critics is None:
            return super().given(purpose, samples, random)
        # Not those of critics with a router: there are no routes to draw.
        given = MultiTaskSAC.given(self, purpose, samples, random)
        return given | self.critics.given(purpose, samples)

    def decide(
        self, state: State, observations: Tensor, given: Given, phase: Phase
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Exploring hands the folds to the replay."""
        actions, extras = super().decide(state, observations, given, phase)
        return actions, {**extras, "fold": given["fold"]} if "fold" in given else extras

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        if self.critics is None:
            return super().values(weights, inputs, phase, given)
        table = given["critic_table" if phase == "critic" else "target_table"]
        return self.networks["critic"](weights["critic"], inputs, table)

    def critic_loss(self, weights: AllWeights, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As in SAC; of critics that are bred, over what is not held out."""
        given, target = batch.extras, batch.extras["target"]
        if self.critics is None or "fold" not in given or not self.settings.evolution:
            return super().critic_loss(weights, batch)
        inputs, held = torch.cat([batch.observations, batch.actions], -1), held_out(given)
        outputs = self.values(weights, inputs, "critic", given)
        loss, values = trained_loss(self.critic_error(outputs, target), held), self.value(outputs)
        found = moments(values, target, held)
        return loss, {"value": values.mean((0, 2)).detach(), "held_out": found}

    def learn(self, state: State, batch: Batch) -> dict[str, Tensor]:
        metrics = super().learn(state, batch)
        if "held_out" in metrics:
            remember(state, batch, metrics.pop("held_out"))
        return metrics

    @torch.no_grad()
    def end_episodes(self, outcomes: Outcomes) -> None:
        """Judges and breeds the critics where their generation has ended."""
        if self.critics is not None:
            self.critics.end_episodes(self.state, outcomes.successes, self.target_value)

    def target_value(self, inputs: Tensor, table: Tensor) -> Tensor:
        """The target critics' values [C, T, B] of inputs [T, B, in] under tables [T, 1, d, d]."""
        weights = self.weights(self.state, targets=True)
        return self.value(self.values(weights, inputs, "target", {"target_table": table}))

    def report(self, batch: Batch) -> dict[str, list[float]]:
        return {} if self.critics is None else self.critics.report()
