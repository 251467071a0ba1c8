"""Results of other code: a CSV of `exp_name, env_name, seed, metric, env_step, value`.

    exp_name,env_name,seed,metric,env_step,value
    moore,reach-v3,0,success,2000000,0.94
    moore,MT10,0,success,2000000,0.81

To be compared with rows of ours they say the same of the protocol, in further columns:

    task_set,goals,reward_version,horizon,total_steps,version_metaworld,evaluation
    MT10,preset,v2,200,500000,3.1.1,"deterministic policy, separate envs, success at any step,
    preset goals, 50 final episodes a task"                                  (one line of a file)

`exp_name` stands for the algorithm, `env_name` for the task; `success` is a share from 0 to 1.
Where `env_name` is empty, mean, all or a task set (MT10, mt50, ML10, a list of tasks) the value
belongs to the whole agent, and its `success` is `success/mean`. Further columns are read where they
have the name of one of ours (`horizon`, `goals`, `total_steps`, …, or `actor_width`,
`critic_width`); a protocol column that is missing stays empty and is never guessed, and
`diverged_at` stands in every row of a run that diverged, whose success the file has as 0 from there
on. Rows that agree in `exp_name`, `seed` and these columns are one run, whatever files they are in.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.columns import NUMBERS, TEXT, WIDTHS
from analysis.messages import RowsError, choose, note
from analysis.parquet_rows import MOST, VALUE_SCHEMA, Part

COLUMNS = ("exp_name", "env_name", "seed", "metric", "env_step", "value")
MORE_TEXT = (*(name for name in TEXT if name not in ("run", "algorithm")), "version_metaworld")
MORE_NUMBERS = (*(name for name in NUMBERS if name != "seed"), *WIDTHS)
OPTIONAL = ("env_name", *MORE_TEXT, *MORE_NUMBERS)
TASK_SET = re.compile(r"(?:meta-?world[-_/: ]?)?(m[tl])[-_ ]?(\d+)(?:[-_ ]?v\d+)?", re.IGNORECASE)
WHOLE = ("mean", "average", "avg", "all", "overall")
"""What people call the whole agent where a task's name should be."""
NOTHING = ("nan", "none", "null", "na", "n/a")
"""What programs write into an empty cell."""
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")

Value = tuple[str, str, int, float]
"""task, metric, env_step, value"""
Key = tuple[str, int, tuple[tuple[str, Any], ...]]
"""exp_name, seed, further columns: what makes a run."""


@dataclass(frozen=True)
class Lost:
    """A line that could not be read, and what of it could."""

    text: str
    """File, line and reason."""
    source: str
    known: dict[str, Any] = field(default_factory=dict)
    """Of algorithm, seed, task, metric and env_step those that can be told."""


@dataclass
class CsvRows:
    """What was read of a CSV, and what was wrong with it, by line."""

    path: Path
    lost: list[Lost] = field(default_factory=list)
    values: dict[Key, list[Value]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Where each value stood."""

    def parts(self) -> list[Part]:
        """The rows by run."""
        found = []
        for (name, seed, further), values in self.values.items():
            more = dict(further)
            widths = {k: more.pop(k) for k in WIDTHS if k in more}
            arrays = [
                pa.array(column, kind.type)
                for column, kind in zip(zip(*values, strict=True), VALUE_SCHEMA, strict=True)
            ]
            found.append(
                Part(
                    str(self.path),
                    {"algorithm": name, "seed": seed, **more},
                    {"settings": widths} if widths else {},
                    pa.table(arrays, schema=VALUE_SCHEMA),
                    tuple(self.lines[name, seed, further]),
                )
            )
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
            ignored = [name for name in header if name not in known]
            if ignored:
                note(f"{path}: columns not used: {', '.join(ignored)}")
            for cells in reader:
                if cells:
                    read_line(found, header, cells, reader.line_num)
    except OSError as error:
        raise RowsError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RowsError(f"{path}: not a CSV of result rows: {error}") from None
    if not found.values and not found.lost:
        raise RowsError(f"{path}: holds no rows")
    return found


def is_other_table(path: Path) -> bool:
    """Whether a CSV does not even try to hold result rows, such as a table that we wrote."""
    with path.open("rb") as file:
        header = file.readline(65_536)
    return bool(header.strip()) and not re.search(
        rb"exp_?name|env_?name|env_?step", header.replace(b"\0", b""), re.IGNORECASE
    )


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raises RowsError where a column is missing or there twice."""
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise RowsError(
            f"{path}:1: has no column {', '.join(missing)}{meant(header, missing)}; a CSV of "
            f"result rows begins with {','.join(COLUMNS)}"
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


def meant(header: Sequence[str], missing: Sequence[str]) -> str:
    """Why columns may be missing, with a colon before it: how they are separated or spelled."""
    if header and header[0].startswith("#"):
        return ": its first line is a comment; take it out"
    if len(header) == 1:
        separator = next((s for s in (";", "\t", "|", " ") if s in header[0]), None)
        return f": it separates them by {separator!r}; write commas" if separator else ""
    others = {name.lower().replace(" ", "_"): name for name in header if name not in COLUMNS}
    hints = [
        f"{name} for {others[near[0]]}"
        for name in missing
        if (near := difflib.get_close_matches(name, others, n=1, cutoff=0.6))
    ]
    return f": write {', '.join(hints)}" if hints else ""


def read_line(found: CsvRows, header: Sequence[str], cells: Sequence[str], line: int) -> None:
    """Adds a line's value, or what is wrong with it."""
    problems: list[str] = []
    # One spelling of a name, whatever blanks, tabs or line breaks are in it.
    row = {n: BLANK.sub(" ", cell).strip() for n, cell in zip(header, cells, strict=False)}
    row = {
        n: "" if n in OPTIONAL and cell.casefold() in NOTHING else cell for n, cell in row.items()
    }
    if len(cells) != len(header):
        problems.append(f"has {len(cells)} fields, not {len(header)}")
        # What is left of the last cell may be cut off. A stray quote has swallowed lines: of
        # whom, nobody knows.
        row = dict(list(row.items())[: len(cells) - 1])
        row = {} if any("\n" in cell for cell in cells) else row
    numbers: dict[str, float] = {}
    for name in ("seed", "env_step", "value", *MORE_NUMBERS):
        if row.get(name) or (name in COLUMNS and name in row):
            try:
                numbers[name] = number(name, row[name], whole=name != "value")
            except ValueError as error:
                problems.append(str(error))
    problems += [f"{name} is empty" for name in ("exp_name", "metric") if row.get(name) == ""]

    known: dict[str, Any] = {n: int(numbers[n]) for n in ("seed", "env_step") if n in numbers}
    known |= {
        ours: row[name]
        for ours, name in (("algorithm", "exp_name"), ("task", "env_name"), ("metric", "metric"))
        if row.get(name) or (name == "env_name" and name in row)
    }
    further: dict[str, Any] = {n: row[n] for n in MORE_TEXT if row.get(n)}
    further |= {n: int(numbers[n]) for n in MORE_NUMBERS if n in numbers}
    task_set = as_task_set(known.get("task", ""))
    if task_set is not None:
        known |= {"task": ""}
        known |= {"metric": "success/mean"} if known.get("metric") == "success" else {}
        further = {**({"task_set": task_set} if task_set else {}), **further}
    if known.get("metric") == "success/mean" and known.get("task"):
        problems.append(f"success/mean is of the whole agent, not of {known['task']}")
    if problems:
        text = f"{found.path}:{line}: {problems[0]}"
        found.lost.append(Lost(text, str(found.path), known))
        return
    if "task_set" in further:
        further["task_set"] = as_task_set(further["task_set"]) or further["task_set"]
    key = (known["algorithm"], known["seed"], tuple(sorted(further.items())))
    found.values[key].append((known["task"], known["metric"], known["env_step"], numbers["value"]))
    found.lines[key].append(line)


def as_task_set(name: str) -> str | None:
    """The task set that a name stands for, as the suite spells it: MT10 for mt10 or MT10-v3.

    Empty for no name; None for the name of a task.
    """
    if name.casefold() in WHOLE:
        return ""
    short = TASK_SET.fullmatch(name)
    if short:
        return f"{short[1].upper()}{int(short[2])}"
    if name.upper().startswith("MT1:"):
        return name[4:].strip()
    if "," in name:
        return ",".join(part.strip() for part in name.split(","))
    return None if name else ""


def number(name: str, text: str, whole: bool = False) -> float:
    """A field's finite number. Raises ValueError with a line for the user."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: {text!r} is not a number")
    if whole and not (0 <= value < MOST and value == int(value)):
        raise ValueError(f"{name}: {text!r} is not a whole number from 0 to {MOST:.0e}")
    return value
