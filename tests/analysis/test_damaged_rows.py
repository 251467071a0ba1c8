"""A damaged rows.parquet is refused by name, whatever is damaged in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.cli import main
from analysis.rows import RowsError, load, runs

WriteRun = Callable[..., Path]
RELEASED = Path(__file__).parents[2] / "results" / "release" / "easy3"


@pytest.fixture
def run(write_run: WriteRun, tmp_path: Path) -> Path:
    """A run with page checksums, and the digest of its rows beside it."""
    path = write_run(tmp_path / "runs")
    pq.write_table(pq.read_table(path), path, compression="zstd", write_page_checksum=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "result.json").write_text(json.dumps({"run": "x", "rows_sha256": digest}))
    return path


def test_a_whole_file_is_read(run: Path) -> None:
    assert len(runs(load([run]))) == 1


def test_no_flipped_bit_is_read(run: Path) -> None:
    data = run.read_bytes()
    chance = random.Random(0)
    for _ in range(200):
        bit = chance.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        run.write_bytes(flipped)
        with pytest.raises(RowsError, match=r"rows\.parquet: damaged: its digest"):
            load([run])


def test_pages_are_checked_where_there_is_no_digest(run: Path) -> None:
    (run.parent / "result.json").unlink()
    data, expected = run.read_bytes(), load([run])
    with pq.ParquetFile(run) as file:
        value = file.metadata.row_group(0).column(file.schema_arrow.names.index("value"))
    start = value.dictionary_page_offset or value.data_page_offset
    refused = 0
    for place in range(start, start + value.total_compressed_size):
        flipped = bytearray(data)
        flipped[place] ^= 4
        run.write_bytes(flipped)
        try:
            # In the pages' headers are numbers that nothing is read from.
            pd.testing.assert_frame_equal(load([run]), expected)
        except RowsError as error:
            refused += str(run) in str(error)
    assert refused > 0.7 * value.total_compressed_size


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize("kind", ["empty", "garbage", "cut", "tail", "magic"])
def test_other_damage_is_refused_by_name(
    kind: str, with_digest: bool, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not with_digest:
        (run.parent / "result.json").unlink()
    data = run.read_bytes()
    damaged = {
        "empty": b"", "garbage": b"garbage" * 1000, "cut": data[: len(data) // 2],
        "tail": data[-200:], "magic": b"PAR1",
    }  # fmt: skip
    run.write_bytes(damaged[kind])
    assert main(["tables", str(run.parent), "--out", str(run.parent / "out")]) == 2
    said = capsys.readouterr().err
    assert str(run) in said and "Traceback" not in said


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 99_999, '{"rows_sha256": null}', '{"rows_sha256": ""}']
)
def test_a_damaged_result_is_refused_by_name(text: str, run: Path) -> None:
    (run.parent / "result.json").write_text(text)
    with pytest.raises(RowsError, match=r"result\.json"):
        load([run])


def test_a_result_without_a_digest_is_that_of_an_early_run(run: Path) -> None:
    (run.parent / "result.json").write_text('{"run": "x"}')
    assert len(runs(load([run]))) == 1


@pytest.mark.parametrize("bit", [1029496, 1032392, 1029241, 1055957, 1047768])
def test_no_damaged_file_aborts_the_process(bit: int, tmp_path: Path) -> None:
    # A file of an early run, without digest and checksums. Each of these bits made pyarrow's
    # metadata throw where nothing catches it.
    data = bytearray((RELEASED / "d2r" / "rows.parquet").read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "rows.parquet"
    path.write_bytes(data)
    with contextlib.suppress(RowsError):
        load([path])
