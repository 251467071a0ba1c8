"""From the parts of runs to runs: files of a task, of a stretch of steps, of a protocol each.

Parts of a Parquet file belong together where they name the same run, those of a CSV where they
agree in experiment, seed and every further column. The result does not depend on the order of
files.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from analysis.columns import PROTOCOL
from analysis.messages import listed, note
from analysis.parquet_rows import Part

Groups = Mapping[Hashable, list[Part]]


@dataclass(frozen=True)
class Run:
    """What all rows of one run share, and its parts."""

    columns: dict[str, Any]
    """By column name; those that no file has are missing."""
    config: dict[str, Any]
    parts: tuple[Part, ...]
    """In order of their files."""

    @property
    def name(self) -> str:
        """The run's name, unlike that of any other."""
        return str(self.columns["run"])

    @property
    def source(self) -> str:
        """The files that it was read from."""
        return ", ".join(dict.fromkeys(part.source for part in self.parts))


def joined(parts: Iterable[Part]) -> tuple[list[Run], list[str]]:
    """Every run once, in order of algorithm, seed and name, and a line for each that is none.

    A run is left out where its parts, or two runs of one name, contradict one another.
    """
    groups: dict[Hashable, list[Part]] = defaultdict(list)
    for part in parts:
        groups[identity(part)].append(part)
    groups = with_task_set(groups)
    names = csv_names(groups)
    if lines := partly_known(groups, names):
        note(f"of rows of other code, two runs each that may be one:\n{listed(lines)}")
    found, problems = [], []
    for key, members in groups.items():
        ordered = tuple(sorted(members, key=lambda part: part.source))
        problem = contradiction(ordered)
        if problem:
            problems.append(problem)
        else:
            found.append(whole(ordered, names.get(key)))
    found.sort(key=lambda run: (run.columns["algorithm"], run.columns["seed"], run.name))
    sources: dict[str, list[str]] = defaultdict(list)
    for run in found:
        sources[run.name].append(run.source)
    twice = {name: files for name, files in sources.items() if len(files) > 1}
    problems += [
        f"{' and '.join(files)}: different runs of the name {name}; rename one"
        for name, files in twice.items()
    ]
    return [run for run in found if run.name not in twice], sorted(problems)


def whole(parts: tuple[Part, ...], name: str | None) -> Run:
    """The run that parts make; `name` is that of a run of a CSV."""
    columns = dict(max(parts, key=lambda part: len(part.columns)).columns)
    config = max(parts, key=lambda part: len(part.config)).config
    if name:
        columns["run"] = name
        tasks = {task for part in parts for task in part.values["task"].unique().to_pylist()}
        if tasks - {""}:
            columns.setdefault("tasks", len(tasks - {""}))
    return Run(columns, config, parts)


def identity(part: Part) -> Hashable:
    """Equal for parts of one run."""
    if "run" in part.columns:
        return str(part.columns["run"])
    widths = part.config.get("settings", {})
    return tuple(sorted((part.columns | widths).items(), key=lambda pair: pair[0]))


def with_task_set(groups: Groups) -> dict[Hashable, list[Part]]:
    """The groups, those that name no task set with the one that does and agrees in the rest."""
    found = {key: list(parts) for key, parts in groups.items()}
    by_rest: dict[Hashable, list[Hashable]] = defaultdict(list)
    for key in groups:
        if isinstance(key, tuple):
            by_rest[tuple(pair for pair in key if pair[0] != "task_set")].append(key)
    for rest, keys in by_rest.items():
        if len(keys) == 2 and rest in groups:
            (other,) = set(keys) - {rest}
            found[other] += found.pop(rest)
    return found


def partly_known(groups: Groups, names: Mapping[Hashable, str]) -> list[str]:
    """A line for each two runs of CSVs of which one lacks columns and has the rest of the other."""
    same: dict[tuple[Any, Any], list[Hashable]] = defaultdict(list)
    pairs_of = {key: frozenset(key) for key in names}  # type: ignore[call-overload]
    for key in names:
        same[groups[key][0].columns["algorithm"], groups[key][0].columns["seed"]].append(key)
    found = []
    for key, other in (pair for keys in same.values() for pair in itertools.permutations(keys, 2)):
        own, more = pairs_of[key], pairs_of[other]
        if own < more:
            columns = ", ".join(sorted(name for name, _ in more - own))
            found.append(
                f"{groups[key][0].source}: {names[key]} and {names[other]} are two runs, for the "
                f"first has no {columns}; where they are one, give it in every line"
            )
    return found


def csv_names(groups: Groups) -> dict[Hashable, str]:
    """A name for each run of a CSV: moore-s0, and more where a seed ran under two protocols."""
    same: dict[tuple[Any, Any], dict[Hashable, dict[str, Any]]] = defaultdict(dict)
    for key in groups:
        if isinstance(key, tuple):
            columns = dict(key)
            same[columns["algorithm"], columns["seed"]][key] = columns
    names = {}
    for (algorithm, seed), runs in same.items():
        fields = sorted({name for columns in runs.values() for name in columns})
        telling = [n for n in fields if len({columns.get(n) for columns in runs.values()}) > 1]
        for key, columns in runs.items():
            more = [f"{name}={columns.get(name, 'unknown')}" for name in telling]
            names[key] = " ".join([f"{algorithm}-s{seed}", *more])
    return names


def contradiction(parts: Sequence[Part]) -> str:
    """A line on what parts of a run of that name say differently of it; empty for none.

    Versions, the device and the hash may differ: the values are compared all the same. Of a CSV's
    runs only the values can tell that files are not of one: other tasks at other steps.
    """
    first = parts[0]
    if "run" not in first.columns:
        return other_benchmarks(parts)
    for part in parts[1:]:
        for name in sorted({*first.columns, *part.columns}):
            is_version = name.startswith("version_") and name not in PROTOCOL
            differs = first.columns.get(name) != part.columns.get(name)
            if differs and not is_version and name not in ("device", "config_hash"):
                return (
                    f"{part.source}: run {part.columns['run']} has another {name} than in "
                    f"{first.source}"
                )
    return ""


def other_benchmarks(parts: Sequence[Part]) -> str:
    """A line on files of one algorithm and seed that have success of some tasks at some steps and
    of others at others, as MT10's and MT50's have; empty for none.
    """
    if len(parts) < 2 or any("task_set" in part.columns for part in parts):
        return ""
    tasks: dict[int, set[str]] = defaultdict(set)
    steps: dict[str, set[int]] = defaultdict(set)
    for part in parts:
        rows = part.values.filter(pc.equal(part.values["metric"].cast("string"), "success"))
        for task, step in zip(*(rows[n].to_pylist() for n in ("task", "env_step")), strict=True):
            if task:
                tasks[step].add(task)
                steps[part.source].add(step)
    files: dict[frozenset[str], str] = {}
    for source, own in steps.items():
        sets = {frozenset(tasks[step]) for step in own}
        if len(sets) > 1:
            return ""
        files.setdefault(sets.pop(), source)
    if len(files) < 2:
        return ""
    (one, first), (other, second) = list(files.items())[:2]
    name = f"{parts[0].columns['algorithm']}, seed {parts[0].columns['seed']}"
    return (
        f"{first} and {second}: success of {name} is of {len(one)} tasks in the one and of "
        f"{len(other)} in the other, at no step of both; where these are two task sets, name them "
        "in a column task_set"
    )
