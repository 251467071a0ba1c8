"""Each session says with what and where it worked, and warns where that rounds otherwise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from run_directories import opened, started

from algorithms.algorithm import ParameterCounts
from suite.runs.provenance import commit, session, version


@pytest.mark.parametrize(("script", "expected"), [("echo 12.3", "12.3"), ("exit 1", "none")])
def test_a_run_that_resumes_with_another_compiler_says_so(
    script: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "gcc").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "gcc").chmod(0o755)
    with monkeypatch.context() as before:
        before.setattr("suite.runs.provenance.compiler_version", lambda: "9.9")
        started(tmp_path / "run")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    opened(tmp_path / "run").begin_session([0], "eager")
    assert f"began with gcc 9.9, now {expected}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("learner", "seeds", "kernels", "expected"),
    [
        ("compiled", [0], "torch", "began with learner eager, now compiled"),
        ("eager", [0], "C", "began with kernels torch, now C"),
        ("eager", [0], "torch", ""),
        # On a CPU each of them ends with the rows of a run of its own.
        ("eager", [0, 1], "torch", ""),
    ],
)
def test_a_run_that_would_round_otherwise_says_so_before_it_goes_on(
    learner: str,
    seeds: list[int],
    kernels: str,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started(tmp_path / "run")
    opened(tmp_path / "run").begin_session(seeds, learner, kernels)
    shown = capsys.readouterr().err
    assert expected in shown and shown.count("\n") == bool(expected)


def test_rows_name_the_versions_of_all_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path / "run")
    first, directory = version("mtscale"), opened(tmp_path / "run")
    monkeypatch.setattr("suite.runs.provenance.version", lambda package: f"{package} 9")
    for _ in range(2):
        directory.begin_session([0], "eager")
    columns = directory.columns(ParameterCounts(1, 2))
    assert columns["version_mtscale"] == f"{first}, then mtscale 9"


def test_every_session_adds_its_versions_and_machine(tmp_path: Path) -> None:
    started(tmp_path / "run")
    directory = opened(tmp_path / "run")
    directory.begin_session([0], "eager", env_step=40)
    sessions = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert [own["env_step"] for own in sessions] == [0, 40]
    assert sessions[0]["rounding"]["metaworld"] == version("metaworld")
    assert sessions[0].keys() == session(directory.config, 1, [0], "eager").keys()
    assert sessions[1]["cpus"] >= 1


def test_the_suites_version_names_the_commit_where_there_is_one() -> None:
    assert version("mtscale").endswith(commit())
    assert version("no-such-package") == "unknown"
