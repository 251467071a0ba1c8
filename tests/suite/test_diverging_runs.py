"""Runs that a NaN ends: what is said, what is kept, and where they go on from."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from smoke_runs import Run, call, smoke_arguments

from suite.cli import main
from suite.messages import Diverged
from suite.training.train import Trainer

SICK = '''
"""An algorithm whose critic loss of the second task is NaN in gradient step NAN_AT."""

from dataclasses import dataclass

import torch

from algorithms.mtsac import MTSAC
from algorithms.mtsac import MTSACSettings


@dataclass(frozen=True)
class SickSettings(MTSACSettings):
    actor_width: int = 8
    critic_width: int = 8


class Sick(MTSAC):
    Settings = SickSettings
    steps = 0

    def update(self, batch):
        metrics = super().update(batch)
        if self.steps == {nan_at}:
            metrics["critic_loss"] = metrics["critic_loss"] * torch.tensor([1.0, float("nan")])
        self.steps += 1
        return metrics

    def state_dict(self):
        return {{**super().state_dict(), "steps": self.steps}}

    def load_state_dict(self, state):
        self.steps = state["steps"]
        super().load_state_dict(state)
'''


def sick_arguments(results: Path) -> list[str]:
    arguments = smoke_arguments("sick_algorithm:Sick", results)
    return [*arguments, "--actor-width", "8", "--critic-width", "8", "--evaluations", "1"]


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that a NaN ended in its sixth round; tests work on copies of its folder."""
    folder = tmp_path_factory.mktemp("sick")
    # Rounds of 20 gradient steps from the third on: 20 + 20 + 20 + 5.
    (folder / "sick_algorithm.py").write_text(SICK.format(nan_at=65))
    results = folder / "results"
    results.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield call(sick_arguments(results), results)


def damaged_copy(sick: Run, tmp_path: Path, *states: str) -> list[str]:
    """The command line for a copy of the run in which these states are damaged."""
    shutil.copytree(sick.path, tmp_path / sick.path.name)
    for name in states:
        path = tmp_path / sick.path.name / "checkpoints" / f"state-{name}.pt"
        path.write_bytes(path.read_bytes()[:-1])
    return sick_arguments(tmp_path)


def test_a_nan_loss_stops_with_step_task_and_metric_and_a_status(sick: Run) -> None:
    assert sick.status == Diverged.status
    (line,) = [line for line in sick.errors.splitlines() if line.startswith("error: ")]
    # Round 6 begins at env step 200; its sixth lockstep is at 200 + 5 · 2.
    assert "critic_loss of push-v3 became nan" in line
    assert "env step 210 " in line
    assert "gradient step 65)" in line
    assert "Traceback" not in sick.errors
    assert not (sick.path / "result.json").exists()


def test_the_last_good_checkpoint_is_kept(sick: Run) -> None:
    states = sorted((sick.path / "checkpoints").glob("state-*.pt"))
    assert [path.name for path in states] == ["state-000000004.pt", "state-000000005.pt"]
    weights = torch.load(states[-1], weights_only=True)["algorithm"]["tensors"]
    for network in ("actor", "critic", "critic.target"):
        assert torch.isfinite(weights[network]).all()


def test_that_a_checkpoint_is_kept_is_said_where_there_is_one(sick: Run, tmp_path: Path) -> None:
    assert "; the last good checkpoint is kept" in sick.errors
    for _ in range(2):  # the second time beside the rows of the first
        without = call([*sick_arguments(tmp_path), "--checkpoint-minutes", "60"], tmp_path)
        assert without.status == Diverged.status
        assert "; there was no checkpoint yet" in without.errors
        assert "last good checkpoint" not in without.errors
        assert (without.path / "rows.parquet").exists()


def test_the_rows_of_a_run_that_diverged_count_it_as_success_0(sick: Run) -> None:
    rows = pd.read_parquet(sick.path / "rows.parquet")
    total = rows["total_steps"].iloc[0]
    last = rows[rows["metric"].isin(["success", "success/mean"])]
    assert last["env_step"].unique().tolist() == [total], "the one evaluation, never reached"
    assert sorted(last["task"]) == ["", "push-v3", "reach-v3"]
    assert (last["value"] == 0).all()
    assert (rows["diverged_at"] == 200).all()
    assert rows.loc[rows["metric"] == "train/return", "env_step"].max() == 200
    assert "in its rows success is 0 from here on" in sick.errors


def test_a_run_that_diverged_is_not_done_and_leaves_no_rows_behind_when_it_is_mended(
    sick: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = damaged_copy(sick, tmp_path)
    path = tmp_path / sick.path.name / "rows.parquet"
    seen: list[tuple[int, bool]] = []
    real, save = Trainer.run, Trainer.save

    def mended(trainer: Trainer) -> Any:
        seen.append((trainer.round, path.exists()))
        trainer.runs[0].algorithm.steps = 1000  # type: ignore[attr-defined]
        return real(trainer)

    def saved(trainer: Trainer) -> None:
        save(trainer)
        seen.append((trainer.round, path.exists()))

    monkeypatch.setattr(Trainer, "run", mended)
    monkeypatch.setattr(Trainer, "save", saved)
    assert call(arguments, tmp_path).status == 0
    # Till the run has come past where it diverged they stand for it.
    assert seen[:2] == [(5, True), (6, False)]
    rows = pd.read_parquet(path)
    assert "diverged_at" not in rows.columns
    assert not rows.duplicated(["metric", "task", "env_step"]).any()


@pytest.mark.parametrize("together", [[], ["--batched"]])
def test_a_seed_that_diverges_does_not_stop_the_others(
    together: list[str],
    sick: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not (sick.path / "result.json").exists()
    kind = sys.modules["sick_algorithm"].Sick
    real = kind.__init__

    def only_seed_0(self: Any, settings: Any, problem: Any) -> None:
        real(self, settings, problem)
        self.steps = 0 if problem.seed == 0 else 1000

    monkeypatch.setattr(kind, "__init__", only_seed_0)
    arguments = [*sick_arguments(tmp_path), "--seeds", "0,1", *together]
    assert main(arguments) == Diverged.status
    errors = capsys.readouterr().err
    assert ("each seed goes on by itself" if together else "the others go on") in errors
    (sick_one,) = tmp_path.glob("*-s0-*")
    (well,) = tmp_path.glob("*-s1-*")
    assert (well / "result.json").exists()
    assert not (sick_one / "result.json").exists()
    assert (pd.read_parquet(sick_one / "rows.parquet")["diverged_at"] == 200).all()


def test_a_seed_that_diverges_does_not_stop_one_that_stands_elsewhere(
    sick: Run, tmp_path: Path
) -> None:
    shutil.copytree(sick.path, tmp_path / sick.path.name)
    arguments = sick_arguments(tmp_path)
    # Seed 0 stands at round 5, seed 1 has not begun and goes wrong at the same step of its own.
    assert main([*arguments, "--seeds", "0,1", "--batched"]) == Diverged.status
    (other,) = tmp_path.glob("*-s1-*")
    assert (pd.read_parquet(other / "rows.parquet")["diverged_at"] == 200).all()


@pytest.mark.parametrize("together", [[], ["--batched"]])
def test_a_stop_that_was_asked_for_is_not_forgotten_where_the_round_diverges(
    together: list[str], tmp_path: Path, sick: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = sys.modules["sick_algorithm"].Sick
    real = kind.update

    def stopped(self: Any, batch: Any) -> Any:
        if self.steps == 65:
            signal.raise_signal(signal.SIGTERM)
        return real(self, batch)

    monkeypatch.setattr(kind, "update", stopped)
    assert main([*sick_arguments(tmp_path), "--seeds", "0,1", *together]) == 130
    assert not list(tmp_path.glob("*-s1-*/rows.parquet")), sick.path
    assert bool(list(tmp_path.glob("*-s0-*/rows.parquet"))) == (not together)


def test_an_unreadable_checkpoint_is_named_and_the_one_before_it_used(
    sick: Run, tmp_path: Path
) -> None:
    again = call(damaged_copy(sick, tmp_path, "000000005"), tmp_path)
    (warning,) = [x for x in again.errors.splitlines() if x.startswith("warning: ")]
    assert "state-000000005.pt is damaged" in warning
    assert "checkpoint before it is used" in warning
    assert "resuming at env step 160" in again.output
    # And comes to the same end as before: the NaN belongs to the gradient step.
    assert "gradient step 65)" in again.errors


def test_if_no_checkpoint_is_readable_one_line_says_so(sick: Run, tmp_path: Path) -> None:
    again = call(damaged_copy(sick, tmp_path, "000000004", "000000005"), tmp_path)
    assert again.status == 2
    (line,) = [line for line in again.errors.splitlines() if line.startswith("error: ")]
    assert "no checkpoint can be read" in line
    assert "state-000000005.pt" in line
    assert "state-000000004.pt" in line
    assert "elsewhere" in line and "--force" not in line, "advice costs no more than it must"
