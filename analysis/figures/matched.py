"""Each method beside the plain MT-SAC of its size, and which one that is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.comparisons import FEW_SEEDS, Comparison, compare_all, corrected_for
from analysis.figures.error_bars import bars
from analysis.figures.scaling import sizes
from analysis.figures.selection import final_scores
from analysis.figures.style import COLUMN, PAGE, Drawn, Look, Unsupported, panels, share_limits
from analysis.frame import runs
from analysis.power import could_be_seen
from analysis.protocol import comparable
from analysis.statistics import LEVEL

MATCH = 0.1
"""Largest relative difference of parameter counts that passes for matched."""
PLAIN = "mtsac"
"""The algorithm that others are compared with at their size."""

Row = Mapping[Hashable, Any]
"""A configuration's row of `sizes`."""


def matched(
    frame: pd.DataFrame, looks: Mapping[str, Look], planned: int = 0, control: str = ""
) -> Drawn:
    """Each method beside the plain MT-SAC whose parameters are nearest to its own; `planned` as in
    `compare_all`, of the MT-SAC with the label `control`, or of each without one.

    Raises Unsupported where no two are to be compared, AnalysisError where more are than planned.
    """
    scores = final_scores(frame)
    rows: Mapping[Hashable, Row] = sizes(frame).set_index("label").to_dict("index")
    groups: dict[str, list[str]] = {}
    for label, plain in controls(frame, looks).items():
        if scores[label].tasks == scores[plain].tasks:
            groups.setdefault(plain, []).append(label)
    if not groups:
        raise Unsupported(
            f"needs an mtsac run within {MATCH:.0%} of the parameters of another algorithm, of its "
            "protocol"
        )
    drawn = [label for plain, own in groups.items() for label in (plain, *own)]
    wide = len(drawn) > 4
    figure, (axes,) = panels(1, 1, PAGE if wide else COLUMN, 0.6 + 0.21 * len(drawn))
    beside, numbers, seen = [], [], []
    for plain, labels in groups.items():
        pairs = {label: scores[label].sample for label in (plain, *labels)}
        of_plan = planned if control in ("", plain) else 0
        result = {c.b: c for c in compare_all(pairs, against=plain, planned=of_plan)}
        band(axes, drawn.index(plain), len(labels), rows[plain], looks[plain])
        for label in (plain, *labels):
            point(axes, drawn.index(label), rows[label], looks[label], result.get(label))
        size = rows[plain]["total_parameters"]
        worst = max(abs(rows[label]["total_parameters"] / size - 1) for label in labels)
        beside.append(f"{looks[plain].name} has {size:,.0f} parameters, the others {worst:.1%}")
        numbers.append(corrected_for(result.values(), of_plan))
        of = f"Beside {looks[plain].name}: " if len(groups) > 1 else ""
        seen += [of + sentence for sentence in could_be_seen(pairs, result.values(), of_plan)]
    names = [f"{looks[own].name}, {rows[own]['total_parameters'] / 1e6:.2f}M" for own in drawn]
    axes.set_yticks(range(len(drawn)), names)
    axes.grid(axis="y", visible=False)
    axes.set(ylim=(len(drawn) - 0.5, -0.5), xlabel="final mean success")
    axes.set_xlim(*share_limits(axes.dataLim.x1))
    text = (
        "Methods, each with its own settings, against plain MT-SAC of nearly as many parameters: "
        "final success averaged over tasks, IQM over seeds, bars and band: intervals. At the right "
        f"the difference of IQMs from MT-SAC and, with {FEW_SEEDS} seeds or more each, p of a "
        f"permutation test of whole runs, corrected for {'; '.join(numbers)} (Holm). "
        f"{'; '.join(beside)} more or less at the most. {' '.join(seen)}"
    )
    return Drawn(figure, text, drawn)


def band(axes: Axes, y: int, methods: int, row: Row, look: Look) -> None:
    """The interval of a control, across its own line `y` and those of its methods below."""
    low, high = np.nan_to_num([row["success"].low, row["success"].high], nan=0)
    span = [y - 0.3, y + methods + 0.3]
    axes.fill_betweenx(span, low, high, color=look.colour, alpha=0.12, linewidth=0)


def point(axes: Axes, y: int, row: Row, look: Look, found: Comparison | None) -> None:
    """A configuration's success with its interval, and at the right how it compares."""
    axes.errorbar(
        row["success"].value, y, xerr=bars([row["success"]]), fmt=look.marker, color=look.colour,
        capsize=2,
    )  # fmt: skip
    if found is not None:
        axes.text(1.02, y, verdict(found), va="center", transform=axes.get_yaxis_transform())


def verdict(found: Comparison) -> str:
    """The difference of a method from its control, and how likely chance is to make one so large:
    `found` is the control's less the method's.
    """
    fewest = min(found.seeds)
    if fewest < FEW_SEEDS:
        p = f"{fewest} seeds" if fewest > 1 else "one seed"
    else:
        p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    if found.p_value < 1 - LEVEL and not found.significant and fewest >= FEW_SEEDS:
        p += ", interval holds 0"
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
