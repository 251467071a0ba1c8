"""A run as a process of its own: its share of the machine, its log, why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from suite.config import RunConfig
from suite.interrupt import Interrupted
from suite.messages import Diverged, UserError
from suite.options import command_line
from suite.runs.directory import RunDirectory
from suite.runs.files import opened_to_append, write_atomically
from suite.runs.finished import RESULT
from suite.runs.lock import Busy
from suite.runs.ownership import FAILURE, LOG
from suite.runs.state import in_use

DONE, STOPPED, BUSY = 0, Interrupted.status, Busy.status
"""Exit statuses of a run; all others are failures, the negative ones of a signal."""
LOST = -signal.SIGKILL
"""What stands for the status of a run whose job or worker ended without one: as if it were killed,
it is started again."""
CANCELLED = 128 + signal.SIGTERM
"""What stands for the status of a run whose job was cancelled: it is not started again."""
MEANINGS = {
    UserError.status: "refused",
    Diverged.status: "diverged",
    CANCELLED: "its job was cancelled",
}
REASON_LINES = 5
POLL_SECONDS = 0.5


def import_paths() -> list[str]:
    """Folders in which a run, here or on another machine, finds this package and a user's own
    modules: as this process does, and in its order.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys([os.getcwd(), *filter(None, given), str(Path(__file__).parents[2])]))


class Share(NamedTuple):
    """What a run may use."""

    cores: int
    """Learner threads and env workers each: they take turns, mostly."""
    gpu: str = ""
    """CUDA_VISIBLE_DEVICES, or empty to leave it as it is."""


def within(config: RunConfig, share: Share) -> RunConfig:
    """The run with threads and workers of its share, where neither was chosen for it."""
    execution = config.execution
    threads = execution.threads or threads_of(config, share)
    workers = execution.workers or share.cores
    return replace(config, execution=replace(execution, threads=threads, workers=workers))


def threads_of(config: RunConfig, share: Share) -> int:
    """Learner threads of a run, or of several seeds, for which none were chosen.

    What has begun keeps its threads, on which the rounding of sums depends, and looks them up
    itself (0): asked for here, they could be refused as too many for this machine. Seeds that join
    others take as many.
    """
    seeds = config.each_seed()
    begun = [directory for directory in map(RunDirectory, seeds) if directory.sessions()]
    kept = {directory.threads() for directory in begun}
    if not kept:
        return share.cores
    return kept.pop() if len(kept) == 1 and len(begun) < len(seeds) else 0


def folders(config: RunConfig) -> list[Path]:
    """The directories of a run, or of all seeds that it is trained together with."""
    return [RunDirectory(run).path for run in config.each_seed()]


class Child:
    """A run that goes on, or several seeds of one; the log is the first one's."""

    def __init__(self, config: RunConfig, share: Share) -> None:
        self.config = config
        for folder in folders(config):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILURE).unlink(missing_ok=True)
        self.folder = folders(config)[0]
        arguments = command_line(within(config, share))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(import_paths())}
        if share.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = share.gpu
        # Else each run compiles with as many processes as the machine has cores.
        environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, share.cores)))
        with opened_to_append(self.folder / LOG) as log:
            log.write(f"# {datetime.now():%Y-%m-%d %H:%M:%S} suite {' '.join(arguments)}\n")
            log.flush()
            self.begin = log.tell()
            # A session of its own: Ctrl-C on the terminal reaches the launcher alone.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "suite.sweeps.supervised", str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def status(self) -> int | None:
        """The exit status, or None while the run goes on; keeps the reason of a failure."""
        status = self.process.poll()
        if status == -signal.SIGTERM:
            status = STOPPED  # it had not begun to train
        if status is not None and status not in (DONE, STOPPED, BUSY):
            keep_failure(self.config, status, self.last_lines())
        return status

    def last_lines(self) -> list[str]:
        """The last lines that this session printed."""
        path = self.folder / LOG
        try:
            with path.open(encoding="utf-8", errors="replace") as log:
                log.seek(self.begin)
                lines = [x.rstrip() for x in log if x.strip() and not x.startswith("# ")]
        except OSError as error:  # the folder was moved
            return [f"{path} cannot be read: {error.strerror}"]
        return lines[-REASON_LINES:]

    def stop(self) -> None:
        """Asks it to save and stop at the end of its episode."""
        if self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Ends it at once; what it has not saved is lost."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def carry_out(
    config: RunConfig, share: Share, hold: Callable[[Child], None] = lambda _: None
) -> int:
    """Does a run in this process's name, waiting where another is at it; returns its status.

    `hold` is told the process of the run.

    Any exception raised into it, such as a cancellation, lets the run save and stop first.
    """
    while True:
        while any(in_use(folder) for folder in folders(config)):
            time.sleep(POLL_SECONDS)
        child = Child(config, share)
        hold(child)
        try:
            while (status := child.status()) is None:
                time.sleep(POLL_SECONDS)
        except BaseException:
            child.stop()
            child.process.wait()
            raise
        if status != BUSY:
            return status


def keep_failure(config: RunConfig, status: int, lines: list[str], reason: str = "") -> None:
    """Writes failure.json, which stands until the run goes on, for each seed that is not done.

    The reason is that of the status where none is given.
    """
    text = json.dumps({"status": status, "reason": reason or meaning(status), "lines": lines})
    for folder in folders(config):
        # Where it cannot be written, the run is at least not called done.
        with contextlib.suppress(OSError, UserError):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / RESULT).exists():
                write_atomically(folder / FAILURE, f"{text}\n".encode())


def meaning(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return MEANINGS.get(status, f"exit status {status}")
