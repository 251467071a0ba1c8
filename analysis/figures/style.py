"""How every figure looks: sizes for a paper's column, colours that colour-blind readers can tell.

An algorithm has one colour in all figures; its configurations differ in lightness, line and marker.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from analysis.frame import algorithms, runs
from analysis.labels import short_names
from analysis.messages import AnalysisError, one_line

matplotlib.use("Agg")

COLUMN, PAGE = 3.4, 7.0
"""Inches: the width of a column and of a page of a two-column paper."""
PALETTE = [to_hex(colour) for colour in sns.color_palette("colorblind")]
BUILT_IN = ("mtsac", "d2r", "mega", "softmodules", "brc", "moore", "paco", "ars", "care", "film")
KNOWN = dict(zip(BUILT_IN, PALETTE, strict=True))
"""Colours of the algorithms that come with the suite, whatever else is drawn."""
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (2, 2)))
MARKERS = "osD^vPX*<>"
LIGHTEST = 0.55
"""How far towards white the last configuration of an algorithm goes."""
TYPE = 7.5
"""Points: one size of type for everything in every figure."""
TYPES = (
    *("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize"),
    *("legend.fontsize", "figure.titlesize", "figure.labelsize"),
)
RC = {
    **dict.fromkeys(TYPES, TYPE),
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "pdf.fonttype": 42,
}


HALF = 18
"""Letters at either end that a figure keeps of a word that is longer than `LONG`."""
LONG = 2 * HALF + 1


class Unsupported(AnalysisError):
    """The rows do not hold what a figure needs; the text says what that is."""


class Drawn(NamedTuple):
    """A figure and what its caption is made of."""

    figure: Figure
    text: str
    """What it shows, and how."""
    labels: Collection[str]
    """The configurations of which it shows something."""
    intervals: bool = True
    """Whether there are intervals in it, but for single runs."""


@dataclass(frozen=True)
class Look:
    """How one configuration is drawn."""

    colour: str
    dash: Any
    marker: str
    name: str
    """The label without what all configurations of the algorithm share."""

    @property
    def family(self) -> str:
        """The name without sizes: what a line over sizes joins."""
        sizes = ("width=", "actor-width=", "critic-width=", "tasks=")
        return " ".join(part for part in self.name.split() if not part.startswith(sizes))


def theme() -> Any:
    """Settings of matplotlib for `rc_context`."""
    return {**sns.plotting_context("paper"), **sns.axes_style("whitegrid"), **RC}


def colours(algorithms: Sequence[str]) -> dict[str, str]:
    """One colour per algorithm; those that are not ours take those that no other here has."""
    used = [KNOWN[name] for name in (*algorithms, *BUILT_IN[:3]) if name in KNOWN]
    free = [colour for colour in PALETTE if colour not in used] or PALETTE
    others = sorted(set(algorithms) - set(KNOWN))
    return KNOWN | {name: free[i % len(free)] for i, name in enumerate(others)}


def looks(frame: pd.DataFrame) -> dict[str, Look]:
    """A look for each label of the frame."""
    table = runs(frame).drop_duplicates("label")
    of = colours([str(name) for name in table["algorithm"]])
    names = short_names(algorithms(table))
    # Of one size the plainest first: its name is the shortest.
    table = table.assign(length=[len(names[str(label)]) for label in table["label"]])
    found: dict[str, Look] = {}
    # Where there are more algorithms than colours, lines and markers tell those of one apart.
    drawn: Counter[str] = Counter()
    for algorithm, rows in table.groupby("algorithm", observed=True, sort=False):
        labels = [str(label) for label in rows.sort_values(["total_parameters", "length"])["label"]]
        before = drawn[of[str(algorithm)]]
        drawn[of[str(algorithm)]] += len(labels)
        for index, label in enumerate(labels):
            share = LIGHTEST * index / max(1, len(labels) - 1)
            # From dark to light, so that the first of many is the algorithm's own colour.
            colour = lighter(of[str(algorithm)], share)
            if table[["algorithm", "total_parameters"]].drop_duplicates().shape[0] == 1:
                # Of one algorithm at one size: there is no order to show.
                colour = PALETTE[index % len(PALETTE)]
            found[label] = Look(
                colour,
                DASHES[(before + index) % len(DASHES)],
                MARKERS[(before + index) % len(MARKERS)],
                label,
            )
    return found


def named(look: Mapping[str, Look], frame: pd.DataFrame) -> dict[str, Look]:
    """The looks of the labels in a frame, named as shortly as that frame allows."""
    names = short_names(algorithms(runs(frame)))
    return {label: replace(own, name=names[label]) for label, own in look.items() if label in names}


def lighter(colour: str, share: float) -> str:
    """A colour on its way to white."""
    red, green, blue = (part + (1 - part) * share for part in to_rgb(colour))
    return to_hex((red, green, blue))


def panels(
    count: int, columns: int, width: float = COLUMN, height: float = 2.2
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in rows of `columns`, each row of that height in inches."""
    columns = min(columns, count)
    # Of as many columns or a few less, those that leave the fewest places empty.
    columns = min(range(columns, (columns - 1) // 2, -1), key=lambda n: (-count % n, -n))
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def steps_axis(axes: Axes, label: str = "environment steps, all tasks") -> None:
    """Writes env steps as 200k or 20M."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(label)


def size_axis(axes: Axes, label: str) -> None:
    """A logarithmic axis of parameters, written as 300k or 2M."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(label)


def share_axis(axes: Axes, label: str) -> None:
    """A share from 0 to no more than is needed, at most 1, of what has been drawn."""
    axes.set_ylim(*share_limits(axes.dataLim.y1))
    axes.set_ylabel(label)


def share_limits(largest: float) -> tuple[float, float]:
    """Ends of an axis that shows shares from 0 to the largest, with room for their markers."""
    top = min(1.02, 0.1 * float(np.ceil(10 * largest + 0.2)))
    return -0.02 * top, top


def legend_below(figure: Figure, axes: Axes | Sequence[Axes], columns: int = 3) -> None:
    """One legend for these panels, each name once, in room of its own under all of them."""
    every = [axes] if isinstance(axes, Axes) else axes
    pairs = [zip(*own.get_legend_handles_labels(), strict=True) for own in every]
    by_label = {label: handle for own in pairs for handle, label in own}
    handles, labels = list(by_label.values()), list(by_label)
    if not handles:
        return
    width, height = figure.get_size_inches()
    fit = max(1, int(width / (0.5 + 0.055 * max(len(label) for label in labels))))
    columns = min(columns, fit, len(labels))
    figure.set_size_inches(width, height + 0.16 * -(-len(labels) // columns))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False,
        handlelength=2.2, columnspacing=1.2,
    )  # fmt: skip


def margin(names: Sequence[str]) -> float:
    """Inches that the longest of these names takes at the size of tick labels, of a page at most
    half: for longer ones see `wrapped`.
    """
    return min(PAGE / 2, 0.27 + max(map(drawn_width, names)))


def drawn_width(name: str) -> float:
    """Inches that a name takes."""
    return float(TextPath((0, 0), name, TYPE).get_extents().width) / 72


def wrapped(names: Sequence[str]) -> tuple[list[str], float]:
    """The names, in several lines where they are longer than the largest `margin`, and the inches
    that a row beside the tallest of them takes.
    """
    room, line = PAGE / 2 - 0.27, 1.2 * TYPE / 72
    found = []
    for name in names:
        wide = drawn_width(name)
        most = int(0.9 * len(name) * room / wide)
        found.append(fill(name, most, break_on_hyphens=False) if wide > room else name)
    return found, 0.115 + line * max(1 + name.count("\n") for name in found)


def short(task: str) -> str:
    """A task's name as an axis has it."""
    return as_drawn(task.removesuffix("-v3"))


def as_drawn(name: str) -> str:
    """A name that matplotlib draws as it stands: no formula, and not left out of legends."""
    text = one_line(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def shortened(looks: Mapping[str, Look]) -> dict[str, Look]:
    """The looks without the middle of words that no panel has room for, or, where that is what
    tells names apart, without what is alike at both sides of it.
    """
    words = sorted({w for own in looks.values() for w in own.name.split(" ") if len(w) > LONG})
    short = {word: f"{word[:HALF]}…{word[-HALF:]}" for word in words}
    alike: dict[str, list[str]] = defaultdict(list)
    for word in words:
        alike[short[word]].append(word)
    for own in alike.values():
        if len(own) > 1:
            start, end = shared(own), shared([word[::-1] for word in own])
            middles = [word[start : max(start, len(word) - end)] for word in own]
            fits = len({*middles}) == len(own) and max(map(len, middles)) <= HALF
            ends = HALF // 2
            for word, middle in zip(own, middles, strict=True):
                parts = [word[:ends], *([middle] if middle else []), word[-ends:]]
                short[word] = "…".join(parts) if fits else word
    return {
        label: replace(own, name=" ".join(short.get(word, word) for word in own.name.split(" ")))
        for label, own in looks.items()
    }


def shared(words: Sequence[str]) -> int:
    """Letters that all words begin with, up to where the part begins that they differ in."""
    first, last = min(words), max(words)  # what these two share all words do
    pairs = enumerate(zip(first, last, strict=False))
    alike = first[: next((place for place, (a, b) in pairs if a != b), len(first))]
    return 1 + max(alike.rfind(mark) for mark in "_-=.,")


def few(found: Collection[str], most: int) -> None:
    """Raises Unsupported for more configurations than can be told apart in one panel."""
    if len(found) > most:
        raise Unsupported(
            f"needs at most {most} configurations to be told apart, and these rows have "
            f"{len(found)}; name the folders of fewer runs"
        )


def in_order(found: Collection[str], look: Mapping[str, Look]) -> list[str]:
    """The labels that are there, as the looks have them."""
    return [label for label in look if label in found]
