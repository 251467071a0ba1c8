"""Plain modules as functions of flat weight vectors, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from algorithms.parts.layers import MLP
from algorithms.parts.network import ALIGNMENT, Network

T, B = 3, 4
CPU = torch.device("cpu")


class Odd(nn.Module):
    """Sizes that fit no alignment, a scalar, a buffer, and a weight that is not trained."""

    per_task = ("task",)
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3, bias=False))
        self.task = nn.Parameter(torch.randn(T, 1, 5))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.Parameter(torch.full((3,), 0.25), requires_grad=False)
        self.register_buffer("offset", torch.full((3,), 0.5))

    def forward(self, x: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        result: Tensor = self.scale * self.layers(x + self.task) + self.offset + self.frozen
        return result + shift


def module_with(network: Network, vector: Tensor) -> nn.Module:
    """A module of its own with these weights."""
    module = Odd()
    module.load_state_dict(network.views(vector), strict=False)
    return module


def test_views_are_the_parameters_in_place() -> None:
    network = Network(Odd, CPU, copies=2)
    vector = network.fresh()
    views = network.views(vector)
    assert list(views) == ["task", "scale", "layers.0.weight", "layers.0.bias", "layers.2.weight"]
    assert views["layers.0.weight"].shape == (2, 7, 5)
    assert views["scale"].shape == (2,)
    views["layers.0.bias"][1] = 9.0
    assert (vector == 9).sum() == 7, "a view, not a copy"
    assert torch.equal(network.flat(views, 1), vector)
    assert all(entry.start % ALIGNMENT == 0 for entry in network.layout)
    assert network.count == 2 * sum(p.numel() for p in Odd().parameters() if p.requires_grad)
    assert network.per_task == {"task"}


def test_a_call_is_the_module_with_these_weights() -> None:
    network, x = Network(Odd, CPU), torch.randn(T, B, 5)
    vector = network.fresh()
    torch.testing.assert_close(network(network.views(vector), x), module_with(network, vector)(x))


@pytest.mark.parametrize("apart", [False, True])
def test_copies_are_modules_of_their_own(apart: bool) -> None:
    network, x = Network(Odd, CPU, copies=3), torch.randn(T, B, 5)
    vector = network.fresh().requires_grad_()
    shift = torch.randn(3, T, B, 3) if apart else torch.randn(T, B, 3)
    output = network(network.views(vector), x, shift, apart=(1,) if apart else ())
    modules = [module_with(network, own.detach()) for own in vector]
    assert not torch.equal(vector[0], vector[1]), "copies must start apart"
    expected = [m(x, shift[i] if apart else shift) for i, m in enumerate(modules)]
    torch.testing.assert_close(output, torch.stack(expected))
    (gradient,) = torch.autograd.grad(output.square().sum(), vector)
    for own, result, module in zip(gradient, expected, modules, strict=True):
        names = [e.name for e in network.layout]
        wanted = torch.autograd.grad(
            result.square().sum(), [module.get_parameter(n) for n in names]
        )
        torch.testing.assert_close(own, network.flat(dict(zip(names, wanted, strict=True))))
    with network.recorded(T, B):  # one by one, for whoever looks on
        torch.testing.assert_close(
            network(network.views(vector), x, shift, apart=(1,) if apart else ()), output
        )


def test_fresh_weights_are_those_of_the_modules_own_initialisation() -> None:
    network = Network(lambda: MLP(T, 5, 2, 8, 2, True, 1e-3), CPU, copies=2)
    torch.manual_seed(3)
    vector = network.fresh()
    torch.manual_seed(3)
    for copy in range(2):
        built = dict(MLP(T, 5, 2, 8, 2, True, 1e-3).named_parameters())
        for name, view in network.views(vector).items():
            assert torch.equal(view[copy], built[name]), name


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), "1 is a BatchNorm1d, which"),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)), "1 is a Dropout, which draws"),
        (lambda: nn.Sequential(nn.AlphaDropout(0.5)), "0 is a AlphaDropout, which draws"),
        (lambda: nn.BatchNorm2d(3), "the network is a BatchNorm2d.*use nn.LayerNorm"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "0.weight has no shape yet"),
        (lambda: nn.Linear(3, 3).double(), "weight is torch.float64; weights are torch.float32"),
        (lambda: nn.Linear(3, 3).bfloat16(), "weight is torch.bfloat16"),
    ],
)
def test_what_cannot_be_trained_rightly_is_refused(
    build: Callable[[], nn.Module], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        Network(build, CPU)


def test_dropout_of_nothing_is_fine() -> None:
    assert Network(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0)), CPU).count == 12


def test_a_layer_of_two_networks_is_refused() -> None:
    """It would be trained twice, apart, and saved once."""
    shared = nn.Linear(3, 3)
    Network(lambda: nn.Sequential(shared, nn.ReLU()), CPU)
    with pytest.raises(ValueError, match=r"0\.weight is another network's, too; build every layer"):
        Network(lambda: nn.Sequential(shared, nn.Tanh()), CPU)
