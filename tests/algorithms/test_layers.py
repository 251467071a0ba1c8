"""Building blocks against torch's own layers and distributions."""

from __future__ import annotations

import math

import pytest
import torch
from algorithms.networks import (
    MLP,
    Linear,
    TaskHeads,
    TaskLinear,
    constant,
    fan_out_uniform,
    he_uniform,
    side_by_side,
    uniform,
)
from torch import Tensor, nn
from torch.nn import functional

T, B, IN, OUT = 3, 4, 5, 6


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def with_one_hot(x: Tensor) -> Tensor:
    """[T, B, in] → [T, B, in + T]."""
    one_hot = torch.eye(x.shape[0], dtype=x.dtype).unsqueeze(1).expand(-1, x.shape[1], -1)
    return torch.cat([x, one_hot], -1)


def agree(actual: Tensor, expected: Tensor, parameters: list[Tensor]) -> None:
    """Values and the gradients of all parameters are the same."""
    torch.testing.assert_close(actual, expected)
    probe = torch.randn(actual.shape, generator=torch.Generator().manual_seed(9))
    got = torch.autograd.grad((actual * probe).sum(), parameters)
    wanted = torch.autograd.grad((expected * probe).sum(), parameters)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("shared_input", [True, False])
def test_linear_is_one_torch_linear_a_member(
    members: int, shared_input: bool, random: torch.Generator
) -> None:
    layer = Linear(members, IN, OUT, uniform(random, 1.0), uniform(random, 1.0))
    shape = (T, B, IN) if shared_input else (members, T, B, IN)
    x = torch.randn(shape, generator=random)
    expected = torch.stack(
        [
            functional.linear(x if shared_input else x[m], layer.weight[m].T, layer.bias[m, 0])
            for m in range(members)
        ]
    )
    agree(layer(x), expected, list(layer.parameters()))


@pytest.mark.parametrize("members", [1, 2])
def test_task_linear_is_a_linear_layer_on_the_concatenated_one_hot(
    members: int, random: torch.Generator
) -> None:
    layer = TaskLinear(members, IN, T, OUT, uniform(random, 1.0), uniform(random, 1.0))
    x = torch.randn(T, B, IN, generator=random)
    expected = torch.stack(
        [
            functional.linear(
                with_one_hot(x), torch.cat([layer.weight[m], layer.task[m]]).T, layer.bias[m, 0]
            )
            for m in range(members)
        ]
    )
    agree(layer(x), expected, list(layer.parameters()))


def test_task_linear_has_the_parameters_of_the_concatenated_layer(random: torch.Generator) -> None:
    layer = TaskLinear(1, IN, T, OUT, he_uniform(random), constant(0.0))
    plain = nn.Linear(IN + T, OUT)
    assert sum(p.numel() for p in layer.parameters()) == sum(p.numel() for p in plain.parameters())


def test_task_heads_are_one_torch_linear_a_task(random: torch.Generator) -> None:
    heads = TaskHeads(2, T, IN, OUT, uniform(random, 1.0), uniform(random, 1.0))
    x = torch.randn(2, T, B, IN, generator=random)
    expected = torch.stack(
        [
            torch.stack(
                [
                    functional.linear(x[m, t], heads.weight[m, t].T, heads.bias[m, t, 0])
                    for t in range(T)
                ]
            )
            for m in range(2)
        ]
    )
    agree(heads(x), expected, list(heads.parameters()))


@pytest.mark.parametrize("multi_head", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_is_relu_layers_on_the_one_hot_input_and_a_head(
    multi_head: bool, depth: int, random: torch.Generator
) -> None:
    mlp = MLP(2, T, IN, OUT, 7, depth, multi_head, 1.0, random)
    x = torch.randn(T, B, IN, generator=random)
    members = []
    for m in range(2):
        first = mlp.layers[0]
        h = with_one_hot(x) @ torch.cat([first.weight[m], first.task[m]]) + first.bias[m]
        for layer in list(mlp.layers)[2::2]:
            h = torch.relu(h) @ layer.weight[m] + layer.bias[m]
        h = torch.relu(h)
        members.append(h @ mlp.head.weight[m] + mlp.head.bias[m])
    assert len(mlp.layers) == 2 * depth
    agree(mlp(x), torch.stack(members), list(mlp.parameters()))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("trainable", [True, False])
def test_the_written_backward_pass_of_an_mlp_is_autograds(
    members: int, trainable: bool, random: torch.Generator
) -> None:
    mlp = MLP(members, T, IN, OUT, 7, 3, True, 1.0, random).double().requires_grad_(trainable)
    x = torch.randn(T, B, IN, generator=random, dtype=torch.float64).requires_grad_()
    written = mlp(x)
    handle = mlp.layers[1].register_forward_hook(lambda *_: None)  # autograd on plain layers
    plain = mlp(x)
    handle.remove()
    assert torch.equal(written, plain)
    wanted = [x, *mlp.parameters()] if trainable else [x]
    slope = torch.randn(plain.shape, generator=random, dtype=torch.float64)
    expected = torch.autograd.grad(plain, wanted, slope)
    found = torch.autograd.grad(written, wanted, slope)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("multi_head", [True, False])
def test_mlp_starts_he_uniform_with_zero_biases_and_small_heads(
    multi_head: bool, random: torch.Generator
) -> None:
    mlp = MLP(2, T, IN, OUT, 64, 3, multi_head, 3e-3, random)
    first, second = mlp.layers[0], mlp.layers[2]
    # The one-hot columns count towards the fan-in, as they do in the concatenated layer.
    for weight, bound in (
        (first.weight, math.sqrt(6 / (IN + T))),
        (first.task, math.sqrt(6 / (IN + T))),
        (second.weight, math.sqrt(6 / 64)),
        (mlp.head.weight, 3e-3),
        (mlp.head.bias, 3e-3),
    ):
        largest = weight.abs().max().item()
        assert largest <= bound
        # Of many draws the largest comes close to the bound.
        assert largest > (0.9 if weight.numel() > 100 else 0.6) * bound
        assert abs(weight.mean().item()) < bound / 2
    assert not first.bias.any()
    assert not second.bias.any()
    assert not torch.equal(first.weight[0], first.weight[1]), "members must start apart"


def test_fan_out_uniform_is_bounded_by_the_outputs(random: torch.Generator) -> None:
    layer = Linear(1, 100, 16, fan_out_uniform(random), constant(0.1))
    largest = layer.weight.abs().max().item()
    assert 0.95 / 4 < largest <= 1 / 4
    assert torch.equal(layer.bias, torch.full_like(layer.bias, 0.1))


def test_one_network_stays_as_it_was_built() -> None:
    """Parameters that a user's network shares, or lists, are still its own."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert side_by_side([net]) is net
    assert net[1].weight is net[0].weight


def test_networks_side_by_side_are_members_in_order(random: torch.Generator) -> None:
    nets = [Linear(2, 3, 4, fan_out_uniform(random), constant(0.1)) for _ in range(3)]
    x = torch.randn(2, 5, 3, generator=random)
    expected = torch.cat([net(x) for net in nets])
    joint = side_by_side(nets)
    assert torch.equal(joint(x.expand(6, 2, 5, 3)), expected)
