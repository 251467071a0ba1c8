"""Multi-task soft actor-critic: the learner that every built-in algorithm shares.

SAC (arXiv 1801.01290, 1812.05905) with one temperature a task, on batches [T, B, ...]. Read
`update` from top to bottom; an architecture supplies `build` and, where its networks take more
than an observation, `policy` and `values`.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from algorithms.algorithm import (
    Algorithm,
    Batch,
    Decision,
    NetworkProbe,
    ParameterCounts,
    Problem,
    generator,
)
from algorithms.networks import sample_tanh_gaussian
from algorithms.probe import by_member, recorded
from algorithms.settings import SACSettings

Phase = Literal["explore", "evaluate", "target", "critic", "policy"]
"""Why a network is run: to act (explore, evaluate), for the TD target, or for one of the losses."""

CRITICS = 2


class MultiTaskSAC(Algorithm):
    """SAC on T tasks at once; see the module's docstring."""

    def __init__(self, settings: SACSettings, problem: Problem) -> None:
        self.settings: Any = settings
        self.problem = problem
        self.tasks = len(problem.tasks)
        # Weights are drawn on the host, so that they do not depend on the device.
        host = Problem(problem.tasks, problem.envs_per_task, problem.seed)
        actor, critic = self.build(generator(host, "init"))
        self.actor, self.critic = actor.to(problem.device), critic.to(problem.device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = nn.Parameter(
            torch.full((self.tasks,), math.log(settings.initial_temperature), device=problem.device)
        )
        self.exploration = generator(problem, "exploration")
        self.noise = generator(problem, "update")
        adam: Any = {"eps": settings.adam_epsilon, "fused": True}
        self.optimisers = {
            "actor": torch.optim.Adam(
                self.actor.parameters(), lr=settings.actor_learning_rate, **adam
            ),
            "critic": torch.optim.Adam(
                self.critic.parameters(), lr=settings.critic_learning_rate, **adam
            ),
            "temperature": torch.optim.Adam(
                [self.log_temperature], lr=settings.temperature_learning_rate, **adam
            ),
        }

    # What an architecture supplies ---------------------------------------------------------

    @abstractmethod
    def build(self, init: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """The actor, [T, B, 39] → [1, T, B, 2·A], and the twin critics, [T, B, 39 + A] →
        [2, T, B, 1], with weights drawn from `init`.
        """

    def policy(
        self, observations: Tensor, phase: Phase, batch: Batch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, [T, B, A] each."""
        return self.split(self.actor(observations))

    def values(self, critic: nn.Module, inputs: Tensor, phase: Phase) -> Tensor:
        """Both critics' values [2, T, B] of observations with actions appended."""
        result: Tensor = critic(inputs).squeeze(-1)
        return result

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The actor's output [1, T, B, 2·A] as mean and clamped log standard deviation."""
        mean, log_std = output[0].chunk(2, -1)
        return mean, log_std.clamp(self.settings.log_std_min, self.settings.log_std_max)

    # Acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observations: Tensor, explore: bool) -> Decision:
        """See `Algorithm.act`."""
        mean, log_std = self.policy(observations, "explore" if explore else "evaluate")
        if not explore:
            return Decision(torch.tanh(mean))
        return Decision(sample_tanh_gaussian(mean, log_std, self.exploration)[0])

    # Learning ------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of critics, actor, temperatures and targets; losses are returned per task."""
        s = self.settings
        temperature = self.log_temperature.detach().exp()
        weight = self.task_weights()

        critic_loss, metrics = self.critic_loss(batch, temperature)
        if s.update_order == "critic_first":
            metrics["critic_gradient_norm"] = self.step_critic(weight * critic_loss)
            actor_loss, log_density = self.actor_loss(batch, temperature)
            temperature_loss = self.temperature_loss(log_density)
            metrics["actor_gradient_norm"] = self.step_actor(weight * actor_loss)
        else:
            actor_loss, log_density = self.actor_loss(batch, temperature)
            temperature_loss = self.temperature_loss(log_density)
            summed = weight * (critic_loss.sum(0) + actor_loss) + temperature_loss
            weight = weight * ~(summed.detach() > s.task_loss_threshold)
            actor_gradients = self.gradients(weight * actor_loss, self.actor)
            metrics["critic_gradient_norm"] = self.step_critic(weight * critic_loss)
            metrics["actor_gradient_norm"] = self.step("actor", self.actor, actor_gradients)
            temperature_loss = temperature_loss * (weight > 0)
        self.step_temperature(temperature_loss)
        self.follow_targets()

        metrics["actor_loss"] = actor_loss.detach()
        metrics["entropy"] = -log_density.mean(-1)
        metrics["temperature"] = temperature
        return metrics

    def critic_loss(self, batch: Batch, temperature: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared Bellman error of each critic, [2, T], and its metrics."""
        s = self.settings
        with torch.no_grad():
            mean, log_std = self.policy(batch.next_observations, "target", batch)
            action, log_density = sample_tanh_gaussian(mean, log_std, self.noise)
            following = torch.cat([batch.next_observations, action], -1)
            value = self.values(self.target, following, "target").amin(0)
            soft_value = value - temperature[:, None] * log_density
            alive = 1 - batch.timeouts if s.timeout_is_terminal else 1.0
            target = s.reward_scale * batch.rewards + s.discount * alive * soft_value
        inputs = torch.cat([batch.observations, batch.actions], -1)
        values = self.values(self.critic, inputs, "critic")
        loss = (values - target).square().mean(-1)
        metrics = {"critic_loss": loss.detach().mean(0), "value": values.detach().mean((0, 2))}
        return loss, metrics

    def actor_loss(self, batch: Batch, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """E[α log π(a|s) − min Q(s, a)] of each task, [T], and log π(a|s) [T, B], detached."""
        mean, log_std = self.policy(batch.observations, "policy", batch)
        action, log_density = sample_tanh_gaussian(mean, log_std, self.noise)
        inputs = torch.cat([batch.observations, action], -1)
        with frozen(self.critic):
            value = self.values(self.critic, inputs, "policy").amin(0)
        loss: Tensor = (temperature[:, None] * log_density - value).mean(-1)
        return loss, log_density.detach()

    def temperature_loss(self, log_density: Tensor) -> Tensor:
        """−log α · (log π + target entropy), [T]: Haarnoja et al. (1812.05905), equation 18."""
        excess = log_density.mean(-1) + self.settings.target_entropy
        loss: Tensor = -self.log_temperature * excess
        return loss

    def task_weights(self) -> Tensor:
        """Weight of each task's loss, [T]; T·softmax(−log α) is D2R's route balancing."""
        if self.settings.task_weighting == "uniform":
            return torch.ones_like(self.log_temperature)
        weights: Tensor = torch.softmax(-self.log_temperature.detach(), 0) * self.tasks
        return weights

    def gradients(self, loss: Tensor, network: nn.Module) -> list[Tensor]:
        """Gradients of the mean of `loss` for the network's parameters, and for no others."""
        gradients = torch.autograd.grad(
            loss.mean(), list(network.parameters()), allow_unused=True, materialize_grads=True
        )
        return list(gradients)

    def step_critic(self, loss: Tensor) -> Tensor:
        """Steps both critics on their losses [2, T]."""
        if self.settings.clip_critics == "separately":
            loss = loss * CRITICS
        return self.step("critic", self.critic, self.gradients(loss, self.critic))

    def step_actor(self, loss: Tensor) -> Tensor:
        """Steps the actor on its losses [T]."""
        return self.step("actor", self.actor, self.gradients(loss, self.actor))

    def step_temperature(self, loss: Tensor) -> None:
        """Steps the temperatures on their losses [T]."""
        s = self.settings
        (gradient,) = torch.autograd.grad(loss.mean(), [self.log_temperature])
        if s.temperature_clip > 0:
            clip([gradient], s.temperature_clip)
        self.log_temperature.grad = gradient
        self.optimisers["temperature"].step()
        if s.max_log_temperature < math.inf:
            with torch.no_grad():
                self.log_temperature.clamp_(max=s.max_log_temperature)

    def step(self, name: str, network: nn.Module, gradients: list[Tensor]) -> Tensor:
        """Clips, hands the gradients to Adam and returns their norm before clipping."""
        separate = name == "critic" and self.settings.clip_critics == "separately"
        norm = clip(gradients, self.settings.gradient_clip, members=CRITICS if separate else 1)
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimisers[name].step()
        return norm

    @torch.no_grad()
    def follow_targets(self) -> None:
        """Polyak averaging of the target critics."""
        torch._foreach_lerp_(
            list(self.target.parameters()), list(self.critic.parameters()), self.settings.polyak
        )

    # Looking in, saving ----------------------------------------------------------------------

    def probe(self, batch: Batch, seed: int) -> dict[str, NetworkProbe]:
        """See `Algorithm.probe`."""
        own, self.noise = self.noise, torch.Generator(self.problem.device).manual_seed(seed)
        try:
            temperature = self.log_temperature.detach().exp()
            with recorded(self.critic) as critic_units:
                critic_loss, _ = self.critic_loss(batch, temperature)
            critic_gradients = self.gradients(critic_loss * CRITICS, self.critic)
            with recorded(self.actor) as actor_units:
                actor_loss, _ = self.actor_loss(batch, temperature)
            actor_gradients = self.gradients(actor_loss, self.actor)
        finally:
            self.noise = own
        result: dict[str, NetworkProbe] = {}
        for name, network, members, units, gradients in (
            ("actor", self.actor, 1, actor_units, actor_gradients),
            ("critic", self.critic, CRITICS, critic_units, critic_gradients),
        ):
            weights = {key: value.detach() for key, value in network.named_parameters()}
            by_name = dict(zip(weights, gradients, strict=True))
            result |= by_member(name, members, units, weights, by_name)
        return result

    def parameter_counts(self) -> ParameterCounts:
        """See `Algorithm.parameter_counts`."""
        return ParameterCounts(
            sum(p.numel() for p in self.actor.parameters()),
            sum(p.numel() for p in self.critic.parameters()),
        )

    def state_dict(self) -> dict[str, Any]:
        """See `Algorithm.state_dict`."""
        return {
            "actor": dict(self.actor.state_dict()),
            "critic": dict(self.critic.state_dict()),
            "target": dict(self.target.state_dict()),
            "log_temperature": self.log_temperature.detach(),
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "exploration": self.exploration.get_state(),
            "noise": self.noise.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm.load_state_dict`."""
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.target.load_state_dict(state["target"])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        for name, optimiser in self.optimisers.items():
            # Adam would go on to write into the very tensors that it is given.
            optimiser.load_state_dict(copy.deepcopy(state["optimisers"][name]))
        self.exploration.set_state(state["exploration"])
        self.noise.set_state(state["noise"])


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within, the network passes gradients on to its inputs and computes none of its weights'."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def clip(gradients: list[Tensor], largest: float, members: int = 1) -> Tensor:
    """Scales gradients in place to a global norm of at most `largest` (0: leaves them alone).

    With members > 1 each index of the gradients' first axis is a network with a norm of its own.
    Returns the norm before clipping, the mean over members.
    """
    squares = [
        g.square().sum() if members == 1 else g.square().flatten(1).sum(1) for g in gradients
    ]
    norm = torch.stack(squares).sum(0).sqrt()
    if largest > 0:
        scale = (largest / (norm + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(scale if members == 1 else scale.view(-1, *[1] * (g.dim() - 1)))
    return norm.mean()
