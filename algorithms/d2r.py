"""D2R, dynamic depth routing for multi-task RL (He et al., arXiv 2312.14472).

Actor and critics are routed module stacks. The route of each behaviour action is stored with its
transition, and the policy loss replays it; targets and evaluation route greedily. Route balancing
heats the routing of tasks whose temperature is low and weighs their losses (`task_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Problem
from algorithms.modules.routing import (
    ModuleSettings,
    RoutedNetwork,
    pack,
    packed_bytes,
    routes,
    unpack,
)
from algorithms.modules.stack import by_operator, modules_in_use
from algorithms.parts.adam import State
from algorithms.parts.gaussian import tanh_gaussian
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, Purpose

PUBLISHED: dict[str, Any] = {
    "horizon": 200,
    "goals": "fixed",
    "reward_scale": 0.1,
    # The authors' MT50 runs are a third shorter per task and keep twice the transitions.
    "steps": lambda tasks: tasks * (1_500_000 if tasks <= 10 else 1_000_000),
    "buffer_per_task": lambda tasks: 100_000 if tasks <= 10 else 200_000,
    "evaluations": lambda tasks: 150 if tasks <= 10 else 100,  # every 50 of their epochs
    "eval_episodes": 32,
    "final_episodes": 32,
}
"""The paper's protocol; MEGA is published under it, too.

The authors' loop differs from the suite's: their first 4,000 steps of a task are the untrained
policy's, not random ones, and their gradient steps come after each episode, as many as it has
steps, not one after each step.
"""


@dataclass(frozen=True)
class D2RSettings(ModuleSettings):
    """Dynamic depth routing: a router picks each sample's path through the modules [D2R]."""


class RoutedCritics(MultiTaskSAC):
    """SAC whose critics are D2R's: sampled routes to predict, greedy ones elsewhere."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"modules": 4},
        "quick": {"modules": 4},
        "published": PUBLISHED,
    }

    @property
    def kernels(self) -> str:  # type: ignore[override]
        """C for large stacks on the CPU, where it can be compiled."""
        modules, device = self.settings.modules, self.problem.device.type
        return "C" if by_operator(modules, device, torch.float32) else "torch"

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        inputs = p.observation_size + p.action_size
        return RoutedNetwork(self.tasks, inputs, 1, s.critic_width, s)

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        given = super().given(purpose, samples, random)
        given["heat"] = self.task_weights(self.state)
        if purpose in ("update", "probe"):
            shape = (self.tasks, self.settings.critics, samples)
            given["critic_routes"] = self.route_noise(shape, random)
        return given

    def route_noise(self, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
        """Draws of U(0, 1) for every pair of a slot and a source, [*shape, n(n+1)/2]."""
        size = (*shape, routes(self.settings.modules))
        return torch.rand(size, generator=random, device=self.problem.device)

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        critics = self.networks["critic"]
        if phase == "critic":
            noise = given["critic_routes"].movedim(1, 0)
            return critics(weights["critic"], inputs, noise, given["heat"], apart=(1,))[0]
        return critics(weights["critic"], inputs)[0]


class D2R(RoutedCritics):
    """SAC on routed module stacks, which replays the routes of what it learns from."""

    Settings = D2RSettings
    capturable = True

    def __init__(self, settings: D2RSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.extras = {"route": ((packed_bytes(settings.modules),), torch.uint8)}

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        return RoutedNetwork(self.tasks, p.observation_size, 2 * p.action_size, s.actor_width, s)

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        given = super().given(purpose, samples, random)
        if purpose in ("explore", "probe"):  # an update replays the routes in its batch
            given["routes"] = self.route_noise((self.tasks, samples), random)
        return given

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        return self.mean_and_log_std(self.routed(weights, observations, phase, given)[0])

    def routed(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        """The actor's output and its routes: drawn to explore, replayed in the policy's loss."""
        actor, own = self.networks["actor"], weights["actor"]
        if phase == "policy" and "route" in given:
            chosen = unpack(given["route"], self.settings.modules)
            result = actor(own, observations, None, None, chosen)
        elif phase in ("explore", "policy"):
            result = actor(own, observations, given["routes"], given["heat"])
        else:
            result = actor(own, observations)
        return result[0], result[1]

    def decide(
        self, state: State, observations: Tensor, given: Given, phase: Phase
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Exploring hands the route to the replay."""
        if phase == "evaluate":
            return super().decide(state, observations, given, phase)
        output, chosen = self.routed(self.weights(state), observations, phase, given)
        action, _ = tanh_gaussian(*self.mean_and_log_std(output), given["noise"])
        return action, {"route": pack(chosen)}

    @torch.no_grad()
    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: mean entropy of the routes (0 decided … 1 uniform) and modules in use."""
        weights = self.weights(self.state)["actor"]
        _, chosen, logits = self.networks["actor"](weights, batch.observations)
        probabilities = torch.softmax(logits, -1)
        entropy = torch.special.entr(probabilities).sum(-1)
        choices = torch.arange(1, logits.shape[-1] + 1, device=logits.device, dtype=logits.dtype)
        # The first slot has a single source and nothing to decide.
        relative = (entropy / choices.log().clamp(min=1e-9))[..., 1:].mean((1, 2))
        mixing = torch.softmax(logits.masked_fill(~chosen, -torch.inf), -1)
        used = modules_in_use(mixing, self.settings.use_threshold).mean(-1)
        return {"route_entropy": relative.tolist(), "modules_in_use": used.tolist()}
