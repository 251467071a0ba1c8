"""Random streams that depend on the run's seed and on what they are for, and on nothing else.

A consumer whose draws are indexed (the goal of env 3 in episode 17) takes a stream named so and
needs no state in a checkpoint.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one purpose; distinct purposes get independent streams."""
    name = "/".join(map(str, (seed, *purpose)))
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
