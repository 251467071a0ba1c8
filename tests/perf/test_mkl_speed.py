"""A gradient step with AVX-512 on AMD's processors, beside what MKL does there by itself, in turns.

`pytest tests/perf/test_mkl_speed.py --benchmark-only -s`. Elsewhere MKL needs not be told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite.process import amd_with_avx512
from tests.perf.update_times import in_turns, served

pytest.importorskip("pytest_benchmark")
HERE = Path(__file__).parents[2]
TURNS = 8


@pytest.mark.skipif(not amd_with_avx512(), reason="there is nothing to tell MKL here")
@pytest.mark.parametrize(
    ("name", "width", "batch", "modules", "steps"),
    [
        ("mtsac", 128, 32, 1, 60),
        ("mtsac", 400, 128, 1, 6),
        ("mtsac", 1024, 128, 1, 2),
        ("mega", 400, 128, 16, 2),
        ("d2r", 400, 128, 16, 2),
    ],
)
def test_update(
    benchmark: Any, name: str, width: int, batch: int, modules: int, steps: int
) -> None:
    what = (HERE, name, width, batch, 1, modules)
    # AUTO is what MKL does where nobody chooses; but it is a choice, which we leave alone.
    timers = {"by itself": served(*what, MKL_CBWR="AUTO"), "given AVX-512": served(*what)}
    medians = benchmark.pedantic(in_turns, (timers, steps, TURNS), rounds=1)
    benchmark.extra_info.update(medians)
    print(
        f"\n{name}, width {width}, batch {batch} a task, one thread: MKL by itself "
        f"{medians['by itself']:.2f} ms, given AVX-512 {medians['given AVX-512']:.2f}: "
        f"{medians['by itself'] / medians['given AVX-512']:.2f}x as fast"
    )
