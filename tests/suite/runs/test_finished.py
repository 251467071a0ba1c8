"""What is called done is whole: result and rows are to the bit those that were written."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from smoke_runs import Run, call

from suite.messages import Failure
from suite.options import parse
from suite.runs.directory import RunDirectory
from suite.runs.finished import done
from suite.runs.state import state

Smoke = Callable[[str], Run]


@pytest.fixture
def run(smoke_run: Smoke, tmp_path: Path) -> Run:
    """A copy of a finished run, which may be damaged."""
    finished = smoke_run("mtsac")
    path = tmp_path / finished.path.name
    shutil.copytree(finished.path, path)
    arguments = [*finished.arguments[:-1], str(tmp_path)]
    return finished._replace(path=path, arguments=arguments)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", ["rows.parquet", "result.json"])
def test_every_flipped_bit_is_refused_by_name(name: str, run: Run) -> None:
    data = (run.path / name).read_bytes()
    for bit in random.Random(name).sample(range(8 * len(data)), 400):
        (run.path / name).write_bytes(flipped(data, bit))
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            done(run.path, run.path.name)
    (run.path / name).write_bytes(data)
    assert done(run.path, run.path.name) == json.loads((run.path / "result.json").read_text())


def test_the_pages_of_rows_carry_checksums(run: Run) -> None:
    data = (run.path / "rows.parquet").read_bytes()
    column = pq.read_metadata(run.path / "rows.parquet").row_group(0).column(4)
    assert column.path_in_schema == "value"
    middle = (column.dictionary_page_offset + column.data_page_offset) // 2
    (run.path / "rows.parquet").write_bytes(flipped(data, 8 * middle))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(run.path / "rows.parquet", page_checksum_verification=True)


def test_the_result_of_another_run_is_not_this_one_s(run: Run) -> None:
    with pytest.raises(ValueError, match=r"result\.json belongs to mtsac-reach"):
        done(run.path, "mtsac-s5")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"PAR1 not at all PAR1")


def gone(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes(), 1000))


DAMAGES = [empty, garbage, gone, flip]


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_are_lost_are_named_with_advice_that_deletes_nothing(
    damage: Callable[[Path], None], run: Run
) -> None:
    damage(run.path / "rows.parquet")
    again = call(run.arguments, run.path.parent)
    assert again.status == 2
    assert again.errors.startswith(f"error: {run.path / 'rows.parquet'}")
    assert again.errors.count("\n") == 1
    assert "from a copy" in again.errors and "--force" not in again.errors
    found = state(parse(run.arguments[1:]))
    assert found.phase == "failed" and "rows.parquet" in found.reason
    assert (run.path / "result.json").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_is_lost_is_written_again_from_the_rows(
    damage: Callable[[Path], None], run: Run
) -> None:
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    damage(run.path / "result.json")
    assert state(parse(run.arguments[1:])).phase != "done"
    again = call(run.arguments, run.path.parent)
    assert again.status == 0
    assert "this run is done" in again.output
    assert again.errors.startswith(f"warning: {run.path / 'result.json'} is ")
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("damage", [gone, flip])
def test_rows_that_are_lost_before_the_checkpoints_are_gone_are_made_again(
    damage: Callable[[Path], None], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = tmp_path / "untidied"
    results.mkdir()
    arguments = [*run.arguments[:-1], str(results)]
    with monkeypatch.context() as patch:
        # As if it had been killed when its result was written.
        patch.setattr("suite.runs.directory.RunDirectory.tidy", lambda *_: None)
        killed = call(arguments, results)
    whole = (killed.path / "rows.parquet").read_bytes()
    assert whole == (run.path / "rows.parquet").read_bytes()
    damage(killed.path / "rows.parquet")
    again = call(arguments, results)
    assert again.status == 0
    assert "the run is finished again from its last checkpoint" in again.errors
    assert (killed.path / "rows.parquet").read_bytes() == whole


@pytest.mark.parametrize("name", ["result.json", "rows.parquet", "config.json", "provenance.json"])
def test_what_cannot_be_read_now_is_neither_done_nor_begun_again(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    real = io.open

    def fails(path: Any, *arguments: Any, **named: Any) -> Any:
        if path == run.path / name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **named)

    (run.path / "failure.json").unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(io, "open", fails)
        if name == "provenance.json":
            with pytest.raises(Failure, match=r"provenance\.json cannot be read: Input/output"):
                RunDirectory(parse(run.arguments[1:])).threads()
        else:
            again = call(run.arguments, run.path.parent)
            assert again.status == Failure.status
            assert again.errors.startswith(f"error: {run.path / name} cannot be read: Input/output")
            assert again.errors.count("\n") == 1
        if name in ("result.json", "rows.parquet"):
            assert state(parse(run.arguments[1:])).phase == "failed"
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
