"""The options of a command, refused in one line that names the nearest match."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from analysis.messages import AnalysisError, choose


class Parser(argparse.ArgumentParser):
    """A parser that raises AnalysisError, and takes no option for another one."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            f"python -m analysis {command}", description=description, allow_abbrev=False
        )

    def given(self, arguments: Sequence[str]) -> argparse.Namespace:
        """What a command line says. Raises AnalysisError in one line."""
        known = [o for action in self._actions for o in action.option_strings if o[:2] == "--"]
        options = [a for a in arguments if a.startswith("--")]
        for option in options[: options.index("--")] if "--" in options else options:
            name = option.partition("=")[0]
            if name not in known:
                raise AnalysisError(choose("option", name, known))
        return self.parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        """In place of the usage and an exit."""
        raise AnalysisError(message.removeprefix("argument ").removeprefix("--"))


def one_of(field: str, choices: Sequence[str]) -> Callable[[str], str]:
    """A type of option: one of some words."""

    def chosen(text: str) -> str:
        if text not in choices:
            raise AnalysisError(choose(field, text, choices))
        return text

    return chosen


def named_path(text: str) -> Path:
    """A path. Raises ArgumentTypeError for no text, as of an unset shell variable."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a file or a folder")
    return Path(text)


def whole_number(text: str, most: int) -> int:
    """A number from 1 on. Raises ArgumentTypeError for what is none."""
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most:,}")
    return int(text)
