"""From files to the tidy frame: nothing is lost, merged or skipped without a word."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from analysis.figures.captions import caption
from analysis.parquet_rows import configuration
from analysis.plasticity_table import at_the_end, pooled
from analysis.rows import RowsError, load, runs
from analysis.scores import curves, success_matrix
from suite.runs.rows import RowLog, consolidate

WriteRun = Callable[..., Path]
RELEASED = Path(__file__).parents[2] / "results" / "release" / "easy3"


def test_released_runs_load_with_their_protocol() -> None:
    frame = load([RELEASED])
    table = runs(frame)
    assert set(table["algorithm"]) == {"mtsac", "mega", "d2r"}
    # Early rows spell a task reach, later ones reach-v3: the same task set.
    assert set(table["task_set"]) == {"reach-v3,drawer-close-v3,window-close-v3"}
    assert set(table["actor_width"]) == {128.0}
    assert set(frame["label"].cat.categories) == {"mtsac", "mega", "d2r"}
    mtsac = success_matrix(frame)["mtsac"]
    assert dict(zip(mtsac.tasks, mtsac.values[0].tolist(), strict=True)) == {
        "reach-v3": 1.0, "drawer-close-v3": 1.0, "window-close-v3": 0.88,
    }  # fmt: skip


def test_everything_released_can_be_read_at_once() -> None:
    table = runs(load([RELEASED.parent], metrics=["success"]))
    assert len(table) == len(list(RELEASED.parent.rglob("rows.parquet"))) > 30


def test_frame_holds_every_row_that_the_files_hold(write_run: WriteRun, tmp_path: Path) -> None:
    paths = [write_run(tmp_path, seed=seed, final=seed / 10) for seed in range(3)]
    frame = load([tmp_path])
    expected = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    key = ["run", "task", "metric", "env_step"]
    ours = frame.astype(dict.fromkeys(key[:3], str)).sort_values(key, ignore_index=True)
    theirs = expected.astype(dict.fromkeys(key[:3], str)).sort_values(key, ignore_index=True)
    for name in (*key, "value", "seed", "horizon", "total_steps", "actor_parameters", "tasks"):
        assert ours[name].tolist() == theirs[name].tolist(), name
    assert ours["version_metaworld"].astype(str).tolist() == theirs["version_metaworld"].tolist()


def test_what_the_suite_writes_is_read(tmp_path: Path) -> None:
    log = RowLog(("reach-v3", "push-v3"))
    log.per_task("success", 100, 1, [0.25, 1.0])
    log.whole("success/mean", 100, 1, 0.625)
    (tmp_path / "part.parquet").write_bytes(log.flush())
    columns = {"run": "a", "algorithm": "mega", "seed": 4, "total_steps": 100}
    metadata = {"config": {"settings": {"actor_width": 64, "critic_width": 32}}}
    path = tmp_path / "rows.parquet"
    path.write_bytes(consolidate([tmp_path / "part.parquet"], columns, metadata))
    frame = load([path])
    assert frame["value"].tolist() == [1.0, 0.25, 0.625]
    assert frame["task"].tolist() == ["push-v3", "reach-v3", ""]
    assert (frame["actor_width"] == 64).all() and (frame["critic_width"] == 32).all()
    assert frame["horizon"].isna().all() and (frame["goals"] == "").all()
    assert configuration(path) == metadata["config"]


def test_several_folders_and_files_are_read_once_each(write_run: WriteRun, tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b" / "deep", seed=1)
    frame = load([tmp_path / "a", tmp_path / "b", one])
    assert sorted(runs(frame)["seed"]) == [0, 1]


def test_only_the_metrics_asked_for_are_read(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path)
    assert set(load([tmp_path], metrics=["success"])["metric"]) == {"success", "success/mean"}
    with pytest.raises(RowsError, match="no result rows of stage"):
        load([tmp_path], metrics=["stage"])


def test_runs_in_progress_are_named_and_left_out(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, seed=0)
    going = write_run(tmp_path, seed=1, run="going")
    (going.parent / "rows").mkdir()
    going.rename(going.parent / "rows" / "000000001.parquet")
    assert runs(load([tmp_path])).shape[0] == 1
    assert "in progress" in (said := capsys.readouterr().err) and str(going.parent) in said


def test_a_run_that_is_there_twice_counts_once(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        write_run(tmp_path / folder, run="same")
    frame = load([tmp_path])
    assert success_matrix(frame)["mtsac"].values.shape == (1, 3)
    assert "twice" in (said := capsys.readouterr().err) and "same: in" in said


def test_runs_of_one_seed_are_named(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, seed=3, device="cpu")
    write_run(tmp_path, seed=3, device="cuda")
    frame = load([tmp_path])
    assert "mtsac: several runs of seed 3" in capsys.readouterr().err
    assert "- mtsac: several runs of seed 3" in caption("", "", frame)
    scores = success_matrix(frame)["mtsac"]
    assert len(scores.values) == 2
    assert curves(frame)["mtsac"].seeds == (3,)
    np.testing.assert_array_equal(scores.sample, scores.values.mean(axis=0, keepdims=True))


def test_plasticity_of_runs_of_one_seed_counts_once() -> None:
    metric = "plasticity/actor/srank/pooled"
    columns = ["label", "run", "seed", "metric", "task", "env_step", "value"]
    rows = [("a", f"r{i}", seed, metric, "", 100, float(i)) for i, seed in enumerate([0, 0, 1])]
    found = at_the_end(pooled(pd.DataFrame(rows, columns=columns)))
    assert found[["seed", "value"]].to_numpy().tolist() == [[0, 0.5], [1, 2.0]]


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "columns", "partial"])
def test_malformed_files_are_named_and_skipped_only_when_asked(
    kind: str, write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, seed=0)
    path = write_run(tmp_path, seed=1, run="bad")
    table = pd.read_parquet(path)
    if kind == "text":
        path.write_text("no parquet")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "empty":
        table.iloc[:0].to_parquet(path)
    elif kind == "columns":
        table.drop(columns="env_step").to_parquet(path)
    else:
        table[table["env_step"] < 4000].to_parquet(path)
    with pytest.raises(RowsError) as error:
        load([tmp_path])
    assert str(path) in str(error.value)
    assert "Traceback" not in str(error.value)
    frame = load([tmp_path], skip_malformed=True)
    assert runs(frame)["seed"].tolist() == [0]
    assert str(path) in capsys.readouterr().err


def test_a_joined_file_of_several_runs_is_read_as_such(write_run: WriteRun, tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "runs", seed=seed, final=seed / 4) for seed in range(3)]
    joined = tmp_path / "all.parquet"
    pd.concat([pd.read_parquet(path) for path in paths]).sample(frac=1, random_state=0).to_parquet(
        joined
    )
    assert sorted(runs(load([joined]))["seed"]) == [0, 1, 2]
    (found,) = success_matrix(load([joined])).values()
    assert sorted(found.values.mean(1)) == [0, 0.25, 0.5]


def test_configurations_that_a_joined_file_no_longer_tells_apart_are_refused(
    tmp_path: Path,
) -> None:
    # pandas keeps no metadata, in which the suite says how one MEGA differs from another.
    written = sorted((RELEASED.parent / "demo").glob("mega-*/rows.parquet"))[:2]
    pd.concat(map(pd.read_parquet, written)).to_parquet(tmp_path / "all.parquet")
    with pytest.raises(RowsError, match="whose config_hash differs, and no configuration says"):
        load([tmp_path])


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match="nothing: there is no such"):
        load([tmp_path / "nothing"])
    with pytest.raises(RowsError, match="no result rows in"):
        load([tmp_path])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(RowsError, match=r"a\.txt: not a folder"):
        load([tmp_path / "a.txt"])


def test_scores_are_of_the_last_evaluation_and_best_is_another(
    write_run: WriteRun, tmp_path: Path
) -> None:
    path = write_run(tmp_path, final=[0.2, 0.4, 0.6])
    table = pd.read_parquet(path)
    table.loc[(table["env_step"] == 2000) & (table["metric"] == "success"), "value"] = 0.9
    table.to_parquet(path)
    frame = load([path])
    (final,) = success_matrix(frame).values()
    (best,) = success_matrix(frame, at="best").values()
    assert final.tasks == ("door-open-v3", "push-v3", "reach-v3")
    assert final.values.tolist() == [[0.6, 0.4, 0.2]] and final.steps == (4000,)
    assert best.values.tolist() == [[0.9, 0.9, 0.9]] and best.steps == (2000,)


@pytest.mark.parametrize("at", ["final", "best"])
def test_a_run_without_a_task_is_an_error(
    at: Literal["final", "best"], write_run: WriteRun, tmp_path: Path
) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed=seed, evaluations=1)
    frame = load([tmp_path])
    lost = (frame["seed"] == 1) & (frame["task"] == "push-v3")
    with pytest.raises(RowsError, match=r"mtsac-s1-.* has no push-v3 at step 4000"):
        success_matrix(frame[~lost], at=at)
    lost = (frame["seed"] == 1) & (frame["metric"] == "success")
    with pytest.raises(RowsError, match=r"mtsac-s1-.* was not scored on single tasks"):
        success_matrix(frame[~lost], at=at)


def test_scores_of_an_unknown_metric_name_those_there_are(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path)
    frame = load([tmp_path])
    with pytest.raises(RowsError, match="'sucess'; there are plasticity, success"):
        success_matrix(frame, "sucess")
    with pytest.raises(RowsError, match="of task 'reach'"):
        curves(frame, "success", "reach")


def test_curves_meet_at_common_steps(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path, seed=0, evaluations=4, final=0.8)
    write_run(tmp_path, seed=1, evaluations=2, final=0.4)
    (found,) = curves(load([tmp_path])).values()
    assert found.steps.tolist() == [2000, 3000, 4000]
    values = dict(zip(found.seeds, found.values.tolist(), strict=True))
    assert values[0] == pytest.approx([0.4, 0.6, 0.8])
    assert values[1] == pytest.approx([0.2, 0.3, 0.4])
    assert np.isfinite(found.values).all() and not math.isnan(found.values.sum())
