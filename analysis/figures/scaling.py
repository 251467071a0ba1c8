"""Success against size: all parameters, actor and critic apart, and matched parameter counts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.comparisons import FEW_SEEDS, Comparison, compare_all, corrected_for
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
    share_limits,
    size_axis,
)
from analysis.frame import runs
from analysis.power import could_be_seen
from analysis.protocol import comparable
from analysis.statistics import estimate, iqm_of_runs

MATCH = 0.1
"""Largest relative difference of parameter counts that passes for matched."""
ONE_SIZE = 0.02
"""Largest relative difference of parameter counts at which points are drawn side by side."""
APART = 0.04
"""Share of their size by which these stand apart."""
TOGETHER = 1.25
"""Largest ratio of two networks' widths at which they count as scaled together."""
PLAIN = "mtsac"
"""The algorithm that others are compared with at their size."""


def sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per configuration: algorithm, widths, parameters and final success, an Estimate.

    Raises Unsupported where the rows have no success.
    """
    table = runs(frame).drop_duplicates("label").set_index("label").to_dict("index")
    found = []
    for label, scores in final_scores(frame).items():
        result = estimate(iqm_of_runs, scores.sample)
        own = table[label]
        found.append(
            {
                "label": label,
                "algorithm": str(own["algorithm"]),
                **{
                    name: float(own[name])
                    for name in (
                        *("actor_parameters", "critic_parameters", "total_parameters"),
                        *("actor_width", "critic_width"),
                    )
                },
                "success": result,
            }
        )
    return pd.DataFrame(found)


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
    if (
        table.empty
        or table["total_parameters"].max() <= (1 + ONE_SIZE) * table["total_parameters"].min()
    ):
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
    single = {
        str(name): float(rows["total_parameters"].iloc[0])
        for name, rows in groups
        if len(rows) == 1
    }
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
    crosses = (
        " Crosses: actor and critic of different widths, in the colours of their methods and "
        "without intervals; success against the parameters of each network tells them apart."
        if not even.all()
        else ""
    )
    beside = (
        f" Points in a grey band have one size, to {ONE_SIZE:.0%}, about that of its middle, and "
        "stand side by side."
        if bands
        else ""
    )
    text = (
        "Final success averaged over tasks (IQM over seeds, bars: intervals) against the number "
        f"of trained parameters, logarithmic.{beside}{crosses}"
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
    colour = colours(list(table["algorithm"]))
    for panel, (varied, fixed, rows) in zip(axes, found, strict=True):
        groups = list(rows.groupby(["family", f"{fixed}_width"], sort=True))
        for index, ((name, width), part) in enumerate(groups):
            shade = lighter(colour[part["algorithm"].iloc[0]], 0.55 * index / max(1, len(groups)))
            shown = f"{name}, {fixed} of width {width:.0f}"
            line(panel, part, f"{varied}_parameters", shown, shade, index)
        for _, part in growing(table, rows).groupby("family"):
            line(panel, part, f"{varied}_parameters", "both networks grow", "0.55", len(DASHES))
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


def matched(
    frame: pd.DataFrame, looks: Mapping[str, Look], planned: int = 0, control: str = ""
) -> Drawn:
    """Each method beside the plain MT-SAC whose parameters are nearest to its own; `planned` as in
    `compare_all`, of the MT-SAC with the label `control`, or of each without one.

    Raises Unsupported where no two are to be compared, AnalysisError where more are than planned.
    """
    found = final_scores(frame)
    table = sizes(frame)
    by_label = {str(row["label"]): as_row(row) for row in table.to_dict("records")}
    groups: dict[str, list[str]] = {}
    for label, plain in controls(frame, looks).items():
        if found[label].tasks == found[plain].tasks:
            groups.setdefault(plain, []).append(label)
    if not groups:
        raise Unsupported(
            f"needs an mtsac run within {MATCH:.0%} of the parameters of another algorithm, of its "
            "protocol"
        )
    count = len(groups) + sum(map(len, groups.values()))
    figure, (axes,) = panels(1, 1, COLUMN if count < 5 else PAGE, 0.6 + 0.21 * count)
    ticks, right, beside, numbers, seen, y = [], [], [], [], [], 0
    for plain, labels in groups.items():
        row = by_label[plain]
        axes.fill_betweenx(
            [y - 0.3, y + len(labels) + 0.3],
            *np.nan_to_num([row["success"].low, row["success"].high], nan=0),
            color=looks[plain].colour, alpha=0.12, linewidth=0,
        )  # fmt: skip
        pairs = {label: found[label].sample for label in (plain, *labels)}
        of_plan = planned if control in ("", plain) else 0
        result = {c.b: c for c in compare_all(pairs, against=plain, planned=of_plan)}
        size = row["total_parameters"]
        worst = max(abs(by_label[label]["total_parameters"] / size - 1) for label in labels)
        beside.append(f"{looks[plain].name} has {size:,.0f} parameters, the others {worst:.1%}")
        numbers.append(corrected_for(result.values(), of_plan))
        of = f"Beside {looks[plain].name}: " if len(groups) > 1 else ""
        own = could_be_seen(pairs, result.values(), of_plan)
        seen += [of + sentence for sentence in own]
        for label in (plain, *labels):
            row, look = by_label[label], looks[label]
            axes.errorbar(
                row["success"].value, y, xerr=bars([row["success"]]), fmt=look.marker,
                color=look.colour, capsize=2,
            )  # fmt: skip
            ticks.append((y, name_and_size(row, looks)))
            if label in result:
                right.append((y, verdict(result[label])))
            y += 1
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.grid(axis="y", visible=False)
    axes.set(ylim=(count - 0.5, -0.5), xlabel="final mean success")
    axes.set_xlim(*share_limits(axes.dataLim.x1))
    for at, words in right:
        axes.text(1.02, at, words, va="center", transform=axes.get_yaxis_transform())
    text = (
        "Methods, each with its own settings, against plain MT-SAC of nearly as many parameters: "
        "final success averaged over tasks, IQM over seeds, bars and band: intervals. At the right "
        f"the difference of IQMs from MT-SAC and, with {FEW_SEEDS} seeds or more each, p of a "
        f"permutation test of whole runs, corrected for {'; '.join(numbers)} (Holm). "
        f"{'; '.join(beside)} more or less at the most. {' '.join(seen)}"
    )
    return Drawn(figure, text, [label for plain, own in groups.items() for label in (plain, *own)])


def name_and_size(row: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """A configuration and its parameters, as an axis has them."""
    return f"{looks[row['label']].name}, {row['total_parameters'] / 1e6:.2f}M"


def verdict(found: Comparison) -> str:
    """The difference of a method from its control, and how likely chance is to make one so large:
    `found` is the control's less the method's.
    """
    fewest = min(found.seeds)
    if fewest < FEW_SEEDS:
        p = f"{fewest} seeds" if fewest > 1 else "one seed"
    else:
        p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    difference = f"{-found.difference.value:+.2f}".replace("-", "−")
    return f"{difference}, {p}"


def controls(frame: pd.DataFrame, looks: Mapping[str, Look]) -> dict[str, str]:
    """By label of a method the plain MT-SAC nearest in parameters of those that it may be compared
    with, if within MATCH.

    Plain are those of a protocol that differ from the defaults in the fewest settings, and from one
    another in sizes alone; with other settings MT-SAC is a method, too.
    """
    table = runs(frame).drop_duplicates("label").astype({"label": str, "algorithm": str})
    table = table[table["label"].isin(list(looks))].dropna(subset=["total_parameters"])
    family = table["label"].map(lambda label: looks[label].family)
    alike, found = comparable(frame), dict[str, str]()
    own = table["algorithm"] == PLAIN
    plainest: dict[Hashable, str] = {}
    for label, name in zip(table["label"][own], family[own], strict=True):
        best = plainest.setdefault(alike[label], name)
        plainest[alike[label]] = min(best, name, key=lambda text: (len(text.split()), text))
    best_of = table["label"].map(lambda label: plainest.get(alike[label]))
    plain = table[own & (family == best_of)]
    if plain.empty:
        return found
    for row in table[~table["label"].isin(plain["label"])].to_dict("records"):
        able = plain[[alike[label] == alike[row["label"]] for label in plain["label"]]]
        parts = [
            np.abs(able[f"{part}_parameters"] / row[f"{part}_parameters"] - 1).fillna(0)
            for part in ("actor", "critic", "total")
        ]
        distance = np.max(parts, axis=0)
        if len(distance) and distance.min() <= MATCH:
            found[str(row["label"])] = str(able["label"].iloc[int(distance.argmin())])
    return found


def as_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A table's row with names for keys."""
    return {str(name): value for name, value in row.items()}


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
