"""What a person sees while a run goes on: one bar with steps, speed, ETA and success so far."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from suite.messages import UserError
from suite.runs.files import write_atomically

WRITE_SECONDS = 3.0
"""Time between two updates of the file that others read."""


class Progress:
    """A progress bar on a terminal; a line for each evaluation elsewhere; a small file for both.

    The file is what a sweep and `status` show of a run: a JSON object, replaced as a whole. Runs
    that are trained together have one each.
    """

    def __init__(self, name: str, total: int, files: Sequence[Path] = ()) -> None:
        self.name, self.total, self.files = name, total, files
        self.env_step = 0
        self.written = float("-inf")
        self.began = time.monotonic()
        self.initial = 0
        self.training = self.evaluation = float("nan")
        self.successes: list[float | None] = [None for _ in files]
        self.bar: tqdm[Any] | None = None

    def begin(self, env_step: int) -> None:
        """Starts the clock at a step, which is not 0 for a resumed run."""
        self.began, self.initial, self.env_step = time.monotonic(), env_step, env_step
        if env_step:  # what was evaluated before stands until the next evaluation
            self.successes = [number(contents(file), "success") for file in self.files]
        self.write()
        self.bar = tqdm(
            total=self.total,
            initial=env_step,
            desc=self.name,
            unit=" steps",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.02,
            disable=not sys.stderr.isatty(),
        )

    def step(self, count: int) -> None:
        """`count` env steps were made."""
        self.env_step += count
        if time.monotonic() - self.written > WRITE_SECONDS:
            self.write()
        if self.bar is not None:
            self.bar.update(count)

    def end_round(self, success: float) -> None:
        """A round ended with this share of training episodes solved."""
        first = math.isnan(self.training)
        self.training = success if first else 0.9 * self.training + 0.1 * success

    def evaluated(self, env_step: int, successes: Sequence[float]) -> None:
        """An evaluation ended, with this mean success of each run."""
        self.evaluation = sum(successes) / len(successes)
        self.successes = list(successes)
        self.write()
        if not sys.stderr.isatty():
            speed = self.timing(env_step)["steps_per_second"]
            left = (self.total - env_step) / speed if speed else 0
            print(
                f"{self.name}: {env_step:,} of {self.total:,} steps, {speed:,.0f} steps/s, "
                f"{duration(left)} left, success {self.evaluation:.2f}",
                file=sys.stderr,
                flush=True,
            )

    def note(self, phase: str) -> None:
        """What is going on, beside the success so far."""
        if self.bar is None:
            return
        parts = [phase]
        if not math.isnan(self.evaluation):
            parts.append(f"success {self.evaluation:.2f}")
        if not math.isnan(self.training):
            parts.append(f"training {self.training:.2f}")
        self.bar.set_postfix_str(", ".join(parts))

    def write(self) -> None:
        """Replaces the files; a full disk stops no run here."""
        self.written = time.monotonic()
        for file, success in zip(self.files, self.successes, strict=False):
            state = {**self.timing(self.env_step), "total": self.total, "success": success}
            with contextlib.suppress(UserError):
                write_atomically(file, json.dumps(state).encode(), durable=False)

    def timing(self, env_step: int) -> dict[str, float]:
        """Wall-clock of this session so far."""
        seconds = time.monotonic() - self.began
        speed = (env_step - self.initial) / seconds if seconds > 0 else 0.0
        return {"env_step": env_step, "wall_seconds": seconds, "steps_per_second": speed}

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def contents(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where it is not there or half written."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def number(found: dict[str, Any], key: str) -> float | None:
    """A value that is a finite number, or None."""
    value = found.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def duration(seconds: float) -> str:
    """3:07 or 1:02:09."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
