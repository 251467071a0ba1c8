"""One Parquet file of result rows, read fast: a run's own columns are the same in every row.

Those columns come from the file's statistics, where the least value equals the greatest; only
`task, metric, env_step, value` are decoded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.columns import NUMBERS, REQUIRED, TEXT, VALUES
from analysis.messages import RowsError

TERMS = pa.dictionary(pa.int32(), pa.string())
VALUE_SCHEMA = pa.schema(
    {"task": TERMS, "metric": TERMS, "env_step": pa.int64(), "value": pa.float64()}
)


@dataclass(frozen=True)
class Run:
    """What all rows of one run share."""

    source: str
    """The file that the run was read from."""
    columns: dict[str, Any]
    """By column name; those that the file does not have are missing."""
    config: dict[str, Any]
    """The resolved configuration, nested as in config.json; empty where the file has none."""


@dataclass(frozen=True)
class Piece:
    """The rows of one file: those of its first run, then of its second, and on."""

    runs: tuple[Run, ...]
    counts: tuple[int, ...]
    """Rows of each run."""
    values: pa.Table
    """`VALUE_SCHEMA`."""


def read_parquet(path: Path, metrics: Sequence[str] | None) -> Piece:
    """The rows of a file whose metric begins with one of `metrics`; None is all.

    Raises RowsError, naming the file, where it does not hold result rows.
    """
    try:
        # Opened here, not by its path: which file system a path belongs to takes as long to find
        # out as the file's metadata to read.
        with pa.memory_map(str(path)) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            schema = file.schema_arrow
            check_columns(path, schema)
            config = metadata(schema).get("config", {})
            constant = constant_columns(file.metadata, schema.names)
            if constant is None:
                return several_runs(path, file.read(use_threads=False), metrics)
            table = file.read(columns=list(VALUES), use_threads=False)
    except (OSError, pa.ArrowException, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RowsError(f"{path}: not a Parquet file of result rows: {reason}") from None
    if table.num_rows == 0:
        raise RowsError(f"{path}: holds no rows")
    values = chosen(plain(path, table), metrics)
    return Piece((Run(str(path), constant, config),), (values.num_rows,), values)


def configuration(path: Path | str) -> dict[str, Any]:
    """The resolved configuration that a rows.parquet carries; empty where it carries none."""
    found: dict[str, Any] = metadata(pq.read_schema(path)).get("config", {})
    return found


def metadata(schema: pa.Schema) -> dict[str, Any]:
    """What the suite wrote beside the rows."""
    found: dict[str, Any] = json.loads((schema.metadata or {}).get(b"mtscale", b"{}"))
    return found


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Raises RowsError where a column is missing that no row can do without."""
    names = schema.names
    missing = [name for name in (*VALUES, *REQUIRED) if name not in names]
    if missing:
        raise RowsError(f"{path}: has no column {', '.join(missing)}")


def constant_columns(metadata: pq.FileMetaData, names: Sequence[str]) -> dict[str, Any] | None:
    """The run's own columns, or None where the file's statistics do not show them constant."""
    if metadata.num_columns != len(names):
        return None  # nested columns: not the suite's
    own = [i for i, n in enumerate(names) if n in RUN_COLUMNS or n.startswith("version_")]
    found: dict[str, Any] = {}
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in own:
            statistics = row_group.column(index).statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count:
                return None
            least = statistics.min
            if least != statistics.max or found.setdefault(names[index], least) != least:
                return None
    return found


RUN_COLUMNS = frozenset(TEXT) | frozenset(NUMBERS)


def several_runs(path: Path, table: pa.Table, metrics: Sequence[str] | None) -> Piece:
    """A file of several runs, such as rows of many files that a user has joined."""
    names = [n for n in table.schema.names if n in RUN_COLUMNS or n.startswith("version_")]
    if table.num_rows == 0:
        raise RowsError(f"{path}: holds no rows")
    unique = table.select(names).to_pandas().astype(object).drop_duplicates()
    unique = unique.where(unique.notna(), None)
    if unique[list(REQUIRED)].isna().any(axis=None):
        raise RowsError(f"{path}: has rows without {' or '.join(REQUIRED)}")
    twice = unique["run"][unique["run"].duplicated()]
    if len(twice):
        raise RowsError(f"{path}: run {twice.iloc[0]} has more than one value in a run's column")
    runs, tables = [], []
    own = table["run"].cast(pa.string())
    for columns in unique.to_dict("records"):
        known = {str(k): v for k, v in columns.items() if v is not None}
        tables.append(chosen(plain(path, table.filter(pc.equal(own, known["run"]))), metrics))
        runs.append(Run(str(path), known, {}))
    return Piece(tuple(runs), tuple(t.num_rows for t in tables), pa.concat_tables(tables))


def plain(path: Path, table: pa.Table) -> pa.Table:
    """The value columns in the types of `VALUE_SCHEMA`."""
    table = table.select(list(VALUES))
    try:
        if not table.schema.equals(VALUE_SCHEMA):
            table = table.cast(VALUE_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise RowsError(f"{path}: {' '.join(str(error).split())}") from None
    empty = [name for name in VALUES if table[name].null_count]
    if empty:
        raise RowsError(f"{path}: has rows without {', '.join(empty)}")
    return table


def chosen(table: pa.Table, metrics: Sequence[str] | None) -> pa.Table:
    """The rows whose metric begins with one of `metrics`."""
    if metrics is None:
        return table
    encoded = table["metric"].unify_dictionaries().combine_chunks()
    begins = [name.startswith(tuple(metrics)) for name in encoded.dictionary.to_pylist()]
    return table.filter(pa.array(begins, pa.bool_()).take(encoded.indices))
