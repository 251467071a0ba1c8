"""Our own C, compiled where it runs: a few hundred milliseconds once a process.

It does what torch's operations do, which go on where there is no compiler: then one warning says
so. It is compiled for the very processor, so nothing of it is kept for the next one.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).with_name("stack.c")
REALS = {torch.float32: ("float", "sgemm_"), torch.float64: ("double", "dgemm_")}
"""What C calls a type, and BLAS its matrix product."""
# Without contraction w₁x₁ + w₂x₂ has the same bits in either order.
FLAGS = ["-O3", "-march=native", "-ffp-contract=off", "-fopenmp", "-shared", "-fPIC"]


@functools.cache
def library(dtype: torch.dtype) -> tuple[ctypes.CDLL, Any] | None:
    """stack.c for numbers of this type and the BLAS product that it calls; None without them."""
    real, product = REALS[dtype]
    try:
        # The products are torch's own, or they would not be as fast.
        gemm = getattr(ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cpu.so")), product)
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise OSError("no C compiler was found (install gcc)")
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder) / "stack.so")
            command = [compiler, *FLAGS, f"-DREAL={real}", str(SOURCE), "-o", target]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                first, *_ = [*done.stderr.strip().splitlines(), "no reason given"]
                raise OSError(f"{compiler}: {first}")
            return ctypes.CDLL(target), ctypes.cast(gemm, ctypes.c_void_p)
    except (OSError, AttributeError) as error:
        print(f"warning: module stacks run without compiled code, and slower: {error}", file=sys.stderr)
        return None
