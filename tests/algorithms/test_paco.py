"""PaCo against its re-implementation, its sizes, and what happens to exploding tasks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracle import Get, Numbers, actions_last, by_task, compare, equal, load, per_task
from torch import Tensor, nn

from algorithms.algorithm import Batch, Problem
from algorithms.paco import ComposedNetwork, PaCo, PaCoSettings, mixture

T, B = 3, 6


def jax(get: Get, data: Numbers, depth: int) -> Numbers:
    """The re-implementation's parameters under our names."""
    ours = {"w.rows": get("task_weights.kernel"), "w.bias": get("task_weights.bias")}
    for i in range(depth):
        kernel = get(f"layer_{i}.kernel")
        ours[f"layers.{i}.weight"] = kernel if i else actions_last(kernel, data)
        ours[f"layers.{i}.bias"] = get(f"layer_{i}.bias")
    return {**ours, "head.weight": get("head.kernel"), "head.bias": get("head.bias")}


@pytest.mark.parametrize(
    ("case", "depth"), [("actor_K2_depth3", 3), ("actor_K3", 2), ("critic_K3", 2)]
)
def test_equals_the_public_network(case: str, depth: int) -> None:
    data = load(f"paco_{case}")
    net = ComposedNetwork(3, 7, 4, 10, depth, 1e-3, PaCoSettings())
    hidden: list[Tensor] = []
    for activation in net.activations:
        activation.register_forward_hook(lambda *call: hidden.append(call[-1]))
    x = compare(net, data, lambda get: jax(get, data, depth))
    assert net.w is not None
    equal(net.w(), per_task(data["mid/task_weights"]))
    hidden.clear()
    net(x)
    for layer, units in enumerate(hidden):
        equal(units, by_task(data[f"mid/layer_{layer}_out"]))


def test_one_set_is_a_plain_network() -> None:
    settings = PaCoSettings(parameter_sets=1, shared_w=True)
    net = ComposedNetwork(T, 7, 4, 10, 2, 1.0, settings)
    plain = nn.Sequential(nn.Linear(7, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU())
    plain.append(nn.Linear(10, 4))
    for layer, ours in zip(plain[::2], [*net.layers, net.head], strict=True):
        layer.weight.data, layer.bias.data = ours.weight[0].T, ours.bias[0]
    x = torch.randn(T, B, 7)
    torch.testing.assert_close(net(x, torch.ones(T, 1)), plain(x))


@pytest.mark.parametrize("identical", [True, False])
def test_identical_sets_leave_the_sum_of_w(identical: bool) -> None:
    net = ComposedNetwork(T, 7, 4, 10, 2, 1.0, PaCoSettings(identical_init=identical))
    x, w = torch.randn(T, B, 7), torch.randn(T, 5)
    first = net.layers[0]
    expected = w.sum(-1)[:, None, None] * (x @ first.weight[0] + first.bias[0])
    assert torch.allclose(first(x, w), expected, atol=1e-5) is identical


@pytest.mark.parametrize(("kind", "norm"), [("softmax", 1), ("normalise", 2)])
def test_activations_of_w(kind: Any, norm: int) -> None:
    settings = PaCoSettings(w_activation=kind, shared_w=True)
    net, seen = ComposedNetwork(T, 7, 4, 10, 2, 1.0, settings), []
    net.head.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    net(torch.randn(T, B, 7), torch.randn(T, 5))
    torch.testing.assert_close(seen[0].norm(p=norm, dim=-1), torch.ones(T))


def batch(scale: Tensor) -> Batch:
    """Made-up transitions with rewards of each task's scale."""
    random = torch.Generator().manual_seed(0)
    observations, following = torch.randn(2, T, B, 39, generator=random)
    actions = torch.rand(T, B, 4, generator=random) * 2 - 1
    rewards = torch.rand(T, B, generator=random) * scale[:, None]
    return Batch(observations, actions, rewards, following, torch.zeros(T, B))


def resetting(**fields: Any) -> PaCo:
    values = {
        **{"actor_width": 8, "critic_width": 8, "update_order": "simultaneous"},
        **{"task_loss_threshold": 3e3, "w_reset": "interpolate", **fields},
    }
    return PaCo(PaCoSettings(**values), Problem(tuple("abc")))


def rows(algorithm: PaCo, name: str) -> Tensor:
    network = algorithm.networks[name.removesuffix(".target")]
    return network.views(algorithm.state[name])["rows" if name == "w" else "w.rows"].clone()


@pytest.mark.parametrize("shared_w", [True, False])
@pytest.mark.parametrize("w_reset", ["interpolate", "copy"])
def test_w_of_an_exploding_task_lies_among_the_others(w_reset: str, shared_w: bool) -> None:
    ordinary, exploding = (
        resetting(w_reset=reset, shared_w=shared_w, identical_init=shared_w)
        for reset in ("none", w_reset)
    )
    for algorithm in (ordinary, exploding):
        algorithm.update(batch(torch.tensor([1.0, 1e4, 1.0])))
    for name in ("w",) if shared_w else ("actor", "critic", "critic.target"):
        before, after = rows(ordinary, name), rows(exploding, name)
        keep = [0, 2]
        torch.testing.assert_close(after[..., keep, :], before[..., keep, :])
        assert not torch.allclose(after[..., 1, :], before[..., 1, :])
        low, high = before[..., keep, :].amin(-2), before[..., keep, :].amax(-2)
        # A target is replaced first and then follows: half a percent of the way.
        slack = 1e-2 if name == "critic.target" else 1e-6
        assert ((after[..., 1, :] >= low - slack) & (after[..., 1, :] <= high + slack)).all()


def test_nothing_is_replaced_where_all_tasks_explode() -> None:
    ordinary, exploding = (resetting(w_reset=reset) for reset in ("none", "interpolate"))
    for algorithm in (ordinary, exploding):
        algorithm.update(batch(torch.full((T,), 1e4)))
    assert torch.equal(rows(ordinary, "actor"), rows(exploding, "actor"))
    assert exploding.state["actor"].isfinite().all()


def test_mixtures_leave_exploding_tasks_out() -> None:
    draws = torch.tensor([[0.9, 0.3, 0.1], [0.2, 0.0, 0.2], [0.0, 0.5, 0.0]])
    share = mixture(draws, torch.tensor([True, False, False]), False)
    expected = torch.tensor([[0, 0.75, 0.25], [0, 0, 1], [0, 1, 0]])
    torch.testing.assert_close(share, expected)
    one = mixture(draws, torch.tensor([True, False, False]), True)
    assert one.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_a_shared_w_takes_one_step_along_both_gradients() -> None:
    algorithm = resetting(shared_w=True, gradient_clip=0.0, clip_critics="separately")
    data = batch(torch.ones(T))
    given = algorithm.given("update", B, torch.Generator().manual_seed(1))
    data = data._replace(extras={**given, "temperature": torch.ones(T)})
    data.extras["target"] = algorithm.target(algorithm.state, data)  # type: ignore[index]
    weights = algorithm.weights(algorithm.state)
    w = weights["w"]["rows"].clone().requires_grad_()
    own = {**weights["w"], "rows": w}
    critic = algorithm.critic_loss({**weights, "w": own}, data)[0].sum(0).mean()
    (from_critics,) = torch.autograd.grad(critic, w)
    (actor,) = torch.autograd.grad(algorithm.actor_loss({**weights, "w": own}, data)[0].mean(), w)
    algorithm.learn(algorithm.state, data)
    moment = algorithm.networks["w"].views(algorithm.state["w.first_moment"])["rows"]
    assert algorithm.state["w.steps"] == 1
    torch.testing.assert_close(moment, 0.1 * (from_critics + actor))


def test_the_policys_loss_does_not_train_the_critics_w() -> None:
    algorithm = resetting(shared_w=True)
    weights = algorithm.weights(algorithm.state)
    w = {k: v.clone().requires_grad_() for k, v in weights["w"].items()}
    inputs = torch.randn(T, B, 43)
    values = {
        phase: algorithm.values({**weights, "w": w}, inputs, phase, {})
        for phase in ("policy", "critic")
    }
    assert not values["policy"].requires_grad and values["critic"].requires_grad


def test_one_set_that_cannot_tell_tasks_apart_is_refused() -> None:
    settings = PaCoSettings(parameter_sets=1, w_activation="softmax")
    with pytest.raises(ValueError, match="or add --w-activation identity"):
        PaCo(settings, Problem(("a", "b")))
    PaCo(settings, Problem(("a",)))


@pytest.mark.parametrize(("start", "bound"), [(10.0, "more than 1, to"), (1e-9, "less than 4.5")])
def test_temperatures_that_begin_outside_their_bounds_are_refused(start: float, bound: str) -> None:
    with pytest.raises(ValueError, match=f"initial_temperature {start:g} is {bound}"):
        PaCoSettings(initial_temperature=start, min_log_temperature=-10.0, max_log_temperature=0.0)


def test_a_reset_needs_a_threshold() -> None:
    with pytest.raises(ValueError, match="w_reset copy needs a threshold"):
        PaCoSettings(w_reset="copy")


def test_log_temperatures_stay_between_their_bounds() -> None:
    algorithm = resetting(min_log_temperature=-10.0, max_log_temperature=0.0)
    algorithm.state["log_temperature"].copy_(torch.tensor([-10.0, -1e-5, -5.0]))
    algorithm.step_temperature(algorithm.state, torch.tensor([1.0, -1.0, 1.0]))
    expected = torch.tensor([-10.0, 0.0, -5.0 - 3e-4])
    torch.testing.assert_close(algorithm.state["log_temperature"], expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="min_log_temperature 1 is more than max_log_temperature"):
        PaCoSettings(min_log_temperature=1.0, max_log_temperature=0.0)


def test_values_are_clipped_in_the_loss_on_both_sides() -> None:
    """As the scaling study's code has it: prediction and target, and no gradient beyond."""
    plain, clipped = (resetting(w_reset="none", value_clip=c) for c in (math.inf, 2.0))
    outputs = torch.tensor([[[[-5.0], [1.0], [7.0]]] * T], requires_grad=True)
    target = torch.tensor([[0.0, 0.0, 1.0]] * T)
    assert plain.critic_error(outputs, target)[0, 0].tolist() == [25, 1, 36]
    found = clipped.critic_error(outputs, target)
    assert found[0, 0].tolist() == [4, 1, 1]
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    assert gradient[0, 0, :, 0].tolist() == [0, 2, 0]
    data = batch(torch.full((T,), 100.0))._replace(extras={"temperature": torch.zeros(T)})
    given = data, torch.zeros(2, T, B, 1), torch.zeros(T, B)
    backed = plain.backup(plain.state, *given)
    assert backed.max() > 2
    torch.testing.assert_close(clipped.backup(clipped.state, *given), backed.clamp(-2, 2))
