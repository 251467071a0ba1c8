"""Widths at which an algorithm has a given number of parameters: comparisons at equal size.

Networks are counted as they are built, on torch's meta device, where tensors have shapes and no
memory. A width is searched for, so counts must grow with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from algorithms import counting
from algorithms.algorithm import Algorithm, ParameterCounts, Problem
from suite.config import RunConfig
from suite.messages import UserError
from suite.presets import algorithm_of, preset
from suite.targets import Target, wanted
from suite.training.replay import Extras

TOLERANCE = 0.01
"""Largest relative difference at which two sizes count as equal."""
WIDEST = 2**16
"""Widths beyond this are not searched."""
FIRST_GUESS = 256
"""The width at which the search begins."""

Settings = Any
"""An algorithm's frozen dataclass of fields."""


class CannotCount(UserError):
    """An algorithm whose parameters are not known before it is built."""


def without_memory(algorithm: str, settings: Settings, problem: Problem) -> Algorithm:
    """The algorithm with weights that have shapes only.

    Raises CannotCount where that fails, and UserError for settings that the algorithm refuses.
    """
    try:
        return counting.without_memory(algorithm_of(algorithm), settings, problem)
    except counting.Uncountable as error:
        raise CannotCount(f"algorithm: {algorithm}: {error}") from None
    except ValueError as error:
        raise UserError(f"algorithm: {algorithm}: {error}") from None


class Size(NamedTuple):
    """What an algorithm holds."""

    counts: ParameterCounts
    extras: Extras
    """What it adds to a transition."""


SIZES: dict[str, Size] = {}
"""What has been counted, by the text of what was asked."""


def size(algorithm: str, settings: Settings, problem: Problem) -> Size:
    """Parameter counts and extras of the algorithm with these settings, counted once."""
    # All fields, also those that a user's settings leave out of text and comparisons.
    key = repr((algorithm, type(settings), asdict(settings), problem))
    if key not in SIZES:
        built = without_memory(algorithm, settings, problem)
        SIZES[key] = Size(built.parameter_counts(), built.extras)
    return SIZES[key]


def count(algorithm: str, settings: Settings, tasks: tuple[str, ...]) -> ParameterCounts:
    """Trained parameters of the algorithm with these settings."""
    return size(algorithm, settings, Problem(tasks)).counts


def target(text: str, config: RunConfig, preset_name: str) -> Target:
    """The counts that `--match` stands for; an algorithm has its actor's and its critics' size at
    the preset and tasks.
    """
    found = wanted(text)
    if isinstance(found, Target):
        return found
    counts = count(found, preset(preset_name, found, config.task.tasks).settings, config.tasks)
    return Target(counts.actor, counts.critic)


def matched(config: RunConfig, text: str, preset_name: str) -> RunConfig:
    """The configuration with the widths at which its counts are the target's.

    Raises UserError, saying what can be reached, where a count is not within the tolerance.
    """
    aims = target(text, config, preset_name)
    try:
        return with_counts(config, aims)
    except OutOfReach as error:
        hint = the_other_way_round(config, text, preset_name)
        raise UserError(f"{error}{hint}") from None


class OutOfReach(UserError):
    """No width has the count that is wanted."""


def the_other_way_round(config: RunConfig, text: str, preset_name: str) -> str:
    """A hint for a pair of algorithms of which the other one can have the size of this one."""
    if isinstance(wanted(text), Target):
        return ""
    other = preset(preset_name, text, config.task.tasks)
    counts = count(config.algorithm, config.settings, config.tasks)
    try:
        with_counts(other, Target(counts.actor, counts.critic))
    except UserError:
        return ""
    return f"; or the other way round: --alg {text} --match {config.algorithm}"


def with_counts(config: RunConfig, aims: Target) -> RunConfig:
    """The configuration with the widths at which its counts are these. Raises OutOfReach."""
    problems: list[str] = []
    widths: dict[str, int] = {}
    for net, value in aims._asdict().items():
        if value is not None:
            found, problem = nearest_widths(config, net, value)
            config = replace(config, settings=replace(config.settings, **found))
            widths |= found
            problems += [problem] if problem else []
    if problems:
        options = " ".join(f"--{k.replace('_', '-')} {width}" for k, width in widths.items())
        raise OutOfReach(f"match: {problems[0]}; the nearest, instead of --match: {options}")
    return config


def nearest_widths(config: RunConfig, net: str, aim: int) -> tuple[dict[str, int], str]:
    """The widths at which the count of `net` is nearest to the aim, and, where that is not within
    the tolerance, what can be reached.
    """
    names = [f"{part}_width" for part in (("actor", "critic") if net == "total" else (net,))]
    missing = [name for name in names if not hasattr(config.settings, name)]
    if missing:
        raise UserError(
            f"match: {config.algorithm} has no setting {missing[0]}; an algorithm is matched by "
            "its settings actor_width and critic_width"
        )

    refused: dict[int, ValueError] = {}

    def count_at(width: int) -> int:
        try:
            settings = replace(config.settings, **dict.fromkeys(names, width))
        except ValueError as error:  # too small for what is in it: no parameters
            refused[width] = error
            return 0
        found: int = getattr(count(config.algorithm, settings, config.tasks), net)
        return found

    width = nearest(count_at, aim)
    if width in refused:
        raise UserError(f"match: of {aim:,} parameters: {refused[width]}")
    problem = ""
    if abs(count_at(width) - aim) > TOLERANCE * aim:
        near = [w for w in (width - 1, width, width + 1) if 1 <= w <= WIDEST and count_at(w)]
        shown = ", ".join(f"width {w} has {count_at(w):,}" for w in near)
        problem = (
            f"no {net} of {config.algorithm} has {aim:,} parameters within {TOLERANCE:.0%}; {shown}"
        )
    return dict.fromkeys(names, width), problem


def nearest(count_at: Callable[[int], int], wanted: int) -> int:
    """The width, 1 to `WIDEST`, whose count is nearest; the smaller one of two.

    `count_at` must not fall with the width. Counts are nearly quadratic in it, so that a line
    through the roots of the last two finds it in a few steps; what is not takes halves.
    """
    low, high = 0, WIDEST + 1
    known: list[tuple[int, float]] = []
    width = FIRST_GUESS
    while high - low > 1:
        count = count_at(width)
        low, high = (width, high) if count < wanted else (low, width)
        known.append((width, count**0.5))
        if len(known) > 10:
            width = (low + high) // 2 if high <= WIDEST else 2 * low
        else:
            width = crossing(known, wanted**0.5)
        width = min(max(width, low + 1), high - 1)
    return min(
        (w for w in (low, high) if 1 <= w <= WIDEST), key=lambda w: (abs(count_at(w) - wanted), w)
    )


def crossing(known: list[tuple[int, float]], aim: float) -> int:
    """Where the line through the last two of some points, or through 0 and the only one, has this
    height.
    """
    (x0, y0), (x1, y1) = [(0, 0.0), *known][-2:]
    return round(x1 + (aim - y1) * (x1 - x0) / (y1 - y0)) if y1 != y0 else x1
