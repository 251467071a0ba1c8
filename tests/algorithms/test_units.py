"""Whatever network a user writes is measured rightly, or refused with a line that says why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from algorithms.algorithm import Algorithm, Batch, NetworkProbe, Problem
from algorithms.parts.units import hidden
from algorithms.sac import MultiTaskSAC, SACSettings

T, B, H = 3, 7, 11
Forward = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    """Two layers and a head, joined by a function that a test gives."""

    def __init__(self, inputs: int, outputs: int, forward: Forward, width: int = H) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)
        self.context = nn.Embedding(T, width)
        self.activation = nn.ReLU()
        self.joined = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(self, x)


class Own(MultiTaskSAC):
    """A stranger's method, whose networks a test gives."""

    Settings = SACSettings

    def __init__(
        self, actor: Callable[[], nn.Module], critic: Callable[[], nn.Module], **fields: Any
    ) -> None:
        self.build_actor, self.build_critic = actor, critic  # type: ignore[method-assign]
        super().__init__(SACSettings(**fields), Problem(tuple(f"task-{i}" for i in range(T)), 2))

    def build_actor(self) -> nn.Module:
        raise NotImplementedError

    def build_critic(self) -> nn.Module:
        raise NotImplementedError


def plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, H), nn.ReLU(), nn.Linear(H, outputs))


def method(
    actor: Callable[[int, int], nn.Module] = plain,
    critic: Callable[[int, int], nn.Module] = plain,
    **fields: Any,
) -> Own:
    return Own(lambda: actor(39, 8), lambda: critic(43, 1), **fields)


def batch() -> Batch:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    actions = torch.tanh(normal(T, B, 4))
    return Batch(normal(T, B, 39), actions, normal(T, B), normal(T, B, 39), torch.zeros(T, B))


def probed(algorithm: Algorithm) -> dict[str, NetworkProbe]:
    algorithm.update(batch())
    return algorithm.probe(batch(), 0)


def of_actor(forward: Forward) -> dict[str, Tensor]:
    """The units of an actor that goes forward like this."""
    return probed(method(lambda i, o: Net(i, o, forward)))["actor"].activations


def relu_reused(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.head(net.activation(net.second(net.activation(net.first(x)))))
    return out


def test_a_module_used_twice_counts_twice_and_in_order() -> None:
    algorithm = method(lambda i, o: Net(i, o, relu_reused))
    units = probed(algorithm)["actor"].activations
    weights = algorithm.networks["actor"].views(algorithm.state["actor"])
    assert list(units) == ["activation", "activation#2"]
    h = torch.relu(
        functional.linear(batch().observations, weights["first.weight"], weights["first.bias"])
    )
    torch.testing.assert_close(units["activation"], h.flatten(0, 1))
    h = torch.relu(functional.linear(h, weights["second.weight"], weights["second.bias"]))
    torch.testing.assert_close(units["activation#2"], h.flatten(0, 1))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": functional.relu,
    "torch.relu": torch.relu,
    "x.relu()": lambda x: x.relu(),
    "x.relu_()": lambda x: x.relu_(),
    "torch.tanh": torch.tanh,
    "F.leaky_relu": functional.leaky_relu,
    "F.silu": functional.silu,
    "F.gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "F.elu": functional.elu,
    "own": lambda x: hidden(torch.sin(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_methods_are_seen(name: str) -> None:
    function = FUNCTIONS[name]
    units = of_actor(lambda net, x: net.head(function(net.second(function(net.first(x))))))  # type: ignore[operator]
    assert len(units) == 2
    for layer, value in units.items():
        assert value.shape == (T * B, H), layer


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU, nn.Softplus, nn.Mish, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.SELU),
        *(nn.LeakyReLU, nn.Hardswish, nn.Hardtanh, nn.Softsign, nn.PReLU),
        partial(nn.ReLU, inplace=True),
    ],
)
def test_torchs_activation_modules_are_seen_once(activation: Callable[[], nn.Module]) -> None:
    def build(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, H), activation(), nn.Linear(H, outputs))

    for name, probe in probed(method(build, build)).items():
        assert list(probe.activations) == ["1"], name
        assert probe.activations["1"].shape == (T * B, H)


def test_one_activation_for_all_networks_counts_where_it_is_used() -> None:
    """As a default argument `activation=nn.ReLU()` is: the actor's loss runs the critics, too."""
    activation = nn.ReLU()

    def build(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, H), activation, nn.Linear(H, outputs))

    algorithm = method(build, build)
    for name, probe in probed(algorithm).items():
        assert list(probe.activations) == ["1"], name
        assert probe.activations["1"].shape == (T * B, H)


def test_what_follows_in_place_does_not_change_what_was_seen() -> None:
    units = of_actor(lambda net, x: net.head(functional.gelu(net.first(x)).mul_(0)))  # type: ignore[operator]
    assert units["gelu"].any()


def test_units_of_the_task_alone_stand_for_all_of_its_samples() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        context = torch.relu(net.context.weight)  # [T, H]
        out: Tensor = net.head(torch.relu(net.first(x)) * context[:, None])
        return out

    algorithm = method(lambda i, o: Net(i, o, forward))
    units = probed(algorithm)["actor"].activations["relu"]
    own = algorithm.networks["actor"].views(algorithm.state["actor"])["context.weight"]
    torch.testing.assert_close(units, torch.relu(own).repeat_interleave(B, 0))


def experts_first(net: Any, x: Tensor) -> Tensor:
    h = torch.stack([net.first(x), 2 * net.first(x)])  # [K, T, B, H]
    out: Tensor = net.head(torch.relu(h).mean(0))
    return out


def experts_last(net: Any, x: Tensor) -> Tensor:
    h = torch.stack([net.first(x), 2 * net.first(x)], 2)  # [T, B, K, H]
    out: Tensor = net.head(torch.relu(h).mean(2))
    return out


def experts_mapped(net: Any, x: Tensor) -> Tensor:
    scales = torch.arange(1.0, 3.0)
    h = torch.vmap(lambda scale: torch.relu(scale * net.first(x)))(scales)
    out: Tensor = net.head(h.mean(0))
    return out


def test_units_of_experts_stand_side_by_side_wherever_their_axis_is() -> None:
    first, *others = (of_actor(f)["relu"] for f in (experts_first, experts_last, experts_mapped))
    assert first.shape == (T * B, 2 * H)
    for other in others:
        torch.testing.assert_close(first, other)
    torch.testing.assert_close(first[:, H:], 2 * first[:, :H])


def test_tasks_and_samples_may_be_flattened() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        out: Tensor = net.head(torch.relu(net.first(x.flatten(0, 1)))).unflatten(0, x.shape[:2])
        return out

    flat, kept = of_actor(forward), of_actor(lambda net, x: net.head(torch.relu(net.first(x))))  # type: ignore[operator]
    torch.testing.assert_close(flat["relu"], kept["relu"])


def by_task(net: Any, x: Tensor) -> Tensor:
    """Task by task, a loop: no axis of tasks is left where the units are."""
    return torch.stack([net.head(torch.relu(net.first(rows))) for rows in x])


def averaged(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.head(torch.relu(net.first(x.mean((0, 1)))))
    return out.expand(*x.shape[:2], -1)


@pytest.mark.parametrize(
    ("forward", "line"),
    [
        (
            lambda net, x: net.head(net.second(net.first(x))),
            "no hidden units are seen in the actor",
        ),
        (
            lambda net, x: net.head(torch.sin(net.first(x))),
            r"x = algorithms.parts.units.hidden\(x\)",
        ),
        (by_task, r"relu have the shape \(7, 11\)"),
        (averaged, r"relu have the shape \(11,\)"),
    ],
    ids=["no activation", "an own one", "task by task", "averaged"],
)
def test_what_cannot_be_measured_is_refused_and_says_what_to_do(
    forward: Forward, line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        of_actor(forward)


def test_gates_are_no_units() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        gate = torch.softmax(net.first(x), -1) * torch.sigmoid(net.second(net.first(x)))
        out: Tensor = net.head(torch.relu(net.first(x)) * gate)
        return out

    assert list(of_actor(forward)) == ["relu"]


def test_a_plain_actors_weights_are_all_of_its_weights() -> None:
    """Pooled norms once took the first output's row for the whole layer."""
    algorithm = method()
    probe = probed(algorithm)["actor"]
    true = sum(float(w.double().square().sum()) for w in probe.weights.values()) ** 0.5
    assert true == pytest.approx(algorithm.state["actor"].double().norm().item(), rel=1e-6)
    shapes = {name: tuple(w.shape) for name, w in probe.weights.items()}
    assert shapes == {"0.weight": (H, 39), "0.bias": (H,), "2.weight": (8, H), "2.bias": (8,)}
    assert {name: tuple(g.shape) for name, g in probe.gradients.items()} == shapes


def normed(inputs: int, outputs: int) -> nn.Module:
    layers = [nn.Linear(inputs, H), nn.LayerNorm(H), nn.Tanh(), nn.Linear(H, outputs)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("critics", [1, 2, 5])
def test_critics_with_layer_norm_are_measured_one_by_one(critics: int) -> None:
    algorithm = method(critic=normed, critics=critics)
    probes = probed(algorithm)
    assert list(probes) == ["actor", *(f"critic_{i}" for i in range(critics))]
    for index in range(critics):
        probe = probes[f"critic_{index}"]
        assert probe.weights["1.weight"].shape == probe.gradients["1.weight"].shape == (H,)
        assert probe.activations["2"].shape == (T * B, H)
        own = algorithm.networks["critic"].views(algorithm.state["critic"][index])
        assert torch.equal(probe.weights["0.weight"], own["0.weight"])
    if critics > 1:
        first, second = (probes[f"critic_{i}"].activations["2"] for i in range(2))
        assert not torch.allclose(first, second), "each critic's own units"


def test_weights_that_are_not_trained_are_not_measured() -> None:
    def build(inputs: int, outputs: int) -> nn.Module:
        net = plain(inputs, outputs)
        net.get_parameter("0.weight").requires_grad_(False)
        return net

    algorithm = method(build)
    assert set(probed(algorithm)["actor"].weights) == {"0.bias", "2.weight", "2.bias"}
    assert algorithm.parameter_counts().actor == H + 8 * H + 8
