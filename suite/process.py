"""What a training process asks of its C libraries, once, before torch is loaded."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from suite.envs.cache import cache_folder

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LARGEST_MMAP_THRESHOLD = 32 << 20
"""The largest that glibc takes."""
SPINS = "4000"
"""Looks that a waiting thread takes before it sleeps (GNU's OpenMP, torch's on Linux)."""
KEPT = 512 << 20
"""Freed bytes that stay with the process."""
ASKED = "mkl_serv_intel_cpu_true"
"""The function by which MKL asks whether Intel made the processor."""
CHOICES = ("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""The variables by which users choose MKL's code."""


def prepare() -> None:
    """Sets how learner threads wait, what becomes of freed memory and how matrices multiply."""
    # Threads that spin while they wait take the cores from the env workers, which costs a factor of
    # ten where there are no spare ones. Threads that sleep at once are woken a few hundred times in
    # a gradient step, which costs up to half of it. So they spin for about a tenth of a
    # millisecond, longer than the step's own pauses and shorter than an env step.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    # What torch.compile makes is found again at the next start, and is nobody else's.
    with contextlib.suppress(OSError):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("compiled")))
    # A gradient step frees and takes the same few large blocks over and over. By default glibc
    # hands them back to the system, and each comes again page by page: 4-8 % of a step.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in musl
        mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(TRIM_THRESHOLD, KEPT)
    give_mkl_avx512()


def give_mkl_avx512() -> None:
    """Has MKL, which multiplies torch's matrices, use AVX-512 on AMD's processors that have it.

    MKL looks who made the processor before it looks what it can do, and leaves half the width of
    AMD's registers unused: products take more than twice as long on a Zen 5
    (`tests/perf/test_mkl_speed.py`). The first library of a process that has a function has it for
    all later ones, so it is ours that MKL asks.

    Nothing changes without gcc, where torch is loaded already, and for users who have chosen by
    one of MKL's own variables.
    """
    compiler = shutil.which("gcc")
    chosen = "torch" in sys.modules or any(name in os.environ for name in CHOICES)
    if compiler is None or chosen or not amd_with_avx512():
        return
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "asked.so"
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        answer = f"int {ASKED}(void) {{ return 1; }}"
        if not subprocess.run(command, input=answer, text=True, capture_output=True).returncode:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def mkl_was_given_avx512() -> bool:
    """Whether products use what MKL would not, by our doing or by the user's own."""
    answer = getattr(ctypes.CDLL(None), ASKED, None)
    return answer is not None and amd_with_avx512() and bool(answer())


def amd_with_avx512() -> bool:
    """Whether the processor is AMD's and has registers of 512 bits."""
    made_by, able_to = (processor().get(name, "") for name in ("vendor_id", "flags"))
    return made_by == "AuthenticAMD" and "avx512f" in able_to.split()


@functools.cache
def processor() -> dict[str, str]:
    """What Linux tells of the first processor; nothing elsewhere."""
    try:
        with open("/proc/cpuinfo") as lines:
            first, *_ = lines.read(1 << 14).split("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
