"""Other people's CSV files: read beside ours, and every bad line named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.rows import RowsError, load, runs
from analysis.scores import curves, success_matrix

WriteRun = Callable[..., Path]
HEADER = "exp_name,env_name,seed,metric,env_step,value"


def write(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_rows_of_other_code_stand_beside_ours(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path / "runs")
    path = write(
        tmp_path / "moore.csv",
        "moore,reach-v3,0,success,100,0.25",
        "moore,reach-v3,0,success,200,0.5",
        "moore,push-v3,0,success,100,0.0",
        "moore,push-v3,0,success,200,1.0",
        "moore,reach-v3,1,success,200,0.75",
        "moore,push-v3,1,success,200,0.25",
    )
    frame = load([tmp_path / "runs", path])
    found = success_matrix(frame)
    assert list(found) == ["moore", "mtsac"]
    assert found["moore"].tasks == ("push-v3", "reach-v3")
    assert found["moore"].values.tolist() == [[1.0, 0.5], [0.25, 0.75]]
    assert found["moore"].seeds == (0, 1)
    moore = runs(frame).loc["moore-s0"]
    assert moore["tasks"] == 2
    assert moore["horizon"] != moore["horizon"] and moore["goals"] == ""


def test_values_of_a_task_set_belong_to_the_whole_agent(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "x,MT10,0,success,100,0.5",
        "x,MT10,0,success,200,0.75",
        "x,reach-v3,0,success,200,1.0",
        "y,,0,success,200,0.25",
    )
    frame = load([path])
    assert curves(frame)["x"].values.tolist() == [[0.5, 0.75]]
    assert runs(frame)["task_set"].astype(str).to_dict() == {"x-s0": "MT10", "y-s0": ""}
    scores = success_matrix(frame)
    assert scores["x"].tasks == ("reach-v3",)
    assert scores["y"].values.tolist() == [[0.25]] and not scores["y"].per_task


def test_further_columns_are_ours_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "a.csv",
        "x,reach-v3,0,success,200,0.5,500,v2,1024,hello",
        "x,reach-v3,0,success,200,0.6,200,v2,1024,hello",
        header=f"{HEADER},horizon,reward_version,actor_width,comment",
    )
    table = runs(load([path]))
    assert sorted(table["horizon"]) == [200, 500]
    assert set(table["actor_width"]) == {1024}
    # Two protocols of one seed are two configurations.
    assert set(table["label"].astype(str)) == {"x horizon=200", "x horizon=500"}
    assert "columns not used: comment" in capsys.readouterr().err


def test_a_byte_order_mark_quotes_and_blank_lines_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'\ufeff{HEADER}\n\n"a, b",reach-v3,0,success,1e3,0.5\n', encoding="utf-8")
    frame = load([path])
    assert (frame["algorithm"] == "a, b").all() and frame["env_step"].tolist() == [1000]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,reach-v3,0,success,200,good", "value: 'good' is not a number"),
        ("x,reach-v3,0,success,200,nan", "value: 'nan' is not a number"),
        ("x,reach-v3,zero,success,200,0.5", "seed: 'zero' is not a number"),
        ("x,reach-v3,0,success,200", "has 5 fields, not 6"),
        (",reach-v3,0,success,200,0.5", "exp_name is empty"),
        ("x,reach-v3,0,success/mean,100,0.7", "success/mean is of the whole agent"),
    ],
)
def test_bad_lines_are_named_and_skipped_only_when_asked(
    line: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", "x,reach-v3,0,success,100,0.5", line)
    other = write(tmp_path / "b.csv", "y,reach-v3,0,success,100,0.25")
    with pytest.raises(RowsError) as error:
        load([path, other])
    assert f"{path}:3: {reason}" in str(error.value)
    assert "--skip-malformed" in str(error.value)
    # The line may have been the last evaluation of the run before it, which is left out with it.
    assert load([path, other], skip_malformed=True)["value"].tolist() == [0.25]
    assert f"{path}:3" in capsys.readouterr().err


def test_line_numbers_count_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'{HEADER}\n"two\nlines",reach-v3,0,success,1,1\n\nx,reach-v3,0,success,1,?\n')
    with pytest.raises(RowsError, match=r"a\.csv:5: value"):
        load([path])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("exp_name,seed,metric,env_step,value", "has no column env_name"),
        (f"{HEADER},value", "has two columns value"),
        (f"{HEADER},reward_versoin", "did you mean reward_version"),
        ("# my results", "its first line is a comment; take it out"),
        ("", "has no column exp_name"),
        (HEADER.replace("env_step", "step"), "no column env_step: write env_step for step"),
        (HEADER.replace("exp_name", "Exp_Name"), "exp_name: write exp_name for Exp_Name"),
        (HEADER.replace(",", ";"), "value: it separates them by ';'; write commas"),
    ],
)
def test_a_bad_header_is_line_one(header: str, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,reach-v3,0,success,100,0.5,1", header=header)
    with pytest.raises(RowsError, match=rf"a\.csv:1: .*{reason}") as error:
        load([path])
    assert "--skip-malformed" not in str(error.value), "nothing would be left"


def test_a_metric_that_is_spelled_otherwise_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,reach-v3,0,Success,100,0.5")
    with pytest.raises(RowsError, match=r"no result rows .*; there are Success; write success"):
        load([path], metrics=["success"])


def test_only_ten_of_many_problems_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", *["x,reach-v3,0,success,100,bad"] * 25)
    with pytest.raises(RowsError, match="and 15 more") as error:
        load([path])
    assert str(error.value).count("a.csv:") == 10
