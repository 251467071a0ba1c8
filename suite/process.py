"""What a training process asks of its C libraries, once, before torch is loaded."""

from __future__ import annotations

import contextlib
import ctypes
import os

from suite.envs.cache import cache_folder

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LARGEST_MMAP_THRESHOLD = 32 << 20
"""The largest that glibc takes."""
SPINS = "4000"
"""Looks that a waiting thread takes before it sleeps (GNU's OpenMP, torch's on Linux)."""
KEPT = 512 << 20
"""Freed bytes that stay with the process."""


def prepare() -> None:
    """Sets how learner threads wait and what becomes of freed memory."""
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
