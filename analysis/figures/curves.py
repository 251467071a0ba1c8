"""Success over training: of whole agents and of each task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import (
    COLUMN,
    PAGE,
    Look,
    Unsupported,
    in_order,
    legend_below,
    panels,
    short,
    steps_axis,
)
from analysis.messages import RowsError
from analysis.scores import Curves, curves
from analysis.statistics import band

REPETITIONS = 500
"""Of the bootstrap at each step: bands are read by eye, and fifty tasks have many steps."""
FEW = 3
"""Runs up to which each is drawn thinly under the curve of them all."""


def learning_curves(frame: pd.DataFrame, looks: Mapping[str, Look]) -> tuple[Figure, str]:
    """Mean success over tasks against environment steps."""
    try:
        found = curves(frame, "success/mean")
    except RowsError:
        raise Unsupported("needs rows of success/mean") from None
    if max((len(c.steps) for c in found.values()), default=0) < 2:
        raise Unsupported("needs more than one evaluation per run")
    figure, (axes,) = panels(1, 1, COLUMN, 2.5)
    for label in in_order(found, looks):
        draw_curve(axes, found[label], looks[label])
    axes.set(ylabel="mean success", ylim=(-0.02, 1.02))
    steps_axis(axes)
    legend_below(figure, axes)
    return figure, (
        "Success averaged over tasks against environment steps of all tasks together. Line: IQM "
        f"over seeds; band: its interval; thin lines: single runs, where there are 2 or {FEW}."
    )


def task_curves(frame: pd.DataFrame, looks: Mapping[str, Look]) -> tuple[Figure, str]:
    """Success against environment steps, one panel per task."""
    rows = frame[(frame["metric"] == "success") & (frame["task"] != "")]
    tasks = [str(task) for task in rows["task"].unique()]
    if not tasks or rows["env_step"].nunique() < 2:
        raise Unsupported("needs success of single tasks at more than one evaluation")
    figure, axes = panels(len(tasks), 5 if len(tasks) > 4 else len(tasks), PAGE, 1.35)
    # One sweep over the rows: a filter for each of fifty tasks would look at all of them each time.
    by_task = dict(list(rows.groupby("task", observed=True, sort=False)))
    for index, (task, panel) in enumerate(zip(tasks, axes, strict=True)):
        found = curves(by_task[task], "success", task)
        for label in in_order(found, looks):
            draw_curve(panel, found[label], looks[label])
        panel.set(title=short(task), ylim=(-0.04, 1.04), yticks=(0, 0.5, 1))
        steps_axis(
            panel,
            "environment steps, all tasks"
            if index == len(tasks) - 1 - (len(tasks) - 1) % 5 // 2
            else "",
        )
        panel.xaxis.set_major_locator(MaxNLocator(3))
        if index % 5 == 0:
            panel.set_ylabel("success")
        else:
            panel.set_yticklabels([])
    legend_below(figure, axes[0], 5)
    return figure, "Success on each task; lines and bands as in the learning curves."


def draw_curve(axes: Axes, found: Curves, look: Look) -> None:
    """The IQM over seeds of one configuration with its band."""
    value, low, high = band(found.values, repetitions=REPETITIONS)
    if 1 < len(found.values) <= FEW:
        for run in found.values:
            axes.plot(found.steps, run, color=look.colour, linewidth=0.6, alpha=0.5)
    axes.plot(found.steps, value, color=look.colour, linestyle=look.dash, label=look.name)
    if np.isfinite(low).all():
        axes.fill_between(found.steps, low, high, color=look.colour, alpha=0.2, linewidth=0)
