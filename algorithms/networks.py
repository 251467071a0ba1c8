"""Building blocks: M networks of one shape side by side, the task axis indexed, never one-hot.

Every parameter has a leading member axis: M = 1 for an actor, M = 2 for twin critics, and S times
that for S seeds (`side_by_side`). Activations are [M, T, B, units]; one batched matrix product
serves all members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.fused_mlp import hidden_layers

Init = Callable[[Tensor, int, int], None]
"""Fills a weight in place, given its fan-in and fan-out."""


def he_uniform(generator: torch.Generator) -> Init:
    """U(±√(6 / fan-in)): the scaling study's hidden layers."""

    def init(weight: Tensor, fan_in: int, fan_out: int) -> None:
        bound = math.sqrt(6 / fan_in)
        weight.uniform_(-bound, bound, generator=generator)

    return init


def fan_out_uniform(generator: torch.Generator) -> Init:
    """U(±1 / √fan-out): the D2R code's hidden layers."""

    def init(weight: Tensor, fan_in: int, fan_out: int) -> None:
        bound = 1 / math.sqrt(fan_out)
        weight.uniform_(-bound, bound, generator=generator)

    return init


def uniform(generator: torch.Generator, bound: float) -> Init:
    """U(±bound): output heads."""

    def init(weight: Tensor, fan_in: int, fan_out: int) -> None:
        weight.uniform_(-bound, bound, generator=generator)

    return init


def constant(value: float) -> Init:
    """The same value everywhere: biases."""

    def init(weight: Tensor, fan_in: int, fan_out: int) -> None:
        weight.fill_(value)

    return init


class Linear(nn.Module):
    """M linear layers at once: [M, T, B, in] or [T, B, in] → [M, T, B, out]."""

    def __init__(self, members: int, inputs: int, outputs: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))
        with torch.no_grad():
            weight(self.weight, inputs, outputs)
            bias(self.bias, inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        members, _, outputs = self.weight.shape
        rows = x.reshape(-1, x.shape[-3] * x.shape[-2], x.shape[-1])
        if rows.shape[0] != members:
            rows = rows.expand(members, -1, -1)
        result = torch.baddbmm(self.bias, rows, self.weight)
        return result.view(members, x.shape[-3], x.shape[-2], outputs)


class TaskLinear(nn.Module):
    """A linear layer on an input with the task's one-hot appended, without the one-hot.

    W·[x; onehot(t)] + b = W_x·x + E[t] + b, so the parameters, their count and their
    initialisation are those of the concatenated input (fan-in `inputs` + T).
    """

    def __init__(
        self, members: int, inputs: int, tasks: int, outputs: int, weight: Init, bias: Init
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.task = nn.Parameter(torch.empty(members, tasks, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))
        with torch.no_grad():
            weight(self.weight, inputs + tasks, outputs)
            weight(self.task, inputs + tasks, outputs)
            bias(self.bias, inputs + tasks, outputs)

    def forward(self, x: Tensor) -> Tensor:
        offset = (self.task + self.bias).unsqueeze(2)
        members, tasks, _, outputs = offset.shape
        rows = x.reshape(-1, tasks * x.shape[-2], x.shape[-1])
        if rows.shape[0] != members:
            rows = rows.expand(members, -1, -1)
        product = torch.bmm(rows, self.weight).view(members, tasks, x.shape[-2], outputs)
        return product + offset


class TaskHeads(nn.Module):
    """One linear head a task: [M, T, B, in] → [M, T, B, out]."""

    def __init__(
        self, members: int, tasks: int, inputs: int, outputs: int, weight: Init, bias: Init
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, tasks, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, tasks, 1, outputs))
        with torch.no_grad():
            weight(self.weight, inputs, outputs)
            bias(self.bias, inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        result = torch.baddbmm(self.bias.flatten(0, 1), x.flatten(0, 1), self.weight.flatten(0, 1))
        return result.view(*x.shape[:-1], -1)


class MLP(nn.Module):
    """Hidden ReLU layers on observation and task id, then a head: the scaling study's network."""

    def __init__(
        self,
        members: int,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        multi_head: bool,
        head_bound: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.members = members
        hidden, zero, head = he_uniform(generator), constant(0.0), uniform(generator, head_bound)
        self.layers = nn.Sequential(TaskLinear(members, inputs, tasks, width, hidden, zero))
        self.layers.append(nn.ReLU())
        for _ in range(depth - 1):
            self.layers.append(Linear(members, width, width, hidden, zero))
            self.layers.append(nn.ReLU())
        self.head: nn.Module = (
            TaskHeads(members, tasks, width, outputs, head, head)
            if multi_head
            else Linear(members, width, outputs, head, head)
        )

    @property
    def linear(self) -> list[Any]:
        """The hidden layers without their activations: a TaskLinear, then Linear."""
        return list(self.layers)[::2]

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [M, T, B, out]."""
        if any(layer._forward_hooks for layer in self.layers):
            hidden: Tensor = self.layers(x)  # somebody looks at the layers' outputs
        else:
            first, *later = self.linear
            offset = (first.task + first.bias).unsqueeze(2)
            pairs = [tensor for layer in later for tensor in (layer.weight, layer.bias)]
            hidden = hidden_layers(x, offset, first.weight, pairs)
        result: Tensor = self.head(hidden)
        return result


def side_by_side(networks: Sequence[nn.Module]) -> nn.Module:
    """One network of the members of several that are built alike, those of the first one first.

    A parameter must have one owner: of several networks, shared ones would come apart.
    """
    joint = networks[0]
    if len(networks) == 1:
        return joint
    for module, *others in zip(*(network.modules() for network in networks), strict=True):
        for name, parameter in list(module.named_parameters(recurse=False)):
            parts = [parameter, *(getattr(other, name) for other in others)]
            setattr(module, name, nn.Parameter(torch.cat([part.detach() for part in parts])))
    return joint
