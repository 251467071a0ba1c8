"""Small evolutions and the episodes that they are told of."""

from __future__ import annotations

from typing import Any

import numpy as np

from algorithms.genetics import Evolution
from algorithms.mega import MEGASettings


def evolution(tasks: int = 2, envs: int = 4, seed: int = 0, **fields: Any) -> Evolution:
    """Every env runs one individual, so that each round of episodes is a generation."""
    defaults: dict[str, Any] = {"population": 4, "episodes_per_individual": 1, "modules": 6}
    settings = MEGASettings(**defaults | fields)
    return Evolution(settings, tasks, envs, seed)


def play(e: Evolution, returns: Any, successes: Any = 0.0) -> bool:
    """One round of episodes; numbers are broadcast to [T, N]. True where a generation has ended."""
    shape = (len(e.populations), e.envs_per_task)
    due = e.record(
        np.broadcast_to(np.asarray(returns, float), shape),
        np.broadcast_to(np.asarray(successes, float), shape),
    )
    e.next_generation(due)
    return bool(due)
