"""The learner against multi-task SAC written by hand in plain torch, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_sac import PlainSAC, plain_forward, plain_networks
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch

T, B = 3, 6


def doubled(algorithm: Any) -> Any:
    """In float64, where a step can be compared to many digits."""
    algorithm.state = {name: value.double() for name, value in algorithm.state.items()}
    return algorithm


def transitions(seed: int, dtype: torch.dtype = torch.float64) -> Batch:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=dtype)

    # Rewards of very different size, so that tasks differ in their losses.
    size = torch.tensor([1.0, 3.0, 30.0], dtype=dtype)[:, None]
    timeouts = (torch.rand(T, B, generator=random) < 0.4).to(dtype)
    actions = torch.tanh(normal(T, B, 4))
    return Batch(normal(T, B, 39), actions, normal(T, B).abs() * size, normal(T, B, 39), timeouts)


VARIANTS: dict[str, dict[str, Any]] = {
    "scaling study": {},
    "shared head": {"multi_head": False},
    "critics clipped separately": {"clip_critics": "separately", "gradient_clip": 0.3},
    "tight joint clipping": {"gradient_clip": 0.1},
    "no clipping": {"gradient_clip": 0.0},
    "weighted tasks": {"task_weighting": "temperature"},
    "terminal time limits": {"timeout_is_terminal": True},
    "decayed weights": {"weight_decay": 0.3},
    "five critics, their mean": {"critics": 5, "critic_reduction": "mean"},
    "three critics, the lowest": {"critics": 3},
    "one critic": {"critics": 1},
    "other constants": {
        **{"discount": 0.9, "polyak": 0.1, "reward_scale": 0.1, "initial_temperature": 0.5},
        **{"actor_learning_rate": 1e-2, "critic_learning_rate": 1e-3, "target_entropy": -1.0},
        **{"temperature_learning_rate": 2e-2, "adam_epsilon": 1e-3},
        **{"log_std_min": -0.001, "log_std_max": 0.001},
    },
    "simultaneous": {"update_order": "simultaneous"},
    "simultaneous, shared head": {"update_order": "simultaneous", "multi_head": False},
    "as D2R learns": {
        **{"update_order": "simultaneous", "clip_critics": "separately", "reward_scale": 0.1},
        **{"task_weighting": "temperature", "temperature_clip": 1.0, "max_log_temperature": 0.0},
        **{"adam_epsilon": 1e-8, "temperature_learning_rate": 1e-2, "timeout_is_terminal": True},
    },
    "one task left out": {"update_order": "simultaneous", "task_loss_threshold": 150.0},
    "temperatures by alpha": {"temperature_loss": "alpha"},
    "one temperature for all": {
        **{"shared_temperature": True, "temperature_clip": 3.0, "adam_epsilon": 0.1}
    },
    "no task left": {"update_order": "simultaneous", "task_loss_threshold": -1e9},
    "capped temperatures": {
        **{"max_log_temperature": -0.01, "temperature_clip": 0.5, "target_entropy": 9.0},
        **{"temperature_learning_rate": 1e-2, "initial_temperature": 0.985},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_update_agrees_with_sac_written_by_hand(
    variant: str, build: Callable[..., Algorithm]
) -> None:
    algorithm = doubled(build("mtsac", actor_width=12, critic_width=10, **VARIANTS[variant]))
    # Temperatures, critics and targets apart, so that no mix-up cancels out.
    algorithm.state["log_temperature"] += torch.tensor([0.0, -0.5, 0.3])
    for name in ("critic.target", "actor"):
        vector = algorithm.state[name]
        draws = torch.Generator().manual_seed(len(name))
        moved = 0.05 * torch.randn(vector.shape, generator=draws, dtype=torch.float64)
        vector += moved * (vector != 0)
    plain = PlainSAC(algorithm)
    for step in range(4):
        batch = transitions(step)
        algorithm.update(batch)
        plain.update(batch)
    pairs = {
        "actor": (plain_networks(algorithm, "actor"), [plain.actor]),
        "critic": (plain_networks(algorithm, "critic"), plain.critics),
        "target": (plain_networks(algorithm, "critic.target"), plain.targets),
        "temperature": ([[algorithm.state["log_temperature"]]], [[plain.log_alpha]]),
    }
    for name, (got, wanted) in pairs.items():
        torch.testing.assert_close(
            got, [[x.detach() for x in one] for one in wanted],
            rtol=1e-8, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}",
        )  # fmt: skip


def test_the_variants_of_the_reference_test_all_differ(build: Callable[..., Algorithm]) -> None:
    """A setting that changed nothing would be compared with nothing."""
    seen: list[Tensor] = []
    for fields in VARIANTS.values():
        algorithm: Any = doubled(build("mtsac", actor_width=12, critic_width=10, **fields))
        for step in range(4):
            algorithm.update(transitions(step))
        names = ("actor", "critic", "log_temperature")
        state = torch.cat([algorithm.state[name].flatten() for name in names])
        assert not any(torch.equal(state, other) for other in seen)
        seen.append(state)


@pytest.mark.parametrize("order", ["critic_first", "simultaneous"])
def test_metrics_are_those_of_the_losses_written_by_hand(
    order: str, build: Callable[..., Algorithm]
) -> None:
    algorithm = doubled(build("mtsac", update_order=order))
    plain, batch = PlainSAC(algorithm), transitions(0)
    metrics = algorithm.update(batch)
    plain.draw(batch.actions.shape)
    x = torch.cat([batch.observations, batch.actions], -1)
    values = torch.stack([plain_forward(c, x)[0][..., 0] for c in plain.critics])
    critic = plain.critic_losses(batch)

    def norm(loss: Tensor, parameters: list[Tensor]) -> Tensor:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        return torch.cat([g.flatten() for g in gradients]).norm()

    critic_norm = norm(critic.mean(), plain.all_critics)
    if order == "critic_first":
        plain.step_critics(critic)
    actor, log_density = plain.actor_losses(batch)
    expected = {
        "critic_loss": critic.mean(0),
        "value": values.mean((0, 2)),
        "critic_gradient_norm": critic_norm,
        "actor_gradient_norm": norm(actor.mean(), plain.actor),
        "actor_loss": actor,
        "entropy": -log_density,
        "temperature": torch.ones(T, dtype=torch.float64),
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value.detach(), msg=lambda m, n=name: f"{n}: {m}")


def test_probe_shows_the_units_and_gradients_of_the_networks_own_losses(
    build: Callable[..., Algorithm],
) -> None:
    algorithm = doubled(build("mtsac"))
    plain, batch = PlainSAC(algorithm), transitions(0)
    plain.draw_for_probe(batch.actions.shape, 77)
    probes = algorithm.probe(batch, 77)
    assert list(probes) == ["actor", "critic_0", "critic_1"]
    critic_losses = plain.critic_losses(batch)
    actor_losses, _ = plain.actor_losses(batch)
    x = torch.cat([batch.observations, batch.actions], -1)
    for name, layers, inputs, loss in (
        ("actor", plain.actor, batch.observations, actor_losses.mean()),
        ("critic_0", plain.critics[0], x, critic_losses[0].mean()),
        ("critic_1", plain.critics[1], x, critic_losses[1].mean()),
    ):
        probe = probes[name]
        hidden = plain_forward(layers, inputs)[1]
        assert list(probe.activations) == ["layers.1", "layers.3", "layers.5"]
        for got, wanted in zip(probe.activations.values(), hidden, strict=True):
            torch.testing.assert_close(got, wanted.detach().flatten(0, 1))
        weight, head = torch.autograd.grad(loss, [layers[2], layers[-2]], retain_graph=True)
        torch.testing.assert_close(probe.gradients["layers.2.weight"], weight)
        torch.testing.assert_close(probe.gradients["head.weight"].transpose(-1, -2), head)
        torch.testing.assert_close(probe.weights["layers.2.weight"], layers[2].detach())


@pytest.mark.parametrize("temperature_loss", ["log_alpha", "alpha"])
@pytest.mark.parametrize(("factor", "left_out"), [(0.9999, True), (1.0001, False)])
def test_the_threshold_is_on_the_weighted_sum_of_a_tasks_losses(
    factor: float, left_out: bool, temperature_loss: str, build: Callable[..., Algorithm]
) -> None:
    def make(threshold: float) -> Any:
        fields = {"update_order": "simultaneous", "task_weighting": "temperature"}
        fields["temperature_loss"] = temperature_loss
        algorithm = doubled(build("mtsac", task_loss_threshold=threshold, **fields))
        algorithm.state["log_temperature"] += torch.tensor([0.5, -1.0, 0.2])
        return algorithm

    # By hand: both critics' and the actor's loss, weighted, and the temperature's, unweighted.
    batch, plain = transitions(0), PlainSAC(make(math.inf))
    plain.draw(batch.actions.shape)
    critic, (actor, log_density) = plain.critic_losses(batch), plain.actor_losses(batch)
    inverse = (-plain.log_alpha).exp()
    weight = 3 * inverse / inverse.sum()
    scale = plain.log_alpha if temperature_loss == "log_alpha" else plain.log_alpha.exp()
    total = weight * (critic.sum(0) + actor) - scale * (log_density - 4)
    algorithm = make(factor * total[1].item())
    before = {name: value.clone() for name, value in algorithm.state.items()}
    algorithm.update(batch)
    for name in ("actor", "critic"):
        moved = algorithm.networks[name].views(algorithm.state[name] - before[name])["head.weight"]
        assert moved[..., 1, :, :].any() != left_out, name
    assert (algorithm.state["log_temperature"] != before["log_temperature"])[1] != left_out
