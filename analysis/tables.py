"""The tables of a paper, from the rows: aggregates, tasks, comparisons, plasticity, literature.

Rows of different protocol are never merged: a label is one protocol, the columns in which they
differ are shown, and comparisons stay within one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.columns import PROTOCOL
from analysis.comparisons import FEW_SEEDS, cautions, corrected_for
from analysis.file_names import file_names, task_set_name
from analysis.frame import algorithms, runs
from analysis.labels import short_names
from analysis.messages import note, sentence
from analysis.plasticity_table import plasticity
from analysis.power import could_be_seen
from analysis.protocol import NAMES, differing, display, shared, text
from analysis.published import SIZES, count, published_table
from analysis.scores import Scores, no_rows
from analysis.statistics import (
    AGGREGATES,
    LEVEL,
    OF_TASKS,
    Estimate,
    area_under_curve,
    estimate,
    iqm_of_runs,
    mean,
    median_of_runs,
    steps_to_threshold,
)
from analysis.study import (
    MOST_AT_ONCE,
    Configuration,
    Study,
    compared,
    label_of,
    obstacle,
    seen,
    study,
)
from analysis.table_formats import Cell, Table, without_empty

METRICS = ("success", "plasticity/")
"""Prefixes of the metrics that the tables need."""
THRESHOLD = 0.8
NAMED, MOST_APART = 3, 8
"""Configurations that a line names, and lines, on what is not compared."""
FILES = ("aggregate", "per_task", "comparisons", "against_control", "plasticity", "published")
"""What the names of all tables begin with."""
HEADLINE = "IQM over seeds"
STATISTICS = (*AGGREGATES, "statistic not stated")
AGGREGATE_NOTES = (
    f"Brackets: {LEVEL:.0%} intervals from resampling whole runs; of published rows, as published.",
    "Headline: IQM over seeds of the task mean. IQM over runs × tasks is another number, and "
    "saturates.",
    "The final evaluation counts; the best one is chosen after the fact, and may rest on fewer "
    "episodes.",
)
TASK_NOTES = (
    f"Brackets: {LEVEL:.0%} intervals from resampling whole runs. One without width means that all "
    "seeds agree, not that the next one would.",
    "No task is compared: two intervals that do not overlap, among so many, are no finding.",
)


def tables(
    frame: pd.DataFrame, literature: pd.DataFrame, against: str = "", planned: int = 0
) -> list[Table]:
    """Every table that the rows have something for; `against` is the label, or the short name,
    that all others are compared with, empty for every pair; `planned`, how many such comparisons
    the protocol has, 0 for as many as there are.

    Raises RowsError where the rows have no success, AnalysisError for a label that none has and
    for fewer planned comparisons than there are.
    """
    found = study(frame)
    if not found.configurations:
        raise no_rows(frame, "success")
    names = short_names(algorithms(runs(frame)))
    against = label_of(against, names, found.configurations)
    if against and [against] in [[one.label for one in group] for group in found.groups]:
        note("\n".join([f"nothing is compared with {against}", *apart(found, against)[1:]]))
    made = [against_control(found, against, planned, names) if against else None]
    made += [aggregate(found, literature), *per_task(found), comparisons(found, against, planned)]
    made += [plasticity(frame)]
    made += [published_table(literature)] if len(literature) else []
    return [table for table in made if table]


def against_control(
    found: Study, control: str, planned: int, names: Mapping[str, str]
) -> Table | None:
    """The short table of a paper's first page: each configuration beside the control."""
    (group,) = [g for g in found.groups if control in [one.label for one in g]]
    result = {c.b: c for c in compared([group], control, planned)}
    scores = {one.label: one.final.sample for one in group}
    rows: list[tuple[Cell, ...]] = []
    for one in sorted(group, key=lambda one: one.label != control):
        cells: list[Cell] = [None, None, None]
        if one.label in result:
            c = result[one.label]
            d = c.difference
            less = Estimate(-d.value, -d.high, -d.low)
            verdict = "yes" if c.significant else "no"
            cells = [less, *((c.p_value, verdict) if c.enough else (None, None))]
        total = count(one.sizes["total_parameters"])
        score = estimate(iqm_of_runs, one.final.sample)
        rows.append((names[one.label], total, len(one.final.sample), score, *cells))
    columns = ("method", "parameters", "seeds", f"success, {HEADLINE}",
               f"minus {names[control]}", "p", f"told apart at {LEVEL:.0%}")  # fmt: skip
    test = (
        "p: permutation test of whole runs, of the difference of means, corrected for "
        f"{corrected_for(result.values(), planned)} (Holm). Told apart: p is below "
        f"{1 - LEVEL:.2f} and the interval of the difference of IQMs leaves out 0, with "
        f"{FEW_SEEDS} seeds or more each."
    )
    notes = (
        AGGREGATE_NOTES[0],
        *([test] if result else []),
        *could_be_seen(scores, result.values(), planned),
        *few(found),
        *apart(found, control),
        *remarked(found, group),
    )
    same = shared([one.protocol for one in group])
    caption = sentence(f"Final success beside {names[control]}", same)
    return without_empty(Table("against_control", caption, columns, tuple(rows), notes))


def aggregate(found: Study, literature: pd.DataFrame) -> Table:
    """One row per configuration, and the published results on the same task sets below."""
    ours = [one.protocol for one in found.configurations]
    beside = literature[
        (literature["metric"] == "success")
        & literature["task_set"].isin([protocol["task_set"] for protocol in ours])
    ].to_dict("records")
    theirs = [{name: text(row.get(name)) for name in PROTOCOL} for row in beside]
    # The task set tells rows apart even where there is only one.
    names = list(dict.fromkeys(["task_set", *differing([*ours, *theirs])]))
    columns = (
        *("method", "source", *(NAMES[name] for name in names), "seeds"),
        *(*SIZES.values(), *STATISTICS),
        *("IQM over seeds, best evaluation", "mean over training", f"steps to {THRESHOLD}"),
    )
    rows = [our_row(one, names) for one in found.configurations]
    for row, protocol in zip(beside, theirs, strict=True):
        number = Estimate(row["value"], row["low"], row["high"])
        place = row["statistic"] or STATISTICS[-1]
        rows.append(
            (
                row["method"],
                row["source"],
                *(display(name, protocol[name]) for name in names),
                count(row["seeds"]),
                *(count(row[name]) for name in SIZES),
                *(number if name == place else None for name in STATISTICS),
                *(None, None, None),
            )
        )
    same = shared([*ours, *theirs])
    caption = sentence("Success, final evaluation", f"all rows: {same}" if same else "")
    notes = (*AGGREGATE_NOTES, *few(found), *remarked(found, found.configurations), *apart(found))
    return without_empty(Table("aggregate", caption, columns, tuple(rows), notes))


def our_row(one: Configuration, names: Sequence[str]) -> tuple[Cell, ...]:
    """A configuration's row, with the protocol columns of these names."""
    over_training: list[Cell] = [None, None]
    if one.curve:
        area = area_under_curve(one.curve.steps, one.curve.values)
        steps = steps_to_threshold(one.curve.steps, one.curve.values, THRESHOLD)
        over_training = [
            estimate(iqm_of_runs, area[:, None]),
            estimate(median_of_runs, steps[:, None]),
        ]
    return (
        one.label,
        "these rows",
        *(display(name, one.protocol[name]) for name in names),
        len(one.final.sample),
        *(count(one.sizes[name]) for name in SIZES),
        *aggregates(one.final),
        None,
        estimate(iqm_of_runs, one.best.sample),
        *over_training,
    )


def aggregates(scores: Scores) -> list[Estimate | None]:
    """Every aggregate; those over single tasks only where single tasks are known."""
    return [
        estimate(statistic, scores.sample) if scores.per_task or name not in OF_TASKS else None
        for name, statistic in AGGREGATES.items()
    ]


def per_task(found: Study) -> list[Table]:
    """Success of each task, one table per task set: tasks down, configurations across."""
    groups: dict[tuple[str, tuple[str, ...]], list[Configuration]] = {}
    for one in found.configurations:
        if one.final.per_task:
            groups.setdefault((one.protocol["task_set"], one.final.tasks), []).append(one)
    names = file_names([(one_name(task_set, tasks), repr((task_set, tasks)))
                        for task_set, tasks in groups])  # fmt: skip
    made: list[Table] = []
    for name, ((_, tasks), group) in zip(names, groups.items(), strict=True):
        rows: list[tuple[Cell, ...]] = []
        for index, task in enumerate(tasks):
            columns = [one.final.sample[:, [index]] for one in group]
            rows.append((task, *(estimate(mean, column) for column in columns)))
        seeds = ", ".join(f"{one.label} {len(one.final.sample)}" for one in group)
        same = shared([one.protocol for one in group])
        made.append(
            Table(
                "per_task" if len(groups) == 1 else f"per_task_{name}",
                sentence("Success by task, mean over seeds, final evaluation", same),
                ("task", *(one.label for one in group)),
                tuple(rows),
                (f"Seeds: {seeds}.", *TASK_NOTES, *differences(group), *remarked(found, group)),
            )
        )
    return made


def one_name(task_set: str, tasks: Sequence[str]) -> str:
    """What the file of a task set is called."""
    return task_set.replace("-v3", "").replace(",", "+") or task_set_name(tasks)


def differences(group: Sequence[Configuration]) -> list[str]:
    """A line for each protocol column in which the columns of a table differ."""
    return [
        f"Protocols differ in {NAMES[name]}: "
        + ", ".join(f"{one.label} {one.protocol[name] or 'unknown'}" for one in group)
        + "."
        for name in differing([one.protocol for one in group])
    ]


def comparisons(found: Study, against: str = "", planned: int = 0) -> Table | None:
    """Pairs of configurations of one protocol, tasks and step; None where there are none."""
    pairs = compared(found.groups, against, planned)
    if not pairs:
        return None
    rows = tuple(
        (
            f"{c.a} − {c.b}",
            c.difference,
            None if math.isnan(c.p_value) else c.p_value,
            "significant" if c.significant else "not significant",
            c.improvement,
            f"{c.seeds[0]} / {c.seeds[1]}",
            c.warning,
        )
        for c in pairs
    )
    columns = ("comparison", f"difference, {HEADLINE}", "p, difference of means",
               f"at {LEVEL:.0%}", "P(first > second)", "seeds", "warning")  # fmt: skip
    notes = [
        "p tests means, while the difference beside it is one of IQMs: permutation test of whole "
        "runs, of the difference between means over seeds of the task mean, corrected for the "
        f"number of comparisons {'planned' if planned else 'of a protocol'} (Holm). Significant: "
        "p is below "
        f"{1 - LEVEL:.2f} and the interval of the difference of IQMs leaves out 0, with "
        f"{FEW_SEEDS} seeds or more each.",
        "P(first > second): probability of improvement, ties half.",
        *cautions(pairs),
    ]
    notes += [
        f"{len(group)} configurations of one protocol: each against the best, which these scores "
        "chose; p is corrected for the number of all pairs."
        for group in found.groups
        if len(group) > MOST_AT_ONCE and not against
    ]
    for group in found.groups:
        of = f"Of {group[0].label} and those it is compared with: " if len(found.groups) > 1 else ""
        notes += [of + line for line in seen(group, pairs, against, planned)]
    notes += [*apart(found, against), *remarked(found, found.configurations)]
    caption = "Comparisons of final success, within one protocol."
    return without_empty(Table("comparisons", caption, columns, rows, tuple(notes)))


def few(found: Study) -> list[str]:
    """A warning where intervals rest on few seeds."""
    labels = [one.label for one in found.configurations if len(one.final.sample) < FEW_SEEDS]
    if not labels:
        return []
    names = ", ".join(labels)
    return [f"Fewer than {FEW_SEEDS} seeds, so that intervals are missing or too short: {names}."]


def remarked(found: Study, group: Sequence[Configuration]) -> list[str]:
    """What must be said of the runs of these, a line each."""
    return [f"{line}." for one in group for line in found.remarks.get(one.label, [])]


def apart(found: Study, control: str = "") -> list[str]:
    """What keeps configurations from being compared with the control, or with the most that are
    compared with one another; nothing where nothing does.
    """
    if len(found.groups) < 2:
        return []
    of_control = [g for g in found.groups if control in [one.label for one in g]]
    most = of_control[0] if of_control else max(found.groups, key=len)
    more = f" and {len(most) - 1} more" if len(most) > 1 else ""
    with_it = f"with {control or most[0].label + more}"
    lines = ["Configurations of different protocol, tasks or final step are not compared."]
    for group in found.groups:
        if group is not most:
            names = ", ".join(one.label for one in group[:NAMED])
            names += f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
            lines.append(f"Not compared {with_it}: {names}, for {obstacle(group[0], most[0])}.")
    if len(lines) > 1 + MOST_APART:
        lines[1 + MOST_APART :] = [f"Nor are those of {len(lines) - 1 - MOST_APART} more groups."]
    return lines
