"""Trains a tiny learner, compiled, and saves what came out: one process per compiler cache.

python compiled_updates.py FILE NAME
"""

from __future__ import annotations

import sys
from dataclasses import fields

import torch
from torch import Tensor

from algorithms import load
from algorithms.algorithm import Batch, Problem

T, B, UPDATES = 2, 8, 5
SMALL = {
    **{"actor_width": 16, "critic_width": 16, "actor_depth": 1, "critic_depth": 1},
    **{"modules": 3, "first_stage": 2},
}


def learned(name: str, compiled: bool) -> dict[str, Tensor]:
    """The state after some updates, and the last metrics."""
    kind = load(name)
    known = {f.name for f in fields(kind.Settings)}
    settings = kind.Settings(**{key: value for key, value in SMALL.items() if key in known})
    algorithm = kind(settings, Problem(("a", "b"), B))
    random = torch.Generator().manual_seed(0)
    now, then = torch.randn(2, T, B, 39, generator=random)
    decision = algorithm.act(now, explore=True)  # not compiled here: that would take as long again
    rewards = torch.rand(T, B, generator=random)
    batch = Batch(now, decision.actions, rewards, then, torch.zeros(T, B), decision.extras)
    if compiled:
        algorithm.compile()
    metrics = [algorithm.update(batch) for _ in range(UPDATES)]
    state: dict[str, Tensor] = algorithm.state_dict()["tensors"]
    return metrics[-1] | state


if __name__ == "__main__":
    from suite.training.compiling import settle

    settle("cpu")
    torch.set_num_threads(1)
    file, name = sys.argv[1:]
    torch.save(learned(name, compiled=True), file)
