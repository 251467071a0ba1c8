"""Success against size: of all parameters, and of actor and critic apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.columns import PARAMETERS, WIDTHS
from analysis.figures.error_bars import bars
from analysis.figures.selection import final_scores
from analysis.figures.style import (
    COLUMN,
    DASHES,
    MARKERS,
    PAGE,
    Drawn,
    Look,
    Unsupported,
    colours,
    legend_below,
    lighter,
    panels,
    share_axis,
    size_axis,
)
from analysis.frame import runs
from analysis.statistics import estimate, iqm_of_runs

ONE_SIZE = 0.02
"""Largest relative difference of parameter counts at which points are drawn side by side."""
APART = 0.04
"""Share of their size by which these stand apart."""
TOGETHER = 1.25
"""Largest ratio of two networks' widths at which they count as scaled together."""


def sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per configuration: algorithm, widths, parameters and final success, an Estimate.

    Raises Unsupported where the rows have no success.
    """
    table = runs(frame).drop_duplicates("label").set_index("label").to_dict("index")
    return pd.DataFrame(
        [
            {
                "label": label,
                "algorithm": str(table[label]["algorithm"]),
                **{name: float(table[label][name]) for name in (*PARAMETERS, *WIDTHS)},
                "success": estimate(iqm_of_runs, scores.sample),
            }
            for label, scores in final_scores(frame).items()
        ]
    )


def together(table: pd.DataFrame) -> pd.Series[bool]:
    """Which rows are points of a line over sizes: actor and critic of nearly one width, unknown
    widths, or an algorithm's only widths.
    """
    ratio = table["actor_width"] / table["critic_width"]
    near = ratio.isna() | ratio.between(1 / TOGETHER, TOGETHER)
    widths = table["actor_width"].astype(str) + "/" + table["critic_width"].astype(str)
    return near | (widths.groupby(table["algorithm"]).transform("nunique") == 1)


def scaling(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Final success against all parameters, one line per algorithm."""
    table = sizes(frame).dropna(subset=["total_parameters"])
    size = table["total_parameters"]
    if table.empty or size.max() <= (1 + ONE_SIZE) * size.min():
        raise Unsupported("needs runs of at least two sizes")
    figure, (axes,) = panels(1, 1, COLUMN, 2.5)
    even = together(table)
    family = table["label"].map(lambda label: looks[label].family)
    colour = colours(list(table["algorithm"]))
    # The plainest of an algorithm first.
    groups = sorted(
        table[even].groupby(family, sort=False),
        key=lambda g: (g[1]["algorithm"].iloc[0], len(g[0])),
    )
    single = {str(name): float(rows["total_parameters"].iloc[0])
              for name, rows in groups if len(rows) == 1}  # fmt: skip
    of_lines = [x for name, rows in groups if len(rows) > 1 for x in rows["total_parameters"]]
    places, bands = side_by_side(single, of_lines)
    for low, high in bands:
        axes.axvspan(low, high, color="0.93", linewidth=0, zorder=0)
    for index, (name, rows) in enumerate(groups):
        own = colour[rows["algorithm"].iloc[0]]
        if str(name) in places:
            rows = rows.assign(total_parameters=places[str(name)])
        line(axes, rows, "total_parameters", str(name), own, index)
    for row in table[~even].to_dict("records"):
        look = looks[row["label"]]
        axes.plot(row["total_parameters"], row["success"].value, "x", color=look.colour, alpha=0.6)
    finish(axes, "parameters, actor and critics")
    legend_below(figure, axes)
    text = (
        "Final success averaged over tasks (IQM over seeds, bars: intervals) against the number "
        "of trained parameters, logarithmic."
    )
    if bands:
        text += (
            f" Points in a grey band have one size, to {ONE_SIZE:.0%}, about that of its middle, "
            "and stand side by side."
        )
    if not even.all():
        text += (
            " Crosses: actor and critic of different widths, in the colours of their methods and "
            "without intervals; the figure scaling_apart shows which is which."
        )
    return Drawn(figure, text, list(table["label"]))


def side_by_side(
    single: Mapping[str, float], of_lines: Sequence[float] = ()
) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Where the only point of each method is drawn, by its size, so that none hides another or that
    of a line, and the bands in which such points stand that have one size.
    """
    clusters: list[list[str]] = []
    for name in sorted(single, key=lambda name: single[name]):
        if clusters and single[name] <= (1 + ONE_SIZE) * single[clusters[-1][0]]:
            clusters[-1].append(name)
        else:
            clusters.append([name])
    places, bands = {}, []
    for names in clusters:
        if len(names) == 1:
            places[names[0]] = single[names[0]]
            continue
        middle = float(np.exp(np.mean([np.log(single[name]) for name in names])))
        slots = [index - (len(names) - 1) / 2 for index in range(len(names))]
        if any(abs(x / middle - 1) <= ONE_SIZE for x in of_lines):
            slots = [k + (k >= 0) for k in range(-(len(names) // 2), (len(names) + 1) // 2)]
        for slot, name in zip(slots, sorted(names, key=list(single).index), strict=True):
            places[name] = middle * (1 + APART) ** slot
        low, high = (
            (1 + APART) ** (slot + side) for slot, side in ((slots[0], -0.5), (slots[-1], 0.5))
        )
        bands.append((middle * low, middle * high))
    return places, bands


def scaling_apart(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Drawn:
    """Final success against a network's parameters while the other stays, and while it grows."""
    table, found, short = halves(sizes(frame), looks)
    if all(rows.empty for _, _, rows in found):
        raise Unsupported("needs runs whose actor width varies while the critic's stays, or back")
    figure, axes = panels(2, 2, PAGE, 2.4)
    colour, drawn = colours(list(table["algorithm"])), 0
    for panel, (varied, fixed, rows) in zip(axes, found, strict=True):
        for _, part in growing(table, rows).groupby("family"):
            line(panel, part, f"{varied}_parameters", "both networks grow", "0.55", len(DASHES))
        groups = list(rows.groupby(["family", f"{fixed}_width"], sort=True))
        for index, ((name, width), part) in enumerate(groups):
            shade = lighter(colour[part["algorithm"].iloc[0]], 0.55 * index / max(1, len(groups)))
            shown = f"{name}, {fixed} of width {width:.0f}"
            # One legend serves both panels: no two lines of theirs look alike.
            line(panel, part, f"{varied}_parameters", shown, shade, drawn + index)
        drawn += len(groups)
        finish(panel, f"parameters of the {'critics' if varied == 'critic' else 'actor'}")
        panel.set_title("critics alone" if varied == "critic" else "actor alone")
        if not groups:
            panel.text(0.5, 0.5, "no such runs", ha="center", transform=panel.transAxes)
    for panel in axes:
        panel.set_ylim(*max((own.get_ylim() for own in axes), key=lambda ends: ends[1]))
    legend_below(figure, axes, 2)
    text = (
        "Final success (IQM over seeds, bars: intervals) against the parameters of one network "
        "while the width of the other stays; grey: while both grow together."
    )
    if short:
        # Said, as readers may look for what varies in these.
        text += f" Of {' and of '.join(short)} lines of two sizes are left out beside longer ones."
    points = pd.concat([part for *_, rows in found for part in (rows, growing(table, rows))])
    return Drawn(figure, text, list(points["label"].unique()))


def halves(
    table: pd.DataFrame, looks: Mapping[str, Look]
) -> tuple[pd.DataFrame, list[tuple[str, str, pd.DataFrame]], list[str]]:
    """Of the `sizes` those with known widths and their family; for each network which one varies,
    which one stays, and the rows of the lines; and the panels from which lines were left out.
    """
    table = table.dropna(subset=["actor_width", "critic_width"])
    table = table.assign(family=table["label"].map(lambda label: looks[label].family))
    found, short = [], []
    for varied, fixed in (("actor", "critic"), ("critic", "actor")):
        count = table.groupby(["family", f"{fixed}_width"])[f"{varied}_width"].transform("nunique")
        # Lines of two points are left out where there are longer ones.
        found.append((varied, fixed, table[count > (2 if count.max() > 2 else 1)]))
        if count.max() > 2 and (count == 2).any():
            short.append(f"the {'critics' if varied == 'critic' else 'actor'} alone")
    return table, found, short


def growing(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The configurations of which both networks grow, of the families in some rows; a family of one
    such configuration makes no line.
    """
    both = table[together(table) & table["family"].isin(rows["family"])]
    return both[both["family"].map(both["family"].value_counts()) > 1]


def line(axes: Axes, rows: pd.DataFrame, x: str, name: str, colour: str, index: int) -> None:
    """Points with error bars, joined in order of size."""
    rows = rows.sort_values(x)
    axes.errorbar(
        rows[x], [e.value for e in rows["success"]], yerr=bars(rows["success"]), color=colour,
        label=name,
        linestyle=DASHES[index % len(DASHES)] if len(rows) > 1 else "none",
        marker=MARKERS[index % len(MARKERS)], capsize=2,
    )  # fmt: skip


def finish(axes: Axes, label: str) -> None:
    """Axes of success against a logarithmic size."""
    size_axis(axes, label)
    share_axis(axes, "final mean success")
