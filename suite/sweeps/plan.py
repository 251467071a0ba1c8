"""A sweep: a grid of runs, from a small TOML file or from the command line.

A file has `about`, a table `[all]` of fields for every run, and tables `[[grid]]`. Each field has
a value or a list of values; a grid stands for every combination of its lists. Fields are those of
`bench`, and `width`, which is the actor's and the critics'. `alg` and `match` may be "all".
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algorithms import algorithm_names, entry, load
from suite.checks import check
from suite.config import RunConfig
from suite.messages import UserError, choose
from suite.options import parse

FOLDERS = (Path("results/sweeps"), Path(__file__).parents[2] / "results" / "sweeps")
"""Where sweeps have names: the file name without .toml."""
EXCLUDED = {
    "force": "finished runs are skipped; to run one again, use bench",
    "run_dir": "each run has a directory of its own; name their folder with --results",
    "seeds": "list them as --seed 0,1,2, and add --batched to train them together",
}
Axes = dict[str, list[str]]
"""Values of each field, as they are written on the command line."""


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, each once, in the order in which they are to begin."""

    name: str
    about: str
    runs: tuple[RunConfig, ...]


def plan(name: str, overrides: Mapping[str, Sequence[str]], here: bool = True) -> Plan:
    """The plan of a named sweep or a file, or of the overrides alone where the name is empty.

    An override replaces the values of its field in every grid; `here` is whether the runs must fit
    this machine. Raises UserError in one line.
    """
    about, grids = read(find(name)) if name else ("", [{}])
    found: dict[str, RunConfig] = {}
    for grid in grids:
        for cell in cells({**grid, **{key: list(value) for key, value in overrides.items()}}):
            config = parse([part for key, value in cell.items() for part in (f"--{key}", value)])
            check(config, here)
            # Two spellings of one run are one run.
            found.setdefault(config.name(), absolute(config))
    # All of one seed before the next: a sweep that is cut short is whole for its first seeds.
    runs = sorted(found.values(), key=lambda config: config.seed)
    return Plan(Path(name).stem, about, tuple(runs))


def together(runs: Sequence[RunConfig]) -> list[RunConfig]:
    """What is started as one process each: a run, or all seeds of one where they are `batched` and
    the algorithm can train seeds together.
    """
    started: dict[str, list[RunConfig]] = {}
    for run in runs:
        batched = run.execution.batched and load(entry(run.algorithm).path).says("seeds_together")
        started.setdefault(replace(run, seed=0).name() if batched else run.name(), []).append(run)
    return [of_seeds(group) for group in started.values()]


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


def find(name: str) -> Path:
    """The file of a sweep, by path or name. Raises UserError naming the nearest."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise UserError(f"sweep: there is no file {name}")
        return Path(name)
    for folder in FOLDERS:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.toml")})
    raise UserError(choose("sweep", name, known, f"{', '.join(known)}, or a .toml file"))


def read(path: Path) -> tuple[str, list[Axes]]:
    """A sweep's purpose and its grids. Raises UserError, naming the file and what is wrong."""
    try:
        contents = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"sweep: {path} cannot be read: {error}") from None
    for key in contents:
        if key not in ("about", "all", "grid"):
            raise UserError(choose(f"sweep: {path.name}", key, ("about", "all", "grid")))
    shared, grids = contents.get("all", {}), contents.get("grid", [{}])
    if not isinstance(shared, dict) or not isinstance(grids, list):
        raise UserError(f"sweep: {path.name}: write [all] once, and [[grid]] for each grid")
    return str(contents.get("about", "")), [
        {key.replace("-", "_"): texts(key, value) for key, value in {**shared, **grid}.items()}
        for grid in grids
    ]


def texts(key: str, value: Any) -> list[str]:
    """A value or a list of values as the command line has them."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str | int | float) for v in values):
        raise UserError(f"sweep: {key}: {value!r} is not a value or a list of values")
    return [str(v) for v in values]


def cells(axes: Axes) -> Iterator[dict[str, str]]:
    """Every combination of the values of a grid."""
    for key, why in EXCLUDED.items():
        if key in axes:
            raise UserError(f"sweep: {key.replace('_', '-')} cannot be given to a sweep: {why}")
    for key in ("alg", "match"):
        if axes.get(key) == ["all"]:
            axes[key] = algorithm_names()
    for values in itertools.product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        width = cell.pop("width", None)
        yield cell if width is None else {"actor_width": width, "critic_width": width, **cell}
