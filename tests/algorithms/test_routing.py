"""D2R's router, its choices of routes and their storage (arXiv 2312.14472)."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from algorithms.compiled_routes import Routes
from algorithms.draws import Draws
from algorithms.module_stack import modules_in_use, slot_index
from algorithms.routing import (
    Choice,
    RoutedNetwork,
    as_table,
    choose,
    mixing_weights,
    pack,
    packed_bytes,
    select,
    trust,
    unpack,
)
from algorithms.settings import D2RSettings
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch

compiles = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no C compiler: install gcc")
T, B, IN, OUT = 3, 4, 5, 2
SEGMENTS = [(k * (k - 1) // 2, k * (k + 1) // 2) for k in range(1, 20)]


def network(members: int = 1, resrouting: bool = True, modules: int = 5) -> RoutedNetwork:
    """A small network in float64 whose router has opinions."""
    random = torch.Generator().manual_seed(4)
    s = D2RSettings(modules=modules, resrouting=resrouting)
    net = RoutedNetwork(members, T, IN, OUT, 25, s, random).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.6, 0.6, generator=random)
    return net


def observations(samples: int = B) -> Tensor:
    random = torch.Generator().manual_seed(8)
    return torch.randn(T, samples, IN, generator=random, dtype=torch.float64)


def one_slot(logits: list[float], draws: int) -> Tensor:
    """Router logits [1, 1, draws, n, n] of which only the last row matters."""
    n = len(logits)
    table = torch.zeros(n, n).masked_fill(~torch.ones(n, n).tril().bool(), -torch.inf)
    table[-1] = torch.tensor(logits)
    return table.expand(1, 1, draws, n, n)


# The network ---------------------------------------------------------------------------------


def plain_network(
    net: RoutedNetwork, x: Tensor, selected: Tensor | None, stack: Callable[..., Tensor]
) -> Tensor:
    """The forward pass of the paper's section 4, with one-hot ids and segments of flat logits."""
    n = net.settings.modules
    tasks, samples = x.shape[:2]
    members = []
    for m in range(net.members):

        def linear(layer: Any, h: Tensor, m: int = m) -> Tensor:
            return h @ layer.weight[m] + layer.bias[m]

        f = linear(net.base.layers[2], torch.relu(linear(net.base.layers[0], x)))
        one_hot = torch.eye(tasks, dtype=x.dtype)
        e = one_hot @ net.embedding[m] + net.embedding_bias[m]
        h = torch.relu(linear(net.router[0], e.unsqueeze(1) * f))
        logits = linear(net.router[4], torch.relu(linear(net.router[2], h)))
        table, trusted = [], []
        for k, (start, stop) in zip(range(1, n + 1), SEGMENTS, strict=False):
            segment = logits[..., start:stop]
            if selected is None:
                best = segment.argsort(-1, descending=True)[..., :2]
                chosen = torch.stack([(best == i).any(-1) for i in range(k)], -1)
            else:
                chosen = selected[..., k - 1, :k]
            strength = segment.exp() * chosen
            weights = strength / strength.sum(-1, keepdim=True)
            full = segment.exp() / segment.exp().sum(-1, keepdim=True)
            padding = torch.zeros(tasks, samples, n - k, dtype=x.dtype)
            table.append(torch.cat([weights, padding], -1))
            trusted.append(torch.cat([(full > 1 / (k + 1)).to(x.dtype), padding], -1))
        body = stack(
            torch.relu(linear(net.stack.first, torch.relu(f))),
            net.stack.weight[m : m + 1],
            net.stack.bias[m : m + 1],
            torch.stack(table).permute(0, 3, 1, 2),
            torch.stack(trusted).permute(0, 3, 1, 2) if net.settings.resrouting else None,
        )
        members.append(linear(net.head, body))
    return torch.stack(members)


# Only the actor, one member, replays stored routes.
@pytest.mark.parametrize(
    ("members", "stored"), [(1, True), (1, False), (2, False)], ids=["stored", "greedy", "critics"]
)
@pytest.mark.parametrize("resrouting", [True, False])
def test_network_agrees_with_plain_autograd(
    members: int, stored: bool, resrouting: bool, reference_stack: Callable[..., Tensor]
) -> None:
    net, x = network(members, resrouting), observations()
    selected, choice = None, Choice("greedy")
    if stored:
        draws = torch.Generator().manual_seed(0)
        selected = net(x, Choice("sampled", torch.ones(1, T), Draws([draws])))[1]
        choice = Choice("given", selected=selected)
    actual, _ = net(x, choice)
    expected = plain_network(net, x, None if selected is None else selected[0], reference_stack)
    torch.testing.assert_close(actual, expected)
    got = torch.autograd.grad(actual.square().sum(), list(net.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), list(net.parameters()))
    for (name, _), a, b in zip(net.named_parameters(), got, wanted, strict=True):
        assert b.any(), f"{name} is not exercised"
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")


def test_resrouting_changes_gradients_and_no_values() -> None:
    outputs, gradients = [], []
    for resrouting in (True, False):
        net = network(1, resrouting)
        output, _ = net(observations(), Choice("greedy"))
        outputs.append(output)
        gradients.append(torch.autograd.grad(output.sum(), [net.stack.weight])[0])
    assert torch.equal(*outputs)
    assert not torch.allclose(*gradients)


def test_a_sampled_route_that_is_given_again_repeats_the_output() -> None:
    """Temperatures decide what is drawn, never how the drawn sources are mixed."""
    net, x = network(), observations(50)
    draws = Draws([torch.Generator().manual_seed(0)])
    hot = Choice("sampled", torch.tensor([[0.2, 1.0, 9.0]]), draws)
    output, selected = net(x, hot)
    again, _ = net(x, Choice("given", selected=selected))
    assert torch.equal(output, again)
    assert not torch.equal(selected, net(x, Choice("greedy"))[1])


def test_network_starts_as_the_authors_code_does() -> None:
    net = RoutedNetwork(2, T, 39, 8, 400, D2RSettings(), torch.Generator().manual_seed(0))
    hidden = {
        "embedding": 400,
        "base.layers.0.weight": 400,
        "base.layers.2.weight": 400,
        "router.0.weight": 256,
        "router.2.weight": 256,
        "router.4.weight": 136,
        "stack.first.weight": 128,
        "stack.weight": 128,
    }
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


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_greedy_takes_the_largest_logits_of_each_slot(top_k: int) -> None:
    n = 4
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(1, T, B, n, n, generator=random)
    logits = logits.masked_fill(~torch.ones(n, n).tril().bool(), -torch.inf)
    selected = select(logits, top_k, Choice("greedy"))
    for index in itertools.product([0], range(T), range(B), range(n)):
        row, k = logits[index], index[-1] + 1
        best = sorted(range(k), key=lambda i, row=row: -row[i].item())[:top_k]
        assert selected[index].nonzero().flatten().tolist() == sorted(best)


@pytest.mark.parametrize("how", ["greedy", "sampled"])
def test_a_slot_with_fewer_sources_than_k_takes_them_all(how: Any) -> None:
    choice = Choice(how, torch.ones(1, 1), Draws([torch.Generator().manual_seed(0)]))
    selected = select(one_slot([0.0, 5.0, -3.0, 1.0], 20), 2, choice)
    assert selected.sum(-1).unique(dim=2).flatten().tolist() == [1, 2, 2, 2]
    assert not selected.triu(1).any(), "no slot reads a later module"


def pair_shares(selected: Tensor, n: int) -> Tensor:
    """How often each pair of sources was chosen in the last slot, in order of combinations."""
    last = selected[..., -1, :].reshape(-1, n)
    pairs = [last[:, a] & last[:, b] for a, b in itertools.combinations(range(n), 2)]
    return torch.stack(pairs).double().mean(1)


def test_sampling_equals_multinomial_without_replacement_at_the_tasks_temperature() -> None:
    logits, draws = [1.5, 0.0, -1.0, 0.7], 40_000
    temperature = torch.tensor([1.0, 0.3, 4.0])
    n, random = len(logits), torch.Generator().manual_seed(2)
    table = one_slot(logits, draws).expand(1, 3, draws, n, n)
    selected = select(table, 2, Choice("sampled", temperature[None], Draws([random])))
    for task, heat in enumerate(temperature.tolist()):
        p = torch.softmax(torch.tensor(logits) / heat, -1)
        drawn = torch.multinomial(p.expand(draws, n), 2, generator=random)
        reference = torch.zeros(draws, 1, n, dtype=torch.bool).scatter_(-1, drawn[:, None], True)
        ours = pair_shares(selected[:, task], n)
        exact = torch.tensor(
            [
                p[a] * p[b] / (1 - p[a]) + p[a] * p[b] / (1 - p[b])
                for a, b in itertools.combinations(range(n), 2)
            ]
        ).double()
        error = (exact * (1 - exact) / draws).sqrt()
        assert ((ours - exact).abs() < 5 * error + 1e-12).all(), heat
        assert ((ours - pair_shares(reference, n)).abs() < 7 * error + 1e-12).all(), heat


def test_samples_and_members_are_drawn_independently() -> None:
    table = one_slot([0.0] * 4, 500).expand(2, 1, 500, 4, 4)
    choice = Choice("sampled", torch.ones(1, 1), Draws([torch.Generator().manual_seed(0)]))
    selected = select(table, 2, choice)
    assert not torch.equal(selected[0], selected[1])
    assert len(selected[0, 0].flatten(1).unique(dim=0)) > 6


def test_mixing_weights_are_the_softmax_over_the_selected_alone() -> None:
    logits = one_slot([1.0, -2.0, 0.5], 1)
    selected = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]]).bool().expand(1, 1, 1, 3, 3)
    weights = mixing_weights(logits, selected)[0, 0, 0]
    total = math.exp(1.0) + math.exp(0.5)
    expected = [[1, 0, 0], [0.5, 0.5, 0], [math.exp(1.0) / total, 0, math.exp(0.5) / total]]
    torch.testing.assert_close(weights, torch.tensor(expected))


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
    logits = one_slot([math.log(p) + 3 for p in probabilities], 1)
    assert trust(logits)[0, 0, 0, -1].tolist() == expected


def test_table_puts_slot_and_source_first() -> None:
    weights = torch.arange(2 * T * B * 9).view(2, T, B, 3, 3)
    table = as_table(weights)
    assert table.shape == (3, 3, 2 * T, B)
    assert table[2, 1, T + 1, 3] == weights[1, 1, 3, 2, 1]


@compiles
@pytest.mark.parametrize("how", ["greedy", "sampled", "given"])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_routes_are_the_nonzero_entries_of_the_table(
    how: Any, top_k: int, n: int, members: int, dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(n)
    flat = torch.randn(members, T, B, n * (n + 1) // 2, generator=random, dtype=dtype) * 2
    flat.requires_grad_()
    logits = torch.full((members, T, B, n, n), -torch.inf, dtype=dtype)
    rows, columns = slot_index(n, flat.device)
    logits[..., rows, columns] = flat
    temperature = torch.rand(members, T, generator=random) * 3 + 0.1

    def fresh() -> Choice:
        stored = None
        if how == "given":
            draws = Draws([torch.Generator().manual_seed(6)])
            stored = select(logits[:1], top_k, Choice("sampled", temperature[:1], draws))
        return Choice(how, temperature, Draws([torch.Generator().manual_seed(5)]), stored)

    routes, selected = choose(flat, top_k, fresh(), needs_trust=True)
    expected = select(logits, top_k, fresh())
    assert torch.equal(selected, expected.expand(selected.shape))
    assert routes.sources.shape == (members * T, B, n, top_k)
    assert (routes.sources <= torch.arange(n).view(n, 1)).all()
    assert choose(flat, top_k, fresh(), needs_trust=False)[0].trusted is None

    table = as_table(mixing_weights(logits, expected))
    index = routes.sources.long().permute(2, 3, 0, 1)
    ours = torch.zeros_like(table).scatter_add(1, index, routes.weights.permute(2, 3, 0, 1))
    torch.testing.assert_close(ours, table)
    probe = torch.randn(table.shape, generator=random, dtype=dtype)
    got, wanted = (torch.autograd.grad((t * probe).sum(), flat)[0] for t in (ours, table))
    torch.testing.assert_close(got, wanted)
    trusted = as_table(trust(logits)).gather(1, index).permute(2, 3, 0, 1)
    real = routes.weights > 0
    assert torch.equal(routes.trusted.bool()[real], trusted[real])


@compiles
def test_equal_scores_are_told_apart() -> None:
    for value in (1.5, -1.5, 0.0, torch.nan):
        flat = torch.full((1, 1, 3, 10), value)
        routes, selected = choose(flat, 3, Choice("greedy"), needs_trust=False)
        assert selected.sum(-1).tolist() == [[[[1, 2, 3, 3]] * 3]]
        for slot in range(4):
            found = routes.sources[0, 0, slot, : slot + 1].tolist()
            assert len(set(found)) == min(slot + 1, 3)


@compiles
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_logit_that_is_no_number_is_chosen_and_shows(place: int) -> None:
    """Else a router that has diverged would be passed over."""
    logits = torch.full((1, 1, 1, 3, 3), -torch.inf)
    rows, columns = slot_index(3, logits.device)
    flat = torch.tensor([1.0, 1.0, 2.0, 5.0, 6.0, 7.0])
    flat[3 + place] = torch.nan
    logits[..., rows, columns] = flat
    routes, selected = choose(flat.view(1, 1, 1, 6), 2, Choice("greedy"), needs_trust=False)
    expected = select(logits, 2, Choice("greedy"))
    assert torch.equal(selected, expected)
    assert selected[..., 2, place].all()
    assert routes.weights[0, 0, 2].isnan().all()
    assert mixing_weights(logits, expected)[0, 0, 0, 2].isnan().any()


@compiles
def test_sources_far_below_the_best_still_weigh_one_in_sum() -> None:
    """Routes that are given may hold none of the likely sources."""
    flat = torch.tensor([0.0, 200.0, -200.0, 0.0, 500.0, -500.0]).view(1, 1, 1, 6)
    given = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 1]]).bool().view(1, 1, 1, 3, 3)
    routes, _ = choose(flat, 2, Choice("given", selected=given), needs_trust=True)
    assert routes.sources[0, 0].tolist() == [[0, 0], [1, 0], [0, 2]]
    assert routes.weights[0, 0].tolist() == [[1, 0], [1, 0], [1, 0]]
    assert routes.trusted[0, 0].tolist() == [[1, 0], [0, 0], [0, 0]]


@compiles
def test_a_network_that_selects_every_source_takes_the_table() -> None:
    net, x = network(), observations()
    seen = []
    net.stack.register_forward_pre_hook(lambda module, inputs: seen.append(type(inputs[1])))
    wide = RoutedNetwork(
        1, T, IN, OUT, 25, D2RSettings(modules=5, top_k=5), torch.Generator().manual_seed(0)
    ).double()
    wide.stack.register_forward_pre_hook(lambda module, inputs: seen.append(type(inputs[1])))
    net(x, Choice("greedy"))
    wide(x, Choice("greedy"))
    assert seen == [Routes, Tensor]


# Storing -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 17), st.integers(0, 2**31))
def test_unpack_inverts_pack(n: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    selected = (torch.rand(2, 3, n, n, generator=random) < 0.5).tril()
    packed = pack(selected)
    assert packed.dtype == torch.uint8
    assert packed.shape == (2, 3, packed_bytes(n))
    assert torch.equal(unpack(packed, n), selected)


def test_a_route_of_sixteen_modules_takes_seventeen_bytes() -> None:
    assert packed_bytes(16) == 17  # 136 bits
    assert packed_bytes(3) == 1
    assert packed_bytes(4) == 2


# In D2R --------------------------------------------------------------------------------------


@pytest.fixture
def d2r(build: Callable[..., Algorithm]) -> Any:
    """A D2R whose router has opinions and whose policy has hardly any noise."""
    algorithm: Any = build("d2r", log_std_min=-20.0, log_std_max=-19.0)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for network in (algorithm.actor, algorithm.critic):
            for parameter in network.parameters():
                parameter.uniform_(-0.5, 0.5, generator=random)
    return algorithm


def test_the_policy_loss_replays_the_route_that_acted(
    d2r: Any, collect: Callable[..., Batch]
) -> None:
    batch = collect(d2r, samples=40)
    mean, _ = d2r.policy(batch.observations, "policy", batch)
    torch.testing.assert_close(torch.tanh(mean), batch.actions, rtol=1e-4, atol=1e-5)
    greedy, _ = d2r.policy(batch.observations, "evaluate")
    assert not torch.allclose(torch.tanh(greedy), batch.actions, atol=1e-2)


@pytest.mark.parametrize("phase", ["evaluate", "target"])
def test_evaluation_and_targets_route_greedily(
    d2r: Any, phase: str, collect: Callable[..., Batch], reference_stack: Callable[..., Tensor]
) -> None:
    batch = collect(d2r, samples=10)
    mean, _ = d2r.policy(batch.observations, phase, batch)
    expected = plain_network(d2r.actor, batch.observations, None, reference_stack)
    torch.testing.assert_close(mean, expected[0].chunk(2, -1)[0], rtol=1e-4, atol=1e-5)


def routes_of(algorithm: Any, batch: Batch) -> list[tuple[str, str]]:
    """Which network chose how, in the order of one update."""
    seen: list[tuple[str, str]] = []
    for name in ("actor", "critic", "target"):

        def hook(module: Any, inputs: Any, name: str = name) -> None:
            seen.append((name, inputs[1].how))

        getattr(algorithm, name).register_forward_pre_hook(hook)
    algorithm.update(batch)
    return seen


@pytest.mark.parametrize("order", ["critic_first", "simultaneous"])
def test_each_loss_routes_as_the_paper_says(
    order: str, build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    extra = {} if order == "simultaneous" else {"task_loss_threshold": float("inf")}
    algorithm = build("d2r", update_order=order, **extra)
    batch = collect(algorithm)
    assert routes_of(algorithm, batch) == [
        ("actor", "greedy"),
        ("target", "greedy"),
        ("critic", "sampled"),
        ("actor", "given"),
        ("critic", "greedy"),
    ]


def test_without_a_stored_route_the_policy_loss_draws_one(
    build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    algorithm = build("d2r")
    batch = collect(algorithm)._replace(extras={})
    assert ("actor", "sampled") in routes_of(algorithm, batch)


def test_routes_are_drawn_at_the_route_balancing_temperatures(d2r: Any) -> None:
    with torch.no_grad():
        d2r.log_temperature.copy_(torch.tensor([0.0, -1.0, -4.0]))
    alpha = d2r.log_temperature.exp()
    expected = (1 / alpha) / (1 / alpha).sum() * 3
    torch.testing.assert_close(d2r.sampled(d2r.noise).temperature, expected[None])


def test_exploration_follows_the_temperatures(d2r: Any) -> None:
    """A cold task keeps to its greedy route, a hot one strays."""
    with torch.no_grad():
        d2r.log_temperature.copy_(torch.tensor([0.0, -9.0, 0.0]))
    x = torch.randn(3, 300, 39, generator=torch.Generator().manual_seed(0))
    drawn = unpack(d2r.act(x, explore=True).extras["route"], d2r.settings.modules)
    greedy = d2r.actor(x, Choice("greedy"))[1][0]
    kept = (drawn == greedy).flatten(2).all(-1).double().mean(1)
    assert kept[1] < 0.5 < kept[0]
    assert kept[2] > 0.5


@pytest.mark.parametrize(("scale", "entropy"), [(0.0, 1.0), (1e4, 0.0)])
def test_report_tells_undecided_from_decided_routers(
    d2r: Any, scale: float, entropy: float, collect: Callable[..., Batch]
) -> None:
    with torch.no_grad():
        d2r.actor.router[4].weight.mul_(scale)
        d2r.actor.router[4].bias.mul_(scale)
    batch = collect(d2r)
    report = d2r.report(batch)
    assert report["route_entropy"] == pytest.approx([entropy] * 3, abs=0.02)
    logits = d2r.actor.route_logits(d2r.actor.base(batch.observations))
    weights = mixing_weights(logits, select(logits, 2, Choice("greedy")))
    assert report["modules_in_use"] == modules_in_use(as_table(weights)).mean(-1).tolist()
