"""The hand-written backward pass against autograd, and the path search against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from algorithms.module_stack import ModuleStack, _RoutedStack, modules_in_use, slot_index
from algorithms.networks import uniform
from algorithms.wiring import Routes, wire

T, B, H, IN = 2, 3, 4, 5


def random_table(n: int, rows: int, samples: int, random: torch.Generator) -> Tensor:
    """Mixing weights that sum to 1 over each slot's sources, [n, n, rows, samples]."""
    draws = torch.rand(n, n, rows, samples, generator=random, dtype=torch.float64)
    draws = draws * torch.ones(n, n).tril()[:, :, None, None]
    return draws / draws.sum(1, keepdim=True)


def random_stack(members: int, n: int, random: torch.Generator) -> ModuleStack:
    """Weights large enough for every ReLU to be on for some samples and off for others."""
    return ModuleStack(members, IN, n, H, uniform(random, 1.0), uniform(random, 0.5)).double()


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("per_sample", [True, False], ids=["per-sample", "per-task"])
@pytest.mark.parametrize("trust", ["none", "all", "some", "nobody"])
def test_values_and_gradients_are_those_of_autograd(
    n: int, members: int, per_sample: bool, trust: str, reference_stack: Callable[..., Tensor]
) -> None:
    random = torch.Generator().manual_seed(n)
    stack = random_stack(members, n, random)
    samples = B if per_sample else 1
    table = random_table(n, members * T, samples, random).requires_grad_()
    draw = torch.rand(table.shape, generator=random, dtype=torch.float64)
    share = {"all": 1.0, "some": 0.5, "nobody": 0.0}.get(trust)
    trusted = None if share is None else (draw < share).double()
    x = torch.randn(members, T, B, IN, generator=random, dtype=torch.float64, requires_grad=True)

    actual = stack(x, table, trusted)
    first = torch.stack(
        [torch.relu(x[m] @ stack.first.weight[m] + stack.first.bias[m]) for m in range(members)]
    )
    expected = reference_stack(first.flatten(0, 1), stack.weight, stack.bias, table, trusted)
    torch.testing.assert_close(actual.flatten(0, 1), expected)

    probe = torch.randn(actual.shape, generator=random, dtype=torch.float64)
    leaves = [x, table, *stack.parameters()]
    got = torch.autograd.grad((actual * probe).sum(), leaves)
    wanted = torch.autograd.grad(
        (expected.view(probe.shape) * probe).sum(),
        leaves,
        allow_unused=True,
        materialize_grads=True,
    )
    for name, a, b in zip(
        ("x", "table", *dict(stack.named_parameters())), got, wanted, strict=True
    ):
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")


def random_routes(
    n: int, rows: int, top_k: int, random: torch.Generator, trusted_share: float | None
) -> tuple[Routes, Tensor, Tensor | None]:
    """Routes, and the dense table and trust that say the same; gradients flow from the table."""
    draws = torch.rand(n, n, rows, B, generator=random, dtype=torch.float64)
    draws = draws.masked_fill(~torch.ones(n, n).tril().bool()[:, :, None, None], -1)
    sources = draws.topk(min(top_k, n), dim=1).indices
    real = draws.gather(1, sources) >= 0
    slot = torch.arange(n).view(n, 1, 1, 1)
    weights = torch.rand(sources.shape, generator=random, dtype=torch.float64) * real
    weights = (weights / weights.sum(1, keepdim=True)).requires_grad_()
    sources = sources.minimum(slot)
    table = torch.zeros_like(draws).scatter_add(1, sources, weights)
    trusted = dense = None
    if trusted_share is not None:
        dense = torch.rand(draws.shape, generator=random) < trusted_share
        trusted = dense.gather(1, sources).movedim(1, -1)
        dense = dense.double()
    return Routes(sources.movedim(1, -1), weights.movedim(1, -1), trusted), table, dense


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("share", [None, 1.0, 0.5, 0.0])
def test_routes_do_what_their_table_does(
    n: int, members: int, top_k: int, share: float | None
) -> None:
    random = torch.Generator().manual_seed(10 * n + top_k)
    stack = random_stack(members, n, random)
    routes, table, trusted = random_routes(n, members * T, top_k, random, share)
    x = torch.randn(members, T, B, IN, generator=random, dtype=torch.float64, requires_grad=True)
    dense = table.detach().requires_grad_()
    probe = torch.randn(members, T, B, H, generator=random, dtype=torch.float64)
    results, gradients = [], []
    for wired in ((routes,), (dense, trusted)):
        result = stack(x, *wired)
        results.append(result)
        gradients.append(
            torch.autograd.grad(
                (result * probe).sum(),
                [x, routes.weights if len(wired) == 1 else dense, *stack.parameters()],
                allow_unused=True,
                materialize_grads=True,
            )
        )
        with torch.no_grad():
            assert torch.equal(stack(x, *wired), result)
    torch.testing.assert_close(*results)
    (x_got, got, *others), (x_wanted, wanted, *wanted_others) = gradients
    torch.testing.assert_close(x_got, x_wanted)
    at = wanted.gather(1, routes.sources.movedim(-1, 1)).movedim(1, -1)
    real = routes.weights.detach() > 0
    torch.testing.assert_close(got[real], at[real])
    torch.testing.assert_close(others, wanted_others)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("stages", [(3, 1), (1, 6), (2, 4), (6, 6), (5, 5)])
def test_modules_above_a_tasks_stage_are_left_out_without_a_trace(
    members: int, stages: tuple[int, int], reference_stack: Callable[..., Tensor]
) -> None:
    """Tables as `genetics.decode` makes them; with two members the second has stages swapped."""
    random, n = torch.Generator().manual_seed(0), 6
    stack = random_stack(members, n, random)
    table = torch.zeros(n, n, members * T, 1, dtype=torch.float64)
    for row, stage in enumerate(stages + stages[::-1] if members == 2 else stages):
        part = random_table(stage, 1, 1, random)[..., 0, 0]
        table[: stage - 1, :stage, row, 0] = part[:-1]
        table[-1, :stage, row, 0] = part[-1]
    x = torch.randn(members, T, B, IN, generator=random, dtype=torch.float64, requires_grad=True)
    first = torch.stack(
        [torch.relu(x[m] @ stack.first.weight[m] + stack.first.bias[m]) for m in range(members)]
    )
    expected = reference_stack(first.flatten(0, 1), stack.weight, stack.bias, table, None)
    probe = torch.randn(members, T, B, H, generator=random, dtype=torch.float64)
    wanted = torch.autograd.grad(
        (expected.view(probe.shape) * probe).sum(), [x, *stack.parameters()]
    )
    # Whatever a pass before has left in memory must not leak into the modules that are left out.
    full = random_table(n, members * T, 1, random) * torch.nan
    torch.autograd.grad(stack(x, full).sum(), x)
    for watch in (False, True):
        if watch:
            stack.units.register_forward_hook(lambda module, inputs, output: None)
        actual = stack(x, table)
        torch.testing.assert_close(actual.flatten(0, 1), expected)
        got = torch.autograd.grad((actual * probe).sum(), [x, *stack.parameters()])
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("samples", [1, B])
def test_backward_agrees_with_finite_differences(samples: int) -> None:
    random = torch.Generator().manual_seed(3)
    n, members = 3, 2
    stack = random_stack(members, n, random)
    table = random_table(n, members * T, samples, random).requires_grad_()
    first = torch.rand(members, T, B, H, generator=random, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: _RoutedStack.apply(
            *inputs, wire(inputs[3], None, members, T, skip=True)[0], True, False
        )[0],
        (first, stack.weight, stack.bias, table),
    )


@pytest.mark.parametrize("first_trusted", [True, False])
@pytest.mark.parametrize("second_trusted", [True, False])
def test_resrouting_by_hand(first_trusted: bool, second_trusted: bool) -> None:
    """One unit, two modules: y = a·x + b·(x + wx + c); distrust cuts a·x, or b·wx, from dy/dx."""
    x, w, c, a, b = 2.0, 3.0, 0.5, 0.25, 0.75
    first, weight, bias = (
        torch.tensor(value).view(shape).requires_grad_()
        for value, shape in ((x, (1, 1, 1, 1)), (w, (1, 1, 1, 1)), (c, (1, 1, 1, 1)))
    )
    table = torch.tensor([[1.0, 0.0], [a, b]]).view(2, 2, 1, 1).requires_grad_()
    trusted = torch.tensor([[1.0, 0.0], [float(first_trusted), float(second_trusted)]])
    wiring, _ = wire(table, trusted.view(2, 2, 1, 1), 1, 1, skip=True)
    y = _RoutedStack.apply(first, weight, bias, table, wiring, True, False)[0]
    y.backward()
    assert y.item() == a * x + b * (x + w * x + c)
    assert first.grad.item() == a * first_trusted + b + b * w * second_trusted
    assert weight.grad.item() == b * x * second_trusted
    assert bias.grad.item() == b * second_trusted
    # Mixing weights learn from all sources, trusted or not.
    assert table.grad[1].flatten().tolist() == [x, x + w * x + c]


def test_modules_beyond_the_table_are_idle_and_get_exactly_no_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    stack = random_stack(1, 6, random)
    table = random_table(3, T, 1, random)
    x = torch.randn(T, B, IN, generator=random, dtype=torch.float64)
    result = stack(x, table)
    result.sum().backward()
    for parameter in (stack.weight, stack.bias):
        assert not parameter.grad[:, 2:].any()
        assert parameter.grad[:, :2].any()
    with torch.no_grad():
        stack.weight[:, 2:] = 1e3
    assert torch.equal(stack(x, table), result)


def test_unused_sources_get_exactly_no_gradient() -> None:
    """A table whose head reads module 1 alone trains no other module."""
    random = torch.Generator().manual_seed(0)
    stack = random_stack(1, 4, random)
    table = random_table(4, T, B, random)
    table[3] = torch.tensor([1.0, 0, 0, 0]).view(4, 1, 1)
    stack(torch.randn(T, B, IN, generator=random, dtype=torch.float64), table).sum().backward()
    assert not stack.weight.grad.any()
    assert stack.first.weight.grad.any()


def test_recorded_units_are_the_transforms_of_each_module(
    reference_stack: Callable[..., Tensor],
) -> None:
    random = torch.Generator().manual_seed(0)
    n = 4
    stack = random_stack(1, n, random)
    table = random_table(n, T, B, random)
    x = torch.randn(T, B, IN, generator=random, dtype=torch.float64)
    seen: list[Tensor] = []
    stack.units.register_forward_hook(lambda module, inputs, output: seen.append(output))
    stack(x, table)
    assert seen[0].shape == (n - 1, 1, T, B, H)
    first = torch.relu(x @ stack.first.weight[0] + stack.first.bias[0])
    for j in range(n - 1):
        # The mixture that module j + 2 reads is what a stack cut off there would hand its head.
        z = reference_stack(first, stack.weight, stack.bias, table[: j + 1, : j + 1])
        expected = torch.relu(z @ stack.weight[0, j] + stack.bias[0, j])
        torch.testing.assert_close(seen[0][j, 0], expected)


def test_slots_are_numbered_segment_by_segment() -> None:
    rows, columns = slot_index(3, torch.device("cpu"))
    assert rows.tolist() == [0, 1, 1, 2, 2, 2]
    assert columns.tolist() == [0, 0, 1, 0, 1, 2]


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
    keep = torch.rand(n, n, rows, samples, generator=random) < torch.rand(samples)
    table = random_table(n, rows, samples, random) * keep
    used = modules_in_use(table, 0.01)
    assert used.shape == (rows, samples)
    for row, sample in itertools.product(range(rows), range(samples)):
        expected = used_by_brute_force(table[:, :, row, sample], 0.01)
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
    table = torch.tensor(rows, dtype=torch.float64).view(3, 3, 1, 1)
    before = table.clone()
    assert modules_in_use(table, 0.01).item() == expected
    assert torch.equal(table, before)
