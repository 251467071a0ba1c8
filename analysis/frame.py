"""The tidy frame: one row a value, in one order whatever the order of rows and files was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analysis.columns import DIVERGED, NUMBERS, TEXT, WIDTHS
from analysis.joining import Run
from analysis.labels import also, flat, labels
from analysis.messages import listed, note
from analysis.parquet_rows import Part

SUCCESS = ("success", "success/mean")
"""Shares from 0 to 1: of a task, of the whole agent."""
ROUNDING = 1e-6
"""By how much a mean of shares may lie outside."""

Codes = npt.NDArray[np.int32]


def to_frame(found: Sequence[Run]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The tidy frame of runs, and by run a line for each value that is impossible or contested.

    Rows are sorted by label, seed, run, env_step, metric and task; a value that is there twice is
    there once. Raises ValueError for no run.
    """
    names = labels(found)
    own = [spelled(run) for run in found]
    widths = [flat(run.config) for run in found]
    # As tables and figures list them: by size, not by the digits of its name.
    size = [
        (str(o["algorithm"]), *(w.get(n) or 0 for n in WIDTHS), label)
        for o, w, label in zip(own, widths, names, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda i: (size[i], own[i]["seed"], found[i].name))
    texts = {name: [str(own[i].get(name, "")) for i in order] for name in TEXT}
    for name in sorted({k for row in own for k in row if k.startswith("version_")}):
        texts[name] = [str(own[i].get(name, "")) for i in order]
    texts["label"] = [names[i] for i in order]
    more = also(found)
    texts["also"] = [more[i] for i in order]
    texts["source"] = [found[i].source for i in order]
    numbers = {name: [own[i].get(name) for i in order] for name in NUMBERS if name != "seed"}
    numbers |= {name: [widths[i].get(name) for i in order] for name in WIDTHS}

    values = Values([found[i] for i in order])
    run = values.run
    columns: dict[str, Any] = {"task": values.task, "metric": values.metric}
    columns |= {"env_step": values.step, "value": values.value}
    for name, per_run in texts.items():
        column = pd.Categorical(per_run, categories=list(dict.fromkeys(per_run)))
        columns[name] = pd.Categorical.from_codes(column.codes[run], dtype=column.dtype)
    columns["seed"] = np.array([own[i]["seed"] for i in order], dtype=np.int64)[run]
    for name, per_number in numbers.items():
        columns[name] = np.array(per_number, dtype=np.float64)[run]
    first = ["run", "label", "algorithm", "seed", "task", "metric", "env_step", "value"]
    frame = pd.DataFrame({name: columns.pop(name) for name in first} | columns, copy=False)
    return frame, values.problems


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run, indexed by its name: the columns that all of its rows share."""
    # Rows before columns: a frame has millions of the one and dozens of the other.
    first = frame.iloc[np.flatnonzero(~frame["run"].duplicated())]
    table = first.drop(columns=["run", "task", "metric", "env_step", "value"])
    return table.set_index(first["run"].astype(str))


def algorithms(table: pd.DataFrame) -> dict[str, str]:
    """Each label of a table of runs with its algorithm."""
    return dict(zip(table["label"].astype(str), table["algorithm"].astype(str), strict=True))


def spelled(run: Run) -> dict[str, Any]:
    """A run's columns with one spelling of a list of tasks: early runs wrote reach for reach-v3."""
    tasks = str(run.columns.get("task_set", ""))
    if not run.config.get("task") or not tasks or tasks.upper() in ("MT10", "MT25", "MT50"):
        return run.columns
    full = [task if task.endswith("-v3") else f"{task}-v3" for task in tasks.split(",")]
    return {**run.columns, "task_set": ",".join(full)}


class Values:
    """The values of all runs as columns, sorted, each once."""

    def __init__(self, found: Sequence[Run]) -> None:
        self.found = found
        self.problems: dict[str, list[str]] = {}
        parts = [(i, part) for i, run in enumerate(found) for part in run.parts]
        table = pa.concat_tables([part.values for _, part in parts])
        counts = [part.values.num_rows for _, part in parts]
        self.parts = [part for _, part in parts]
        self.run: Codes = np.repeat(np.array([i for i, _ in parts], np.int32), counts)
        self.task, self.metric = (alphabetical(table[name]) for name in ("task", "metric"))
        self.step = table["env_step"].to_numpy()
        self.value = table["value"].to_numpy()
        # Where each row stood: its part, and its place there.
        self.part: Codes = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
        starts = np.cumsum([0, *counts[:-1]])
        self.place: Codes = (np.arange(len(self.run)) - np.repeat(starts, counts)).astype(np.int32)

        kind = self.metric.codes.astype(np.int64) * len(self.task.categories) + self.task.codes
        self.keep(np.lexsort((kind, self.step, self.run)))
        self.each_once()
        self.possible()

    def keep(self, rows: npt.NDArray[Any]) -> None:
        """Takes these rows, in this order."""
        for name in ("run", "task", "metric", "step", "value", "part", "place"):
            setattr(self, name, getattr(self, name)[rows])

    def each_once(self) -> None:
        """Leaves one of equal values; those that differ are a problem of their run."""
        same = np.ones(max(0, len(self.run) - 1), dtype=bool)
        for column in (self.run, self.step, self.task.codes, self.metric.codes):
            same &= column[1:] == column[:-1]
        again = np.flatnonzero(same) + 1
        if not len(again):
            return
        before, after = self.value[again - 1], self.value[again]
        differ = (before != after) & ~(np.isnan(before) & np.isnan(after))
        told: dict[tuple[str, str], int] = {}
        for row in again[differ].tolist():
            # Lines of text are named one by one, files that have none once.
            places = self.where(row), self.where(row - 1)
            told[places] = told.get(places, 0) + 1
            if told[places] == 1:
                self.problem(row, f"but {self.value[row - 1]:g} in {places[1]}")
        copies = again[~differ]
        if len(copies):
            _, first = np.unique(self.run[copies], return_index=True)
            lines = [
                f"{self.found[self.run[row]].name}: in {self.where(row - 1)} and in "
                f"{self.where(row)}"
                for row in copies[first].tolist()
            ]
            note(
                f"rows that are there twice and count once, {len(copies)} in all, of these runs "
                f"the first:\n{listed(lines)}"
            )
        self.keep(np.setdiff1d(np.arange(len(self.run)), again, assume_unique=True))

    def possible(self) -> None:
        """Finds values that no run can have."""
        names = [str(name) for name in self.metric.categories]
        shares = [names.index(name) for name in SUCCESS if name in names]
        inside = (self.value >= -ROUNDING) & (self.value <= 1 + ROUNDING)
        for row in np.flatnonzero(np.isin(self.metric.codes, shares) & ~inside).tolist():
            percent = "; divide percentages by 100" if self.value[row] > 1 else ""
            self.problem(row, f"which is no share from 0 to 1{percent}")
        for row in np.flatnonzero(self.step < 0).tolist():
            self.problem(row, "but env_step counts from 0")
        ends = [run.columns.get(DIVERGED) for run in self.found]
        after = self.step > np.array(ends, dtype=np.float64)[self.run]
        alive = np.isin(self.metric.codes, shares) & after & (self.value > 0)
        for row in np.flatnonzero(alive).tolist():
            at = ends[self.run[row]]
            self.problem(row, f"but its run diverged at step {at}: write 0 from there on")

    def problem(self, row: int, text: str) -> None:
        """A line on a row, by the name of its run."""
        what = f"{self.metric[row]} {self.task[row]}".strip()
        self.problems.setdefault(self.found[self.run[row]].name, []).append(
            f"{self.where(row)}: {what} is {self.value[row]:g} at step {self.step[row]}, {text}"
        )

    def where(self, row: int) -> str:
        """File and line of a row."""
        part: Part = self.parts[self.part[row]]
        return part.where(int(self.place[row]))


def alphabetical(column: pa.ChunkedArray) -> pd.Categorical[str]:
    """A dictionary column with its terms in order of the alphabet."""
    encoded = column.unify_dictionaries().combine_chunks()
    terms = encoded.dictionary.to_pylist()
    ordered: list[str] = sorted(set(terms))
    place = {term: index for index, term in enumerate(ordered)}
    rank = np.array([place[term] for term in terms], dtype=np.int32)
    codes: Codes = rank[encoded.indices.to_numpy()]
    return pd.Categorical.from_codes(codes, pd.Index(ordered, dtype=object))
