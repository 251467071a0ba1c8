"""Results that others published, each row with its source and protocol: `results/published/*.csv`.

The columns are described in `results/published/README.md`. What a source does not state is empty.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.messages import RowsError

FOLDER = Path(__file__).resolve().parent.parent / "results" / "published"
TEXT = (
    *("source", "method", "task_set", "metric", "statistic", "spread", "goals", "reward_version"),
    *("evaluation", "note"),
)
NUMBERS = (
    *("value", "low", "high", "horizon", "total_steps", "seeds"),
    *("actor_width", "critic_width", "actor_parameters", "critic_parameters"),
)
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
        bad = rows.index[numbers.isna() & (rows[name] != "")]
        if len(bad):
            line = int(bad[0])
            raise RowsError(f"{path}:{line + 2}: {name}: {rows[name][line]!r} is not a number")
        rows[name] = numbers
    for line, row in rows.iterrows():
        empty = [name for name in STATED if not row[name]]
        if empty:
            raise RowsError(f"{path}:{int(str(line)) + 2}: {empty[0]} is empty")
        if row[["value", "low", "high"]].isna().all():
            raise RowsError(f"{path}:{int(str(line)) + 2}: has no number")
    return rows
