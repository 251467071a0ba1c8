"""Stacks of 16 modules through the operator in C, against the same lines compiled by torch alone.

`pytest tests/perf/test_stack_speed.py --benchmark-only -s`, in turns, after minutes of compiling.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from algorithms import load
from algorithms.algorithm import Algorithm, Batch, Problem
from algorithms.modules import stack

pytest.importorskip("pytest_benchmark")
TURNS, STEPS = 6, 3
NEVER = 10**6


def learner(name: str) -> tuple[Algorithm, Batch]:
    """The method at its paper's size, and a batch of made-up transitions."""
    kind = load(name)
    made = kind(kind.Settings(), Problem(tuple(f"task {i}" for i in range(10))))
    seen = torch.randn(10, 128, 39)
    decision = made.act(seen, explore=True)
    own = {key: value.clone() for key, value in decision.extras.items()}
    rest = torch.rand(10, 128), torch.randn(10, 128, 39), torch.zeros(10, 128), own
    return made, Batch(seen, decision.actions.clone(), *rest)


@pytest.mark.parametrize("name", ["mega", "d2r"])
def test_operator_over_compiled_torch(
    benchmark: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewest = {"torch": NEVER, "C": stack.FEWEST_MODULES}
    learners = {}
    for label in fewest:
        monkeypatch.setattr(stack, "FEWEST_MODULES", fewest[label])
        made, batch = learner(name)
        made.compile()
        made.update(batch)
        learners[label] = made, batch

    def measure() -> dict[str, float]:
        taken: dict[str, list[float]] = {label: [] for label in learners}
        for _ in range(TURNS):
            for label, (made, batch) in learners.items():
                # What is compiled holds for the value that it was compiled with.
                monkeypatch.setattr(stack, "FEWEST_MODULES", fewest[label])
                for _ in range(STEPS):
                    start = time.perf_counter()
                    made.update(batch)
                    taken[label].append((time.perf_counter() - start) * 1e3)
        return {label: float(np.median(times)) for label, times in taken.items()}

    medians = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(medians)
    print(
        f"\n{name}, 16 modules, width 400: {medians['C']:.0f} ms with C, {medians['torch']:.0f} ms "
        f"without: {medians['torch'] / medians['C']:.2f}x as fast"
    )
