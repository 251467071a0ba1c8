"""Soft Modularization against the authors' network, its published sizes, and its invariants."""

from __future__ import annotations

import pytest
import torch
from oracle import Get, Numbers, actions_last, by_task, compare, equal, load
from torch import nn

from algorithms.softmodules import SoftModularNetwork, SoftModulesSettings


def network(data: Numbers, layers: int, modules: int) -> SoftModularNetwork:
    settings = SoftModulesSettings(layers=layers, modules=modules)
    inputs, outputs = (data[f"param/{n}.weight"].shape for n in ("base_0", "head"))
    return SoftModularNetwork(3, inputs[1], outputs[0], 12, 1e-3, settings)


def authors(get: Get, layers: int, modules: int) -> Numbers:
    """The authors' parameters under our names."""
    ours = {"embedding.rows": get("task_embedding.weight").T}
    ours["embedding.bias"] = get("task_embedding.bias")
    names = {"base.0": "base_0", "base.2": "base_1", "gate.0": "gate_0", "gate.2": "gate_1"}
    names |= {f"routers.{i}.logits": f"router_{i + 1}" for i in range(layers)}
    names |= {f"routers.{i}.condition": f"router_cond_{i + 1}" for i in range(1, layers)}
    for name, theirs in {**names, "head": "head"}.items():
        ours |= {f"{name}.{kind}": get(f"{theirs}.{kind}") for kind in ("weight", "bias")}
    for i in range(layers):
        each = [f"module_{i + 1}_{j + 1}" for j in range(modules)]
        ours[f"layers.{i}.each.weight"] = torch.stack([get(f"{name}.weight").T for name in each])
        ours[f"layers.{i}.each.bias"] = torch.stack([get(f"{name}.bias")[None] for name in each])
    return ours


def jax(get: Get, layers: int, data: Numbers) -> Numbers:
    """The re-implementation's parameters under our names."""
    ours = {"embedding.rows": get("task_embedding.kernel")}
    ours["embedding.bias"] = get("task_embedding.bias")
    names = {"base.0": "base_0", "base.2": "base_1", "gate.0": "gate_0", "gate.2": "gate_1"}
    names |= {f"routers.{i}.logits": f"router_{i + 1}" for i in range(layers)}
    names |= {f"routers.{i}.condition": f"router_cond_{i + 1}" for i in range(1, layers)}
    for name, theirs in {**names, "head": "head"}.items():
        kernel = get(f"{theirs}.kernel")
        ours[f"{name}.weight"] = (actions_last(kernel, data) if name == "base.0" else kernel).T
        ours[f"{name}.bias"] = get(f"{theirs}.bias")
    for i in range(layers):
        ours[f"layers.{i}.each.weight"] = get(f"module_{i + 1}.kernel")
        ours[f"layers.{i}.each.bias"] = get(f"module_{i + 1}.bias")[:, None]
    return ours


@pytest.mark.parametrize("case", ["actor_L3n3", "critic_L2n2"])
def test_equals_the_re_implementations_network(case: str) -> None:
    data, layers, modules = load(f"softmod_jax_{case}"), int(case[-3]), int(case[-1])
    inputs, hidden = data["param/base_0.kernel"].shape
    settings = SoftModulesSettings(layers=layers, modules=modules)
    outputs = data["param/head.bias"].shape[0]
    net = SoftModularNetwork(3, inputs, outputs, 12, 1e-3, settings)
    # Its first layer has that library's default width, whatever is asked for.
    net.base = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 12))
    compare(net, data, lambda get: jax(get, layers, data))


CASES = ["actor_L2n2", "actor_L3n2", "actor_L3n3", "actor_L4n3", "critic_L2n2", "critic_L3n3"]


@pytest.mark.parametrize("case", CASES)
def test_equals_the_authors_network(case: str) -> None:
    data, layers, modules = load(f"softmod_{case}"), int(case[-3]), int(case[-1])
    net = network(data, layers, modules)
    x = compare(net, data, lambda get: authors(get, layers, modules))
    features = net.base(x)
    equal(features, by_task(data["mid/base_out"]))
    for layer, weights in enumerate(net.routes(features), start=1):
        theirs = by_task(data[f"mid/routing_weights_{layer}"])
        equal(weights, theirs if layer < layers else theirs[:, :, None])


def test_routes_are_shares() -> None:
    net = SoftModularNetwork(3, 7, 4, 20, 1e-3, SoftModulesSettings(layers=3, modules=4))
    routes = net.routes(net.base(torch.randn(3, 5, 7)))
    assert [tuple(r.shape) for r in routes] == [(3, 5, 4, 4), (3, 5, 4, 4), (3, 5, 1, 4)]
    for weights in routes:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize(("modules", "same"), [(1, True), (2, False)])
def test_a_single_module_a_layer_leaves_nothing_to_route(modules: int, same: bool) -> None:
    net = SoftModularNetwork(2, 7, 4, 20, 1e-3, SoftModulesSettings(modules=modules))
    for router in net.routers:
        torch.nn.init.normal_(router.logits.weight)
    output = net(torch.randn(1, 5, 7).expand(2, -1, -1))
    # To rounding: a matrix product may sum the rows of one task otherwise than those of another.
    assert torch.allclose(output[0], output[1]) is same


def test_original_initialisation() -> None:
    settings = SoftModulesSettings(init="original")
    net = SoftModularNetwork(10, 39, 8, 400, 1e-3, settings)
    assert net.base[0].bias.eq(0.1).all()
    assert 0.9 / 20 < net.base[0].weight.abs().max() <= 1 / 20
    assert 2.5e-3 < net.head.weight.abs().max() <= 3e-3
    assert 2.5e-3 < net.routers[0].logits.weight.abs().max() <= 3e-3
