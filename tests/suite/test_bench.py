"""Whole runs through the command line: what a user sees, and what is left behind."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from smoke_runs import Run, call, smoke_arguments

from algorithms import ALGORITHMS
from suite.bench import bench, prepare_torch
from suite.cli import main
from suite.config import RunConfig
from suite.messages import UserError
from suite.options import parse
from suite.presets import preset
from suite.runs.directory import RunDirectory
from suite.training.train import Trainer

Smoke = Callable[[str], Run]
TASKS = {"reach-v3", "push-v3"}


def rows(run: Run) -> pd.DataFrame:
    return pq.read_table(run.path / "rows.parquet").to_pandas()


@pytest.fixture(scope="module", params=ALGORITHMS)
def run(request: pytest.FixtureRequest, smoke_run: Smoke) -> Run:
    finished: Run = smoke_run(request.param)
    return finished


def algorithm_of(run: Run) -> str:
    return run.arguments[2]


def test_a_run_ends_with_a_table_of_tasks_and_the_path_of_the_rows(run: Run) -> None:
    assert run.status == 0, run.errors
    assert run.path.name.startswith(f"{algorithm_of(run)}-reach+push-preset-a64-c64-s0-")
    for part in ("task", "success", "return", "reach-v3", "push-v3", "mean", "env steps/s"):
        assert part in run.output
    assert f"rows: {run.path / 'rows.parquet'}" in run.output


def test_progress_tells_steps_speed_time_left_and_success(run: Run) -> None:
    lines = [line for line in run.errors.splitlines() if run.path.name in line]
    assert len(lines) == 2
    for part in ("400 of 400 steps", "steps/s", "left", "success 0."):
        assert part in lines[-1]


def test_no_global_generator_is_touched(run: Run) -> None:
    assert run.global_generators_moved == []


def test_the_rows_are_tidy_and_carry_their_provenance(run: Run) -> None:
    table = rows(run)
    expected = {
        *("run", "seed", "algorithm", "task", "metric", "env_step", "update", "value"),
        *("config_hash", "task_set", "tasks", "goals", "reward_version", "horizon"),
        *("actor_parameters", "critic_parameters", "total_parameters", "evaluation", "device"),
        *(f"version_{p}" for p in ("metaworld", "mujoco", "gymnasium", "torch", "mtscale")),
    }
    assert expected <= set(table.columns)
    assert table.notna().all().all()
    assert set(table["run"]) == {run.path.name}
    assert set(table["algorithm"]) == {algorithm_of(run)}
    assert set(table["task"]) == TASKS | {""}
    assert set(table["env_step"]) == set(range(40, 401, 40))
    # One value for each task, metric and moment.
    assert not table.duplicated(["task", "metric", "env_step"]).any()
    metadata = json.loads(pq.read_schema(run.path / "rows.parquet").metadata[b"mtscale"])
    stored = json.loads((run.path / "config.json").read_text())
    assert metadata["config"] == {k: v for k, v in stored.items() if k != "run"}


def test_the_rows_hold_evaluations_training_and_plasticity(run: Run) -> None:
    table = rows(run)
    steps = table.groupby("metric", observed=True)["env_step"].apply(lambda s: sorted(set(s)))
    for metric in ("success", "return", "success/mean"):
        assert steps[metric] == [200, 400], metric
    for metric in ("train/return", "train/success"):
        assert steps[metric] == list(range(40, 401, 40)), metric
    # 40 random steps a task are two episodes: learning starts in the third round.
    for metric in ("train/critic_loss", "train/actor_loss", "train/temperature"):
        assert steps[metric] == list(range(120, 401, 40)), metric
    for network in ("actor", "critic_0", "critic_1"):
        for metric in (
            *("dormant_0", "dormant_0.025", "dormant_0.1", "srank", "effective_rank"),
            *("feature_rank", "active_units", "weight_norm", "gradient_norm"),
        ):
            name = f"plasticity/{network}/{metric}"
            assert steps[f"{name}/pooled"] == [200, 400], name
            layers = [m for m in steps.index if m.startswith(f"{name}/")]
            assert len(layers) > 2, name
    shares = table[table["metric"].isin(["success", "train/success"])]["value"]
    assert shares.between(0, 1).all()


def test_the_update_column_counts_gradient_steps(run: Run) -> None:
    last = rows(run).query("env_step == 400")
    # 10 rounds of 20 locksteps, of which the first 40 do not learn, and what follows a reset.
    config = json.loads((run.path / "config.json").read_text())
    after_resets = config["settings"].get("updates_after_reset", 0)
    assert set(last["update"]) == {10 * 20 - 40 + after_resets}


def reported(run: Run, metric: str) -> pd.DataFrame:
    table = rows(run).query("metric == @metric")
    assert set(table["env_step"]) == {200, 400}, metric
    assert set(table["task"]) == TASKS, metric
    return table


def test_mega_reports_stages_modules_diversity_and_weights(smoke_run: Smoke) -> None:
    run = smoke_run("mega")
    assert reported(run, "stage")["value"].between(3, 4).all()
    assert reported(run, "modules_in_use")["value"].between(1, 4).all()
    assert reported(run, "population_diversity")["value"].between(0, 1).all()
    table = rows(run)
    weights = table[table["metric"].str.startswith("weight/")]
    assert {"weight/1/1", "weight/2/1", "weight/2/2", "weight/3/3"} <= set(weights["metric"])
    # The weights of each slot's sources are shares.
    slots = weights["metric"].str.extract(r"weight/(\d+)/(\d+)").astype(int)
    total = weights.groupby([weights["task"], weights["env_step"], slots[0]], observed=True)
    assert total["value"].sum().tolist() == pytest.approx([1.0] * total.ngroups, abs=1e-6)


def test_d2r_reports_the_entropy_of_its_routes_and_modules_in_use(smoke_run: Smoke) -> None:
    run = smoke_run("d2r")
    assert reported(run, "route_entropy")["value"].between(0, 1).all()
    assert reported(run, "modules_in_use")["value"].between(1, 4).all()


def test_the_result_is_that_of_the_last_evaluation(run: Run) -> None:
    result = json.loads((run.path / "result.json").read_text())
    last = rows(run).query("env_step == 400")
    for metric in ("success", "return"):
        values = last[last["metric"] == metric].set_index("task")["value"].to_dict()
        assert result[metric] == pytest.approx(values)
    assert result["mean_success"] == pytest.approx(sum(result["success"].values()) / 2)
    assert (result["env_steps"], result["episodes_per_task"]) == (400, 2)


def test_a_finished_run_keeps_its_last_weights_and_nothing_that_only_resuming_needed(
    run: Run,
) -> None:
    files = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    files = {name for name in files if not name.startswith("tensorboard/")}
    # The files that the docstring of suite.runs.directory promises.
    assert files == {
        *("config.json", "provenance.json", "rows.parquet", "timing.parquet", "result.json"),
        *("lock", "checkpoints/state-000000010.pt", "checkpoints/manifest-000000010.json"),
    }


def test_wall_clock_and_speed_are_kept(run: Run) -> None:
    timing = pq.read_table(run.path / "timing.parquet").to_pandas()
    assert {"wall_seconds", "steps_per_second"} <= set(timing["metric"])
    assert (timing["value"] > 0).all()


def test_the_same_command_again_says_that_the_run_is_done_and_changes_nothing(run: Run) -> None:
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    again = call(run.arguments, run.path.parent)
    assert again.status == 0
    assert "this run is done" in again.output
    assert str(run.path / "rows.parquet") in again.output
    assert "reach-v3" in again.output
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before


def test_the_way_to_run_it_again_that_is_named_works(smoke_run: Smoke, tmp_path: Path) -> None:
    run = smoke_run("mtsac")
    copy = tmp_path / run.path.name
    shutil.copytree(run.path, copy)
    advice = "--force runs it again"
    assert advice in call(smoke_arguments("mtsac", tmp_path), tmp_path).output
    # Stopped at the space check, before any work: only the option is of interest here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        assert main([*smoke_arguments("mtsac", tmp_path), "--force"]) == 2
    assert not (copy / "result.json").exists()


def test_a_full_disk_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**7))
    assert main(smoke_arguments("mtsac", tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: disk: ") and "0.0 GB free" in line


# Several seeds -------------------------------------------------------------------------------


def test_a_stop_in_the_last_round_of_a_seed_is_not_forgotten_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Trainer.evaluate

    def stopped(trainer: Trainer) -> Any:
        if trainer.round == trainer.config.rounds:
            signal.raise_signal(signal.SIGTERM)
        return real(trainer)

    arguments = [*smoke_arguments("mtsac", tmp_path), "--evaluations", "1", "--seeds", "0,1"]
    monkeypatch.setattr(Trainer, "evaluate", stopped)
    assert main(arguments) == 130
    said = capsys.readouterr().out
    assert "goes on with the other seeds" in said and "--force" not in said
    assert [path.parent.name.split("-s")[1][0] for path in tmp_path.glob("*/result.json")] == ["0"]
    # Of seed 0's old result nothing is left where this command is stopped before its turn.
    assert main([*arguments[:-1], "1,0", "--force"]) == 130
    assert "give it without --force" in capsys.readouterr().out
    assert [path.parent.name.split("-s")[1][0] for path in tmp_path.glob("*/result.json")] == ["1"]


def test_force_deletes_nothing_where_one_of_the_seeds_is_refused(
    smoke_run: Smoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = smoke_run("mtsac").path
    shutil.copytree(done, tmp_path / done.name)
    arguments = [*smoke_arguments("mtsac", tmp_path), "--seeds", "0,1"]
    other = next(run for run in parse(arguments[1:]).each_seed() if run.seed == 1).name()
    (tmp_path / other).mkdir()
    (tmp_path / other / "config.json").write_bytes(b"{}")
    (tmp_path / other / "thesis.tex").write_text("mine")
    assert main([*arguments, "--force"]) == UserError.status
    assert "nothing is deleted" in capsys.readouterr().err
    assert (tmp_path / done.name / "result.json").exists()


def test_force_deletes_before_the_first_seed_and_nothing_of_what_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse([*smoke_arguments("mtsac", tmp_path), "--seeds", "0,1", "--force"][1:])
    later = RunDirectory(config.each_seed()[1])

    def train_all(runs: Sequence[RunConfig], _: Any) -> int:
        (run,) = runs
        if run.seed == 0:  # another process begins the other seed meanwhile
            later.open()
            (later.path / "rows.parquet").write_bytes(b"theirs")
            later.close()
        directory = RunDirectory(run)
        directory.open()
        directory.close()
        return 0

    monkeypatch.setattr("suite.bench.train_all", train_all)
    assert bench(config) == 0
    assert (later.path / "rows.parquet").read_bytes() == b"theirs"


# On a GPU ---------------------------------------------------------------------------------------


def test_every_name_of_a_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own check of it, which wants a number; what it then calls takes a GPU."""
    taken: list[int] = []
    monkeypatch.setattr(torch._C, "_cuda_setDevice", taken.append, raising=False)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(2)
    for name in ("cpu", "cuda", "cuda:0", "cuda:3"):
        prepare_torch(replace(preset("smoke", "mtsac", "reach"), device=name), 1)
        assert torch.get_num_threads() == 1
        # TF32 is a GPU's default, and a CPU's sums are never rounded to it.
        expected = "highest" if name == "cpu" else "high"
        assert torch.get_float32_matmul_precision() == expected
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    assert taken == [0, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("seeds", [[], ["--seeds", "2", "--batched"]])
def test_a_run_on_a_gpu_ends_with_its_rows(seeds: list[str], tmp_path: Path) -> None:
    arguments = [*smoke_arguments("mtsac", tmp_path), "--device", "cuda", *seeds]
    assert main(arguments) == 0
    assert len(list(tmp_path.glob("*/rows.parquet"))) == (2 if seeds else 1)
