"""`scale`: the widths at which algorithms have given numbers of parameters, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from algorithms import algorithm_names
from algorithms.declared import declared
from suite.checks import check
from suite.config import RunConfig
from suite.messages import UserError
from suite.options import HELP, START, split, suite_values, trainable, unmatched
from suite.targets import NETS, wanted
from suite.values import read

HELP_TEXT = """usage: python -m suite scale [--alg all] [--params 1M,4M,16M] [--preset scaling]
                             [--tasks MT10] [--field value ...]

The widths at which algorithms have given parameter counts, and the counts that these widths give.

  --alg      all registered algorithms, or some: mtsac,my_module:MyAlgorithm
  --params   sizes: 4M (total, one width for actor and critics), actor=1M, critic=2M,
             actor=1M+critic=2M, or an algorithm, whose actor's and critics' sizes are taken
  --field    any field of bench, such as --modules 8, that the algorithms have"""


def command(arguments: Sequence[str]) -> int:
    """`python -m suite scale`: prints the table; the exit status is 0."""
    if set(HELP) & set(arguments):
        print(HELP_TEXT)
        return 0
    given: dict[str, str | None] = {"preset": "scaling", **split(arguments)}
    if "match" in given:
        raise UserError(f"match: the sizes of a table are --params {given['match'] or 'ALGORITHM'}")
    names = listed("alg", given.pop("alg", "all"))
    names = algorithm_names() if names == ["all"] else names
    sizes = listed("params", given.pop("params", "1M,4M,16M"))
    for size in sizes:
        wanted(size)
    for name in names:
        suite_values({**given, "alg": name})
        unmatched({**given, "alg": name}, declared)
    from suite.sizes import WIDEST, matched  # loads torch

    rows: list[tuple[str, ...]] = [
        ("algorithm", "size", "actor width", "critic width", "actor", "critics", "total")
    ]
    notes: list[str] = []
    preset = str(given["preset"])
    for name in names:
        config = trainable({**given, "alg": name})
        # The probe must be as large as the widest layer; no run is started here.
        check(replace(config, evaluation=replace(config.evaluation, probe_size=WIDEST)), here=False)
        for size in sizes:
            try:
                rows.append(row(matched(config, size, preset), size))
            except UserError as error:
                rows.append((name, size, "–", "–", "–", "–", "–"))
                notes.append(str(error))
    print(f"{given.get('tasks', START['tasks'])}, preset {preset}")
    print("\n".join([*aligned(rows), *notes]))
    return 0


def listed(name: str, text: str | None) -> list[str]:
    """Values separated by commas, none of them empty."""
    return [str(read(name, str, part)) for part in ([text] if text is None else text.split(","))]


def row(config: RunConfig, size: str) -> tuple[str, ...]:
    """A line of the table of sizes."""
    from suite.sizes import count

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
