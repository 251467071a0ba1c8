"""What a command ends with, and says, when what it needs is not there or it is stopped."""

from __future__ import annotations

import errno
import os
import runpy
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import suite
from suite import cli
from suite.messages import UserError


def raising(error: BaseException) -> Callable[[list[str]], int]:
    def command(_: list[str]) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("seed: too many"), 2, "error: seed: too many"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 1, "raise the limit (ulimit -n"),
        (KeyboardInterrupt(), 130, "the same command goes on from what has been saved"),
    ],
)
def test_a_command_ends_with_one_line_and_its_status(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "bench", (raising(error), ""))
    assert cli.main(["bench"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_ctrl_c_after_a_command_has_ended_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda: 130)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit, match="130"):
            runpy.run_module("suite", run_name="__main__")
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_is_interrupted_is_so_for_a_caller_in_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("suite.bench.bench", lambda _: 130)
    with pytest.raises(KeyboardInterrupt, match="the same call resumes it"):
        suite.train("mtsac", preset="smoke", tasks="reach", results=str(tmp_path))


def test_a_caller_in_python_gets_the_rows_of_all_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def bench(config: suite.config.RunConfig) -> int:
        for run in config.each_seed():
            folder = tmp_path / run.name()
            folder.mkdir()
            pd.DataFrame({"seed": [run.seed]}).to_parquet(folder / "rows.parquet")
        return 0

    monkeypatch.setattr("suite.bench.bench", bench)
    rows = suite.train("mtsac", preset="smoke", tasks="reach", seeds="0,3", results=str(tmp_path))
    assert rows.seed.tolist() == [0, 3]
