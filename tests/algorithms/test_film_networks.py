"""FiLM against its public implementation, its sizes, and what factors of 1 leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle import Get, Numbers, actions_last, by_task, compare, equal, load, per_task

from algorithms.algorithm import Problem
from algorithms.film import FiLM, FiLMSettings, ModulatedNetwork


def jax(get: Get, data: Numbers) -> Numbers:
    """The public implementation's parameters under our names."""
    ours = {"table.rows": get("task_embedding.table")}
    names = {f"film.{2 * i}": f"film_layer_{i}" for i in range(3)}
    names |= {f"encoder.{i}": f"encoder_layer_{i}" for i in range(3)}
    names |= {f"torso.{2 * i}": f"torso_layer_{i}" for i in range(2)}
    for name, theirs in {**names, "head.1": "head"}.items():
        kernel = get(f"{theirs}.kernel")
        first = theirs == "encoder_layer_0"
        ours[f"{name}.weight"] = (actions_last(kernel, data) if first else kernel).T
        ours[f"{name}.bias"] = get(f"{theirs}.bias")
    return ours


@pytest.mark.parametrize("case", ["actor", "critic"])
def test_equals_the_public_network(case: str) -> None:
    data = load(f"film_{case}")
    net = ModulatedNetwork(3, 7, 4, 12, 2, 1e-3, FiLMSettings())
    seen: dict[str, torch.Tensor] = {}
    for name in ("film", "torso"):
        part = getattr(net, name)
        part.register_forward_hook(
            lambda _, given, out, name=name: seen.update({name: out, f"{name}_in": given[0]})
        )
    compare(net, data, lambda get: jax(get, data))
    equal(seen["film"], per_task(data["mid/film_raw"]))
    equal(seen["torso_in"], by_task(data["mid/torso_in"]))


@pytest.mark.parametrize("film_per", ["layer", "feature"])
def test_factors_of_one_are_an_encoder_without_a_task(film_per: Any) -> None:
    settings = FiLMSettings(film_per=film_per, film_init="identity")
    net, x = ModulatedNetwork(3, 7, 4, 80, 2, 1.0, settings), torch.randn(3, 5, 7)
    film = net.film(torch.relu(net.table()))
    assert (
        film.view(3, 3, 2, -1)[:, :, 0].eq(1).all() and film.view(3, 3, 2, -1)[:, :, 1].eq(0).all()
    )
    plain = x
    for layer, transform in enumerate(net.encoder):
        plain = transform(plain)
        plain = plain.relu() if layer < 2 else plain
    torch.testing.assert_close(net.encode(x, film), plain)
    assert not torch.allclose(net.encode(x, 2 * film), plain)


def test_features_have_factors_of_their_own() -> None:
    net = ModulatedNetwork(3, 7, 4, 80, 2, 1.0, FiLMSettings(film_per="feature", encoder_depth=1))
    factors, shifts = torch.randn(2, 3, 10)
    x = torch.randn(3, 5, 7)
    expected = factors[:, None] * net.encoder[0](x) + shifts[:, None]
    torch.testing.assert_close(net.encode(x, torch.cat([factors, shifts], -1)), expected)


@pytest.mark.parametrize(
    ("tasks", "actor", "critics"), [(10, 377_414, 749_614), (50, 379_414, 753_614)]
)
def test_published_sizes(tasks: int, actor: int, critics: int) -> None:
    problem = Problem(tuple(f"task-{i}" for i in range(tasks)))
    assert FiLM(FiLMSettings(), problem).parameter_counts() == (actor, critics)
