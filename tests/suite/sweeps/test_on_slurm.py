"""A sweep on a real Slurm of one machine: warned, preempted, followed again after it was left.

Where Slurm's daemons are not installed or may not run, submitit's local executor takes its place.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_sweeps import begin, ended, fields, planned, rows, sessions, wait_for

from suite.messages import Failure
from suite.runs.state import state
from suite.sweeps.child import CANCELLED, LOST, STOPPED

pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")

from suite.sweeps import on_slurm as launcher

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
KillWait=3
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,requeue_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=8
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def reason_against() -> str:
    """Why Slurm cannot run here; empty where it can be tried."""
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons start as root only"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a Slurm of this machine."""
    if reason_against():
        pytest.skip(reason_against())
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        port=free_port(),
        slurmd_port=free_port(),
        user=getpass.getuser(),
        folder=folder,
        cores=len(os.sched_getaffinity(0)),
    )
    configuration.write_text(text)
    environment = {"SLURM_CONF": str(configuration)}
    places = {"socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{end}" for option, end in places.items()]
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
        ["slurmctld", "-D", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration)],
    ]
    running = []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        for daemon in daemons:
            running.append(subprocess.Popen(daemon, env=os.environ | environment, **quiet))
            time.sleep(1)
        end = time.monotonic() + 30
        while "idle" not in asked(["sinfo", "--noheader", "--format=%T"], environment):
            if time.monotonic() > end:
                log = (folder / "slurmctld.log").read_text()[-300:]
                pytest.skip(f"Slurm's daemons do not run here: {log}")
            time.sleep(0.5)
        yield environment
    finally:
        asked(["scancel", "--full", f"--user={getpass.getuser()}"], environment)
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def asked(command: list[str], environment: dict[str, str]) -> str:
    env = os.environ | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60).stdout


def empty_soon(environment: dict[str, str]) -> None:
    """Waits until the queue is empty: a run is done before Slurm has put its job away."""
    end = time.monotonic() + 60
    while left := asked(["squeue", "--noheader"], environment):
        assert time.monotonic() < end, left
        time.sleep(0.3)


def again_at_once(number: str, environment: dict[str, str]) -> None:
    """Waits until a job is back in the queue, and spares it the two minutes that Slurm waits."""
    end = time.monotonic() + 120
    look = ["squeue", "--noheader", "--format=%T", f"--jobs={number}"]
    while "PENDING" not in asked(look, environment):
        assert time.monotonic() < end, asked(["squeue"], environment)
        time.sleep(0.3)
    asked(["scontrol", "update", f"JobId={number}", "StartTime=now"], environment)


def on_slurm(results: Path, **others: str) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of a small run, and those with how Slurm shall run it."""
    given = fields(results, **others)
    job = "mem_gb=1,timeout_min=60,slurm_signal_delay_s=30"
    return given, {**given, "launcher": "slurm", "cores": "1", "slurm": job}


def test_jobs_save_and_requeue_when_warned_and_go_on_without_the_sweep(
    slurm: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    given, options = on_slurm(tmp_path / "slurm", seed="0,1")
    sweep = begin(options, **slurm)
    wait_for(given)
    # The warning that precedes a time limit or, on many clusters, preemption.
    first, second = planned(given).runs
    number = (tmp_path / "slurm" / ".slurm" / f"{first.name()}.job").read_text()
    asked(["scancel", "--signal=USR2", number], slurm)
    # Ctrl-C leaves the jobs in the queue, and the same command follows them.
    sweep.send_signal(signal.SIGINT)
    status, output = ended(sweep)
    assert status == 130, output
    assert "the jobs go on; to end them: scancel" in output
    before = asked(["squeue", "--noheader", "--array", "--format=%i"], slurm).split()
    assert number in before
    again_at_once(number, slurm)
    status, output = ended(begin(options, **slurm))
    assert status == 0, output
    begun = sessions(tmp_path / "slurm")
    assert begun[first.name()] == 2
    assert begun[second.name()] == 1
    empty_soon(slurm)
    assert rows(tmp_path / "slurm") == rows(undisturbed)


def test_a_preempted_job_saves_and_comes_back(slurm: dict[str, str], tmp_path: Path) -> None:
    # Slurm takes seconds to preempt.
    given, options = on_slurm(tmp_path, steps="4800")
    sweep = begin(options, **slurm)
    wait_for(given)
    cores = str(len(os.sched_getaffinity(0)))
    urgent = [
        "sbatch",
        "--parsable",
        "--partition=urgent",
        f"--ntasks={cores}",
        "--output=/dev/null",
    ]
    assert asked([*urgent, "--wrap", "sleep 1"], slurm).strip()
    (config,) = planned(given).runs
    again_at_once((tmp_path / ".slurm" / f"{config.name()}.job").read_text(), slurm)
    status, output = ended(sweep)
    assert status == 0, output
    assert state(planned(given).runs[0]).phase == "done"
    log = next(tmp_path.glob("*/log.txt")).read_text()
    assert "saved at env step" in log
    assert "resuming at env step" in log


def ended_as(
    left: tuple[str, object] | None, end: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, tuple[str, ...]]:
    """Status, reason and lines of a run whose job left this and, as Slurm says, ended so."""
    (config,) = planned(fields(results)).runs
    monkeypatch.setattr(launcher, "end_of", lambda _: end)
    slurm = launcher.SlurmLauncher.__new__(launcher.SlurmLauncher)
    slurm.slurm = True
    pickled = results / "result.pkl"
    if left is not None:
        results.mkdir(exist_ok=True)
        pickled.write_bytes(pickle.dumps(left))
    paths = SimpleNamespace(result_pickle=pickled, stderr=results / "log")
    status = slurm.status(config, SimpleNamespace(job_id="12_3", paths=paths))
    found = state(config)
    return status, found.reason, found.lines


def test_a_cancelled_job_is_no_killed_run_and_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for left in (None, ("success", STOPPED)):
        status, reason, (line,) = ended_as(left, "CANCELLED", tmp_path, monkeypatch)
        assert (status, reason) == (CANCELLED, "its job was cancelled")
        assert line.startswith("job 12_3 was cancelled; the same sweep command submits it again")


def test_a_job_that_is_lost_is_tried_again_and_one_that_raised_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, reason, (line,) = ended_as(None, "NODE_FAIL", tmp_path, monkeypatch)
    assert (status, reason) == (LOST, "its job was lost")
    assert "ended without an exit status (NODE_FAIL); its log is" in line
    status, reason, lines = ended_as(("error", "in run\nE: no folder"), "", tmp_path, monkeypatch)
    assert (status, reason) == (1, "exit status 1")
    assert lines[1] == "E: no folder"
    requeue = "CalledProcessError: Command '['scontrol', 'requeue', '7']' returned 1"
    assert ended_as(("error", requeue), "", tmp_path, monkeypatch)[:2] == (LOST, "its job was lost")
    assert ended_as(("success", STOPPED), "", tmp_path, monkeypatch)[0] == STOPPED
    assert ended_as(("success", 3), "", tmp_path, monkeypatch)[0] == 3


def test_a_job_finds_a_users_method_where_the_sweep_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "from algorithms.mtsac import MTSAC\nclass Mine(MTSAC): pass\n"
    (tmp_path / "method_of_a_job.py").write_text(method)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(launcher, "carry_out", lambda *_: 0)
    small = ["bench", "--alg", "method_of_a_job:Mine", "--preset", "smoke", "--tasks", "reach"]
    assert launcher.Job(small, 1, [str(tmp_path)])() == 0


def test_a_disk_that_is_full_when_jobs_are_submitted_gives_one_line(tmp_path: Path) -> None:
    (config,) = planned(fields(tmp_path)).runs
    slurm = launcher.SlurmLauncher.__new__(launcher.SlurmLauncher)
    slurm.cores, slurm.waiting, slurm.folder = 1, [config], tmp_path / ".slurm"

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    slurm.executor = SimpleNamespace(batch=contextlib.nullcontext, submit=full)
    with pytest.raises(Failure, match="No space left on device; jobs that are in the queue go on"):
        slurm.submit()


def test_slurm_is_asked_how_a_job_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launcher.end_of("12_3") == ""
    for name, told in (
        ("sacct", "CANCELLED by 1000"),
        ("scontrol", "JobId=15 JobState=TIMEOUT X="),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{told}'\n")
        (tmp_path / name).chmod(0o755)
        assert launcher.end_of("12_3") in told.replace("=", " ").split()


def test_the_local_executor_takes_the_place_of_slurm(tmp_path: Path) -> None:
    given, options = on_slurm(tmp_path)
    local = {**options, "slurm": "cluster=local,timeout_min=60"}
    status, output = ended(begin(local))
    assert status == 0, output
    assert list(sessions(tmp_path).values()) == [1]
    assert state(planned(given).runs[0]).phase == "done"
