"""FiLM against its public implementation, its sizes, and what factors of 1 leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle import Get, Numbers, actions_last, by_task, compare, equal, load, per_task

from algorithms.algorithm import Problem
from algorithms.encoded import Context, EncodedNetwork, Torso
from algorithms.film import FiLM, FiLMSettings, ModulatedEncoder, begin_at_identity
from algorithms.parts.layers import he_uniform, unit_normal, zero


def jax(get: Get, data: Numbers) -> Numbers:
    """The public implementation's parameters under our names."""
    ours = {"context.table.rows": get("task_embedding.table")}
    names = {f"encoder.film.{2 * i}": f"film_layer_{i}" for i in range(3)}
    names |= {f"encoder.layers.{i}": f"encoder_layer_{i}" for i in range(3)}
    names |= {f"torso.hidden.{2 * i}": f"torso_layer_{i}" for i in range(2)}
    for name, theirs in {**names, "torso.head.1": "head"}.items():
        kernel = get(f"{theirs}.kernel")
        first = theirs == "encoder_layer_0"
        ours[f"{name}.weight"] = (actions_last(kernel, data) if first else kernel).T
        ours[f"{name}.bias"] = get(f"{theirs}.bias")
    return ours


@pytest.mark.parametrize("case", ["actor", "critic"])
def test_equals_the_public_network(case: str) -> None:
    data = load(f"film_{case}")
    net = EncodedNetwork(
        Context(3, 6, he_uniform, unit_normal),
        ModulatedEncoder(7, 6, he_uniform, FiLMSettings()),
        Torso(12, 4, 12, 2, he_uniform, (zero, zero)),
    )
    seen: dict[str, torch.Tensor] = {}
    for name, part in (("film", net.encoder.film), ("torso", net.torso)):
        part.register_forward_hook(
            lambda _, given, out, name=name: seen.update({name: out, f"{name}_in": given[0]})
        )
    compare(net, data, lambda get: jax(get, data))
    equal(seen["film"], per_task(data["mid/film_raw"]))
    equal(seen["torso_in"], by_task(data["mid/torso_in"]))


def encoder(**fields: Any) -> ModulatedEncoder:
    return ModulatedEncoder(7, 10, he_uniform, FiLMSettings(**fields))


@pytest.mark.parametrize("film_per", ["layer", "feature"])
def test_factors_of_one_are_an_encoder_without_a_task(film_per: Any) -> None:
    net, x = encoder(film_per=film_per), torch.randn(3, 5, 7)
    begin_at_identity(net.film, 3)
    film = net.film(torch.randn(3, 10))
    assert (
        film.view(3, 3, 2, -1)[:, :, 0].eq(1).all() and film.view(3, 3, 2, -1)[:, :, 1].eq(0).all()
    )
    plain = x
    for layer, transform in enumerate(net.layers):
        plain = transform(plain)
        plain = plain.relu() if layer < 2 else plain
    torch.testing.assert_close(net.encode(x, film), plain)
    assert not torch.allclose(net.encode(x, 2 * film), plain)


def test_features_have_factors_of_their_own() -> None:
    net = encoder(film_per="feature", encoder_depth=1)
    factors, shifts = torch.randn(2, 3, 10)
    x = torch.randn(3, 5, 7)
    expected = factors[:, None] * net.layers[0](x) + shifts[:, None]
    torch.testing.assert_close(net.encode(x, torch.cat([factors, shifts], -1)), expected)


def test_the_original_shares_an_encoder_that_the_context_itself_modulates() -> None:
    """Sizes by hand: the torso reads 50 numbers of the encoding, 6 of the context, 4 of actions."""
    problem = Problem(tuple(f"task-{i}" for i in range(10)))
    original = FiLM(FiLMSettings(encoder="shared", init="original"), problem)
    behind = 2 * 401 * 400
    encoder = 40 * 50 + 2 * 51 * 50
    context = 10 * 50 + 2 * 51 * 50 + 51 * 6
    actor = encoder + context + 57 * 400 + behind + 401 * 8
    assert original.parameter_counts() == (actor, 2 * (61 * 400 + behind + 401))
    assert original.trained_by("critic") == ("critic", "encoder", "context")
    weights = original.weights(original.state)
    film = original.networks["context"](weights["context"])
    x = torch.randn(10, 5, 39)
    own, h = weights["encoder"], x
    for i in range(3):
        h = h @ own[f"layers.{i}.weight"].T + own[f"layers.{i}.bias"]
        h = h.relu() if i < 2 else h
        h = film[:, 2 * i, None, None] * h + film[:, 2 * i + 1, None, None]
    found = original.networks["encoder"](own, x, film)
    torch.testing.assert_close(found, h, rtol=1e-4, atol=1e-5)
    identity = FiLM(FiLMSettings(encoder="shared", film_init="identity"), problem)
    begun = identity.networks["context"](identity.weights(identity.state)["context"])
    assert begun.view(10, 3, 2)[:, :, 0].eq(1).all() and begun.view(10, 3, 2)[:, :, 1].eq(0).all()


@pytest.mark.parametrize(("init", "length"), [("scaling", 1.0), ("original", 40**0.5)])
def test_a_learned_table_begins_as_its_code_has_it(init: Any, length: float) -> None:
    """Lengths of rows: flax draws embeddings from N(0, 1/size), torch from N(0, 1)."""
    problem = Problem(tuple(f"task-{i}" for i in range(50)))
    made = FiLM(FiLMSettings(init=init, actor_width=320), problem)
    (rows,) = (w for k, w in made.weights(made.state)["actor"].items() if k.endswith("table.rows"))
    assert rows.shape == (50, 40)
    assert rows.norm(dim=1).mean().item() == pytest.approx(length, rel=0.1)
