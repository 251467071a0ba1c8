"""stack.c as a library, compiled by the machine's gcc when it is first wanted.

It takes a second or so, and the code is for the very processor, so nothing of it is kept for the
next process. Where it cannot be compiled one warning says so, and torch's operations go on.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("stack.c")
REALS = {torch.float32: ("float", "sgemm_"), torch.float64: ("double", "dgemm_")}
"""What C calls a type, and BLAS its matrix product."""
FLAGS = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-lm"]
ABANDONED = 3600.0
"""Seconds after which what a compiler has left behind belongs to nobody."""


class Stack(ctypes.Structure):
    """The struct of that name in stack.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in "slots members rows samples units sources".split()),
        *((name, ctypes.c_int64) for name in "shared chunk threads".split()),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "gemm mixing source trusted weight bias first outputs inputs active result gradient "
                "first_gradient mixing_gradient masked weight_gradient bias_gradient scratch"
            ).split()
        ),
    ]

    def point(self, **tensors: Tensor | None) -> None:
        """Sets pointers to contiguous tensors, which the caller keeps."""
        for name, tensor in tensors.items():
            setattr(self, name, None if tensor is None else tensor.data_ptr())


@functools.cache
def library(dtype: torch.dtype) -> tuple[ctypes.CDLL, Any] | None:
    """Our C for numbers of this type and the BLAS product that it calls; None without them."""
    if dtype not in REALS:
        return None
    real, product = REALS[dtype]
    try:
        # The products are torch's own: nothing else on the machine need be as fast.
        torch_code = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        gemm = ctypes.cast(getattr(torch_code, product), ctypes.c_void_p)
        compiler = shutil.which("gcc")
        if compiler is None:
            raise OSError("install gcc")
        return compiled(compiler, real), gemm
    except (OSError, AttributeError) as error:
        reason, *_ = [*str(error).strip().splitlines(), type(error).__name__]
        print(
            f"warning: modules run without compiled C, and slower: {reason}",
            file=sys.stderr,
        )
        return None


def compiled(compiler: str, real: str) -> ctypes.CDLL:
    """stack.c for this type. Raises OSError with the compiler's own words."""
    with tempfile.TemporaryDirectory(dir=workplace()) as folder:
        target = str(Path(folder) / "stack.so")
        command = [compiler, f"-DREAL={real}", str(SOURCE), *FLAGS, "-o", target]
        # gcc's own files too: whoever kills it leaves nothing in the system's temporary folder.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": folder},
        )
        if done.returncode:
            first, *_ = [*done.stderr.strip().splitlines(), "no reason given"]
            raise OSError(f"{compiler}: {first}")
        return ctypes.CDLL(target)


def workplace() -> Path | None:
    """Our folder in the user's cache, without what killed compilers left; None: there is none."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    place = base / "mtscale" / "compiling"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for left in place.iterdir():
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        return place if os.access(place, os.W_OK) else None
    except OSError:
        return None
