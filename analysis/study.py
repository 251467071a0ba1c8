"""What was found of each configuration, worked out once: what tables, figures and report show."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.comparisons import Comparison, compare_all
from analysis.frame import SUCCESS, runs
from analysis.messages import AnalysisError, choose
from analysis.power import could_be_seen
from analysis.protocol import NAMES, Protocol, comparable, differing, protocols
from analysis.remarks import Remarks, remarks
from analysis.scores import Curves, Scores, curves, success_matrix
from analysis.statistics import iqm_of_runs

MOST_AT_ONCE = 12
"""Configurations of one protocol up to which every pair is compared; beyond, each with the best."""


@dataclass(frozen=True)
class Configuration:
    """One configuration, with the scores of its runs."""

    label: str
    protocol: Protocol
    sizes: dict[str, float]
    """Widths and parameters by column; NaN where unknown."""
    final: Scores
    best: Scores
    curve: Curves | None
    """Mean success over training; None where its runs have no step in common."""


@dataclass(frozen=True)
class Study:
    """All configurations that were scored, in order of algorithm and size."""

    configurations: tuple[Configuration, ...]
    groups: tuple[tuple[Configuration, ...], ...]
    """Those that may be compared: of one protocol, on the same tasks, at the same step."""
    remarks: Remarks
    """What must be said of some, by label."""


def study(frame: pd.DataFrame) -> Study:
    """The study that a frame of rows holds; without configurations where it has no success."""
    if not frame["metric"].isin(SUCCESS).any():
        return Study((), (), {})
    final, best = success_matrix(frame), success_matrix(frame, at="best")
    paths, known = curves(frame), protocols(frame)
    table = runs(frame)
    sizes = table.drop_duplicates("label").astype({"label": str}).set_index("label")
    numbers = [n for n in sizes.columns if n.endswith(("_width", "_parameters"))]
    found = {
        label: Configuration(
            label,
            known[label],
            {name: float(sizes[name][label]) for name in numbers},
            final[label],
            best[label],
            paths.get(label),
        )
        for label in final
    }
    groups: dict[Hashable, list[Configuration]] = defaultdict(list)
    for label, alike in comparable(frame).items():
        if label in found:
            groups[alike, final[label].tasks].append(found[label])
    return Study(tuple(found.values()), tuple(map(tuple, groups.values())), remarks(frame))


def label_of(name: str, names: Mapping[str, str], found: Iterable[Configuration]) -> str:
    """The label of a configuration that is called by it or by its name in `names`; none of none.

    Raises AnalysisError for another.
    """
    labels = {names[one.label]: one.label for one in found}
    if not name or name in labels.values():
        return name
    if name not in labels:
        raise AnalysisError(choose("against", name, labels))
    return labels[name]


def obstacle(one: Configuration, other: Configuration) -> str:
    """Why `one` is not compared with another configuration, in words."""
    found = []
    for name in differing([one.protocol, other.protocol]):
        own = one.protocol[name]
        instead = f", not {other.protocol[name] or 'unknown'}" if own else ""
        found.append(f"{NAMES[name]} {own or 'unknown'}{instead}")
    tasks, theirs = one.final.tasks, other.final.tasks
    spelled = {bare(task): task for task in theirs}
    if tasks != theirs:
        one_to_one = len(spelled) == len(theirs) == len(tasks)
        if one_to_one and {*map(bare, tasks)} == {*spelled}:
            task = next(task for task in tasks if spelled[bare(task)] != task)
            found.append(f"tasks spelled otherwise, as {task} for {spelled[bare(task)]}")
        elif len(tasks) != len(theirs):
            found.append(f"success of {scored(one)}, not of {scored(other)}")
        else:
            found.append("success of other tasks")
    step, at = one.final.steps[0], other.final.steps[0]
    if step != at and not found:
        found.append(f"the step of its score, {step}, not {at}")
    return "; ".join(found) or "success of other tasks before the end"


def scored(one: Configuration) -> str:
    """What a configuration has success of."""
    count = len(one.final.tasks)
    return f"{count} task{'s' * (count > 1)}" if one.final.per_task else "the whole agent alone"


def bare(task: str) -> str:
    """A task's name without what people put before and behind it: a benchmark, a version."""
    return re.sub(r"^.*[/:]|[-_]v\d+$", "", task.lower()).replace("_", "-")


def corrected_number(group: Sequence[Configuration], against: str = "", planned: int = 0) -> int:
    """The number that `compared` corrects p-values of a group for, where it is larger than that of
    its comparisons: where the scores have chosen the best, all pairs.
    """
    if against or len(group) <= MOST_AT_ONCE:
        return planned
    return math.comb(len(group), 2)


def seen(
    group: Sequence[Configuration], pairs: Sequence[Comparison], against: str = "", planned: int = 0
) -> list[str]:
    """What those of the pairs that are of a group could have seen."""
    scores = {one.label: one.final.sample for one in group}
    own = [c for c in pairs if c.b in scores]
    return could_be_seen(scores, own, corrected_number(group, against, planned))


def compared(
    groups: Sequence[Sequence[Configuration]], against: str = "", planned: int = 0
) -> list[Comparison]:
    """Pairs of each group by final score, of many configurations those with the best, corrected for
    all pairs of the group; with `against` those of that label, corrected for as many as `planned`.
    """
    found: list[Comparison] = []
    for group in groups:
        arrays = {one.label: one.final.sample for one in group}
        if against:
            if against in arrays:
                found += compare_all(arrays, against=against, planned=planned)
            continue
        if len(arrays) <= MOST_AT_ONCE:
            found += compare_all(arrays)
            continue
        best = max(arrays, key=lambda label: float(iqm_of_runs(arrays[label])[0]))
        found += compare_all(arrays, against=best, chosen_from=corrected_number(group))
    return found
