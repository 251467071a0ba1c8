"""The hand-written operators against the plain code beside them, however they are called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp, vmap

from algorithms.algorithm import Problem
from algorithms.d2r import D2R, D2RSettings
from algorithms.modules import native, stack
from algorithms.modules.native import library
from algorithms.modules.routes import NONE, Routes, choose
from algorithms.modules.routing import RoutedNetwork, as_flat, as_table, largest, trust
from algorithms.modules.stack import ModuleStack
from algorithms.modules.stack_operator import chunk_rows, module_stack
from algorithms.parts.layers import uniform
from algorithms.parts.network import Network

ROOT = Path(__file__).parents[2]
T, IN = 3, 5
# Rows and units: less than a chunk and a vector, and several with a remainder.
SIZES = [(3, 4), (19, 83)]
TYPES = [torch.float32, torch.float64]

pytestmark = pytest.mark.skipif(
    not shutil.which("gcc"), reason="there is no C compiler: install gcc"
)


@pytest.fixture(autouse=True)
def by_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few modules there are."""
    monkeypatch.setattr(stack, "FEWEST_MODULES", 2)


@pytest.fixture
def no_library() -> Iterator[None]:
    """Nothing is compiled yet, nor kept."""
    library.cache_clear()
    yield
    library.cache_clear()


def random_stack(n: int, units: int, dtype: torch.dtype) -> ModuleStack:
    """Weights large enough for every ReLU to be on for some samples and off for others."""
    torch.manual_seed(n)
    return ModuleStack(IN, n, units, uniform(2 / units**0.5), uniform(0.5)).to(dtype)


def agree(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    """Values and gradients, as close as their type is."""
    fuzzy: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4} if ours.dtype == torch.float32 else {}
    torch.testing.assert_close(ours, theirs, **fuzzy)
    probe = torch.randn_like(ours)
    got, wanted = (
        torch.autograd.grad((x * probe).sum(), leaves, allow_unused=True, materialize_grads=True)
        for x in (ours, theirs)
    )
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, **fuzzy)


# Stacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (5, 2), (6, 3)])
@pytest.mark.parametrize("share", [None, 1.0, 0.5, 0.0])
@pytest.mark.parametrize(("samples", "units"), SIZES)
def test_routes_do_what_their_table_does(
    dtype: torch.dtype, n: int, k: int, share: float | None, samples: int, units: int
) -> None:
    ours = random_stack(n, units, dtype)
    x = torch.randn(T, samples, IN, dtype=dtype, requires_grad=True)
    flat = torch.randn(T, samples, n * (n + 1) // 2, dtype=dtype, requires_grad=True)
    routes = choose(flat, torch.randn_like(flat), k, trusts=False)
    table = torch.softmax(as_table(flat).masked_fill(~routes.chosen(), -torch.inf), -1)
    dense = None
    if share is not None:
        dense = (torch.rand_like(table) < share).to(dtype)
        at = routes.sources.long().clamp(max=n - 1)
        routes = routes._replace(trusted=dense.gather(-1, at).to(torch.uint8))
    theirs = ours.plain(torch.relu(ours.first(x)), table, dense)
    agree(ours(x, routes), theirs, [x, flat, *ours.parameters()])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stages", [(6, 6, 6), (3, 1, 6), (2, 4, 3), (1, 1, 1), None])
@pytest.mark.parametrize(("samples", "units"), SIZES)
def test_tables_up_to_a_tasks_stage(
    dtype: torch.dtype, threads: int, stages: tuple[int, ...] | None, samples: int, units: int
) -> None:
    """Also after a pass that left what is no number in memory."""
    n, ours = 6, random_stack(6, units, dtype)
    table = torch.rand(T, samples if stages is None else 1, n, n, dtype=dtype).tril()
    for row, stage in zip(table, stages or (), strict=False):
        row[:, :, stage:] = 0  # slots between still mix, for modules that nothing reads
        row[:, stage - 1 : -1] *= stage % 2
    x = torch.randn(T, samples, IN, dtype=dtype, requires_grad=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.autograd.grad(ours(x, torch.full_like(table, torch.nan)).sum(), x)
        theirs = ours.plain(torch.relu(ours.first(x)), table, None)
        agree(ours(x, table), theirs, [x, *ours.parameters()])
        ours.requires_grad_(False)
        agree(ours(x, table), ours.plain(torch.relu(ours.first(x)), table, None), [x])
    finally:
        torch.set_num_threads(before)


def test_each_copy_has_tables_of_its_own() -> None:
    """Of other stages: where one copy's task ends, another's goes on."""
    n, ours = 5, random_stack(5, 4, torch.float64)
    own = {k: torch.randn(2, *w.shape, dtype=w.dtype) for k, w in ours.named_parameters()}
    table = torch.rand(2, T, 1, n, n, dtype=torch.float64).tril()
    for row, stage in zip(table.flatten(0, 1), (5, 1, 2, 1, 5, 3), strict=True):
        row[..., stage:] = 0
    x = torch.randn(T, 7, IN, dtype=torch.float64)

    def value(weights: dict[str, Tensor], table: Tensor) -> Tensor:
        return functional_call(ours, weights, (x, table)).square().sum()

    found = vmap(grad(value))(own, table)
    for copy in range(2):
        leaves = {k: w[copy].clone().requires_grad_() for k, w in own.items()}
        learning = table[copy].clone().requires_grad_()  # which is plain
        expected = torch.autograd.grad(value(leaves, learning), list(leaves.values()))
        for (name, got), wanted in zip(found.items(), expected, strict=True):
            torch.testing.assert_close(got[copy], wanted, msg=lambda m, k=name: f"{k}: {m}")


def test_not_a_number_is_handed_on() -> None:
    ours = random_stack(3, 4, torch.float32)
    with torch.no_grad():
        ours.later[0].bias[0] = torch.nan
    assert ours(torch.zeros(T, 2, IN), torch.rand(T, 1, 3, 3).tril()).isnan().any()


def test_passes_repeat_to_the_bit_whichever_thread_takes_a_chunk() -> None:
    """Rows of 9 units stand askew in memory, where products round otherwise."""
    ours, table = random_stack(4, 9, torch.float32), torch.rand(1, 1, 4, 4).tril()
    x = torch.randn(1, 401, IN, requires_grad=True)
    torch.set_num_threads(2)
    try:
        results = []
        for _ in range(100):
            y = ours(x, table)
            results.append([y, *torch.autograd.grad(y.sum(), [x, *ours.parameters()])])
    finally:
        torch.set_num_threads(1)
    for result in results:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


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


def test_what_c_would_misread_is_refused() -> None:
    first, weight, bias = torch.rand(T, 2, 4), torch.rand(2, 4, 4), torch.rand(2, 4)
    table = torch.rand(T, 1, 3, 3)
    with pytest.raises(TypeError, match=r"differ in type: .*float64"):
        module_stack(first, weight.double(), bias, table)
    with pytest.raises(ValueError, match="does not learn"):
        grad(lambda own: module_stack(first, weight, bias, own).sum())(table)
    for wrong in (torch.rand(T, 5, 3, 3), torch.rand(1, 1, 3, 3)):
        with pytest.raises(ValueError, match="does not fit rows"):
            module_stack(first, weight, bias, wrong)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        grad(lambda w: grad(lambda v: module_stack(first, v, bias, table).sum())(w).sum())(weight)


def test_a_table_that_learns_is_plain() -> None:
    table = torch.rand(T, 2, 3, 3).tril().requires_grad_()
    random_stack(3, 4, torch.float32)(torch.randn(T, 2, IN), table).sum().backward()
    assert table.grad is not None


# Routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (5, 2), (17, 4)])
@pytest.mark.parametrize("how", ["greedy", "sampled", "stored", "equal"])
def test_routes_are_the_largest_scores(dtype: torch.dtype, n: int, k: int, how: str) -> None:
    torch.manual_seed(n)
    flat = torch.randn(2, 7, n * (n + 1) // 2, dtype=dtype, requires_grad=True)
    score = flat.detach() if how == "greedy" else torch.randn_like(flat)
    if how == "stored":
        chosen = largest(as_table(score), k)
        score = torch.zeros_like(flat).masked_fill(~as_flat(chosen), -torch.inf)
    elif how == "equal":
        score = score.round()
    ours, logits = choose(flat, score, k, trusts=True), as_table(flat)
    chosen = largest(as_table(score), k)
    assert torch.equal(ours.chosen(), chosen)
    real = ours.sources != NONE
    at = ours.sources.long().clamp(max=n - 1)
    assert torch.equal(at, torch.where(real, at.sort(-1).values, at)), "ascending"
    table = torch.softmax(logits.masked_fill(~chosen, -torch.inf), -1)
    agree(ours.weights * real, table.gather(-1, at) * real, [flat])
    assert ours.trusted is not None
    assert torch.equal(ours.trusted.bool(), trust(logits).gather(-1, at) & real)


def test_logits_that_are_no_number_are_chosen_and_show() -> None:
    flat = torch.zeros(1, 1, 6)
    flat[..., 4] = torch.nan
    routes = choose(flat, flat, 1, trusts=True)
    assert routes.sources[0, 0].flatten().tolist() == [0, 0, 1]
    assert routes.weights[0, 0].flatten().isnan().tolist() == [False, False, True]


# The network ---------------------------------------------------------------------------------


def critics() -> tuple[Network, dict[str, Tensor], Tensor]:
    """Two copies of a critic, their weights [2, ...] and inputs for four tasks."""
    torch.manual_seed(0)
    s = D2RSettings(modules=5)
    network = Network(lambda: RoutedNetwork(4, IN, 1, 25, s), torch.device("cpu"), copies=2)
    weights = network.views(network.fresh())
    return network, {k: w.double() for k, w in weights.items()}, torch.randn(4, 6, IN).double()


def loss(network: Network, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """[C, T], each copy's and task's."""
    return network(weights, x)[0].square().mean((-2, -1))


def gradients(network: Network, weights: dict[str, Tensor], x: Tensor) -> list[dict[str, Tensor]]:
    """Of the mean; of each task's loss by slices of a batch; and by passes back, task by task."""

    def of(own: dict[str, Tensor]) -> Tensor:
        return loss(network, own, x)

    losses, pull = vjp(of, weights)
    mean = pull(torch.ones_like(losses))[0]
    one_hot = torch.eye(4, dtype=x.dtype)[:, None].expand(4, 2, 4)
    by_passes = vmap(pull)(one_hot)[0]

    def of_task(embedding: Tensor, x: Tensor) -> dict[str, Tensor]:
        shared = {**weights, "embedding": embedding[:, None]}
        return grad(lambda own: loss(network, own, x[None]).sum())(shared)

    by_slices = vmap(of_task)(weights["embedding"].movedim(1, 0), x)
    return [mean, by_passes, by_slices]


def test_transforms_and_compiled_code_do_what_plain_code_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mapped over copies, differentiated, and mapped over tasks before or after that."""
    network, weights, x = critics()
    eager = gradients(network, weights, x)
    ModuleStack.before_compiling()
    # All of the compiler but its C++, which would take a minute.
    whole = torch.compile(gradients, fullgraph=True, dynamic=False, backend="aot_eager")
    compiled = whole(network, weights, x)
    monkeypatch.setattr(stack, "FEWEST_MODULES", 99)
    plain = gradients(network, weights, x)
    torch.testing.assert_close(eager, plain)
    torch.testing.assert_close(compiled, plain)


def test_whoever_looks_at_units_sees_the_plain_code() -> None:
    network, weights, x = critics()
    with network.recorded(4, 6) as record:
        shown = network(weights, x)[0]
    assert sum("stack" in name for name in record.of(1, "critic")) == 5
    torch.testing.assert_close(shown, network(weights, x)[0])


def test_the_operators_are_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all of the above compares plain code with itself."""
    calls: list[Routes | Tensor] = []

    def counted(*given: Any) -> Tensor:
        calls.append(given[-1])
        return module_stack(*given)

    monkeypatch.setattr(stack, "module_stack", counted)
    network, weights, x = critics()
    network(weights, x)
    assert isinstance(calls[0], Routes)
    random_stack(3, 4, torch.float32)(torch.randn(T, 2, IN), torch.rand(T, 1, 3, 3))
    assert isinstance(calls[1], Tensor)
    assert len(calls) == 2
    monkeypatch.setattr(stack, "FEWEST_MODULES", 6)
    network(weights, x)
    assert len(calls) == 2, "five modules are too few"


# The compiler --------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("compiler", [None, "/bin/false"])
def test_without_a_compiler_torch_does_it_with_one_warning(
    compiler: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, x, table = (
        random_stack(4, 9, torch.float32),
        torch.randn(T, 2, IN),
        torch.rand(T, 1, 4, 4),
    )
    expected = ours(x, table)
    large = D2R(D2RSettings(modules=8, actor_width=16, critic_width=16), Problem(("a", "b")))
    assert large.kernels == "C"
    library.cache_clear()
    capsys.readouterr()
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    for _ in range(2):
        torch.testing.assert_close(ours(x, table), expected)
        assert not ours.takes_routes(x, 2)
        assert large.kernels == "torch"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: modules run without compiled C")
    assert ("install gcc" if compiler is None else "/bin/false: no reason given") in line


def test_on_other_devices_stacks_are_plain() -> None:
    assert not native.has_operators("cuda", torch.float32)
    assert not native.has_operators("cpu", torch.bfloat16)


SCRIPT = "import torch; from algorithms.modules.native import library; library(torch.float32)"


def test_a_compilation_that_is_killed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in the system's temporary folder, and in the user's cache until the next start."""
    for name in ("bin", "cache", "temporary"):
        (tmp_path / name).mkdir()
    gcc = tmp_path / "bin" / "gcc"
    gcc.write_text('#!/bin/sh\ntouch "$TMPDIR/half.s"; echo here > "$0.began"; exec sleep 60\n')
    gcc.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{gcc.parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
    try:
        while not Path(f"{gcc}.began").exists():
            assert run.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(run.pid, 9)
        run.wait()
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = native.workplace()
    assert place is not None and len(list(place.rglob("half.s"))) == 1
    monkeypatch.setattr(native, "ABANDONED", -1.0)
    assert native.workplace() == place and not list(place.iterdir())


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mtscale").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.workplace() is None
    assert native.compiled("gcc", "float").forward
