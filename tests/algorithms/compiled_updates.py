"""Trains tiny learners, compiled or not, and saves what came out: one process per compiler cache.

python compiled_updates.py eager|compiled FILE
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from algorithms import load
from algorithms.algorithm import Batch, Problem

T, B, UPDATES = 2, 8, 5
FIELDS = {
    "mtsac": {"actor_width": 16, "critic_width": 16, "actor_depth": 2, "critic_depth": 2},
    "d2r": {"actor_width": 16, "critic_width": 16, "modules": 3},
}


def learned(name: str, compiled: bool) -> dict[str, Tensor]:
    """The state after some updates, the last metrics, and an exploring action."""
    kind = load(name)
    algorithm = kind(kind.Settings(**FIELDS[name]), Problem(("a", "b"), B))
    if compiled:
        algorithm.compile()
    random = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for _ in range(UPDATES):
        now, then = torch.randn(2, T, B, 39, generator=random)
        decision = algorithm.act(now, explore=True)
        rewards = torch.rand(T, B, generator=random)
        batch = Batch(now, decision.actions, rewards, then, torch.zeros(T, B), decision.extras)
        found = {"action": decision.actions, **algorithm.update(batch)}
    state: dict[str, Tensor] = algorithm.state_dict()["tensors"]
    return found | state


if __name__ == "__main__":
    torch.set_num_threads(1)
    mode, file = sys.argv[1:]
    torch.save({name: learned(name, mode == "compiled") for name in FIELDS}, file)
