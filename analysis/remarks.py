"""What a reader must know of a configuration's runs, beside its numbers: a line each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pandas as pd

from analysis.evaluations import endings
from analysis.frame import SUCCESS, runs
from analysis.protocol import is_part, protocols, scored_tasks, size_of

Remarks = dict[str, list[str]]
"""By label; most have none."""
KEY = ["label", "run", "task", "env_step"]


def remarks(frame: pd.DataFrame) -> Remarks:
    """Which runs ended early or diverged, which are of one seed or of several codes, on
    which device, of which tasks scores are, and what a label leaves out.
    """
    found = remarks_on_runs(frame)
    for label, line in left_out_of_labels(runs(frame)):
        found.setdefault(label, []).append(line)
    return found


def remarks_on_runs(frame: pd.DataFrame) -> Remarks:
    """The same without what labels leave out."""
    found: Remarks = defaultdict(list)
    table = runs(frame)
    told = (
        *endings(table).items(),
        *repeated_seeds(table),
        *several_codes(table),
        *several_devices(table),
        *parts_of_task_sets(frame),
        *incomplete_evaluations(frame),
        *without_single_tasks(frame),
    )
    for label, line in told:
        found[label].append(line)
    return dict(found)


def repeated_seeds(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Of one row per run: each label that has several runs of one seed, no independent sample."""
    twice = table[table.duplicated(["label", "seed"])]
    for label, rows in twice.groupby("label", observed=True):
        seeds = ", ".join(map(str, sorted(set(rows["seed"]))))
        yield (
            str(label),
            f"{label}: several runs of seed {seeds}, which are not independent and count as one, "
            "their mean",
        )


def several_codes(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Of one row per run: each label whose runs have other code of a user's method."""
    if "version_method" not in table:
        return
    for label, codes in table.groupby("label", observed=True)["version_method"]:
        by_python: dict[str, set[str]] = {}
        for python, _, digests in {str(code).partition(" ") for code in codes}:
            by_python.setdefault(".".join(python.split(".")[:2]), set()).add(digests)
        # Python's versions write the same code otherwise.
        if (count := max(map(len, by_python.values()))) > 1:
            yield str(label), f"{label}: its runs were made with {count} versions of its code"


def several_devices(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Of one row per run: each label whose runs were made on CPU cores and on GPUs."""
    kind = table["device"].astype(str).str.partition(":")[0]
    several = kind.groupby(table["label"], observed=True).transform("nunique") > 1
    for label, rows in table[several].groupby("label", observed=True):
        kinds = kind[rows.index]
        seeds = rows["seed"].groupby(kinds).agg(lambda own: ", ".join(map(str, sorted({*own}))))
        if len(told := [f"{kind} (seed {own})" for kind, own in seeds.items() if kind]) > 1:
            yield str(label), f"{label}: its runs were made on {' and '.join(told)}"


def parts_of_task_sets(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each label that is scored on fewer or more tasks than its task set's name says."""
    known, tasks = protocols(frame), scored_tasks(frame)
    for label, protocol in known.items():
        if (size := size_of(protocol["task_set"])) and len(tasks[label]) > size:
            yield (
                label,
                f"{label}: has success of {len(tasks[label])} tasks, more than "
                f"{protocol['task_set']} has",
            )
        if tasks[label] and is_part(protocol["task_set"], len(tasks[label])):
            yield (
                label,
                f"{label}: has success of {len(tasks[label])} of the tasks of "
                f"{protocol['task_set']}, and is scored on them alone",
            )


def incomplete_evaluations(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each label that at some evaluations lacks success of some of its tasks."""
    single = single_tasks(frame)
    tasks = single.groupby("label", observed=True)["task"].nunique()
    counts = single.groupby(["label", "run", "env_step"], observed=True).size()
    of = counts.index.get_level_values("label")
    short = counts < tasks.reindex(of).to_numpy()
    for label in dict.fromkeys(of[short]):
        evaluations, most = counts.xs(label, level="label"), tasks[label]
        lacking = evaluations[evaluations < most]
        yield (
            str(label),
            f"{label}: {lacking.size} of its {evaluations.size} evaluations lack success of some "
            f"of its {most} tasks (the first at step "
            f"{lacking.index.get_level_values('env_step').min()}); where they are of another task "
            "set, name it in a column task_set",
        )


def without_single_tasks(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each label whose runs have success of single tasks, but not at the step of their scores."""
    last = frame[frame["metric"].isin(SUCCESS)].groupby("label", observed=True)["env_step"].max()
    single = single_tasks(frame).groupby("label", observed=True)["env_step"].max()
    for label, step, end in zip(single.index, single, last[single.index], strict=True):
        if step < end:
            yield (
                str(label),
                f"{label}: has success of single tasks up to step {step} alone, so the whole "
                f"agent's at step {end} is its score, and no table by task has it",
            )


def single_tasks(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of success that are of one task."""
    return frame.loc[(frame["metric"] == "success") & (frame["task"] != ""), KEY]


def left_out_of_labels(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Of one row per run: each label that differs from others of its algorithm in more settings
    than it names.
    """
    for label, more in table.drop_duplicates("label")[["label", "also"]].itertuples(index=False):
        if more:
            yield str(label), f"{label}: has {more}, too"
