"""How fast rows load and statistics resample.

`pytest tests/perf/test_analysis_speed.py --benchmark-only -s`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from analysis.comparisons import compare
from analysis.rows import load, runs
from analysis.scores import success_matrix
from analysis.statistics import AGGREGATES, estimate

pytest.importorskip("pytest_benchmark")
WriteRun = Callable[..., Path]
RUNS = 10_000
TASKS = tuple(f"task{number}-v3" for number in range(10))


@pytest.fixture(scope="module")
def many_runs(write_run: WriteRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 runs of 495 rows each, with their digests: 100 configurations with 100 seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for number in range(RUNS):
        path = write_run(
            folder / str(number // 100),
            run=f"run-{number}",
            seed=number % 100,
            tasks=TASKS,
            task_set="MT10",
            evaluations=45,
            plasticity=False,
            total_steps=45_000,
            actor_width=16 * (1 + number // 100),
        )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "result.json").write_text(json.dumps({"rows_sha256": digest}))
    return folder


def test_load_ten_thousand_runs(benchmark: BenchmarkFixture, many_runs: Path) -> None:
    frame = benchmark.pedantic(load, ([many_runs],), rounds=2)
    assert len(runs(frame)) == RUNS
    assert len(frame) == RUNS * 45 * 11


def test_scores_of_ten_thousand_runs(benchmark: BenchmarkFixture, many_runs: Path) -> None:
    frame = load([many_runs], metrics=["success"])
    found = benchmark.pedantic(success_matrix, (frame,), rounds=2)
    assert len(found) == 100
    assert all(scores.values.shape == (100, 10) for scores in found.values())


@pytest.mark.parametrize("tasks", [10, 50])
@pytest.mark.parametrize("name", AGGREGATES)
def test_bootstrap_fifty_thousand(benchmark: BenchmarkFixture, name: str, tasks: int) -> None:
    scores = np.random.default_rng(0).random((10, tasks))
    found = benchmark(estimate, AGGREGATES[name], scores, repetitions=50_000)
    assert found.low < found.value < found.high


def test_compare_with_fifty_thousand(benchmark: BenchmarkFixture) -> None:
    a, b = np.random.default_rng(0).random((2, 10, 50))
    assert benchmark(compare, ("a", a), ("b", b)).seeds == (10, 10)
