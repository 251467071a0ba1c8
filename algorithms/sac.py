"""Multi-task soft actor-critic: the learner that every built-in algorithm shares.

SAC (arXiv 1801.01290, 1812.05905) with one temperature a task, on batches [T, B, ...]. Read
`update` from top to bottom; an architecture supplies `build` and, where its networks take more
than an observation, `policy` and `values`.

S seeds can learn side by side: their tasks stand one behind the other on the task axis, so that all
that is said of T tasks here goes for S·T, and their networks are members of one network
(`algorithms.networks`). Where tasks meet, in a norm, a mean or a softmax, seeds are told apart.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.algorithm import (
    Algorithm,
    Batch,
    Decision,
    NetworkProbe,
    ParameterCounts,
    Problem,
)
from algorithms.draws import Draws, generator
from algorithms.gradients import clip, frozen
from algorithms.networks import side_by_side
from algorithms.probe import by_member, recorded
from algorithms.seeds import joined, part_of
from algorithms.settings import SACSettings
from algorithms.tanh_gaussian import sample_tanh_gaussian

Phase = Literal["explore", "evaluate", "target", "critic", "policy"]
"""Why a network is run: to act (explore, evaluate), for the TD target, or for one of the losses."""

CRITICS = 2
HOST = torch.device("cpu")


class MultiTaskSAC(Algorithm):
    """SAC on T tasks at once; see the module's docstring."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # From α = 1 the temperature needs tens of thousands of gradient steps to fall to where
        # policies learn; a short run starts near there.
        "quick": {
            "reward_scale": 0.1,
            "initial_temperature": 0.05,
            "temperature_learning_rate": 3e-4,
        },
        "d2r": {"reward_scale": 0.1},
    }

    def __init__(self, settings: SACSettings, problem: Problem) -> None:
        self.settings: Any = settings
        self.problem = problem
        self.tasks, self.seeds = len(problem.tasks), len(problem.seeds)
        # Weights are drawn on the host, so that they do not depend on the device.
        built = [self.build(generator(seed, "init", HOST)) for seed in problem.seeds]
        actors, critics = zip(*built, strict=True)
        self.actor = side_by_side(actors).to(problem.device)
        self.critic = side_by_side(critics).to(problem.device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        start = torch.full((self.seeds * self.tasks,), math.log(settings.initial_temperature))
        self.log_temperature = nn.Parameter(start.to(problem.device))
        self.exploration = Draws.of(problem, "exploration")
        self.noise = Draws.of(problem, "update")
        captured = problem.device.type == "cuda" and self.says("capturable")
        adam: Any = {"eps": settings.adam_epsilon, "fused": True, "capturable": captured}
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
        """One seed's actor, [T, B, 39] → [1, T, B, 2·A], and twin critics, [T, B, 39 + A] →
        [2, T, B, 1], with weights drawn from `init`.
        """

    def policy(
        self, observations: Tensor, phase: Phase, batch: Batch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, [T, B, A] each."""
        return self.split(self.actor(self.for_members(observations)))

    def values(self, critic: nn.Module, inputs: Tensor, phase: Phase) -> Tensor:
        """Both critics' values [2, T, B] of observations with actions appended."""
        return self.by_critic(critic(self.for_members(inputs, CRITICS)))

    def for_members(self, inputs: Tensor, members: int = 1) -> Tensor:
        """Inputs [S·T, B, in] as networks of `members` a seed take them: as they are for one seed,
        else [S·members, T, B, in].
        """
        if self.seeds == 1:
            return inputs
        apart = inputs.reshape(self.seeds, 1, self.tasks, *inputs.shape[1:])
        return apart.expand(-1, members, -1, -1, -1).flatten(0, 1)

    def by_critic(self, output: Tensor) -> Tensor:
        """The critics' output [S·2, T, B, 1] as values [2, S·T, B]."""
        apart = output.view(self.seeds, CRITICS, *output.shape[1:3])
        return apart.transpose(0, 1).flatten(1, 2)

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The actor's output [S, T, B, 2·A] as mean and clamped log standard deviation."""
        mean, log_std = output.flatten(0, 1).chunk(2, -1)
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
        norms: dict[str, Tensor] = {}
        if s.update_order == "critic_first":
            norms["critic_gradient_norm"] = self.step_critic(weight * critic_loss)
            actor_loss, log_density = self.actor_loss(batch, temperature)
            temperature_loss = self.temperature_loss(log_density)
            norms["actor_gradient_norm"] = self.step_actor(weight * actor_loss)
        else:
            actor_loss, log_density = self.actor_loss(batch, temperature)
            temperature_loss = self.temperature_loss(log_density)
            summed = weight * (critic_loss.sum(0) + actor_loss) + temperature_loss
            weight = weight * ~(summed.detach() > s.task_loss_threshold)
            actor_gradients = self.gradients(weight * actor_loss, self.actor)
            norms["critic_gradient_norm"] = self.step_critic(weight * critic_loss)
            norms["actor_gradient_norm"] = self.step("actor", self.actor, actor_gradients)
            temperature_loss = temperature_loss * (weight > 0)
        self.step_temperature(temperature_loss)
        self.follow_targets()

        metrics["actor_loss"] = actor_loss.detach()
        metrics["entropy"] = -log_density.mean(-1)
        metrics["temperature"] = temperature
        if self.seeds > 1:
            metrics = {name: value.view(self.seeds, -1) for name, value in metrics.items()}
        return {**metrics, **norms}

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
        low = -self.log_temperature.detach().view(self.seeds, self.tasks)
        return torch.softmax(low, 1).flatten() * self.tasks

    def gradients(self, loss: Tensor, network: nn.Module) -> list[Tensor]:
        """Gradients of each seed's mean of `loss` for the network's parameters alone."""
        gradients = torch.autograd.grad(
            loss.mean() * self.seeds,
            list(network.parameters()),
            allow_unused=True,
            materialize_grads=True,
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
        (gradient,) = torch.autograd.grad(loss.mean() * self.seeds, [self.log_temperature])
        if s.temperature_clip > 0:
            clip([gradient], s.temperature_clip, self.seeds)
        self.log_temperature.grad = gradient
        self.optimisers["temperature"].step()
        if s.max_log_temperature < math.inf:
            with torch.no_grad():
                self.log_temperature.clamp_(max=s.max_log_temperature)

    def step(self, name: str, network: nn.Module, gradients: list[Tensor]) -> Tensor:
        """Clips, hands the gradients to Adam and returns their norm before clipping, one a seed."""
        separate = name == "critic" and self.settings.clip_critics == "separately"
        groups = self.seeds * (CRITICS if separate else 1)
        norm = clip(gradients, self.settings.gradient_clip, groups).view(self.seeds, -1).mean(1)
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimisers[name].step()
        return norm if self.seeds > 1 else norm[0]

    @torch.no_grad()
    def follow_targets(self) -> None:
        """Polyak averaging of the target critics."""
        torch._foreach_lerp_(
            list(self.target.parameters()), list(self.critic.parameters()), self.settings.polyak
        )

    def generators(self) -> list[torch.Generator]:
        """See `Algorithm.generators`."""
        return [*self.exploration.generators, *self.noise.generators]

    # Looking in, saving ----------------------------------------------------------------------

    def probe(self, batch: Batch, seed: int) -> dict[str, NetworkProbe]:
        """See `Algorithm.probe`."""
        (probe,) = self.probes(batch, seed)
        return probe

    def probe_by_seed(self, batch: Batch, seed: int) -> list[dict[str, NetworkProbe]]:
        """See `Algorithm.probe_by_seed`."""
        return self.probes(batch, seed) if self.seeds > 1 else [self.probe(batch, seed)]

    def probes(self, batch: Batch, seed: int) -> list[dict[str, NetworkProbe]]:
        """The networks of each seed on its part of the batch."""
        own, device = self.noise, self.problem.device
        self.noise = Draws([torch.Generator(device).manual_seed(seed) for _ in own.generators])
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
        networks = (
            ("actor", self.actor, 1, actor_units, actor_gradients),
            ("critic", self.critic, CRITICS, critic_units, critic_gradients),
        )
        result: list[dict[str, NetworkProbe]] = []
        for index in range(self.seeds):
            result.append({})
            for name, network, members, units, gradients in networks:
                weights = {key: value.detach() for key, value in network.named_parameters()}
                by_name = dict(zip(weights, gradients, strict=True))
                parts = [part_of(x, index, self.seeds) for x in (units, weights, by_name)]
                result[index] |= by_member(name, members, *parts)
        return result

    def parameter_counts(self) -> ParameterCounts:
        """See `Algorithm.parameter_counts`."""
        return ParameterCounts(
            sum(p.numel() for p in self.actor.parameters()) // self.seeds,
            sum(p.numel() for p in self.critic.parameters()) // self.seeds,
        )

    def state_dict(self) -> dict[str, Any]:
        """See `Algorithm.state_dict`."""
        (state,) = self.states()
        return state

    def state_by_seed(self) -> list[dict[str, Any]]:
        """See `Algorithm.state_by_seed`."""
        return self.states() if self.seeds > 1 else [self.state_dict()]

    def states(self) -> list[dict[str, Any]]:
        """The state of each seed."""
        whole = {
            "actor": dict(self.actor.state_dict()),
            "critic": dict(self.critic.state_dict()),
            "target": dict(self.target.state_dict()),
            "log_temperature": self.log_temperature.detach(),
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
        }
        return [
            {
                **part_of(whole, index, self.seeds),
                "exploration": self.exploration.generators[index].get_state(),
                "noise": self.noise.generators[index].get_state(),
            }
            for index in range(self.seeds)
        ]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Algorithm.load_state_dict`."""
        self.load_states([state])

    def load_state_by_seed(self, states: Sequence[dict[str, Any]]) -> None:
        """See `Algorithm.load_state_by_seed`."""
        if self.seeds > 1:
            self.load_states(states)
        else:
            self.load_state_dict(states[0])

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Inverse of `states`."""
        for index, state in enumerate(states):
            self.exploration.generators[index].set_state(state["exploration"])
            self.noise.generators[index].set_state(state["noise"])
        self.actor.load_state_dict(joined([state["actor"] for state in states]))
        self.critic.load_state_dict(joined([state["critic"] for state in states]))
        self.target.load_state_dict(joined([state["target"] for state in states]))
        with torch.no_grad():
            self.log_temperature.copy_(joined([state["log_temperature"] for state in states]))
        for name, optimiser in self.optimisers.items():
            # Adam would go on to write into the very tensors that it is given.
            own = joined(copy.deepcopy([state["optimisers"][name] for state in states]))
            for group, mine in zip(own["param_groups"], optimiser.param_groups, strict=True):
                group["capturable"] = mine["capturable"]
            optimiser.load_state_dict(own)
