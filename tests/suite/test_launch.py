"""Sweeps on this machine, with real processes that are killed, fail, and meet each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from suite.checkpoint import CheckpointStore
from suite.state import State, in_use, state
from suite.sweep import Plan, plan

ROOT = Path(__file__).parents[2]
FAILING = '''
from dataclasses import dataclass
from algorithms.mtsac import MTSAC
from algorithms.settings import MTSACSettings


@dataclass(frozen=True)
class Settings(MTSACSettings):
    breaks: int = 0
    """Whether it does."""


class Sometimes(MTSAC):
    Settings = Settings

    def update(self, batch):
        if self.settings.breaks:
            raise RuntimeError("it broke")
        return super().update(batch)
'''


def fields(results: Path, **others: str) -> dict[str, str]:
    small = {"alg": "mtsac", "preset": "smoke", "tasks": "reach,push", "horizon": "10"}
    same = {"steps": "400", "threads": "1", "workers": "1", "results": str(results)}
    return {**small, **same, **others}


def planned(given: dict[str, str]) -> Plan:
    return plan(
        "", {key: value.split("/" if key == "tasks" else ",") for key, value in given.items()}
    )


def command(given: dict[str, str], name: str = "sweep") -> list[str]:
    pairs = [part for key, value in given.items() for part in (f"--{key}", value)]
    return [sys.executable, "-m", "suite", name, *pairs]


def begin(given: dict[str, str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(given),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def sessions(results: Path) -> dict[str, int]:
    """How often each run was begun."""
    logs = {path.parent.name: path.read_text() for path in results.glob("*/log.txt")}
    return {name: text.count("suite bench") for name, text in logs.items()}


def wait_for(given: dict[str, str], seconds: float = 120.0) -> list[State]:
    """The states once every run trains and has a checkpoint."""
    runs = planned(given).runs
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = [state(config) for config in runs]
        stores = [Path(c.execution.results) / c.name() / "checkpoints" for c in runs]
        saved = all(CheckpointStore(folder).manifests() for folder in stores)
        if saved and all(s.phase == "running" for s in states):
            return states
        time.sleep(0.05)
    raise AssertionError([state(config) for config in runs])


def rows(results: Path) -> dict[str, object]:
    """The rows of every finished run; not the commit, which may change while tests run."""
    tables = {path.parent.name: pq.read_table(path) for path in results.glob("*/rows.parquet")}
    return {name: table.drop_columns("version_mtscale") for name, table in tables.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("undisturbed")
    status, output = ended(begin(fields(results, seed="0,1", steps="1600")))
    assert status == 0, output
    assert "2 of 2 runs done" in output
    return results


def test_a_finished_sweep_is_not_trained_again(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    status, output = ended(begin(fields(undisturbed, seed="0,1", steps="1600")))
    assert status == 0
    assert "2 runs, 2 done" in output
    files = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    assert files == {path: before[path] for path in files}
    assert set(sessions(undisturbed).values()) == {1}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_that_is_stopped_resumes_to_the_rows_of_an_undisturbed_one(
    how: signal.Signals, undisturbed: Path, tmp_path: Path
) -> None:
    given = fields(tmp_path, seed="0,1", steps="1600")
    first = begin(given)
    wait_for(given)
    first.send_signal(how)
    status, output = ended(first)
    assert status == (-signal.SIGKILL if how == signal.SIGKILL else 130), output
    # The runs end with it, whatever it died of, and save.
    folders = [tmp_path / config.name() for config in planned(given).runs]
    end = time.monotonic() + 30
    while any(in_use(folder) for folder in folders):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert not rows(tmp_path)
    assert {state(config).phase for config in planned(given).runs} == {"stopped"}
    status, output = ended(begin(given))
    assert status == 0, output
    assert set(sessions(tmp_path).values()) == {2}
    assert rows(tmp_path) == rows(undisturbed)


def test_a_run_that_is_killed_is_started_again(undisturbed: Path, tmp_path: Path) -> None:
    given = fields(tmp_path, seed="0,1", steps="1600")
    sweep = begin(given)
    wait_for(given)
    (victim,) = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if is_run_of(path, tmp_path) and b"--seed" in (path / "cmdline").read_bytes()
    ]
    os.kill(victim, signal.SIGKILL)
    status, output = ended(sweep)
    assert status == 0, output
    assert sorted(sessions(tmp_path).values()) == [1, 2]
    assert rows(tmp_path) == rows(undisturbed)


def is_run_of(process: Path, results: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"suite.supervised" in words and str(results).encode() in words


def test_two_sweeps_that_share_runs_train_each_once(undisturbed: Path, tmp_path: Path) -> None:
    given = fields(tmp_path, seed="0,1", steps="1600")
    both = [begin(given), begin(given)]
    for sweep in both:
        status, output = ended(sweep)
        assert status == 0, output
        assert "2 of 2 runs done" in output
    finished = [len(list((tmp_path / name).glob("result.json"))) for name in sessions(tmp_path)]
    assert finished == [1, 1]
    # One of the two may have lost the race for a lock, but none has trained.
    for log in tmp_path.glob("*/log.txt"):
        assert log.read_text().count("parameters: actor") == 1
    assert rows(tmp_path) == rows(undisturbed)


def test_a_run_that_fails_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "own_failing.py").write_text(FAILING)
    given = fields(tmp_path / "r", alg="own_failing:Sometimes", breaks="1,0")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    status, output = ended(begin(given, PYTHONPATH=paths))
    assert status == 1
    assert "1 of 2 runs done" in output
    failed = [line for line in output.splitlines() if line.startswith("failed: Sometimes-")]
    assert any(line.endswith("(exit status 1)") for line in failed), output
    assert "    RuntimeError: it broke" in output
    assert "log.txt" in output
    done = subprocess.run(
        command(given, "status"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        timeout=60,
    )
    assert done.returncode == 0
    assert "    RuntimeError: it broke" in done.stdout
    table = [line.split() for line in done.stdout.splitlines() if line.startswith("Sometimes-")]
    assert sorted(line[1:3] for line in table) == [["done", "100%"], ["failed", "0%"]]
    assert "1 of 2 done, 1 failed" in done.stdout
