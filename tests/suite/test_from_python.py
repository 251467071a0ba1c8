"""Training from Python: the rows that the command line would leave, as a DataFrame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from smoke_runs import Run

import suite
from suite.messages import Diverged, Failure, UserError


def test_the_rows_are_those_of_the_command_line(
    tmp_path: Path, smoke_run: Callable[[str], Run]
) -> None:
    fields = {"preset": "smoke", "tasks": "reach,push", "threads": 1, "workers": 1, "force": False}
    rows = suite.train("mtsac", **fields, results=str(tmp_path))
    run = smoke_run("mtsac")
    pd.testing.assert_frame_equal(rows, pd.read_parquet(run.path / "rows.parquet"))
    assert {"success", "return", "success/mean"} <= set(rows.metric)


@pytest.mark.parametrize("kind", [Diverged, Failure])
def test_a_run_that_has_failed_can_be_tried_again_while_its_error_is_kept(
    kind: type[Failure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise kind("it failed")

    monkeypatch.setattr("suite.bench.train", fails)
    fields = {"preset": "smoke", "tasks": "reach,push", "results": str(tmp_path), "seeds": "0,1"}
    kept = []
    for _ in range(2):
        with pytest.raises(kind, match=r"it failed|diverged") as error:
            suite.train("mtsac", **fields, batched=True)
        kept.append(error)  # as an interactive session keeps the last traceback


def test_what_is_wrong_is_said_in_a_line() -> None:
    with pytest.raises(UserError, match="did you mean actor-width"):
        suite.train("mtsac", actor_widht=3)
