"""Memory that holds nothing between two passes, kept on CPU."""

from __future__ import annotations

import threading

from torch import Tensor

_buffers = threading.local()


def scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised tensor of the device and type of `like`.

    On CPU the same at every call of a thread. The C library hands large blocks back to the system
    when they are freed, and getting them again costs more than filling them: a page fault for every
    few kilobytes.
    """
    if like.is_cuda:
        return like.new_empty(shape)
    known = vars(_buffers).setdefault(name, {})
    key = (shape, like.dtype)
    if key not in known:
        known[key] = like.new_empty(shape)
    buffer: Tensor = known[key]
    return buffer
