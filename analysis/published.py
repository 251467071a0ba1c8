"""Results that others published, each row with its source and protocol: `results/published/*.csv`.

The columns are described in `results/published/README.md`. What a source does not state is empty.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.messages import RowsError
from analysis.protocol import NAMES, display, text
from analysis.statistics import Estimate
from analysis.table_formats import Table, without_empty

FOLDER = Path(__file__).resolve().parent.parent / "results" / "published"
TEXT = (
    *("source", "method", "task_set", "metric", "statistic", "spread", "goals", "reward_version"),
    *("evaluation", "note"),
)
NUMBERS = (
    *("value", "low", "high", "horizon", "total_steps", "seeds"),
    *("actor_width", "critic_width", "actor_parameters", "critic_parameters"),
)
SIZES = {
    "actor_width": "actor width",
    "critic_width": "critic width",
    "actor_parameters": "actor parameters",
    "critic_parameters": "critic parameters",
}
"""Columns of a network's size, as tables name them."""
STATED = ("source", "method", "task_set", "metric")


def published(folder: Path = FOLDER) -> pd.DataFrame:
    """All published rows; text is empty and numbers are NaN where a source does not state them.

    Raises RowsError, naming file and line, where a row lacks its source, what it measured, or a
    number.
    """
    frames = [one_file(path) for path in sorted(folder.glob("*.csv"))]
    return (
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*TEXT, *NUMBERS])
    )


def one_file(path: Path) -> pd.DataFrame:
    """The rows of one CSV."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RowsError(f"{path}: {error}") from None
    wrong = sorted({*TEXT, *NUMBERS} ^ set(rows.columns))
    if wrong:
        raise RowsError(f"{path}:1: columns must be {', '.join((*TEXT, *NUMBERS))}; see {wrong[0]}")
    for name in NUMBERS:
        numbers = pd.to_numeric(rows[name], errors="coerce")
        bad = rows.index[~np.isfinite(numbers) & (rows[name] != "")]
        if len(bad):
            raise RowsError(f"{path}:{bad[0] + 2}: {name}: {rows[name][bad[0]]!r} is not a number")
        rows[name] = numbers
    for line, row in enumerate(rows.to_dict("records"), start=2):
        empty = [name for name in STATED if not row[name]]
        if empty:
            raise RowsError(f"{path}:{line}: {empty[0]} is empty")
        if all(math.isnan(row[name]) for name in ("value", "low", "high")):
            raise RowsError(f"{path}:{line}: has no number")
        for name in ("value", "low", "high") if row["metric"] == "success" else ():
            if row[name] < 0 or row[name] > 1:
                raise RowsError(f"{path}:{line}: {name}: {row[name]:g} is no share from 0 to 1")
    return rows


def published_table(literature: pd.DataFrame) -> Table:
    """All published rows, each with its source and as much of its protocol as is stated."""
    names = ("goals", "reward_version", "horizon", "total_steps", "evaluation")
    told = ("method", "source", "task_set", "metric", "statistic")
    rows = tuple(
        (
            *(row[name] for name in told),
            Estimate(row["value"], row["low"], row["high"]),
            row["spread"],
            *(display(name, text(row[name])) for name in names),
            count(row["seeds"]),
            *(count(row[name]) for name in SIZES),
            row["note"],
        )
        for row in literature.to_dict("records")
    )
    columns = (
        *(name.replace("_", " ") for name in told),
        *("value", "brackets", *(NAMES[name] for name in names), "seeds", *SIZES.values(), "note"),
    )
    note = "Empty: the source does not state it. Rows of different protocol are not comparable."
    return without_empty(Table("published", "Published results.", columns, rows, (note,)))


def count(value: float) -> int | None:
    """A number of parameters, units or seeds; None where it is not known."""
    return None if math.isnan(value) else int(value)
