"""Carries a plan out: skips what is done, waits for what others do, reports what fails.

A launcher starts runs on some machine and tells how they ended; everything else is the same for
all of them. Nothing is remembered but what stands in the runs' directories, so that a sweep that
is killed and started again goes on where it was.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from suite.config import RunConfig
from suite.estimate import Cost, combined
from suite.interrupt import Interrupt
from suite.messages import UserError
from suite.runs.state import State, state
from suite.sweeps.child import BUSY, CANCELLED, DONE, STOPPED, keep_failure, meaning
from suite.sweeps.overview import Overview, failures
from suite.sweeps.plan import Plan, of_seeds, runs_at_once, together

PAUSE = 0.5
"""Seconds between two looks at the launcher."""
LOOK_SECONDS = 3.0
"""Seconds between two looks at a run that goes on, here or elsewhere."""
QUEUE_SECONDS = 10.0
"""Seconds between two looks at a run that has been started and waits for its turn."""
REST_SECONDS = 60.0
"""Seconds between two looks at the other runs, which only another sweep can change."""
LIVES = 3
"""Times that a run is started which is killed by a signal, such as the out-of-memory killer's, or
whose job or worker is lost."""


class Launcher(Protocol):
    """Where runs are carried out."""

    at_once: int
    """Processes that go on together, each of a run or of batched seeds."""
    detaches: bool
    """Whether runs go on when the sweep is interrupted."""

    def has_room(self, config: RunConfig) -> bool:
        """Whether the run can be started now."""

    def never_fits(self, config: RunConfig) -> str:
        """Why there will never be room for the run, in a line; empty where there may be."""

    def start(self, config: RunConfig) -> None:
        """Begins a run, or hands it to a queue."""

    def ended(self) -> Iterable[tuple[RunConfig, int]]:
        """The runs that ended since the last call, with their exit statuses."""

    def stop(self) -> None:
        """Asks all runs to save and stop."""

    def kill(self) -> None:
        """Ends at once what still goes on, where the launcher owns it."""


class Supervisor:
    """The state of a sweep that is being carried out."""

    def __init__(
        self, plan: Plan, costs: Sequence[Cost], states: Sequence[State], launcher: Launcher
    ) -> None:
        self.plan, self.costs, self.launcher = plan, costs, launcher
        self.cost_of = {c.name(): cost for c, cost in zip(plan.runs, costs, strict=True)}
        self.states = {c.name(): found for c, found in zip(plan.runs, states, strict=True)}
        self.todo = [c for c in together(plan.runs) if self.left(c)]
        self.at_once = runs_at_once(plan.runs, launcher.at_once)
        self.active: dict[str, RunConfig] = {}
        self.starts: Counter[tuple[str, str]] = Counter()
        self.looked: dict[str, float] = {}
        self.silent: dict[str, int] = {}
        """Exit statuses of runs that ended and left neither a result nor a reason."""

    def run(self) -> int:
        """Carries the plan out; the exit status is 0 where all runs are done, 1 where some failed,
        130 where it was interrupted.
        """
        with (
            Interrupt() as interrupt,
            Overview(self.plan, self.costs, self.at_once) as overview,
        ):
            try:
                self.drop_what_never_fits()
                while (self.todo or self.active) and not interrupt.requested:
                    self.begin()
                    self.settle()
                    self.look()
                    overview.show(self.states)
                    time.sleep(PAUSE)
                if interrupt.requested:
                    self.launcher.stop()
                    while self.active and not self.launcher.detaches:
                        self.settle()
                        time.sleep(PAUSE)
            finally:
                self.launcher.kill()
        return self.report(interrupt.requested)

    def left(self, started: RunConfig) -> list[RunConfig]:
        """Of the seeds that are started as one, those that are not done."""
        return [run for run in started.each_seed() if self.states[run.name()].phase != "done"]

    def read(self, started: RunConfig) -> None:
        """Reads the state of all seeds that are started as one."""
        self.states |= {run.name(): state(run) for run in started.each_seed()}

    def drop_what_never_fits(self) -> None:
        """Reports the runs that there will never be room for as failed; the others are started."""
        waiting, self.todo = self.todo, []
        while waiting:
            config = waiting.pop(0)
            why = self.lacks_disk(config) or self.launcher.never_fits(config)
            left = self.left(config)
            if not why:
                self.todo.append(config)
            elif len(config.each_seed()) > 1:
                waiting[:0] = left  # each by itself may have room
            else:
                keep_failure(config, UserError.status, [why])
                self.read(config)

    def lacks_disk(self, config: RunConfig) -> str:
        """Why the disk is too small for the run, were it the only one; empty where it is not."""
        folder = there(Path(config.execution.results))
        free, needed = shutil.disk_usage(folder).free, combined(self.cost_of, config).disk
        if needed <= free or self.states[config.name()].phase != "waiting":
            return ""
        return f"disk: the run needs {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB"

    def begin(self) -> None:
        """Starts what there is room for, but what another sweep is at."""
        for config in list(self.todo):
            if not self.launcher.has_room(config):
                break
            if not self.due(config.name(), LOOK_SECONDS):
                continue
            self.read(config)
            if any(self.states[run.name()].phase == "running" for run in config.each_seed()):
                continue
            self.todo.remove(config)
            if not self.left(config):
                continue
            # Seeds that are done take no part in what is shared out.
            left = of_seeds(self.left(config))
            self.starts[key(left)] += 1
            self.active[left.name()] = left
            self.launcher.start(left)

    def due(self, name: str, seconds: float) -> bool:
        """Whether the run was last looked at so long ago; if so, it is looked at now."""
        now = time.monotonic()
        if now - self.looked.get(name, float("-inf")) < seconds:
            return False
        self.looked[name] = now
        return True

    def settle(self) -> None:
        """Takes note of the runs that have ended."""
        for config, status in self.launcher.ended():
            del self.active[config.name()]
            self.read(config)
            lives = LIVES - self.starts[key(config)]
            left = self.left(config)
            if status not in (STOPPED, BUSY):
                without = [run for run in left if self.states[run.name()].phase != "failed"]
                self.silent |= {run.name(): status for run in without}
            if status in (BUSY, STOPPED) or (status < 0 and lives > 0):
                self.todo.append(config)
            elif status == DONE and 0 < len(left) < len(config.each_seed()):
                # A queue still held a run of fewer seeds.
                self.todo.append(of_seeds(left))
            elif status not in (DONE, CANCELLED) and len(config.each_seed()) > 1:
                # One seed that fails must not stop the others: each goes on by itself.
                self.todo += left

    def look(self) -> None:
        """Reads the state of the runs again, of those that go on most often."""
        started = {run.name() for config in self.active.values() for run in config.each_seed()}
        for config in self.plan.runs:
            name = config.name()
            phase = self.states[name].phase
            often = QUEUE_SECONDS if name in started else REST_SECONDS
            if phase != "done" and self.due(name, LOOK_SECONDS if phase == "running" else often):
                self.states[name] = state(config)

    def told(self, config: RunConfig) -> State:
        """The state of a run; what has ended without a result or a reason has failed."""
        found, status = state(config), self.silent.get(config.name())
        if status is None or found.phase not in ("stopped", "waiting"):
            return found
        if status == DONE:
            reason = "no result"
            line = "its process has trained another run, which its log names: was the code edited "
            line += "while the sweep went on? The same command begins with the code as it is now"
        else:
            reason = meaning(status)
            line = "no reason could be written to its folder, as on a full disk; make room or name "
            line += "another folder with --results, and give the same command again"
        return found._replace(phase="failed", reason=reason, lines=(line,))

    def report(self, interrupted: bool) -> int:
        """Prints how it ended; returns the exit status."""
        known = [(config, self.states[config.name()]) for config in self.plan.runs]
        states = [found if found.phase == "done" else self.told(config) for config, found in known]
        for line in failures(self.plan, states):
            print(line)
        done = sum(s.phase == "done" for s in states)
        print(f"{done} of {len(states)} runs done: {self.plan.runs[0].execution.results}")
        if interrupted:
            verb = "follows" if self.launcher.detaches else "resumes"
            print(f"the same command {verb} the sweep")
            return 130
        return 0 if done == len(states) else 1


def key(started: RunConfig) -> tuple[str, str]:
    """Tells a run from the same run beside other seeds."""
    return started.name(), started.execution.seeds


def there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder
