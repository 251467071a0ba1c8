"""Whether the suite can take a method's settings: types that can be typed, names that are free,
and defaults and presets that are what their fields take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from algorithms.fields import range_of
from suite.config import PARTS, Seed
from suite.messages import UserError
from suite.values import (
    can_be_typed,
    check_value,
    coerced,
    default_of,
    kinds,
    read,
    written,
)

if TYPE_CHECKING:
    from algorithms.algorithm import Algorithm

OWN: dict[str, Any] = {"alg": str, "preset": str, "match": str, "seed": Seed, "device": str}
OF_THE_SUITE: dict[str, Any] = OWN | {
    k: v for part in PARTS.values() for k, v in kinds(part).items()
}
"""The type of every option that is no algorithm's."""
OF_SWEEPS = {"width", "launcher", "dry_run", "jobs", "cores", "gpus_per_run", "slurm"}
"""Options of `sweep` beside these."""
TAKEN = {*OF_THE_SUITE, *OF_SWEEPS, "algorithm", "help"}
ALLOWED = "int, float, bool, str, Literal, tuples of these such as tuple[int, ...], or these | None"
TASKS = (10, 50)
"""Numbers of tasks for which a preset's functions are asked."""


@cache
def check_settings(algorithm: type[Algorithm]) -> None:
    """Raises UserError, naming class and field, for settings that the suite cannot take."""
    settings = algorithm.Settings
    types = types_of(settings)
    for field in fields(settings):
        where = f"{owner(settings, field.name).__qualname__}.{field.name}"
        kind = types[field.name]
        check_name(where, field.name, types)
        if not can_be_typed(kind):
            raise UserError(f"{where} is {shown(kind)}, which cannot be typed; write {ALLOWED}")
        if not field.init:
            raise UserError(f"{where} has init=False and could not be set; make it a property")
        check_fits(where, field.name, kind, default_of(field))
    for where, name, value in preset_values(algorithm):
        if name in types or name in OF_THE_SUITE:
            check_fits(where, name, (OF_THE_SUITE | types)[name], value)


def types_of(settings: type[Any]) -> dict[str, Any]:
    """The fields' types. Raises UserError where one is a name that its module does not know."""
    try:
        return kinds(settings)
    except NameError as error:
        unknown = re.compile(rf"\b{re.escape(error.name or '')}\b")
        for base in settings.__mro__:
            for name, text in vars(base).get("__annotations__", {}).items():
                if unknown.search(str(text)):
                    raise UserError(
                        f"{base.__qualname__}.{name} is {text}, and {base.__module__} does not "
                        f"know {error.name}; import it there, not under TYPE_CHECKING"
                    ) from None
        raise
    except (TypeError, SyntaxError, AttributeError) as error:
        raise UserError(f"{settings.__qualname__} has a type that is none: {error}") from None


def check_name(where: str, name: str, types: Mapping[str, Any]) -> None:
    """Raises UserError for a field that no option can stand for."""
    if name in TAKEN:
        raise UserError(f"its field {name!r} is the suite's; rename {where}")
    if not name.isascii() or name.startswith("_"):
        raise UserError(
            f"{where} cannot be typed as an option; name it with letters a to z, digits and _"
        )
    positive = name.removeprefix("no_")
    if positive != name and (positive in types or positive in TAKEN):
        raise UserError(f"{where} is typed as the opposite of {positive} is; rename it")


def check_fits(where: str, name: str, kind: Any, value: Any) -> None:
    """Raises UserError for a value that the field does not take, or that no text stands for."""
    value = coerced(kind, value)
    if value in (math.inf, -math.inf) and range_of(kind) is None:
        return  # no bound, as a default; whoever types one gives a finite one
    try:
        check_value(name, kind, value)
    except UserError as error:
        hint = f"; write {shown(kind)} | None, or another value" if value is None else ""
        raise UserError(f"{where} = {str(error).partition(': ')[2]}{hint}") from None
    text = written(value)
    if not text.strip():
        return  # empty text, or a tuple of none: a default that is left as it is
    try:
        back = read(name, kind, text)
    except UserError as error:
        raise UserError(f"{where} = {str(error).partition(': ')[2]}") from None
    if repr(back) != repr(value):
        raise UserError(
            f"{where} = {value!r} would be {back!r} where it is typed; choose another value"
        )


def preset_values(algorithm: type[Algorithm]) -> Iterator[tuple[str, str, Any]]:
    """Where a preset of the class or its bases sets a field, which, and each value."""
    for base in algorithm.__mro__:
        presets: Mapping[str, Mapping[str, Any]] = vars(base).get("presets", {})
        for preset, values in presets.items():
            for name, value in values.items():
                where = f"{base.__qualname__}.presets[{preset!r}]: {name}"
                found = [] if callable(value) else [value]
                for tasks in TASKS if callable(value) else ():
                    with suppress(Exception):  # it may know no such number of tasks
                        found.append(value(tasks))
                yield from ((where, name, each) for each in found)


def owner(settings: type[Any], name: str) -> type[Any]:
    """The class that declares a field."""
    bases = (b for b in settings.__mro__ if name in vars(b).get("__annotations__", {}))
    return next(bases, settings)


def shown(kind: Any) -> str:
    """A type as it is written in a class."""
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
