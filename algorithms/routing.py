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
from algorithms.wiring import Routes


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
        if top_k < self.settings.modules and not x.is_cuda:
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
    allowed: Tensor = selected & (logits > -torch.inf)
    return allowed


def gumbel(uniform_draw: Tensor) -> Tensor:
    """Standard Gumbel noise from draws of U(0, 1)."""
    return -torch.log(-torch.log(uniform_draw.clamp(1e-20, 1 - 1e-7)))


def choose(logits: Tensor, top_k: int, choice: Choice, needs_trust: bool) -> tuple[Routes, Tensor]:
    """`select`, `mixing_weights` and `trust` for the k chosen sources of each slot alone.

    From flat logits [M, T, B, E] with E = n(n+1)/2: the routes, and the selected sources
    [M, T, B, n, n] as `select` gives them. A stored choice must not hold more than k sources.
    Sources lead the axes in here, since reducing a small last axis is slow.
    """
    members, tasks, samples, entries = logits.shape
    n = math.isqrt(2 * entries)
    rows, columns = slot_index(n, logits.device)
    score = logits.detach()
    if choice.how == "given":
        assert choice.selected is not None
        score = torch.where(choice.selected[..., rows, columns], 1.0, -torch.inf).to(score.dtype)
        score = score.expand(logits.shape)
    elif choice.how == "sampled":
        assert choice.temperature is not None and choice.draws is not None
        # The same draws as in `select`, of which half would fall on sources that do not exist.
        draw = choice.draws.uniform(logits.new_empty(*logits.shape[:-1], n, n)).flatten(-2)
        noise = gumbel(draw.index_select(-1, rows * n + columns))
        score = score / choice.temperature[..., None, None] + noise
    sources, real = largest(by_source(score), top_k)

    slot = torch.arange(n, device=logits.device).unsqueeze(1)
    entry = (slot * (slot + 1) // 2 + sources).movedim(2, 0).flatten(1)  # [N, k·n]
    chosen = logits.view(-1, entries).gather(1, entry).t().view(sources.shape)
    weights = torch.softmax(chosen.masked_fill(~real, -torch.inf), 0)
    trusted = None
    if needs_trust:
        total = by_source(logits.detach()).logsumexp(0)
        trusted = chosen.detach() > total - torch.log(slot + 2.0)

    def slot_first(x: Tensor) -> Tensor:
        return x.permute(1, 2, 0).reshape(n, members * tasks, samples, -1)

    selected = torch.zeros(len(entry), n, n, dtype=torch.bool, device=logits.device)
    selected.scatter_(2, sources.permute(2, 1, 0), True)
    routes = Routes(
        slot_first(sources),
        slot_first(weights).contiguous(),
        None if trusted is None else slot_first(trusted),
    )
    return routes, selected.view(members, tasks, samples, n, n)


def by_source(flat: Tensor) -> Tensor:
    """[M, T, B, n(n+1)/2] → [source, slot, N], −∞ where a slot lacks the source."""
    entries = flat.shape[-1]
    n = math.isqrt(2 * entries)
    lanes = functional.pad(flat.reshape(-1, entries).t(), (0, 0, 0, 1), value=-torch.inf)
    rows, columns = slot_index(n, flat.device)
    lane = torch.full((n, n), entries, device=flat.device)
    lane[columns, rows] = torch.arange(entries, device=flat.device)
    return lanes.index_select(0, lane.flatten()).view(n, n, -1)


def largest(score: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The k best sources [k, slot, N] of scores [source, slot, N], best first, and whether each
    exists: in their place stands the best.

    `topk` sorts every column by itself. The maximum over a leading axis is vectorised, but gives
    no index: the index rides in the last bits of the score as float64, which a float32 leaves 0.
    """
    n = len(score)
    lowest = torch.finfo(score.dtype).min
    bits = (1 << n.bit_length()) - 1
    source = torch.arange(n, device=score.device).view(-1, 1, 1)
    key = score.clamp(min=lowest).double().view(torch.int64)
    key = key.bitwise_and_(~bits).bitwise_or_(source).view(torch.float64)
    found: list[Tensor] = []
    exists: list[Tensor] = []
    for rank in range(top_k):
        best = key.amax(0)
        real = best > lowest / 2
        index = best.view(torch.int64) & bits
        found.append(torch.where(real, index, found[0] if found else 0))
        exists.append(real)
        if rank + 1 < top_k:
            key.masked_fill_(key == best, -torch.inf)
    return torch.stack(found), torch.stack(exists)


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
