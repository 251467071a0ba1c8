"""Live tracking: real TensorBoard files read back, the other trackers' modules played by fakes."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from smoke_runs import Run

from suite.config import RunConfig
from suite.messages import UserError
from suite.options import parse
from suite.runs.tracking import (
    Guarded,
    Nowhere,
    TensorBoard,
    TrackedLog,
    check_tracker,
    open_tracker,
    summary,
)


class Written:
    """A tracker that keeps what it is sent."""

    def __init__(self, broken: bool = False) -> None:
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.closed = 0
        self.broken = broken

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self.broken:
            raise OSError("no space left\nand more")
        self.sent.append((step, dict(values)))

    def close(self) -> None:
        self.closed += 1


def config(track: str) -> RunConfig:
    return parse(["--alg", "mtsac", "--tasks", "reach,push", "--track", track])


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_a_dashboard_gets_means_of_training_pooled_plasticity_and_evaluations_per_task() -> None:
    rows = [
        ("reach", "train/return", 10, 1, 1.0),
        ("push", "train/return", 10, 1, 4.0),
        ("reach", "success", 10, 1, 0.25),
        ("", "success/mean", 10, 1, 0.5),
        ("", "plasticity/actor/srank/layers.1", 10, 1, 7.0),
        ("", "plasticity/actor/srank/pooled", 10, 1, 9.0),
        ("reach", "weight/2/1", 10, 1, 0.1),
    ]
    assert summary(rows) == {
        "train/return": 2.5,
        "success/reach": 0.25,
        "success/mean": 0.5,
        "plasticity/actor/srank/pooled": 9.0,
    }


def test_a_step_is_sent_once_when_it_is_over_and_every_row_is_still_in_the_log() -> None:
    tracker = Written()
    log = TrackedLog(["a", "b"], tracker)
    log.per_task("success", 10, 0, [0.0, 1.0])
    log.whole("success/mean", 10, 0, 0.5)
    assert tracker.sent == []
    log.whole("success/mean", 20, 0, 0.75)
    assert tracker.sent == [(10, {"success/a": 0.0, "success/b": 1.0, "success/mean": 0.5})]
    assert len(log.rows) == 4
    log.flush()
    log.whole("success/mean", 30, 0, 1.0)
    log.flush()
    assert [step for step, _ in tracker.sent] == [10, 20, 30]


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracker = TensorBoard(tmp_path, 0)
    tracker.log(100, {"success/mean": 0.25})
    tracker.log(200, {"success/mean": 0.5, "stage/reach-v3": 3.0})
    tracker.close()
    assert scalars(tmp_path) == {
        "success/mean": [(100, 0.25), (200, 0.5)],
        "stage/reach-v3": [(200, 3.0)],
    }


def test_steps_after_the_checkpoint_appear_once_in_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = TensorBoard(tmp_path, 0)
    for step in (100, 200, 300):
        first.log(step, {"success/mean": step / 1000})
    first.close()
    # The run died after step 300 and resumes from its checkpoint at step 200.
    second = TensorBoard(tmp_path, 200)
    for step in (300, 400):
        second.log(step, {"success/mean": step / 1000})
    second.close()
    steps = [step for step, _ in scalars(tmp_path)["success/mean"]]
    assert steps == [100, 200, 300, 400]


def test_a_tracker_that_breaks_warns_once_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Written(broken=True)
    tracker = Guarded(broken, "wandb")
    tracker.log(1, {"a": 1.0})
    tracker.log(2, {"a": 1.0})
    tracker.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: wandb failed (no space left); the run goes on")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_refused_by_name_with_its_install_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"track: {name} is not .*pip install .*{name}"):
        check_tracker(name)
    check_tracker("auto")
    check_tracker("none")


def test_without_tensorboard_the_default_tracks_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = config("auto")  # which looks for Meta-World
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(open_tracker(auto, tmp_path, 0), Nowhere)
    assert list(tmp_path.iterdir()) == []


class FakeService(ModuleType):
    """`wandb` or `trackio` as far as they are used."""

    def __init__(self, name: str, fails: bool = False) -> None:
        super().__init__(name)
        self.fails = fails
        self.began: dict[str, Any] = {}
        self.logged: list[tuple[dict[str, float], int | None]] = []
        self.axes: list[tuple[str, str | None]] = []
        self.finished = 0

    def init(self, **given: Any) -> FakeService:
        if self.fails:
            raise RuntimeError("api_key not configured\nsee the manual")
        self.began = given
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes.append((name, step_metric))

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished += 1


def directory(path: Path, started: str) -> Path:
    sessions = [{"started": when, "threads": 1} for when in (started, "later")]
    (path / "provenance.json").write_text(json.dumps(sessions))
    return path


def test_wandb_is_given_the_run_its_configuration_and_env_steps_as_the_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeService("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = config("wandb")
    tracker = open_tracker(run, directory(tmp_path, "2026-01-02T03:04:05+00:00"), 0)
    tracker.log(100, {"success/mean": 0.5})
    tracker.close()
    assert fake.began["name"] == run.name()
    assert fake.began["config"] == run.identity()
    assert fake.began["resume"] == "allow"
    assert set(fake.began["id"]) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    )
    assert ("*", "env_step") in fake.axes
    assert fake.logged == [({"success/mean": 0.5, "env_step": 100}, None)]
    assert fake.finished == 1


def test_trackio_is_given_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeService("trackio")
    monkeypatch.setitem(sys.modules, "trackio", fake)
    tracker = open_tracker(config("trackio"), directory(tmp_path, "2026-01-02T03:04:05+00:00"), 0)
    tracker.log(100, {"success/mean": 0.5})
    tracker.close()
    assert fake.logged == [({"success/mean": 0.5}, 100)]


def test_a_resumed_run_is_the_same_one_there_and_a_forced_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeService("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    ids = []
    for started in ("2026-01-02T03:04:05+00:00",) * 2 + ("2026-01-02T04:00:00+00:00",):
        open_tracker(config("wandb"), directory(tmp_path, started), 0)
        ids.append(fake.began["id"])
    assert ids[0] == ids[1] != ids[2]


def test_a_service_that_does_not_start_is_refused_in_one_line_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeService("wandb", fails=True))
    folder = directory(tmp_path, "2026-01-02T03:04:05+00:00")
    with pytest.raises(UserError) as error:
        open_tracker(config("wandb"), folder, 0)
    assert str(error.value) == (
        "track: wandb does not start: api_key not configured; --track none goes without it"
    )


def test_a_run_tracked_by_default_has_its_evaluations_in_tensorboard(
    smoke_run: Callable[[str], Run],
) -> None:
    pytest.importorskip("tensorboard")
    run = smoke_run("mtsac")
    assert run.status == 0, run.errors
    shown = scalars(run.path / "tensorboard")
    rows = pd.read_parquet(run.path / "rows.parquet")
    means = rows[rows["metric"] == "success/mean"]
    assert [step for step, _ in shown["success/mean"]] == means["env_step"].tolist()
    assert [v for _, v in shown["success/mean"]] == pytest.approx(means["value"].tolist())
    assert len(shown["train/return"]) == rows[rows["metric"] == "train/return"].env_step.nunique()
