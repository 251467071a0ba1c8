"""Final scores beside one another: aggregates, performance profiles, who beats whom, per task."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rliable import plot_utils

from analysis.comparisons import WITHOUT_WIDTH, difference_and_improvement
from analysis.figures.selection import final_scores
from analysis.figures.style import (
    COLUMN,
    PAGE,
    TYPE,
    Drawn,
    Look,
    Unsupported,
    few,
    in_order,
    legend_below,
    margin,
    panels,
    short,
    wrapped,
)
from analysis.protocol import comparable
from analysis.statistics import AGGREGATES, OF_TASKS, estimate, performance_profile

MOST_PAIRS = 15
"""Pairs of configurations that one figure compares."""
MOST = 12
"""Configurations whose profiles one panel holds."""


def aggregates(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Aggregates of final success with their intervals."""
    found = final_scores(frame)
    names = in_order(found, looks)
    # rliable draws from below.
    found = {label: found[label] for label in reversed(names)}
    single_tasks = all(scores.per_task for scores in found.values())
    aggregates_shown = [name for name in AGGREGATES if single_tasks or name not in OF_TASKS]
    points, intervals = {}, {}
    for label, scores in found.items():
        results = [estimate(AGGREGATES[name], scores.sample) for name in aggregates_shown]
        points[label] = [e.value for e in results]
        ends = np.array([(e.low, e.high) for e in results]).T
        # A single run has no interval: a bar of no length shows its value alone.
        intervals[label] = np.where(np.isnan(ends), points[label], ends)
    figure, axes = plot_utils.plot_interval_estimates(
        points, intervals, aggregates_shown, max_ticks=3,
        colors={k: looks[k].colour for k in found},
        subfigure_width=PAGE / len(aggregates_shown), row_height=0.3, xlabel="",
    )  # fmt: skip
    plt.close(figure)
    shown, row = wrapped([looks[label].name for label in found])
    height = 0.88 + row * len(found)
    figure.set_size_inches(PAGE, height)
    figure.subplots_adjust(left=margin(shown) / PAGE, right=0.99, top=1 - 0.38 / height)
    figure.subplots_adjust(bottom=0.32 / height, wspace=0.3)
    axes[0].set_yticklabels(shown)
    for index, (panel, name) in enumerate(zip(axes, aggregates_shown, strict=True)):
        panel.set_title(name.replace(" over ", "\nover "), fontsize=TYPE)
        panel.tick_params(labelsize=TYPE)
        ends = np.array([intervals[label][:, index] for label in found])
        room = max(0.01, 0.08 * float(np.ptp(ends)))
        panel.set_xlim(ends.min() - room, ends.max() + room)
        panel.xaxis.set_major_locator(MaxNLocator(2, prune="both"))
        panel.set_ylim(-0.6, len(found) - 0.4)
        # rliable's short bars of single runs are invisible; so the value is marked as well.
        for y, label in enumerate(found):
            value = points[label][index]
            alone = len(found[label].sample) == 1
            panel.plot(value, y, marker="|", color="k", markersize=7)
            panel.plot(value, y, marker="o" if alone else "", color=looks[label].colour)
    text = (
        "Final success by several aggregates with their intervals (rliable's definitions, arXiv "
        "2108.13264, but for the headline, the IQM over seeds of the mean over tasks)."
    )
    if single_tasks:
        text += " Of the optimality gap less is better."
    else:
        text += " Whole agents alone were scored of some, so that there are none over single tasks."
    return Drawn(figure, text, names)


def profiles(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Performance profiles."""
    found = {k: s for k, s in final_scores(frame).items() if s.per_task}
    if not found:
        raise Unsupported("needs success of single tasks")
    few(found, MOST)
    thresholds = np.linspace(0, 1, 101)
    values, ends = {}, {}
    for label in in_order(found, looks):
        value, low, high = performance_profile(found[label].sample, thresholds)
        values[label] = value
        if np.isfinite(low).all():
            ends[label] = (low, high)
    figure, (axes,) = panels(1, 1, COLUMN, 2.5)
    plot_utils.plot_performance_profiles(
        values, thresholds, ends, ax=axes, colors={k: looks[k].colour for k in values},
        linestyles={k: looks[k].dash for k in values}, xticks=(0, 0.2, 0.4, 0.6, 0.8, 1),
        xlabel="success τ", ylabel="share of runs × tasks above τ", labelsize=TYPE,
        ticklabelsize=TYPE,
    )  # fmt: skip
    for drawn, label in zip(axes.lines, values, strict=True):
        drawn.set(linewidth=1.4, label=looks[label].name)
    legend_below(figure, axes)
    text = (
        "Performance profiles: share of runs × tasks whose final success exceeds τ "
        "(arXiv 2108.13264). Bands: pointwise intervals."
    )
    return Drawn(figure, text, list(found))


def improvement(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Probability that a run of one configuration beats one of another on a random task."""
    found = {k: s for k, s in final_scores(frame).items() if s.per_task}
    names = in_order(found, looks)
    alike = comparable(frame)
    every = [(x, y) for x, y in combinations(names, 2) if alike[x] == alike[y]]
    if not every:
        raise Unsupported("needs two configurations of one protocol with success of the same tasks")
    pairs = every[:MOST_PAIRS]
    points, intervals, known = {}, {}, []
    for x, y in pairs:
        _, result = difference_and_improvement(found[x].sample, found[y].sample)
        key = f"{looks[x].name}\t{looks[y].name}"
        points[key] = result.value
        ends = (result.low, result.high)
        unknown = np.isnan(ends).any()
        intervals[key] = (result.value,) * 2 if unknown else ends
        known += [] if unknown else [ends]
    sides = [margin([looks[pair[side]].name for pair in pairs]) + 0.1 for side in (0, 1)]
    size = (2.0 + sum(sides), 0.8 + 0.24 * len(pairs))
    figure = Figure(figsize=size)
    axes = figure.add_axes((sides[0] / size[0], 0.45 / size[1], 2 / size[0], 1 - 0.7 / size[1]))
    plot_utils.plot_probability_of_improvement(
        points, intervals, pair_separator="\t", ax=axes, colors=[looks[x].colour for x, _ in pairs],
        ticklabelsize=TYPE, labelsize=TYPE, xlabel="P(X > Y)", left_ylabel="X", right_ylabel="Y",
        ylabel_x_coordinate=-0.02, xticks=(0, 0.25, 0.5, 0.75, 1),
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.axvline(0.5, color="0.4", linestyle=":", linewidth=0.8)
    axes.plot(list(points.values()), range(len(points)), "|", color="k", markersize=8)
    text = (
        "Probability that a run of X ends with more success than a run of Y, mean over tasks, ties "
        "counted half (Mann–Whitney U; arXiv 2108.13264). An interval that holds ½ is no "
        "evidence of a difference; none is corrected for the number of pairs."
        + (f" {WITHOUT_WIDTH}" if any(low == high for low, high in known) else "")
        + (f" The first {len(pairs)} of {len(every)} pairs." if len(every) > len(pairs) else "")
    )
    return Drawn(figure, text, list(dict.fromkeys(label for pair in pairs for label in pair)))


def heat_map(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Final success of each task and configuration."""
    found = {k: s for k, s in final_scores(frame).items() if s.per_task}
    if not found:
        raise Unsupported("needs success of single tasks")
    names = in_order(found, looks)
    table = pd.DataFrame({k: dict(zip(found[k].tasks, found[k].sample.mean(0), strict=True))
                          for k in names})  # fmt: skip
    shown = [looks[name].name for name in names]
    tilts = max(map(len, shown)) > 8
    labels = margin(shown) / 2 if tilts else 0.2  # of their height, tilted by 30 degrees
    figure, (axes,) = panels(
        1, 1, min(PAGE, COLUMN - 0.6 + 0.4 * len(names)), 1.1 + labels + 0.16 * len(table)
    )
    sns.heatmap(
        table.set_axis([short(t) for t in table.index]), ax=axes, vmin=0, vmax=1, cmap="cividis",
        xticklabels=shown, annot=len(names) <= 8, fmt=".2f", annot_kws={"size": TYPE},
        linewidths=0.4,
        cbar_kws={"label": "final success", "shrink": min(1, 8 / len(table))},
    )  # fmt: skip
    tilted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticklabels(shown, **(tilted if tilts else {"rotation": 0}))
    return Drawn(figure, "Final success of each task, mean over runs.", names, intervals=False)
