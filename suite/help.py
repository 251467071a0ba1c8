"""What can be typed: the fields of `bench` with their texts, which stand under them in the code."""

from __future__ import annotations

import ast
import inspect
import itertools
import shutil
import textwrap
from typing import Any

from algorithms import algorithm_names
from algorithms.declared import declared
from suite.config import DESTRUCTIVE, PARTS
from suite.options import START, Given, option_types, suite_values, unmatched
from suite.presets import PRESETS, preset
from suite.values import described, kinds, without_range, written

USAGE = (
    "usage: python -m suite bench [--alg NAME | package.module:Class] [--preset NAME] "
    "[--tasks TASKS] [--field value ...]"
)
TITLES = {
    "task": "what is learned",
    "training": "how much data, and how it is used",
    "evaluation": "how the run is measured",
    "execution": "how the run is carried out; nothing here changes what is learned",
}
FIRST = {
    "alg": "What is trained.",
    "preset": "The values that all fields start from; the name of an algorithm stands for the "
    "protocol that it was published with, whoever is trained.",
    "match": "Instead of widths: the size to have, within 1 percent. An algorithm (its actor's and "
    "its critics' size at this preset), 4M (total, both widths alike), actor=1M, critic=2M, or "
    "actor=1M+critic=2M.",
    "seed": "Root of all randomness.",
    "device": "Where the learner runs: cpu, cuda or cuda:<n>.",
}
"""Texts of the options that are no dataclass's."""


def bench_help(given: Given) -> str:
    """Every field of a run, with what it means, what it takes and its value in the preset.

    Raises UserError where the command line is wrong beside asking for help.
    """
    chosen = START | suite_values(given)
    unmatched(given, declared)
    start = preset(chosen["preset"], chosen["alg"], chosen["tasks"], declared)
    types = option_types(type(start.settings))
    defaults = start.values() | {"alg": chosen["alg"], "preset": chosen["preset"], "match": ""}
    choices = {
        "alg": f"{', '.join(algorithm_names())}, or package.module:Class",
        "preset": f"{', '.join(PRESETS)}, {', '.join(algorithm_names())}",
    }
    lines = [*wrapped(USAGE, ""), ""]
    for name, text in FIRST.items():
        lines += described_option(
            name, choices.get(name) or described(types[name]), text, defaults[name]
        )
    owners = {TITLES[name]: kind for name, kind in PARTS.items()}
    owners[f"{start.algorithm}'s own settings"] = type(start.settings)
    for title, owner in owners.items():
        lines += ["", f"{title}:"]
        texts = docstrings(owner)
        for name, kind in kinds(owner).items():
            lines += described_option(
                name, described(kind), texts.get(name, ""), defaults[name], kind
            )
    return "\n".join(lines)


def described_option(name: str, takes: str, text: str, default: Any, kind: Any = None) -> list[str]:
    """An option's lines."""
    option = f"--{name.replace('_', '-')}"
    if name in DESTRUCTIVE:
        first = option
    elif without_range(kind) is bool:
        first = f"{option} | --no-{option[2:]}"
    else:
        first = f"{option}  ({takes})"
    value = repr(default) if default == "" else written(default)
    return [*wrapped(first, "  "), *wrapped(f"{text} (default: {value})", "      ")]


def wrapped(text: str, indent: str) -> list[str]:
    """A paragraph's lines, as wide as the terminal is and not wider than can be read."""
    width = min(shutil.get_terminal_size().columns, 100)
    return textwrap.wrap(
        " ".join(text.split()),
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def docstrings(owner: type[Any]) -> dict[str, str]:
    """The string under each field of a dataclass, also where a base class has it."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):
            continue  # built in, or made without a file
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for statement, below in itertools.pairwise(body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = text
    return found
