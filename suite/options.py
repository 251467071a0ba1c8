"""A run from its options: `--field value` for every field of the suite and of the algorithm.

The options are the dataclasses' own. Bad input is refused here, before torch or an environment is
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from suite.checks import check
from suite.config import EvaluationConfig, ExecutionConfig, RunConfig, TaskConfig, TrainingConfig
from suite.messages import UserError, choose
from suite.presets import PRESETS, preset, settings_of

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


def parse(arguments: Sequence[str]) -> RunConfig:
    """The configuration that a command line stands for. Raises UserError in one line."""
    given = split(arguments)
    name = given.get("alg", "mega")
    settings = settings_of(name)
    types = option_types(settings)
    check_options(given, types)
    check_match(given)
    start = preset(given.get("preset", "quick"), name, given.get("tasks", "MT10"))
    # A combination of settings that excludes itself is refused here, in one line.
    ours = {f.name for f in fields(settings)} & given.keys()
    try:
        replace(start.settings, **{name: converted(types[name], given[name]) for name in ours})
    except ValueError as error:
        raise UserError(str(error)) from None
    config = filled(start, given, types)
    if config is None or {"-h", "--help"} & set(arguments):
        config = parsed_by_tyro(start, given, arguments)
    if "match" in given:
        check(config, here=False)
        from suite.sizes import matched  # loads torch

        config = matched(config, given["match"], given.get("preset", "quick"))
    return config


def filled(start: RunConfig, given: dict[str, str], types: dict[str, Any]) -> RunConfig | None:
    """`start` with the given values, or None where only tyro can read the type of one.

    tyro takes 40 ms a run, which a sweep of hundreds would wait for; the values have been checked
    against their types already.
    """
    if not all(is_plain(types[name]) for name in given):
        return None
    values = {name: converted(types[name], value) for name, value in given.items()}
    changes: dict[str, Any] = {name: values[name] for name in OWN if name in values}
    for part in (*PARTS, "settings"):
        before = getattr(start, part)
        own = {f.name: values[f.name] for f in fields(before) if f.name in values}
        changes[part] = replace(before, **own)
    return replace(start, **changes)


def parsed_by_tyro(start: RunConfig, given: dict[str, str], arguments: Sequence[str]) -> RunConfig:
    """The same for fields of any type; shows the help where it is asked for."""
    import tyro

    def explained(text: str) -> Any:
        return Annotated[str, tyro.conf.arg(help=text)]

    # tyro derives the options from one dataclass; which settings it holds is known only now.
    options = make_dataclass(
        "Options",
        [
            ("alg", explained(ALG_HELP), field(default=start.algorithm)),
            ("preset", explained(PRESET_HELP), field(default=given.get("preset", "quick"))),
            ("match", explained(MATCH_HELP), field(default="")),
            ("seed", Annotated[int, tyro.conf.arg(help="Root of all randomness.")], start.seed),
            ("device", explained("Learner's device: cpu, cuda or cuda:<n>."), start.device),
            *((part, PARTS[part], getattr(start, part)) for part in PARTS),
            ("settings", type(start.settings), start.settings),
        ],
        frozen=True,
    )
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
MATCH_HELP = (
    "Instead of widths: the size to have, within 1 percent. An algorithm (its actor's and its "
    "critics' size at this preset), 4M (total, both widths alike), actor=1M, critic=2M, or "
    "actor=1M+critic=2M."
)


def check_match(given: dict[str, str]) -> None:
    """Raises UserError where a size and a width that it decides are both given."""
    target = given.get("match", "")
    for net in ("actor", "critic"):
        name = f"{net}_width"
        if target and name in given and ("=" not in target or f"{net}=" in target):
            raise UserError(
                f"match: {target!r} decides {net}-width, which is given as {given[name]}; leave "
                "out one of the two"
            )


def is_plain(kind: Any) -> bool:
    """Whether `converted` can read this type."""
    if get_origin(kind) is Literal:
        return all(isinstance(choice, str) for choice in get_args(kind))
    return kind in (int, float, bool, str)


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
    types: dict[str, Any] = {
        "alg": str,
        "preset": Literal[tuple(PRESETS)],
        "match": str,
        **OWN,
    }
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


def command_line(config: RunConfig) -> list[str]:
    """The shortest `bench ...` that `parse` reads back as this configuration."""
    candidates = []
    for name in PRESETS:
        start = preset(name, config.algorithm, config.task.tasks)
        command = ["bench", "--alg", config.algorithm, "--tasks", config.task.tasks]
        command += ["--preset", name, *differences(start, config)]
        candidates.append(command)
    return min(candidates, key=len)


def differences(start: RunConfig, config: RunConfig) -> list[str]:
    """Options for the fields, but tasks, in which a configuration differs from another."""
    parts = [
        (getattr(start, p), getattr(config, p), [f.name for f in fields(PARTS[p])]) for p in PARTS
    ]
    own = [f.name for f in fields(config.settings)]
    parts = [(start, config, list(OWN)), *parts, (start.settings, config.settings, own)]
    return [
        text
        for before, now, names in parts
        for name in names
        if name != "tasks" and getattr(now, name) != getattr(before, name)
        for text in (f"--{name.replace('_', '-')}", str(getattr(now, name)))
    ]
