"""The presets: named configurations, every number of which the command line can override.

The suite's own say how much is learned and measured. What a method wants in one of them, and the
protocol that it was published with, stand in its own file, as `presets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algorithms import ALGORITHMS, algorithm_names, load, path_of, presets_of
from algorithms.settings_class import fault_of
from suite.config import PARTS, RunConfig, assembled
from suite.envs.tasks import task_names
from suite.messages import UserError, choose, first_line
from suite.settings import check_settings

if TYPE_CHECKING:
    from algorithms.algorithm import Algorithm

Find = Callable[[str], "type[Algorithm]"]
"""How an algorithm's class is found: `load`, or `declared`, which does without torch."""

PUBLISHED = "published"
EVERY_PAPER = "*"
"""What a method sets in every preset that is a paper's protocol, whoever's: of the short ones none.
"""
PRESETS = {
    "smoke": "seconds: shows that everything runs, learns nothing",
    "quick": "a few minutes on MT10 with 2 CPU cores",
    "small": "the size of this project's own evidence: six times quick's gradient steps",
    "scaling": "the scaling study's protocol (arXiv 2503.05126)",
    PUBLISHED: "the protocol that the algorithm itself was published with",
}
"""Beside these, the name of a registered algorithm stands for the protocol that it was published
with, whoever is trained."""

SUITE: dict[str, dict[str, Any]] = {
    "smoke": {
        "actor_width": 64,
        "critic_width": 64,
        "horizon": 20,
        "steps": lambda tasks: tasks * 200,
        "batch_per_task": 8,
        "buffer_per_task": 1000,
        "random_steps": 40,
        "evaluations": 2,
        "eval_episodes": 1,
        "final_episodes": 2,
        "probe_size": 300,
        "checkpoint_minutes": 0.0,
    },
    "quick": {
        "actor_width": 128,
        "critic_width": 128,
        "horizon": 200,
        "steps": lambda tasks: tasks * 16_000,
        "batch_per_task": 32,
        "buffer_per_task": 50_000,
        "random_steps": 1000,
        "evaluations": 8,
        "eval_episodes": 10,
        "checkpoint_minutes": 1.0,
    },
    # results/release/mt10-small/README.md says why. MT-SAC's width is one at whose size, actor and
    # critics each, every built-in architecture has a width within 1 %.
    "small": {
        "actor_width": 163,
        "critic_width": 163,
        "horizon": 200,
        "steps": lambda tasks: tasks * 50_000,
        "updates_per_step": 2,
        "batch_per_task": 32,
        "buffer_per_task": 50_000,
        "random_steps": 1000,
        "evaluations": 5,
        "eval_episodes": 5,
        "metrics_every": 10,
    },
    "scaling": {"steps": lambda tasks: tasks * 2_000_000},
}
"""Field → value, or a function of the number of tasks. A width counts where an algorithm has it."""
SHORT = ("smoke", "quick", "small")
"""Presets that are no paper's protocol."""
LIKE = {"small": "quick"}
"""Presets in which a method's own fields are as it sets them for another one, unless it says so."""
OPEN = {
    f.name for name in ("task", "training", "evaluation") for f in fields(PARTS[name])
} - {"tasks"}  # fmt: skip
"""The suite's fields that an algorithm's presets may set."""


def preset_names() -> list[str]:
    """What an algorithm's `presets` may set values for."""
    return [*PRESETS, EVERY_PAPER, *algorithm_names()]


def check_name(name: str) -> None:
    """Raises UserError for an unknown preset; imports no algorithm."""
    if name not in PRESETS and name not in ALGORITHMS and name not in algorithm_names():
        raise UserError(choose("preset", name, [*PRESETS, *algorithm_names()]))


def preset(name: str, algorithm: str, tasks: str, find: Find = load) -> RunConfig:
    """The configuration of a preset, before any field is overridden.

    Raises UserError for an unknown preset, algorithm or task.
    """
    values = preset_values(name, algorithm, tasks, find)
    return configured(algorithm, {**values, "tasks": tasks}, find)


def configured(algorithm: str, values: Mapping[str, Any], find: Find) -> RunConfig:
    """The run with these values. Raises UserError where they exclude each other."""
    try:
        return assembled(algorithm, settings_of(algorithm, find), values)
    except ValueError as error:
        raise UserError(str(error)) from None


def preset_values(name: str, algorithm: str, tasks: str, find: Find = load) -> dict[str, Any]:
    """What a preset sets, by field name: the suite's values first, over them the algorithm's."""
    check_name(name)
    trained = algorithm_of(algorithm, find)
    own = {f.name for f in fields(settings_of(algorithm, find))}
    check_own(trained, OPEN | own)
    by_protocol = {} if name in SHORT else presets_of(trained, EVERY_PAPER)
    if name in SUITE:
        like = presets_of(trained, LIKE.get(name, name))
        like = {field: value for field, value in like.items() if field not in OPEN}
        values = SUITE[name] | by_protocol | like | presets_of(trained, name)
    else:
        method = trained if name == PUBLISHED else algorithm_of(name, find)
        values = presets_of(method, PUBLISHED)
        if not values:
            raise UserError(
                f"preset: {algorithm if name == PUBLISHED else name} says of no protocol that it "
                f"was published with it; give {', '.join(SUITE)}, or an algorithm that does"
            )
        if method is not trained:
            suite = {field: value for field, value in values.items() if field in OPEN}
            values = suite | presets_of(trained, name)
        values = by_protocol | values
    count = len(task_names(tasks))
    known = OPEN | own | {f.name for f in fields(PARTS["execution"])}
    return {k: v(count) if callable(v) else v for k, v in values.items() if k in known}


def check_own(trained: type[Algorithm], known: set[str]) -> None:
    """Raises UserError for a preset of the class itself that sets what is no field.

    Those of its bases may name fields that its settings do not have.
    """
    for name, values in vars(trained).get("presets", {}).items():
        for field in values:
            if field not in known:
                where = f"algorithm: {trained.__qualname__}.presets[{name!r}]"
                raise UserError(choose(where, field, known, "its settings' fields and the suite's"))


def settings_of(algorithm: str, find: Find = load) -> type[Any]:
    """The settings class of an algorithm. Raises UserError where there is none, or one that the
    suite cannot take.
    """
    found = algorithm_of(algorithm, find)
    try:
        check_settings(found)
    except UserError as error:
        raise UserError(f"algorithm: {algorithm!r}: {error}") from None
    settings: type[Any] = found.Settings
    return settings


def check_algorithm(name: str) -> None:
    """Raises UserError for a name that is neither registered nor a path; imports nothing."""
    try:
        path_of(name)
    except LookupError:
        shown = f"{', '.join(algorithm_names())}, or package.module:Class"
        raise UserError(choose("algorithm", name, algorithm_names(), shown)) from None


def algorithm_of(name: str, find: Find = load) -> type[Algorithm]:
    """The class of an algorithm. Raises UserError where there is none."""
    check_algorithm(name)
    try:
        found = find(name)
    except SystemExit as error:
        raise UserError(
            f"algorithm: {name!r} cannot be loaded: its module ends the process (SystemExit "
            f"{error.code}); call sys.exit under if __name__ == '__main__' alone"
        ) from None
    except Exception as error:  # whatever a user's module raises while it is imported
        kind = "" if isinstance(error, ImportError | AttributeError | TypeError) else (
            f"{type(error).__name__}: "
        )  # fmt: skip
        reason = f"{kind}{first_line(error)}{not_found(name, error)}"
        raise UserError(f"algorithm: {name!r} cannot be loaded: {reason}") from None
    if fault := fault_of(found.Settings):
        raise UserError(f"algorithm: {name!r}: {fault}")
    return found


def not_found(name: str, error: Exception) -> str:
    """Where package.module:Class is looked for, if its own module was not there."""
    module = path_of(name).partition(":")[0]
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if not missing or not f"{module}.".startswith(f"{missing}."):
        return ""
    *folder, last = Path(module).parts
    if folder or last.endswith(".py"):
        absolute = bool(folder) and (folder[0] == "/" or ".." in folder)
        dotted = ".".join([*([] if absolute else folder), last.removesuffix(".py")])
        where = f", with PYTHONPATH={'/'.join(folder).replace('//', '/')}" if absolute else ""
        return (
            "; a module is named without .py and with dots for slashes: "
            f"{dotted}:{path_of(name).partition(':')[2]}{where}"
        )
    file = module.replace(".", "/")
    return f"; save it as {file}.py in this folder, or put the folder that has it on PYTHONPATH"
