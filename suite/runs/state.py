"""Where a run stands, read from its directory alone: on this machine or on a shared file system."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from suite.config import RunConfig
from suite.messages import Failure
from suite.runs.directory import RunDirectory
from suite.runs.finished import done
from suite.runs.lock import locked
from suite.runs.ownership import FAILURE, PROGRESS
from suite.runs.progress import contents, number

Phase = Literal["done", "running", "failed", "stopped", "waiting"]


class State(NamedTuple):
    """What is known of a run."""

    phase: Phase
    """stopped: begun, not done, and nobody is at it; waiting: not begun."""
    share: float = 0.0
    """Of its env steps that are made, 0 to 1."""
    success: float | None = None
    """Mean over tasks at the last evaluation."""
    steps_per_second: float = 0.0
    """In the running or the last session; 0 where unknown."""
    steps_left: int = 0
    reason: str = ""
    """Why it failed, in a line."""
    lines: tuple[str, ...] = ()
    """The last lines that a failed run printed."""


def state(config: RunConfig) -> State:
    """The state of a run at this moment."""
    folder = RunDirectory(config).path
    total = config.rounds * config.steps_per_round
    damaged = ""
    try:
        result = done(folder, config.name())
    except (ValueError, Failure) as error:
        result, damaged = None, str(error)
    if result:
        return State("done", 1.0, result["mean_success"], 0.0, 0)
    progress = contents(folder / PROGRESS)
    made = min(int(number(progress, "env_step") or 0), total)
    known = State(
        "stopped" if (folder / "config.json").exists() else "waiting",
        made / total,
        number(progress, "success"),
        number(progress, "steps_per_second") or 0.0,
        total - made,
    )
    if in_use(folder):
        return known._replace(phase="running")
    if damaged:
        return known._replace(phase="failed", reason=damaged)
    failure = contents(folder / FAILURE)
    if failure:
        lines = failure.get("lines")
        shown = tuple(map(str, lines)) if isinstance(lines, list) else ()
        return known._replace(phase="failed", reason=str(failure.get("reason", "")), lines=shown)
    return known


def in_use(folder: Path) -> bool:
    """Whether a process, here or elsewhere, works on the run."""
    try:
        with (folder / "lock").open("r+") as file:
            return not locked(file)
    except OSError:
        return False
