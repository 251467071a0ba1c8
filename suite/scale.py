"""`scale`: the widths at which algorithms have given numbers of parameters, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from algorithms import algorithm_names
from suite.checks import check
from suite.config import RunConfig
from suite.messages import UserError
from suite.options import parse, split
from suite.sizes import NETS, WIDEST, count, matched, target

HELP = """usage: python -m suite scale [--alg all] [--params 1M,4M,16M] [--preset scaling]
                             [--tasks MT10] [--field value ...]

The widths at which algorithms have given parameter counts, and the counts that these widths give.

  --alg      all registered algorithms, or some: mtsac,my_module:MyAlgorithm
  --params   sizes: 4M (total, one width for actor and critics), actor=1M, critic=2M,
             actor=1M+critic=2M, or an algorithm, whose actor's and critics' sizes are taken
  --field    any field of bench, such as --modules 8, that the algorithms have"""


def command(arguments: Sequence[str]) -> int:
    """`python -m suite scale`: prints the table; the exit status is 0."""
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    given = {"preset": "scaling", **split(arguments)}
    chosen, sizes = given.pop("alg", "all"), given.pop("params", "1M,4M,16M")
    names = algorithm_names() if chosen == "all" else chosen.split(",")
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    rows: list[tuple[str, ...]] = [
        ("algorithm", "size", "actor width", "critic width", "actor", "critics", "total")
    ]
    notes: list[str] = []
    for name in names:
        config = parse(["--alg", name, *options])
        # The probe must be as large as the widest layer; no run is started here.
        check(replace(config, evaluation=replace(config.evaluation, probe_size=WIDEST)), here=False)
        for size in sizes.split(","):
            try:
                rows.append(row(matched(config, size, given["preset"]), size))
            except UserError as error:
                target(size, config, given["preset"])  # a mistake in the size ends the command
                rows.append((name, size, "–", "–", "–", "–", "–"))
                notes.append(str(error))
    print(f"{given.get('tasks', 'MT10')}, preset {given['preset']}")
    print("\n".join([*aligned(rows), *notes]))
    return 0


def row(config: RunConfig, size: str) -> tuple[str, ...]:
    """A line of the table of sizes."""
    counts = count(config.algorithm, config.settings, config.tasks)
    s = config.settings
    widths = [str(getattr(s, f"{net}_width", "–")) for net in ("actor", "critic")]
    return (config.algorithm, size, *widths, *(f"{getattr(counts, net):,}" for net in NETS))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first two columns to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{'<' if i < 2 else '>'}{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in rows
    ]
