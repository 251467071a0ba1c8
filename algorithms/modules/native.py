"""stack.c and routes.c as a library, compiled by the machine's gcc when it is first wanted.

It takes a second or so, and the code is for the very processor, so nothing of it is kept for the
next process. Where it cannot be compiled one warning says so, and torch's operations go on.

Operators that call it know nothing of gradients. The `torch.autograd.Function`s
beside them say how they are differentiated and mapped, eagerly and in `torch.func`, where gradients
registered with an operator are refused. torch.compile takes their calls as they are
(`allow_in_graph`) and traces the operators within.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

SOURCES = [str(Path(__file__).with_name(name)) for name in ("stack.c", "routes.c")]
REALS = {torch.float32: ("float", "sgemm_"), torch.float64: ("double", "dgemm_")}
"""What C calls a type, and BLAS its matrix product."""
FLAGS = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-lm"]
ABANDONED = 3600.0
"""Seconds after which what a compiler has left behind belongs to nobody."""


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


class Stack(Struct):
    """The struct of that name in stack.c."""

    _fields_ = fields(
        "slots members rows samples units sources shared chunk threads",
        "gemm mixing source trusted weight bias first outputs inputs active result gradient "
        "first_gradient mixing_gradient masked weight_gradient bias_gradient scratch",
    )


class Router(Struct):
    """The struct of that name in routes.c."""

    _fields_ = fields(
        "rows slots sources threads",
        "logits score source weight trusted gradient logits_gradient",
    )


def has_operators(device: str, dtype: torch.dtype) -> bool:
    """Whether there is compiled code for such tensors."""
    return device == "cpu" and library(dtype) is not None


def folded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The `vmap` of a function whose tensors all lead with the axis of members, its results too.

    What is mapped over becomes members.
    """

    def rule(info: Any, in_dims: Any, *args: Any) -> Any:
        size, operands = info.batch_size, []
        for x, axis in zip(args, in_dims, strict=True):
            if isinstance(x, Tensor):
                x = x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)
                x = x.flatten(0, 1)
            operands.append(x)
        results = function(*operands)
        apart = tree_map(lambda x: x.unflatten(0, (size, -1)), results)
        return apart, tree_map(lambda _: 0, results)

    return rule


def last(operator: Callable[..., Any]) -> Callable[..., Any]:
    """An operator that computes gradients, to be mapped and not to be differentiated again."""

    class Last(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return operator(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            """Keeps nothing."""

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            raise NotImplementedError("module stacks and routes have no second derivatives")

        @staticmethod
        def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
            return folded(Last.apply)(info, in_dims, *args)

    return Last.apply


def code(dtype: torch.dtype) -> ctypes.CDLL:
    """Our C for numbers of this type: ask `has_operators` first."""
    found = library(dtype)
    assert found is not None
    return found[0]


def gemm(dtype: torch.dtype) -> Any:
    """The BLAS product of this type: ask `has_operators` first."""
    found = library(dtype)
    assert found is not None
    return found[1]


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
        print(f"warning: modules run without compiled C, and slower: {reason}", file=sys.stderr)
        return None


def compiled(compiler: str, real: str) -> ctypes.CDLL:
    """Our C for this type. Raises OSError with the compiler's own words."""
    with tempfile.TemporaryDirectory(dir=workplace()) as folder:
        target = str(Path(folder) / "stack.so")
        command = [compiler, f"-DREAL={real}", *SOURCES, *FLAGS, "-o", target]
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
