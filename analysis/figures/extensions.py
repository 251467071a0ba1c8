"""MEGA beyond its paper: critics that are bred, genotypes that learn, diversity against τ_cp."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.error_bars import bars
from analysis.figures.selection import final_scores, of_algorithm
from analysis.figures.style import (
    DASHES,
    MARKERS,
    PAGE,
    Drawn,
    Look,
    Unsupported,
    legend_below,
    panels,
    steps_axis,
)
from analysis.figures.trigger import Settings, alike_but_for, settings_of
from analysis.scores import Scores, as_curve
from analysis.statistics import estimate, iqm_of_runs

ALIKE = "Configurations that differ in this alone; of several such groups the largest."


def mega_critics(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Stage, modules, fitness and target jumps of critics that are bred."""
    rows = of_algorithm(frame, "mega")
    bred = {k: s for k, s in settings_of(rows).items() if s.get("critic_genotypes")}
    metrics = {
        "critic_stage": "critics' stage", "critic_modules_in_use": "critics' modules in use",
        "critic_fitness": "fitness of the fittest", "critic_target_jump": "jump of the targets",
    }  # fmt: skip
    if not bred:
        raise Unsupported("needs mega runs with critic genotypes")
    names = largest_group(bred, "critic_fitness", lambda value: str(value))
    text = (
        "MEGA with critics that are bred, by what judges them, over training, mean over tasks and "
        "runs: stage, modules that reach the head, fitness of the fittest genotype on held-out "
        "transitions (bellman: minus the error over the variance of the targets; correlation: of "
        "values and targets), and mean |Q(new) − Q(old)| of the target critics at the last change "
        f"of a task's fittest genotype. {ALIKE}"
    )
    return Drawn(over_time(rows, metrics, names), text, list(names), intervals=False)


def mega_collapse(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Diversity within and between populations, and clusters of elites, against τ_cp."""
    rows = of_algorithm(frame, "mega")
    metrics = {
        "population_diversity": "diversity of a population",
        "population_distance": "distance between tasks",
        "elite_clusters": "clusters of elites",
        "warning/collapse": "runs with a collapse",
    }
    if not (rows["metric"] == "population_distance").any():
        raise Unsupported("needs rows of population_distance, which mega runs have")
    known = settings_of(rows[rows["metric"] == "population_distance"])
    names = largest_group(known, "cross_population_rate", lambda value: f"τ_cp = {value:g}")
    text = (
        "Diversity of MEGA's populations over training, by the probability τ_cp of a parent from "
        "another task, mean over tasks and runs: share of bits in which two individuals of a task, "
        "and of two tasks, differ (0.5: chance); clusters of the tasks' elites by single linkage; "
        f"share of runs whose elites are one cluster. {ALIKE}"
    )
    return Drawn(over_time(rows, metrics, names), text, list(names), intervals=False)


def largest_group(
    known: Mapping[str, Settings], field: str, name_of: Callable[[Any], str]
) -> dict[str, str]:
    """Names of labels that differ in the field alone, of the largest of several such groups."""
    able = {label: settings for label, settings in known.items() if field in settings}
    if not able:
        raise Unsupported(f"needs mega runs whose configuration says {field}")
    (labels, *_) = alike_but_for(able, (field,))
    return {label: name_of(able[label][field]) for label in labels}


def over_time(rows: pd.DataFrame, metrics: Mapping[str, str], name_of: Mapping[str, str]) -> Figure:
    """A panel per metric, a line per name of a label: means over tasks and runs."""
    rows = rows[rows["metric"].isin(list(metrics)) & rows["label"].isin(list(name_of))]
    rows = rows.assign(name=rows["label"].astype(str).map(name_of))
    names = sorted(rows["name"].unique(), key=by_number)
    shades = sns.color_palette("viridis", len(names))
    figure, axes = panels(len(metrics), 2, PAGE, 2.0)
    for panel, (metric, label) in zip(axes, metrics.items(), strict=True):
        own = rows[rows["metric"] == metric]
        for index, name in enumerate(names):
            alone = own[own["name"] == name]
            curve = as_curve(alone.groupby(["run", "env_step"], observed=True)["value"].mean(), own)
            if curve is None:
                continue
            panel.plot(
                curve.steps, curve.mean(), color=shades[index], label=name,
                marker=MARKERS[index % len(MARKERS)], markersize=3,
                linestyle=DASHES[index % len(DASHES)],
            )  # fmt: skip
        panel.set_ylabel(label)
        steps_axis(panel)
    legend_below(figure, axes, 5)
    return figure


def by_number(name: str) -> tuple[float, str]:
    """Orders names that end in a number by it."""
    last = name.rpartition(" ")[2]
    return (float(last), name) if last.replace(".", "", 1).isdigit() else (0.0, name)


def mega_gradients(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Final success and learned shifts of genotypes that learn, against their rate."""
    rows = of_algorithm(frame, "mega")
    known = {k: s for k, s in settings_of(rows).items() if "genotype_gradient" in s}
    groups = alike_but_for(known, ("genotype_gradient", "genotype_learning_rate"))
    kinds = {label: str(known[label]["genotype_gradient"]) for label in groups[0]} if groups else {}
    shown = [kind for kind in ("none", "baldwin", "lamarck") if kind in kinds.values()]
    if len(shown) < 2:
        raise Unsupported("needs mega runs with and without genotype gradient")
    figure, axes = panels(3, 3, PAGE, 2.2)
    colours = sns.color_palette("colorblind")
    for panel, (metric, label) in zip(
        axes, {"success": "final mean success", "modules_in_use": "modules in use",
               "genotype_shift": "learned shift of log weights"}.items(), strict=True,
    ):  # fmt: skip
        found = final_scores(rows, metric)
        for index, kind in enumerate(shown):
            labels = [k for k in found if kinds.get(k) == kind]
            against_rate(panel, labels, found, known, kind, colours[index], index)
        panel.set(ylabel=label, xscale="log", xlabel="rate")
    axes[0].set_ylim(-0.02, 1.02)
    legend_below(figure, axes)
    text = (
        "MEGA whose mixing weights learn by gradient within a generation, against the rate: final "
        "success and modules in use, and the root mean square of what the logarithms of the mixing "
        "weights have learned in the running generation. Lamarck: encoded into the genes at its "
        f"end; Baldwin: lost. IQM over seeds, bars: intervals; lines: without gradient. {ALIKE}"
    )
    return Drawn(figure, text, list(kinds))


def against_rate(
    axes: Axes,
    labels: Sequence[str],
    found: Mapping[str, Scores],
    known: Mapping[str, Settings],
    kind: str,
    colour: Any,
    index: int,
) -> None:
    """Points of each label at its rate; without gradient, horizontal lines."""
    labels = sorted(labels, key=lambda k: float(known[k].get("genotype_learning_rate", 0)))
    values = [estimate(iqm_of_runs, found[label].sample) for label in labels]
    if kind == "none":
        for number, e in enumerate(values):
            axes.axhline(e.value, color=colour, ls=":", label=kind if number == 0 else None)
        return
    rates = [float(known[label]["genotype_learning_rate"]) for label in labels]
    axes.errorbar(
        rates, [e.value for e in values], yerr=bars(values), color=colour,
        linestyle="", marker=MARKERS[index], capsize=2, label=kind,
    )  # fmt: skip
