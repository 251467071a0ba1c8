"""What MEGA breeds and where D2R routes: modules, weights, diversity, routes over training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.curves import draw_curve
from analysis.figures.selection import of_algorithm, of_metrics
from analysis.figures.style import (
    COLUMN,
    MARKERS,
    PAGE,
    PALETTE,
    Drawn,
    Look,
    Unsupported,
    in_order,
    legend_below,
    panels,
    short,
    steps_axis,
)
from analysis.figures.trigger import alike_but_for, settings_of
from analysis.scores import as_curve
from analysis.statistics import Array

DRAWS = 20_000
"""Random genotypes that a reference distribution is made of."""

MODULES = {"stage": "stage (modules allowed)", "modules_in_use": "modules in use"}
DIVERSITY = {"population_diversity": "population diversity"}
ROUTES = {"route_entropy": "route entropy, relative", "modules_in_use": "modules in use"}


def mega_modules(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Modules that each task's genotype may use, and those that it does."""
    drawn = over_time(frame, MODULES, "mega", looks)
    return drawn._replace(
        text=f"MEGA's modules over training, {drawn.text}: the stage, which grows when a task "
        "stagnates, and the modules that reach the head through weights above the threshold."
    )


def mega_diversity(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Diversity of each task's population."""
    drawn = over_time(frame, DIVERSITY, "mega", looks)
    return drawn._replace(
        text=f"Diversity of MEGA's populations over training, {drawn.text}: the mean share of bits "
        "in which two genotypes of a task differ."
    )


def d2r_routes(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Entropy of D2R's routes and the modules that they lead through."""
    drawn = over_time(frame, ROUTES, "d2r", looks)
    return drawn._replace(
        text=f"D2R's routes over training, {drawn.text}: entropy of the routing weights, "
        "relative to that of even ones, and the modules that a sample's route leads through."
    )


def over_time(
    frame: pd.DataFrame, metrics: Mapping[str, str], algorithm: str, looks: Mapping[str, Look]
) -> Drawn:
    """One panel per metric. The text says what its lines are: tasks, a heat map where these cannot
    be told apart, or configurations where there are several.
    """
    rows = of_algorithm(frame[frame["metric"].isin(list(metrics))], algorithm)
    rows = rows[rows["task"] != ""]
    missing = [name for name in metrics if not (rows["metric"] == name).any()]
    if missing:
        raise Unsupported(f"needs rows of {missing[0]}, which {algorithm} runs have")
    labels = list(rows["label"].astype(str).unique())
    if len(labels) > 1:
        lines = "mean over tasks, line: IQM over seeds, band: its interval"
        return Drawn(by_configuration(rows, metrics, looks), lines, labels)
    return Drawn(by_task(rows, metrics), "of each task, mean over runs", labels, intervals=False)


def by_configuration(
    rows: pd.DataFrame, metrics: Mapping[str, str], looks: Mapping[str, Look]
) -> Figure:
    """A line for each configuration: the mean over its tasks."""
    means = rows.groupby(["label", "metric", "run", "env_step"], observed=True)["value"].mean()
    figure, axes = panels(len(metrics), len(metrics), PAGE if len(metrics) > 1 else COLUMN, 2.5)
    for panel, (metric, title) in zip(axes, metrics.items(), strict=True):
        own = means.xs(metric, level="metric")
        for label in in_order(set(own.index.unique("label")), looks):
            if curve := as_curve(own[label], rows):
                draw_curve(panel, curve, looks[label])
        panel.set_ylabel(title)
        panel.set_ylim(bottom=0)
        steps_axis(panel)
    legend_below(figure, axes, 3)
    return figure


def by_task(rows: pd.DataFrame, metrics: Mapping[str, str]) -> Figure:
    """A line for each task, or heat maps."""
    count = rows["task"].nunique()
    many = count > len(MARKERS)
    tables = {name: evaluations(rows[rows["metric"] == name]) for name in metrics}
    figure, axes = panels(
        len(metrics),
        len(metrics),
        PAGE if len(metrics) > 1 else COLUMN,
        0.7 + 0.13 * count if many else 2.5,
    )
    for panel, (name, label) in zip(axes, metrics.items(), strict=True):
        if many:
            heat(panel, tables[name], label)
        else:
            # Not the algorithms' colours; viridis and markers can be told apart without colour.
            shades = sns.color_palette("viridis", tables[name].shape[1])
            for index, (task, values) in enumerate(tables[name].items()):
                panel.plot(
                    values.index, values, color=shades[index], marker=MARKERS[index],
                    markersize=3, label=short(str(task)),
                )  # fmt: skip
            panel.set_ylabel(label)
            panel.set_ylim(bottom=0)
            steps_axis(panel)
    if not many:
        legend_below(figure, axes, 5)
    return figure


def evaluations(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds, steps × tasks; tasks in the order of the rows."""
    found = {
        str(task): as_curve(own.set_index(["run", "env_step"])["value"], own)
        for task, own in rows.groupby("task", observed=True, sort=False)
    }
    return pd.DataFrame({task: curve.mean() for task, curve in found.items() if curve})


def heat(axes: Axes, table: pd.DataFrame, label: str) -> None:
    """Tasks × steps, where lines would be too many."""
    names = [f"{step / 1e6:g}M" for step in table.index]
    sns.heatmap(
        table.T.set_axis(names, axis=1), ax=axes, cmap="viridis", cbar_kws={"label": label},
        yticklabels=[short(str(task)) for task in table.columns],
    )  # fmt: skip
    axes.set(xlabel="environment steps, all tasks", ylabel="")


def mega_weights(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Distribution of the evaluated genotypes' mixing weights, by decoding and precision."""
    rows = of_metrics(frame, r"weight/(?!1/)")
    if rows.empty:
        raise Unsupported("needs rows of weight/<module>/<source>, which mega runs have")
    last = rows[rows["env_step"] == rows.groupby("run", observed=True)["env_step"].transform("max")]
    kinds, others = alike(last)
    if not kinds:
        raise Unsupported("needs mega runs, with their configurations, whose genotypes are bred")
    kind = last["label"].astype(str).map(kinds)
    last, kind = last[kind.notna()], kind[kind.notna()]
    slots = slots_of(last)
    bits = sorted({found[1] for found in kinds.values()})
    figure, axes = panels(len(bits), 2, COLUMN if len(bits) == 1 else PAGE, 2.6)
    style = {"halfsoftmax": PALETTE[2], "softmax": PALETTE[3]}
    for panel, precision in zip(axes, bits, strict=True):
        for name, colour in style.items():
            bred = last.loc[kind == (name, precision), "value"].to_numpy()
            if len(bred):
                ecdf(panel, bred, colour, "-", f"{name}, bred")
            ecdf(panel, random_weights(name, precision, slots), colour, ":", f"{name}, random")
        panel.set(xscale="log", ylim=(0, 1.01), title=f"{precision} bits a gene")
        panel.set(xlabel="mixing weight", ylabel="share of weights below")
    legend_below(figure, axes, 2)
    text = (
        "Cumulative distribution of MEGA's mixing weights. Solid: the evaluated genotypes of all "
        "tasks at the last evaluation; dotted: what fair coin bits decode to, by HalfSoftmax "
        "(arXiv 2502.13569) and by softmax, in as deep stacks. The first module, whose only weight "
        f"is 1, is left out{', and so are MEGAs that differ in anything else' * others}."
    )
    return Drawn(figure, text, list(kinds), intervals=False)


def alike(rows: pd.DataFrame) -> tuple[dict[str, tuple[str, int]], bool]:
    """By label how genes become weights, and their bits, of configurations that are bred and differ
    in nothing else; and whether others had to be left out for that.

    Of several such groups it is the one with most ways, then the one with most runs.
    """
    bred = {label: own for label, own in settings_of(rows).items() if own.get("evolution", True)}
    kinds = {
        label: (str(own.get("decoding", "halfsoftmax")), int(own.get("gene_bits", 2)))
        for label, own in bred.items()
    }
    groups = alike_but_for(bred, ("decoding", "gene_bits"))
    count = rows.groupby("label", observed=True)["run"].nunique()
    best = max(groups, key=lambda own: (len(own), sum(count[label] for label in own)), default=[])
    return {label: kinds[label] for label in best}, len(groups) > 1


def slots_of(rows: pd.DataFrame) -> list[int]:
    """The sources of each slot of each run's and task's stack: `weight/k/…` stands for one of k."""
    slot = rows["metric"].astype(str).str.split("/").str[1].astype(int)
    return rows[["run", "task"]].assign(slot=slot).drop_duplicates()["slot"].tolist()


def random_weights(name: str, bits: int, slots: list[int]) -> Array:
    """Weights that genotypes of fair coins decode to, in slots of so many sources."""
    generator = np.random.default_rng(0)
    parts = []
    for sources_of_slot in slots:
        genes = generator.integers(2**bits, size=(max(1, DRAWS // len(slots)), sources_of_slot))
        scores = np.exp(genes.astype(np.float64)) - (0.99 if name == "halfsoftmax" else 0.0)
        parts.append((scores / scores.sum(1, keepdims=True)).ravel())
    return np.concatenate(parts)


def ecdf(axes: Axes, values: Array, colour: str, line: str, label: str) -> None:
    """A cumulative distribution as a step curve."""
    sns.ecdfplot(x=values, ax=axes, color=colour, linestyle=line, label=label)
