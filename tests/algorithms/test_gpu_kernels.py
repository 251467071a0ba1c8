"""The GPU's kernels against the CPU's code: on a GPU, or else in Triton's interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    # Read when a kernel is defined.
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
if not shutil.which("gcc"):
    pytest.skip("there is no C compiler to compare with: install gcc", allow_module_level=True)

from algorithms.compiled_routes import Routes, compiled_routes  # noqa: E402
from algorithms.compiled_stack import compiled_stack  # noqa: E402
from algorithms.gpu_stack import GpuRoutes, gpu_stack, try_out  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

# slots, sources, members, tasks, samples, units: of less than a tile, and of several with a rest
SIZES = [(1, 1, 1, 1, 1, 4), (2, 1, 2, 2, 3, 16), (5, 3, 1, 2, 5, 33), (6, 2, 2, 3, 9, 40)]


def close(ours: Any, theirs: Any) -> None:
    """As close as float32 is; results of the GPU are fetched."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=3e-5, rtol=3e-4)


def on_device(*tensors: Tensor | None) -> list[Any]:
    """Copies that learn where the originals do."""
    return [
        x if x is None else x.detach().to(DEVICE).requires_grad_(x.requires_grad) for x in tensors
    ]


@pytest.mark.parametrize(("n", "k", "members", "tasks", "samples", "units"), SIZES)
@pytest.mark.parametrize(
    ("how", "trusts"), [("greedy", True), ("greedy", False), ("sampled", True), ("given", True)]
)
def test_routes(
    n: int, k: int, members: int, tasks: int, samples: int, units: int, how: str, trusts: bool
) -> None:
    torch.manual_seed(n)
    logits = (torch.randn(members, tasks, samples, n * (n + 1) // 2) * 2).requires_grad_()
    temperature = noise = given = None
    if how == "sampled":
        temperature = torch.rand(members, tasks) + 0.2
        noise = torch.randn(members, tasks, samples, n, n)
    elif how == "given":
        _, given = compiled_routes(torch.randn_like(logits), n, k, needs_trust=False)
    routes, selected = compiled_routes(
        logits, n, k, temperature=temperature, noise=noise, given=given, needs_trust=trusts
    )
    theirs, *rest = on_device(logits, temperature, noise, given)
    weights, sources, trusted, chosen = GpuRoutes.apply(theirs, n, k, *rest, trusts)
    assert torch.equal(chosen.cpu(), selected)
    assert torch.equal(sources.cpu(), routes.sources)
    if routes.trusted is not None:
        real = routes.weights > 0
        assert torch.equal(trusted.cpu()[real], routes.trusted[real])
    probe = torch.randn(weights.shape)
    close([weights], [routes.weights])
    close(
        torch.autograd.grad((weights * probe.to(DEVICE)).sum(), theirs),
        torch.autograd.grad((routes.weights * probe).sum(), logits),
    )


@pytest.mark.parametrize(("n", "k", "members", "tasks", "samples", "units"), SIZES)
@pytest.mark.parametrize("wired", ["trusting routes", "routes", "table"])
def test_stack(
    n: int, k: int, members: int, tasks: int, samples: int, units: int, wired: str
) -> None:
    torch.manual_seed(n)
    weight = (torch.randn(members, n + 1, units, units) / units**0.5).requires_grad_()
    bias = (torch.randn(members, n + 1, 1, units) * 0.3).requires_grad_()
    first = torch.rand(members, tasks, samples, units).requires_grad_()
    wanted = [first, weight, bias]
    if "routes" in wired:
        weight, bias = weight[:, : n - 1], bias[:, : n - 1]
        flat = torch.randn(members, tasks, samples, n * (n + 1) // 2) * 2
        routes, _ = compiled_routes(flat, n, k, needs_trust="trusting" in wired)
        table: Any = replace(routes, weights=routes.weights.requires_grad_())
        wanted.append(table.weights)
        parts = on_device(first, weight, bias, table.weights, table.sources, table.trusted)
        ours, mine = parts[:3], Routes(parts[4], parts[3], parts[5])
        leaves = parts[:4]
    else:
        table = torch.rand(n, n, members * tasks, 1) * torch.ones(n, n).tril()[..., None, None]
        table[:, 1 + n // 2 :, 0] = 0  # a task of an earlier stage
        *ours, mine = on_device(first, weight, bias, table)
        leaves = ours
    probe = torch.randn(first.shape)
    result, expected = gpu_stack(*ours, mine), compiled_stack(first, weight, bias, table)
    close([result], [expected])
    theirs = torch.autograd.grad((expected * probe).sum(), wanted, allow_unused=True)
    mine_gradients = torch.autograd.grad(
        (result * probe.to(DEVICE)).sum(), leaves, allow_unused=True, materialize_grads=True
    )
    for mine_gradient, their in zip(mine_gradients, theirs, strict=True):
        if their is None:
            assert not mine_gradient.any()
        else:  # where routes are given, only the modules that they reach were copied
            close([mine_gradient], [their[:, : mine_gradient.shape[1]]])


def test_what_is_no_number_is_handed_on() -> None:
    logits = torch.zeros(1, 1, 2, 6, device=DEVICE)
    logits[..., 0, 5] = torch.nan
    weights, *_ = GpuRoutes.apply(logits, 3, 2, None, None, None, False)
    assert weights[0, 0, 2].isnan().any()
    assert not weights[0, 1].isnan().any()


def test_try_out_launches_everything() -> None:
    try_out(DEVICE)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from algorithms import gpu_kernels as kernels

BYTES = {"given", "selected", "sources", "trusted"}
NUMBERS = {"slot", "n", "rows", "units", "samples", "member_rows", "bias_stride"}
ONES = ("rows", "samples", "member_rows")
STACK = {"ROWS": 8, "UNITS": 128}
CASES = [
    (kernels.forward_slot, {"K": k, "MODULE": m, **STACK}) for k in (0, 2) for m in (False, True)
] + [
    (kernels.backward_slot, {"K": k, "TRUST": t, "HEAD": h, "MODULE": not h, **STACK})
    for k, t in ((0, False), (2, False), (2, True)) for h in (False, True)
] + [
    (kernels.route, {"K": 2, "SAMPLED": s, "GIVEN": not s, "TRUST": True, "SLOTS": 16})
    for s in (False, True)
] + [
    (kernels.route_gradient, {"K": 2, "SLOTS": 16}),
    # A size of 1 is made a constant.
    (kernels.forward_slot, {"K": 2, "MODULE": True, **STACK} | dict.fromkeys(ONES, 1)),
]
for kernel, constants in CASES:
    names = kernel.arg_names
    kinds = {
        name: "constexpr" if name in constants else "i32" if name in NUMBERS
        else "*u8" if name in BYTES else "*fp32"
        for name in names
    }
    source = ASTSource(kernel, kinds, {(names.index(k),): v for k, v in constants.items()})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert made.asm["cubin"]
print(len(CASES), "compiled")
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """For Hopper: the interpreter takes Python that the compiler does not."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "14 compiled" in done.stdout, done.stderr[-2000:]
