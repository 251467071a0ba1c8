"""This version against the last one with a hand-written learner, in turns on this machine.

`pytest tests/perf/test_before_speed.py --benchmark-only -s`. That version is taken out of the
repository's history into a temporary folder; in a clone without it these are skipped.
"""

from __future__ import annotations

import io
import re
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.perf.update_times import in_turns, served

pytest.importorskip("pytest_benchmark")
HERE = Path(__file__).parents[2]
BEFORE = "68671cd"
"""The last commit before the learner was written plainly and compiled."""
ALGORITHMS = [
    # name, width, batch per task, modules, steps a turn
    ("mtsac", 128, 32, 1, 60),
    ("mega", 128, 32, 4, 30),
    ("d2r", 128, 32, 4, 30),
    ("mtsac", 400, 128, 1, 6),
    ("mtsac", 1024, 128, 1, 2),
    ("mtsac", 2048, 128, 1, 1),
    ("mega", 400, 128, 16, 2),
    ("d2r", 400, 128, 16, 2),
]
TURNS = 8


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of that version."""
    command = ["git", "archive", BEFORE, "algorithms", "suite", "results/sweeps"]
    taken = subprocess.run(command, cwd=HERE, capture_output=True)
    if taken.returncode:
        pytest.skip(f"this clone's history has no {BEFORE}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("name", "width", "batch", "modules", "steps"), ALGORITHMS)
def test_update(
    benchmark: Any,
    before: Path,
    name: str,
    width: int,
    batch: int,
    modules: int,
    steps: int,
    threads: int,
) -> None:
    versions = {
        version: served(folder, name, width, batch, threads, modules)
        for version, folder in (("before", before), ("now", HERE))
    }
    medians = benchmark.pedantic(in_turns, (versions, steps, TURNS), rounds=1)
    benchmark.extra_info.update(medians)
    print(
        f"\n{name}, width {width}, batch {batch} a task, {threads} threads: before "
        f"{medians['before']:.2f} ms, now {medians['now']:.2f}: "
        f"{medians['before'] / medians['now']:.2f}x as fast"
    )


def speed(folder: Path, results: Path, *fields: str) -> float:
    """Env steps per second of `bench` in the version in this folder."""
    command = [sys.executable, "-m", "suite", "bench", "--alg", "mtsac", "--preset", "quick"]
    command += ["--results", str(results), "--force", "--evaluations", "1", *fields]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(r"([\d,]+) env steps/s in this session", done.stdout)
    assert found, done.stdout
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("seeds", [1, 5])
def test_training(benchmark: Any, before: Path, tmp_path: Path, seeds: int) -> None:
    """Whole runs, the compiler's seconds included, which so short a run does not pay back."""
    fields = ["--seeds", str(seeds), "--batched"] if seeds > 1 else []
    fields += ["--steps", str(60_000 // seeds), "--final-episodes", "5"]

    def measure() -> dict[str, float]:
        speeds: dict[str, list[float]] = {"before": [], "now": []}
        for _ in range(2):
            for version, folder in (("before", before), ("now", HERE)):
                speeds[version].append(speed(folder, tmp_path / version, *fields))
        return {version: statistics.median(found) for version, found in speeds.items()}

    medians = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(medians)
    print(
        f"\nmtsac, quick, {seeds} seeds: before {medians['before']:,.0f} env steps/s, now "
        f"{medians['now']:,.0f}: {medians['now'] / medians['before']:.2f}x"
    )
