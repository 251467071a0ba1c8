"""What a training process asks of its C libraries."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from suite.process import CHOICES, amd_with_avx512, prepare

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

# A block is taken, touched and freed again: how many pages does the second time cost?
FAULTS = """
import resource, sys
from suite.process import prepare
if sys.argv[1] == "prepared":
    prepare()
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
size = 20 << 20
for _ in range(4):
    block = libc.malloc(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ctypes.memset(ctypes.c_void_p(block), 1, size)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    libc.free(block)
print(after - before)
"""


def test_threads_spin_shortly_and_a_users_own_choice_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert 0 < int(os.environ["GOMP_SPINCOUNT"]) < 100_000
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    prepare()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_freed_memory_stays_with_the_process() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "131072"}
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return int(found.stdout)

    assert faults("as it is") > 1000, "the C library does not hand memory back here"
    assert faults("prepared") < 100


# What MKL says of the processor, and of a product; then what provenance says.
PRODUCTS = """
import ctypes, sys
from pathlib import Path
from suite.process import prepare
if sys.argv[1] == "torch first":
    import torch
if sys.argv[1] != "as it is":
    prepare()
import torch
torch.manual_seed(0)
one, other = torch.randn(320, 163), torch.randn(163, 163)
apart = (one @ other - (one.double() @ other.double())).abs().max().item()
mkl = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
from suite.runs.provenance import cpu
print(mkl.mkl_serv_get_cpu_type(), apart, cpu(), sep=",", end="")
"""
AS_FOR_ANYBODY = 0
"""MKL's type of a processor that it does not know as Intel's."""


@pytest.mark.skipif(not amd_with_avx512(), reason="MKL does this by itself but on AMD's AVX-512")
def test_mkl_takes_amds_avx512_and_a_users_own_choice_stands() -> None:
    def seen(how: str, **variables: str) -> tuple[int, float, str]:
        command = [sys.executable, "-c", PRODUCTS, how]
        environment = {k: v for k, v in os.environ.items() if k not in CHOICES} | variables
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        kind, apart, name = found.stdout.split(",", 2)
        return int(kind), float(apart), name

    kind, apart, name = seen("as it is")
    assert kind == AS_FOR_ANYBODY
    assert "AVX-512" not in name
    found, as_exact, told = seen("prepared")
    assert found != AS_FOR_ANYBODY
    assert told == f"{name}, MKL given AVX-512"
    assert max(apart, as_exact) < 1e-4
    assert seen("torch first") == (kind, apart, name)
    assert seen("prepared", MKL_CBWR="AUTO") == (kind, apart, name)
