"""One Parquet file of result rows, read fast: a run's own columns are the same in every row.

A run's `rows.parquet` is checked against the digest in the `result.json` beside it. Of one that is
whole those columns come from the statistics, where the least value equals the greatest, and only
`task, metric, env_step, value` are decoded; of other files all is, against the pages' checksums.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
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
RUN_COLUMNS = frozenset(TEXT) | frozenset(NUMBERS)
MOST = 2**53
"""Whole numbers from here on are not exact in every format that they come in."""


@dataclass(frozen=True)
class Part:
    """The rows of one run that one file holds: all of them, a task's, a stretch of steps."""

    source: str
    """The file."""
    columns: dict[str, Any]
    """What all rows share, by column name; those that the file does not have are missing."""
    config: dict[str, Any]
    """The resolved configuration, nested as in config.json; empty where the file has none."""
    values: pa.Table
    """`VALUE_SCHEMA`."""
    lines: tuple[int, ...] = ()
    """The line of each row in a text file."""

    def where(self, row: int) -> str:
        """File and, in a text file, line of a row."""
        return f"{self.source}:{self.lines[row]}" if self.lines else self.source


def read_parquet(path: Path, metrics: Sequence[str] | None) -> list[Part]:
    """The rows of a file whose metric begins with one of `metrics`; None is all.

    Raises RowsError, naming the file, where it is damaged or does not hold result rows.
    """
    try:
        # Opened here, not by its path: which file system a path belongs to takes as long to find
        # out as the file's metadata to read.
        with pa.memory_map(str(path)) as source:
            verified = has_its_digest(path, source)
            with pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True) as file:
                schema = file.schema_arrow
                check_columns(path, schema)
                config = configuration_in(schema)
                # Statistics are read without decoding, and unchecked: of a damaged file they are
                # wrong, or abort the process.
                constant = constant_columns(file.metadata, schema.names) if verified else None
                columns = [*VALUES, *(own_columns(schema.names) if constant is None else [])]
                table = file.read(columns=columns, use_threads=False)
                table.validate(full=not verified)
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RowsError(f"{path}: not a Parquet file of result rows: {reason}") from None
    if table.num_rows == 0:
        raise RowsError(f"{path}: holds no rows")
    if constant is None:
        constant = one_run(table)
    if constant is None:
        return several_runs(path, table, metrics)
    values = chosen(plain(path, table), metrics)
    return [Part(str(path), checked(path, constant), config, values)]


def has_its_digest(path: Path, source: pa.NativeFile) -> bool:
    """Whether the result.json of a run has this digest of its rows; early runs have none.

    Raises RowsError where it has another.
    """
    beside = path.parent / "result.json"
    if path.name != "rows.parquet" or not beside.is_file():
        return False
    try:
        result = json.loads(beside.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RowsError(f"{beside}: damaged, so {path} cannot be checked: {error}") from None
    if not isinstance(result, dict):
        raise RowsError(f"{beside}: damaged, so {path} cannot be checked: holds no fields")
    if "rows_sha256" not in result:
        return False
    if result["rows_sha256"] != hashlib.sha256(source.read_buffer()).hexdigest():
        raise RowsError(f"{path}: damaged: its digest is not the one in {beside}")
    return True


def configuration(source: Path | str) -> dict[str, Any]:
    """The resolved configuration in a frame's `source`, one file or several; empty for none."""
    for path in map(Path, [str(source), *str(source).split(", ")]):
        if path.suffix.lower() == ".parquet" and path.is_file():
            return configuration_in(pq.read_schema(path))
    return {}


def configuration_in(schema: pa.Schema) -> dict[str, Any]:
    """The configuration that the suite wrote beside the rows. Raises ValueError for another."""
    beside = json.loads((schema.metadata or {}).get(b"mtscale", b"{}"))
    config = beside.get("config", {}) if isinstance(beside, dict) else None
    if not isinstance(config, dict):
        raise ValueError("its metadata holds no configuration")
    return config


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Raises RowsError where a column is missing that no row can do without, or there twice."""
    names = schema.names
    missing = [name for name in (*VALUES, *REQUIRED) if name not in names]
    if missing:
        raise RowsError(f"{path}: has no column {', '.join(missing)}")
    if len(set(names)) < len(names):
        raise RowsError(f"{path}: has two columns {max(names, key=names.count)}")


def own_columns(names: Sequence[str]) -> list[str]:
    """The columns that belong to a run as a whole."""
    return [name for name in names if name in RUN_COLUMNS or name.startswith("version_")]


def constant_columns(metadata: pq.FileMetaData, names: Sequence[str]) -> dict[str, Any] | None:
    """The run's own columns, or None where the file's statistics do not show them constant."""
    if metadata.num_columns != len(names):
        return None  # nested columns: not the suite's
    own = [(names.index(name), name) for name in own_columns(names)]
    found: dict[str, Any] = {}
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index, name in own:
            statistics = row_group.column(index).statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count:
                return None
            least = statistics.min
            if least != statistics.max or found.setdefault(name, least) != least:
                return None
    return found


def one_run(table: pa.Table) -> dict[str, Any] | None:
    """The run's own columns, or None where they differ from row to row."""
    found: dict[str, Any] = {}
    for name in own_columns(table.schema.names):
        values = (
            table[name].unique() if not pa.types.is_nested(table.schema.field(name).type) else []
        )
        if len(values) != 1 or not values[0].is_valid:
            return None
        found[name] = values[0].as_py()
    return found


def several_runs(path: Path, table: pa.Table, metrics: Sequence[str] | None) -> list[Part]:
    """A file of several runs, such as rows of many files that a user has joined."""
    own = own_columns(table.schema.names)
    nested = [name for name in own if pa.types.is_nested(table.schema.field(name).type)]
    if nested:
        raise RowsError(f"{path}: column {nested[0]} holds lists or structures")
    unique = table.select(own).to_pandas()
    unique = unique.astype(object).drop_duplicates()
    unique = unique.where(unique.notna(), None)
    if unique[list(REQUIRED)].isna().any(axis=None):
        raise RowsError(f"{path}: has rows without {' or '.join(REQUIRED)}")
    twice = unique["run"][unique["run"].duplicated()]
    if len(twice):
        raise RowsError(f"{path}: run {twice.iloc[0]} has more than one value in a run's column")
    runs = table["run"].cast(pa.string())
    parts = []
    for columns in unique.to_dict("records"):
        known = checked(path, {str(k): v for k, v in columns.items() if v is not None})
        values = table.filter(pc.equal(runs, known["run"]))
        parts.append(Part(str(path), known, {}, chosen(plain(path, values), metrics)))
    return parts


def checked(path: Path, columns: Mapping[str, Any]) -> dict[str, Any]:
    """A run's columns in their types. Raises RowsError, naming the file, where one is another."""
    found: dict[str, Any] = {}
    for name, value in columns.items():
        if name in NUMBERS:
            is_number = isinstance(value, int | float) and math.isfinite(value)
            if not is_number or value != int(value) or not 0 <= value < MOST:
                raise RowsError(f"{path}: {name}: {value!r} is not a whole number from 0 on")
            found[name] = int(value)
        elif isinstance(value, bytes) or (name in REQUIRED and not str(value).strip()):
            raise RowsError(f"{path}: {name}: {value!r} is not a name")
        else:
            found[name] = str(value)
    return found


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
