"""What a training process asks of its C libraries."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from suite.process import prepare

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
