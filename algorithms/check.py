"""Whether a method keeps the contract of `Algorithm`: every point is tried on a tiny problem.

A point has one cause: what belongs to another point is kept out of it. A method that passes can be
trained, measured, resumed to the bit and matched in size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from algorithms import points_of_class, points_of_run
from algorithms.algorithm import Algorithm, Problem
from algorithms.trial import Broken, Trial, told


class Point(NamedTuple):
    """One rule of the contract."""

    name: str
    passed: bool | None
    """None where it could not be tried, for another point has failed."""
    change: str = ""
    """What to change; where it has passed, a note of what may be meant otherwise."""


Try = Callable[[Trial], str | None]
"""Tries a point; raises where it fails, and may return a note."""


FIRST: dict[str, Try] = {
    "settings are a frozen dataclass with defaults": points_of_class.settings_are_frozen,
    "builds": points_of_class.builds,
    "networks fit": points_of_class.networks_fit,
}
"""Without these nothing else can be tried."""
REPEATS = "one seed repeats"
POINTS: dict[str, Try] = {
    "names are known hooks": points_of_class.names_are_hooks,
    "presets name known fields": points_of_class.presets_fit,
    "counts without memory": points_of_class.counts_without_memory,
    "acts within bounds": points_of_run.acts,
    "evaluates without chance": points_of_run.evaluates_alike,
    "explores by chance": points_of_run.explores,
    "learns a step": points_of_run.learns,
    "learns one task": points_of_run.one_task_suffices,
    "all parameters are trained": points_of_class.all_is_trained,
    "networks are measured": points_of_run.is_measured,
    "reports by task": points_of_run.reports_by_task,
    "state is plain data": points_of_run.state_is_plain,
    "loads a copy": points_of_run.loaded_state_is_a_copy,
    "due updates are saved": points_of_run.due_updates_survive,
    "another seed differs": points_of_run.the_seed_decides,
    REPEATS: points_of_run.repeats,
}
IF_REPEATED: dict[str, Try] = {
    "no global generator": points_of_run.no_global_generator,
    "looking changes nothing": points_of_run.looking_changes_nothing,
    "goes on to the bit": points_of_run.goes_on,
}
"""Two runs are compared here, which means something where one seed gives one run."""
FUNDAMENTAL: tuple[Try, ...] = (
    points_of_class.settings_are_frozen,
    points_of_class.networks_fit,
    points_of_run.can_train,
)
"""What is tried before a run: whatever else a method breaks, a run of it goes on."""


def check(
    kind: type[Algorithm],
    run_fields: Collection[str] | None = None,
    preset_names: Collection[str] | None = None,
) -> list[Point]:
    """Every point of the contract, for a method.

    `run_fields` are the fields of a run that presets may set beside the method's own, and
    `preset_names` the presets that there are; None does not ask.
    """
    trial = Trial(kind, run_fields, preset_names)
    tried: list[Point] = []
    for points, needed in ((FIRST, None), (POINTS, [*FIRST][-1]), (IF_REPEATED, REPEATS)):
        for name, point in points.items():
            able = all(p.passed for p in tried if needed is None or p.name == needed)
            tried.append(tested(name, point, trial) if able else Point(name, None))
    return [told_once(point, tried) for point in tried]


def told_once(point: Point, tried: Sequence[Point]) -> Point:
    """The point, which refers to the first one that fails with the same words."""
    first = next(p for p in tried if (p.passed, p.change) == (point.passed, point.change))
    if point.passed is not False or first.name == point.name:
        return point
    return point._replace(change=f"as {first.name!r} says")


def fault_of_run(kind: type[Algorithm], settings: Any, problem: Problem, batch: int) -> str:
    """What keeps a run with these settings, and so many transitions of each task in a batch, from
    training at all, or nothing.
    """
    trial = Trial(kind, run=(settings, problem), batch=batch)
    with warnings.catch_warnings():  # the run itself gives them
        warnings.simplefilter("ignore")
        for point in FUNDAMENTAL:
            if change := tested("", point, trial).change:
                return change
    return ""


def tested(name: str, point: Try, trial: Trial) -> Point:
    """The point, tried."""
    try:
        note = point(trial)
    except Broken as broken:
        return Point(name, False, str(broken))
    except (Exception, SystemExit) as error:  # whatever a user's method raises
        return Point(name, False, told(error, trial.kind))
    return Point(name, True, note or "")
