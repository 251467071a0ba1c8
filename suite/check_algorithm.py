"""`check-algorithm`: whether a method keeps the contract, as a table of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from suite.messages import UserError
from suite.options import HELP, split
from suite.presets import OPEN, algorithm_of, preset_names
from suite.settings import check_settings

if TYPE_CHECKING:
    from algorithms.algorithm import Algorithm
    from algorithms.check import Point

HELP_TEXT = """usage: python -m suite check-algorithm --alg my_module:MyAlgorithm

Tries every point of the contract between an algorithm and the suite on a tiny problem, in seconds:
that it acts, learns, can be measured, counted, saved and resumed to the bit. The exit status is 1
where a point fails; a note alone leaves it 0.

  --alg      a registered algorithm, or package.module:Class"""
SIGNS = {True: "passed", False: "FAILED", None: "not tried"}


def command(arguments: Sequence[str]) -> int:
    """`python -m suite check-algorithm`: prints the table."""
    if set(HELP) & set(arguments):
        print(HELP_TEXT)
        return 0
    given = split(arguments)
    if unknown := sorted(given.keys() - {"alg"}):
        raise UserError(f"check-algorithm takes --alg alone, not --{unknown[0]}")
    name = given.get("alg")
    if not name:
        raise UserError("alg: no algorithm given; add --alg my_module:MyAlgorithm")
    kind = algorithm_of(name)
    import torch

    from algorithms.check import check

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # in matrices as small as these more get into each other's way
    try:
        points = [settings_can_be_typed(kind), *check(kind, OPEN, preset_names())]
    finally:
        torch.set_num_threads(before)
    width = max(len(point.name) for point in points)
    for point in points:
        note = "note: " if point.passed and point.change else ""
        print(f"{point.name:{width}}  {SIGNS[point.passed]:9}  {note}{point.change}".rstrip())
    failed = sum(point.passed is False for point in points)
    print(f"{name}: {failed} of {len(points)} points failed" if failed else f"{name}: all passed")
    return int(failed > 0)


def settings_can_be_typed(kind: type[Algorithm]) -> Point:
    """The point that the suite has beside the contract's: `Settings` can be options."""
    from algorithms.check import Point

    try:
        check_settings(kind)
    except UserError as error:
        return Point("settings can be typed", False, str(error))
    return Point("settings can be typed", True)
