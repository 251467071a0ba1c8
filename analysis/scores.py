"""Arrays of the tidy frame, by configuration: final scores [runs, tasks] and curves [runs, steps].

Runs of one label are a sample, one agent each; rows of different labels are never pooled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.evaluations import gaps
from analysis.messages import RowsError
from analysis.protocol import is_part
from analysis.statistics import Array

NEEDED = ["label", "run", "seed", "task_set", "task", "metric", "env_step", "value"]


@dataclass(frozen=True)
class Scores:
    """One configuration's score of each run on each task."""

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
    def sample(self) -> Array:
        """[seeds, tasks]: what statistics are of; runs of one seed are not independent, and count
        as one, their mean.
        """
        return by_seed(self.values, self.seeds)


@dataclass(frozen=True)
class Curves:
    """One configuration's value of a metric over training."""

    steps: npt.NDArray[np.int64]
    """[S]: env steps over all tasks."""
    values: Array
    """[seeds, S]: of each seed its run, or the mean of its runs."""
    seeds: tuple[int, ...]

    def mean(self) -> pd.Series[float]:
        """[S]: the mean over seeds, by step."""
        return pd.Series(self.values.mean(axis=0), index=self.steps)


def by_seed(values: Array, seeds: Sequence[int]) -> Array:
    """Values [runs, ...] with the runs of each seed as one, their mean: [seeds, ...]."""
    alone = list(dict.fromkeys(seeds))
    if len(alone) == len(seeds):
        return values
    of = np.array(seeds)
    return np.array([values[of == seed].mean(axis=0) for seed in alone])


def success_matrix(
    frame: pd.DataFrame, metric: str = "success", at: Literal["final", "best"] = "final"
) -> dict[str, Scores]:
    """Scores by label, from the last evaluation of each run.

    `at="best"` is the evaluation with the highest mean over tasks: another, rosier number, of
    which published results must be compared with their like. Where a label has no rows of single
    tasks at the last evaluation, the whole agent's score stands in, as one column, for both.

    Raises RowsError where no run has the metric, or a run was not scored on every task.
    """
    rows = frame.loc[frame["metric"].isin([metric, f"{metric}/mean"])]
    if rows.empty:
        raise no_rows(frame, metric)
    for line in gaps(rows, metric).values():
        raise RowsError(line)
    return {
        str(label): scores(own, metric, at)
        for label, own in rows[NEEDED].groupby("label", observed=True)
    }


def scores(rows: pd.DataFrame, metric: str, at: Literal["final", "best"]) -> Scores:
    """One label's scores, of its rows of a metric and of the metric's mean."""
    last = rows.groupby("run", observed=True)["env_step"].transform("max")
    single = (rows["metric"] == metric) & (rows["task"] != "")
    if (single & (rows["env_step"] == last)).any():
        table = evaluations(rows[single], "task")
    else:
        table = agent(rows, metric).to_frame("")
    if at == "final":
        picked = table.groupby(level="run", observed=True).tail(1)
    else:
        means = table.mean(axis=1, skipna=False).fillna(-math.inf)
        picked = table.loc[means.groupby(level="run", observed=True).idxmax()]
    names = [str(run) for run in picked.index.get_level_values("run")]
    seeds = rows.drop_duplicates("run").set_index("run")["seed"]
    return Scores(
        picked.to_numpy(dtype=np.float64),
        tuple(str(task) for task in picked.columns),
        tuple(names),
        tuple(int(seeds[name]) for name in names),
        tuple(int(step) for step in picked.index.get_level_values("env_step")),
    )


def evaluations(rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """A table [(run, step), columns]; NaN where a run has no value."""
    return rows.pivot(index=["run", "env_step"], columns=columns, values="value").sort_index()


def agent(rows: pd.DataFrame, metric: str) -> pd.Series[float]:
    """[(run, step)]: the whole agent's values of a metric of one label.

    Where there is none, the mean over single tasks stands in, if all of the task set's are there.
    """
    whole = rows[rows["task"] == ""].set_index(["run", "env_step"])["value"]
    single = rows[(rows["metric"] == metric) & (rows["task"] != "")]
    part = is_part(rows["task_set"].iloc[0], single["task"].nunique())
    if single.empty or (part and len(whole)):
        return whole.sort_index()
    means = evaluations(single, "task").mean(axis=1, skipna=False).dropna()
    both: pd.Series[float] = pd.concat([whole, means[~means.index.isin(whole.index)]])
    return both.sort_index()


def curves(
    frame: pd.DataFrame, metric: str = "success/mean", task: str | None = None
) -> dict[str, Curves]:
    """A metric over training by label that has it: of the whole agent, or of one task.

    Where the whole agent has no value, the mean over all of its tasks stands in. Runs
    that were measured at different steps are interpolated between their own measurements, at the
    steps of all of them within the range that all of them cover; a label without such a range has
    no curve. Raises RowsError where no run has such rows.
    """
    per_task = metric.removesuffix("/mean")
    wanted = frame["metric"] == metric
    if task:
        wanted &= frame["task"] == task
    elif per_task != metric:
        wanted |= frame["metric"] == per_task
    else:
        wanted &= frame["task"] == ""
    if not wanted.any():
        raise no_rows(frame, metric, f" of task {task!r}" if task else " of the whole agent")
    found: dict[str, Curves] = {}
    for label, rows in frame.loc[wanted, NEEDED].groupby("label", observed=True):
        values = rows.set_index(["run", "env_step"])["value"] if task else agent(rows, per_task)
        if curve := as_curve(values, rows):
            found[str(label)] = curve
    return found


def as_curve(values: pd.Series[float], rows: pd.DataFrame) -> Curves | None:
    """The curve that values [(run, step)] make, of runs whose seeds are in the rows; None where no
    step is within the range of all of them.
    """
    if values.empty:
        return None
    # [runs, steps], NaN where a run was not measured at a step of another.
    table = values.unstack("env_step").sort_index().sort_index(axis=1)
    steps = table.columns.to_numpy(dtype=np.int64)
    heights = table.to_numpy(dtype=np.float64)
    if np.isnan(heights).any():
        steps, heights = interpolated(steps, heights)
    if not len(steps):
        return None
    of = rows.drop_duplicates("run").set_index("run")["seed"]
    seeds = [int(of[run]) for run in table.index]
    return Curves(steps, by_seed(heights, seeds), tuple(dict.fromkeys(seeds)))


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


def no_rows(frame: pd.DataFrame, metric: str, where: str = "") -> RowsError:
    """What to raise for a metric that no row has: names those there are by their first part."""
    there = ", ".join(sorted({str(name).split("/")[0] for name in frame["metric"].unique()}))
    return RowsError(f"no row{where} of metric {metric!r}; there are {there}")
