"""A run's directory: its configuration, provenance, rows and checkpoints; nothing overwritten.

<results>/<run>/config.json       the resolved configuration: the run's identity
                provenance.json   versions and machine of every session that worked on it
                rows.parquet      the tidy rows, when the run is done (rows/ until then)
                timing.parquet    wall-clock seconds and speed: rows that no two runs share
                result.json       final success a task; its presence means that the run is done
                checkpoints/      what resuming needs, and in the end the last weights
                progress.json     where a run that is not done stands
                log.txt           what it printed, and failure.json why it ended, in a sweep
                tensorboard/, wandb/, film/   for looking at; nothing is ever read from them
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from algorithms.algorithm import ParameterCounts
from suite.config import RunConfig
from suite.messages import UserError
from suite.runs.checkpoint import CheckpointStore, write_atomically
from suite.runs.rows import RowLog, consolidate, timing_rows

PROGRESS, LOG, FAILURE, RESULT = "progress.json", "log.txt", "failure.json", "result.json"
LOCK_SECONDS = 1.0
"""How long a held lock is tried: who only looks whether a run goes on holds it for an instant."""

PACKAGES = ("torch", "metaworld", "mujoco", "gymnasium", "numpy", "scipy", "mtscale")


class Busy(UserError):
    """Another process is working on the run."""

    status = 75
    """EX_TEMPFAIL: it will be free again."""


class RunDirectory:
    """The directory of one run, locked against a second process that would work on it."""

    def __init__(self, config: RunConfig) -> None:
        execution = config.execution
        self.config = config
        self.path = Path(execution.run_dir or Path(execution.results) / config.name())
        self.checkpoints = CheckpointStore(self.path / "checkpoints")

    def open(self) -> None:
        """Creates or checks the directory. Raises UserError where it belongs to another run."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"run-dir: {self.path} is a file; name a directory")
            self.path.mkdir(parents=True, exist_ok=True)
            self.refuse_foreign()
            self.lock = (self.path / "lock").open("a")
        except OSError as error:
            raise UserError(f"run-dir: cannot write to {self.path}: {error.strerror}") from None
        if not locked(self.lock, LOCK_SECONDS):
            raise Busy(
                f"run-dir: another process is working on {self.path}; wait for it or stop it"
            )
        if self.config.execution.force:
            self.clear()
        self.compare()
        config = {"run": self.config.name(), **self.config.identity()}
        write_atomically(self.path / "config.json", (json.dumps(config, indent=1) + "\n").encode())

    def refuse_foreign(self) -> None:
        """Raises UserError where the directory holds things and is not a run's."""
        names = {plain_name(path) for path in self.path.iterdir()} - {"lock", LOG, FAILURE}
        if names and "config.json" not in names:
            raise UserError(f"run-dir: {self.path} is not empty and not a run; name another")
        lock = self.path / "lock"
        if not names and lock.exists() and lock.stat().st_size:
            raise UserError(f"run-dir: {lock} is not a run's lock; name another directory")

    def clear(self) -> None:
        """Deletes what an earlier run left; refuses a directory that holds anything else."""
        ours = {
            "config.json", "provenance.json", "rows.parquet", "timing.parquet", "result.json",
            "checkpoints", "rows", "lock", "timing.jsonl", "tensorboard", "wandb", "film",
            PROGRESS, LOG, FAILURE,
        }  # fmt: skip
        foreign = sorted(p.name for p in self.path.iterdir() if plain_name(p) not in ours)
        if foreign:
            raise UserError(
                f"force: {self.path} also holds {foreign[0]}, which is not a run's; not deleted"
            )
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in ("lock", LOG):  # both are open
                path.unlink()

    def compare(self) -> None:
        """Raises UserError where the directory holds a run of another configuration."""
        stored_path = self.path / "config.json"
        if not stored_path.exists():
            return
        try:
            stored = flatten(json.loads(stored_path.read_text()))
        except (ValueError, AttributeError):
            raise UserError(f"run-dir: {stored_path} is damaged; --force starts again") from None
        stored.pop("run", None)
        mine = flatten(json.loads(json.dumps(self.config.identity())))
        different = [k for k in mine | stored if mine.get(k) != stored.get(k)]
        if different:
            key = different[0]
            count = len(different) - 1
            more = f" (and {count} other difference{'s' * (count > 1)})" if count else ""
            raise UserError(
                f"run-dir: {self.path} holds a run with {key.replace('_', '-')} "
                f"{stored.get(key)!r}, not {mine.get(key)!r}{more}; name another directory, or "
                "add --force to delete it"
            )

    @property
    def result(self) -> dict[str, Any] | None:
        """The contents of result.json, or None while the run is not done."""
        path = self.path / RESULT
        if not path.exists():
            return None
        result: dict[str, Any] = json.loads(path.read_text())
        return result

    def sessions(self) -> list[dict[str, Any]]:
        """What provenance.json says of the sessions so far."""
        path = self.path / "provenance.json"
        found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        return found

    def threads(self) -> int:
        """The number of learner threads, that of the first session for all of them.

        Sums are split by threads, and round accordingly. Raises UserError where another number is
        asked for.
        """
        sessions, own = self.sessions(), self.config.execution.threads
        threads: int = sessions[0]["threads"] if sessions else own or len(os.sched_getaffinity(0))
        if own not in (0, threads):
            raise UserError(
                f"threads: this run began with {threads}, and {own} would round otherwise; leave "
                f"--threads out, or give {threads}"
            )
        return threads

    def begin_session(self, seeds: Sequence[int]) -> None:
        """Adds the versions, the machine and the seeds trained together to provenance.json."""
        path, sessions = self.path / "provenance.json", self.sessions()
        sessions.append(provenance(self.config, self.threads(), seeds))
        for name, now in sessions[-1]["versions"].items():
            before = sessions[0]["versions"].get(name)
            if before != now:
                print(f"warning: this run began with {name} {before}, now {now}", file=sys.stderr)
        write_atomically(path, (json.dumps(sessions, indent=1) + "\n").encode())

    def forget_parts_after_checkpoint(self) -> None:
        """Deletes row files that no checkpoint names: the work after it is done again."""
        folder = self.path / "rows"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if f"rows/{path.name}" not in self.checkpoints.parts:
                path.unlink()

    def part(self, round_: int, log: RowLog) -> tuple[str, bytes] | None:
        """The rows since the last checkpoint as a file to go with the next one."""
        return (f"rows/{round_:09d}.parquet", log.flush()) if log.rows else None

    def time(self, entry: dict[str, float]) -> None:
        """Adds an entry to the timing log."""
        path = self.path / "timing.jsonl"
        try:
            with path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None

    def finish(self, counts: ParameterCounts, result: dict[str, Any]) -> None:
        """Writes rows.parquet, timing.parquet and, last, result.json; then tidies."""
        parts = [self.path / part for part in self.checkpoints.parts]
        identity = self.config.identity()
        data = consolidate(parts, self.columns(counts), {"config": identity})
        write_atomically(self.path / "rows.parquet", data)
        timing = timing_rows(self.path / "timing.jsonl", self.config.name())
        write_atomically(self.path / "timing.parquet", timing)
        write_atomically(self.path / RESULT, (json.dumps(result, indent=1) + "\n").encode())
        self.tidy()

    def tidy(self) -> None:
        """Removes what only resuming needed; a kill in the middle leaves the rest to the next."""
        for name in ("timing.jsonl", PROGRESS, FAILURE):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "rows", ignore_errors=True)
        for path in self.checkpoints.folder.glob("*"):
            if not path.name.startswith("state-"):
                path.unlink()
        for path in sorted(self.checkpoints.folder.glob("state-*"))[:-1]:
            path.unlink()

    def columns(self, counts: ParameterCounts) -> dict[str, Any]:
        """What every row carries beside its value."""
        c, e = self.config, self.config.evaluation
        protocol = (
            f"deterministic policy, separate envs, success at any step, {c.task.goals} goals, "
            f"{e.final_episodes if c.task.goals != 'fixed' else 1} final episodes a task"
        )
        return {
            "run": c.name(),
            "config_hash": c.hash(),
            "algorithm": c.algorithm,
            "seed": c.seed,
            "task_set": c.identity()["task"]["tasks"],
            "tasks": len(c.tasks),
            "goals": c.task.goals,
            "reward_version": c.task.reward_version,
            "horizon": c.task.horizon,
            "total_steps": c.rounds * c.steps_per_round,
            "actor_parameters": counts.actor,
            "critic_parameters": counts.critic,
            "total_parameters": counts.total,
            "evaluation": protocol,
            "device": c.device,
            **{f"version_{name}": version(name) for name in PACKAGES},
        }


def check_space(folders: Sequence[Path], needed: int) -> None:
    """Raises UserError where the disk has less than the bytes that the runs in these will need."""
    free = shutil.disk_usage(folders[0]).free
    # A resumed run has written part of it already.
    written = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    free += sum(path.stat().st_size for path in written)
    if free < needed:
        raise UserError(
            f"disk: this run's checkpoints need about {needed / 1e9:.1f} GB and {folders[0]} "
            f"has {free / 1e9:.1f} GB free; make room, choose another --results folder or a "
            "smaller --buffer-per-task"
        )


def locked(file: TextIO, seconds: float = 0.0) -> bool:
    """Takes the lock of a run, for as long as the file is open; False where another has it.

    The kernel drops it when a process ends, however it ends; on NFS the server does. Raises
    UserError where the file system has no locks.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise UserError(
                f"results: {file.name} cannot be locked ({error.strerror}), so that two processes "
                "could train one run; mount the folder with file locks, or choose another --results"
            ) from None


def plain_name(path: Path) -> str:
    """A file's name, also where a killed write left it under its temporary one."""
    name = path.name
    return name[1:-4] if name.startswith(".") and name.endswith(".tmp") else name


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Nested configuration as one level, by field name."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value) if isinstance(value, dict) else {key: value}
    return flat


def version(package: str) -> str:
    """The installed version; of this suite with its git commit where it is run from a clone."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    return f"{found}+{commit()}" if package == "mtscale" and commit() else found


def commit() -> str:
    """The clone's commit, marked where files differ from it; empty outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def provenance(config: RunConfig, threads: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Where and with what a session runs."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in PACKAGES} | {"gcc": compiler_version()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "device": config.device,
        "engine": config.execution.engine,
        "workers": config.execution.workers,
        "threads": threads,
        "seeds_together": list(seeds),
    }


def compiler_version() -> str:
    """That of the C compiler which the module stacks ask for, or "none": then torch rounds."""
    try:
        command = ["gcc", "-dumpfullversion"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    return found.stdout.strip() or "none"


def processor() -> str:
    """The CPU's model name, on which bit-for-bit results may depend."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
