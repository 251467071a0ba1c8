"""Run directories: one run each, nothing of anybody else's touched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from run_directories import config_in, contents, opened, refused, started

from algorithms.algorithm import ParameterCounts
from suite.config import ExecutionConfig, TaskConfig
from suite.messages import UserError
from suite.runs.directory import RunDirectory, check_space
from suite.runs.identity import flatten
from suite.runs.provenance import version
from suite.runs.rows import RowLog

ROOT = Path(__file__).parents[3]


def test_a_run_gets_a_directory_of_its_name_with_its_resolved_configuration(
    tmp_path: Path,
) -> None:
    config = replace(config_in(tmp_path), execution=ExecutionConfig(results=str(tmp_path / "all")))
    directory = RunDirectory(config)
    directory.open()
    assert directory.path == tmp_path / "all" / config.name()
    stored = json.loads((directory.path / "config.json").read_text())
    assert stored == {"run": config.name(), **json.loads(json.dumps(config.identity()))}
    assert stored["training"]["batch_per_task"] == 8
    assert directory.result() is None


def test_the_same_run_opens_its_directory_again_and_nothing_is_lost(tmp_path: Path) -> None:
    started(tmp_path / "run")
    before = contents(tmp_path / "run")
    opened(tmp_path / "run")
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # The goal seed follows the seed unless it is given, and so is a difference too.
        ({"seed": 5}, ["seed 0, not 5"]),
        ({"task": TaskConfig("reach", horizon=20)}, ["tasks 'reach-v3,push-v3', not 'reach-v3'"]),
        ({"task": TaskConfig("reach,push", horizon=30)}, ["horizon 20, not 30"]),
        ({"algorithm": "d2r"}, ["algorithm 'mtsac', not 'd2r'"]),
        ({"seed": 5, "device": "cuda"}, ["seed 0, not 5", "3 other differences"]),
    ],
)
def test_a_directory_of_another_configuration_is_refused_naming_the_field(
    tmp_path: Path, changes: dict[str, Any], expected: list[str]
) -> None:
    started(tmp_path / "run")
    before = contents(tmp_path / "run")
    message = refused(tmp_path / "run", **changes)
    for part in (*expected, "--force", str(tmp_path / "run")):
        assert part in message
    assert contents(tmp_path / "run") == before


def test_a_field_that_only_one_of_both_has_is_a_difference(tmp_path: Path) -> None:
    started(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    del stored["settings"]["actor_width"], stored["run"]
    digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({"run": f"of-another-version-{digest[:8]}", **stored}))
    assert "actor-width None, not 64" in refused(tmp_path / "run")


def test_a_directory_that_is_not_a_runs_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "thesis" / "lock").write_text("not ours")
    before = contents(tmp_path / "thesis")
    assert "not empty and not a run" in refused(tmp_path / "thesis")
    assert contents(tmp_path / "thesis") == before


def other_value(text: bytes) -> bytes:
    """A configuration that is whole JSON and not what was written."""
    return text.replace(b'"discount": 0.99', b'"discount": 0.91')


DAMAGES: list[Callable[[bytes], bytes]] = [
    *(lambda _: b"", lambda _: b"{", lambda _: b"[]", lambda _: b"null", lambda _: b"\xff\xfe"),
    lambda text: text[: len(text) // 2],
]


@pytest.mark.parametrize("damage", [*DAMAGES, other_value])
def test_a_damaged_configuration_is_written_again_where_a_checkpoint_knows_the_run(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started(tmp_path / "run")
    path, before = tmp_path / "run" / "config.json", contents(tmp_path / "run")
    path.write_bytes(damage(before["config.json"]))
    assert path.read_bytes() != before["config.json"]
    opened(tmp_path / "run").close()
    assert contents(tmp_path / "run") == before
    assert f"warning: {path} is damaged or gone; it is written again" in capsys.readouterr().err
    path.unlink()
    opened(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_damaged_configuration_of_another_run_is_not_written_over(tmp_path: Path) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{")
    before = contents(tmp_path / "run")
    line = refused(tmp_path / "run", seed=5)
    assert "config.json is damaged, and no checkpoint says which run it was" in line
    assert "--force" not in line
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("damage", [*DAMAGES, lambda _: b'[{"threads": "many"}]'])
def test_damaged_provenance_is_kept_and_the_first_session_remembered(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started(tmp_path / "run")
    path = tmp_path / "run" / "provenance.json"
    (first,) = json.loads(path.read_text())
    path.write_bytes(damaged := damage(path.read_bytes()))
    directory = opened(tmp_path / "run")
    assert directory.threads() == first["threads"]
    directory.begin_session([0], "eager")
    sessions = json.loads(path.read_text())
    assert sessions[0] == first
    assert len(sessions) == 2
    assert (tmp_path / "run" / "provenance.json.damaged").read_bytes() == damaged
    assert "provenance.json is damaged; it is kept as" in capsys.readouterr().err
    directory.close()
    assert opened(tmp_path / "run", force=True)


def test_a_file_in_the_directorys_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert "is a file" in refused(tmp_path / "run")


@pytest.mark.parametrize("name", ["checkpoints", "rows"])
@pytest.mark.parametrize("link", [False, True])
def test_a_file_in_the_place_of_a_folder_of_the_run_is_named(
    name: str, link: bool, tmp_path: Path
) -> None:
    opened(tmp_path / "run").close()
    path = tmp_path / "run" / name
    if link:
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_text("")
    assert f"{path} is not a folder" in refused(tmp_path / "run")


@pytest.mark.parametrize("name", ["config.json", "progress.json", "rows.parquet", "timing.jsonl"])
def test_a_folder_in_the_place_of_a_file_of_the_run_is_named(name: str, tmp_path: Path) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).mkdir()
    assert f"{name} is a folder" in refused(tmp_path / "run")


def test_rows_without_a_result_or_a_checkpoint_are_not_written_over(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    (tmp_path / "run" / "rows.parquet").write_bytes(b"results")
    with pytest.raises(UserError, match=r"result\.json is gone, and what its rows were made of"):
        directory.result()


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", denied)
    assert "Permission denied" in refused(tmp_path / "run")


# The lock ------------------------------------------------------------------------------------


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from run_directories import opened
directory = opened(Path({str(tmp_path / "run")!r}))
print("locked", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        before = contents(tmp_path / "run")
        for force in (False, True):
            assert "another process is working on" in refused(tmp_path / "run", force)
        assert contents(tmp_path / "run") == before
        # The kernel drops the lock of a process that is killed: no stale lock keeps a run out.
        first.kill()
    opened(tmp_path / "run")


def test_a_run_keeps_the_threads_that_it_began_with(tmp_path: Path) -> None:
    started(tmp_path / "run")
    directory = RunDirectory(config_in(tmp_path / "run"))
    first = directory.threads()
    execution = replace(directory.config.execution, threads=first + 1)
    other = RunDirectory(replace(directory.config, execution=execution))
    with pytest.raises(UserError, match=rf"this run began with {first}, and {first + 1} would"):
        other.threads()


# Space and rows ------------------------------------------------------------------------------


def test_too_little_space_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(tmp_path / "run")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    check_space([directory.path], 10**9)
    with pytest.raises(UserError, match=r"^disk: .* about 1\.5 GB .* has 1\.0 GB free"):
        check_space([directory.path], 1_500_000_000)
    # What a run has written already it need not find room for.
    (directory.path / "written").write_bytes(bytes(1000))
    check_space([directory.path], 10**9 + 1000)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["config", "session", "timing", "finish"])
def test_a_disk_that_fills_up_gives_one_line_and_leaves_earlier_files_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    started(tmp_path / "run")
    directory = opened(tmp_path / "run")
    directory.checkpoints.load()
    if step == "config":
        directory.close()
    before = contents(tmp_path / "run")
    calls = {
        "config": lambda: opened(tmp_path / "run"),
        "session": lambda: directory.begin_session([0], "eager"),
        "timing": lambda: directory.time({"env_step": 80}),
        "finish": lambda: directory.finish(ParameterCounts(1, 2)),
    }
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        if step == "timing":
            patch.setattr(os, "open", full_disk)
        with pytest.raises(UserError, match="No space left on device"):
            calls[step]()
    assert contents(tmp_path / "run") == before


def test_row_files_that_no_checkpoint_names_are_forgotten(tmp_path: Path) -> None:
    started(tmp_path / "run")
    (tmp_path / "run" / "rows" / "000000002.parquet").write_bytes(b"written before the kill")
    directory = opened(tmp_path / "run")
    directory.checkpoints.load()
    directory.forget_parts_after_checkpoint()
    assert [p.name for p in (tmp_path / "run" / "rows").iterdir()] == ["000000001.parquet"]


def test_what_is_not_a_runs_neither_stops_it_nor_is_deleted(tmp_path: Path) -> None:
    started(tmp_path / "run")
    strange = ["rows/notes.txt", "checkpoints/mine.pt", "checkpoints/state-000000009.pt/a"]
    for name in strange:
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("mine")
    directory = opened(tmp_path / "run")
    assert directory.checkpoints.load() is not None
    directory.forget_parts_after_checkpoint()
    for round_ in (2, 3, 4):
        directory.checkpoints.save(round_, {"round": round_}, {}, 0, 10, None)
    directory.tidy({"rows_sha256": ""})
    assert set(strange) < set(contents(tmp_path / "run"))


def test_an_empty_log_makes_no_part(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    assert directory.part(1, RowLog(["reach-v3"])) is None


def test_every_row_carries_what_tells_which_rows_may_be_compared(tmp_path: Path) -> None:
    directory = RunDirectory(config_in(tmp_path / "run", seed=3))
    columns = directory.columns(ParameterCounts(10, 20))
    assert columns["run"] == directory.config.name()
    assert columns["config_hash"] == directory.config.hash()
    assert (columns["algorithm"], columns["seed"]) == ("mtsac", 3)
    assert (columns["tasks"], columns["goals"]) == (2, "preset")
    assert (columns["reward_version"], columns["horizon"]) == ("v2", 20)
    assert columns["total_steps"] == 400
    assert [columns[f"{p}_parameters"] for p in ("actor", "critic", "total")] == [10, 20, 30]
    assert columns["device"] == "cpu"
    for word in ("deterministic", "separate envs", "any step", "preset goals", "2 final episodes"):
        assert word in columns["evaluation"]
    for package in ("metaworld", "mujoco", "gymnasium", "torch", "mtscale"):
        assert columns[f"version_{package}"] == version(package) != "unknown"


@pytest.mark.parametrize(("one", "other"), [("MT10", "mt10"), ("MT1:reach", "reach-v3")])
def test_spellings_of_one_task_set_give_the_same_columns(
    tmp_path: Path, one: str, other: str
) -> None:
    # The same run must have the same rows, and tables group by these columns.
    a, b = (
        RunDirectory(config_in(tmp_path, task=TaskConfig(tasks))).columns(ParameterCounts(1, 2))
        for tasks in (one, other)
    )
    assert a == b


def test_fixed_goals_are_evaluated_once_and_the_columns_say_so(tmp_path: Path) -> None:
    config = config_in(tmp_path, task=TaskConfig("reach", goals="fixed"))
    protocol = RunDirectory(config).columns(ParameterCounts(1, 2))["evaluation"]
    assert protocol.startswith("deterministic policy, ")
    assert "fixed goals, 1 final episodes" in protocol
    sampled = RunDirectory(config).columns(ParameterCounts(1, 2), "sampled actions")["evaluation"]
    assert sampled == protocol.replace("deterministic policy", "sampled actions")


def test_flatten_gives_every_field_of_every_part_one_level() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "c": 2, "e": 3}
    flat = flatten(config_in(Path("x")).identity())
    parts = [v for v in config_in(Path("x")).identity().values() if isinstance(v, dict)]
    plain = 4  # algorithm, seed, device and nothing else, next to the parts
    assert len(flat) == sum(map(len, parts)) + plain - 1
