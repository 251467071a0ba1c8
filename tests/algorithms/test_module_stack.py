"""The hand-written backward pass against autograd, and the path search against brute force."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable

import pytest
import torch
from algorithms.compiled import gpu_code, library
from algorithms.compiled_routes import Routes
from algorithms.compiled_stack import chunk_rows, compiled_stack
from algorithms.module_stack import ModuleStack, _RoutedStack, modules_in_use, slot_index
from algorithms.networks import uniform
from algorithms.wiring import wire
from torch import Tensor

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


compiles = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no C compiler: install gcc")


def random_routes(
    n: int, rows: int, samples: int, top_k: int, random: torch.Generator, share: float | None
) -> tuple[Routes, Tensor, Tensor | None]:
    """Routes, and the dense table and trust that say the same; gradients flow from the table."""
    draws = torch.rand(n, n, rows, samples, generator=random, dtype=torch.float64)
    draws = draws.masked_fill(~torch.ones(n, n).tril().bool()[:, :, None, None], -1)
    sources = draws.topk(min(top_k, n), dim=1).indices
    real = draws.gather(1, sources) >= 0
    slot = torch.arange(n).view(n, 1, 1, 1)
    weights = torch.rand(sources.shape, generator=random, dtype=torch.float64) * real
    weights = weights / weights.sum(1, keepdim=True)
    sources = sources.minimum(slot)
    table = torch.zeros_like(draws).scatter_add(1, sources, weights)

    def by_row(x: Tensor) -> Tensor:
        return x.permute(2, 3, 0, 1).contiguous()

    trusted = dense = None
    if share is not None:
        dense = torch.rand(draws.shape, generator=random) < share
        trusted = by_row(dense.gather(1, sources)).to(torch.uint8)
        dense = dense.double()
    routes = Routes(by_row(sources).to(torch.uint8), by_row(weights).requires_grad_(), trusted)
    return routes, table, dense


# What there is of rows and units: less than a chunk and a vector, and several with a remainder.
SIZES = [(B, H), (19, 83)]


@compiles
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("share", [None, 1.0, 0.5, 0.0])
@pytest.mark.parametrize(("samples", "units"), SIZES)
def test_routes_do_what_their_table_does(
    n: int, members: int, top_k: int, share: float | None, samples: int, units: int
) -> None:
    random = torch.Generator().manual_seed(10 * n + top_k)
    scale = uniform(random, 2 / units**0.5)
    stack = ModuleStack(members, IN, n, units, scale, uniform(random, 0.5)).double()
    routes, table, trusted = random_routes(n, members * T, samples, top_k, random, share)
    x = torch.randn(members, T, samples, IN, generator=random, dtype=torch.float64)
    x.requires_grad_()
    dense = table.requires_grad_()
    probe = torch.randn(members, T, samples, units, generator=random, dtype=torch.float64)
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
    at = wanted.permute(2, 3, 0, 1).gather(3, routes.sources.long())
    real = routes.weights.detach() > 0
    torch.testing.assert_close(got[real], at[real])
    torch.testing.assert_close(others, wanted_others)


@compiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("samples", "units"), SIZES)
def test_compiled_tables_are_those_of_torch(
    dtype: torch.dtype,
    members: int,
    threads: int,
    samples: int,
    units: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also for one thread and for several, and after a pass that left memory behind."""
    random, n, tasks = torch.Generator().manual_seed(0), 6, 5
    scale = uniform(random, 2 / units**0.5)
    stack = ModuleStack(members, IN, n, units, scale, uniform(random, 0.5)).to(dtype)
    table = random_table(n, members * tasks, 1, random).to(dtype)
    for row in range(members * tasks):  # stages 1 to 6, in no order
        stage = 1 + 7 * row % n
        table[:, stage:, row] = 0  # some slots still mix for modules that nothing reads
        table[stage - 1 : -1, :, row] *= row % 2
    x = torch.randn(members, tasks, samples, IN, generator=random, dtype=dtype, requires_grad=True)
    probe = torch.randn(members, tasks, samples, units, generator=random, dtype=dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.autograd.grad(stack(x, torch.full_like(table, torch.nan)).sum(), x)
        ours = stack(x, table)
        got = torch.autograd.grad((ours * probe).sum(), [x, *stack.parameters()])
        stack.requires_grad_(False)
        (frozen,) = torch.autograd.grad((stack(x, table) * probe).sum(), x)
        stack.requires_grad_(True)
        torch.testing.assert_close(frozen, got[0])
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr("algorithms.module_stack.compilable", lambda *_: False)
    theirs = stack(x, table)
    wanted = torch.autograd.grad((theirs * probe).sum(), [x, *stack.parameters()])
    assert type(ours.grad_fn).__name__ != type(theirs.grad_fn).__name__
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(got, wanted)


@compiles
def test_passes_repeat_to_the_bit_whichever_thread_takes_a_chunk() -> None:
    """Rows of 9 units stand askew in memory, where products round otherwise."""
    random, n, units = torch.Generator().manual_seed(0), 4, 9
    init = uniform(random, 1.0)
    stack, table = ModuleStack(1, IN, n, units, init, init), random_table(n, 1, 1, random).float()
    x = torch.randn(1, 1, 401, IN, generator=random)
    torch.set_num_threads(2)
    try:
        results = [stack(x, table) for _ in range(100)]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(result, results[0]) for result in results)


@compiles
def test_what_c_would_misread_is_refused() -> None:
    stack = random_stack(1, 3, torch.Generator().manual_seed(0))
    x = torch.randn(1, T, B, IN, dtype=torch.float64)
    table = random_table(3, T, 1, torch.Generator().manual_seed(0))
    with pytest.raises(TypeError, match="differ in type"):
        stack(x, table.float())
    units = torch.rand(1, T, B, H, dtype=torch.float64)
    with pytest.raises(ValueError, match="does not learn"):
        compiled_stack(units, stack.weight, stack.bias, table.requires_grad_())


@compiles
def test_not_a_number_is_handed_on() -> None:
    """A run that diverges must be seen to: ReLU keeps what is not a number, as torch's does."""
    stack = random_stack(1, 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        stack.bias[:, 0, 0, 0] = torch.nan
    table = random_table(3, T, 1, torch.Generator().manual_seed(0))
    x = torch.zeros(1, T, B, IN, dtype=torch.float64)
    assert stack(x, table).isnan().any()


@pytest.mark.parametrize(
    ("rows", "row_bytes", "threads", "expected"),
    [
        (1280, 8192, 2, 128),  # five chunks of what a cache holds for each thread
        (2560, 8192, 16, 80),  # two a thread would be 128 and 32
        (401, 180, 2, 208),  # a multiple of 16
        (10, 8192, 2, 16),  # acting: one chunk
        (1280, 1 << 20, 2, 16),  # never fewer, however wide
    ],
)
def test_chunks(rows: int, row_bytes: int, threads: int, expected: int) -> None:
    assert chunk_rows(rows, row_bytes, threads) == expected


@pytest.mark.parametrize("compiler", [None, "/bin/false"])
def test_without_a_compiler_torch_does_it_with_one_warning(
    compiler: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = torch.Generator().manual_seed(0)
    stack, table = random_stack(1, 4, random), random_table(4, T, 1, random)
    x = torch.randn(1, T, B, IN, generator=random, dtype=torch.float64)
    expected = stack(x, table)
    capsys.readouterr()
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    library.cache_clear()
    try:
        for _ in range(2):
            torch.testing.assert_close(stack(x, table), expected)
            assert not stack.takes_routes(x, 2)
    finally:
        library.cache_clear()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: modules run without compiled code")
    assert ("install gcc" if compiler is None else "/bin/false: no reason given") in lines[0]


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_kernels_that_cannot_be_launched_are_left_with_one_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gpu_code.cache_clear()
    assert gpu_code() is None
    assert gpu_code() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: modules run without compiled code, and slower: ")


@pytest.mark.parametrize("samples", [1, B])
def test_backward_agrees_with_finite_differences(samples: int) -> None:
    random = torch.Generator().manual_seed(3)
    n, members = 3, 2
    stack = random_stack(members, n, random)
    table = random_table(n, members * T, samples, random).requires_grad_()
    first = torch.rand(members, T, B, H, generator=random, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: _RoutedStack.apply(*inputs, wire(inputs[3], None, members, T), True, False)[
            0
        ],
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
    wiring = wire(table, trusted.view(2, 2, 1, 1), 1, 1)
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
