"""What combining costs: gradient steps of MT-SAC, compiled, against the plain mean's.

`pytest tests/perf/test_combine_speed.py -s`. Steps are taken in turns on the same cores, and the
quickest of each counts. The usual code, with a backward pass for each task, pays T times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from algorithms.algorithm import Batch, Problem
from algorithms.mtsac import MTSAC, MTSACSettings

SAMPLES = 128  # of a task
COMBINERS = ("mean", "pcgrad", "cagrad", "gradnorm")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As on the machine that the targets are set for."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def made_up(tasks: int) -> Batch:
    """Random transitions."""
    return Batch(
        torch.randn(tasks, SAMPLES, 39),
        torch.rand(tasks, SAMPLES, 4) * 2 - 1,
        torch.rand(tasks, SAMPLES),
        torch.randn(tasks, SAMPLES, 39),
        torch.zeros(tasks, SAMPLES),
    )


@pytest.mark.parametrize(("tasks", "limit"), [(10, 2.0), (50, 2.5)])
def test_a_combined_step_costs_little_more_than_a_plain_one(tasks: int, limit: float) -> None:
    """Widths of 400, 128 samples per task."""
    problem, batch = Problem(tuple(f"task-{i}" for i in range(tasks))), made_up(tasks)
    learners = {c: MTSAC(MTSACSettings(combine=c), problem) for c in COMBINERS}
    for learner in learners.values():
        learner.compile()
        learner.update(batch)
    quickest = dict.fromkeys(COMBINERS, float("inf"))
    for _ in range(100 // tasks):
        for name, learner in learners.items():
            start = time.perf_counter()
            learner.update(batch)
            quickest[name] = min(quickest[name], time.perf_counter() - start)
    ratios = {name: quickest[name] / quickest["mean"] for name in COMBINERS}
    shown = ", ".join(f"{c} {ratios[c]:.2f} ({1e3 * quickest[c]:.0f} ms)" for c in COMBINERS)
    print(f"\n{tasks} tasks: {shown}")
    assert max(ratios.values()) <= limit, shown
