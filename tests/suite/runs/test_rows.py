"""Rows: tidy, complete, and the same bytes wherever the files were cut."""

from __future__ import annotations

import io
import json
import math
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.runs.rows import RowLog, consolidate

TASKS = ("reach-v3", "push-v3", "door-open-v3")
Logged = tuple[str, int, list[float]]


def read(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def write_parts(folder: Path, entries: list[Logged], cuts: set[int]) -> list[Path]:
    """Logs `entries`, with a new file wherever a cut lies and anything is logged."""
    log, paths = RowLog(TASKS), []
    for index, (metric, step, values) in enumerate(entries):
        if index in cuts and log.rows:
            paths.append(folder / f"{index}.parquet")
            paths[-1].write_bytes(log.flush())
        if len(values) == 1:
            log.whole(metric, step, step // 2, values[0])
        else:
            log.per_task(metric, step, step // 2, values)
    if log.rows or not paths:
        paths.append(folder / "last.parquet")
        paths[-1].write_bytes(log.flush())
    return paths


number = st.floats(width=64)
entry = st.tuples(
    st.sampled_from(["success", "return", "train/critic_loss", "stage", "weight/1/1"]),
    st.integers(0, 2**40),
    st.one_of(st.lists(number, min_size=1, max_size=1), st.lists(number, min_size=3, max_size=3)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(entry, min_size=1, max_size=30), st.sets(st.integers(0, 30)))
def test_consolidated_bytes_do_not_depend_on_where_the_parts_were_cut(
    entries: list[Logged], cuts: set[int]
) -> None:
    columns = {"run": "a-b", "seed": 3, "horizon": 500}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole = consolidate(write_parts(Path(one), entries, set()), columns, {"config": {"a": 1}})
        cut = consolidate(write_parts(Path(other), entries, cuts), columns, {"config": {"a": 1}})
    assert cut == whole


def test_rows_come_back_in_the_order_and_with_the_values_that_were_logged(tmp_path: Path) -> None:
    entries: list[Logged] = [
        ("success", 10, [0.0, 0.5, 1.0]),
        ("plasticity/actor/srank/pooled", 10, [7.0]),
        ("success", 20, [1.0, 1.0, 0.1]),
    ]
    table = read(consolidate(write_parts(tmp_path, entries, {1, 2}), {"seed": 3}, {}))
    assert table.select(["task", "metric", "env_step", "update", "value", "seed"]).to_pylist() == [
        {"task": t, "metric": m, "env_step": s, "update": s // 2, "value": v, "seed": 3}
        for t, m, s, v in [
            ("reach-v3", "success", 10, 0.0),
            ("push-v3", "success", 10, 0.5),
            ("door-open-v3", "success", 10, 1.0),
            ("", "plasticity/actor/srank/pooled", 10, 7.0),
            ("reach-v3", "success", 20, 1.0),
            ("push-v3", "success", 20, 1.0),
            ("door-open-v3", "success", 20, 0.1),
        ]
    ]


def test_nan_stands_for_no_value_and_gives_no_row() -> None:
    log = RowLog(TASKS)
    log.per_task("weight/4/1", 1, 1, [0.25, math.nan, 0.75])
    log.per_task("weight/5/1", 1, 1, [math.nan] * 3)
    assert [row[0] for row in log.rows] == ["reach-v3", "door-open-v3"]


def test_a_value_too_few_is_an_error_and_not_shifted_to_another_task() -> None:
    with pytest.raises(ValueError, match="shorter"):
        RowLog(TASKS).per_task("success", 1, 1, [0.5, 0.5])


def test_a_flushed_log_is_empty_and_flushing_it_gives_an_empty_file() -> None:
    log = RowLog(TASKS)
    log.whole("success/mean", 1, 1, 0.5)
    first, second = read(log.flush()), read(log.flush())
    assert (first.num_rows, second.num_rows) == (1, 0)
    assert first.schema == second.schema


def test_metadata_travels_in_the_file(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [("success", 1, [1.0])], set())
    table = read(consolidate(parts, {}, {"config": {"horizon": 500}}))
    assert json.loads(table.schema.metadata[b"mtscale"]) == {"config": {"horizon": 500}}
