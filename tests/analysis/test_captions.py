"""Captions say what a figure shows: its runs and no others, and intervals where it has some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis import plots
from analysis.figures import comparison, curves, evolution
from analysis.figures.captions import INTERVAL, caption
from analysis.rows import load
from tests.analysis.drawn import look
from tests.analysis.simulated import questions

WriteRun = Callable[..., Path]


def listed(caption: Path) -> set[str]:
    """The configurations whose runs a caption lists."""
    lines = caption.read_text().splitlines()
    return {line[2:].split(": ")[0] for line in lines if "(seed" in line}


MTSAC = "mtsac tasks=MT10 width="

MEGA = {"mega decoding=halfsoftmax", "mega decoding=softmax"}

EVEN = {f"{MTSAC}{width}" for width in (256, 512, 1024)}


@pytest.mark.parametrize(
    ("name", "shown"),
    {
        "matched-MT10-preset": {"d2r", f"{MTSAC}512", *MEGA},
        "scaling_apart-MT10-preset": EVEN
        | {f"{MTSAC}{widths}" for widths in ("1024/256", "256/1024", "256/512", "512/256")},
        "plasticity_by_width-MT10-preset": EVEN,
        "plasticity_by_tasks": {f"{MTSAC}256", "mtsac tasks=MT25 width=256"},
        "mega_weights-MT10-preset": MEGA,
        "d2r_routes-MT10-preset": {"d2r"},
        "improvement-MT10-preset": {"d2r", "mega decoding=halfsoftmax"},
    }.items(),
)
def test_captions_list_the_runs_that_a_figure_shows_and_no_others(
    name: str, shown: set[str], rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MOST_PAIRS", 1)
    plots.draw_all(rows, tmp_path, [name.partition("-")[0]], lambda _: None, dpi=40, pdf=False)
    assert listed(tmp_path / f"{name}.md") == shown


@pytest.mark.parametrize(
    ("name", "count"),
    # of 15 MEGAs: two with bred critics; τ_cp at three values; none, Baldwin and twice Lamarck;
    # a trigger of none, return at three windows, another threshold and growth, success at two
    {"mega_critics": 2, "mega_collapse": 3, "mega_gradients": 4, "mega_trigger": 8}.items(),
)
def test_captions_of_megas_questions_list_what_differs_in_these_alone(
    name: str, count: int, tmp_path: Path
) -> None:
    frame = load([questions(tmp_path / "rows")])
    plots.draw_all(frame, tmp_path, [name], lambda _: None, dpi=40, pdf=False)
    assert len(listed(tmp_path / f"{name}-MT10-preset.md")) == count < frame["label"].nunique()


def test_a_caption_says_whose_protocol_is_whose(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path, algorithm="mega", horizon=200)
    lines = caption("", "", load([tmp_path])).splitlines()
    assert [line.rpartition("; ")[2] for line in lines if "(seed 0)" in line] == [
        "horizon 200",
        "horizon 500",
    ]
    write_run(tmp_path / "one")
    assert "horizon 500;" not in caption("", "", load([tmp_path / "one"]))


def test_captions_speak_of_intervals_where_a_figure_has_them(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    names = {"heat_map": False, "mega_weights": False, "matched": True, "scaling": True}
    made, _ = plots.draw_all(rows, tmp_path, list(names), lambda _: None, dpi=40, pdf=False)
    said = {p.stem.partition("-")[0]: INTERVAL in p.with_suffix(".md").read_text() for p in made}
    assert said == names
    for drawn, has in (
        (evolution.d2r_routes(rows, look(rows)), False),  # one configuration: a line a task
        (evolution.mega_modules(rows, look(rows)), True),  # two: a band each
        (curves.learning_curves(rows, look(rows)), True),
    ):
        bands = [c for axes in drawn.figure.axes for c in axes.collections if len(c.get_paths())]
        assert drawn.intervals == bool(bands) == has
