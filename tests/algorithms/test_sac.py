"""How the learner behaves: time limits, thresholds, temperatures, clipping, and its defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_sac_update import B, T, transitions
from torch import Tensor, nn

from algorithms.algorithm import Algorithm, Batch
from algorithms.d2r import D2RSettings
from algorithms.mega import MEGASettings
from algorithms.mtsac import MTSACSettings
from algorithms.sac import SACSettings, clipped


def moved(algorithm: Any, batch: Batch) -> dict[str, Tensor]:
    """By how much one update moves each parameter, and the temperatures."""
    before = {name: value.clone() for name, value in algorithm.state.items()}
    algorithm.update(batch)
    steps = {"log_temperature": algorithm.state["log_temperature"] - before["log_temperature"]}
    for name, network in algorithm.networks.items():
        views = network.views(algorithm.state[name] - before[name])
        steps |= {f"{name}.{k}": v for k, v in views.items()}
    return steps


def test_targets_start_as_copies_of_the_critics_and_twins_start_apart(
    build: Callable[..., Algorithm],
) -> None:
    state = build("mtsac").state  # type: ignore[attr-defined]
    assert torch.equal(state["critic"], state["critic.target"])
    assert state["critic"].data_ptr() != state["critic.target"].data_ptr()
    assert not torch.equal(*state["critic"])


@pytest.mark.parametrize("terminal", [True, False])
def test_time_limits_matter_only_where_they_are_terminal(
    terminal: bool, build: Callable[..., Algorithm]
) -> None:
    results = []
    for timeouts in (0.0, 1.0):
        algorithm = build("mtsac", timeout_is_terminal=terminal)
        batch = transitions(0, torch.float32)._replace(timeouts=torch.full((T, B), timeouts))
        results.append(torch.cat([v.flatten() for v in moved(algorithm, batch).values()]))
    assert torch.equal(*results) != terminal


def test_a_task_above_the_threshold_moves_nothing_of_its_own(
    build: Callable[..., Algorithm],
) -> None:
    algorithm = build("mtsac", update_order="simultaneous", task_loss_threshold=3e3)
    batch = transitions(0, torch.float32)
    batch = batch._replace(rewards=batch.rewards * torch.tensor([1.0, 1.0, 100.0])[:, None])
    steps = moved(algorithm, batch)
    for name in ("actor.head.weight", "critic.head.weight", "critic.layers.0.task"):
        by_task = steps[name] if name.startswith("actor") else steps[name].transpose(0, 1)
        assert by_task.flatten(1).any(1).tolist() == [True, True, False], name
    assert steps["log_temperature"].ne(0).tolist() == [True, True, False]


def test_temperatures_rise_where_entropy_is_below_its_target(
    build: Callable[..., Algorithm],
) -> None:
    # A policy of std 1 before the tanh has an entropy of about 4 · 0.6 nats.
    for target, sign in ((10.0, 1), (-10.0, -1)):
        steps = moved(build("mtsac", target_entropy=target), transitions(0, torch.float32))
        assert steps["log_temperature"].sign().tolist() == [sign] * T


def test_tasks_have_temperatures_of_their_own(build: Callable[..., Algorithm]) -> None:
    algorithm: Any = build("mtsac", temperature_learning_rate=0.1)
    # One task explores far too little: its head's log standard deviations are at −3.
    algorithm.networks["actor"].views(algorithm.state["actor"])["head.bias"][1, :, 4:] = -3.0
    steps = moved(algorithm, transitions(0, torch.float32))
    assert steps["log_temperature"].sign().tolist() == [-1, 1, -1]


def test_a_critic_without_a_future_learns_the_reward_of_each_task(
    build: Callable[..., Algorithm],
) -> None:
    algorithm: Any = build("mtsac", discount=0.0, critic_learning_rate=3e-3)
    rewards = torch.tensor([-1.0, 2.0, 5.0])
    for step in range(250):
        batch = transitions(step, torch.float32)
        metrics = algorithm.update(batch._replace(rewards=rewards[:, None].expand(T, B)))
    torch.testing.assert_close(metrics["value"], rewards, rtol=0.1, atol=0.2)


def test_a_policy_climbs_its_critic(build: Callable[..., Algorithm]) -> None:
    """With a critic fixed at Q = 5·(first action), every task's mode goes towards +1."""
    algorithm: Any = build(
        "mtsac", actor_learning_rate=1e-2, critic_learning_rate=0.0, initial_temperature=0.01
    )
    algorithm.state["critic"].zero_()
    weights = algorithm.networks["critic"].views(algorithm.state["critic"])
    # The offset keeps the ReLUs open.
    weights["layers.0.input.weight"][:, 0, 39] = 1.0
    weights["layers.0.input.bias"][:] = 1.0
    for name in ("layers.2.weight", "layers.4.weight"):
        weights[name][:, 0, 0] = 1.0
    weights["head.weight"][:, :, 0] = 5.0
    for step in range(60):
        algorithm.update(transitions(step, torch.float32))
    actions = algorithm.act(transitions(99, torch.float32).observations, explore=False).actions
    assert (actions[..., 0] > 0.7).all()


def test_log_standard_deviations_are_clamped(build: Callable[..., Algorithm]) -> None:
    algorithm: Any = build("mtsac", log_std_min=-5.0, log_std_max=1.0)
    output = torch.tensor([-100.0, 100.0]).expand(T, B, 2).repeat_interleave(4, -1)
    mean, log_std = algorithm.mean_and_log_std(output)
    assert torch.equal(mean, torch.full((T, B, 4), -100.0))
    assert torch.equal(log_std, torch.full((T, B, 4), 1.0))
    assert torch.equal(algorithm.mean_and_log_std(-output)[1], torch.full((T, B, 4), -5.0))


@pytest.mark.parametrize("largest", [0.5, 100.0, 0.0])
def test_clipping_is_torchs(largest: float) -> None:
    gradient = torch.randn(40, generator=torch.Generator().manual_seed(0))
    parameter = nn.Parameter(torch.zeros(40))
    parameter.grad = gradient.clone()
    norm = gradient.norm()
    if largest:
        torch.testing.assert_close(nn.utils.clip_grad_norm_([parameter], largest), norm)
    torch.testing.assert_close(clipped(gradient, norm, largest), parameter.grad)


def test_a_reset_draws_anew_and_leaves_everything_else(build: Callable[..., Algorithm]) -> None:
    algorithm, untouched = build("mtsac"), build("mtsac")
    for learner in (algorithm, untouched):
        for step in range(3):
            learner.update(transitions(step, torch.float32))
    algorithm.reset("after 3")  # type: ignore[attr-defined]
    state, fresh, trained = (a.state for a in (algorithm, build("mtsac"), untouched))  # type: ignore[attr-defined]
    for name in ("actor", "critic"):
        assert not torch.equal(state[name], fresh[name]), "another draw than the first one"
        assert not torch.equal(state[name], trained[name])
    assert torch.equal(state["critic"], state["critic.target"])
    for name in state:
        if name.endswith((".steps", "_moment")) or name == "log_temperature":
            assert torch.equal(state[name], fresh[name]), name
    drawn = [a.generators["update"].get_state() for a in (algorithm, untouched)]  # type: ignore[attr-defined]
    assert torch.equal(*drawn)


# Settings ------------------------------------------------------------------------------------


def test_a_state_of_other_networks_is_refused(build: Callable[..., Algorithm]) -> None:
    algorithm: Any = build("mtsac")
    state = algorithm.state_dict()
    for name, value, message in (
        ("x", torch.zeros(1), "another algorithm's: x is not in both"),
        ("log_temperature", torch.zeros(1), r"log_temperature is \(1,\)"),
    ):
        other = {**state, "tensors": {**state["tensors"], name: value}}
        with pytest.raises(ValueError, match=message):
            algorithm.load_state_dict(other)


@pytest.mark.parametrize("name", ["mtsac", "softmodules", "moore", "paco", "film"])
def test_first_layers_begin_he_uniform_and_heads_small(
    name: str, build: Callable[..., Algorithm]
) -> None:
    """As the scaling study's code begins all of them."""
    algorithm: Any = build(name)
    for network, bound in (("actor", 1e-3), ("critic", 3e-3)):
        weights = algorithm.networks[network].views(algorithm.state[network])
        heads = [w for k, w in weights.items() if "head" in k and k.endswith("weight")]
        assert heads and all(0.8 * bound < w.abs().max() <= bound for w in heads)
    first = {"mtsac": "layers.0.input", "softmodules": "base.0", "moore": "experts.0"}
    first |= {"paco": "layers.0", "film": "encoder.layers.0"}
    weight = algorithm.networks["actor"].views(algorithm.state["actor"])[f"{first[name]}.weight"]
    inputs = 39 + 3 * (name == "mtsac")  # its one-hot counts, though it is a table of its own
    assert 0.9 < weight.abs().max() / (6 / inputs) ** 0.5 <= 1 + 1e-6


def test_a_loss_threshold_needs_every_loss_before_any_step() -> None:
    with pytest.raises(ValueError, match="update-order simultaneous"):
        SACSettings(task_loss_threshold=3e3)
    with pytest.raises(ValueError, match="update-order simultaneous"):
        D2RSettings(update_order="critic_first")
    SACSettings(task_loss_threshold=3e3, update_order="simultaneous")


def test_the_clamp_of_the_standard_deviation_is_not_upside_down() -> None:
    with pytest.raises(ValueError, match="log_std_min 1 is more than log_std_max 0"):
        SACSettings(log_std_min=1.0, log_std_max=0.0)


def test_defaults_are_the_published_ones() -> None:
    s = MTSACSettings()
    assert (s.discount, s.polyak, s.target_entropy, s.reward_scale) == (0.99, 0.005, -4.0, 1.0)
    assert (s.actor_learning_rate, s.critic_learning_rate) == (3e-4, 3e-4)
    assert (s.temperature_learning_rate, s.adam_epsilon) == (3e-4, 1e-5)
    assert (s.gradient_clip, s.temperature_clip, s.clip_critics) == (1.0, 0.0, "jointly")
    assert (s.critics, s.critic_reduction, s.weight_decay) == (2, "min", 0.0)
    assert (s.log_std_min, s.log_std_max, s.initial_temperature) == (-20.0, 2.0, 1.0)
    assert (s.update_order, s.task_weighting) == ("critic_first", "uniform")
    assert (s.task_loss_threshold, s.max_log_temperature) == (math.inf, math.inf)
    assert not s.timeout_is_terminal
    assert (s.actor_width, s.actor_depth, s.critic_width, s.critic_depth) == (400, 3, 400, 3)
    assert s.multi_head
    d = D2RSettings()
    assert (d.temperature_learning_rate, d.reward_scale, d.max_log_temperature) == (1e-4, 0.1, 0)
    assert (d.update_order, d.task_weighting) == ("simultaneous", "temperature")
    assert (d.clip_critics, d.gradient_clip, d.task_loss_threshold) == ("separately", 1.0, 3e3)
    assert (d.modules, d.top_k, d.base_depth, d.resrouting) == (16, 2, 2, True)
    assert (round(d.module_ratio * 400), round(d.router_ratio * 400)) == (128, 256)
    m = MEGASettings()
    assert (m.gene_bits, m.population, m.first_stage, m.modules) == (2, 4, 3, 16)
    assert (m.crossover_rate, m.mutation_rate, m.cross_population_rate) == (0.5, 0.15, 0.1)
    assert (m.abandon_rate, m.mutation_bits, m.episodes_per_individual) == (0.25, 0.02, 5)
    assert (m.window, m.success_threshold, m.improvement_threshold) == (10, 0.8, 0.02)
    assert (m.decoding, m.growth, m.fitness) == ("halfsoftmax", "reinitialise", "return")
    assert (m.train_genotype, m.append_task_id, m.evolution) == ("uniform", False, True)
