"""Whether a method keeps the contract of `Algorithm`: every point is tried on a tiny problem.

A point has one cause: what belongs to another point is kept out of it. A method that passes can be
trained, measured, resumed to the bit and matched in size.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from algorithms import points_of_class, points_of_run
from algorithms.algorithm import Algorithm
from algorithms.trial import Broken, Trial


class Point(NamedTuple):
    """One rule of the contract."""

    name: str
    passed: bool | None
    """None where it could not be tried, for another point has failed."""
    change: str = ""
    """What to change."""


FIRST: dict[str, Callable[[Trial], None]] = {
    "settings are a frozen dataclass with defaults": points_of_class.settings_are_frozen,
    "builds": points_of_class.builds,
}
"""Without these nothing else can be tried."""
REPEATS = "one seed repeats"
POINTS: dict[str, Callable[[Trial], None]] = {
    "presets name known fields": points_of_class.presets_fit,
    "counts without memory": points_of_class.counts_without_memory,
    "acts within bounds": points_of_run.acts,
    "evaluates without chance": points_of_run.evaluates_alike,
    "explores by chance": points_of_run.explores,
    "learns a step": points_of_run.learns,
    "learns one task": points_of_run.one_task_suffices,
    "networks are measured": points_of_run.is_measured,
    "reports by task": points_of_run.reports_by_task,
    "state is plain data": points_of_run.state_is_plain,
    "loads a copy": points_of_run.loaded_state_is_a_copy,
    "due updates are saved": points_of_run.due_updates_survive,
    "another seed differs": points_of_run.the_seed_decides,
    REPEATS: points_of_run.repeats,
}
IF_REPEATED: dict[str, Callable[[Trial], None]] = {
    "no global generator": points_of_run.no_global_generator,
    "looking changes nothing": points_of_run.looking_changes_nothing,
    "goes on to the bit": points_of_run.goes_on,
}
"""Two runs are compared here, which means something where one seed gives one run."""


def check(kind: type[Algorithm], run_fields: Collection[str] | None = None) -> list[Point]:
    """Every point of the contract, for a method.

    `run_fields` are the fields of a run that presets may set beside the method's own; None does
    not ask.
    """
    trial = Trial(kind, run_fields)
    tried: list[Point] = []
    for points, needed in ((FIRST, None), (POINTS, "builds"), (IF_REPEATED, REPEATS)):
        for name, point in points.items():
            able = all(p.passed for p in tried if needed is None or p.name == needed)
            tried.append(tested(name, point, trial) if able else Point(name, None))
    return tried


def tested(name: str, point: Callable[[Trial], None], trial: Trial) -> Point:
    """The point, tried."""
    try:
        point(trial)
    except Broken as broken:
        return Point(name, False, str(broken))
    except Exception as error:  # whatever a user's method raises
        reason = str(error).strip().partition("\n")[0]
        return Point(name, False, f"{type(error).__name__}: {reason}{place_of(error, trial.kind)}")
    return Point(name, True)


def place_of(error: Exception, kind: type[Algorithm]) -> str:
    """Where in the method's own file it happened, if it did."""
    own = inspect.getsourcefile(kind)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
    return f" ({Path(own).name}:{lines[-1]})" if own and lines else ""
