"""--force deletes a run, all of it and nothing else, also where it is killed meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_directories import config_in, contents, opened, refused, started

from suite.bench import clear
from suite.messages import UserError
from suite.runs.directory import RunDirectory
from suite.runs.finished import seal


def test_force_deletes_an_earlier_run(tmp_path: Path) -> None:
    started(tmp_path / "run")
    opened(tmp_path / "run", force=True, seed=5)
    assert set(contents(tmp_path / "run")) == {"lock", "config.json"}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 5


def test_force_refuses_where_there_is_anything_that_is_not_a_runs(tmp_path: Path) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "run")
    message = refused(tmp_path / "run", force=True)
    assert "notes.txt" in message
    assert contents(tmp_path / "run") == before


def test_force_refuses_a_directory_that_never_was_a_run_though_its_names_look_like_one(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "project" / "checkpoints" / "model.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"a month of training")
    refused(tmp_path / "project", force=True)
    assert weights.read_bytes() == b"a month of training"


@pytest.mark.parametrize("name", ["checkpoints/best.pt", "rows/mine/a", "film/cut.mp4"])
def test_force_deletes_nothing_of_the_users_in_the_folders_of_a_run(
    name: str, tmp_path: Path
) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / name).write_text("mine")
    before = contents(tmp_path / "run")
    assert "which is not a run's" in refused(tmp_path / "run", force=True)
    assert contents(tmp_path / "run") == before


def test_force_deletes_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    opened(tmp_path / "run", force=True)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert any((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", [".rows.parquet.tmp", ".config.json.tmp"])
def test_force_deletes_what_a_killed_write_left(tmp_path: Path, name: str) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"half")
    opened(tmp_path / "run", force=True)
    assert set(contents(tmp_path / "run")) == {"lock", "config.json"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def killed_at(deletion: int, patch: pytest.MonkeyPatch) -> None:
    """The n-th deletion of a file or a folder does not happen, nor does anything after it."""
    done = [0]

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def deletes(*given: Any, **named: Any) -> None:
            done[0] += 1
            if done[0] >= deletion:
                raise Killed
            real(*given, **named)

        return deletes

    for name in ("unlink", "rmdir"):
        patch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("finished", [True, False])
def test_killed_while_it_deletes_a_run_force_blocks_no_directory_and_leaves_no_result(
    finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path / "run")
    config = config_in(tmp_path / "run")
    if finished:
        (tmp_path / "run" / "rows.parquet").write_bytes(b"rows")
        digest = hashlib.sha256(b"rows").hexdigest()
        result = {"run": config.name(), "rows_sha256": digest}
        sealed = {**result, "sha256": seal(result)}
        (tmp_path / "run" / "result.json").write_text(json.dumps(sealed))
        store = RunDirectory(config).checkpoints
        assert store.load() is not None
        store.finish(digest)
        assert RunDirectory(config).result() == sealed
    files = len(contents(tmp_path / "run"))
    for deletion in range(2, files):
        path = tmp_path / str(deletion)
        shutil.copytree(tmp_path / "run", path)
        with monkeypatch.context() as patch:
            killed_at(deletion, patch)
            with pytest.raises(Killed):
                clear([config_in(path)])
        directory = opened(path)
        sealed_alone = not (path / "rows.parquet").exists() and (
            (path / "result.json").exists() or any((path / "checkpoints").glob("*.json"))
        )
        with contextlib.suppress(UserError) if sealed_alone else contextlib.nullcontext():
            assert directory.result() is None
        directory.close()
        directory = opened(path, force=True)
        assert directory.result() is None and set(contents(path)) == {"lock", "config.json"}
        directory.close()
