"""The module stack and D2R's network as plain autograd would have them, row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from algorithms.modules.routing import RoutedNetwork
from algorithms.modules.stack import ModuleStack

SEGMENTS = [(k * (k - 1) // 2, k * (k + 1) // 2) for k in range(1, 20)]


def plain_stack(
    stack: ModuleStack, x: Tensor, table: Tensor, trusted: Tensor | None = None
) -> Tensor:
    """X [T, B, in] and tables [T, B or 1, d, d] → [T, B, H], source by source.

    ResRouting after the D2R authors' code: a module reads trusted·out + (1 - trusted)·blocked,
    blocked being the output with its own transform detached, while its shortcut carries the
    undetached mixture.
    """
    samples, depth = x.shape[1], table.shape[-1]
    rows = table.expand(-1, samples, -1, -1).flatten(0, 1)
    trust = torch.ones_like(rows) if trusted is None else trusted.flatten(0, 1).to(x.dtype)
    results = []
    for row, w, t in zip(x.flatten(0, 1), rows, trust, strict=True):
        first = torch.relu(functional.linear(row, stack.first.weight, stack.first.bias))
        outputs, blocked = [first], [first.detach()]

        def mixtures(
            slot: int,
            w: Tensor = w,
            t: Tensor = t,
            outputs: list[Tensor] = outputs,
            blocked: list[Tensor] = blocked,
        ) -> tuple[Tensor, Tensor]:
            plain, trusting = torch.zeros_like(outputs[0]), torch.zeros_like(outputs[0])
            for i in range(slot + 1):
                plain = plain + w[slot, i] * outputs[i]
                mixed = t[slot, i] * outputs[i] + (1 - t[slot, i]) * blocked[i]
                trusting = trusting + w[slot, i] * mixed
            return plain, trusting

        for slot in range(depth - 1):
            shortcut, z = mixtures(slot)
            layer = stack.later[slot]
            transform = torch.relu(functional.linear(z, layer.weight, layer.bias))
            outputs.append(shortcut + transform)
            blocked.append(shortcut + transform.detach())
        results.append(mixtures(depth - 1)[1])
    return torch.stack(results).unflatten(0, x.shape[:2])


def plain_network(net: RoutedNetwork, x: Tensor, chosen: Tensor | None) -> Tensor:
    """The forward pass of the paper's section 4, with one-hot ids and segments of flat logits.

    Routes are `chosen` [T, B, n, n], or greedy of two.
    """

    def linear(layer: Any, h: Tensor) -> Tensor:
        return functional.linear(h, layer.weight, layer.bias)

    n, (tasks, samples) = 1 + len(net.stack.later), x.shape[:2]
    f = linear(net.base.layers[2], torch.relu(linear(net.base.layers[0], x)))
    one_hot = torch.eye(tasks, dtype=x.dtype)
    e = one_hot @ net.embedding + net.embedding_bias
    h = torch.relu(linear(net.router[0], e.unsqueeze(1) * f))
    logits = linear(net.router[4], torch.relu(linear(net.router[2], h)))
    table, trusted = [], []
    for k, (start, stop) in zip(range(1, n + 1), SEGMENTS, strict=False):
        segment = logits[..., start:stop]
        if chosen is None:
            best = segment.argsort(-1, descending=True)[..., :2]
            taken = torch.stack([(best == i).any(-1) for i in range(k)], -1)
        else:
            taken = chosen[..., k - 1, :k]
        strength = segment.exp() * taken
        full = segment.exp() / segment.exp().sum(-1, keepdim=True)
        padding = torch.zeros(tasks, samples, n - k, dtype=x.dtype)
        table.append(torch.cat([strength / strength.sum(-1, keepdim=True), padding], -1))
        trusted.append(torch.cat([(full > 1 / (k + 1)).to(x.dtype), padding], -1))
    trust = torch.stack(trusted, 2) if net.resrouting else None
    body = plain_stack(net.stack, torch.relu(f), torch.stack(table, 2), trust)
    return linear(net.head, body)
