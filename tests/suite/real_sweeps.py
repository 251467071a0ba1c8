"""Sweeps as processes of their own, small enough for tests, and what they left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from suite.runs.directory import RunDirectory
from suite.runs.state import State, state
from suite.sweeps.plan import Plan, plan

ROOT = Path(__file__).parents[2]
STEPS = "4800"
"""Long enough to be met while it trains."""


def fields(results: Path, **others: str) -> dict[str, str]:
    small = {"alg": "mtsac", "preset": "smoke", "tasks": "reach,push", "horizon": "20"}
    same = {"steps": STEPS, "threads": "1", "workers": "1", "track": "none"}
    same["update-every"] = "10"  # what is learned is not of interest
    return {**small, **same, "results": str(results), **others}


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
        saved = all(any(RunDirectory(config).checkpoints.rounds()) for config in runs)
        if saved and all(s.phase == "running" for s in states):
            return states
        time.sleep(0.05)
    raise AssertionError([state(config) for config in runs])


def rows(results: Path) -> dict[str, object]:
    """The rows of every finished run; not the commit, which may change while tests run."""
    tables = {path.parent.name: pq.read_table(path) for path in results.glob("*/rows.parquet")}
    return {name: table.drop_columns("version_mtscale") for name, table in tables.items()}
