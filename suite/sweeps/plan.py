"""A sweep: a grid of runs, from a small TOML file or from the command line.

A file has `about`, a table `[all]` of fields for every run, and tables `[[grid]]`. Each field has
a value or a list of values; a grid stands for every combination of its lists. A tuple is a list in
the list: hidden = [[32, 16], [64]] is two values. Fields are those of
`bench`, and `width`, which is the actor's and the critics' where these have none of their own.
`alg` and `match` may be "all".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algorithms import algorithm_names
from algorithms.declared import declared
from suite.checks import RULES_HERE, ask, check, check_directory
from suite.config import RunConfig, seeds_of
from suite.messages import UserError
from suite.options import (
    EXECUTION,
    Given,
    command_line,
    field_name,
    option_types,
    parse,
    suite_values,
    trainable,
    unmatched,
)
from suite.presets import settings_of
from suite.sweeps.grid_file import (
    WIDTHS,
    find,
    in_file,
    tables_of,
    texts,
    types_of,
    types_of_file,
)

EXCLUDED = {
    "force": "finished runs are skipped; to run one again, use bench",
    "run_dir": "each run has a directory of its own; name their folder with --results",
}
LISTED_SEEDS = 20
"""No more are written out in a message."""
Axes = dict[str, list[str | None]]
"""Values of each field, as they are typed on the command line; None is an option without one."""


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, each once, in the order in which they are to begin."""

    name: str
    about: str
    runs: tuple[RunConfig, ...]


def plan(name: str, overrides: Mapping[str, Sequence[str | None]], here: bool = True) -> Plan:
    """The plan of a named sweep or a file, or of the overrides alone where the name is empty.

    An override replaces the values of its field in every grid; `here` is whether this machine must
    have the devices. Raises UserError in one line.
    """
    algorithms = [str(alg) for alg in overrides.get("alg", ())]
    about, grids = read(find(name), algorithms) if name else ("", [{}])
    over = normalised((key, list(values)) for key, values in overrides.items())
    given: list[Given] = []
    for grid in grids:  # all that can be refused before torch is loaded
        with in_file(find(name).name if name else "", grid.keys() - over.keys()):
            axes = replaced(grid, over)
            check_of_all(axes)
            for cell in cells(axes):
                check_cell(cell, here)
                given.append(cell)
    found: dict[str, RunConfig] = {}
    for cell in given:
        config = trainable(cell)
        check(config, here)
        # Two spellings of one run are one run.
        found.setdefault(config.name(), absolute(config))
    for config in {replace(run, seed=0).name(): run for run in found.values()}.values():
        check_command(config)
    # All of one seed before the next: a sweep that is cut short is whole for its first seeds.
    runs = sorted(found.values(), key=lambda config: config.seed)
    return Plan(Path(name).stem, about, tuple(runs))


def check_cell(cell: Given, here: bool) -> None:
    """Raises UserError for a run that is refused, without torch."""
    known = suite_values(cell)
    if str(known["device"]).startswith("cuda:"):
        raise UserError(
            f"device: a sweep chooses among GPUs itself; give cuda, not {known['device']}, and "
            "CUDA_VISIBLE_DEVICES to leave some out"
        )
    if here:
        ask(RULES_HERE, known)
        check_directory(known)
    check(unmatched(cell, declared), here)


def check_of_all(axes: Axes) -> None:
    """Raises UserError for a field that some of a grid's algorithms have, and others do not."""
    given = axes.get("alg", [])
    names = algorithm_names() if given == ["all"] else [name for name in given if name]
    types = {name: option_types(settings_of(name, declared)) for name in names}
    for typed in axes:
        if typed == "width":  # of those that have it
            continue
        has = [alg for alg, own in types.items() if {typed, typed.removeprefix("no_")} & own.keys()]
        lacks = [alg for alg in types if alg not in has]
        if has and lacks:
            raise UserError(
                f"field: {typed.replace('_', '-')!r} is one of {', '.join(has)}, not of "
                f"{', '.join(lacks)}; in a .toml file give each a [[grid]] of its own"
            )


def check_command(config: RunConfig) -> None:
    """Raises UserError where a process that is started for a run would train another one.

    Settings of ours are tested to be read back; those of others are asked each time.
    """
    if type(config.settings).__module__.startswith("algorithms."):
        return
    started = parse(command_line(config)[1:]).name()
    if started != config.name():
        raise UserError(
            f"sweep: {config.name()} would be trained as {started}: a setting of "
            f"{config.algorithm} has a value that cannot be typed; choose another for it"
        )


def replaced(grid: Axes, over: Axes) -> Axes:
    """A grid's axes but those that others replace, and these."""
    gone = {key.removeprefix("no_") for key in over}
    if "width" in over:
        gone |= {*WIDTHS}
    return {key: v for key, v in grid.items() if key.removeprefix("no_") not in gone} | over


def together(runs: Sequence[RunConfig]) -> list[RunConfig]:
    """What is started as one process each: a run, or all seeds of one where they are `batched`."""
    started: dict[str, list[RunConfig]] = {}
    for run in runs:
        name = replace(run, seed=0).name() if run.execution.batched else run.name()
        started.setdefault(name, []).append(run)
    return [of_seeds(group) for group in started.values()]


def runs_at_once(runs: Sequence[RunConfig], processes: int) -> int:
    """Runs that go on together in so many processes, where seeds may be batched."""
    return math.ceil(processes * len(runs) / len(together(runs)))


def of_seeds(runs: Sequence[RunConfig]) -> RunConfig:
    """Runs that differ in their seeds alone as one, of which `each_seed` gives them again."""
    if len(runs) == 1:
        return runs[0]
    seeds = ",".join(str(run.seed) for run in runs)
    return replace(runs[0], execution=replace(runs[0].execution, seeds=seeds))


def absolute(config: RunConfig) -> RunConfig:
    """The configuration with a results folder that is the same from everywhere."""
    results = str(Path(config.execution.results).absolute())
    return replace(config, execution=replace(config.execution, results=results))


def read(path: Path, algorithms: Sequence[str] = ()) -> tuple[str, list[Axes]]:
    """A sweep's purpose and its grids, for these algorithms or those of the file.

    Raises UserError, naming the file and what is wrong.
    """
    contents = tables_of(path)
    shared, grids = contents.get("all", {}), contents.get("grid", [{}])
    tables = isinstance(grids, list) and grids and all(isinstance(grid, dict) for grid in grids)
    if not isinstance(shared, dict) or not tables or not any((shared, *grids)):
        raise UserError(
            f"sweep: {path.name}: write [all] once, [[grid]] for each grid, and fields in them"
        )
    types = types_of(algorithms) if algorithms else types_of_file(path.name, contents)
    with in_file(path.name):
        return str(contents.get("about", "")), axes_of(shared, grids, types)


def axes_of(
    shared: Mapping[str, Any], grids: Sequence[Any], types: Mapping[str, Any]
) -> list[Axes]:
    """The axes of each grid, with those of all."""
    for_all = normalised((key, texts(key, value, types)) for key, value in shared.items())
    return [
        replaced(for_all, normalised((k, texts(k, value, types)) for k, value in grid.items()))
        for grid in grids
    ]


def normalised(axes: Iterable[tuple[str, list[str | None]]]) -> Axes:
    """Axes by field name. Raises UserError for what is no name, stands there twice, or is not for
    a sweep to set.
    """
    found: Axes = {}
    for key, values in axes:
        name = field_name(key)
        if name in found:
            raise UserError(f"sweep: {key} is given twice; give it once, as {name}")
        for excluded, why in EXCLUDED.items():
            if name.lower().removeprefix("no_") == excluded:
                shown = excluded.replace("_", "-")
                raise UserError(f"sweep: {shown} cannot be given to a sweep: {why}")
        if name == "seeds":
            raise UserError(no_seeds(values))
        if name in EXECUTION and len(set(values)) > 1:
            raise UserError(
                f"sweep: {key}: changes no run's result, so that several values would be one run; "
                "give one"
            )
        found[name] = values
    both = [name for name in WIDTHS if name in found]
    if "width" in found and both:
        raise UserError(f"sweep: width decides {both[0]}, which is given, too; leave out one")
    return found


def no_seeds(values: Sequence[str | None]) -> str:
    """How the seeds that `--seeds` stands for in `bench` are given to a sweep."""
    seeds: Sequence[int] = range(3)
    with suppress(UserError):
        meant = seeds_of(",".join(value or "" for value in values), 0)
        seeds = meant if len(meant) <= LISTED_SEEDS else seeds
    shown = ",".join(map(str, seeds))
    return (
        f"sweep: seeds cannot be given to a sweep: list them, SEED={shown} (--seed {shown}); "
        "BATCHED=1 (--batched) trains them together"
    )


def cells(axes: Axes) -> Iterator[Given]:
    """Every combination of the values of a grid."""
    for key in ("alg", "match"):
        if axes.get(key) == ["all"]:
            axes = axes | {key: list(algorithm_names())}
    for values in itertools.product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        widths = dict.fromkeys(WIDTHS, cell.pop("width")) if "width" in cell else {}
        yield widths | cell
