"""`python -m suite bench`: one run from the command line, whose options are the dataclasses'.

Bad input is refused here, before torch or an environment is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from suite.config import (
    PRESETS,
    EvaluationConfig,
    ExecutionConfig,
    RunConfig,
    TaskConfig,
    TrainingConfig,
    check,
    preset,
    settings_of,
)
from suite.messages import UserError, choose

PARTS: dict[str, type[Any]] = {
    "task": TaskConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "execution": ExecutionConfig,
}
OWN: dict[str, type[Any]] = {"seed": int, "device": str}
BARE = ""
"""What an option without a value has: True for a flag, a mistake for others."""
USAGE = (
    "python -m suite bench --alg {mega,d2r,mtsac,package.module:Class} "
    "[--preset {smoke,quick,scaling,d2r}] [--field value ...]"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    # Learner threads that spin while they wait take the cores from the env workers, which costs a
    # factor of ten where there are no spare ones. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(f"usage: {USAGE}\n\nAdd --help behind bench for all fields.\n\npresets:")
            print("\n".join(f"  {name:8} {text}" for name, text in PRESETS.items()))
            return 0
        if arguments[0] == "film":
            from suite.film import main as film

            return film(arguments[1:])
        if arguments[0] != "bench":
            raise UserError(choose("command", arguments[0], ["bench", "film"]))
        config = parse(arguments[1:])
        check(config)
        from suite.bench import bench

        return bench(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has seen enough: `--help | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> RunConfig:
    """The configuration that a command line stands for. Raises UserError in one line."""
    given = split(arguments)
    name = given.get("alg", "mega")
    settings = settings_of(name)
    types = option_types(settings)
    check_options(given, types)
    start = preset(given.get("preset", "quick"), name, given.get("tasks", "MT10"))

    import tyro

    # tyro derives the options from one dataclass; which settings it holds is known only now.
    options = make_dataclass(
        "Options",
        [
            ("alg", Annotated[str, tyro.conf.arg(help=ALG_HELP)], field(default=name)),
            (
                "preset",
                Annotated[str, tyro.conf.arg(help=PRESET_HELP)],
                field(default=given.get("preset", "quick")),
            ),
            ("seed", Annotated[int, tyro.conf.arg(help="Root of all randomness.")], start.seed),
            (
                "device",
                Annotated[str, tyro.conf.arg(help="Learner's device: cpu, cuda or cuda:<n>.")],
                start.device,
            ),
            *((part, PARTS[part], getattr(start, part)) for part in PARTS),
            ("settings", settings, start.settings),
        ],
        frozen=True,
    )
    # A combination of settings that excludes itself is refused here, in one line.
    ours = {f.name for f in fields(settings)} & given.keys()
    try:
        replace(start.settings, **{name: converted(types[name], given[name]) for name in ours})
    except ValueError as error:
        raise UserError(str(error)) from None
    pairs = [part for name, value in given.items() for part in (f"--{name}", value)]
    parsed: Any = tyro.cli(
        options,
        args=[*pairs, *(a for a in arguments if a in ("-h", "--help"))],
        prog="python -m suite bench",
        description=f"Train one algorithm on Meta-World. {USAGE}",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
    )
    return replace(
        start,
        seed=parsed.seed,
        device=parsed.device,
        settings=parsed.settings,
        **{part: getattr(parsed, part) for part in PARTS},
    )


ALG_HELP = "Registered algorithm (mega, d2r, mtsac, plug-ins) or package.module:Class."
PRESET_HELP = "; ".join(f"{name}: {text}" for name, text in PRESETS.items()) + "."


def split(arguments: Sequence[str]) -> dict[str, str]:
    """`--field value` and `--field=value` pairs, names with underscores."""
    given: dict[str, str] = {}
    rest = [a for a in arguments if a not in ("-h", "--help")]
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise UserError(f"{option!r} stands alone; options are written --field value")
        name, equals, value = option[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else BARE
        given[name.replace("-", "_")] = value
    return given


def option_types(settings: type[Any]) -> dict[str, Any]:
    """Every option's type by field name."""
    types: dict[str, Any] = {"alg": str, "preset": Literal[tuple(PRESETS)], **OWN}
    for part in (*PARTS.values(), settings):
        hints = get_type_hints(part)
        taken = [f.name for f in fields(part) if f.name in types]
        if taken:
            raise UserError(f"algorithm: its field {taken[0]!r} is the suite's; rename it")
        types |= {f.name: hints[f.name] for f in fields(part)}
    return types


def check_options(given: dict[str, str], types: dict[str, Any]) -> None:
    """Raises UserError for an unknown field or a value that its type does not allow.

    A flag without a value is set to True in `given`.
    """
    names = [name.replace("_", "-") for name in types]
    for name, value in given.items():
        shown = name.replace("_", "-")
        if name not in types:
            hint = "the fields that --help lists"
            raise UserError(choose("field", shown, names, hint))
        kind = types[name]
        if value == BARE:
            if kind is not bool:
                raise UserError(f"{shown}: no value given; write --{shown} <value>")
            given[name] = value = "True"
        if get_origin(kind) is Literal:
            choices = [str(choice) for choice in get_args(kind)]
            if value not in choices:
                raise UserError(choose(shown, value, choices))
        elif kind is bool:
            if value not in ("True", "False"):
                raise UserError(choose(shown, value, ["True", "False"]))
        elif kind in (int, float):
            try:
                kind(value)
            except ValueError:
                wanted = "a whole number" if kind is int else "a number"
                raise UserError(f"{shown}: {value!r} is not {wanted}") from None


def converted(kind: Any, value: str) -> Any:
    """A checked value as its type."""
    if kind is bool:
        return value == "True"
    return kind(value) if kind in (int, float) else value
