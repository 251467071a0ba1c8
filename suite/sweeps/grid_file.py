"""The file of a sweep: where it is found, what its tables hold, and which fields its runs have."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from algorithms import algorithm_names
from algorithms.declared import declared
from suite.messages import UserError, choose
from suite.options import START, Given, option_types
from suite.presets import settings_of
from suite.settings import OF_THE_SUITE
from suite.values import is_tuple, several, written

FOLDERS = (Path("results/sweeps"), Path(__file__).parents[2] / "results" / "sweeps")
"""Where sweeps have names: the file name without .toml."""
WIDTHS = ("actor_width", "critic_width")
NAMED = ("alg", "match", "preset")
"""Fields whose values are names, none of which has a comma."""


def find(name: str) -> Path:
    """The file of a sweep, by path or name. Raises UserError naming the nearest."""
    if name.lower().endswith(".toml"):
        if not Path(name).is_file():
            raise UserError(f"sweep: there is no file {name}")
        return Path(name)
    for folder in FOLDERS:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.toml")})
    raise UserError(choose("sweep", name, known, f"{', '.join(known)}, or a .toml file"))


def tables_of(path: Path) -> dict[str, Any]:
    """What a file holds, by its first names. Raises UserError for others than it may have."""
    try:
        contents = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"sweep: {path} cannot be read: {error}") from None
    for key, value in contents.items():
        if key not in ("about", "all", "grid"):
            if not isinstance(value, dict | list) or key in OF_THE_SUITE:
                raise UserError(
                    f"sweep: {path.name}: {key} stands above every table; fields belong below "
                    "[all] or [[grid]]"
                )
            raise UserError(choose(f"sweep: {path.name}", key, ("about", "all", "grid")))
    return contents


def texts(key: str, value: Any, types: Mapping[str, Any]) -> list[str | None]:
    """A value or a list of values as the command line has them.

    Raises UserError for what is neither, and where it may be meant as one or as several.
    """
    values = value if isinstance(value, list) else [value]
    name = key.replace("-", "_")
    commas = has_commas(name, types)
    parts = [part for v in values for part in (v if isinstance(v, list) and commas else [v])]
    if not parts or not all(isinstance(v, str | int | float) for v in parts):
        raise UserError(f"sweep: {key}: {value!r} is not a value or a list of values")
    found = [written(v) for v in values]
    flat = not any(isinstance(v, list) for v in values)
    if name != "tasks" and commas and len(found) > 1 and flat and "," not in "".join(found):
        raise UserError(
            f"sweep: {key}: {value!r} may be one tuple or several; write [{value!r}] for one, or "
            f"{[[v] for v in values]!r} for {len(found)}"
        )
    for text in found:
        if several(name, types.get(name, str), text) or (name in NAMED and "," in text):
            raise UserError(
                f"sweep: {key}: {text!r} is one value; for several write a list: "
                f"{key} = {text.split(',')!r}"
            )
    return [*found]


def fields_of(name: str, given: Given) -> dict[str, Any]:
    """Every field that the runs of a sweep may be given, with its type: those of its algorithms,
    which the command line or else its file names.
    """
    if given.get("alg"):
        return types_of(str(given["alg"]).split(","))
    return (
        types_of_file(find(name).name, tables_of(find(name))) if name else types_of([START["alg"]])
    )


def types_of_file(name: str, contents: Mapping[str, Any]) -> dict[str, Any]:
    """The same of the algorithms that a file names."""
    with in_file(name):
        return types_of(algorithms_in(contents))


def algorithms_in(contents: Mapping[str, Any]) -> list[str]:
    """The algorithms that a file's tables name, or the one that is trained without a word."""
    grids = contents.get("grid", [])
    tables = [contents.get("all"), *(grids if isinstance(grids, list) else [])]
    named = [table["alg"] for table in tables if isinstance(table, dict) and "alg" in table]
    flat = [alg for value in named for alg in (value if isinstance(value, list) else [value])]
    return [str(alg) for alg in flat] or [START["alg"]]


def types_of(algorithms: Sequence[str]) -> dict[str, Any]:
    """The type of every field that runs of these algorithms have; a tuple, where one has it so."""
    found: dict[str, Any] = {"width": int}
    each = [a for name in algorithms for a in (algorithm_names() if name == "all" else [name])]
    for name in each:
        types = option_types(settings_of(name, declared))
        found |= {key: kind for key, kind in types.items() if not is_tuple(found.get(key))}
    return found


@contextmanager
def in_file(name: str, its: Collection[str] | None = None) -> Iterator[None]:
    """Names the file in a refusal of one of its own fields; None is whatever is refused."""
    try:
        yield
    except UserError as error:
        field, _, rest = str(error).partition(":")
        if field == "field":  # an unknown one, which stands behind it in quotes
            field = rest.split("'")[1]
        field = "alg" if field == "algorithm" else field.replace("-", "_")
        names = {field, "width"} if field in WIDTHS else {field}
        if not name or (its is not None and not names & {*its}):
            raise
        text = str(error).removeprefix("sweep: ")
        raise UserError(f"sweep: {name}: {text}") from None


def has_commas(field: str, types: Mapping[str, Any]) -> bool:
    """Whether commas are part of a value of a field: of tasks, or of a tuple."""
    return field == "tasks" or is_tuple(types.get(field))
