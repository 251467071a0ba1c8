"""Runs of a sweep as an array job of Slurm, through submitit (extra `slurm`).

When Slurm warns a job before it is preempted or its time is up, the run saves and the job goes back
into the queue. Jobs go on when the sweep is interrupted; the same command follows them again.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from suite.config import RunConfig
from suite.estimate import Cost, combined
from suite.messages import Failure, UserError
from suite.options import command_line, parse
from suite.sweeps.child import (
    CANCELLED,
    LOST,
    STOPPED,
    Child,
    Share,
    carry_out,
    import_paths,
    keep_failure,
)
from suite.sweeps.plan import Plan, together

try:
    import submitit
except ImportError:
    how = f"{sys.executable} -m pip install -e '.[slurm]'"
    raise UserError(f"launcher: submitit is not installed; {how}") from None

FOLDER = ".slurm"
"""In the results folder: submitit's files, and the number of each run's job."""
DAY = 24 * 60
LOOK_SECONDS = 5.0
"""Seconds between two looks at the queue."""
FAREWELL_SECONDS = 600.0


class Job:
    """What a job does: a run as its child. Submitit calls `checkpoint` at a warning."""

    def __init__(self, arguments: list[str], cores: int, paths: list[str]) -> None:
        self.arguments, self.cores, self.paths = arguments, cores, paths
        self.child: Child | None = None

    def __call__(self) -> int:
        """Carries the run out; returns its exit status."""
        # A cluster need not hand PYTHONPATH on, and the method is looked for here, too.
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        os.environ["PYTHONPATH"] = os.pathsep.join(self.paths)
        status = carry_out(parse(self.arguments[1:]), Share(self.cores), self.hold)
        if status == STOPPED:
            # Slurm has told every process of the job to end. It puts a preempted job back into the
            # queue at the end of the grace time, but not one that has ended by itself.
            time.sleep(FAREWELL_SECONDS)
        return status

    def hold(self, child: Child) -> None:
        """Remembers the child that a warning must stop."""
        self.child = child

    def checkpoint(self) -> Any:
        """Lets the run save; returns what the job does when its turn comes again."""
        if self.child is not None:
            self.child.stop()
            self.child.process.wait()
        return submitit.helpers.DelayedSubmission(Job(self.arguments, self.cores, self.paths))


class SlurmLauncher:
    """An array job for each time that runs are started together."""

    detaches = True

    def __init__(
        self,
        plan: Plan,
        costs: Sequence[Cost],
        cores: int,
        jobs: int = 0,
        gpus_per_run: float = 0.0,
        parameters: str = "",
    ) -> None:
        started = together(plan.runs)
        self.cores, self.at_once = cores, jobs or len(started)
        self.folder = Path(plan.runs[0].execution.results) / FOLDER
        given = dict(pair(part) for part in parameters.split(",") if part)
        cluster = given.pop("cluster", "slurm")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError("launcher: there is no sbatch here; log in to a node of the cluster")
        self.slurm = cluster == "slurm"
        self.executor = submitit.AutoExecutor(
            self.folder / "%j", cluster=cluster, slurm_max_num_timeout=10_000
        )
        by_name = {c.name(): cost for c, cost in zip(plan.runs, costs, strict=True)}
        memory = max(combined(by_name, config).memory for config in started)
        cuda = any(config.device == "cuda" for config in plan.runs)
        self.executor.update_parameters(
            name="mtscale",
            timeout_min=DAY,
            cpus_per_task=cores,
            mem_gb=math.ceil(1.2 * memory / 2**30),
            gpus_per_node=math.ceil(gpus_per_run or 1) if cuda else 0,
            slurm_array_parallelism=self.at_once,
        )
        try:
            self.executor.update_parameters(**given)
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"slurm: {str(error).splitlines()[0]}") from None
        self.waiting: list[RunConfig] = []
        self.jobs: dict[str, tuple[RunConfig, Any]] = {}
        self.looked = float("-inf")

    def has_room(self, config: RunConfig) -> bool:
        """See `Launcher.has_room`; Slurm keeps the queue."""
        return True

    def never_fits(self, config: RunConfig) -> str:
        """See `Launcher.never_fits`; Slurm knows its nodes."""
        return ""

    def start(self, config: RunConfig) -> None:
        """See `Launcher.start`: follows a job that is in the queue already, else submits one."""
        number = self.note(config)
        known = number.read_text().strip() if number.exists() else ""
        if self.slurm and known and known in queued():
            self.jobs[config.name()] = (config, submitit.SlurmJob(self.folder / "%j", known))
        else:
            self.waiting.append(config)

    def note(self, config: RunConfig) -> Path:
        """The file with the number of the run's job."""
        others = f"+{config.execution.seeds}" if config.execution.seeds else ""
        return self.folder / f"{config.name()}{others}.job"

    def submit(self) -> None:
        """Submits what has been started since the last time, as one array."""
        paths = import_paths()
        works = [Job(command_line(c), self.cores, paths) for c in self.waiting]
        try:
            with self.executor.batch():
                jobs = [self.executor.submit(work) for work in works]
            for config, job in zip(self.waiting, jobs, strict=True):
                self.note(config).write_text(job.job_id)
                self.jobs[config.name()] = (config, job)
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"launcher: sbatch refused the job: {str(error).strip()}") from None
        except OSError as error:
            # A run whose job is not noted gets a second one, which waits for the first.
            raise Failure(
                f"launcher: cannot write to {self.folder}: {error.strerror}; jobs that are in the "
                "queue go on: make room and give the same command again"
            ) from None
        self.waiting = []

    def ended(self) -> Iterable[tuple[RunConfig, int]]:
        """See `Launcher.ended`."""
        if self.waiting:
            self.submit()
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return
        self.looked = time.monotonic()
        there = (
            queued() if self.slurm else {j.job_id for _, j in self.jobs.values() if not j.done()}
        )
        for name, (config, job) in list(self.jobs.items()):
            if job.job_id in there:
                continue
            del self.jobs[name]
            self.note(config).unlink(missing_ok=True)
            yield config, self.status(config, job)

    def status(self, config: RunConfig, job: Any) -> int:
        """The exit status that a job left, or what stands for one; then the reason is kept."""
        number, log, left = job.job_id, f"its log is {job.paths.stderr}", STOPPED
        if job.paths.result_pickle.exists():
            outcome, value = submitit.core.utils.pickle_load(job.paths.result_pickle)
            # A job that has saved and was not allowed to requeue is lost, and the sweep submits it.
            if outcome != "success" and "scontrol" not in str(value):  # what the job itself raised
                keep_failure(config, Failure.status, [*str(value).strip().splitlines()[-3:], log])
                return Failure.status
            left = int(value) if outcome == "success" else LOST
            if left not in (STOPPED, LOST):
                return left
        end = end_of(number) if self.slurm else ""
        if end == "CANCELLED":
            again = "the same sweep command submits it again, and the run resumes"
            keep_failure(config, CANCELLED, [f"job {number} was cancelled; {again}"])
            return CANCELLED
        if left == STOPPED and job.paths.result_pickle.exists():
            return left
        how = f" ({end})" if end else ""
        lines = [f"job {number} ended without an exit status{how}; {log}"]
        keep_failure(config, LOST, lines, "its job was lost")
        return LOST

    def stop(self) -> None:
        """See `Launcher.stop`: the jobs go on."""
        if self.jobs:
            numbers = sorted({job.job_id.partition("_")[0] for _, job in self.jobs.values()})
            print(f"the jobs go on; to end them: scancel {' '.join(numbers)}")

    def kill(self) -> None:
        """See `Launcher.kill`: the jobs are the queue's."""


def pair(text: str) -> tuple[str, Any]:
    """A parameter of the job: KEY=VALUE, whole numbers as numbers."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"slurm: {text!r} is not KEY=VALUE, such as slurm_partition=gpu")
    return key, int(value) if value.isdigit() else value


def end_of(number: str) -> str:
    """How Slurm says that a job has ended, such as CANCELLED or TIMEOUT; empty where it does not.

    The controller forgets a job in minutes; accounting, where there is some, keeps it.
    """
    accounted = ["--noheader", "--allocations", "--parsable2", "--format=State"]
    for command, state in (
        (["scontrol", "show", "job", "--oneliner", number], r"JobState=(\w+)"),
        (["sacct", *accounted, f"--jobs={number}"], r"^(\w+)"),
    ):
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if told.returncode == 0 and (found := re.search(state, told.stdout)):
            return found[1]
    return ""


def queued() -> set[str]:
    """Numbers of the jobs in the queue, of arrays as 12_3. Raises UserError without an answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    for patience in (1, 10, 60):
        try:
            listed = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            listed = None
        if listed is not None and listed.returncode == 0:
            return set(listed.stdout.split())
        time.sleep(patience)  # a controller that restarts
    raise UserError(
        "launcher: squeue does not answer; the jobs go on, give the command again later"
    )
