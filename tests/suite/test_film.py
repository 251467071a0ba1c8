"""Films: the episode that is shown is the one that evaluation counts."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from smoke_runs import Run

from suite import film
from suite.cli import main
from suite.envs.meta_world import make_env
from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv
from suite.messages import UserError
from suite.runs.checkpoint import CheckpointStore
from suite.runs.rebuild import stored_config, stored_name, trained
from suite.training.evaluate import Policy, evaluate

SmokeRun = Callable[[str], Run]


@pytest.fixture
def run(smoke_run: SmokeRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(smoke_run("d2r").path, tmp_path / "run"))


def test_a_film_shows_the_episode_that_evaluation_counts(run: Path) -> None:
    config = stored_config(run)
    algorithm = trained(config, run)
    goals = Goals(config.task.tasks, config.task.goals, config.seed, config.goal_seed, "fast")
    first = goals.evaluation(1)
    with VectorEnv(config.tasks, 1, config.task.reward_version, "fast", 1) as envs:
        policy = Policy(algorithm, len(config.tasks), torch.device("cpu"), 1)
        (counted,) = evaluate([policy], envs, [first], config.task.horizon)
    for index, name in enumerate(config.tasks):
        env = make_env(name, config.task.reward_version, "metaworld")
        *_, (total, success) = film.played(env, config, algorithm, index, first[index][0])
        assert total == pytest.approx(counted.returns[index, 0], rel=1e-6)
        assert success == bool(counted.successes[index, 0])


def test_a_film_is_made_of_every_task_and_says_how_it_went(run: Path) -> None:
    # In a process of its own: MuJoCo reads the choice of a renderer once, when it is loaded.
    try:
        film.backend()
    except UserError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "suite", "film", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    entries = json.loads((run / "film" / "film.json").read_text())
    assert set(entries["tasks"]) == {"reach-v3", "push-v3"}
    for task, entry in entries["tasks"].items():
        with Image.open(run / "film" / f"{task}.webp") as picture:
            assert picture.n_frames == entry["frames"] == 21
            assert picture.size == (film.SIZE, film.SIZE)
            # Not an empty scene.
            assert np.asarray(picture.convert("RGB")).std() > 20


def test_an_animation_keeps_every_frame() -> None:
    shades = [np.full((8, 8, 3), value, np.uint8) for value in (0, 120, 250)]
    with Image.open(io.BytesIO(film.webp(shades))) as picture:
        assert picture.n_frames == 3
        picture.seek(2)
        assert np.asarray(picture.convert("RGB")).mean() == pytest.approx(250, abs=4)


def test_a_run_without_weights_is_refused_in_one_line(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="holds no checkpoint"):
        trained(stored_config(run), run)


def test_weights_that_cannot_be_read_are_named(run: Path) -> None:
    (path,) = (run / "checkpoints").glob("state-*.pt")
    path.write_bytes(b"cut off")
    with pytest.raises(UserError, match=rf"{path.name} is damaged"):
        trained(stored_config(run), run)


def test_weights_that_a_gpu_has_trained_are_filmed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = CheckpointStore(run / "checkpoints", stored_name(run)).weights()
    own = state["algorithm"]
    # Its generators are a few bytes, which those of a CPU refuse.
    few = {name: torch.zeros(16, dtype=torch.uint8) for name in own["generators"]}
    theirs = {**state, "algorithm": {**own, "generators": few}}
    monkeypatch.setattr(CheckpointStore, "weights", lambda _: (path, theirs))
    found = trained(stored_config(run), run).state_dict()["tensors"]
    assert torch.equal(found["actor"], own["tensors"]["actor"])


@pytest.mark.parametrize("reason", ["is damaged", "cannot be read: Input/output error"])
def test_rows_that_are_not_whole_are_told_in_one_line_beside_a_film(
    reason: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, real = run / "rows.parquet", io.open

    def fails(path: Any, *arguments: Any, **named: Any) -> Any:
        if path == rows:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **named)

    if reason == "is damaged":
        rows.write_bytes(b"")
    else:
        monkeypatch.setattr(io, "open", fails)
    picture = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(film, "episode", lambda *_: ([picture], {"success": False}))
    assert film.film(run) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {rows} {reason}") and said.count("\n") == 1


def test_a_directory_that_is_no_run_s_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["film", str(tmp_path)]) == 2
    assert "is not the directory of a run" in capsys.readouterr().err


def test_without_a_renderer_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "no-such-renderer")
    with pytest.raises(UserError, match="apt install"):
        film.backend()


def test_force_deletes_films_with_the_run_they_show(run: Path) -> None:
    (run / "film").mkdir()
    (run / "film" / "reach-v3.webp").write_bytes(b"")
    arguments = ["bench", "--alg", "d2r", "--preset", "smoke", "--tasks", "reach,push"]
    options = ["--threads", "1", "--workers", "1", "--run-dir", str(run), "--force"]
    assert main([*arguments, *options]) == 0
    assert not (run / "film").exists()
