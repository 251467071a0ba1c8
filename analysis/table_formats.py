"""A table of numbers and intervals as Markdown, CSV and booktabs LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.messages import one_line
from analysis.statistics import Estimate

Cell = str | float | int | Estimate | None


@dataclass(frozen=True)
class Table:
    """What is shown, before its form."""

    name: str
    """Of its files."""
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """Below the table, one per line."""


def write(table: Table, folder: Path) -> list[Path]:
    """Writes <name>.md, .csv and .tex into a folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"md": markdown(table), "csv": comma_separated(table), "tex": latex(table)}
    paths = []
    for ending, text in forms.items():
        path = folder / f"{table.name}.{ending}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def shown(cell: Cell) -> str:
    """A cell as readers see it: three digits, thousands apart, intervals in brackets."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        value = "" if math.isnan(cell.value) else shown(float(cell.value))
        if math.isnan(cell.low):
            return value
        return f"{value} [{shown(float(cell.low))}, {shown(float(cell.high))}]".lstrip()
    if cell is None or math.isnan(cell):
        return ""
    if math.isinf(cell):
        return "never"
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:.1f}"


def markdown(table: Table) -> str:
    """GitHub's table, its caption above and its notes below."""
    lines = [in_markdown(table.caption), "", row(table.columns), row(["---"] * len(table.columns))]
    lines += [row([shown(cell) for cell in cells]) for cells in table.rows]
    notes = [f"- {in_markdown(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(in_markdown, cells))} |"


def in_markdown(text: str) -> str:
    """Text on one line that ends no cell and begins no tag, link, code or emphasis."""
    return re.sub(r"([\\|`*<]|\](?=[(\[]))", r"\\\1", one_line(text))


def comma_separated(table: Table) -> str:
    """Full precision, an interval's ends and runs in columns of their own; no caption or notes."""
    wide = [
        any(isinstance(cells[index], Estimate) for cells in table.rows)
        for index in range(len(table.columns))
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        exact(name)
        for column, is_wide in zip(table.columns, wide, strict=True)
        for name in ([column, f"{column} low", f"{column} high"] if is_wide else [column])
    )
    for cells in table.rows:
        writer.writerow(
            value
            for cell, is_wide in zip(cells, wide, strict=True)
            for value in (ends(cell) if is_wide else [exact(cell)])
        )
    return file.getvalue()


def ends(cell: Cell) -> list[str]:
    """Value, low, high."""
    if isinstance(cell, Estimate):
        return [exact(cell.value), exact(cell.low), exact(cell.high)]
    return [exact(cell), "", ""]


def exact(cell: Cell) -> str:
    """A cell that reads back as the same number; text that no spreadsheet takes for a formula."""
    if isinstance(cell, str):
        text = one_line(cell)
        return f"'{text}" if text.startswith(FORMULA) else text
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) >= 1000:
        return str(int(cell))
    return str(cell)


FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What text begins with that a spreadsheet would carry out."""
SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "×": r"$\times$",
    "−": r"$-$",
    "τ": r"$\tau$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    text = "".join(SPECIAL.get(character, character) for character in one_line(text))
    # Behind a line break LaTeX would take these for its argument.
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def latex(table: Table) -> str:
    r"""A table environment for \usepackage{booktabs}, numbers to the right, notes below."""
    numbers = [
        all(not isinstance(cells[i], str) or not cells[i] for cells in table.rows)
        for i in range(len(table.columns))
    ]
    layout = "".join("r" if is_number else "l" for is_number in numbers)
    body = [" & ".join(escaped(shown(cell)) for cell in cells) + r" \\" for cells in table.rows]
    notes = [rf"\par\footnotesize {escaped(note)}" for note in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            " & ".join(escaped(column) for column in table.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def without_empty(table: Table) -> Table:
    """The table without columns that hold nothing."""
    kept = [
        index
        for index in range(len(table.columns))
        if any(cells[index] not in (None, "") for cells in table.rows)
    ]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(cells[index] for index in kept) for cells in table.rows),
    )
