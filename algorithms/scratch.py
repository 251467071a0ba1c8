"""Memory that holds nothing between two passes, kept on CPU."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

_buffers = threading.local()


def scratch(name: str, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised tensor on the device of `like` and, by default, of its type.

    On CPU the same at every call of a thread. The C library hands large blocks back to the system
    when they are freed, and getting them again costs more than filling them: a page fault for every
    few kilobytes.
    """
    dtype = dtype or like.dtype
    if like.is_cuda:
        return like.new_empty(shape, dtype=dtype)
    known = vars(_buffers).setdefault(name, {})
    key = (shape, dtype)
    if key not in known:
        known[key] = like.new_empty(shape, dtype=dtype)
    buffer: Tensor = known[key]
    return buffer
