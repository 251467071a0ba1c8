"""D2R in the learner: which loss routes how, and what is stored, drawn and reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch
from algorithms.modules.routing import unpack
from algorithms.modules.stack import modules_in_use

T = 3


@pytest.fixture
def d2r(build: Callable[..., Algorithm]) -> Any:
    """A D2R whose router has opinions and whose policy has hardly any noise."""
    algorithm: Any = build("d2r", log_std_min=-20.0, log_std_max=-19.0)
    random = torch.Generator().manual_seed(1)
    for name in ("actor", "critic"):
        algorithm.state[name].uniform_(-0.5, 0.5, generator=random)
    return algorithm


def greedy(algorithm: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    actor = algorithm.networks["actor"]
    output, chosen, logits = actor(actor.views(algorithm.state["actor"]), x)
    return output, chosen, logits


def test_the_policy_loss_replays_the_route_that_acted(
    d2r: Any, collect: Callable[..., Batch]
) -> None:
    batch = collect(d2r, samples=40)
    weights = d2r.weights(d2r.state)
    mean, _ = d2r.policy(weights, batch.observations, "policy", batch.extras)
    torch.testing.assert_close(torch.tanh(mean), batch.actions, rtol=1e-4, atol=1e-5)
    for phase in ("evaluate", "target"):
        mean, _ = d2r.policy(weights, batch.observations, phase, batch.extras)
        assert not torch.allclose(torch.tanh(mean), batch.actions, atol=1e-2)
        torch.testing.assert_close(mean, greedy(d2r, batch.observations)[0][..., :4])


class Watched:
    """A network that writes down how it was routed."""

    def __init__(self, name: str, network: Any, seen: list[tuple[str, str]]) -> None:
        self.name, self.network, self.seen = name, network, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(
        self,
        weights: Any,
        x: Tensor,
        noise: Tensor | None = None,
        heat: Tensor | None = None,
        chosen: Tensor | None = None,
        **options: Any,
    ) -> Any:
        how = "given" if chosen is not None else "greedy" if noise is None else "sampled"
        self.seen.append((self.name, how))
        return self.network(weights, x, noise, heat, chosen, **options)


@pytest.mark.parametrize("order", ["critic_first", "simultaneous"])
def test_each_loss_routes_as_the_paper_says(
    order: str, build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    extra = {} if order == "simultaneous" else {"task_loss_threshold": float("inf")}
    algorithm: Any = build("d2r", update_order=order, **extra)
    batch = collect(algorithm)
    seen: list[tuple[str, str]] = []
    algorithm.networks = {k: Watched(k, n, seen) for k, n in algorithm.networks.items()}
    algorithm.update(batch)
    assert seen == [
        ("actor", "greedy"),
        ("critic", "greedy"),  # the target's copy
        ("critic", "sampled"),
        ("actor", "given"),
        ("critic", "greedy"),
    ]


def test_critics_and_samples_are_routed_independently(d2r: Any) -> None:
    d2r.state["log_temperature"].copy_(torch.tensor([0.0, -1.0, -4.0]))
    given = d2r.given("update", 6, torch.Generator().manual_seed(0))
    noise = given["critic_routes"]
    rows = noise.movedim(1, 0).flatten(0, 2)
    assert noise.shape[:3] == (T, 2, 6)
    assert len(rows.unique(dim=0)) == len(rows)
    x = torch.randn(T, 6, 43, generator=torch.Generator().manual_seed(1))
    weights, critics = d2r.weights(d2r.state), d2r.networks["critic"]
    found = d2r.values(weights, x, "critic", given)
    for copy in range(2):
        own = {name: weight[copy] for name, weight in weights["critic"].items()}
        expected = critics.call(own, (x, noise[:, copy], given["heat"]))[0]
        torch.testing.assert_close(found[copy], expected)


def test_exploring_adds_the_policys_noise(build: Callable[..., Algorithm]) -> None:
    d2r: Any = build("d2r")
    x = torch.randn(T, 4, 39, generator=torch.Generator().manual_seed(1))
    given = d2r.given("explore", 4, torch.Generator().manual_seed(0))
    output, _ = d2r.routed(d2r.weights(d2r.state), x, "explore", given)
    mean, log_std = d2r.mean_and_log_std(output)
    action, _ = d2r.decide(d2r.state, x, given, "explore")
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * given["noise"]))


def test_routes_are_drawn_at_the_route_balancing_temperatures(d2r: Any) -> None:
    d2r.state["log_temperature"].copy_(torch.tensor([0.0, -1.0, -4.0]))
    alpha = d2r.state["log_temperature"].exp()
    expected = (1 / alpha) / (1 / alpha).sum() * T
    for purpose in ("explore", "update", "probe"):
        heat = d2r.given(purpose, 2, torch.Generator())["heat"]
        torch.testing.assert_close(heat, expected)


def test_exploration_follows_the_temperatures(d2r: Any) -> None:
    """A cold task keeps to its greedy route, a hot one strays."""
    d2r.state["log_temperature"].copy_(torch.tensor([0.0, -9.0, 0.0]))
    x = torch.randn(T, 300, 39, generator=torch.Generator().manual_seed(0))
    drawn = unpack(d2r.act(x, explore=True).extras["route"], d2r.settings.modules)
    kept = (drawn == greedy(d2r, x)[1]).flatten(2).all(-1).double().mean(1)
    assert kept[1] < 0.5 < kept[0]
    assert kept[2] > 0.5


@pytest.mark.parametrize(("scale", "entropy"), [(0.0, 1.0), (1e4, 0.0)])
def test_report_tells_undecided_from_decided_routers(
    d2r: Any, scale: float, entropy: float, collect: Callable[..., Batch]
) -> None:
    views = d2r.networks["actor"].views(d2r.state["actor"])
    for name in ("router.4.weight", "router.4.bias"):
        views[name].mul_(scale)
    batch = collect(d2r)
    report = d2r.report(batch)
    assert report["route_entropy"] == pytest.approx([entropy] * T, abs=0.02)
    _, chosen, logits = greedy(d2r, batch.observations)
    mixing = torch.softmax(logits.masked_fill(~chosen, -torch.inf), -1)
    assert report["modules_in_use"] == modules_in_use(mixing).mean(-1).tolist()
