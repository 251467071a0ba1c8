"""The module stack against plain autograd, and the path search against brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from plain_stack import plain_stack
from torch import Tensor

from algorithms.modules.stack import ModuleStack, modules_in_use
from algorithms.parts.layers import uniform

T, B, H, IN = 2, 3, 4, 5


def random_table(n: int, tasks: int, samples: int, random: torch.Generator) -> Tensor:
    """Mixing weights that sum to 1 over each slot's sources, [T, B, n, n]."""
    draws = torch.rand(tasks, samples, n, n, generator=random, dtype=torch.float64)
    draws = draws * torch.ones(n, n).tril()
    return draws / draws.sum(-1, keepdim=True)


def random_stack(n: int) -> ModuleStack:
    """Weights large enough for every ReLU to be on for some samples and off for others."""
    torch.manual_seed(n)
    return ModuleStack(IN, n, H, uniform(1.0), uniform(0.5)).double()


def agree(stack: ModuleStack, x: Tensor, table: Tensor, trusted: Tensor | None = None) -> None:
    """Values and all gradients are the reference's."""
    actual, expected = stack(x, table, trusted), plain_stack(stack, x, table, trusted)
    torch.testing.assert_close(actual, expected)
    probe = torch.randn_like(actual)
    leaves = {"x": x, "table": table, **dict(stack.named_parameters())}
    got, wanted = (
        torch.autograd.grad(
            (result * probe).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        for result in (actual, expected)
    )
    for name, a, b in zip(leaves, got, wanted, strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("trust", ["none", "all", "some", "nobody"])
def test_values_and_gradients_are_those_of_autograd(n: int, trust: str) -> None:
    random = torch.Generator().manual_seed(n)
    table = random_table(n, T, B, random).requires_grad_()
    draw = torch.rand(table.shape, generator=random, dtype=torch.float64)
    share = {"all": 1.0, "some": 0.5, "nobody": 0.0}.get(trust)
    x = torch.randn(T, B, IN, generator=random, dtype=torch.float64, requires_grad=True)
    agree(random_stack(n), x, table, None if share is None else (draw < share).double())


@pytest.mark.parametrize("stages", [(6, 6), (3, 1), (1, 6), (2, 4), (5, 5)])
def test_one_table_serves_all_samples_of_a_task_up_to_its_stage(stages: tuple[int, int]) -> None:
    """Tables as `genetics.decode` makes them."""
    random, n = torch.Generator().manual_seed(0), 6
    table = torch.zeros(T, 1, n, n, dtype=torch.float64)
    for row, stage in zip(table[:, 0], stages, strict=True):
        part = random_table(stage, 1, 1, random)[0, 0]
        row[: stage - 1, :stage] = part[:-1]
        row[-1, :stage] = part[-1]
    x = torch.randn(T, B, IN, generator=random, dtype=torch.float64, requires_grad=True)
    agree(random_stack(n), x, table.requires_grad_())


def test_not_a_number_is_handed_on() -> None:
    """A run that diverges must be seen to: ReLU keeps what is not a number."""
    stack = random_stack(3)
    with torch.no_grad():
        stack.later[0].bias[0] = torch.nan
    table = random_table(3, T, 1, torch.Generator().manual_seed(0))
    assert stack(torch.zeros(T, B, IN, dtype=torch.float64), table).isnan().any()


@pytest.mark.parametrize("first_trusted", [True, False])
@pytest.mark.parametrize("second_trusted", [True, False])
def test_resrouting_by_hand(first_trusted: bool, second_trusted: bool) -> None:
    """One unit, two modules: y = a·x + b·(x + wx + c); distrust cuts a·x, or b·wx, from dy/dx."""
    x, w, c, a, b = 2.0, 3.0, 0.5, 0.25, 0.75
    stack = ModuleStack(1, 2, 1, uniform(1.0), uniform(1.0))
    with torch.no_grad():
        for parameter, value in zip(stack.parameters(), (1.0, 0.0, w, c), strict=True):
            parameter.fill_(value)
    x_in = torch.full((1, 1, 1), x, requires_grad=True)
    table = torch.tensor([[[[1.0, 0.0], [a, b]]]], requires_grad=True)
    trusted = torch.tensor([[[[1.0, 0.0], [float(first_trusted), float(second_trusted)]]]])
    y = stack(x_in, table, trusted)
    y.backward()
    assert y.item() == a * x + b * (x + w * x + c)
    assert x_in.grad.item() == a * first_trusted + b + b * w * second_trusted
    assert stack.later[0].weight.grad.item() == b * x * second_trusted
    assert stack.later[0].bias.grad.item() == b * second_trusted
    # Mixing weights learn from all sources, trusted or not.
    assert table.grad[0, 0, 1].tolist() == [x, x + w * x + c]


def test_modules_beyond_the_table_are_idle_and_get_no_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    stack, table = random_stack(6), random_table(3, T, B, random)
    x = torch.randn(T, B, IN, generator=random, dtype=torch.float64)
    result = stack(x, table)
    result.sum().backward()
    used = [
        layer.weight.grad is not None and bool(layer.weight.grad.any()) for layer in stack.later
    ]
    assert used == [True, True, False, False, False]
    with torch.no_grad():
        for layer in stack.later[2:]:
            layer.weight.fill_(1e3)
    assert torch.equal(stack(x, table), result)


def test_unused_sources_get_exactly_no_gradient() -> None:
    """A table whose head reads module 1 alone trains no other module."""
    random = torch.Generator().manual_seed(0)
    stack, table = random_stack(4), random_table(4, T, B, random)
    table[..., 3, :] = torch.tensor([1.0, 0, 0, 0])
    stack(torch.randn(T, B, IN, generator=random, dtype=torch.float64), table).sum().backward()
    assert not any(layer.weight.grad.any() for layer in stack.later)
    assert stack.first.weight.grad.any()


def used_by_brute_force(table: Tensor, threshold: float) -> int:
    """Modules on any path to the head, by trying all paths. `table` [n, n] of one sample."""
    n = table.shape[0]
    on_a_path: set[int] = set()
    for length in range(1, n + 1):
        for path in itertools.combinations(range(n), length):
            # Module m reads row m − 1; the head reads row n − 1.
            steps = [table[b - 1, a] for a, b in itertools.pairwise(path)]
            if all(w > threshold for w in [*steps, table[n - 1, path[-1]]]):
                on_a_path |= set(path)
    return len(on_a_path)


def test_modules_in_use_equals_brute_force_path_search() -> None:
    random = torch.Generator().manual_seed(0)
    n, rows, samples = 5, 6, 40
    shares = torch.rand(samples, 1, 1, generator=random)
    keep = torch.rand(rows, samples, n, n, generator=random) < shares
    table = random_table(n, rows, samples, random) * keep
    used = modules_in_use(table, 0.01)
    assert used.shape == (rows, samples)
    for row, sample in itertools.product(range(rows), range(samples)):
        expected = used_by_brute_force(table[row, sample], 0.01)
        assert used[row, sample] == expected, (row, sample)
    assert len(used.unique()) > 3, "the tables must differ for this to mean something"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 3),  # a chain
        ([[1, 0, 0], [0, 1, 0], [1, 0, 0]], 1),  # the head reads module 1 alone
        ([[1, 0, 0], [1, 0, 0], [0, 0, 1]], 2),  # module 3 skips module 2
        # 0.01 itself is not above 0.01, on the way to a module or to the head.
        ([[0.01, 0, 0], [0, 1, 0], [0, 0, 1]], 2),
        ([[0, 0, 0], [0, 1, 0], [0.01, 0, 0.99]], 2),
        ([[1, 0, 0], [0, 0, 0], [0, 0.5, 0.5]], 3),
    ],
)
def test_modules_in_use_on_tables_by_hand(rows: list[list[float]], expected: int) -> None:
    table = torch.tensor(rows, dtype=torch.float64)
    before = table.clone()
    assert modules_in_use(table, 0.01).item() == expected
    assert torch.equal(table, before)
