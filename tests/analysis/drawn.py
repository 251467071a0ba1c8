"""What was drawn, read back from a figure."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import Look, looks, named


def look(frame: pd.DataFrame) -> dict[str, Look]:
    return named(looks(frame), frame)


def lines(figure: Figure, panel: int = 0) -> dict[str, Any]:
    found = figure.axes[panel].get_lines()
    return {str(line.get_label()): line for line in found}


def panel_lines(figure: Figure, title: str) -> dict[str, Any]:
    (index,) = [i for i, axes in enumerate(figure.axes) if axes.get_title() == title]
    return lines(figure, index)
