"""Result rows: tidy, one value each, as Parquet files that carry their own provenance.

`run, seed, algorithm, task, metric, env_step, value` and the protocol columns that tell which rows
may be compared. `task` is empty where a value belongs to the whole agent.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VALUES = pa.schema(
    [
        ("task", pa.dictionary(pa.int32(), pa.string())),
        ("metric", pa.dictionary(pa.int32(), pa.string())),
        ("env_step", pa.int64()),
        ("update", pa.int64()),
        ("value", pa.float64()),
    ]
)
"""What a row file holds while the run goes on; `consolidate` adds the run's own columns."""


class RowLog:
    """Rows since the last flush, in the order in which they were logged."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)
        self.rows: list[tuple[str, str, int, int, float]] = []

    def per_task(self, metric: str, step: int, update: int, values: Iterable[float]) -> None:
        """One value per task; NaN stands for none."""
        for task, value in zip(self.tasks, values, strict=True):
            if not math.isnan(value):
                self.rows.append((task, metric, step, update, float(value)))

    def whole(self, metric: str, step: int, update: int, value: float) -> None:
        """A value of the whole agent."""
        self.rows.append(("", metric, step, update, float(value)))

    def flush(self) -> bytes:
        """The rows as a Parquet file; the log is empty afterwards."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(VALUES)
        arrays = [
            pa.array(column, field.type)
            if not pa.types.is_dictionary(field.type)
            else pa.array(column, pa.string()).dictionary_encode().cast(field.type)
            for column, field in zip(columns, VALUES, strict=True)
        ]
        self.rows = []
        return parquet(pa.table(arrays, schema=VALUES))


def parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file, each page with a checksum."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_rows(source: Path | pa.BufferReader) -> pa.Table:
    """The table of a Parquet file; raises OSError where a page is not what was written."""
    return pq.read_table(source, page_checksum_verification=True)


def consolidate(
    parts: Sequence[Path | pa.BufferReader], columns: Mapping[str, Any], metadata: Mapping[str, Any]
) -> bytes:
    """One Parquet file of all parts in order, each row with the run's columns.

    The result does not depend on where the parts were cut. `metadata` goes into the schema as JSON.
    """
    table = pa.concat_tables([read_rows(part) for part in parts]).unify_dictionaries()
    plain = {
        field.name: table[field.name].cast(pa.string()).combine_chunks().dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else table[field.name].combine_chunks()
        for field in table.schema
    }
    for name, value in columns.items():
        column = pa.repeat(pa.scalar(value), table.num_rows)
        plain[name] = column.dictionary_encode() if isinstance(value, str) else column
    whole = pa.table(plain)
    described = whole.replace_schema_metadata({"mtscale": json.dumps(metadata, sort_keys=True)})
    return parquet(described)


def timing_rows(log: Path, run: str) -> bytes:
    """The timing log, a JSON object a line, as Parquet rows run, metric, env_step, value."""
    rows = []
    for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
        try:
            entry = json.loads(line)
            step = int(entry.pop("env_step"))
            values = {metric: float(value) for metric, value in entry.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut off by a kill
        rows += [
            {"run": run, "metric": metric, "env_step": step, "value": value}
            for metric, value in values.items()
        ]
    types = [("run", pa.string()), ("metric", pa.string()), ("env_step", pa.int64())]
    return parquet(pa.Table.from_pylist(rows, pa.schema([*types, ("value", pa.float64())])))
