"""One self-contained HTML file: table, curves, tasks, films, figures and every run's configuration.

Data, script, style, films and figures are all in the file: it needs no network and may be sent to a
reviewer as it is. `analysis.report_data` says what it shows; the page itself is `analysis/page`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from analysis.figures.captions import RUNS
from analysis.messages import AnalysisError
from analysis.plots import draw_all
from analysis.report_data import data_uri, payload

SCRIPTS = ("dom.js", "chart.js", "table.js", "page.js")
FIGURE_DPI = 130
"""Of the figures in the report; `make plots` makes those for a paper."""


def write_report(
    frame: pd.DataFrame,
    out: Path,
    title: str = "mtscale report",
    with_figures: bool = True,
    say: Callable[[str], None] = print,
    against: str = "",
    planned: int = 0,
) -> Path:
    """Writes the report of all runs in a frame to an HTML file and returns it; `against` and
    `planned` as in `analysis.tables.tables`.

    Raises AnalysisError where the file cannot be written.
    """
    data = payload(frame, title, against, planned)
    data["figures"], data["leftOut"] = (
        figures(frame, planned, data["control"]) if with_figures else ([], [])
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(data), encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"out: cannot write {out}: {error.strerror}") from None
    for note in data["notes"]:
        say(f"note: {note}")
    say(f"{out} ({out.stat().st_size / 1e6:.1f} MB, {len(data['runs'])} runs)")
    return out


def page(data: dict[str, Any]) -> str:
    """The HTML text with data, style and script in it."""
    source = files("analysis") / "page"
    parts = {
        "STYLE": (source / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((source / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "DATA": embedded(data),
    }
    # One pass over the template: text that is put in is never searched for names again.
    pieces = (source / "page.html").read_text(encoding="utf-8").split("@@")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def embedded(data: Any) -> str:
    """JSON that no text in it can end early: no tag, comment or entity can begin in it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def figures(
    frame: pd.DataFrame, planned: int, control: str
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Every figure that the rows support: title, caption, what it shows in detail, picture, and its
    width in inches, by which the page gives all of them one size of type; and the titles of the
    others with what they need. `planned` and `control` as in `analysis.plots.draw_all`.
    """
    with tempfile.TemporaryDirectory() as folder:
        made, left_out = draw_all(
            frame, Path(folder), say=lambda _: None, dpi=FIGURE_DPI, pdf=False, planned=planned,
            control=control,
        )  # fmt: skip
        return [figure(path) for path in made], left_out


def figure(path: Path) -> dict[str, Any]:
    """One figure, of its PNG file and the caption beside it."""
    described = path.parent / (path.name.removesuffix(".png") + ".md")
    caption, _, runs = described.read_text(encoding="utf-8").partition(f"\n{RUNS}\n")
    heading, _, text = caption.partition("\n")
    with Image.open(path) as image:
        inches = image.width / FIGURE_DPI
    return {
        "title": heading.removeprefix("# "),
        "caption": " ".join(text.split()),
        "runs": runs.strip(),
        "inches": round(inches, 2),
        "image": data_uri(path, "image/png"),
    }
