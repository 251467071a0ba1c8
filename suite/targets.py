"""What `--match` and `--params` ask for: a size in numbers, or an algorithm's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from algorithms import algorithm_names, path_of
from suite.messages import UserError, choose
from suite.values import whole

NETS = ("actor", "critic", "total")
LARGEST = 10**15
"""Parameters; no machine holds more."""


class Target(NamedTuple):
    """Wanted parameter counts; None leaves a network as it is."""

    actor: int | None = None
    critic: int | None = None
    """All online critics together."""
    total: int | None = None
    """Of actor and critics at one width for both."""


def wanted(text: str) -> Target | str:
    """Counts from 4M, actor=1M, critic=2M or actor=1M+critic=2M; else the algorithm that is named.

    Raises UserError for what is neither.
    """
    if "=" in text:
        counts: dict[str, int] = {}
        for part in text.split("+"):
            net, _, value = part.partition("=")
            if net not in NETS or net in counts:
                raise UserError(choose("match", net, NETS, "actor=…, critic=…, total=…, each once"))
            counts[net] = number(value)
        if "total" in counts and len(counts) > 1:
            raise UserError(f"match: {text!r} gives total and a part of it; give one of them")
        return Target(**counts)
    if text[:1].isdigit():
        return Target(total=number(text))
    try:
        path_of(text)
    except LookupError:
        forms = f"{', '.join(algorithm_names())}, package.module:Class, 4M, actor=1M, critic=2M"
        raise UserError(choose("match", text, algorithm_names(), forms)) from None
    return text


def number(text: str) -> int:
    """4M, 1.5M, 400k, 1e6 or 691022 as a whole number. Raises UserError for anything else."""
    try:
        value = whole("match", text)
    except UserError:
        value = 0
    if not 1 <= value <= LARGEST:
        raise UserError(
            f"match: {text!r} is not a parameter count; write 691022, 400k, 1.5M or 1G, at most "
            f"{LARGEST:.0e}"
        )
    return value


def check_widths(text: str, given: Mapping[str, object]) -> None:
    """Raises UserError where a size and a width that it decides are both given."""
    for net in ("actor", "critic"):
        name = f"{net}_width"
        if name in given and ("=" not in text or any(n in text for n in (f"{net}=", "total="))):
            raise UserError(
                f"match: {text!r} decides {net}-width, which is given as {given[name]}; leave "
                "out one of the two"
            )
