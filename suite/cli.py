"""The command line: `python -m suite bench | scale | sweep | status | film | check-algorithm`.

Bad input is refused in one line, and before torch or an environment is loaded wherever it can be.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from algorithms.declared import declared
from suite.checks import RULES_HERE, ask, check, check_directory, memory_is_there
from suite.help import USAGE, bench_help
from suite.messages import UserError, choose
from suite.options import HELP, split, suite_values, trainable, unmatched
from suite.output import kept_going
from suite.presets import PRESETS
from suite.process import prepare

Arguments = Sequence[str]
FILM_USAGE = "usage: python -m suite film RUN_DIRECTORY [RUN_DIRECTORY ...]"


def bench(arguments: Arguments) -> int:
    """One run: trains it, resumes it, or shows what it ended with."""
    given = split(arguments)
    if set(HELP) & set(arguments):
        print(bench_help(given))
        return 0
    known = suite_values(given)
    ask((*RULES_HERE, memory_is_there), known)
    check_directory(known)
    declaration = unmatched(given, declared)
    check(declaration)
    ask([memory_is_there], declaration.values())
    config = trainable(given)
    check(config)
    from suite.bench import bench

    return bench(config)


def scale(arguments: Arguments) -> int:
    """Widths and parameter counts at given sizes."""
    from suite.scale import command

    return command(arguments)


def sweep(arguments: Arguments) -> int:
    """A grid of runs, carried out here or on a cluster."""
    from suite.sweeps.question import HELP_TEXT, asked

    if set(HELP) & set(arguments):
        print(HELP_TEXT)
        return 0
    question = asked(arguments)
    from suite.sweeps.command import sweep

    return sweep(question)


def status(arguments: Arguments) -> int:
    """Where a sweep stands."""
    from suite.sweeps.question import HELP_TEXT, asked

    if set(HELP) & set(arguments):
        print(HELP_TEXT)
        return 0
    question = asked(arguments, here=False)
    from suite.sweeps.command import status

    return status(question)


def check_algorithm(arguments: Arguments) -> int:
    """Whether a method keeps the contract."""
    from suite.check_algorithm import command

    return command(arguments)


def film(arguments: Arguments) -> int:
    """Pictures of what a run's policy does."""
    if not arguments or any(a.startswith("-") for a in arguments):
        asked = bool(set(HELP) & set(arguments))
        print(FILM_USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    for folder in arguments:
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"film: {folder} is not the directory of a run (no config.json)")
    from suite.film import film_all

    return film_all(arguments)


COMMANDS: dict[str, tuple[Callable[[Arguments], int], str]] = {
    "bench": (bench, "train one algorithm, or show what it ended with"),
    "scale": (scale, "the widths at which algorithms have given parameter counts"),
    "sweep": (sweep, "train a grid of runs, on this machine or a cluster"),
    "status": (status, "where the runs of a sweep stand, what failed and why"),
    "check-algorithm": (check_algorithm, "try whether an algorithm keeps the contract"),
    "film": (film, "draw an episode of a run's policy on each task"),
}

DRAWING = ("film",)


def main(arguments: Arguments | None = None) -> int:
    """Runs a command; returns the exit status."""
    prepare()
    with kept_going() as lost:
        status = carried_out(list(sys.argv[1:] if arguments is None else arguments))
    for line in lost:
        print(f"error: {line}", file=sys.stderr)
    return status or int(bool(lost))


def carried_out(arguments: list[str]) -> int:
    """Runs a command; what the user can put right is said in a line."""
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage())
            return 0
        if arguments[0] not in COMMANDS:
            raise UserError(choose("command", arguments[0], COMMANDS))
        if arguments[0] not in DRAWING:
            # MuJoCo reads it when it is loaded, and fails over a renderer that it does not have.
            os.environ.pop("MUJOCO_GL", None)
        return COMMANDS[arguments[0]][0](arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        print(f"error: {error.strerror}: raise the limit (ulimit -n 1024)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what has been saved", file=sys.stderr)
        return 130


def usage() -> str:
    """What can be typed."""
    lines = [USAGE, "", "commands (add --help behind one for its options):"]
    lines += [f"  {name:15} {text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "presets:", *(f"  {name:9} {text}" for name, text in PRESETS.items())]
    lines.append(f"  {'d2r, …':9} the protocol of that algorithm's paper, whoever is trained")
    return "\n".join(lines)
