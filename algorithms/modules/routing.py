"""Dynamic depth routing: a router chooses, per sample, which modules feed which (arXiv 2312.14472).

The network of D2R's actor and critics, and of MEGA's critics. Its weights and initialisation follow
section 4 of the paper and the authors' published code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from algorithms.fields import Depth, Limit, NotNegative, Positive, Range, Rate, Share, Width
from algorithms.modules.routes import choose
from algorithms.modules.stack import ModuleStack
from algorithms.parts.layers import TaskLinear, constant, fan_out_uniform, linear, scaled, uniform
from algorithms.sac import SACSettings


@dataclass(frozen=True)
class ModuleSettings(SACSettings):
    """What the module architectures, D2R and MEGA, share; defaults are the D2R authors'."""

    temperature_learning_rate: Rate = 1e-4
    adam_epsilon: Rate = 1e-8
    clip_critics: Literal["jointly", "separately"] = "separately"
    temperature_clip: NotNegative = 1.0
    max_log_temperature: Limit = 0.0
    reward_scale: Positive = 0.1
    update_order: Literal["critic_first", "simultaneous"] = "simultaneous"
    task_weighting: Literal["uniform", "temperature"] = "temperature"
    task_loss_threshold: Annotated[float, Range(0, above_low=True, infinite=True)] = 3e3

    actor_width: Width = 400
    """Width of the actor's base network; modules and router scale with it [D2R]."""
    critic_width: Width = 400
    """Width of each critic's base network; modules and router scale with it [D2R]."""
    base_depth: Depth = 2
    """Layers of the base networks [D2R]."""
    module_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.32
    """Module width over base width: 128 / 400 [D2R]."""
    router_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.64
    """Router width over base width: 256 / 400 [D2R]."""
    modules: Depth = 16
    """Modules in each stack, the largest depth [D2R, MEGA]."""
    top_k: Depth = 2
    """Sources that a routed slot mixes [D2R]."""
    use_threshold: Share = 0.01
    """Mixing weight above which a module counts as in use, in reports alone [choice]."""
    resrouting: bool = True
    """Block the gradient of transforms that the router does not trust (ResRouting) [D2R]."""


class Base(nn.Module):
    """Linear layers with ReLU between them and none after the last: observation → f."""

    def __init__(self, inputs: int, width: int, depth: int, tasks: int = 0) -> None:
        super().__init__()
        init = fan_out_uniform, constant(0.1)
        self.layers = nn.Sequential(
            TaskLinear(inputs, tasks, width, *init) if tasks else linear(inputs, width, *init)
        )
        for _ in range(depth - 1):
            self.layers.extend([nn.ReLU(), linear(width, width, *init)])

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, width], before any activation."""
        return self.layers(x)


class RoutedNetwork(nn.Module):
    """Base, task embedding, router, module stack and one head for all tasks."""

    per_task = ("embedding",)

    def __init__(self, tasks: int, inputs: int, outputs: int, width: int, s: ModuleSettings):
        super().__init__()
        self.top_k, self.resrouting = s.top_k, s.resrouting
        init = fan_out_uniform, constant(0.1)
        router_width, module_width = scaled(s.router_ratio, width), scaled(s.module_ratio, width)
        self.base = Base(inputs, width, s.base_depth)
        # Linear(T → width) on the one-hot id is a row look-up; stored as T rows and a bias.
        self.embedding = nn.Parameter(torch.empty(tasks, width))
        self.embedding_bias = nn.Parameter(torch.empty(width))
        fan_out_uniform(self.embedding, tasks, width)
        nn.init.constant_(self.embedding_bias, 0.1)
        self.router = nn.Sequential(
            linear(width, router_width, *init),
            nn.ReLU(),
            linear(router_width, router_width, *init),
            nn.ReLU(),
            linear(router_width, routes(s.modules), *init),
        )
        self.stack = ModuleStack(width, s.modules, module_width, *init)
        self.head = linear(module_width, outputs, uniform(3e-3), uniform(3e-3))

    def forward(
        self,
        x: Tensor,
        noise: Tensor | None = None,
        heat: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[T, B, in] → output [T, B, out], the chosen sources [T, B, n, n], bool, and the logits
        [T, B, n, n], −∞ where there is no source.

        Each slot mixes the k sources of the largest logits; with `noise` [T, B, n(n+1)/2] from
        U(0, 1), k sources drawn without replacement from softmax(logits / heat), heat [T]; or
        those that are `chosen`.
        """
        features = self.base(x)
        flat, inputs = self.logits(features), torch.relu(features)
        logits = as_table(flat)
        if chosen is not None:
            score = torch.zeros_like(flat).masked_fill(~as_flat(chosen), -torch.inf)
        elif noise is not None:
            assert heat is not None
            score = flat.detach() / heat[:, None, None] + gumbel(noise)
        else:
            score = flat.detach()
        if self.stack.takes_routes(inputs, self.top_k):
            routes = choose(flat, score, self.top_k, self.resrouting)
            return self.head(self.stack(inputs, routes)), routes.chosen(), logits
        chosen = largest(as_table(score), self.top_k)
        weights = torch.softmax(logits.masked_fill(~chosen, -torch.inf), -1)
        # It only blocks gradients.
        blocks = self.resrouting and torch.is_grad_enabled()
        trusted = trust(logits).to(weights.dtype) if blocks else None
        return self.head(self.stack(inputs, weights, trusted)), chosen, logits

    def logits(self, features: Tensor) -> Tensor:
        """The router's logits [T, B, n(n+1)/2], slot by slot."""
        return self.router((self.embedding + self.embedding_bias)[:, None] * features)


def routes(modules: int) -> int:
    """Pairs of a slot and a source: n(n+1)/2."""
    return modules * (modules + 1) // 2


def as_table(flat: Tensor, outside: float = -math.inf) -> Tensor:
    """[..., n(n+1)/2] → [..., n, n]: row k weighs sources 1 … k + 1; `outside` above the
    diagonal.
    """
    n = math.isqrt(2 * flat.shape[-1])
    slot = torch.arange(n, device=flat.device)
    place = (slot * (slot + 1) // 2)[:, None] + slot
    below = slot[:, None] >= slot
    return flat[..., place.masked_fill(~below, 0)].masked_fill(~below, outside)


def as_flat(table: Tensor) -> Tensor:
    """Inverse of `as_table`: [..., n, n] → [..., n(n+1)/2]."""
    slots, sources = torch.tril_indices(*table.shape[-2:], device=table.device)
    return table[..., slots, sources]


def largest(score: Tensor, k: int) -> Tensor:
    """Whether an entry is among the k largest of its row, and exists: [..., n, n] → bool."""
    places = torch.arange(score.shape[-1], device=score.device)
    chosen = torch.zeros_like(score, dtype=torch.bool)
    for _ in range(min(k, score.shape[-1])):
        best = score.masked_fill(chosen, -torch.inf).argmax(-1, keepdim=True)
        chosen = chosen | (places == best)
    return chosen & (score != -torch.inf)


def gumbel(uniform_draw: Tensor) -> Tensor:
    """Standard Gumbel noise from draws of U(0, 1): the k largest of logits plus this are drawn
    without replacement from their softmax (Kool et al., arXiv 1903.06059).
    """
    return -torch.log(-torch.log(uniform_draw.clamp(1e-20, 1 - 1e-7)))


def trust(logits: Tensor) -> Tensor:
    """ResRouting: a source of a slot with k sources is trusted if its probability > 1/(k + 1)."""
    sources = torch.arange(1, logits.shape[-1] + 1, device=logits.device, dtype=logits.dtype)
    return torch.softmax(logits.detach(), -1) > (1 / (sources + 1)).unsqueeze(-1)


def packed_bytes(modules: int) -> int:
    """Bytes that hold one route: a bit for each of the n(n+1)/2 pairs."""
    return (routes(modules) + 7) // 8


def pack(chosen: Tensor) -> Tensor:
    """[..., n, n] bool → [..., packed_bytes] uint8."""
    bits = as_flat(chosen).to(torch.uint8)
    bits = functional.pad(bits, (0, -bits.shape[-1] % 8))
    bits = bits.view(*bits.shape[:-1], -1, 8)
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (bits << places).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, modules: int) -> Tensor:
    """Inverse of `pack`."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = ((packed.unsqueeze(-1) >> places) & 1).flatten(-2)[..., : routes(modules)]
    return as_table(bits, 0).bool()
