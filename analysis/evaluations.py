"""When runs were evaluated: those that stop early, end at different steps, or lack a task.

Scores are compared at one step: the last at which every run of the configurations that may be
compared was evaluated. Rows beyond it are left out, and the frame's columns `ended_at` and
`scored_at` keep what each run's last evaluation was and which one counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable
from typing import Literal, get_args

import numpy as np
import pandas as pd

from analysis.columns import DIVERGED
from analysis.frame import SUCCESS, runs
from analysis.messages import RowsError, listed
from analysis.protocol import occurring, of_one_protocol

Ends = Literal["shared", "refuse"]
"""Where compared runs end at different steps: score at the last that all share, or refuse."""
ENDS: tuple[Ends, ...] = get_args(Ends)


def at_shared_ends(frame: pd.DataFrame, ends: Ends = "shared") -> pd.DataFrame:
    """The frame up to the step at which each run is scored, with `ended_at` and `scored_at`.

    Raises RowsError, naming runs and files, where runs of one configuration were never evaluated
    at the same step, or where runs end at different steps and `ends` is "refuse".
    """
    columns = ["run", "label", "env_step"]
    evaluations = frame.loc[frame["metric"].isin(SUCCESS), columns].drop_duplicates()
    by_label = {str(x): rows for x, rows in evaluations.groupby("label", observed=True)}
    scored: dict[str, int] = {}
    groups: dict[Hashable, dict[str, pd.DataFrame]] = defaultdict(dict)
    for label, alike in of_one_protocol(frame).items():
        if label in by_label:
            groups[alike][label] = by_label[label]
    for own in groups.values():
        together = last_shared(pd.concat(own.values()))
        for label, rows in own.items():
            step = last_shared(rows) if together is None else together
            if step is None:
                raise RowsError(never_together(label, rows, runs(frame)))
            scored[label] = step
    ended = evaluations.groupby("run", observed=True)["env_step"].max()
    last = ended.reindex(frame["run"].cat.categories).to_numpy(dtype=np.float64)
    at = np.array([scored.get(label, math.nan) for label in frame["label"].cat.categories])
    frame = frame.assign(
        ended_at=last[frame["run"].cat.codes], scored_at=at[frame["label"].cat.codes]
    )
    lines = list(uneven(runs(frame)).values())
    if lines and ends == "refuse":
        raise RowsError(f"runs that are compared end at different steps:\n{listed(lines)}")
    beyond = frame["env_step"].to_numpy() > frame["scored_at"].to_numpy()
    return frame[~beyond] if beyond.any() else frame


def last_shared(evaluations: pd.DataFrame) -> int | None:
    """The last step at which all of the runs were evaluated; None where there is none.

    Step 0 is one only where no run was evaluated after it: a policy that has not learned is not
    the score of one that has.
    """
    count = evaluations.groupby("env_step").size()
    steps = count.index[count == evaluations["run"].nunique()]
    if not len(steps) or steps.max() < min(1, count.index.max()):
        return None
    return int(steps.max())


def at_last_shared(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each label's rows of each metric those at the last step that all of its runs have."""
    key = ["label", "metric"]
    steps = rows.groupby([*key, "env_step"], observed=True)["run"].nunique().reset_index(name="at")
    runs_of = rows.groupby(key, observed=True)["run"].nunique().reset_index(name="all")
    steps = steps.merge(runs_of, on=key)
    last = steps[steps["at"] == steps["all"]].groupby(key, observed=True)["env_step"].max()
    return rows.merge(last.reset_index(), on=[*key, "env_step"])


def never_together(label: str, evaluations: pd.DataFrame, table: pd.DataFrame) -> str:
    """What keeps runs of one configuration from being scored together."""
    last = evaluations.groupby("run", observed=True)["env_step"].max()
    ends = [
        f"run {run!s} ends at step {step} ({table['source'][str(run)]})"
        for run, step in last.items()
    ]
    return (
        f"{label}: its runs were never evaluated at the same step after 0, so no score is "
        "comparable; "
        f"leave some out:\n{listed(ends)}"
    )


def uneven(table: pd.DataFrame) -> dict[str, str]:
    """Of one row per run: by label that was scored before the end of one of its runs, a line."""
    found = {}
    for label, rows in table.groupby("label", observed=True):
        step = rows["scored_at"].iloc[0]
        if (rows["ended_at"] > step).any():
            ends = [
                f"{end:.0f} (seed {', '.join(map(str, sorted(own['seed'])))})"
                for end, own in rows.groupby("ended_at")
            ]
            found[str(label)] = (
                f"{label}: its runs end at step {', '.join(ends)}; the last step that all seeds "
                f"compared with them share, and that counts, is {step:.0f}"
            )
    return found


def diverged(table: pd.DataFrame) -> dict[str, str]:
    """Of one row per run: by label of which runs diverged, a line that says what they count as."""
    found = {}
    for label, rows in table[table[DIVERGED].notna()].groupby("label", observed=True):
        ends = [
            f"seed {seed} after env step {at:.0f}"
            for seed, at in sorted(zip(rows["seed"], rows[DIVERGED], strict=True))
        ]
        found[str(label)] = (
            f"{label}: training diverged ({', '.join(ends)}); success counts as 0 from there on, "
            "and nothing else that was measured of these runs is used"
        )
    return found


def without_more_of_diverged(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without what runs that diverged have beside success: it ends in the middle."""
    diverged_ones = frame[DIVERGED].notna()
    if not diverged_ones.any():
        return frame
    return frame[~diverged_ones | frame["metric"].isin(SUCCESS)]


def endings(table: pd.DataFrame) -> dict[str, str]:
    """Of one row per run: by label, what must be said of how its runs ended."""
    found = uneven(table)
    for label, line in diverged(table).items():
        found[label] = f"{found[label]}; {line}" if label in found else line
    return found


def partial(frame: pd.DataFrame) -> dict[str, str]:
    """By run that was evaluated, but not up to its total_steps, a line that says so."""
    rows = frame.loc[frame["metric"].isin(SUCCESS), ["run", "env_step"]]
    last = rows.groupby("run", observed=True)["env_step"].max()
    last.index = last.index.astype(str)
    table = runs(frame).reindex(last.index)
    return {
        name: f"{table['source'][name]}: run {name} has evaluations up to step {last[name]} of "
        f"{table['total_steps'][name]:.0f}"
        for name in map(str, table.index[last < table["total_steps"]])
    }


def gaps(frame: pd.DataFrame, metric: str = "success") -> dict[str, str]:
    """By run that lacks a task of its configuration at its last evaluation, a line that says so.

    A configuration none of whose runs has single tasks at its last evaluation is scored by the
    whole agent's values and lacks none.
    """
    columns = ["run", "label", "task", "metric", "env_step"]
    rows = frame.loc[frame["metric"].isin([metric, f"{metric}/mean"]), columns]
    names, labels, tasks = (rows[name].cat.categories for name in ("run", "label", "task"))
    run, label, task = (rows[name].cat.codes.to_numpy() for name in ("run", "label", "task"))
    step = rows["env_step"].to_numpy()
    last = np.full(len(names), -1, dtype=np.int64)
    np.maximum.at(last, run, step)
    single = (rows["metric"] == metric).to_numpy() & (rows["task"] != "").to_numpy()
    final = single & (step == last[run])
    expected = occurring(label[single], task[single], (len(labels), len(tasks)))
    there = occurring(run[final], task[final], (len(names), len(tasks)))
    label_of = np.zeros(len(names), dtype=np.int64)
    label_of[run] = label
    per_task = np.zeros(len(labels), dtype=bool)
    per_task[label[final]] = True
    missing = expected[label_of] & per_task[label_of][:, None] & ~there & (last >= 0)[:, None]
    if not missing.any():
        return {}
    sources = runs(frame)["source"]
    found = {}
    for index in np.flatnonzero(missing.any(axis=1)).tolist():
        what = (
            f"has no {tasks[missing[index].argmax()]} at step {last[index]}"
            if there[index].any()
            else f"was not scored on single tasks at its last step, {last[index]}"
        )
        name = str(names[index])
        why = f"on which {labels[label_of[index]]} is scored"
        found[name] = f"{sources[name]}: run {name} {what}, {why}"
    return found
