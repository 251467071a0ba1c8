"""A run's directory: its configuration, provenance, rows and checkpoints; nothing overwritten.

<results>/<run>/config.json       the resolved configuration: the run's identity
                provenance.json   versions and machine of every session that worked on it
                rows.parquet      the tidy rows, when the run is done or has diverged (rows/ until
                                  then)
                timing.parquet    wall-clock seconds and speed: rows that no two runs share
                result.json       final success per task and the rows' SHA-256: the run is done
                checkpoints/      what resuming needs, and in the end the last weights
                progress.json     where a run that is not done stands
                log.txt           what it printed, and failure.json why it ended, in a sweep
                tensorboard/, wandb/, film/   for looking at; nothing is ever read from them

What is damaged is made again where that is possible, and else named; files that are not the run's
are neither read nor deleted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from algorithms.algorithm import Algorithm, ParameterCounts
from suite.config import RunConfig
from suite.messages import Failure, UserError, warn
from suite.runs.checkpoint import CheckpointStore
from suite.runs.files import opened_to_append, set_aside, write_atomically
from suite.runs.finished import RESULT, ROWS, done, write_result
from suite.runs.identity import refuse_other, stored_identity
from suite.runs.lock import LOCK_SECONDS, Busy, locked
from suite.runs.manifest import PARTS, line_of, own_files
from suite.runs.method_code import refuse_other_code
from suite.runs.ownership import (
    CONFIG,
    FAILURE,
    INSIDE,
    LOCK,
    OURS,
    PROGRESS,
    PROVENANCE,
    TIMES,
    plain_name,
    refuse_foreign,
    refuse_misplaced,
)
from suite.runs.provenance import (
    PACKAGES,
    Session,
    read_sessions,
    rounds_otherwise,
    session,
    version,
)
from suite.runs.rows import RowLog, consolidate, timing_rows

ELSEWHERE = (
    ", name another folder with --results, or add --force to delete the run and train it again"
)
DIVERGED = "diverged_at"
"""The column of env steps that only the rows of a run that diverged have."""


class RunDirectory:
    """The directory of one run, locked against a second process that would work on it."""

    def __init__(self, config: RunConfig) -> None:
        execution = config.execution
        self.config = config
        self.path = Path(execution.run_dir or Path(execution.results) / config.name())
        self.checkpoints = CheckpointStore(self.path / "checkpoints", config.name())
        self.lock: TextIO | None = None

    def open(self) -> None:
        """Claims the directory for the run. Raises UserError where it belongs to another run."""
        self.claim()
        self.compare()
        self.compare_code()
        (self.path / FAILURE).unlink(missing_ok=True)
        config = {"run": self.config.name(), **self.config.identity()}
        write_atomically(self.path / CONFIG, (json.dumps(config, indent=1) + "\n").encode())

    def claim(self) -> None:
        """Creates the directory and locks it until `close`; nothing that is there is touched.

        Raises UserError where it is none of a run's, and Busy where another process has the lock.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"run-dir: {self.path} is a file; name a directory")
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_foreign(self.path, self.checkpoints)
            refuse_misplaced(self.path)
            lock = opened_to_append(self.path / LOCK)
        except OSError as error:
            raise UserError(f"run-dir: cannot write to {self.path}: {error.strerror}") from None
        if not locked(lock, LOCK_SECONDS):
            lock.close()
            raise Busy(
                f"run-dir: another process is working on {self.path}; wait for it or stop it"
            )
        self.lock = lock

    def refuse_moved(self) -> None:
        """Raises Failure where the directory was moved or deleted after it was claimed: what stands
        at its path by now may be another process's, which has a lock of its own.
        """
        if self.lock is None:
            return
        try:
            same = os.path.samestat((self.path / LOCK).stat(), os.fstat(self.lock.fileno()))
        except OSError:
            same = False
        if not same:
            raise Failure(
                f"run-dir: {self.path} was moved or deleted while this run went on, which ends "
                "here; move it back, and the same command resumes it"
            )

    def close(self) -> None:
        """Gives the directory free for other processes, and for this one."""
        if self.lock is not None:
            self.lock.close()

    def compare(self) -> None:
        """Raises UserError where the directory holds a run of another configuration.

        A damaged configuration is written again where a checkpoint says that the run is this one.
        """
        path = self.path / CONFIG
        stored = stored_identity(path)
        if stored is None:
            there = [name for name in (RESULT, ROWS) if (self.path / name).exists()]
            if (there or self.checkpoints.any()) and not self.checkpoints.readable():
                raise UserError(
                    f"run-dir: {path} is damaged, and no checkpoint says which run it was; put it "
                    f"back from a copy, or move {self.path} elsewhere"
                )
            if path.exists() or self.checkpoints.any():
                warn(f"{path} is damaged or gone; it is written again, as this command has it")
            return
        refuse_other(stored, self.config.identity(), self.path)

    def compare_code(self, way_out: str = ELSEWHERE) -> None:
        """Raises UserError where a run was begun with other code of a user's method."""
        refuse_other_code(self.config.algorithm, self.first_session(), self.path, way_out)

    def result(self) -> dict[str, Any] | None:
        """What the run ended with, its rows checked; None while it is not done.

        A damaged result is written again from its rows, and damaged rows are where the checkpoints
        are still there. Raises UserError where that cannot be done.
        """
        sealed, rows = self.checkpoints.finished_rows(), self.path / ROWS
        try:
            found = done(self.path, self.config.name())
            if found is not None:
                return found
            fails = diverged_at(rows) is not None
            if not sealed and (self.checkpoints.any() or not rows.exists() or fails):
                return None
            problem = f"{self.path / RESULT} is gone"
        except ValueError as error:
            problem = str(error)
        if sealed and not line_of(rows, sealed):
            warn(f"{problem}; it is written again from {rows.name}")
            return write_result(self.config, self.path, self.checkpoints.newest().lost)
        if sealed or not self.checkpoints.readable():
            raise UserError(
                f"{problem}, and what its rows were made of was deleted when the run was done; put "
                f"it back from a copy, or move {self.path} elsewhere and give the same command "
                "again, which then trains from nothing"
            )
        set_aside(self.path / RESULT)
        warn(f"{problem}; the run is finished again from its last checkpoint")
        return None

    def sessions(self) -> list[Session]:
        """The sessions so far; where they are lost, the first one, as a checkpoint has it."""
        try:
            found = read_sessions(self.path / PROVENANCE)
        except ValueError:
            found = []
        first = self.checkpoints.newest().began
        return found or ([dict(first)] if first else [])

    def first_session(self) -> Session:
        """The session that began the run; empty before it."""
        return next(iter(self.sessions()), {})

    def threads(self) -> int:
        """The number of learner threads, that of the first session for all of them.

        Sums are split by threads, and round accordingly. Raises UserError where another number is
        asked for.
        """
        own = self.config.execution.threads
        threads: int = self.first_session().get("threads", own or len(os.sched_getaffinity(0)))
        if own not in (0, threads):
            raise UserError(
                f"threads: this run began with {threads}, and {own} would round otherwise; leave "
                f"--threads out, or give {threads}"
            )
        return threads

    def learner(self) -> str | None:
        """How the first session carried out gradient steps; None before it."""
        rounding: Mapping[str, str] = self.first_session().get("rounding", {})
        return rounding.get("learner")

    def begin_session(
        self, seeds: Sequence[int], learner: str, kernels: str = "torch", env_step: int = 0
    ) -> None:
        """Adds what runs now to provenance.json, and says where it rounds otherwise than at first.

        `learner` is how gradient steps are carried out from `env_step` on, by whose `kernels`,
        `seeds` are those trained together.
        """
        path, sessions = self.path / PROVENANCE, self.sessions()
        try:
            read_sessions(path)
        except ValueError as error:
            warn(f"{error}; it is kept as {set_aside(path).name}, and a new one begun")
        now = session(self.config, self.threads(), seeds, learner, kernels, env_step)
        sessions.append(now)
        line = rounds_otherwise(sessions[0], now)
        if line:
            warn(line)
        write_atomically(path, (json.dumps(sessions, indent=1) + "\n").encode())
        self.checkpoints.last = replace(self.checkpoints.last, began=sessions[0])

    def forget_parts_after_checkpoint(self) -> None:
        """Deletes row files that no checkpoint names: the work after it is done again."""
        folder = self.path / "rows"
        folder.mkdir(exist_ok=True)
        for path in own_files(folder, PARTS):
            if f"rows/{path.name}" not in self.checkpoints.parts:
                path.unlink()

    def part(self, round_: int, log: RowLog) -> tuple[str, bytes] | None:
        """The rows since the last checkpoint as a file to go with the next one."""
        return (f"rows/{round_:09d}.parquet", log.flush()) if log.rows else None

    def time(self, entry: dict[str, float]) -> None:
        """Adds an entry to the timing log."""
        path = self.path / TIMES
        try:
            with opened_to_append(path) as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise Failure(f"cannot write {path}: {error.strerror}") from None

    def finish(
        self, counts: ParameterCounts, evaluated_by: str = Algorithm.evaluated_by
    ) -> dict[str, Any]:
        """Writes rows.parquet, timing.parquet and, last, result.json; then tidies.

        `evaluated_by` is how the algorithm acted. Returns what the run ended with.
        """
        self.write_rows(self.columns(counts, evaluated_by))
        timing = timing_rows(self.path / TIMES, self.config.name())
        write_atomically(self.path / "timing.parquet", timing)
        result = write_result(self.config, self.path, self.checkpoints.newest().lost)
        self.tidy(result)
        return result

    def write_diverged(
        self, columns: Mapping[str, Any], log: RowLog, rest: RowLog, at: int
    ) -> None:
        """Writes rows.parquet of a run that diverged in the round after so many env steps, so that
        no statistic leaves it out. There is no result: the run is not done.

        `log` holds what no checkpoint has, `rest` what stands for the rest of the run.
        """
        further = [pa.BufferReader(own.flush()) for own in (log, rest)]
        self.write_rows({**columns, DIVERGED: at}, *further)

    def outlive(self, env_step: int) -> None:
        """Deletes the rows of a divergence that the run has now come past."""
        at = diverged_at(self.path / ROWS)
        if at is not None and env_step > at:
            (self.path / ROWS).unlink()

    def write_rows(self, columns: Mapping[str, Any], *further: pa.BufferReader) -> None:
        """Writes rows.parquet of all parts so far, and further ones that are in no file."""
        self.refuse_moved()
        parts = [self.path / part for part in self.checkpoints.parts]
        lost = self.checkpoints.newest().lost
        metadata = {"config": self.config.identity(), **({"lost": lost} if lost else {})}
        write_atomically(self.path / ROWS, consolidate([*parts, *further], columns, metadata))

    def tidy(self, result: dict[str, Any]) -> None:
        """Removes what only resuming needed; a kill in the middle leaves the rest to the next."""
        half_written = [p for p in self.path.glob(".*.tmp") if plain_name(p) in OURS]
        for path in (*(self.path / name for name in (TIMES, PROGRESS, FAILURE)), *half_written):
            path.unlink(missing_ok=True)
        self.checkpoints.finish(result["rows_sha256"])
        rows = self.path / "rows"
        for path in own_files(rows, INSIDE["rows"]):
            path.unlink()
        if rows.is_dir() and not any(rows.iterdir()):
            rows.rmdir()

    def columns(
        self, counts: ParameterCounts, evaluated_by: str = Algorithm.evaluated_by
    ) -> dict[str, Any]:
        """What every row carries beside its value."""
        c = self.config
        protocol = (
            f"{evaluated_by}, separate envs, success at any step, {c.evaluated_goals} goals, "
            f"{c.evaluated_episodes(final=True)} final episodes a task"
        )
        first = self.first_session()
        method = " ".join([first.get("python", ""), *first.get("method", {}).values()])
        return {
            "run": c.name(),
            "config_hash": c.hash(),
            "algorithm": c.algorithm,
            "seed": c.seed,
            "task_set": c.identity()["task"]["tasks"],
            "tasks": len(c.tasks),
            "goals": "+".join(dict.fromkeys([c.task.goals, c.evaluated_goals])),
            "reward_version": c.task.reward_version,
            "horizon": c.task.horizon,
            "total_steps": c.rounds * c.steps_per_round,
            "actor_parameters": counts.actor,
            "critic_parameters": counts.critic,
            "total_parameters": counts.total,
            "evaluation": protocol,
            "device": c.device,
            **{f"version_{name}": self.versions(name) for name in PACKAGES},
            **({"version_method": method} if first.get("method") else {}),
        }

    def versions(self, package: str) -> str:
        """Those that worked on the run, in order."""
        found = [str(own.get("rounding", {}).get(package, "unknown")) for own in self.sessions()]
        return ", then ".join(dict.fromkeys(found or [version(package)]))


def diverged_at(rows: Path) -> int | None:
    """The env steps after which a run diverged, from its rows; None where these are not such."""
    try:
        if DIVERGED not in pq.read_schema(rows).names:
            return None
        at: int = pq.read_table(rows, columns=[DIVERGED])[DIVERGED][0].as_py()
        return at
    except (OSError, pa.ArrowException):
        return None


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
