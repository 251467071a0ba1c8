"""Results of other code: a CSV of `exp_name, env_name, seed, metric, env_step, value`.

    exp_name,env_name,seed,metric,env_step,value
    moore,reach-v3,0,success,2000000,0.94
    moore,MT10,0,success,2000000,0.81

`exp_name` stands for the algorithm, `env_name` for the task. Where `env_name` is empty or a task
set (MT10, MT25, MT50) the value belongs to the whole agent, and its `success` is `success/mean`.
Further columns are read where they have the name of one of ours (`horizon`, `goals`, …, or
`actor_width`, `critic_width`); a protocol column that is missing stays empty and is never guessed.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.columns import NUMBERS, TEXT, WIDTHS
from analysis.messages import RowsError, choose
from analysis.parquet_rows import VALUE_SCHEMA, Piece, Run

COLUMNS = ("exp_name", "env_name", "seed", "metric", "env_step", "value")
MORE_TEXT = tuple(name for name in TEXT if name not in ("run", "algorithm"))
MORE_NUMBERS = (*(name for name in NUMBERS if name != "seed"), *WIDTHS)
TASK_SETS = ("", "MT10", "MT25", "MT50")

Value = tuple[str, str, int, float]
"""task, metric, env_step, value"""
Key = tuple[str, int, tuple[tuple[str, Any], ...]]
"""exp_name, seed, further columns: what makes a run."""


@dataclass
class CsvRows:
    """What was read of a CSV, and what was wrong with it, by line."""

    path: Path
    problems: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """Columns of other names."""
    values: dict[Key, list[Value]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """Where each value stood first."""

    def piece(self, metrics: Sequence[str] | None) -> Piece | None:
        """The rows as those of a Parquet file; None where no line could be read."""
        runs, counts, rows = [], [], []
        for key, values in self.joined().items():
            name, seed, further = key
            more = dict(further)
            widths = {k: more.pop(k) for k in WIDTHS if k in more}
            tasks = {value[0] for value in values} - {""}
            if tasks:
                more.setdefault("tasks", len(tasks))
            own = {"run": f"{name}-s{seed}", "algorithm": name, "seed": seed, **more}
            kept = [v for v in values if metrics is None or v[1].startswith(tuple(metrics))]
            runs.append(Run(str(self.path), own, {"settings": widths} if widths else {}))
            counts.append(len(kept))
            rows += kept
        if not runs:
            return None
        # One experiment and seed under two protocols makes two runs.
        names = Counter(run.columns["run"] for run in runs)
        for index, run in enumerate(runs):
            if names[run.columns["run"]] > 1:
                run.columns["run"] += f"-{index}"
        arrays = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
        typed = [pa.array(a, f.type) for a, f in zip(arrays, VALUE_SCHEMA, strict=True)]
        return Piece(tuple(runs), tuple(counts), pa.table(typed, schema=VALUE_SCHEMA))

    def joined(self) -> dict[Key, list[Value]]:
        """The values by run, those of single tasks with those of the set they belong to."""
        found = {key: list(values) for key, values in self.values.items()}
        for key in self.values:
            name, seed, further = key
            if "task_set" in dict(further):
                continue
            rest = [
                other
                for other in self.values
                if other[:2] == (name, seed)
                and tuple(pair for pair in other[2] if pair[0] != "task_set") == further
                and other != key
            ]
            if len(rest) == 1:
                found[rest[0]] += found.pop(key)
        return found


def read_csv(path: Path) -> CsvRows:
    """Reads a CSV line by line. Raises RowsError where its header or encoding is wrong."""
    found = CsvRows(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            check_header(path, header)
            known = {*COLUMNS, *MORE_TEXT, *MORE_NUMBERS}
            found.ignored = [name for name in header if name not in known]
            for cells in reader:
                if cells:
                    read_line(found, header, cells, reader.line_num)
    except OSError as error:
        raise RowsError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RowsError(f"{path}: not a CSV of result rows: {error}") from None
    if not found.values and not found.problems:
        raise RowsError(f"{path}: holds no rows")
    return found


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raises RowsError where a column is missing or there twice."""
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise RowsError(
            f"{path}:1: has no column {', '.join(missing)}; a CSV of result rows begins with "
            f"{','.join(COLUMNS)}"
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise RowsError(f"{path}:1: has two columns {twice[0]}")
    for name in header:
        if name in COLUMNS or name in MORE_TEXT or name in MORE_NUMBERS:
            continue
        # A misspelt protocol column would be lost without a word.
        line = choose("column", name, [*MORE_TEXT, *MORE_NUMBERS])
        if "did you mean" in line:
            raise RowsError(f"{path}:1: {line}")


def read_line(found: CsvRows, header: Sequence[str], cells: Sequence[str], line: int) -> None:
    """Adds a line's value, or what is wrong with it."""
    where = f"{found.path}:{line}"
    if len(cells) != len(header):
        found.problems.append(f"{where}: has {len(cells)} fields, not {len(header)}")
        return
    row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    try:
        seed = int(number("seed", row["seed"], whole=True))
        step = int(number("env_step", row["env_step"], whole=True))
        value = number("value", row["value"])
        more = [(n, int(number(n, row[n], whole=True))) for n in MORE_NUMBERS if row.get(n)]
    except ValueError as error:
        found.problems.append(f"{where}: {error}")
        return
    empty = [name for name in ("exp_name", "metric") if not row[name]]
    if empty:
        found.problems.append(f"{where}: {empty[0]} is empty")
        return
    task, metric = row["env_name"], row["metric"]
    further: dict[str, Any] = {n: row[n] for n in MORE_TEXT if row.get(n)} | dict(more)
    if task in TASK_SETS:
        further = {**({"task_set": task} if task else {}), **further}
        task, metric = "", "success/mean" if metric == "success" else metric
    key = (row["exp_name"], seed, tuple(sorted(further.items())))
    first = found.lines.setdefault((*key, task, metric, step), line)
    if first != line:
        found.problems.append(f"{where}: the same value stands in line {first}")
        return
    found.values[key].append((task, metric, step, value))


def number(name: str, text: str, whole: bool = False) -> float:
    """A field's finite number. Raises ValueError with a line for the user."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: {text!r} is not a number")
    if whole and (value < 0 or value != int(value)):
        raise ValueError(f"{name}: {text!r} is not a whole number from 0 on")
    return value
