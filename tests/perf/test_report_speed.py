"""How long the report of a hundred runs takes: MT10, three algorithms, 100 evaluations, figures.

`make perf`, or `pytest tests/perf/test_report_speed.py --benchmark-only -s`. Under a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.report import write_report
from analysis.rows import load
from tests.analysis.simulated import Simulated, write


def test_report_of_a_hundred_runs(benchmark: Any, tmp_path: Path) -> None:
    for seed in range(10):
        for algorithm in ("mtsac", "d2r", "mega"):
            for width in (256, 512, 1024):
                write(tmp_path, Simulated(algorithm, seed, width, width, evaluations=100))
        write(tmp_path, Simulated("mtsac", seed, 2048, 2048, tasks=50, evaluations=100))
    out = tmp_path / "report.html"

    def build() -> None:
        write_report(load([tmp_path]), out, say=lambda _: None)

    benchmark.pedantic(build, rounds=1)
    seconds = benchmark.stats.stats.mean
    benchmark.extra_info.update(runs=100, megabytes=out.stat().st_size / 1e6)
    print(f"\nreport of 100 runs: {seconds:.1f} s, {out.stat().st_size / 1e6:.1f} MB")
