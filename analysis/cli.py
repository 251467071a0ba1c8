"""`python -m analysis <command>`: what the rows mean, as files for a paper."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis.messages import AnalysisError, choose, note
from analysis.rows import load

RUNS = Path("results/runs")
RELEASED = Path("results/release")


def tables_command(arguments: Sequence[str]) -> None:
    """Tables as Markdown, CSV and booktabs LaTeX."""
    parser = source_parser("tables", tables_command, out="results/tables")
    given = parser.parse_args(arguments)
    from analysis.published import published
    from analysis.table_formats import write
    from analysis.tables import METRICS, tables

    for table in tables(rows(given, METRICS), published()):
        print(*write(table, given.out), sep="\n")


def plots_command(arguments: Sequence[str]) -> None:
    """Figures as PNG and PDF, each with its caption file."""
    parser = source_parser("plots", plots_command, out="results/figures")
    parser.add_argument("--only", nargs="+", default=[], metavar="FIGURE", help="these figures")
    given = parser.parse_args(arguments)
    from analysis.plots import METRICS, check_names, draw_all, draw_one

    check_names(given.only)
    frame = rows(given, METRICS)
    if given.out.suffix.lower() == ".png":
        draw_one(frame, given.out, given.only)
    else:
        draw_all(frame, given.out, given.only)


def report_command(arguments: Sequence[str]) -> None:
    """One HTML file: table, curves, tasks, films, figures, every run's configuration."""
    parser = source_parser("report", report_command, out="results/report.html")
    parser.add_argument("--title", default="mtscale report")
    parser.add_argument("--no-figures", action="store_true", help="leave the figures out: faster")
    given = parser.parse_args(arguments)
    if given.out.suffix.lower() not in (".html", ".htm"):
        raise AnalysisError(f"out: {given.out} is not a name for a page; end it in .html")
    from analysis.plots import METRICS
    from analysis.report import write_report

    write_report(rows(given, METRICS), given.out, given.title, not given.no_figures)


def coverage_command(arguments: Sequence[str]) -> None:
    """Measure how often 95 % intervals hold the truth, ours and rliable's."""
    parser = argparse.ArgumentParser(
        "python -m analysis coverage", description=describe("coverage")
    )
    parser.add_argument("--simulations", type=int, default=1000, help="experiments a row")
    from analysis.coverage import coverage_table

    print(coverage_table(parser.parse_args(arguments).simulations))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "tables": tables_command,
    "plots": plots_command,
    "report": report_command,
    "coverage": coverage_command,
}
"""Each takes the arguments behind its name; its docstring is its line of help."""


def describe(command: str) -> str:
    """A command's line of help."""
    return (COMMANDS[command].__doc__ or "").strip()


def source_parser(
    command: str, function: Callable[[Sequence[str]], None], out: str
) -> argparse.ArgumentParser:
    """The options of a command that reads rows and writes files into a folder."""
    parser = argparse.ArgumentParser(f"python -m analysis {command}", description=function.__doc__)
    parser.add_argument(
        "sources",
        nargs="*",
        type=Path,
        help=f"folders of runs, rows.parquet or CSV files ({RUNS}, or {RELEASED} without runs)",
    )
    parser.add_argument("--out", type=Path, default=Path(out), help=f"where to write ({out})")
    parser.add_argument(
        "--skip-malformed", action="store_true", help="leave malformed rows out and list them"
    )
    return parser


def rows(given: argparse.Namespace, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows that a command line of `source_parser` names."""
    sources = given.sources or [default_source()]
    return load(sources, skip_malformed=given.skip_malformed, metrics=metrics)


def default_source() -> Path:
    """The user's own runs, or the released ones where none is done."""
    if next(RUNS.rglob("rows.parquet"), None):
        return RUNS
    note(f"no finished run in {RUNS}: reading {RELEASED}")
    return RELEASED


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print("usage: python -m analysis <command> [options]\n\ncommands:")
            print("\n".join(f"  {name:10} {describe(name)}" for name in COMMANDS))
            return 0
        if arguments[0] not in COMMANDS:
            raise AnalysisError(choose("command", arguments[0], COMMANDS))
        COMMANDS[arguments[0]](arguments[1:])
        return 0
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read the output has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
