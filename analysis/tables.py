"""The tables of a paper, from the rows: aggregates, tasks, comparisons, plasticity, literature.

Rows of different protocol are never merged: a label is one protocol, the columns in which they
differ are shown, and comparisons stay within one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.columns import PROTOCOL
from analysis.comparisons import FEW_SEEDS, Comparison, compare_all
from analysis.messages import RowsError
from analysis.plasticity_table import plasticity
from analysis.protocol import NAMES, comparable, differing, display, protocols, shared, text
from analysis.published import SIZES, count, published_table
from analysis.rows import runs
from analysis.scores import Curves, Scores, curves, success_matrix
from analysis.statistics import (
    AGGREGATES,
    LEVEL,
    Array,
    Estimate,
    area_under_curve,
    estimate,
    iqm_of_runs,
    mean,
    median_of_runs,
    steps_to_threshold,
)
from analysis.table_formats import Cell, Table, without_empty

METRICS = ("success", "plasticity/")
"""Prefixes of the metrics that the tables need."""
THRESHOLD = 0.8
MOST_AT_ONCE = 12
"""Configurations of one protocol up to which every pair is compared; beyond, each with the best."""
HEADLINE = "IQM over seeds"


def tables(frame: pd.DataFrame, literature: pd.DataFrame) -> list[Table]:
    """Every table that the rows have something for. Raises RowsError where they have no success."""
    final = success_matrix(frame)
    found = [aggregate(frame, final, literature), *per_task(frame, final)]
    found += [table for table in (comparisons(frame, final), plasticity(frame)) if table]
    return [*found, published_table(literature)] if len(literature) else found


def aggregate(frame: pd.DataFrame, final: Mapping[str, Scores], literature: pd.DataFrame) -> Table:
    """One row a configuration, and the published results on the same task sets below."""
    sizes = runs(frame).drop_duplicates("label").astype({"label": str}).set_index("label")
    best = success_matrix(frame, at="best")
    paths = success_curves(frame)
    known = protocols(frame)
    beside = literature[
        (literature["metric"] == "success")
        & literature["task_set"].isin([p["task_set"] for p in known.values()])
    ]
    theirs = [{name: text(row.get(name)) for name in PROTOCOL} for _, row in beside.iterrows()]
    shown_columns = differing([*(known[label] for label in final), *theirs])
    # The task set tells rows apart even where there is only one.
    names = list(dict.fromkeys(["task_set", *shown_columns]))

    rows: list[tuple[Cell, ...]] = []
    for label, scores in final.items():
        rows.append(
            (
                label,
                "these rows",
                *(display(name, known[label][name]) for name in names),
                len(scores.runs),
                *(count(sizes[name][label]) for name in SIZES),
                *(aggregates(scores).values()),
                None,
                estimate(iqm_of_runs, best[label].values),
                *over_training(paths.get(label)),
            )
        )
    statistics = [*AGGREGATES, "statistic not stated"]
    for (_, row), protocol in zip(beside.iterrows(), theirs, strict=True):
        number = Estimate(row["value"], row["low"], row["high"], 0)
        place = row["statistic"] or statistics[-1]
        rows.append(
            (
                row["method"],
                row["source"],
                *(display(name, protocol[name]) for name in names),
                count(row["seeds"]),
                *(count(row[name]) for name in SIZES),
                *(number if name == place else None for name in statistics),
                None,
                None,
                None,
            )
        )
    columns = (
        *("method", "source", *(NAMES[name] for name in names), "seeds"),
        *(*SIZES.values(), *statistics),
        *("IQM over seeds, best evaluation", "mean over training", f"steps to {THRESHOLD}"),
    )
    same = shared([*(known[label] for label in final), *theirs])
    notes = [
        f"Brackets: {LEVEL:.0%} intervals from resampling whole runs; of published rows, as "
        "published.",
        "Headline: IQM over seeds of the task mean. IQM over runs × tasks is another number, and "
        "saturates.",
        "The final evaluation counts; the best one is chosen after the fact, and may rest on "
        "fewer episodes.",
        *few(final),
    ]
    caption = f"Success, final evaluation{f'; all rows: {same}' if same else ''}."
    return without_empty(Table("aggregate", caption, columns, tuple(rows), tuple(notes)))


def aggregates(scores: Scores) -> dict[str, Estimate | None]:
    """Every aggregate; those over single tasks only where single tasks are known."""
    of_tasks = {"median", "IQM over runs × tasks", "optimality gap"}
    return {
        name: estimate(statistic, scores.values)
        if scores.per_task or name not in of_tasks
        else None
        for name, statistic in AGGREGATES.items()
    }


def success_curves(frame: pd.DataFrame) -> dict[str, Curves]:
    """Mean success over training by label; none where only single tasks were recorded."""
    try:
        return curves(frame, "success/mean")
    except RowsError:
        return {}


def over_training(path: Curves | None) -> list[Cell]:
    """Area under the curve, and the median run's steps to the threshold."""
    if path is None:
        return [None, None]
    area = area_under_curve(path.steps, path.values)
    steps = steps_to_threshold(path.steps, path.values, THRESHOLD)
    return [
        estimate(iqm_of_runs, area[:, None]),
        estimate(median_of_runs, steps[:, None]),
    ]


def per_task(frame: pd.DataFrame, final: Mapping[str, Scores]) -> list[Table]:
    """Success of each task, one table a task set: tasks down, configurations across."""
    known = protocols(frame)
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for label, scores in final.items():
        if scores.per_task:
            key = known[label]["task_set"], tuple(sorted(scores.tasks))
            groups.setdefault(key, []).append(label)
    found: list[Table] = []
    for (task_set, _), labels in groups.items():
        tasks = final[labels[0]].tasks
        rows: list[tuple[Cell, ...]] = []
        for task in tasks:
            columns = [final[label].values[:, [final[label].tasks.index(task)]] for label in labels]
            rows.append((task, *(estimate(mean, column) for column in columns)))
        same = shared([known[label] for label in labels])
        seeds = ", ".join(f"{label} {len(final[label].runs)}" for label in labels)
        found.append(
            Table(
                unique_name("per_task", task_set, len(groups)),
                f"Success by task, mean over seeds, final evaluation; {same}.",
                ("task", *labels),
                tuple(rows),
                (f"Seeds: {seeds}.", *differences(known, labels)),
            )
        )
    return found


def unique_name(name: str, task_set: str, groups: int) -> str:
    """A file name: with the task set where there are several."""
    if groups == 1:
        return name
    return f"{name}_{task_set.replace('-v3', '').replace(',', '+').replace('/', '-')[:60]}"


def differences(known: Mapping[str, dict[str, str]], labels: Sequence[str]) -> list[str]:
    """A line for each protocol column in which the columns of a table differ."""
    return [
        f"Protocols differ in {NAMES[name]}: "
        + ", ".join(f"{label} {known[label][name] or 'unknown'}" for label in labels)
        + "."
        for name in differing([known[label] for label in labels])
    ]


def comparisons(frame: pd.DataFrame, final: Mapping[str, Scores]) -> Table | None:
    """Pairs of configurations of one protocol; None where there are none."""
    found: list[Comparison] = []
    notes = []
    groups = [[label for label in group if label in final] for group in comparable(frame)]
    for labels in groups:
        arrays = aligned([final[label] for label in labels])
        against = None
        if len(arrays) > MOST_AT_ONCE:
            against = max(arrays, key=lambda label: float(iqm_of_runs(arrays[label])[0]))
            notes.append(f"{len(arrays)} configurations of one protocol: each against the best.")
        found += compare_all(arrays, against=against)
    if len([group for group in groups if group]) > 1:
        notes.append("Configurations of different protocol are not compared.")
    if not found:
        return None
    rows = tuple(
        (
            f"{c.a} − {c.b}",
            c.difference,
            c.p_value,
            "significant" if c.significant else "not significant",
            c.improvement,
            f"{c.seeds[0]} / {c.seeds[1]}",
            c.warning,
        )
        for c in found
    )
    columns = ("comparison", f"difference, {HEADLINE}", "p", f"at {LEVEL:.0%}",
               "P(first > second)", "seeds", "warning")  # fmt: skip
    test = (
        "p: permutation test of whole runs, corrected for the number of comparisons of a protocol "
        "(Holm). P(first > second): probability of improvement, ties half."
    )
    caption = "Comparisons of final success, within one protocol."
    return without_empty(Table("comparisons", caption, columns, rows, (test, *notes)))


def aligned(scores: Sequence[Scores]) -> dict[str, Array]:
    """Scores by label with the tasks in one order; those of other tasks left out."""
    tasks = sorted(scores[0].tasks) if scores else []
    return {
        s.label: s.values[:, [s.tasks.index(task) for task in tasks]]
        for s in scores
        if sorted(s.tasks) == tasks
    }


def few(final: Mapping[str, Scores]) -> list[str]:
    """A warning where intervals rest on few seeds."""
    labels = [label for label, scores in final.items() if len(scores.runs) < FEW_SEEDS]
    if not labels:
        return []
    names = ", ".join(labels)
    return [f"Fewer than {FEW_SEEDS} seeds, so that intervals are missing or too short: {names}."]
