"""D2R's router, its choices of routes and their storage (arXiv 2312.14472)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_stack import plain_network
from torch import Tensor

from algorithms.d2r import D2RSettings
from algorithms.modules.routing import (
    RoutedNetwork,
    as_table,
    gumbel,
    largest,
    pack,
    packed_bytes,
    routes,
    trust,
    unpack,
)

T, B, IN, OUT = 3, 4, 5, 2


def network(resrouting: bool = True, modules: int = 5) -> RoutedNetwork:
    """A small network in float64 whose router has opinions."""
    random = torch.Generator().manual_seed(4)
    s = D2RSettings(modules=modules, resrouting=resrouting)
    net = RoutedNetwork(T, IN, OUT, 25, s).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.6, 0.6, generator=random)
    return net


def observations(samples: int = B) -> Tensor:
    random = torch.Generator().manual_seed(8)
    return torch.randn(T, samples, IN, generator=random, dtype=torch.float64)


def draws(samples: int = B, modules: int = 5) -> Tensor:
    return torch.rand(T, samples, routes(modules), generator=torch.Generator().manual_seed(0))


def triangle(n: int) -> Tensor:
    return torch.ones(n, n).tril().bool()


# The network ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "greedy"])
@pytest.mark.parametrize("resrouting", [True, False])
def test_network_agrees_with_plain_autograd(stored: bool, resrouting: bool) -> None:
    net, x = network(resrouting), observations()
    chosen = net(x, draws(), torch.ones(T))[1] if stored else None
    actual = net(x, None, None, chosen)[0]
    expected = plain_network(net, x, chosen)
    torch.testing.assert_close(actual, expected)
    got = torch.autograd.grad(actual.square().sum(), list(net.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), list(net.parameters()))
    for (name, _), a, b in zip(net.named_parameters(), got, wanted, strict=True):
        assert b.any(), f"{name} is not exercised"
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.usefixtures("stacks")
def test_resrouting_changes_gradients_and_no_values() -> None:
    outputs, gradients = [], []
    for resrouting in (True, False):
        net = network(resrouting)
        output, _, _ = net(observations())
        outputs.append(output)
        gradients.append(torch.autograd.grad(output.sum(), [net.stack.later[0].weight])[0])
    torch.testing.assert_close(*outputs, rtol=1e-14, atol=1e-14)
    assert not torch.allclose(*gradients)


@pytest.mark.usefixtures("stacks")
def test_a_sampled_route_that_is_given_again_repeats_the_output() -> None:
    """Temperatures decide what is drawn, never how the drawn sources are mixed."""
    net, x = network(), observations(50)
    output, chosen, _ = net(x, draws(50), torch.tensor([0.2, 1.0, 9.0]))
    again, same, _ = net(x, None, None, chosen)
    assert torch.equal(output, again)
    assert torch.equal(same, chosen)
    assert not torch.equal(chosen, net(x)[1])


def test_network_starts_as_the_authors_code_does() -> None:
    torch.manual_seed(0)
    net = RoutedNetwork(T, 39, 8, 400, D2RSettings())
    hidden = {"embedding": 400, "base.layers.0.weight": 400, "base.layers.2.weight": 400}
    hidden |= {"router.0.weight": 256, "router.2.weight": 256, "router.4.weight": 136}
    hidden |= {"stack.first.weight": 128} | {f"stack.later.{i}.weight": 128 for i in range(15)}
    for name, parameter in net.named_parameters():
        if name.startswith("head"):
            assert 0.5 * 3e-3 < parameter.abs().max() <= 3e-3
        elif name in hidden:
            # U(±1 / √out_features)
            bound = hidden.pop(name) ** -0.5
            assert 0.95 * bound < parameter.abs().max() <= bound
        else:
            assert torch.equal(parameter, torch.full_like(parameter, 0.1)), name
    assert not hidden


# Choosing ------------------------------------------------------------------------------------


def test_logits_are_cut_into_slots_of_one_two_three_sources() -> None:
    table = as_table(torch.arange(6.0), -1.0)
    assert table.tolist() == [[0, -1, -1], [1, 2, -1], [3, 4, 5]]
    assert as_table(torch.zeros(2, 3, 136)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_greedy_takes_the_largest_logits_of_each_slot(top_k: int) -> None:
    n = 4
    logits = torch.randn(T, B, n, n, generator=torch.Generator().manual_seed(0))
    chosen = largest(logits.masked_fill(~triangle(n), -torch.inf), top_k)
    for index in itertools.product(range(T), range(B), range(n)):
        row, k = logits[index], index[-1] + 1
        best = sorted(range(k), key=lambda i, row=row: -row[i].item())[:top_k]
        assert chosen[index].nonzero().flatten().tolist() == sorted(best)


def test_equal_scores_and_what_is_no_number_are_told_apart() -> None:
    for value in (1.5, 0.0, torch.nan):
        score = torch.full((4, 4), value).masked_fill(~triangle(4), -torch.inf)
        chosen = largest(score, 3)
        assert chosen.sum(-1).tolist() == [1, 2, 3, 3]
        assert not (chosen & ~triangle(4)).any(), "no slot reads a later module"


def test_a_logit_that_is_no_number_shows_in_the_output(stacks: str) -> None:
    """Else a router that has diverged went unseen; the operator passes over weights of 0."""
    net = network()
    with torch.no_grad():
        net.router[4].bias[7] = torch.nan
    shown = net(observations(50))[0].isnan()
    assert shown.all() if stacks == "plain" else shown.any()


def pair_shares(chosen: Tensor, n: int) -> Tensor:
    """How often each pair of sources was chosen in the last slot, in order of combinations."""
    last = chosen[..., -1, :].reshape(-1, n)
    pairs = [last[:, a] & last[:, b] for a, b in itertools.combinations(range(n), 2)]
    return torch.stack(pairs).double().mean(1)


@pytest.mark.parametrize("heat", [1.0, 0.3, 4.0])
def test_two_sources_are_drawn_without_replacement_from_the_heated_softmax(heat: float) -> None:
    logits, count = torch.tensor([1.5, 0.0, -1.0, 0.7]), 40_000
    flat = torch.cat([torch.zeros(6), logits])
    noise = torch.rand(count, 10, generator=torch.Generator().manual_seed(2))
    chosen = largest(as_table(flat / heat + gumbel(noise)), 2)
    p = torch.softmax(logits / heat, -1).double()
    exact = torch.stack(
        [
            p[a] * p[b] / (1 - p[a]) + p[a] * p[b] / (1 - p[b])
            for a, b in itertools.combinations(range(4), 2)
        ]
    )
    error = (exact * (1 - exact) / count).sqrt()
    assert ((pair_shares(chosen, 4) - exact).abs() < 5 * error + 1e-12).all()


def test_the_network_adds_gumbel_noise_to_what_the_temperature_has_heated() -> None:
    net, noise, heat = network(), draws(50), torch.tensor([0.3, 1.0, 4.0])
    _, chosen, logits = net(observations(50), noise, heat)
    keys = logits / heat[:, None, None, None] + as_table(gumbel(noise))
    assert torch.equal(chosen, largest(keys, 2))


def test_gumbel_noise_is_finite_at_both_ends() -> None:
    assert gumbel(torch.tensor([0.0, 1e-30, 0.5, 1.0])).isfinite().all()


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([1.0], [True]),  # the only source of a slot: 1 > 1/2
        ([0.6, 0.4], [True, True]),  # both above 1/3
        ([0.7, 0.3], [True, False]),
        ([0.5, 0.3, 0.2], [True, True, False]),  # 1/4
        ([0.25, 0.25, 0.25, 0.25], [True] * 4),  # 1/5
        ([0.85, 0.05, 0.05, 0.05], [True, False, False, False]),
    ],
)
def test_a_source_is_trusted_above_one_over_its_slots_sources_plus_one(
    probabilities: list[float], expected: list[bool]
) -> None:
    n = len(probabilities)
    logits = torch.zeros(n, n).masked_fill(~triangle(n), -torch.inf)
    logits[-1] = torch.tensor([math.log(p) + 3 for p in probabilities])
    assert trust(logits)[-1].tolist() == expected


# Storing -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 17), st.integers(0, 2**31))
def test_unpack_inverts_pack(n: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    chosen = (torch.rand(2, 3, n, n, generator=random) < 0.5).tril()
    packed = pack(chosen)
    assert packed.dtype == torch.uint8
    assert packed.shape == (2, 3, packed_bytes(n))
    assert torch.equal(unpack(packed, n), chosen)


def test_a_route_of_sixteen_modules_takes_seventeen_bytes() -> None:
    assert packed_bytes(16) == 17  # 136 bits
    assert packed_bytes(3) == 1
    assert packed_bytes(4) == 2
