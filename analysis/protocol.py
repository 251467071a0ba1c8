"""Which rows may be compared: those that agree in every protocol column, on the same tasks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.columns import PROTOCOL
from analysis.frame import SUCCESS, runs

NAMES = {
    "task_set": "task set",
    "goals": "goals",
    "reward_version": "reward",
    "horizon": "horizon",
    "total_steps": "steps",
    "evaluation": "evaluation",
    "version_metaworld": "Meta-World",
}
"""Protocol columns by the names that tables give them."""

Protocol = dict[str, str]


def protocols(frame: pd.DataFrame) -> dict[str, Protocol]:
    """Each label's protocol: its value by column, as text; empty where unknown."""
    table = runs(frame).drop_duplicates("label")
    return {
        str(run["label"]): {name: text(run.get(name)) for name in PROTOCOL}
        for _, run in table.iterrows()
    }


def text(value: object) -> str:
    """A protocol's value: whole numbers without a point, nothing for NaN."""
    if value is None or value != value:
        return ""
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def display(name: str, value: str) -> str | int:
    """A protocol's value for readers: tasks without their version, numbers as numbers."""
    if name == "task_set":
        return value.replace("-v3", "").replace(",", ", ")
    return int(value) if value.isdecimal() else value


def is_part(task_set: str, tasks: int) -> bool:
    """Whether so many tasks are fewer than the name of their set says, as 9 of MT10."""
    return tasks < size_of(task_set)


def size_of(task_set: str) -> int:
    """The number of tasks that the name of a set says, 10 of MT10; 0 of none."""
    known = task_set.startswith("MT") and task_set[2:].isdecimal()
    return int(task_set[2:]) if known else 0


def scored_tasks(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """By label the tasks that it has success of, in order of their names."""
    single = (frame["metric"] == "success") & (frame["task"] != "")
    rows = frame.loc[single, ["label", "task"]]
    labels, tasks = frame["label"].cat, frame["task"].cat
    shape = len(labels.categories), len(tasks.categories)
    scored = occurring(rows["label"].cat.codes, rows["task"].cat.codes, shape)
    return {
        str(label): tuple(sorted(map(str, tasks.categories[own])))
        for label, own in zip(labels.categories, scored, strict=True)
    }


def occurring(rows: Any, columns: Any, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which pairs of codes occur: bool, of that shape."""
    table = np.zeros(shape, dtype=bool)
    table[rows, columns] = True
    return table


def of_one_protocol(frame: pd.DataFrame) -> dict[str, Hashable]:
    """By label what those have in common that were scored on the same tasks by one protocol."""
    tasks = scored_tasks(frame)
    return {
        label: (*protocol.values(), "", *tasks[label])
        for label, protocol in protocols(frame).items()
    }


def comparable(frame: pd.DataFrame) -> dict[str, Hashable]:
    """The same of those that may be compared: the last step at which they were scored is one, too.

    Where runs end apart, and they share a step, the frame ends there (`analysis.evaluations`).
    """
    success = frame[frame["metric"].isin(SUCCESS)]
    last = success.groupby("label", observed=True)["env_step"].max()
    return {label: (own, last.get(label)) for label, own in of_one_protocol(frame).items()}


def differing(protocols: Sequence[Protocol]) -> list[str]:
    """The protocol columns that are not the same in all, which a table of them must show."""
    return [name for name in NAMES if len({protocol.get(name, "") for protocol in protocols}) > 1]


def shared(protocols: Sequence[Protocol]) -> str:
    """The rest in words, for a caption: `goals preset, reward v2, horizon 500`."""
    names = [name for name in NAMES if name not in differing(protocols)]
    known = [(name, protocols[0].get(name, "")) for name in names] if protocols else []
    return ", ".join(f"{NAMES[name]} {display(name, value)}" for name, value in known if value)
