"""ARS: factors, resets and their schedule, on its own networks and on another architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Batch, Outcomes, Problem
from algorithms.ars import (
    ARS,
    ARSSettings,
    ScaleAndResetSettings,
    ScaledAndReset,
    reset_rounds,
    reward_factors,
)
from algorithms.mtsac import MTSAC
from algorithms.parts.adapters import Adapted

Collect = Callable[..., Batch]
TASKS, HORIZON = 3, 10


def on(kind: Any) -> Any:
    """Scaling and resets on an architecture: what a class of two lines is."""
    settings = type("Settings", (ScaleAndResetSettings, kind.Settings), {})
    own = {"Settings": dataclass(frozen=True)(settings)}
    return type(f"Scaled{kind.__name__}", (ScaledAndReset, kind), own)


ScaledMTSAC = on(MTSAC)


def made(kind: Any = ScaledMTSAC, locksteps: int = 100, **fields: Any) -> Any:
    settings = kind.Settings(**{"actor_width": 16, "critic_width": 16} | fields)
    names = tuple(f"task-{i}" for i in range(TASKS))
    return kind(settings, Problem(names, horizon=HORIZON, locksteps=locksteps))


def outcomes(means: list[float], success: float = 0.0) -> Outcomes:
    """A round's, where the replay has these mean rewards."""
    nothing = torch.zeros(TASKS, 1, dtype=torch.float64)
    rewards = torch.zeros(TASKS, 1, HORIZON)
    return Outcomes(nothing, nothing + success, rewards, torch.tensor(means).double())


def test_factors_make_means_equal() -> None:
    """Above the floor, which bounds the others; also where no task has a reward."""
    means = torch.tensor([0.5, 2.0, 8.0, 0.001, -1.0])
    scaled = means * reward_factors(means, 0.01)
    torch.testing.assert_close(scaled[:3], torch.full((3,), 8.0))
    assert reward_factors(means, 0.01)[3:].tolist() == pytest.approx([800.0, 800.0])
    assert reward_factors(torch.zeros(3), 0.01).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("locksteps", "horizon", "resets", "first"),
    [(2_000_000, 500, 4, 400_000), (2_000_000, 500, 6, 286_000), (100, 10, 4, 20)],
)
def test_schedule(locksteps: int, horizon: int, resets: int, first: int) -> None:
    """That of the authors: 4 resets, 400,000 steps apart, on MT10; 6, 286,000 apart, on MT50."""
    names = ("a", "b")
    problem = Problem(names, horizon=horizon, locksteps=locksteps)
    algorithm = ARS(ARSSettings(actor_width=4, critic_width=4, resets=resets), problem)
    due = []
    for algorithm.schedule.rounds in range(1, locksteps // horizon + 1):
        if algorithm.due():
            due.append(algorithm.schedule.rounds * horizon)
    assert due == [first * (i + 1) for i in range(resets)]


def test_as_many_resets_as_are_asked_for() -> None:
    for rounds in range(2, 90):
        for resets in range(rounds):
            found = reset_rounds(rounds, resets)
            assert len(found) == resets
            assert all(0 < number < rounds for number in found)
    with pytest.raises(ValueError, match="resets 80 do not fit into a run of 80 rounds"):
        ARS(ARSSettings(resets=80), Problem(("a", "b"), horizon=10, locksteps=800))


def test_what_nothing_clamps_has_no_bounds() -> None:
    with pytest.raises(ValueError, match="log_std_max: nothing clamps"):
        ARSSettings(log_std_max=1.0)


def test_factors_change_before_learning_and_at_resets_alone(collect: Collect) -> None:
    algorithm = made(resets=1)  # after round 5 of 10
    batch = collect(algorithm)
    raw = batch.rewards.clone()
    factors = algorithm.state["reward_factors"]
    algorithm.end_episodes(outcomes([1.0, 2.0, 4.0]))
    assert factors.tolist() == [4.0, 2.0, 1.0]
    algorithm.update(batch)
    assert torch.equal(batch.rewards, raw)
    torch.testing.assert_close(
        algorithm.rewards(algorithm.state, batch), raw * torch.tensor([4.0, 2.0, 1.0])[:, None]
    )
    for _ in range(3):
        algorithm.end_episodes(outcomes([1.0, 1.0, 1.0]))
        assert factors.tolist() == [4.0, 2.0, 1.0] and algorithm.due_updates == 0
    algorithm.end_episodes(outcomes([1.0, 10.0, 1.0]))
    assert factors.tolist() == [10.0, 1.0, 10.0] and algorithm.due_updates == 1000


@pytest.mark.parametrize("random", [True, False])
def test_the_first_factors_come_before_learning_or_after_the_first_episode(
    random: bool, collect: Collect
) -> None:
    algorithm = made(resets=1)
    factors = algorithm.state["reward_factors"]
    if random:
        algorithm.end_random_episodes(outcomes([1.0, 2.0, 4.0]))
        assert factors.tolist() == [4.0, 2.0, 1.0] and algorithm.schedule.rounds == 1
    algorithm.update(collect(algorithm))
    algorithm.end_episodes(outcomes([1.0, 1.0, 2.0]))
    assert factors.tolist() == ([4.0, 2.0, 1.0] if random else [2.0, 2.0, 1.0])


def test_reset_starts_all_again(collect: Collect) -> None:
    """Networks, targets, temperatures and moments; each reset draws other weights."""
    algorithm = made(resets=4)  # every 2 rounds
    batch = collect(algorithm)
    drawn = [algorithm.state["actor"].clone()]
    for number in (1, 2):
        for _ in range(3):
            algorithm.update(batch)
        for _ in range(2):
            algorithm.end_episodes(outcomes([1.0, 1.0, 1.0]))
        assert algorithm.schedule.resets == number
        state = algorithm.state
        assert torch.equal(state["critic"], state["critic.target"])
        assert bool((state["log_temperature"] == 0).all())
        for name, value in state.items():
            if name.endswith(("moment", "steps")):
                assert not value.any(), name
        drawn.append(state["actor"].clone())
    assert not any(torch.equal(a, b) for a, b in [drawn[:2], drawn[1:], drawn[::2]])


def test_resumes_among_the_updates_that_follow_a_reset(collect: Collect) -> None:
    """A run that is killed there makes them again from its checkpoint, and goes on the same."""
    one = made(ARS, resets=4, updates_after_reset=6)
    batch = collect(one)
    one.update(batch)
    for _ in range(2):
        one.end_episodes(outcomes([1.0, 2.0, 3.0]))
    saved = copy.deepcopy(one.state_dict())
    ends = []
    for algorithm in (one, made(ARS, resets=4, updates_after_reset=6)):
        algorithm.load_state_dict(copy.deepcopy(saved))
        assert algorithm.due_updates == 6 and algorithm.schedule.resets == 1
        for _ in range(algorithm.due_updates):
            algorithm.update(batch)
        algorithm.due_updates = 0
        for _ in range(2):
            algorithm.end_episodes(outcomes([1.0, 1.0, 1.0]))
        assert algorithm.schedule.resets == 2
        ends.append(algorithm.state)
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "ars"])
def test_without_resets_and_factors_it_is_the_architecture(name: str, collect: Collect) -> None:
    plain, scaled = made(load(name)), made(on(load(name)), resets=0, scale_rewards=False)
    batch = collect(plain)
    scaled.load_state_dict({**scaled.state_dict(), "tensors": {**scaled.state, **plain.state}})
    for algorithm in (plain, scaled):
        algorithm.generators["update"].manual_seed(0)
        algorithm.update(batch)
        for _ in range(10):
            algorithm.end_episodes(outcomes([1.0, 2.0, 3.0]))
    assert scaled.due_updates == 0
    assert all(torch.equal(value, scaled.state[name]) for name, value in plain.state.items())


def test_two_that_scale_rewards_are_refused() -> None:
    kind = on(load("brc"))
    with pytest.raises(ValueError, match="add --no-scale-rewards or --no-normalise-rewards"):
        made(kind)
    made(kind, normalise_rewards=False)


def test_networks_by_hand(collect: Collect) -> None:
    """The critic normalises its whole input, one-hot included; the policy climbs the first critic
    and has a standard deviation of softplus + 1e-5.
    """
    algorithm: Any = made(ARS)
    with torch.no_grad():
        algorithm.state["critic"] += 0.1 * torch.randn(algorithm.state["critic"].shape)
    inputs = torch.randn(TASKS, 5, 43)
    given = algorithm.given("update", 5, algorithm.generators["update"])
    weights = algorithm.weights(algorithm.state)
    found = algorithm.values(weights, inputs, "policy", given)
    for copy_ in range(2):
        w = {k: v[copy_] for k, v in weights["critic"].items()}
        x = torch.cat([inputs, torch.eye(TASKS)[:, None].expand(-1, 5, -1)], -1)

        def norm(x: Tensor, layer: int, w: dict[str, Tensor] = w) -> Tensor:
            return functional.layer_norm(
                x, x.shape[-1:], w[f"{layer}.weight"], w[f"{layer}.bias"], 1e-6
            )

        x = norm(x, 0)
        for layer in (1, 4, 7, 10):
            x = norm(x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"], layer + 1).tanh()
        expected = x @ w["13.weight"].T + w["13.bias"]
        torch.testing.assert_close(found[copy_], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(algorithm.policy_value(found), found[0, ..., 0])
    w, x = weights["actor"], torch.randn(TASKS, 5, 39)
    mean, _ = algorithm.policy(weights, x, "evaluate", given)
    hidden = x @ w["0.input.weight"].T + w["0.input.bias"] + w["0.task"][:, None]
    for layer in (2, 4, 6, 8):
        hidden = hidden.relu() @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
    torch.testing.assert_close(mean, hidden[..., :4], rtol=1e-4, atol=1e-5)
    output = torch.randn(TASKS, 5, 8) * 10
    _, log_std = algorithm.mean_and_log_std(output)
    torch.testing.assert_close(log_std.exp(), functional.softplus(output[..., 4:]) + 1e-5)


def test_temperatures_step_on_alpha(collect: Collect) -> None:
    """The gradient for log α of −α (log π + H̄)."""
    algorithm: Any = made(ARS)
    algorithm.state["log_temperature"].copy_(torch.tensor([0.0, -1.0, 2.0]))
    density = torch.randn(TASKS, 4)
    raw = algorithm.state["log_temperature"].clone().requires_grad_()
    (-raw.exp() * (density.mean(-1) - 4)).sum().backward()
    found = algorithm.temperature_gradient(algorithm.state, density)
    torch.testing.assert_close(found, raw.grad)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_evaluation_samples_where_it_is_asked_to_and_leaves_training_alone(name: str) -> None:
    mode, sampled = made(load(name)), made(load(name), evaluated_actions="sample")
    seen = torch.randn(TASKS, 400, 39)
    before = sampled.generators["exploration"].get_state()
    first, second = (sampled.act(seen, explore=False).actions for _ in range(2))
    assert torch.equal(sampled.generators["exploration"].get_state(), before)
    assert not torch.equal(first, second)
    given = sampled.given("evaluate", 400, sampled.generators["exploration"])
    mean, log_std = sampled.policy(sampled.weights(sampled.state), seen, "evaluate", given)
    z = (first.clamp(-1 + 1e-6, 1 - 1e-6).atanh() - mean) / log_std.exp()
    inner = z[first.abs() < 0.999]
    assert abs(inner.mean()) < 0.1 and 0.8 < inner.std() < 1.1
    torch.testing.assert_close(mode.act(seen, explore=False).actions, mean.tanh())
    assert (mode.evaluated_by, sampled.evaluated_by) == ("deterministic policy", "sampled actions")
    again = made(load(name), evaluated_actions="sample")
    again.load_state_dict(copy.deepcopy(sampled.state_dict()))
    assert torch.equal(again.act(seen, False).actions, sampled.act(seen, False).actions)


def adapting(collect: Collect, success: float = 1.0, **fields: Any) -> tuple[Any, Batch]:
    """One that has learned, and whose reset at nine tenths of the run is just due."""
    algorithm = made(ARS, resets=9, lora_rank=2, critic_depth=2, actor_depth=2, **fields)
    batch = collect(algorithm)
    algorithm.schedule.rounds = 8
    algorithm.end_episodes(outcomes([2.0, 1.0, 1.0], success))  # learns nothing yet: factors alone
    algorithm.schedule.rounds = 8
    for _ in range(3):
        algorithm.update(batch)
    return algorithm, batch


def test_adapters_are_nothing_until_they_are_trained(collect: Collect) -> None:
    algorithm, _ = adapting(collect)
    plain = made(ARS, resets=9, critic_depth=2, actor_depth=2)
    for name in ("actor", "critic"):
        own = algorithm.networks[name].views(algorithm.state[name])
        assert all(value.eq(0).all() for key, value in own.items() if key.endswith(".up"))
        base = {key.replace(".layer.", "."): value for key, value in own.items()}
        network = plain.networks[name]
        lead = algorithm.networks[name].lead
        plain.state[name].copy_(network.flat({e.name: base[e.name] for e in network.layout}, lead))
    seen = torch.randn(TASKS, 4, 39)
    found = [a.act(seen, explore=False).actions for a in (plain, algorithm)]
    torch.testing.assert_close(*found)
    # a_t b_t of every layer: 39 → 16 → 16 → 8 and, twice, 46 → 16 → 16 → 1
    actor = TASKS * 2 * (39 + 16 + 16 + 16 + 16 + 8)
    critic = TASKS * 2 * (46 + 16 + 16 + 16 + 16 + 1)
    counts, less = algorithm.parameter_counts(), plain.parameter_counts()
    assert (counts.actor - less.actor, counts.critic - less.critic) == (actor, 2 * critic)


def test_late_and_with_success_a_reset_begins_adapters_instead(collect: Collect) -> None:
    algorithm, batch = adapting(collect)
    state = algorithm.state
    before = {name: value.clone() for name, value in state.items()}
    x = torch.randn(TASKS, 5, 43)

    def values() -> Tensor:
        given = algorithm.given("update", 5, algorithm.generators["update"])
        found: Tensor = algorithm.values(algorithm.weights(state), x, "critic", given)
        return found

    worth = values()
    algorithm.end_episodes(outcomes([1.0, 1.0, 4.0], 1.0))
    torch.testing.assert_close(values(), worth * torch.tensor([4.0, 2.0, 0.5])[:, None, None])
    assert state["adapting"] == 1 and algorithm.due_updates == 1000
    assert state["reward_factors"].tolist() == [4.0, 4.0, 1.0]
    assert state["value_factors"].tolist() == [4.0, 2.0, 0.5]
    assert torch.equal(state["critic.target"], state["critic"])
    assert torch.equal(state["log_temperature"], before["log_temperature"])
    assert state["actor.steps"] == state["critic.steps"] == 0
    networks = {name: algorithm.networks[name] for name in ("actor", "critic")}
    start = {name: network.views(state[name].clone()) for name, network in networks.items()}
    for name, views in start.items():
        old = algorithm.networks[name].views(before[name])
        for key, value in views.items():
            assert torch.equal(value, old[key]) is not key.endswith(".down"), key
    for _ in range(2):
        algorithm.update(batch)
    for name, views in start.items():
        now = algorithm.networks[name].views(state[name])
        norms = {f"{i}.{part}" for i in (0, 2, 5) for part in ("weight", "bias")}
        for key, value in views.items():
            trained = key.endswith((".up", ".down")) or (name == "critic" and key in norms)
            assert torch.equal(value, now[key]) is not trained, key
    other = made(ARS, resets=9, lora_rank=2, critic_depth=2, actor_depth=2)
    other.load_state_dict(copy.deepcopy(algorithm.state_dict()))
    for each in (algorithm, other):
        each.update(batch)
    assert all(torch.equal(value, other.state[name]) for name, value in state.items())
    # The next reset begins adapters again, whatever the success: what they stand on is frozen.
    algorithm.schedule.rounds = 8
    algorithm.end_episodes(outcomes([1.0, 2.0, 4.0], 0.0))
    assert state["value_factors"].tolist() == [4.0, 1.0, 0.5]
    for name, views in start.items():
        now = networks[name].views(state[name])
        base = [key for key in views if not key.endswith((".up", ".down")) and key not in norms]
        assert base and all(torch.equal(views[key], now[key]) for key in base)


def test_adapters_add_each_tasks_own_product() -> None:
    adapted = Adapted(torch.nn.Linear(5, 4), 3, 5, 4, 2)
    torch.nn.init.normal_(adapted.up)
    x = torch.randn(3, 6, 5)
    expected = [
        adapted.layer(own) + own @ down @ up / 2
        for own, down, up in zip(x, adapted.down, adapted.up, strict=True)
    ]
    torch.testing.assert_close(adapted(x), torch.stack(expected))


@pytest.mark.parametrize("fields", [{"success": 0.7}, {"lora_from": 0.95}])
def test_early_or_without_success_a_reset_is_one(fields: Any, collect: Collect) -> None:
    algorithm, _ = adapting(collect, **fields)
    before = algorithm.state["actor"].clone()
    algorithm.end_episodes(outcomes([1.0, 1.0, 4.0], fields.get("success", 1.0)))
    assert algorithm.state["adapting"] == 0 and algorithm.state["value_factors"].eq(1).all()
    assert not torch.equal(algorithm.state["actor"], before)
    assert algorithm.state["reward_factors"].tolist() == [4.0, 4.0, 1.0]
