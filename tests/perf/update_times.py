"""Processes that time gradient steps, asked in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Timer = subprocess.Popen[str]


def served(folder: Path, *arguments: Any, **variables: str) -> Timer:
    """A process that times gradient steps of the version in this folder; see one_update.py."""
    script = Path(__file__).with_name("one_update.py")
    command = [sys.executable, str(script), str(folder), *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | variables,
    )


def in_turns(timers: Mapping[str, Timer], steps: int, turns: int) -> dict[str, float]:
    """The median milliseconds of a step of each, which takes so many steps a turn; ends them."""
    for timer in timers.values():
        assert timer.stdout is not None
        assert timer.stdout.readline() == "ready\n"
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(turns):
        for name, timer in timers.items():
            assert timer.stdin is not None
            assert timer.stdout is not None
            timer.stdin.write(f"{steps}\n")
            timer.stdin.flush()
            taken[name] += [float(x) for x in timer.stdout.readline().split()]
    for timer in timers.values():
        timer.kill()
        timer.wait()
    return {name: statistics.median(times) for name, times in taken.items()}
