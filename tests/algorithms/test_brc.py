"""BRC's parts against closed forms, and what its learner promises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from algorithms.algorithm import Algorithm, Batch, Outcomes
from algorithms.brc import BRCSettings, BroNet, gaussian, returns_to_go, two_hot
from algorithms.sac import SACSettings

Build = Callable[..., Algorithm]
SHARED = {"shared_temperature": True}
ATOMS = torch.linspace(-10, 10, 101)


def certain(value: float) -> Tensor:
    """The distribution that a value becomes, [V]."""
    return two_hot(torch.ones(1), torch.tensor([value]), ATOMS)


@pytest.mark.parametrize("value", [-10.0, -9.87, 0.0, 0.05, 3.2, 9.99])
def test_two_hot_keeps_the_mean(value: float) -> None:
    target = certain(value)
    assert int((target > 1e-6).sum()) <= 2
    torch.testing.assert_close(target.sum(), torch.tensor(1.0))
    torch.testing.assert_close(target @ ATOMS, torch.tensor(value), rtol=0, atol=1e-5)


def test_two_hot_clips_and_projects() -> None:
    """Against C51's own algorithm, atom by atom."""
    assert certain(25.0)[-1] == 1 and certain(-25.0)[0] == 1
    random = torch.Generator().manual_seed(0)
    chances = torch.softmax(torch.randn(101, generator=random), -1)
    values = 3.0 + 0.99 * (ATOMS - 0.7)
    expected = torch.zeros(101)
    for chance, value in zip(chances.tolist(), values.tolist(), strict=True):
        place = (min(max(value, -10), 10) + 10) / 0.2
        low = min(math.floor(place), 99)
        expected[low] += chance * (low + 1 - place)
        expected[low + 1] += chance * (place - low)
    torch.testing.assert_close(two_hot(chances, values, ATOMS), expected, rtol=1e-4, atol=1e-5)


def test_gaussian_targets_against_the_error_function() -> None:
    """The mean stays but near the ends, where what is cut off moves it inwards."""
    values = torch.tensor([-12.0, -9.95, -3.21, 0.0, 0.07, 9.0, 9.95], dtype=torch.float64)
    atoms = ATOMS.double()
    found = gaussian(values, atoms, 0.75)
    for target, value in zip(found, values.clamp(-10, 10).tolist(), strict=True):
        below = [
            math.erf((edge - value) / (0.15 * math.sqrt(2))) for edge in (atoms - 0.1).tolist()
        ]
        below.append(math.erf((10.1 - value) / (0.15 * math.sqrt(2))))
        mass = [(b - a) / (below[-1] - below[0]) for a, b in itertools.pairwise(below)]
        torch.testing.assert_close(target, torch.tensor(mass, dtype=torch.float64))
    means = found @ atoms
    torch.testing.assert_close(means[2:6], values[2:6], rtol=0, atol=1e-6)
    assert float(means[6]) == pytest.approx(9.9, abs=5e-3)
    torch.testing.assert_close(means[1], -means[6])


@pytest.mark.parametrize("reduction", ["mean", "min"])
def test_a_gaussian_stands_around_the_targets_mean(
    reduction: str, build: Build, collect: Callable[..., Batch]
) -> None:
    fields: dict[str, Any] = {"normalise_rewards": False, "reward_scale": 0.1, "discount": 0.5}
    plain, smooth = (
        build("brc", value_target=kind, critic_reduction=reduction, **fields)
        for kind in ("two_hot", "hl_gauss")
    )
    means = []
    for algorithm in (plain, smooth):
        batch = ready(algorithm, collect(algorithm))
        target = algorithm.target(algorithm.state, batch)
        torch.testing.assert_close(target.sum(-1), torch.ones(target.shape[:-1]))
        means.append(target @ ATOMS)
    torch.testing.assert_close(*means, rtol=0, atol=1e-3)
    metrics = smooth.update(collect(smooth))
    assert all(value.isfinite().all() for value in metrics.values())


def test_returns_to_go_against_sums() -> None:
    rewards = torch.rand(2, 3, 7, dtype=torch.float64)
    found = returns_to_go(rewards, 0.9)
    for step in range(7):
        rest = sum(0.9 ** (i - step) * rewards[..., i] for i in range(step, 7))
        after = 0.9 ** (7 - step) * rewards.mean(-1) / (1 - 0.9)
        torch.testing.assert_close(found[..., step], rest + after)
    torch.testing.assert_close(returns_to_go(rewards, 0.9, True)[..., -1], rewards[..., -1])


def outcomes(rewards: Tensor) -> Outcomes:
    """Those of episodes with these rewards [T, N, H]."""
    returns = rewards.double().sum(-1)
    return Outcomes(returns, torch.zeros_like(returns), rewards, rewards.double().mean((1, 2)))


def ready(algorithm: Any, batch: Batch) -> Batch:
    given = algorithm.given("update", batch.rewards.shape[1], algorithm.generators["update"])
    batch = algorithm.with_extras(batch, **given)
    temperature = algorithm.state["log_temperature"].exp()
    return algorithm.with_extras(batch, temperature=temperature)


def test_the_network_is_bronets(build: Build) -> None:
    """Blocks x + LN(W ReLU(LN(V x))) after a first ReLU(LN(U x)), by functional calls."""
    net = BroNet(5, 7, 2)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 4, 5)

    def normed(x: Tensor, layer: Any, norm: Any) -> Tensor:
        x = functional.linear(x, layer.weight, layer.bias)
        return functional.layer_norm(x, (7,), norm.weight, norm.bias, 1e-6)

    hidden = normed(x, net.first[0], net.first[1]).relu()
    for block in net.blocks:
        own: Any = block
        inner = normed(hidden, own[0], own[1]).relu()
        hidden = hidden + normed(inner, own[3], own[4])
    torch.testing.assert_close(net(x), hidden)


def test_weights_begin_orthogonal(build: Build) -> None:
    """With gain √2, but for the rows of the log standard deviations, with gain 1."""
    algorithm: Any = build("brc")
    parts = dict(algorithm.build_actor().named_modules())
    last = parts["1"].weight
    torch.testing.assert_close(last[:4] @ last[:4].T, 2 * torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(last[4:] @ last[4:].T, torch.eye(4), atol=1e-5, rtol=0)
    first = parts["0.blocks.0.0"].weight
    torch.testing.assert_close(first @ first.T, 2 * torch.eye(len(first)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_rewards_fill_the_range(scale: float, build: Build, collect: Callable[..., Batch]) -> None:
    """A scaled return is at most the limit; the bound is the largest so far; the batch's and the
    outcomes' rewards stay raw.
    """
    algorithm: Any = build("brc", reward_scale=scale)
    batch = ready(algorithm, collect(algorithm))
    raw = batch.rewards.clone()
    assert bool((algorithm.rewards(algorithm.state, batch) == 0).all())  # nothing is known yet
    rewards = torch.rand(3, 2, 20) * torch.tensor([0.1, 10.0, -10.0])[:, None, None]
    given = outcomes(rewards)
    kept = [x.clone() for x in given]
    algorithm.end_random_episodes(given)  # these count, too
    assert all(torch.equal(x, y) for x, y in zip(given, kept, strict=True))
    bound = algorithm.state["return_bound"].clone()
    largest = returns_to_go(rewards.double(), 0.99).abs().amax((1, 2)).float()
    torch.testing.assert_close(bound, largest)
    found = algorithm.rewards(algorithm.state, batch)
    # α = 0.1, H̄ = −2, 1 / (1 − γ) = 100
    torch.testing.assert_close(found, scale * raw * (10 / (scale * bound + 0.1 * 1 * 100))[:, None])
    assert torch.equal(batch.rewards, raw)
    scaled = rewards * (found / raw)[:, :1, None]
    assert returns_to_go(scaled.double(), 0.99).abs().max() <= 10
    algorithm.end_episodes(outcomes(rewards / 2))
    assert torch.equal(algorithm.state["return_bound"], bound)


def test_rewards_keep_their_sign_whatever_entropy_is_aimed_at(
    build: Build, collect: Callable[..., Batch]
) -> None:
    algorithm: Any = build("brc", target_entropy=4 * math.log(2))
    algorithm.state["return_bound"].fill_(2.0)
    batch = ready(algorithm, collect(algorithm))
    found = algorithm.rewards(algorithm.state, batch)
    assert torch.equal(found.sign(), batch.rewards.sign())


def test_without_a_discount_nothing_is_bounded(build: Build) -> None:
    algorithm: Any = build("brc", discount=1.0, normalise_rewards=False)
    algorithm.end_episodes(outcomes(torch.rand(3, 1, 7)))
    assert algorithm.state["return_bound"].tolist() == [0, 0, 0]


def test_embeddings_that_cannot_tell_tasks_apart_are_refused(build: Build) -> None:
    build("brc", embedding_size=1, normalise_embedding=False)
    with pytest.raises(ValueError, match="or add --no-normalise-embedding"):
        build("brc", embedding_size=1)


def test_target_is_a_distribution(build: Build, collect: Callable[..., Batch]) -> None:
    """Where time limits end everything, it is the reward's own two neighbours."""
    algorithm: Any = build("brc", timeout_is_terminal=True, normalise_rewards=False)
    batch = ready(algorithm, collect(algorithm))
    ends = batch._replace(timeouts=torch.ones_like(batch.timeouts))
    target = algorithm.target(algorithm.state, ends)
    torch.testing.assert_close(target @ ATOMS, batch.rewards.clamp(-10, 10), rtol=0, atol=1e-4)
    goes_on = algorithm.target(algorithm.state, batch._replace(timeouts=0 * batch.timeouts))
    torch.testing.assert_close(goes_on.sum(-1), torch.ones_like(batch.rewards))
    assert not torch.allclose(goes_on, target)


def test_error_is_the_cross_entropy(build: Build) -> None:
    algorithm: Any = build("brc")
    outputs, target = torch.randn(2, 3, 4, 101), torch.softmax(torch.randn(3, 4, 101), -1)
    expected = [
        functional.cross_entropy(o.flatten(0, 1), target.flatten(0, 1), reduction="none")
        for o in outputs
    ]
    found = algorithm.critic_error(outputs, target).flatten(1)
    torch.testing.assert_close(found, torch.stack(expected))


def test_embedding_is_the_critics(build: Build, collect: Callable[..., Batch]) -> None:
    """Of norm 1, moved by the critics' loss and not by the policy's; its target follows slowly."""
    algorithm: Any = build("brc")
    batch = algorithm.prepared(algorithm.state, ready(algorithm, collect(algorithm)))
    weights = algorithm.weights(algorithm.state)
    rows = algorithm.with_embedding(weights, torch.zeros(3, 1, 0))
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(3, 1))
    steps = {
        name: algorithm.differentiate(name, algorithm.state, batch)[2](torch.ones(3))
        for name in ("actor", "critic")
    }
    assert steps["actor"].keys() == {"actor"}
    assert steps["critic"].keys() == {"critic", "embedding"}
    assert steps["critic"]["embedding"].abs().sum() > 0
    before = algorithm.state["embedding.target"].clone()
    algorithm.update(collect(algorithm))
    moved = algorithm.state["embedding"] - before
    torch.testing.assert_close(algorithm.state["embedding.target"] - before, 0.005 * moved)


def test_one_temperature(build: Build, collect: Callable[..., Batch]) -> None:
    """All tasks' entries are one; its first Adam step is the learning rate, downwards here."""
    algorithm: Any = build("brc")
    for _ in range(3):
        algorithm.update(collect(algorithm))
    assert len(set(algorithm.state["log_temperature"].tolist())) == 1
    density = torch.tensor([[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]])
    alpha = algorithm.state["log_temperature"][0].exp()
    given: list[Tensor] = []
    algorithm.optimisers["log_temperature"] = SimpleNamespace(step=lambda *x: given.append(x[-1]))
    gradient = algorithm.temperature_gradient(algorithm.state, density)
    algorithm.step_temperature(algorithm.state, gradient)
    torch.testing.assert_close(given[0], (alpha * (-density.mean() + 2)).expand(3))
    apart: Any = build("brc", shared_temperature=False)
    for _ in range(3):
        apart.update(collect(apart))
    assert apart.state["log_temperature"].unique().numel() == 3


def test_standard_deviation_is_bounded_smoothly(build: Build) -> None:
    algorithm: Any = build("brc")
    output = torch.tensor([[[0.0] * 4 + [-1e3, 0.0, 1e3, 1.0]]])
    _, log_std = algorithm.mean_and_log_std(output)
    expected = torch.tensor([-10.0, -4.0, 2.0, -10 + 6 * (1 + math.tanh(1.0))])
    torch.testing.assert_close(log_std[0, 0], expected)


def test_learns_a_constant_return(build: Build, collect: Callable[..., Batch]) -> None:
    """With γ = 0 values become the rewards."""
    algorithm: Any = build("brc", normalise_rewards=False, discount=0.0, critic_learning_rate=1e-2)
    batch = collect(algorithm)
    batch = batch._replace(rewards=torch.tensor([-5.0, 0.3, 7.0])[:, None].expand(3, 6).clone())
    for _ in range(60):
        metrics = algorithm.update(batch)
    torch.testing.assert_close(metrics["value"], torch.tensor([-5.0, 0.3, 7.0]), rtol=0, atol=0.3)


@pytest.mark.parametrize(("kind", "given"), [(BRCSettings, {}), (SACSettings, SHARED)])
def test_a_temperature_that_is_shared_cannot_leave_tasks_out(kind: Any, given: Any) -> None:
    threshold = {"task_loss_threshold": 3000.0, "update_order": "simultaneous"}
    kind(**threshold, shared_temperature=False)
    with pytest.raises(ValueError, match="add --no-shared-temperature"):
        kind(**threshold, **given)
