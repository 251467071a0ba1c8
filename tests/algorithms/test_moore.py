"""MOORE against the authors' network and its re-implementation, its sizes, and Gram–Schmidt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracle import Get, Numbers, actions_last, by_task, compare, equal, load, per_task

from algorithms.algorithm import Batch
from algorithms.moore import MOORESettings, OrthogonalExperts, orthonormal


def authors(get: Get, experts: int) -> Numbers:
    """The authors' parameters, in PyTorch, under our names."""
    ours = {"task_weights.rows": get("task_encoder.weight").T}
    for i in range(3):
        each = [f"expert_{k + 1}_layer_{i}" for k in range(experts)]
        ours[f"experts.{2 * i}.weight"] = torch.stack([get(f"{name}.weight").T for name in each])
        ours[f"experts.{2 * i}.bias"] = torch.stack([get(f"{name}.bias")[None] for name in each])
    ours["heads.weight"] = torch.stack([get(f"head_{t}.weight").T for t in range(3)])
    ours["heads.bias"] = torch.stack([get(f"head_{t}.bias")[None] for t in range(3)])
    return ours


def jax(get: Get, data: Numbers, depth: int) -> Numbers:
    """The re-implementation's parameters, in JAX, under our names."""
    ours = {"task_weights.rows": get("task_weights.kernel")}
    for i in range(depth):
        kernel = get(f"expert_layer_{i}.kernel")
        ours[f"experts.{2 * i}.weight"] = kernel if i else actions_last(kernel, data)
        ours[f"experts.{2 * i}.bias"] = get(f"expert_layer_{i}.bias")[:, None]
    return {**ours, "heads.weight": get("head.kernel"), "heads.bias": get("head.bias")[:, None]}


@pytest.mark.parametrize(
    ("case", "depth"),
    [
        *(("torch_actor_K2", 3), ("torch_actor_K3", 3), ("torch_critic_K3", 3)),
        *(("jax_actor_K2", 2), ("jax_actor_K3", 3), ("jax_critic_K3", 3)),
    ],
)
def test_equals_public_networks(case: str, depth: int) -> None:
    data, experts, original = load(f"moore_{case}"), int(case[-1]), case.startswith("torch")
    settings = MOORESettings(experts=experts, norm_epsilon=0.0 if original else 1e-8)
    net = OrthogonalExperts(3, 7, 4, 9, depth, 1e-3, settings)
    x = compare(net, data, lambda get: authors(get, experts) if original else jax(get, data, depth))
    equal(net.task_weights(), per_task(data["mid/task_weights"]))
    vectors = net.experts(x)
    equal(vectors.movedim(0, 2), by_task(data["mid/expert_out"]))
    equal(orthonormal(vectors, net.epsilon).movedim(0, 2), by_task(data["mid/orthogonal"]))
    equal(net.features(x), by_task(data["mid/features"]))


def test_bases_are_orthonormal_and_span_what_they_came_from() -> None:
    vectors = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    basis = orthonormal(vectors, 1e-8).movedim(0, 2)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(4).expand(3, 5, 4, 4), rtol=0, atol=1e-5)
    # QR's R is triangular: vector k lies in the span of the first k of the basis.
    triangle = vectors.movedim(0, 2) @ basis.mT
    torch.testing.assert_close(triangle @ basis, vectors.movedim(0, 2), rtol=0, atol=1e-5)
    assert triangle.triu(1).abs().max() < 1e-5


@pytest.mark.parametrize("epsilon", [0.0, 1e-8])
@pytest.mark.parametrize("second", ["same", "twice", "nothing", "near"])
def test_collinear_experts_give_finite_values_and_gradients(second: str, epsilon: float) -> None:
    first = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    others = {"same": first, "twice": 2 * first, "nothing": 0 * first, "near": first * (1 + 1e-7)}
    vectors = torch.stack([first, others[second], torch.ones(3, 5, 6)]).requires_grad_()
    basis = orthonormal(vectors, epsilon)
    (gradient,) = torch.autograd.grad(basis.sin().sum(), vectors)
    assert basis.isfinite().all() and gradient.isfinite().all()
    assert basis.norm(dim=-1).max() < 1.001


def test_a_second_pass_makes_near_collinear_experts_orthogonal() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(3, 5, 6, generator=random)
    near = first + 1e-5 * torch.randn(3, 5, 6, generator=random)
    once, twice = (orthonormal(torch.stack([first, near]), 0.0, passes) for passes in (1, 2))
    assert (once[0] * once[1]).sum(-1).abs().max() > 1e-3
    assert (twice[0] * twice[1]).sum(-1).abs().max() < 1e-6


def test_original_initialisation() -> None:
    net = OrthogonalExperts(10, 39, 8, 400, 3, 1e-3, MOORESettings(init="original"))
    assert 0.9 / 20 < net.experts[2].weight.abs().max() <= 1 / 20
    assert 0.9 / 20 < net.experts[2].bias.abs().max() <= 1 / 20
    assert not torch.equal(net.experts[2].weight[0], net.experts[2].weight[1])
    assert net.heads.weight.abs().max() > 0.9 * (6 / 408) ** 0.5


def test_actor_and_temperatures_begin_late(
    build: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    late, prompt = build("moore", actor_delay=3), build("moore")
    start = {name: value.clone() for name, value in late.state.items()}
    batch = collect(prompt)
    for step in range(4):
        for algorithm in (late, prompt):
            algorithm.update(batch)
        if step == 0:
            assert torch.equal(late.state["critic"], prompt.state["critic"])
        if step < 3:
            for name, value in start.items():
                waits = name.startswith(("actor", "log_temperature"))
                assert torch.equal(late.state[name], value) is waits, name
    assert late.state["critic.steps"] == 4
    for name, learning_rate in (("actor", 3e-4), ("log_temperature", 1e-4)):
        assert late.state[f"{name}.steps"] == 1
        # Adam's first step is as long as its learning rate.
        moved = (late.state[name] - start[name]).abs().max()
        torch.testing.assert_close(moved, torch.tensor(learning_rate), rtol=0.02, atol=0)


def test_more_experts_than_units_are_refused() -> None:
    with pytest.raises(ValueError, match="experts 9 cannot be orthogonal in critic_width 8"):
        MOORESettings(experts=9, actor_width=9, critic_width=8)
