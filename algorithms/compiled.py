"""Our own code for processors: C for CPUs, Triton for GPUs, compiled where it runs.

It does what torch's operations do, which go on where it can't be compiled: then one warning says
so. C takes a few hundred milliseconds once a process and is compiled for the very processor, so
nothing of it is kept for the next one.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

SOURCES = [str(Path(__file__).with_name(name)) for name in ("stack.c", "routes.c")]
REALS = {torch.float32: ("float", "sgemm_"), torch.float64: ("double", "dgemm_")}
"""What C calls a type, and BLAS its matrix product."""
FLAGS = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-lm"]


def fields(integers: str, pointers: str) -> list[tuple[str, Any]]:
    """Those of a struct of 64-bit integers and then of pointers."""
    return [
        *((name, ctypes.c_int64) for name in integers.split()),
        *((name, ctypes.c_void_p) for name in pointers.split()),
    ]


class Struct(ctypes.Structure):
    """What our C takes: one argument a call."""

    def point(self, **tensors: Tensor | None) -> None:
        """Sets pointers to contiguous tensors, which the caller keeps."""
        for name, tensor in tensors.items():
            setattr(self, name, None if tensor is None else tensor.data_ptr())


@functools.cache
def library(dtype: torch.dtype) -> tuple[ctypes.CDLL, Any] | None:
    """Our C for numbers of this type and the BLAS product that it calls; None without them."""
    real, product = REALS[dtype]
    try:
        # The products are torch's own: nothing else on the machine need be as fast.
        torch_code = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        gemm = ctypes.cast(getattr(torch_code, product), ctypes.c_void_p)
        compiler = shutil.which("gcc")
        if compiler is None:
            raise OSError("install gcc")
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder) / "stack.so")
            command = [compiler, f"-DREAL={real}", *SOURCES, *FLAGS, "-o", target]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                first, *_ = [*done.stderr.strip().splitlines(), "no reason given"]
                raise OSError(f"{compiler}: {first}")
            return ctypes.CDLL(target), gemm
    except (OSError, AttributeError) as error:
        warn(error)
        return None


@functools.cache
def gpu_code() -> ModuleType | None:
    """algorithms.gpu_stack if its kernels can be compiled and launched, else None."""
    try:
        code = importlib.import_module("algorithms.gpu_stack")
        code.try_out(torch.device("cuda"))
        return code
    except Exception as error:  # Triton has its own, and passes on those of its compilers
        warn(error)
        return None


def warn(error: Exception) -> None:
    """Says that torch's operations go on."""
    reason, *_ = [*str(error).strip().splitlines(), type(error).__name__]
    print(
        f"warning: modules run without compiled code, and slower: {reason}",
        file=sys.stderr,
    )
