"""Points of the contract that a method's class settles: what it declares, and what it builds."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from algorithms.algorithm import Algorithm
from algorithms.counting import without_memory
from algorithms.sac import MultiTaskSAC, SACSettings
from algorithms.settings_class import fault_of
from algorithms.trial import (
    STEPS,
    Broken,
    Trial,
    alike,
    demand,
    made_up,
    outcomes,
    told,
    transitions,
)

NEAR = 0.85
"""Likeness of two names, of 1, from which one may be the other misspelt."""
READ_VALUES = (
    *("value", "policy_value", "critic_error", "backup"),
    *("critic_loss", "actor_loss", "loss_of"),
)
"""Hooks that see all that a critic puts out; as they are, they read the first value alone."""
READ_POLICY = (
    *("policy", "mean_and_log_std", "act", "decide"),
    *("target", "actor_loss", "learn", "update"),
)
"""Hooks that may read something else from an actor than means and log standard deviations."""
GIVE_INPUTS = ("values", "target", "critic_loss", "actor_loss", "learn", "update")
"""Hooks that may give a critic something else than observations with actions."""


def settings_are_frozen(trial: Trial) -> None:
    """`Settings` is a frozen dataclass whose fields all have defaults, with those of its base."""
    own = trial.kind.Settings
    fault = fault_of(own)
    demand(not fault, fault)
    shared = not issubclass(trial.kind, MultiTaskSAC) or issubclass(own, SACSettings)
    demand(shared, f"derive {own.__name__} from SACSettings, whose fields MultiTaskSAC reads")


def presets_fit(trial: Trial) -> None:
    """What presets set for the class is a field, and a value that the settings take."""
    own = {f.name for f in fields(trial.kind.Settings)}
    for name, preset in vars(trial.kind).get("presets", {}).items():
        known = trial.preset_names is None or name in trial.preset_names
        demand(known, f"presets[{name!r}] is no preset{meant(name, trial.preset_names or ())}")
        for field in preset:
            known = trial.run_fields is None or field in own or field in trial.run_fields
            demand(known, f"presets[{name!r}] sets {field}, which is no field")
        for tasks in (10, 50):
            values = {k: v(tasks) if callable(v) else v for k, v in preset.items() if k in own}
            try:
                trial.kind.Settings(**values)
            except ValueError as error:
                raise Broken(f"presets[{name!r}]: {error}") from None


def meant(name: str, names: Iterable[str], cutoff: float = 0.5) -> str:
    """The nearest of the names, as a question."""
    near = difflib.get_close_matches(name, names, 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""


def names_are_hooks(trial: Trial) -> str:
    """A name that is nearly a hook's, and that its own file reads nowhere, is noted."""
    mro = trial.kind.__mro__
    own = [kind for kind in mro if not kind.__module__.startswith("algorithms.")]
    bases = [kind for kind in mro if kind not in own]
    hooks = {name for kind in bases for name in (*vars(kind), *inspect.get_annotations(kind))}
    public = {name for name in hooks if not name.startswith("_")}
    found = []
    for kind in own:
        read = read_in_file_of(kind)
        for name in sorted(vars(kind).keys() - hooks):
            hint = "" if name.startswith("_") else meant(name, public, NEAR)
            if hint and name not in read:
                found.append(f"nothing reads {kind.__name__}.{name}{hint}")
    return " ".join(found)


def read_in_file_of(kind: type[Any]) -> set[str]:
    """Names of attributes that a class's file reads; none where there is no file."""
    try:
        tree = ast.parse(Path(inspect.getsourcefile(kind) or "").read_text("utf-8"))
    except (OSError, TypeError, ValueError, SyntaxError):
        return set()
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def builds(trial: Trial) -> None:
    """It can be built, twice."""
    trial.build()
    trial.build()


def counts_without_memory(trial: Trial) -> None:
    """Sizes are known without memory, and are those of what is built."""
    try:
        counted = without_memory(trial.kind, trial.settings(), trial.problem())
    except ValueError as error:
        raise Broken(str(error)) from None
    built = trial.build().parameter_counts()
    same = counted.parameter_counts() == built
    demand(same, "parameter_counts must not depend on the device of the weights")
    demand(min(built) > 0, f"parameter_counts says {tuple(built)}: count what is trained")


def networks_fit(trial: Trial) -> None:
    """`build_actor` and `build_critic` make modules of the shapes that the hooks around them read.

    Where a method has hooks of its own for that, shapes are its affair.
    """
    algorithm = trial.build()
    if not isinstance(algorithm, MultiTaskSAC):
        return
    tasks, problem = algorithm.tasks, algorithm.problem
    seen, decided = problem.observation_size, problem.action_size
    if not overrides(trial.kind, *READ_POLICY):
        found = output(trial, algorithm, "actor", seen)
        shape = (tasks, trial.batch, 2 * decided)
        demand_shape("actor", seen, found, shape, f"[T, B, {2 * decided}]")
    if not overrides(trial.kind, *GIVE_INPUTS):
        found = output(trial, algorithm, "critic", seen + decided)
        lead = (algorithm.settings.critics, tasks, trial.batch)
        one = not overrides(trial.kind, *READ_VALUES)
        size = 1 if one or not isinstance(found, Tensor) else found.shape[-1]
        shown = "[T, B, 1]" if one else "[T, B, values]"
        demand_shape("critic", seen + decided, found, (*lead, size), shown, copies=1)


def overrides(kind: type[Algorithm], *hooks: str) -> bool:
    """Whether the method has one of the learner's hooks of its own."""
    return any(getattr(kind, name) is not getattr(MultiTaskSAC, name) for name in hooks)


def output(trial: Trial, algorithm: MultiTaskSAC, name: str, size: int) -> Any:
    """What a network makes of [T, B, size]."""
    x = made_up(algorithm.tasks, trial.batch, size, seed=0)
    try:
        with torch.no_grad(), alike(0):
            return algorithm.networks[name](algorithm.weights(algorithm.state)[name], x)
    except Exception as error:  # whatever a user's module raises
        reason = told(error, trial.kind)
        raise Broken(f"build_{name}: its module must take [T, B, {size}]: {reason}") from None


def demand_shape(
    name: str, size: int, found: Any, shape: tuple[int, ...], shown: str, copies: int = 0
) -> None:
    """Raises `Broken` unless a network's output has this shape, which is told without copies."""
    has = type(found).__name__
    if isinstance(found, Tensor):
        has = str([*found.shape[copies:]])
    fits = isinstance(found, Tensor) and found.shape == shape
    given = [*shape[copies:-1], size]
    demand(fits, f"build_{name}: its module gives {has} for {given}; give {shown}")


def all_is_trained(trial: Trial) -> str:
    """A parameter whose gradient is zero at every step is noted: it counts where sizes are matched.

    A reset or a stage may begin between two steps, so that each is looked at by itself.
    """
    algorithm = trial.build()
    if not isinstance(algorithm, MultiTaskSAC):
        return ""
    still = set(parameters(algorithm))
    for step in range(2 * STEPS):
        with alike(step):
            algorithm.update(transitions(algorithm, step))
            moved = parameters(algorithm, ".first_moment")
            still = {key for key in still if key in moved and not moved[key].any()}
            algorithm.end_episodes(outcomes(step))
    if not still:
        return ""
    sizes, names = parameters(algorithm), sorted(still)
    lost = sum(sizes[key].numel() for key in names)
    shown = ", ".join(" ".join(key) for key in names[:3]) + (", …" if len(names) > 3 else "")
    return (
        f"no loss has trained {shown} in {2 * STEPS} steps: {lost:,} of "
        f"{sum(w.numel() for w in sizes.values()):,} parameters; leave out what no loss will "
        "ever read, for it is counted where sizes are matched"
    )


def parameters(algorithm: MultiTaskSAC, part: str = "") -> dict[tuple[str, str], Tensor]:
    """What the state holds for each parameter, by network and name."""
    return {
        (name, key): value
        for name, network in algorithm.networks.items()
        if name + part in algorithm.state
        for key, value in network.views(algorithm.state[name + part]).items()
    }
