"""Which worker steps which env: spread by cost, so that all workers answer at about the same time.

A lockstep takes as long as its slowest worker. Costs depend on the task alone, by a factor of two.
"""

from __future__ import annotations

from collections.abc import Sequence

COMMON_COST = 195
"""Microseconds a step of the fast engine on most tasks; only the proportions matter."""

COST = {
    "box-close-v3": 371,
    "disassemble-v3": 357,
    "stick-push-v3": 341,
    "assembly-v3": 334,
    "hammer-v3": 323,
    "coffee-push-v3": 312,
    "soccer-v3": 308,
    "peg-insert-side-v3": 299,
    "stick-pull-v3": 272,
    "pick-place-wall-v3": 270,
    "push-v3": 270,
    "bin-picking-v3": 261,
    "sweep-into-v3": 244,
    "peg-unplug-side-v3": 242,
    "drawer-close-v3": 241,
    "shelf-place-v3": 236,
    "coffee-pull-v3": 233,
    "push-wall-v3": 232,
    "push-back-v3": 223,
    "handle-press-v3": 219,
}
"""Tasks that cost more: median of 240 steps of uniform random actions, taken in turns."""


def spread(tasks: Sequence[str], workers: int) -> list[list[int]]:
    """Indices of the envs of each worker: the dearest first, always to the least loaded."""
    load = [0] * workers
    plan: list[list[int]] = [[] for _ in range(workers)]
    for index in sorted(range(len(tasks)), key=lambda i: -COST.get(tasks[i], COMMON_COST)):
        least = load.index(min(load))
        plan[least].append(index)
        load[least] += COST.get(tasks[index], COMMON_COST)
    return plan
