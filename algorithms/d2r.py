"""D2R, dynamic depth routing for multi-task RL (He et al., arXiv 2312.14472).

Actor and critics are routed module stacks. The route of each behaviour action is stored with its
transition, and the policy loss replays it; targets and evaluation route greedily. Route balancing
heats the routing of tasks whose temperature is low and weighs their losses (`task_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Decision, Problem
from algorithms.draws import Draws
from algorithms.module_stack import modules_in_use
from algorithms.routing import (
    Choice,
    RoutedNetwork,
    as_table,
    mixing_weights,
    pack,
    packed_bytes,
    select,
    unpack,
)
from algorithms.sac import CRITICS, MultiTaskSAC, Phase
from algorithms.settings import D2RSettings, ModuleSettings
from algorithms.tanh_gaussian import sample_tanh_gaussian

PUBLISHED: Mapping[str, Any] = {
    "horizon": 200,
    "goals": "fixed",
    "reward_scale": 0.1,
    # The authors' MT50 runs are a third shorter per task and keep twice the transitions.
    "steps": lambda tasks: tasks * (1_500_000 if tasks <= 10 else 1_000_000),
    "buffer_per_task": lambda tasks: 100_000 if tasks <= 10 else 200_000,
    "evaluations": 150,
    "eval_episodes": 32,
    "final_episodes": 32,
}
"""The paper's protocol; MEGA is published under it, too."""


class RoutedCritics(MultiTaskSAC):
    """SAC whose twin critics are D2R's: sampled routes to predict, greedy ones elsewhere."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"modules": 4},
        "quick": {"modules": 4},
        "published": PUBLISHED,
    }

    def build_critics(self, init: torch.Generator) -> RoutedNetwork:
        """The twin critics."""
        inputs = self.problem.observation_size + self.problem.action_size
        s: ModuleSettings = self.settings
        return RoutedNetwork(CRITICS, self.tasks, inputs, 1, s.critic_width, s, init)

    def values(self, critic: nn.Module, inputs: Tensor, phase: Phase) -> Tensor:
        """See `MultiTaskSAC.values`."""
        choice = self.sampled(self.noise, CRITICS) if phase == "critic" else Choice("greedy")
        return self.by_critic(critic(self.for_members(inputs, CRITICS), choice)[0])

    def sampled(self, draws: Draws, members: int = 1) -> Choice:
        """Routes drawn at the route-balancing temperatures, in networks of `members` a seed."""
        temperature = self.task_weights().view(self.seeds, 1, self.tasks)
        return Choice("sampled", temperature.expand(-1, members, -1).flatten(0, 1), draws)


class D2R(RoutedCritics):
    """See the module's docstring."""

    Settings = D2RSettings
    seeds_together = True
    capturable = True

    def __init__(self, settings: D2RSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.extras = {"route": ((packed_bytes(settings.modules),), torch.uint8)}

    def build(self, init: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """See `MultiTaskSAC.build`."""
        p, s = self.problem, self.settings
        actor = RoutedNetwork(
            1, self.tasks, p.observation_size, 2 * p.action_size, s.actor_width, s, init
        )
        return actor, self.build_critics(init)

    def policy(
        self, observations: Tensor, phase: Phase, batch: Batch | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiTaskSAC.policy`."""
        choice = Choice("greedy")
        if phase == "policy":
            assert batch is not None
            if "route" in batch.extras:
                stored = unpack(batch.extras["route"], self.settings.modules)
                apart = stored.view(self.seeds, self.tasks, *stored.shape[1:])
                choice = Choice("given", selected=apart)
            else:
                choice = self.sampled(self.noise)
        return self.split(self.actor(self.for_members(observations), choice)[0])

    @torch.no_grad()
    def act(self, observations: Tensor, explore: bool) -> Decision:
        """See `Algorithm.act`; exploring draws a route and hands it to the replay."""
        if not explore:
            return super().act(observations, explore)
        choice = self.sampled(self.exploration)
        output, selected = self.actor(self.for_members(observations), choice)
        mean, log_std = self.split(output)
        action, _ = sample_tanh_gaussian(mean, log_std, self.exploration)
        return Decision(action, {"route": pack(selected.flatten(0, 1))})

    @torch.no_grad()
    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: mean entropy of the routes (0 decided … 1 uniform) and modules in use."""
        actor: Any = self.actor
        features = actor.base(self.for_members(batch.observations))
        logits = actor.route_logits(features).flatten(0, 1)
        probabilities = torch.softmax(logits, -1)
        entropy = torch.special.entr(probabilities).sum(-1)
        choices = torch.arange(1, logits.shape[-1] + 1, device=logits.device, dtype=logits.dtype)
        # The first slot has a single source and nothing to decide.
        relative = (entropy / choices.log().clamp(min=1e-9))[..., 1:].mean((1, 2))
        weights = mixing_weights(logits, select(logits, self.settings.top_k, Choice("greedy")))
        used = modules_in_use(as_table(weights.unsqueeze(0)), self.settings.use_threshold).mean(-1)
        return {"route_entropy": relative.tolist(), "modules_in_use": used.tolist()}
