"""What a person sees of a sweep: one live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from suite.estimate import Cost, seconds_left, sweep_seconds
from suite.runs.directory import RunDirectory
from suite.runs.ownership import LOG
from suite.runs.progress import duration
from suite.runs.state import Phase, State
from suite.sweeps.plan import Plan

ORDER: tuple[Phase, ...] = ("running", "failed", "stopped", "waiting", "done")
SUMMARY_SECONDS = 60.0
COLUMNS = ("run", "state", "progress", "success", "left")
COLOURS = {"running": "cyan", "failed": "red", "done": "green", "stopped": "yellow"}


def cells(name: str, state: State, expected: Cost) -> tuple[str, str, str, str, str]:
    """A run's row."""
    left = about(seconds_left(state, expected)) if state.phase != "done" else ""
    success = "" if state.success is None else f"{state.success:.2f}"
    return name, state.phase, f"{state.share:.0%}", success, left


def summary(plan: Plan, states: Sequence[State], costs: Sequence[Cost], at_once: int) -> str:
    """The sweep in one line."""
    counts = Counter(state.phase for state in states)
    shown = ", ".join(f"{counts[phase]} {phase}" for phase in ORDER[:-1] if counts[phase])
    left = sweep_seconds(states, costs, at_once)
    text = f"{counts['done']} of {len(plan.runs)} done"
    if shown:
        text += f", {shown}"
    return f"{text}; about {about(left)} left, {at_once} at once" if left else text


def about(seconds: float) -> str:
    """A duration to the precision that matters: 3:07, 1:02:09, 2.5 days."""
    return duration(seconds) if seconds < 86_400 else f"{seconds / 86_400:.1f} days"


class Overview:
    """The live view of a sweep; a context."""

    def __init__(self, plan: Plan, costs: Sequence[Cost], at_once: int) -> None:
        self.plan, self.costs, self.at_once = plan, costs, at_once
        self.console = Console(stderr=True)
        self.live: Live | None = None
        self.phases: dict[str, str] = {}
        self.told = time.monotonic()

    def __enter__(self) -> Overview:
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, states: Mapping[str, State]) -> None:
        """Draws the table, or prints what has changed."""
        ordered = [states[config.name()] for config in self.plan.runs]
        line = summary(self.plan, ordered, self.costs, self.at_once)
        if self.live is not None:
            self.live.update(self.table(ordered, line), refresh=True)
            return
        changed = False
        for name, state in states.items():
            before = self.phases.get(name, "waiting")
            if state.phase != before and not (before == "waiting" and state.phase == "stopped"):
                changed = True
                success = "" if state.success is None else f", success {state.success:.2f}"
                print(f"{state.phase}: {name}{success}", file=sys.stderr)
            self.phases[name] = state.phase
        if changed or time.monotonic() - self.told > SUMMARY_SECONDS:
            self.told = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def table(self, states: Sequence[State], line: str) -> Table:
        """As many runs as fit on the screen, those that go on first."""
        table = Table(caption=line, caption_justify="left", box=None, pad_edge=False)
        for i, column in enumerate(COLUMNS):
            table.add_column(column, justify="left" if i < 2 else "right", no_wrap=i > 0)
        rows = sorted(
            zip(self.plan.runs, states, self.costs, strict=True),
            key=lambda row: ORDER.index(row[1].phase),
        )
        room = max(self.console.height - 5, 3)
        for config, state, expected in rows[:room]:
            style = COLOURS.get(state.phase)
            table.add_row(*cells(config.name(), state, expected), style=style)
        if len(rows) > room:
            table.add_row(f"… and {len(rows) - room} more")
        return table


def failures(plan: Plan, states: Sequence[State]) -> list[str]:
    """Every failed run with the last lines that it printed and where the rest stands."""
    lines = []
    for config, state in zip(plan.runs, states, strict=True):
        if state.phase == "failed":
            lines.append(f"failed: {config.name()} ({state.reason})")
            lines += [f"    {line}" for line in state.lines]
            log = RunDirectory(config).path / LOG
            lines += [f"    log: {log}"] if log.exists() else []
    return lines
