"""Values as they are typed: text to what a field's type asks for, its range, and back to text."""

from __future__ import annotations

import contextlib
import math
import re
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from algorithms.fields import Range, range_of
from suite.messages import UserError, choose

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
NUMBER = re.compile(r"([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d{1,9})?)([kKMGB]?)", re.ASCII)
SPAN = re.compile(r"\d+(-|\.\.+|:)\d+", re.ASCII)
"""How other programs write a list of whole numbers."""
DIGITS = 40
"""A whole number with more is refused before it is worked out."""
NONE = "none"
"""None, where a type allows it."""


KINDS: dict[type[Any], dict[str, Any]] = {}
"""What `kinds` has found; a sweep of hundreds of runs asks thousands of times."""


def kinds(owner: type[Any]) -> dict[str, Any]:
    """The type, with its range, of every field of a dataclass."""
    if owner not in KINDS:
        hints = get_type_hints(owner, include_extras=True)
        KINDS[owner] = {f.name: hints[f.name] for f in fields(owner)}
    return KINDS[owner]


def default_of(field: Field[Any]) -> Any:
    """A field's default value."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def read(name: str, kind: Any, text: str | None, swept: bool = True) -> Any:
    """The value that a text stands for; None is an option without one, which a flag alone may be.
    `swept` is whether a sweep may give the field several values.

    Raises UserError in one line, also for a value outside of the type's range.
    """
    shown = name.replace("_", "-")
    if text is None:
        if without_range(kind) is bool:
            return True
        raise UserError(f"{shown}: no value given; write --{shown} <value>")
    if not text.strip():
        raise UserError(f"{shown}: the value is empty; give one, or leave --{shown} out")
    if not text.isprintable():
        raise UserError(f"{shown}: {text!a} has characters that cannot be shown")
    if several(name, kind, text):
        sweep = f', or all of them to a sweep: make sweep ARGS="--{shown} {text}"'
        raise UserError(f"{shown}: {text!r} is several values; give one{sweep * swept}")
    value = converted(shown, kind, text)
    check_value(name, kind, value, text)
    return value


def several(name: str, kind: Any, text: str) -> bool:
    """Whether a text is no value of a type, and each part of it is, as a sweep takes them apart."""
    separator = "/" if is_tuple(kind) else ","
    if separator not in text:
        return False
    try:
        converted(name, kind, text)
    except UserError:
        with contextlib.suppress(UserError):
            for part in text.split(separator):
                converted(name, kind, part)
            return True
    return False


def converted(shown: str, kind: Any, text: str) -> Any:
    """A text as its type, whatever its range."""
    kind = without_range(kind)
    if get_origin(kind) is Literal:
        by_text = {written(choice): choice for choice in get_args(kind)}
        if text not in by_text:
            raise UserError(choose(shown, text, by_text))
        return by_text[text]
    if is_union(kind):
        return first_fitting(shown, get_args(kind), text)
    if get_origin(kind) is tuple:
        return parts(shown, get_args(kind), text)
    if kind is bool:
        if text not in ("True", "False"):
            raise UserError(choose(shown, text, ("True", "False")))
        return text == "True"
    if kind is int:
        return whole(shown, text)
    if kind is float:
        try:
            return float(text) if text.isascii() else float("")
        except ValueError:
            raise UserError(f"{shown}: {text!r} is not a number") from None
    if kind is str:
        return text
    raise UserError(f"{shown}: a value of type {kind} cannot be given on a command line")


def first_fitting(shown: str, kinds: tuple[Any, ...], text: str) -> Any:
    """The text as the first of several types that takes it."""
    if type(None) in kinds and text.lower() == NONE:
        return None
    problems = []
    for kind in kinds:
        try:
            if kind is not type(None):
                return converted(shown, kind, text)
        except UserError as error:
            problems.append(error)
    if type(None) in kinds:
        raise UserError(f"{problems[0]}, and not none") from None
    raise problems[0]


def parts(shown: str, kinds: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    """A tuple, its values separated by commas."""
    texts = text.split(",")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(texts)
    if len(texts) != len(kinds):
        raise UserError(f"{shown}: {text!r} is not {len(kinds)} values separated by commas")
    return tuple(converted(shown, kind, part) for kind, part in zip(kinds, texts, strict=True))


def whole(shown: str, text: str) -> int:
    """2000000, 2_000_000, 2e6, 2M or 1.5M as a whole number. Raises UserError for others."""
    found = NUMBER.fullmatch(text)
    if SPAN.fullmatch(text):
        raise UserError(f"{shown}: {text!r} is not a whole number; a list has commas: 0,1,2")
    if not found:
        raise UserError(f"{shown}: {text!r} is not a whole number; write 400000, 400k or 4e5")
    number = Decimal(found[1])
    if number and abs(number.adjusted()) > DIGITS:
        raise UserError(f"{shown}: {text} is out of reach; write a whole number of fewer digits")
    value = Fraction(number) * UNITS[found[2].upper()]
    if value.denominator != 1:
        raise UserError(f"{shown}: {text!r} is not a whole number; write 400000, 400k or 4e5")
    return int(value)


def check_value(name: str, kind: Any, value: Any, text: str = "") -> None:
    """Raises UserError, with the range, for a value that its field does not take."""
    shown, given = name.replace("_", "-"), text or repr(value)
    range_, kind = range_of(kind), without_range(kind)
    own, origin = get_args(kind), get_origin(kind)
    if origin is Literal and not fits(kind, value):
        raise UserError(choose(shown, value, map(written, own)))
    if origin is tuple and isinstance(value, tuple) and long_enough(own, value):
        for i, part in enumerate(value):
            check_value(name, own[0] if own[1:] == (...,) else own[i], part, text)
    elif not fits(kind, value):
        text_ = "text, " if isinstance(value, str) and not text else ""
        raise UserError(f"{shown}: {given} is {text_}not {asked_for(kind)}")
    if is_union(kind):
        check_value(name, next(k for k in own if fits(k, value)), value, text)
        if range_ is None:
            return  # its member has said what it takes
    if isinstance(value, int | float) and not isinstance(value, bool):
        refusal = (range_ or Range()).refusal(value)
        if refusal:
            raise UserError(f"{shown}: {given} is out of range; {refusal}")


def coerced(kind: Any, value: Any) -> Any:
    """A value in the one form that its field has it in: a whole number where any number is asked
    for is a float, a list a tuple. What the type does not take stays as it is.

    A run's hash tells 1 from 1.0, and whoever types either means one run.
    """
    kind = without_range(kind)
    if type(value) is kind:
        return value
    if kind is float and fits(kind, value):
        return float(value)
    own = get_args(kind)
    if not own:
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple) and long_enough(own, value):
        each = own[:1] * len(value) if own[1:] == (...,) else own
        return tuple(coerced(k, part) for k, part in zip(each, value, strict=True))
    if is_union(kind):
        forms = ((k, coerced(k, value)) for k in own)
        return next((form for k, form in forms if fits(k, form)), value)
    return value


def long_enough(kinds: tuple[Any, ...], values: Sequence[Any]) -> bool:
    """Whether a tuple's type takes so many values."""
    return kinds[1:] == (...,) or len(kinds) == len(values)


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type, whatever its range. True is no number, and 1 no flag."""
    kind = without_range(kind)
    if type(value) is kind:
        return True
    own, origin = get_args(kind), get_origin(kind)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in own)
    if is_union(kind):
        return any(fits(k, value) for k in own)
    if origin is tuple:
        each = own[:1] * len(value) if own[1:] == (...,) and isinstance(value, tuple) else own
        return isinstance(value, tuple) and len(each) == len(value) and all(map(fits, each, value))
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)


def can_be_typed(kind: Any) -> bool:
    """Whether `read` knows what a text stands for where a field is of this type."""
    kind = without_range(kind)
    own = get_args(kind)
    if get_origin(kind) is Literal:
        plain = all(isinstance(choice, str | int | float | None) for choice in own)
        return plain and len({*map(written, own)}) == len(own)
    if is_union(kind):
        return all(k is type(None) or can_be_typed(k) for k in own)
    if get_origin(kind) is tuple:
        parts = own[:1] if own[1:] == (...,) else own
        return bool(parts) and all(can_be_typed(k) and not is_tuple(k) for k in parts)
    return kind in (int, float, bool, str)


def is_union(kind: Any) -> bool:
    """Whether a type is one of several."""
    return get_origin(kind) in (Union, types.UnionType)


def is_tuple(kind: Any) -> bool:
    """Whether a type is a tuple, or may be one."""
    kind = without_range(kind)
    if is_union(kind):
        return any(map(is_tuple, get_args(kind)))
    return get_origin(kind) is tuple


def asked_for(kind: Any) -> str:
    """What a type takes, in words for a refusal."""
    if get_origin(kind) is tuple:
        own = get_args(kind)
        if own[1:] == (...,):
            return f"a tuple of values such as {described(own[0])}"
        first = getattr(own[0], "__name__", "float")
        count = f"{len(own)} value{'s' * (len(own) != 1)}"
        return f"a tuple of {count}; tuple[{first}, ...] takes any number of them"
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return words.get(kind) or described(kind)


def without_range(kind: Any) -> Any:
    """A type without what `Annotated` adds to it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def written(value: Any) -> str:
    """A value as `read` takes it."""
    if value is None:
        return NONE
    return ",".join(map(written, value)) if isinstance(value, tuple | list) else str(value)


def described(kind: Any) -> str:
    """What may be given for a type, in a few words for the help."""
    range_, kind = range_of(kind), without_range(kind)
    if get_origin(kind) is Literal:
        return " | ".join(written(choice) for choice in get_args(kind))
    if is_union(kind):
        return " | ".join(NONE if k is type(None) else described(k) for k in get_args(kind))
    if get_origin(kind) is tuple:
        return ",".join("…" if k is ... else described(k) for k in get_args(kind))
    if kind in (int, float):
        limited = range_ is not None and (math.isfinite(range_.low) or math.isfinite(range_.high))
        whole_ = "whole number" if kind is int else "number"
        return f"{whole_}, {range_}" if limited else whole_
    return "True | False" if kind is bool else "text"
