"""Sweeps on this machine, with real processes that are killed, fail, and meet each other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from real_sweeps import ROOT, begin, command, ended, fields, planned, rows, sessions, wait_for

from suite.runs.state import in_use, state

FAILING = '''
from dataclasses import dataclass
from algorithms.mtsac import MTSAC
from algorithms.mtsac import MTSACSettings


@dataclass(frozen=True)
class Settings(MTSACSettings):
    breaks: int = 0
    """Whether it does."""


class Sometimes(MTSAC):
    Settings = Settings

    def update(self, batch):
        # Not at once: what a first step shows is refused before the sweep begins.
        if self.settings.breaks and self.state["critic.steps"] > 2:
            raise RuntimeError("it broke")
        return super().update(batch)
'''


def test_a_finished_sweep_is_not_trained_again(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    status, output = ended(begin(fields(undisturbed, seed="0,1")))
    assert status == 0
    assert "2 runs, 2 done" in output
    files = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    assert files == {path: before[path] for path in files}
    assert set(sessions(undisturbed).values()) == {1}


@pytest.mark.parametrize(("how", "seeds"), [(signal.SIGKILL, "0"), (signal.SIGTERM, "0,1")])
def test_a_sweep_that_is_stopped_resumes_to_the_rows_of_an_undisturbed_one(
    how: signal.Signals, seeds: str, undisturbed: Path, tmp_path: Path
) -> None:
    given = fields(tmp_path, seed=seeds)
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
    assert len(rows(tmp_path)) == len(planned(given).runs)
    assert rows(tmp_path).items() <= rows(undisturbed).items()


def test_a_run_that_is_killed_is_started_again(undisturbed: Path, tmp_path: Path) -> None:
    given = fields(tmp_path, seed="0")
    sweep = begin(given)
    wait_for(given)
    (victim,) = [
        int(path.name) for path in Path("/proc").glob("[0-9]*") if is_run_of(path, tmp_path)
    ]
    os.kill(victim, signal.SIGKILL)
    status, output = ended(sweep)
    assert status == 0, output
    ((name, begun),) = sessions(tmp_path).items()
    assert begun == 2
    assert rows(tmp_path) == {name: rows(undisturbed)[name]}


def is_run_of(process: Path, results: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"suite.sweeps.supervised" in words and str(results).encode() in words


def test_two_sweeps_that_share_runs_train_each_once(undisturbed: Path, tmp_path: Path) -> None:
    given = fields(tmp_path, seed="0")
    both = [begin(given), begin(given)]
    for sweep in both:
        status, output = ended(sweep)
        assert status == 0, output
        assert "1 of 1 runs done" in output
    # One of the two may have lost the race for the lock, but has not trained.
    (log,) = tmp_path.glob("*/log.txt")
    assert log.read_text().count("parameters: actor") == 1
    assert rows(tmp_path) == {log.parent.name: rows(undisturbed)[log.parent.name]}


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
