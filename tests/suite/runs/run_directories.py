"""Run directories as tests need them: opened, begun, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite.bench import clear
from suite.config import ExecutionConfig, RunConfig
from suite.messages import UserError
from suite.presets import preset
from suite.runs.directory import RunDirectory
from suite.runs.rows import RowLog


def config_in(path: Path, **changes: Any) -> RunConfig:
    config = preset("smoke", "mtsac", "reach,push")
    return replace(config, execution=ExecutionConfig(run_dir=str(path)), **changes)


def opened(path: Path, force: bool = False, **changes: Any) -> RunDirectory:
    config = config_in(path, **changes)
    if force:
        clear([config])
    directory = RunDirectory(config)
    directory.open()
    return directory


def started(path: Path) -> None:
    """What a run leaves that was killed at its work; its lock is free again."""
    directory = opened(path)
    directory.begin_session([0], "eager")
    (path / "rows").mkdir()
    log = RowLog(directory.config.tasks)
    log.whole("success/mean", 40, 0, 0.5)
    directory.checkpoints.save(1, {"round": 1}, {}, 0, 10, directory.part(1, log))
    directory.time({"env_step": 40, "wall_seconds": 1.0, "steps_per_second": 40.0})
    directory.close()


def refused(path: Path, force: bool = False, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        opened(path, force, **changes)
    message = str(error.value)
    assert "\n" not in message
    return message


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
