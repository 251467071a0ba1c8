"""Building blocks against torch's own layers."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import Get, Numbers, actions_last, compare, load
from torch import Tensor
from torch.nn import functional

from algorithms.parts.layers import (
    MLP,
    TaskHeads,
    TaskLinear,
    constant,
    fan_out_uniform,
    linear,
    uniform,
    xavier_uniform,
)

T, B, IN, OUT = 3, 4, 5, 6
wide = uniform(1.0)


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    torch.manual_seed(1)


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
    torch.testing.assert_close(got, wanted)


def test_task_linear_is_a_linear_layer_on_the_concatenated_one_hot() -> None:
    layer, x = TaskLinear(IN, T, OUT, wide, wide), torch.randn(T, B, IN)
    weight = torch.cat([layer.input.weight, layer.task.T], 1)
    expected = functional.linear(with_one_hot(x), weight, layer.input.bias)
    agree(layer(x), expected, list(layer.parameters()))


def test_task_heads_are_one_torch_linear_per_task() -> None:
    heads, x = TaskHeads(T, IN, OUT, wide, wide), torch.randn(T, B, IN)
    expected = torch.stack(
        [functional.linear(x[t], heads.weight[t].T, heads.bias[t, 0]) for t in range(T)]
    )
    agree(heads(x), expected, list(heads.parameters()))


@pytest.mark.parametrize("multi_head", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_is_relu_layers_on_the_one_hot_input_and_a_head(multi_head: bool, depth: int) -> None:
    mlp, x = MLP(T, IN, OUT, 7, depth, multi_head, 1.0), torch.randn(T, B, IN)
    first = mlp.layers[0]
    h = with_one_hot(x) @ torch.cat([first.input.weight.T, first.task]) + first.input.bias
    for layer in list(mlp.layers)[2::2]:
        h = torch.relu(h) @ layer.weight.T + layer.bias
    weight = mlp.head.weight if multi_head else mlp.head.weight.T
    assert len(mlp.layers) == 2 * depth
    agree(mlp(x), torch.relu(h) @ weight + mlp.head.bias, list(mlp.parameters()))


@pytest.mark.parametrize("multi_head", [True, False])
def test_mlp_starts_he_uniform_with_zero_biases_and_small_heads(multi_head: bool) -> None:
    mlp = MLP(T, IN, OUT, 64, 3, multi_head, 3e-3)
    first, second = mlp.layers[0], mlp.layers[2]
    # The one-hot columns count towards the fan-in, as they do in the concatenated layer.
    for weight, bound in (
        (first.input.weight, math.sqrt(6 / (IN + T))),
        (first.task, math.sqrt(6 / (IN + T))),
        (second.weight, math.sqrt(6 / 64)),
        (mlp.head.weight, 3e-3),
        (mlp.head.bias, 3e-3),
    ):
        largest = weight.abs().max().item()
        assert largest <= bound
        # Of many draws the largest comes close to the bound.
        assert largest > (0.9 if weight.numel() > 100 else 0.4) * bound
        assert abs(weight.mean().item()) < bound / 2
    assert not first.input.bias.any()
    assert not second.bias.any()


@pytest.mark.parametrize(
    ("init", "bound"), [(fan_out_uniform, 1 / 4), (xavier_uniform, math.sqrt(6 / 116))]
)
def test_initialisations_are_bounded_by_what_they_say(init, bound) -> None:  # type: ignore[no-untyped-def]
    layer = linear(100, 16, init, constant(0.1))
    assert 0.95 * bound < layer.weight.abs().max().item() <= bound
    assert torch.equal(layer.bias, torch.full_like(layer.bias, 0.1))


@pytest.mark.parametrize("case", ["actor", "critic"])
def test_multi_head_mlp_equals_the_public_network(case: str) -> None:
    data = load(f"multihead_{case}")

    def jax(get: Get) -> Numbers:
        first = get("layer_0.kernel")  # [action, observation, task], in
        rows, task = first[:-3], first[-3:]
        ours = {"layers.0.input.weight": actions_last(rows, data).T, "layers.0.task": task}
        ours["layers.0.input.bias"] = get("layer_0.bias")
        for i in (1, 2):
            ours[f"layers.{2 * i}.weight"] = get(f"layer_{i}.kernel").T
            ours[f"layers.{2 * i}.bias"] = get(f"layer_{i}.bias")
        return {**ours, "head.weight": get("head.kernel"), "head.bias": get("head.bias")[:, None]}

    inputs = data["param/layer_0.kernel"].shape[0] - 3
    outputs = data["param/head.bias"].shape[1]
    compare(MLP(3, inputs, outputs, 9, 3, True, 1.0), data, jax)
