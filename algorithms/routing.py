"""Dynamic depth routing: a router chooses, per sample, which modules feed which (arXiv 2312.14472).

The network of D2R's actor and critics, and of MEGA's critics. Its weights and initialisation follow
section 4 of the paper and the authors' published code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from algorithms.compiled_routes import Routes, compiled_routes
from algorithms.draws import Draws
from algorithms.module_stack import ModuleStack, slot_index
from algorithms.networks import (
    Linear,
    TaskLinear,
    constant,
    fan_out_uniform,
    uniform,
)
from algorithms.settings import ModuleSettings


class Base(nn.Module):
    """Linear layers with ReLU between them and none after the last: observation → f."""

    def __init__(
        self,
        members: int,
        inputs: int,
        width: int,
        depth: int,
        generator: torch.Generator,
        tasks: int = 0,
    ) -> None:
        super().__init__()
        weight, bias = fan_out_uniform(generator), constant(0.1)
        self.layers = nn.Sequential(
            TaskLinear(members, inputs, tasks, width, weight, bias)
            if tasks
            else Linear(members, inputs, width, weight, bias)
        )
        for _ in range(depth - 1):
            self.layers.append(nn.ReLU())
            self.layers.append(Linear(members, width, width, weight, bias))

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [M, T, B, width], before any activation."""
        result: Tensor = self.layers(x)
        return result


@dataclass(frozen=True)
class Choice:
    """How routes are chosen."""

    how: Literal["greedy", "sampled", "given"]
    """The k largest logits; k sources drawn without replacement; or a stored choice."""
    temperature: Tensor | None = None
    """[M, T] or [1, T], divides the logits that are drawn from."""
    draws: Draws | None = None
    """Source of the draws."""
    selected: Tensor | None = None
    """[M, T, B, n, n] bool: the stored choice."""


class RoutedNetwork(nn.Module):
    """Base, task embedding, router, module stack and one head for all tasks."""

    def __init__(
        self,
        members: int,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        settings: ModuleSettings,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.settings, self.members = settings, members
        n = settings.modules
        module_width = max(1, round(settings.module_ratio * width))
        router_width = max(1, round(settings.router_ratio * width))
        weight, bias = fan_out_uniform(generator), constant(0.1)
        self.base = Base(members, inputs, width, settings.base_depth, generator)
        self.activation = nn.ReLU()
        # Linear(T → width) on the one-hot id is a row look-up; stored as T rows and a bias.
        self.embedding = nn.Parameter(torch.empty(members, tasks, width))
        self.embedding_bias = nn.Parameter(torch.empty(members, 1, width))
        with torch.no_grad():
            weight(self.embedding, tasks, width)
            bias(self.embedding_bias, tasks, width)
        self.router = nn.Sequential(
            Linear(members, width, router_width, weight, bias),
            nn.ReLU(),
            Linear(members, router_width, router_width, weight, bias),
            nn.ReLU(),
            Linear(members, router_width, n * (n + 1) // 2, weight, bias),
        )
        self.stack = ModuleStack(members, width, n, module_width, weight, bias)
        head = uniform(generator, 3e-3)
        self.head = Linear(members, module_width, outputs, head, head)

    def forward(self, x: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
        """[T, B, in] → output [M, T, B, out] and the selected sources [M, T, B, n, n] (bool)."""
        features = self.base(x)
        top_k, resrouting = self.settings.top_k, self.settings.resrouting
        body = self.activation(features)
        if top_k < self.settings.modules and self.stack.takes_routes(body, top_k):
            # Trust concerns gradients alone.
            needs_trust = resrouting and torch.is_grad_enabled()
            routes, selected = choose(self.flat_logits(features), top_k, choice, needs_trust)
            return self.head(self.stack(body, routes)), selected
        logits = self.route_logits(features)
        selected = select(logits, top_k, choice)
        table = as_table(mixing_weights(logits, selected))
        trusted = as_table(trust(logits).to(table.dtype)) if resrouting else None
        return self.head(self.stack(body, table, trusted)), selected

    def flat_logits(self, features: Tensor) -> Tensor:
        """Router logits [M, T, B, n(n+1)/2], slot by slot."""
        embedding = (self.embedding + self.embedding_bias).unsqueeze(2)
        logits: Tensor = self.router(embedding * features)
        return logits

    def route_logits(self, features: Tensor) -> Tensor:
        """Router logits [M, T, B, n, n], −∞ above the diagonal: row k weighs sources 1 … k + 1."""
        n = self.settings.modules
        flat = self.flat_logits(features)
        rows, columns = slot_index(n, flat.device)
        table: Tensor = flat.new_full((*flat.shape[:-1], n, n), -torch.inf)
        table[..., rows, columns] = flat
        return table


def select(logits: Tensor, top_k: int, choice: Choice) -> Tensor:
    """The k sources of each slot, [..., n, n] bool; a slot with fewer sources selects them all.

    Drawing uses the Gumbel-top-k trick, which equals drawing without replacement from
    softmax(logits / temperature) (Kool et al., arXiv 1903.06059).
    """
    n = logits.shape[-1]
    if choice.how == "given":
        assert choice.selected is not None
        return choice.selected
    score = logits.detach()
    if choice.how == "sampled":
        assert choice.temperature is not None and choice.draws is not None
        noise = gumbel(choice.draws.uniform(score))
        score = score / choice.temperature[..., None, None, None] + noise
    best = score.topk(min(top_k, n), dim=-1).indices
    selected = torch.zeros_like(score, dtype=torch.bool).scatter_(-1, best, True)
    allowed: Tensor = selected & (logits != -torch.inf)  # what is not a number is a source
    return allowed


def gumbel(uniform_draw: Tensor) -> Tensor:
    """Standard Gumbel noise from draws of U(0, 1)."""
    return -torch.log(-torch.log(uniform_draw.clamp(1e-20, 1 - 1e-7)))


def choose(logits: Tensor, top_k: int, choice: Choice, needs_trust: bool) -> tuple[Routes, Tensor]:
    """`select`, `mixing_weights` and `trust` for the k chosen sources of each slot alone.

    From flat logits [M, T, B, n(n+1)/2]: the routes, and the selected sources [M, T, B, n, n].
    """
    n = math.isqrt(2 * logits.shape[-1])
    temperature = noise = given = None
    if choice.how == "given":
        assert choice.selected is not None
        given = choice.selected
    elif choice.how == "sampled":
        assert choice.temperature is not None and choice.draws is not None
        # The same draws as in `select`, of which half fall on sources that do not exist.
        noise = gumbel(choice.draws.uniform(logits.new_empty(*logits.shape[:-1], n, n)))
        temperature = choice.temperature
    return compiled_routes(
        logits,
        n,
        top_k,
        temperature=temperature,
        noise=noise,
        given=given,
        needs_trust=needs_trust,
    )


def mixing_weights(logits: Tensor, selected: Tensor) -> Tensor:
    """Softmax over the selected sources' untempered logits, zero elsewhere."""
    weights: Tensor = torch.softmax(logits.masked_fill(~selected, -torch.inf), -1)
    return weights


def trust(logits: Tensor) -> Tensor:
    """ResRouting: a source of a slot with k sources is trusted if its probability > 1/(k + 1)."""
    sources = torch.arange(1, logits.shape[-1] + 1, device=logits.device, dtype=logits.dtype)
    trusted: Tensor = torch.softmax(logits.detach(), -1) > (1 / (sources + 1)).unsqueeze(-1)
    return trusted


def as_table(weights: Tensor) -> Tensor:
    """[M, T, B, n, n] → [n, n, M·T, B], the module stack's layout."""
    return weights.flatten(0, 1).permute(2, 3, 0, 1).contiguous()


def packed_bytes(modules: int) -> int:
    """Bytes that hold one route: a bit for each of the n(n+1)/2 entries."""
    return (modules * (modules + 1) // 2 + 7) // 8


def pack(selected: Tensor) -> Tensor:
    """[..., n, n] bool → [..., packed_bytes] uint8."""
    rows, columns = slot_index(selected.shape[-1], selected.device)
    bits = selected[..., rows, columns].to(torch.uint8)
    bits = functional.pad(bits, (0, -bits.shape[-1] % 8))
    bits = bits.view(*bits.shape[:-1], -1, 8)
    powers = 2 ** torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (bits * powers).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, modules: int) -> Tensor:
    """Inverse of `pack`."""
    rows, columns = slot_index(modules, packed.device)
    powers = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = ((packed.unsqueeze(-1) >> powers) & 1).flatten(-2)[..., : len(rows)].bool()
    selected: Tensor = bits.new_zeros((*packed.shape[:-1], modules, modules))
    selected[..., rows, columns] = bits
    return selected
