"""`python -m analysis <command>`: what the rows mean, as files for a paper."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from analysis.evaluations import ENDS
from analysis.messages import AnalysisError, choose, listed, note, printable
from analysis.options import Parser, named_path, one_of, whole_number
from analysis.rows import load

RUNS = Path("results/runs")
RELEASED = Path("results/release")
MOST_SIMULATIONS = 1_000_000
"""More would take days."""
MOST_PLANNED = 1_000


def tables_command(arguments: Sequence[str]) -> None:
    """Tables as Markdown, CSV and booktabs LaTeX."""
    parser = source_parser("tables", out="results/tables")
    given = with_control(parser, arguments)
    from analysis.published import published
    from analysis.table_formats import write
    from analysis.tables import FILES, METRICS, tables

    made = tables(rows(given, METRICS), published(), given.against, given.planned)
    paths = [path for table in made for path in write(table, given.out)]
    print(*paths, sep="\n")
    endings = {path.suffix for path in paths}
    older = sorted(
        path
        for path in given.out.iterdir()
        if path.name.startswith(FILES) and path.suffix in endings and path not in paths
    )
    if older:
        note(f"of an earlier call, not of these rows:\n{listed([str(path) for path in older])}")


def plots_command(arguments: Sequence[str]) -> None:
    """Figures as PNG and PDF, each with its caption file."""
    parser = source_parser("plots", out="results/figures")
    from analysis.plots import ACROSS, FIGURES, METRICS, check_names, draw_all, draw_one

    names = ", ".join(FIGURES | ACROSS)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="FIGURE", help=f"these figures alone: {names}"
    )
    add_planned(parser)
    given = parser.given(arguments)
    check_names(given.only)
    if given.out.suffix.lower() in (".pdf", ".svg", ".eps", ".jpg", ".jpeg", ".tex"):
        raise AnalysisError(
            f"out: {given.out} is no folder; name one, or a .png, beside which the PDF comes"
        )
    frame = rows(given, METRICS)
    if given.out.suffix.lower() == ".png":
        draw_one(frame, given.out, given.only, given.planned)
    else:
        draw_all(frame, given.out, given.only, planned=given.planned)


def report_command(arguments: Sequence[str]) -> None:
    """One HTML file: table, curves, tasks, films, figures, every run's configuration."""
    parser = source_parser("report", out="results/report.html")
    parser.add_argument("--title", default="mtscale report")
    parser.add_argument("--no-figures", action="store_true", help="leave the figures out: faster")
    given = with_control(parser, arguments)
    if given.out.suffix.lower() not in (".html", ".htm"):
        raise AnalysisError(f"out: {given.out} is not a name for a page; end it in .html")
    from analysis.plots import METRICS
    from analysis.report import write_report

    control = {"against": given.against, "planned": given.planned}
    write_report(rows(given, METRICS), given.out, given.title, not given.no_figures, **control)


def reproduced_command(arguments: Sequence[str]) -> None:
    """Whether runs that were trained again agree with released ones, as far as seeds vary."""
    parser = source_parser("reproduced", out="")
    parser.add_argument(
        "--released",
        nargs="+",
        type=named_path,
        required=True,
        metavar="FOLDER",
        help="folders of the runs to compare with",
    )
    given = parser.given(arguments)
    from analysis.reproduction import reproduction
    from analysis.table_formats import markdown

    metrics = ("success",)
    released = load(given.released, metrics=metrics, ends=given.ends)
    print(markdown(reproduction(rows(given, metrics), released)))


def coverage_command(arguments: Sequence[str]) -> None:
    """Measure how often 95 % intervals hold the truth, ours and rliable's."""
    parser = Parser("coverage", describe("coverage"))
    parser.add_argument(
        "--simulations",
        type=partial(whole_number, most=MOST_SIMULATIONS),
        default=1000,
        help=f"experiments per row, 1 to {MOST_SIMULATIONS:,}",
    )
    from analysis.coverage import coverage_table

    print(coverage_table(parser.given(arguments).simulations))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "tables": tables_command,
    "plots": plots_command,
    "report": report_command,
    "reproduced": reproduced_command,
    "coverage": coverage_command,
}
"""Each takes the arguments behind its name; its docstring is its line of help."""


def describe(command: str) -> str:
    """A command's line of help."""
    return (COMMANDS[command].__doc__ or "").strip()


def source_parser(command: str, out: str) -> Parser:
    """The options of a command that reads rows and, with `out`, writes files into a folder."""
    parser = Parser(command, describe(command))
    parser.add_argument(
        "sources",
        nargs="*",
        type=named_path,
        help=f"folders of runs, rows.parquet or CSV files ({RUNS}, or {RELEASED} without runs)",
    )
    if out:
        parser.add_argument(
            "--out", type=named_path, default=Path(out), help=f"where to write ({out})"
        )
    parser.add_argument(
        "--skip-malformed",
        action="store_true",
        help="leave out, and name, runs whose rows are malformed, partial or contradictory",
    )
    parser.add_argument(
        "--ends",
        type=one_of("ends", ENDS),
        default=ENDS[0],
        metavar="{" + ",".join(ENDS) + "}",
        help="where runs that are compared end at different steps: score all at the last step "
        "that they share, and say so (shared, the default), or refuse",
    )
    return parser


def with_control(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """What was given, with the options of a comparison with one configuration.

    Raises AnalysisError for a number of comparisons without it.
    """
    parser.add_argument(
        "--against",
        default="",
        metavar="LABEL",
        help="compare every configuration with this one alone, instead of every pair",
    )
    add_planned(parser)
    given = parser.given(arguments)
    if given.planned and not given.against:
        raise AnalysisError("planned: goes with --against: the comparisons with one configuration")
    return given


def add_planned(parser: Parser) -> None:
    """The option that keeps a protocol's correction while some of its runs are still missing."""
    parser.add_argument(
        "--planned",
        type=partial(whole_number, most=MOST_PLANNED),
        default=0,
        metavar="N",
        help="correct p-values for N comparisons with the plain network, as a protocol has planned "
        "them, where fewer can be made so far",
    )


def rows(given: argparse.Namespace, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows that a command line of `source_parser` names."""
    sources = given.sources or [default_source()]
    return load(sources, skip_malformed=given.skip_malformed, metrics=metrics, ends=given.ends)


def default_source() -> Path:
    """The user's own runs, or the released ones where none is done."""
    if next(RUNS.rglob("rows.parquet"), None):
        return RUNS
    note(f"no finished run in {RUNS}: reading {RELEASED}")
    return RELEASED


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has no letter for × still gets the rest of the line.
            stream.reconfigure(errors="backslashreplace")
    try:
        run(arguments)
        sys.stdout.flush()
        return 0
    except AnalysisError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        if error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2


def run(arguments: Sequence[str]) -> None:
    """Runs a command, or prints which there are. Raises AnalysisError for another."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m analysis <command> [options]\n\ncommands:")
        print("\n".join(f"  {name:10} {describe(name)}" for name in COMMANDS))
    elif arguments[0] not in COMMANDS:
        raise AnalysisError(choose("command", arguments[0], COMMANDS))
    else:
        COMMANDS[arguments[0]](arguments[1:])
