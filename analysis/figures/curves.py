"""Success over training: of whole agents and of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.matched import controls
from analysis.figures.style import (
    COLUMN,
    PAGE,
    Drawn,
    Look,
    Unsupported,
    as_drawn,
    few,
    in_order,
    legend_below,
    panels,
    share_axis,
    short,
    steps_axis,
)
from analysis.frame import runs
from analysis.messages import RowsError
from analysis.scores import Curves, curves
from analysis.statistics import band

REPETITIONS = 500
"""Of the bootstrap at each step: bands are read by eye, and fifty tasks have many steps."""
MOST_TOGETHER = 6
"""Configurations that one panel shows; more are drawn by algorithm."""
MOST = 12
"""Configurations whose curves on each task are drawn."""
TITLE = 24
"""Letters that a line above one of four panels has room for."""
FEW = 3
"""Runs up to which each is drawn thinly under the curve of them all."""


def learning_curves(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Mean success over tasks against environment steps; many configurations by algorithm."""
    try:
        found = curves(frame, "success/mean")
    except RowsError:
        raise Unsupported("needs rows of success/mean") from None
    if max((len(c.steps) for c in found.values()), default=0) < 2:
        raise Unsupported("needs more than one evaluation per run")
    names = in_order(found, looks)
    text = (
        "Success averaged over tasks against environment steps of all tasks together. Line: IQM "
        f"over seeds; band: its interval; thin lines: single runs, where there are 2 or {FEW}. "
        "Where the last evaluation has more episodes, on more goals, than those before it, the "
        "last step of a curve joins two different measurements."
    )
    if len(names) > MOST_TOGETHER:
        figure, beside = by_algorithm(frame, found, looks)
        return Drawn(figure, text + beside, names)
    figure, (axes,) = panels(1, 1, COLUMN, 2.5)
    for label in names:
        draw_curve(axes, found[label], looks[label])
    share_axis(axes, "mean success")
    steps_axis(axes)
    legend_below(figure, axes)
    return Drawn(figure, text, names)


def by_algorithm(
    frame: pd.DataFrame, found: Mapping[str, Curves], looks: Mapping[str, Look]
) -> tuple[Figure, str]:
    """A panel for each algorithm, or several where it has many configurations, in grey the plain
    MT-SAC nearest in size; and what a caption says of the panels.
    """
    table = runs(frame).drop_duplicates("label").astype({"label": str}).set_index("label")
    of = table["algorithm"]
    grouped: dict[str, list[str]] = {}
    for label in in_order(found, looks):
        grouped.setdefault(str(of[label]), []).append(label)
    parts = [
        (f"{algorithm} ({index} of {count})" if count > 1 else algorithm, list(part))
        for algorithm, own in grouped.items()
        for count in [-(-len(own) // MOST_TOGETHER)]
        for index, part in enumerate(np.array_split(own, count), 1)
    ]
    control = controls(frame, looks)
    beside: list[tuple[str, str]] = []
    figure, axes = panels(len(parts), 4, PAGE, 1.75)
    for panel, (title, own) in zip(axes, parts, strict=True):
        pairs = [(label, control[label]) for label in own if label in control]
        pairs = [(label, plain) for label, plain in pairs if plain in found and plain not in own]
        for plain in dict.fromkeys(plain for _, plain in pairs):
            look = replace(looks[plain], colour="0.35", dash="-", name="mtsac nearest in size")
            draw_curve(panel, found[plain], look)
        beside += pairs
        for label in own:
            alone = len(own) == 1
            draw_curve(panel, found[label], looks[label], "_" if alone else "")
        name = as_drawn(title) if len(own) > 1 else looks[own[0]].name
        panel.set_title(fill(name, TITLE, break_on_hyphens=False))
    alike(axes, "mean success")
    legend_below(figure, axes, 4)
    grey = ""
    if beside:
        sizes = table[["actor_parameters", "critic_parameters", "total_parameters"]]
        methods, plains = (sizes.loc[list(side)].to_numpy() for side in zip(*beside, strict=True))
        # Of other code only the total may be known.
        worst = float(np.nanmax(np.abs(plains / methods - 1)))
        grey = (
            f"Grey: the mtsac nearest in size, {worst:.1%} off at the most, in actor, critics or "
            "both together. "
        )
    return figure, f" {grey}All panels have the same axes."


def alike(axes: Sequence[Axes], label: str) -> None:
    """The same vertical axis for panels of a grid; axes are named at its left and at its foot."""
    for panel in axes:
        share_axis(panel, "")
    ends = max((panel.get_ylim() for panel in axes), key=lambda ends: ends[1])
    columns = axes[0].get_gridspec().ncols  # type: ignore[union-attr]
    for index, panel in enumerate(axes):
        panel.set_ylim(*ends)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        steps_axis(panel, "environment steps" if index + columns >= len(axes) else "")
        panel.xaxis.set_major_locator(MaxNLocator(3))
        if index % columns:
            panel.set_yticklabels([])
        else:
            panel.set_ylabel(label)


def task_curves(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Success against environment steps, one panel per task."""
    rows = frame[(frame["metric"] == "success") & (frame["task"] != "")]
    tasks = [str(task) for task in rows["task"].unique()]
    if not tasks or rows["env_step"].nunique() < 2:
        raise Unsupported("needs success of single tasks at more than one evaluation")
    labels = set(map(str, rows["label"].unique()))
    few(labels, MOST)
    figure, axes = panels(len(tasks), 5, PAGE, 1.35)
    # One sweep over the rows: a filter for each of fifty tasks would look at all of them each time.
    by_task = dict(list(rows.groupby("task", observed=True, sort=False)))
    intervals = False
    for task, panel in zip(tasks, axes, strict=True):
        found = curves(by_task[task], "success", task)
        banded = len(found) <= MOST_TOGETHER
        intervals |= banded
        for label in in_order(found, looks):
            draw_curve(panel, found[label], looks[label], banded=banded)
        panel.set_title(short(task))
    alike(axes, "success")
    legend_below(figure, axes, 5)
    text = (
        "Success on each task against environment steps of all tasks together. Line: IQM over "
        f"seeds; band, where there are at most {MOST_TOGETHER} configurations: its interval."
    )
    return Drawn(figure, text, labels, intervals)


def draw_curve(
    axes: Axes, found: Curves, look: Look, hidden: str = "", banded: bool = True
) -> None:
    """The IQM over seeds of one configuration, perhaps with its band; `hidden` is "_" for no
    legend.
    """
    value, low, high = band(found.values, repetitions=REPETITIONS)
    if 1 < len(found.values) <= FEW:
        for run in found.values:
            axes.plot(found.steps, run, color=look.colour, linewidth=0.6, alpha=0.5)
    axes.plot(found.steps, value, color=look.colour, linestyle=look.dash, label=hidden + look.name)
    if banded and np.isfinite(low).all():
        axes.fill_between(found.steps, low, high, color=look.colour, alpha=0.2, linewidth=0)
