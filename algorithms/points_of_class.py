"""Points of the contract that a method's class settles: what it declares, and what it builds."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

from algorithms.counting import without_memory
from algorithms.trial import Broken, Trial, demand


def settings_are_frozen(trial: Trial) -> None:
    """`Settings` is a frozen dataclass whose fields all have defaults."""
    own = trial.kind.Settings
    frozen = is_dataclass(own) and own.__dataclass_params__.frozen  # type: ignore[attr-defined]
    demand(frozen, "write @dataclass(frozen=True) above the class of the settings")
    bare = [f.name for f in fields(own) if f.default is MISSING and f.default_factory is MISSING]
    demand(not bare, f"give the field {bare[0] if bare else ''} a default")


def presets_fit(trial: Trial) -> None:
    """What presets set for the class is a field, and a value that the settings take."""
    own = {f.name for f in fields(trial.kind.Settings)}
    for name, preset in vars(trial.kind).get("presets", {}).items():
        for field in preset:
            known = trial.run_fields is None or field in own or field in trial.run_fields
            demand(known, f"presets[{name!r}] sets {field}, which is no field")
        for tasks in (10, 50):
            values = {k: v(tasks) if callable(v) else v for k, v in preset.items() if k in own}
            try:
                trial.kind.Settings(**values)
            except ValueError as error:
                raise Broken(f"presets[{name!r}]: {error}") from None


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
