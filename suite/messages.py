"""Errors that the user can act on: one line with the field, the value and what to type instead."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

MANY = 10
"""Choices that hide what stands behind them."""


class UserError(Exception):
    """Something that the user can put right; shown as one line, without a traceback."""

    status = 2
    """The exit status of a command that ends with it: refused before any work."""


class Failure(UserError):
    """What ended a run in the middle of its work, such as a full disk."""

    status = 1


class Diverged(Failure):
    """The run's own numbers ended it: a loss or a simulation that is not finite any more."""

    status = 3


def warn(line: str) -> None:
    """Says what does not stop the run."""
    print(f"warning: {line}", file=sys.stderr)


def first_line(error: Exception) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def choose(field: str, value: object, choices: Iterable[str], shown: str = "") -> str:
    """One line that names the field, the value, the valid choices and the nearest match.

    The match comes first where the choices are many.
    """
    choices = list(choices)
    shown = shown or ", ".join(choices)
    lowered = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).lower(), lowered, n=1, cutoff=0.5)
    hint = lowered[near[0]] if near else value
    start = f"{field}: {str(value)!r} is"
    if hint == value:
        return f"{start} not one of {shown}"
    if shown.count(", ") < MANY:
        return f"{start} not one of {shown}; did you mean {hint}?"
    return f"{start} unknown; did you mean {hint}? There are {shown}"
