"""Layers and their initialisation. The task axis is indexed, never one-hot: [T, B, in] inputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Init = Callable[[Tensor, int, int], None]
"""Fills a tensor in place, given the layer's fan-in and fan-out."""


def he_uniform(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """U(±√(6 / fan-in)): the scaling study's hidden layers."""
    nn.init.uniform_(tensor, -math.sqrt(6 / fan_in), math.sqrt(6 / fan_in))


def fan_out_uniform(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """U(±1 / √fan-out): hidden layers of the Soft Modularization and D2R code."""
    nn.init.uniform_(tensor, -1 / math.sqrt(fan_out), 1 / math.sqrt(fan_out))


def fan_in_uniform(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """U(±1 / √fan-in): torch's own initialisation of linear layers, biases included."""
    nn.init.uniform_(tensor, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def xavier_uniform(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """U(±√(6 / (fan-in + fan-out)))."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(tensor, -bound, bound)


def standard_normal(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """N(0, 1): torch's own initialisation of embeddings."""
    nn.init.normal_(tensor)


def unit_normal(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """N(0, 1 / fan-out), rows of mean square length 1: flax's own initialisation of embeddings."""
    nn.init.normal_(tensor, std=1 / math.sqrt(fan_out))


def xavier_normal(tensor: Tensor, fan_in: int, fan_out: int) -> None:
    """N(0, 2 / (fan-in + fan-out))."""
    nn.init.normal_(tensor, std=math.sqrt(2 / (fan_in + fan_out)))


def orthogonal(gain: float) -> Init:
    """Orthogonal rows or columns of this norm."""

    def init(tensor: Tensor, fan_in: int, fan_out: int) -> None:
        nn.init.orthogonal_(tensor, gain)

    return init


def uniform(bound: float) -> Init:
    """U(±bound): output heads."""

    def init(tensor: Tensor, fan_in: int, fan_out: int) -> None:
        nn.init.uniform_(tensor, -bound, bound)

    return init


def constant(value: float) -> Init:
    """The same value everywhere: biases."""

    def init(tensor: Tensor, fan_in: int, fan_out: int) -> None:
        nn.init.constant_(tensor, value)

    return init


zero = constant(0.0)


def scaled(ratio: float, width: int) -> int:
    """A width in proportion to another."""
    return max(1, round(ratio * width))


def with_rows(x: Tensor, rows: Tensor) -> Tensor:
    """[T, B, in] and a row for each task [T, R] → [T, B, in + R]."""
    return torch.cat([x, rows[:, None].expand(-1, x.shape[1], -1)], -1)


def linear(inputs: int, outputs: int, weight: Init, bias: Init) -> nn.Linear:
    """`nn.Linear` with this initialisation."""
    layer = nn.Linear(inputs, outputs)
    weight(layer.weight, inputs, outputs)
    bias(layer.bias, inputs, outputs)
    return layer


def stacked(layer: Callable[[int, int], nn.Module], *sizes: int) -> nn.Sequential:
    """Layers of these sizes in a row, made by `layer(inputs, outputs)`; ReLU between them and none
    after the last.
    """
    first, *later = (layer(*pair) for pair in itertools.pairwise(sizes))
    return nn.Sequential(first, *(part for each in later for part in (nn.ReLU(), each)))


class TaskTable(nn.Module):
    """A row for each task, [T, out]: an embedding, or with a bias a linear layer on the one-hot."""

    per_task = ("rows",)

    def __init__(self, tasks: int, outputs: int, weight: Init, bias: Init | None = None) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(tasks, outputs))
        weight(self.rows, tasks, outputs)
        self.bias = None
        if bias is not None:
            self.bias = nn.Parameter(torch.empty(outputs))
            bias(self.bias, tasks, outputs)

    def forward(self) -> Tensor:
        return self.rows if self.bias is None else self.rows + self.bias


class Experts(nn.Module):
    """K linear layers side by side: [T, B, in], or [K, T, B, in] of each its own → [K, T, B, out].

    Weights are [K, in, out] and biases [K, 1, out], so that all are one batched product.
    """

    def __init__(self, experts: int, inputs: int, outputs: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(experts, 1, outputs))
        weight(self.weight, inputs, outputs)
        bias(self.bias, inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        experts, _, outputs = self.weight.shape
        rows = x.flatten(-3, -2).expand(experts, -1, -1)
        output = torch.baddbmm(self.bias, rows, self.weight)
        return output.view(experts, *x.shape[-3:-1], outputs)


class TaskLinear(nn.Module):
    """A linear layer on an input with the task's one-hot appended, without the one-hot.

    W·[x; onehot(t)] + b = W_x·x + E[t] + b, so the parameters, their count and their
    initialisation are those of the concatenated input (fan-in `inputs` + T).
    """

    per_task = ("task",)

    def __init__(self, inputs: int, tasks: int, outputs: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, outputs)
        self.task = nn.Parameter(torch.empty(tasks, outputs))
        weight(self.input.weight, inputs + tasks, outputs)
        weight(self.task, inputs + tasks, outputs)
        bias(self.input.bias, inputs + tasks, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        return self.input(x) + self.task[:, None]


class TaskHeads(nn.Module):
    """One linear head per task: [T, B, in] → [T, B, out]."""

    per_task = ("weight", "bias")

    def __init__(self, tasks: int, inputs: int, outputs: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tasks, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(tasks, 1, outputs))
        weight(self.weight, inputs, outputs)
        bias(self.bias, inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class MLP(nn.Module):
    """Hidden ReLU layers on observation and task id, then a head: the scaling study's network."""

    def __init__(
        self,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        multi_head: bool,
        head_bound: float,
    ) -> None:
        super().__init__()
        head = uniform(head_bound)
        self.layers = nn.Sequential(TaskLinear(inputs, tasks, width, he_uniform, zero), nn.ReLU())
        for _ in range(depth - 1):
            self.layers.extend([linear(width, width, he_uniform, zero), nn.ReLU()])
        self.head: nn.Module = (
            TaskHeads(tasks, width, outputs, head, head)
            if multi_head
            else linear(width, outputs, head, head)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        return self.head(self.layers(x))
