"""How alive the networks are at the end: against width, and against the number of tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.evaluations import at_last_shared
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
from analysis.statistics import estimate, mean

MEASURES = {
    "dormant_0.1": "dormant units, share",
    "srank": "srank, sum over layers",
    "effective_rank": "effective rank, sum",
}
NETWORKS = {"actor": "actor", "critic_0": "critic 1"}
TANH = {"moore": "MOORE's mixture of experts", "ars": "ARS's critics"}
"""Methods with layers that dormancy cannot be compared of, and which."""


def plasticity_by_width(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Dormant fraction and ranks at the end of training against the networks' width."""
    text = (
        "Share of dormant units (τ = 0.1) and ranks of the hidden layers, pooled, at the last "
        "evaluation on the fixed probe batch, against the network's own width. Mean over seeds, "
        "bars: intervals. Wider networks have more units to leave dormant and often succeed more: "
        "dormancy is not loss of performance."
    )
    return grid(frame, looks, text, by_width=True)


def plasticity_by_tasks(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Dormant fraction and ranks at the end of training against the number of tasks."""
    text = (
        "Share of dormant units (τ = 0.1) and ranks of the hidden layers, pooled, at the last "
        "evaluation, against the number of tasks; one line per width. The probe batch has one size "
        "for all task sets and is made of each run's own tasks. A unit is dormant by its mean over "
        "all of them, so that dormancy and ranks may differ for what the probe holds alone. Mean "
        "over seeds, bars: intervals. Dormancy is not loss of performance."
    )
    return grid(frame, looks, text, by_width=False)


def grid(frame: pd.DataFrame, looks: Mapping[str, Look], text: str, by_width: bool) -> Drawn:
    """Panels network × measure, with this text."""
    table = on_lines(frame, looks, by_width)
    figure, axes = panels(len(NETWORKS) * len(MEASURES), len(MEASURES), PAGE, 1.8)
    drawn = 0
    for row, network in enumerate(NETWORKS):
        width = "actor_width" if network == "actor" else "critic_width"
        x, line = (width, "tasks") if by_width else ("tasks", width)
        for column, (measure, title) in enumerate(MEASURES.items()):
            panel = axes[row * len(MEASURES) + column]
            part = table[(table["network"] == network) & (table["measure"] == measure)]
            drawn += lines(panel, part, x, line)
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
    legend_below(figure, axes[0], 4)
    tanh = [TANH[name] for name in sorted(set(table["algorithm"])) if name in TANH]
    if tanh:
        text += f" {' and '.join(tanh)} end in tanh, not ReLU: dormancy there is another number."
    return Drawn(figure, text, list(table["label"].astype(str).unique()))


def on_lines(frame: pd.DataFrame, looks: Mapping[str, Look], by_width: bool) -> pd.DataFrame:
    """The `final_plasticity` that is drawn, with each label's family."""
    table = final_plasticity(frame)
    table["family"] = table["label"].astype(str).map(lambda label: looks[label].family)
    even = (table["actor_width"] / table["critic_width"]).between(1 / TOGETHER, TOGETHER)
    # Both networks grow together; where none do, each stands for itself.
    table = table[even] if even.any() else table
    table = table[several_points(table, by_width)]
    if not by_width:
        refuse_several_sets(table)
    return table


def refuse_several_sets(table: pd.DataFrame) -> None:
    """Raises Unsupported where one point of a line would be of several benchmarks."""
    point = ["family", "actor_width", "critic_width", "tasks"]
    for _, own in table.groupby(point, dropna=False):
        labels = sorted(set(own["label"].astype(str)))
        if len(labels) > 1:
            raise Unsupported(
                f"needs runs of one benchmark for each number of tasks, not of {labels[0]} and "
                f"{labels[1]}"
            )


def several_points(table: pd.DataFrame, by_width: bool) -> pd.Series[bool]:
    """Which rows belong to a line of more than one point; all where none do."""
    line, x = ["family", "tasks"], ["actor_width", "critic_width"]
    if not by_width:
        line, x = ["family", "actor_width", "critic_width"], ["tasks"]
    points = [table.groupby(line, dropna=False)[name].transform("nunique") for name in x]
    several = pd.concat(points, axis=1).max(axis=1) > 1
    return several if several.any() else ~several


def lines(axes: object, part: pd.DataFrame, x: str, line: str) -> int:
    """Draws one line per algorithm and value of `line`; returns how many have two points."""
    part = part.dropna(subset=[x])
    colour = colours(list(part["algorithm"]))
    own_colour = {f: colour[a] for f, a in zip(part["family"], part["algorithm"], strict=True)}
    several = part[line].nunique() > 1
    count = 0
    for index, ((family, value), rows) in enumerate(part.groupby(["family", line], sort=True)):
        points = [(at, estimate(mean, own[["value"]].to_numpy())) for at, own in rows.groupby(x)]
        where = [at for at, _ in points]
        middle = np.array([e.value for _, e in points])
        spread = np.array([[e.value - e.low, e.high - e.value] for _, e in points]).T
        name = f"{family}, {value:.0f} {'tasks' if line == 'tasks' else 'wide'}"
        axes.errorbar(  # type: ignore[attr-defined]
            where, middle, yerr=np.nan_to_num(spread).clip(0), capsize=2,
            color=own_colour[str(family)], marker=MARKERS[index % len(MARKERS)],
            label=name if several else str(family),
        )  # fmt: skip
        count += len(points) > 1
    return count


def final_plasticity(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run, network and measure: its pooled value at the last step of all seeds."""
    wanted = {
        f"plasticity/{network}/{measure}/pooled": (network, measure)
        for network in NETWORKS
        for measure in MEASURES
    }
    rows = frame[frame["metric"].isin(list(wanted))]
    if rows.empty:
        raise Unsupported("needs rows of plasticity/…/pooled")
    last = at_last_shared(rows)
    parts = last["metric"].astype(str).map(wanted)
    return last.assign(
        network=[p[0] for p in parts],
        measure=[p[1] for p in parts],
        algorithm=last["algorithm"].astype(str),
    )
