"""Errors that the user can act on, and what the user should know of the rows."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence

MANY = 10
"""Choices that hide what stands behind them."""


class AnalysisError(Exception):
    """Something that the user can put right; shown without a traceback."""


class RowsError(AnalysisError):
    """Result rows that cannot be read, or do not hold what is asked of them."""


def choose(field: str, value: object, choices: Iterable[str]) -> str:
    """One line that names the field, the value, the valid choices and the nearest match.

    The match comes first where the choices are many.
    """
    choices = list(choices)
    shown = ", ".join(choices)
    lowered = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).lower(), lowered, n=1, cutoff=0.5)
    start = f"{field}: {str(value)!r} is"
    if not near:
        return f"{start} not one of {shown}"
    hint = lowered[near[0]]
    if len(choices) <= MANY:
        return f"{start} not one of {shown}; did you mean {hint}?"
    return f"{start} unknown; did you mean {hint}? There are {shown}"


def note(text: str) -> None:
    """Tells the user something, beside the command's own output."""
    print(f"note: {printable(text)}", file=sys.stderr)


def listed(problems: Sequence[str]) -> str:
    """The problems, one per line; from the eleventh on only how many."""
    more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
    return "\n".join(f"  {one_line(line)}" for line in [*problems[:10], *more])


def one_line(text: str) -> str:
    """Text without line breaks, tabs and control characters; other people's names hold them."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Text without what a terminal would carry out; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def sentence(*parts: str) -> str:
    """Parts that are not empty, joined by semicolons, with a full stop: a caption."""
    return "; ".join(part for part in parts if part) + "."
