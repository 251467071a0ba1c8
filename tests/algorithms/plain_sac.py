"""Multi-task SAC written by hand: separate networks, one-hot inputs, autograd, torch's optimisers.

What the learner is compared with. Loops over tasks and critics; nothing is shared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributions, nn

from algorithms.algorithm import Batch
from algorithms.parts.randomness import seed_of

Layers = list[Tensor]
"""Weight and bias of each layer as torch.nn.Linear lays them out; heads [T, ...] one per task."""


def plain_layers(weights: Mapping[str, Tensor]) -> Layers:
    """Those of one MLP, copied; the one-hot's columns stand beside the input's."""
    layers, place = [], 0
    while any(name.startswith(f"layers.{place}.") for name in weights):
        own = f"layers.{place}."
        if f"{own}task" in weights:
            layers += [torch.cat([weights[f"{own}input.weight"], weights[f"{own}task"].T], 1)]
            layers += [weights[f"{own}input.bias"]]
        else:
            layers += [weights[f"{own}weight"], weights[f"{own}bias"]]
        place += 2
    weight, bias = weights["head.weight"], weights["head.bias"]
    multi_head = weight.dim() == 3
    layers += [weight.transpose(1, 2), bias.squeeze(1)] if multi_head else [weight, bias]
    return [x.detach().clone() for x in layers]


def plain_networks(algorithm: Any, name: str) -> list[Layers]:
    """Each copy of the network `actor`, `critic` or `critic.target`."""
    network, vector = algorithm.networks[name.partition(".")[0]], algorithm.state[name]
    copies = vector if vector.dim() == 2 else vector[None]
    return [plain_layers(network.views(own)) for own in copies]


def plain_forward(layers: Layers, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """[T, B, in] → [T, B, out] and what the hidden layers put out."""
    one_hot = torch.eye(x.shape[0], dtype=x.dtype)
    outputs, hidden = [], []
    for task, rows in enumerate(x):
        h = torch.cat([rows, one_hot[task].expand(len(rows), -1)], -1)
        units = []
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            h = torch.relu(nn.functional.linear(h, weight, bias))
            units.append(h)
        hidden.append(units)
        weight, bias = (p[task] if layers[-2].dim() == 3 else p for p in layers[-2:])
        outputs.append(nn.functional.linear(h, weight, bias))
    return torch.stack(outputs), [torch.stack(layer) for layer in zip(*hidden, strict=True)]


class PlainSAC:
    """Takes over the weights of an MTSAC in float64 and learns on, loop by loop."""

    def __init__(self, algorithm: Any) -> None:
        s = self.settings = algorithm.settings
        (self.actor,) = plain_networks(algorithm, "actor")
        self.critics = plain_networks(algorithm, "critic")
        self.targets = plain_networks(algorithm, "critic.target")
        self.log_alpha = algorithm.state["log_temperature"].clone()
        self.all_critics = [p for critic in self.critics for p in critic]
        for parameter in [*self.actor, *self.all_critics, self.log_alpha]:
            parameter.requires_grad_()
        self.noise = torch.Generator()
        self.noise.set_state(algorithm.generators["update"].get_state())
        self.samples: dict[str, Tensor] = {}

        def adam(parameters: list[Tensor], rate: float, decay: float) -> torch.optim.AdamW:
            return torch.optim.AdamW(parameters, rate, eps=s.adam_epsilon, weight_decay=decay)

        self.actor_adam = adam(self.actor, s.actor_learning_rate, s.weight_decay)
        self.critic_adam = adam(self.all_critics, s.critic_learning_rate, s.weight_decay)
        self.alpha_adam = adam([self.log_alpha], s.temperature_learning_rate, 0.0)

    def draw(self, shape: tuple[int, ...]) -> None:
        """The noise of one update, in the learner's precision and order."""
        for name in ("next", "own"):
            self.samples[name] = torch.randn(shape, generator=self.noise).double()

    def draw_for_probe(self, shape: tuple[int, ...], seed: int) -> None:
        self.noise = torch.Generator().manual_seed(seed_of(seed, "probe"))
        self.draw(shape)

    def sample(self, observations: Tensor, which: str) -> tuple[Tensor, Tensor]:
        mean, log_std = plain_forward(self.actor, observations)[0].chunk(2, -1)
        std = log_std.clamp(self.settings.log_std_min, self.settings.log_std_max).exp()
        tanh = distributions.TanhTransform(cache_size=1)
        normal = distributions.Independent(distributions.Normal(mean, std), 1)
        action = tanh(mean + std * self.samples[which])
        return action, distributions.TransformedDistribution(normal, [tanh]).log_prob(action)

    def value(self, critics: list[Layers], x: Tensor) -> Tensor:
        """The critics' values as one, [T, B]."""
        values = [plain_forward(c, x)[0][..., 0] for c in critics]
        if self.settings.critic_reduction == "mean":
            return sum(values[1:], values[0]) / len(values)
        lowest = values[0]
        for other in values[1:]:
            lowest = torch.minimum(lowest, other)
        return lowest

    def critic_losses(self, batch: Batch) -> Tensor:
        """[C, T]."""
        s = self.settings
        with torch.no_grad():
            action, log_density = self.sample(batch.next_observations, "next")
            x = torch.cat([batch.next_observations, action], -1)
            alpha = self.log_alpha.exp().unsqueeze(-1)
            future = self.value(self.targets, x) - alpha * log_density
            if s.timeout_is_terminal:
                future = torch.where(batch.timeouts > 0, torch.zeros_like(future), future)
            y = s.reward_scale * batch.rewards + s.discount * future
        x = torch.cat([batch.observations, batch.actions], -1)
        return torch.stack(
            [
                torch.stack([nn.functional.mse_loss(q, goal) for q, goal in zip(v, y, strict=True)])
                for v in (plain_forward(c, x)[0][..., 0] for c in self.critics)
            ]
        )

    def actor_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[T], and mean log densities [T]."""
        action, log_density = self.sample(batch.observations, "own")
        q = self.value(self.critics, torch.cat([batch.observations, action], -1))
        alpha = self.log_alpha.detach().exp().unsqueeze(-1)
        return (alpha * log_density - q).mean(1), log_density.mean(1).detach()

    def step_critics(self, losses: Tensor) -> None:
        self.critic_adam.zero_grad()
        if self.settings.clip_critics == "jointly":
            # One loss, the mean over critics and tasks, and one norm.
            losses.mean().backward(inputs=self.all_critics)
            self.clip(self.all_critics)
        else:
            for critic, loss in zip(self.critics, losses, strict=True):
                loss.mean().backward(inputs=critic, retain_graph=True)
                self.clip(critic)
        self.critic_adam.step()

    def clip(self, parameters: list[Tensor]) -> None:
        if self.settings.gradient_clip > 0:
            nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)

    def update(self, batch: Batch) -> None:
        s, tasks = self.settings, len(self.log_alpha)
        self.draw(batch.actions.shape)
        weight = torch.ones(tasks, dtype=torch.float64)
        if s.task_weighting == "temperature":
            inverse = 1 / self.log_alpha.detach().exp()
            weight = tasks * inverse / inverse.sum()
        critic = self.critic_losses(batch)
        included = torch.ones(tasks, dtype=torch.bool)
        if s.update_order == "critic_first":
            self.step_critics(weight * critic)
        actor, log_density = self.actor_losses(batch)
        factor = self.log_alpha if s.temperature_loss == "log_alpha" else self.log_alpha.exp()
        alpha = -factor * (log_density + s.target_entropy)
        if s.update_order == "simultaneous":
            total = weight * actor + alpha
            for loss in critic:
                total = total + weight * loss
            included = total <= s.task_loss_threshold
        self.actor_adam.zero_grad()
        (weight * actor * included).mean().backward(inputs=self.actor)
        self.clip(self.actor)
        if s.update_order == "simultaneous":
            self.step_critics(weight * critic * included)
        self.actor_adam.step()
        self.alpha_adam.zero_grad()
        (alpha * included).mean().backward(inputs=[self.log_alpha])
        assert self.log_alpha.grad is not None
        own = self.log_alpha
        if s.shared_temperature:  # one number, of which the tasks' entries are copies
            own = torch.zeros((), dtype=torch.float64, requires_grad=True)
            own.grad = self.log_alpha.grad.sum()
        if s.temperature_clip > 0:
            nn.utils.clip_grad_norm_([own], s.temperature_clip)
        self.log_alpha.grad = own.grad.expand_as(self.log_alpha).clone()
        self.alpha_adam.step()
        with torch.no_grad():
            self.log_alpha.clamp_(max=s.max_log_temperature)
            for target, online in zip(self.targets, self.critics, strict=True):
                for t, o in zip(target, online, strict=True):
                    t.copy_((1 - s.polyak) * t + s.polyak * o)
