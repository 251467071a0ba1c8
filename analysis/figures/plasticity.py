"""How alive the networks are at the end: against width, and against the number of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.error_bars import bars
from analysis.figures.scaling import TOGETHER
from analysis.figures.style import (
    MARKERS,
    PAGE,
    Drawn,
    Look,
    Unsupported,
    colours,
    legend_below,
    panels,
)
from analysis.plasticity_table import at_the_end, not_comparable, pooled
from analysis.statistics import estimate, mean

MEASURES = {
    "dormant_0.1": "dormant units, share",
    "srank": "srank, sum over layers",
    "effective_rank": "effective rank, sum",
}
NETWORKS = {"actor": "actor", "critic_0": "critic 1"}
WIDTHS = {"actor": "actor_width", "critic_0": "critic_width"}
"""The column of each network's width."""
PROBE = (
    "Measured on a probe of one size for all task sets: transitions of the run's own tasks, half "
    "by random actions, half by Meta-World's scripted ones, none by the agent's."
)
Style = dict[str, Any]
"""Colour, marker and label, by matplotlib's names."""


def plasticity_by_width(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Dormant fraction and ranks at the end of training against the networks' width."""
    text = (
        "Share of dormant units (τ = 0.1) and ranks of the hidden layers, pooled, at the last "
        f"evaluation, against the network's own width. {PROBE} Mean over seeds, bars: intervals. "
        "Wider networks have more units to leave dormant and often succeed more: dormancy is not "
        "loss of performance."
    )
    return grid(frame, looks, text, by_width=True)


def plasticity_by_tasks(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Dormant fraction and ranks at the end of training against the number of tasks."""
    text = (
        "Share of dormant units (τ = 0.1) and ranks of the hidden layers, pooled, at the last "
        f"evaluation, against the number of tasks; one line per width. {PROBE} A unit is dormant "
        "by its mean over all of them, so that dormancy and ranks may differ for what the probe "
        "holds alone. Data and the transitions of a gradient step grow with the tasks, too, and "
        "their part is not told apart. Mean over seeds, bars: intervals. Dormancy is not loss of "
        "performance."
    )
    return grid(frame, looks, text, by_width=False)


def grid(frame: pd.DataFrame, looks: Mapping[str, Look], text: str, by_width: bool) -> Drawn:
    """Panels network × measure, with this text."""
    table = on_lines(frame, looks, by_width)
    figure, axes = panels(len(NETWORKS) * len(MEASURES), len(MEASURES), PAGE, 1.8)
    of_lines = dict.fromkeys(WIDTHS, "tasks") if by_width else WIDTHS
    styles = styles_of(table, of_lines)
    drawn = 0
    for row, (network, line) in enumerate(of_lines.items()):
        x = WIDTHS[network] if by_width else "tasks"
        for column, (measure, title) in enumerate(MEASURES.items()):
            panel = axes[row * len(MEASURES) + column]
            part = table[(table["network"] == network) & (table["measure"] == measure)]
            drawn += lines(panel, part, x, line, styles)
            panel.set(title=f"{NETWORKS[network]}: {title}", xscale="log")
            if measure.startswith("dormant"):
                panel.set_ylim(bottom=0)
            values = sorted(set(part[x].dropna()))
            panel.set_xticks(values, [f"{v:.0f}" for v in values])
            panel.set_xticks([], minor=True)
            panel.set_xlabel("width" if by_width else "tasks")
    if not drawn:
        what = "two widths" if by_width else "two numbers of tasks"
        raise Unsupported(f"needs plasticity rows of runs of an algorithm with at least {what}")
    legend_below(figure, axes, 4)
    text = " ".join([text, *not_comparable(table["algorithm"])])
    return Drawn(figure, text, list(table["label"].astype(str).unique()))


def on_lines(frame: pd.DataFrame, looks: Mapping[str, Look], by_width: bool) -> pd.DataFrame:
    """The `final_plasticity` that is drawn, with each label's family."""
    table = final_plasticity(frame)
    table["family"] = table["label"].astype(str).map(lambda label: looks[label].family)
    even = (table["actor_width"] / table["critic_width"]).between(1 / TOGETHER, TOGETHER)
    # Both networks grow together; where none do, each stands for itself.
    table = table[even] if even.any() else table
    table = table[several_points(table, by_width)]
    refuse_several_at_a_point(table)
    return table


def refuse_several_at_a_point(table: pd.DataFrame) -> None:
    """Raises Unsupported where one point of a line would be the mean of several configurations: of
    several task sets, or of networks whose other half has another width.
    """
    for network, width in WIDTHS.items():
        for _, own in table.groupby(["family", width, "tasks"]):
            labels = sorted(set(own["label"].astype(str)))
            if len(labels) > 1:
                half = "actor" if network == "actor" else "critics"
                raise Unsupported(
                    f"needs one configuration for each width of the {half} and number of tasks, "
                    f"not both {labels[0]} and {labels[1]}"
                )


def several_points(table: pd.DataFrame, by_width: bool) -> pd.Series[bool]:
    """Which rows belong to a line of more than one point; all where none do."""
    line, x = ["family", "tasks"], ["actor_width", "critic_width"]
    if not by_width:
        line, x = ["family", "actor_width", "critic_width"], ["tasks"]
    points = [table.groupby(line, dropna=False)[name].transform("nunique") for name in x]
    several = pd.concat(points, axis=1).max(axis=1) > 1
    return several if several.any() else ~several


def styles_of(table: pd.DataFrame, of_lines: Mapping[str, str]) -> dict[tuple[str, float], Style]:
    """By family and value of the column that tells a network's lines apart: how that line is drawn
    and named in all panels, for which there is one legend.
    """
    kinds = sorted(
        {
            (str(family), float(value))
            for network, column in of_lines.items()
            for family, value in table.loc[table["network"] == network, ["family", column]]
            .dropna()
            .itertuples(index=False)
        }
    )
    colour = colours(list(table["algorithm"]))
    own_colour = {f: colour[a] for f, a in zip(table["family"], table["algorithm"], strict=True)}
    several = len({value for _, value in kinds}) > 1
    unit = "tasks" if "tasks" in of_lines.values() else "wide"
    return {
        (family, value): {
            "color": own_colour[family],
            "marker": MARKERS[index % len(MARKERS)],
            "label": f"{family}, {value:.0f} {unit}" if several else family,
        }
        for index, (family, value) in enumerate(kinds)
    }


def lines(axes: Axes, part: pd.DataFrame, x: str, line: str, styles: Mapping[Any, Style]) -> int:
    """Draws one line per algorithm and value of `line`; returns how many have two points."""
    count = 0
    for key, rows in part.dropna(subset=[x]).groupby(["family", line], sort=True):
        points = [(at, estimate(mean, own[["value"]].to_numpy())) for at, own in rows.groupby(x)]
        where = np.array([at for at, _ in points], dtype=np.float64)
        values = [e for _, e in points]
        axes.errorbar(where, [e.value for e in values], yerr=bars(values), capsize=2, **styles[key])
        count += len(points) > 1
    return count


def final_plasticity(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per seed, network and measure: its pooled value at the last step of all."""
    last = at_the_end(pooled(frame))
    last = last[last["network"].isin(list(NETWORKS)) & last["measure"].isin(list(MEASURES))]
    if last.empty:
        raise Unsupported("needs rows of plasticity/…/pooled")
    return last.assign(algorithm=last["algorithm"].astype(str))
