"""A run from its options: `--field value` for every field of the suite and of the algorithm.

The options are the dataclasses' own. What can be refused is refused before torch is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from algorithms import ALGORITHMS, algorithm_names, load
from algorithms.declared import declared
from suite.checks import RULES, ask, check
from suite.config import DESTRUCTIVE, ExecutionConfig, RunConfig
from suite.envs.tasks import task_names
from suite.messages import UserError, choose
from suite.presets import (
    PRESETS,
    Find,
    check_algorithm,
    check_name,
    configured,
    preset,
    preset_values,
    settings_of,
)
from suite.settings import OF_THE_SUITE
from suite.targets import check_widths, wanted
from suite.values import kinds, read, without_range, written

Given = Mapping[str, str | None]
"""Options by field name, with underscores, as they were typed; None stands alone."""

START = {"alg": "mega", "preset": "quick", "tasks": "MT10"}
"""What is trained where nothing is said."""
NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
HELP = ("-h", "--help")
EXECUTION = {f.name for f in fields(ExecutionConfig)}
"""Fields that change no run's result: a sweep gives them one value."""


def parse(arguments: Sequence[str]) -> RunConfig:
    """The configuration that a command line stands for. Raises UserError in one line."""
    given = split(arguments)
    suite_values(given)
    unmatched(given, declared)
    return trainable(given)


def split(arguments: Sequence[str]) -> dict[str, str | None]:
    """`--field value`, `--field=value` and `--field` by name; a request for help is left out.

    Raises UserError for what is no option, and for one that is given twice.
    """
    given: dict[str, str | None] = {}
    rest = [a for a in arguments if a not in HELP]
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise UserError(f"{option!r} stands alone; options are written --field value")
        typed, equals, after = option[2:].partition("=")
        value: str | None = after if equals else None
        if not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        name = field_name(typed)
        if name in given and given[name] != value:
            raise UserError(
                f"{typed}: given twice, as {shown(given[name])} and {shown(value)}; give it once"
            )
        given[name] = value
    return given


def shown(text: str | None) -> str:
    """An option's value in a message."""
    return "a flag" if text is None else repr(text)


def field_name(typed: str) -> str:
    """A field's name as it is typed, with underscores. Raises UserError for what is no name."""
    if not NAME.fullmatch(typed):
        raise UserError(f"field: {typed!r} is not a name; fields are those that --help lists")
    return typed.replace("-", "_")


def suite_values(given: Given) -> dict[str, Any]:
    """The options that are not the algorithm's, checked as far as they go without it.

    Those that no preset sets have their defaults. Raises UserError.
    """
    several = given.get("seed") or ""
    if "," in several:
        raise UserError(
            f"seed: {several!r} is not one number; for several give SEEDS={several} "
            f"(--seeds {several})"
        )
    listed = given.get("seeds") or ""
    if "seed" in given and "," in listed:
        raise UserError(
            f"seeds: {listed} is a list of all seeds, and seed {given['seed']} is given, too; "
            "leave out --seed, or say with --seeds how many are counted from it"
        )
    typed = values_of(given, OF_THE_SUITE, others_wait=True)
    values = START | typed
    check_algorithm(values["alg"])
    check_name(values["preset"])
    if "match" in values:
        wanted(values["match"])
        check_widths(values["match"], given)
    task_names(values["tasks"])
    execution = {f.name: f.default for f in fields(ExecutionConfig)}
    known = {"seed": 0, "device": "cpu", "algorithm": values["alg"], **execution, **values}
    ask(RULES, known)
    return known


def trainable(given: Given) -> RunConfig:
    """The run of options that have been looked at without torch, which this loads."""
    config = unmatched(given)
    if "match" in given:
        check(config, here=False)
        from suite.sizes import matched

        config = matched(config, str(given["match"]), str(given.get("preset", START["preset"])))
    return config


def unmatched(given: Given, find: Find = load) -> RunConfig:
    """The configuration before a size decides its widths. Raises UserError.

    With `declared` it can be explained and refused, and not trained.
    """
    chosen = START | {k: v for k, v in given.items() if k in ("alg", "preset", "tasks")}
    algorithm, name, tasks = (str(chosen[k]) for k in ("alg", "preset", "tasks"))
    values = values_of(given, option_types(settings_of(algorithm, find)))
    start = preset_values(name, algorithm, tasks, find)
    return configured(algorithm, START | start | values, find)


def option_types(settings: type[Any]) -> dict[str, Any]:
    """Every option's type by field name, the algorithm's too."""
    return OF_THE_SUITE | kinds(settings)


def values_of(given: Given, types: Mapping[str, Any], others_wait: bool = False) -> dict[str, Any]:
    """What is given, as the types have it. Raises UserError for an unknown field, which
    `others_wait` leaves to the algorithm, and for a value that its field does not take.
    """
    values: dict[str, Any] = {}
    options: dict[str, str] = {}
    for typed, text in given.items():
        name = typed if typed in types else typed.removeprefix("no_")
        negated = name != typed
        if name not in types or (negated and without_range(types[name]) is not bool):
            if others_wait:
                continue
            names = [n.replace("_", "-") for n in types if n not in DESTRUCTIVE]
            hint = "the fields that --help lists"
            raise UserError(choose("field", typed.replace("_", "-"), names, hint))
        option = typed.replace("_", "-")
        if text is not None and (negated or name in DESTRUCTIVE):
            raise UserError(f"{option}: takes no value, and {text!r} is one; nothing is done")
        if negated and name in DESTRUCTIVE:
            raise UserError(f"{option}: nothing is deleted unless asked for; leave it out")
        if name == "tasks" and text:
            text = text.strip()  # with a blank behind it MT10 would be another set
        value = False if negated else read(name, types[name], text, name not in EXECUTION)
        if values.get(name, value) != value:
            raise UserError(f"{option}: {options[name]} is given, too; give one of them")
        values[name] = value
        options[name] = option
    return values


def command_line(config: RunConfig) -> list[str]:
    """The shortest `bench ...` that `parse` reads back as this configuration, or, with a list of
    seeds, as one of the same runs.
    """
    candidates = []
    for name in (*PRESETS, *ALGORITHMS, *algorithm_names()):
        try:
            start = preset(name, config.algorithm, config.task.tasks)
        except UserError:
            continue  # a method without a published protocol
        command = ["bench", "--alg", config.algorithm, "--tasks", config.task.tasks]
        command += ["--preset", name, *differences(start, config)]
        candidates.append(command)
    return min(candidates, key=len)


def differences(start: RunConfig, config: RunConfig) -> list[str]:
    """Options for the fields in which a configuration differs from another of its algorithm."""
    before, options = start.values(), []
    for name, value in config.values().items():
        # As they are typed: 1, 1.0 and True are equal, and three runs.
        if written(value) == written(before[name]) or name == "tasks":
            continue
        if name == "seed" and "," in config.execution.seeds:
            continue  # the list says it
        option = f"--{name.replace('_', '-')}"
        text = written(value)
        if name in DESTRUCTIVE:
            options += [option]
        else:
            options += [f"{option}={text}"] if text.startswith("--") else [option, text]
    return options
