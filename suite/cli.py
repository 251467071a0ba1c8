"""The command line: `python -m suite bench | scale | sweep | status | film`.

Bad input is refused before torch or an environment is loaded, in one line.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence

from suite.checks import check
from suite.memory import check_memory, host_memory
from suite.messages import UserError, choose
from suite.options import USAGE, parse
from suite.output import kept_going
from suite.presets import PRESETS
from suite.process import prepare

Arguments = Sequence[str]


def bench(arguments: Arguments) -> int:
    """One run: trains it, resumes it, or shows what it ended with."""
    config = parse(arguments)
    check(config)
    if config.device == "cpu":
        check_memory(config, host_memory())
    from suite.bench import bench

    return bench(config)


def scale(arguments: Arguments) -> int:
    """Widths and parameter counts at given sizes."""
    from suite.scale import command

    return command(arguments)


def sweep(arguments: Arguments) -> int:
    """A grid of runs, carried out here or on a cluster."""
    from suite.sweeps.command import sweep

    return sweep(arguments)


def status(arguments: Arguments) -> int:
    """Where a sweep stands."""
    from suite.sweeps.command import status

    return status(arguments)


def film(arguments: Arguments) -> int:
    """Pictures of what a run's policy does."""
    from suite.film import main

    return main(arguments)


COMMANDS: dict[str, tuple[Callable[[Arguments], int], str]] = {
    "bench": (bench, "train one algorithm, or show what it ended with"),
    "scale": (scale, "the widths at which algorithms have given parameter counts"),
    "sweep": (sweep, "train a grid of runs, on this machine or a cluster"),
    "status": (status, "where the runs of a sweep stand, what failed and why"),
    "film": (film, "draw an episode of a run's policy on each task"),
}


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
    lines = [f"usage: {USAGE}", "", "commands (add --help behind one for its options):"]
    lines += [f"  {name:8} {text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "presets:", *(f"  {name:8} {text}" for name, text in PRESETS.items())]
    return "\n".join(lines)
