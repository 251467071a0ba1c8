"""How sensitive MEGA is to the trigger of growth: what runs end with, against each of its settings.

A line joins configurations that differ in that setting alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.error_bars import bars
from analysis.figures.selection import final_scores, of_algorithm
from analysis.figures.style import (
    DASHES,
    MARKERS,
    PAGE,
    PALETTE,
    Drawn,
    Look,
    Unsupported,
    legend_below,
    panels,
)
from analysis.frame import runs
from analysis.parquet_rows import configuration
from analysis.statistics import Estimate, estimate, iqm_of_runs

Settings = Mapping[str, Any]

FIELDS: dict[str, dict[str, str]] = {
    "criterion": dict.fromkeys(("return", "success", "none"), "trigger"),
    "window, episodes of a task": {"return": "window", "success": "trigger_episodes"},
    "threshold of success": {"return": "success_threshold", "success": "trigger_success"},
    "growth": dict.fromkeys(("return", "success"), "growth"),
}
"""By panel the field that it varies, for each criterion that has one."""
ENDS = {
    "success": "final mean success",
    "modules_in_use": "modules in use",
    "largest": "share of tasks at\nthe largest stage",
}
COLOURS = {"return": PALETTE[2], "success": PALETTE[3], "none": PALETTE[7]}


def mega_trigger(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Final success, modules in use and tasks at the largest stage against each setting."""
    rows = of_algorithm(frame, "mega")
    known = settings_of(rows)
    axes_of = {name: varied(known, fields) for name, fields in FIELDS.items()}
    axes_of = {name: groups for name, groups in axes_of.items() if groups}
    if not axes_of:
        raise Unsupported("needs mega runs that differ in one setting of the trigger")
    found = {name: ends(rows, name, known) for name in ENDS}
    figure, axes = panels(len(ENDS) * len(axes_of), len(axes_of), PAGE, 1.7)
    for index, panel in enumerate(axes):
        metric = list(ENDS)[index // len(axes_of)]
        name = list(axes_of)[index % len(axes_of)]
        draw(panel, axes_of[name], found[metric], FIELDS[name], known)
        if index % len(axes_of) == 0:
            panel.set_ylabel(ENDS[metric])
        if metric != "modules_in_use":
            panel.set_ylim(-0.04, 1.04)
        if metric == "largest":
            panel.set_xlabel(name)
    legend_below(figure, axes)
    text = (
        "What MEGA's runs end with against each setting of the trigger of growth, others alike: "
        "success averaged over tasks, modules in use of the evaluated genotypes, and the share of "
        "tasks whose stage is the number of modules. IQM over seeds, bars: intervals."
    )
    shown = [label for groups in axes_of.values() for group in groups for label in group]
    return Drawn(figure, text, list(dict.fromkeys(shown)))


def settings_of(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The settings of each label and how it was trained, from the configuration in its rows file;
    labels without one are missing.
    """
    table = runs(frame).drop_duplicates("label")
    found = {}
    for label, source in zip(table["label"], table["source"], strict=True):
        config = configuration(str(source))
        own = {**config.get("task", {}), **config.get("training", {}), **config.get("settings", {})}
        if "settings" in config:
            found[str(label)] = {"trigger": "return"} | own
            found[str(label)].pop("goal_seed", None)  # the run's own
    return found


def varied(known: Mapping[str, Settings], fields: Mapping[str, str]) -> list[list[str]]:
    """Groups of labels whose settings differ in the field alone, in the order of its values."""
    found = []
    for field in dict.fromkeys(fields.values()):
        able = {k: s for k, s in known.items() if fields.get(s["trigger"]) == field and field in s}
        for labels in alike_but_for(able, (field,)):
            if len({place(known[label], fields) for label in labels}) > 1:
                found.append(sorted(labels, key=lambda label: place(known[label], fields)))
    return found


def alike_but_for(known: Mapping[str, Settings], fields: Collection[str]) -> list[list[str]]:
    """Labels in groups whose settings are the same but for these fields, the largest first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, settings in known.items():
        rest = {k: v for k, v in settings.items() if k not in fields}
        groups[json.dumps(rest, sort_keys=True, default=str)].append(label)
    return sorted(groups.values(), key=len, reverse=True)


def place(settings: Settings, fields: Mapping[str, str]) -> Any:
    """Where a configuration stands on an axis; a window of generations counts its episodes."""
    field = fields[settings["trigger"]]
    if field == "window":
        episodes = settings.get("population", 4) * settings.get("episodes_per_individual", 5)
        return settings[field] * episodes
    return settings[field]


def ends(frame: pd.DataFrame, metric: str, known: Mapping[str, Settings]) -> dict[str, Estimate]:
    """By label what its runs ended with, averaged over tasks: IQM over seeds."""
    found = {}
    for label, scores in final_scores(frame, "stage" if metric == "largest" else metric).items():
        if metric == "largest":
            if "modules" not in known.get(label, {}):
                continue
            at_largest = (scores.values == known[label]["modules"]).astype(np.float64)
            scores = replace(scores, values=at_largest)
        found[label] = estimate(iqm_of_runs, scores.sample)
    return found


def draw(
    axes: Axes,
    groups: list[list[str]],
    found: Mapping[str, Estimate],
    fields: Mapping[str, str],
    known: Mapping[str, Settings],
) -> None:
    """One line per group, coloured by its criterion; names stand at even distances."""
    places = [place(known[label], fields) for group in groups for label in group]
    named = any(isinstance(value, str) for value in places)
    names = list(dict.fromkeys(places))
    for index, group in enumerate(groups):
        labels = [label for label in group if label in found]
        values = [found[label] for label in labels]
        x = [place(known[label], fields) for label in labels]
        criteria = {known[label]["trigger"] for label in labels}
        # One of several criteria says which by its names, in grey, and is not in the legend.
        own = criteria.pop() if len(criteria) == 1 else ""
        axes.errorbar(
            [names.index(value) for value in x] if named else x,
            [e.value for e in values], yerr=bars(values),
            color=COLOURS.get(own, PALETTE[7]), marker=MARKERS[index % len(MARKERS)], capsize=2,
            linestyle="" if named else DASHES[index % len(DASHES)],
            label=f"trigger {own}" if own else "_",
        )  # fmt: skip
    if named:
        axes.set_xticks(range(len(names)), [str(name) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
