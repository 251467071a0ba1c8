"""Arrays of the tidy frame, by configuration: final scores [runs, tasks] and curves [runs, steps].

Runs of one label are a sample, one agent each; rows of different labels are never pooled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.messages import RowsError

Array = npt.NDArray[np.float64]
NEEDED = ["label", "run", "seed", "task", "metric", "env_step", "value"]


@dataclass(frozen=True)
class Scores:
    """One configuration's score of each run on each task."""

    label: str
    values: Array
    """[runs, tasks]."""
    tasks: tuple[str, ...]
    """In the order of the second axis; `("",)` where only whole agents' scores are known."""
    runs: tuple[str, ...]
    """Names, in the order of the first axis."""
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    """Env steps, over all tasks, at which each run was scored."""

    @property
    def per_task(self) -> bool:
        """Whether scores of single tasks are known."""
        return self.tasks != ("",)

    @property
    def task_mean(self) -> Array:
        """[runs]: each agent's mean over its tasks, the sample that the headline describes."""
        mean: Array = self.values.mean(axis=1)
        return mean


@dataclass(frozen=True)
class Curves:
    """One configuration's value of a metric over training."""

    label: str
    steps: npt.NDArray[np.int64]
    """[S]: env steps over all tasks."""
    values: Array
    """[runs, S]."""
    runs: tuple[str, ...]
    seeds: tuple[int, ...]


def success_matrix(
    frame: pd.DataFrame, metric: str = "success", at: Literal["final", "best"] = "final"
) -> dict[str, Scores]:
    """Scores by label, from the last evaluation of each run.

    `at="best"` is the evaluation with the highest mean over tasks: another, rosier number, of
    which published results must be compared with their like. Where a label has no rows of single
    tasks, those of the whole agent (`metric`/mean) stand in, as one column.

    Raises RowsError where no run has the metric, or a run was not scored on every task.
    """
    found: dict[str, Scores] = {}
    wanted = frame.loc[frame["metric"].isin([metric, f"{metric}/mean"]), NEEDED]
    if at == "final":
        last = wanted.groupby("run", observed=True)["env_step"].transform("max")
        wanted = wanted[wanted["env_step"] == last]
    for label, rows in wanted.groupby("label", observed=True):
        single = rows[(rows["metric"] == metric) & (rows["task"] != "")]
        if single.empty:
            single = rows[rows["task"] == ""]
        table = single.pivot_table(
            index=["run", "env_step"], columns="task", values="value", observed=True, sort=False
        )
        found[str(label)] = scores(str(label), table, rows, at)
    if not found:
        raise RowsError(f"no row of metric {metric!r}; there are {some_metrics(frame)}")
    return found


def scores(
    label: str, table: pd.DataFrame, rows: pd.DataFrame, at: Literal["final", "best"]
) -> Scores:
    """Each run's row of a table [(run, step), tasks], at its last or at its best step."""
    if at == "final":
        picked = table.groupby(level="run", observed=True, sort=False).tail(1)
    else:
        means = table.mean(axis=1, skipna=False).fillna(-math.inf)
        picked = table.loc[means.groupby(level="run", observed=True, sort=False).idxmax()]
    for run in rows["run"].unique():
        if run not in picked.index.get_level_values("run"):
            raise RowsError(f"{label}: run {run} was not scored on single tasks at its last step")
    missing = np.argwhere(picked.isna().to_numpy())
    if len(missing):
        (run, step), task = picked.index[missing[0][0]], picked.columns[missing[0][1]]
        raise RowsError(f"{label}: run {run} has no {task} at step {step}, which other runs have")
    names = [str(run) for run in picked.index.get_level_values("run")]
    seeds = rows.drop_duplicates("run").set_index("run")["seed"]
    return Scores(
        label,
        picked.to_numpy(dtype=np.float64),
        tuple(str(task) for task in picked.columns),
        tuple(names),
        tuple(int(seeds[name]) for name in names),
        tuple(int(step) for step in picked.index.get_level_values("env_step")),
    )


def curves(
    frame: pd.DataFrame, metric: str = "success/mean", task: str | None = None
) -> dict[str, Curves]:
    """A metric over training by label: of the whole agent, or of one task.

    Runs that were measured at different steps are interpolated between their own measurements, at
    the steps of all of them within the range that all of them cover. Raises RowsError where no
    run has such rows.
    """
    wanted = frame.loc[(frame["metric"] == metric) & (frame["task"] == (task or "")), NEEDED]
    found: dict[str, Curves] = {}
    for label, rows in wanted.groupby("label", observed=True):
        # [runs, steps], NaN where a run was not measured at a step of another.
        table = rows.pivot_table(
            index="run", columns="env_step", values="value", observed=True, sort=False
        ).sort_index(axis=1)
        steps = table.columns.to_numpy(dtype=np.int64)
        values = table.to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            steps, values = interpolated(steps, values)
        names = tuple(str(run) for run in table.index)
        seeds = rows.drop_duplicates("run").set_index("run")["seed"]
        found[str(label)] = Curves(
            str(label), steps, values, names, tuple(int(seeds[name]) for name in names)
        )
    if not found:
        where = f" of task {task!r}" if task else " of the whole agent"
        raise RowsError(f"no row{where} of metric {metric!r}; there are {some_metrics(frame)}")
    return found


def interpolated(
    steps: npt.NDArray[np.int64], values: Array
) -> tuple[npt.NDArray[np.int64], Array]:
    """Steps that lie within the range of every run, and values without NaN there."""
    known = ~np.isnan(values)
    begin = max(steps[row][0] for row in known)
    end = min(steps[row][-1] for row in known)
    common = steps[(begin <= steps) & (steps <= end)]
    rows = zip(values, known, strict=True)
    return common, np.array([np.interp(common, steps[k], v[k]) for v, k in rows])


def some_metrics(frame: pd.DataFrame) -> str:
    """The metrics of a frame by their first part, which is short enough for a line."""
    return ", ".join(sorted({str(name).split("/")[0] for name in frame["metric"].unique()}))
