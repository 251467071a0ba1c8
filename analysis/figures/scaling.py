"""Success against size: all parameters, actor and critic apart, and matched parameter counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    COLUMN,
    DASHES,
    MARKERS,
    PAGE,
    Look,
    Unsupported,
    as_drawn,
    colours,
    legend_below,
    lighter,
    panels,
    size_axis,
)
from analysis.frame import runs
from analysis.scores import success_matrix
from analysis.statistics import estimate, iqm_of_runs

MATCH = 0.1
"""Largest relative difference of parameter counts that passes for matched."""


def sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per configuration: algorithm, widths, parameters and final success with its ends."""
    table = runs(frame).drop_duplicates("label").set_index("label").to_dict("index")
    found = []
    for label, scores in success_matrix(frame).items():
        result = estimate(iqm_of_runs, scores.values)
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
                **{"value": result.value, "low": result.low, "high": result.high},
                "runs": result.runs,
            }
        )
    return pd.DataFrame(found)


def scaling(frame: pd.DataFrame, looks: Mapping[str, Look]) -> tuple[Figure, str]:
    """Final success against all parameters, one line per algorithm."""
    table = sizes(frame).dropna(subset=["total_parameters"])
    if table["total_parameters"].nunique() < 2:
        raise Unsupported("needs runs of at least two sizes")
    figure, (axes,) = panels(1, 1, COLUMN, 2.5)
    even = table["actor_width"].eq(table["critic_width"]) | table["actor_width"].isna()
    family = table["label"].map(lambda label: looks[label].family)
    colour = colours(list(table["algorithm"]))
    for index, (name, rows) in enumerate(table[even].groupby(family, sort=False)):
        line(axes, rows, "total_parameters", str(name), colour[rows["algorithm"].iloc[0]], index)
    for row in table[~even].to_dict("records"):
        look = looks[row["label"]]
        axes.plot(row["total_parameters"], row["value"], "x", color=look.colour, alpha=0.6)
    finish(axes, "parameters, actor and critics")
    legend_below(figure, axes)
    return figure, (
        "Final success averaged over tasks (IQM over seeds, bars: intervals) against the number "
        "of trained parameters, logarithmic. Crosses: actor and critic of different widths."
    )


def scaling_apart(frame: pd.DataFrame, looks: Mapping[str, Look]) -> tuple[Figure, str]:
    """Final success against actor parameters at each critic width, and the other way round."""
    table = sizes(frame).dropna(subset=["actor_width", "critic_width"])
    halves: list[tuple[str, str, pd.DataFrame]] = []
    for varied, fixed in (("actor", "critic"), ("critic", "actor")):
        keys = ["algorithm", f"{fixed}_width"]
        count = table.groupby(keys)[f"{varied}_width"].transform("nunique")
        halves.append((varied, fixed, table[count > 1]))
    if all(rows.empty for _, _, rows in halves):
        raise Unsupported("needs runs whose actor width varies while the critic's stays, or back")
    figure, axes = panels(2, 2, PAGE, 2.4)
    colour = colours(list(table["algorithm"]))
    for panel, (varied, fixed, rows) in zip(axes, halves, strict=True):
        groups = list(rows.groupby(["algorithm", f"{fixed}_width"], sort=True))
        for index, ((algorithm, width), part) in enumerate(groups):
            shade = lighter(colour[str(algorithm)], 0.55 * index / max(1, len(groups) - 1))
            name = f"{as_drawn(str(algorithm))}, {fixed} width {width:.0f}"
            line(panel, part, f"{varied}_parameters", name, shade, index)
        finish(panel, f"{'critics' if varied == 'critic' else 'actor'}: parameters")
        if groups:
            panel.legend(frameon=False)
        else:
            panel.text(0.5, 0.5, "no such runs", ha="center", transform=panel.transAxes)
    return figure, (
        "Final success (IQM over seeds, bars: intervals) against the parameters of one network "
        "while the width of the other stays."
    )


def matched(frame: pd.DataFrame, looks: Mapping[str, Look]) -> tuple[Figure, str]:
    """Each architecture beside the MT-SAC whose parameters are nearest to its own."""
    pairs = matched_pairs(sizes(frame))
    if not pairs:
        raise Unsupported(
            f"needs an mtsac run within {MATCH:.0%} of the parameters of another algorithm"
        )
    figure, (axes,) = panels(1, 1, COLUMN, 0.6 + 0.45 * len(pairs))
    ticks = []
    for y, pair in enumerate(pairs):
        for row, shift in zip(pair, (-0.17, 0.17), strict=True):
            look = looks[row["label"]]
            axes.errorbar(
                row["value"], y + shift, xerr=ends(row), fmt=look.marker, color=look.colour,
                capsize=2,
            )  # fmt: skip
            ticks.append((y + shift, f"{look.name}, {row['total_parameters'] / 1e6:.2f}M"))
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(pairs) - 0.5, -0.5), xlabel="final mean success")
    lines = [
        f"{a['label']} ({a['total_parameters']:,.0f} parameters) against {p['label']} "
        f"({p['total_parameters']:,.0f})"
        for a, p in pairs
    ]
    return figure, (
        "Architectures against plain MT-SAC of nearly as many parameters: final success averaged "
        f"over tasks, IQM over seeds, bars: intervals. {'; '.join(lines)}."
    )


def matched_pairs(table: pd.DataFrame) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each architecture's row with the MT-SAC row nearest in total parameters, if within MATCH."""
    plain = table[table["algorithm"] == "mtsac"].dropna(subset=["total_parameters"])
    pairs = []
    for row in table[table["algorithm"] != "mtsac"].to_dict("records"):
        ratio = np.abs(plain["total_parameters"] / row["total_parameters"] - 1)
        if len(ratio) and ratio.min() <= MATCH:
            pairs.append((as_row(row), as_row(plain.loc[ratio.idxmin()].to_dict())))
    return pairs


def as_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A table's row with names for keys."""
    return {str(name): value for name, value in row.items()}


def line(axes: Axes, rows: pd.DataFrame, x: str, name: str, colour: str, index: int) -> None:
    """Points with error bars, joined in order of size."""
    rows = rows.sort_values(x)
    low, high = ((rows[end] - rows["value"]).abs().fillna(0) for end in ("low", "high"))
    axes.errorbar(
        rows[x], rows["value"], yerr=np.stack([low, high]), color=colour, label=name,
        linestyle=DASHES[index % len(DASHES)], marker=MARKERS[index % len(MARKERS)], capsize=2,
    )  # fmt: skip


def ends(row: Mapping[str, Any]) -> Any:
    """An estimate's interval as the distances that error bars want, [2, 1]; 0 where unknown."""
    parts = [abs(row[end] - row["value"]) for end in ("low", "high")]
    return np.nan_to_num(np.array(parts))[:, None]


def finish(axes: Axes, label: str) -> None:
    """Axes of success against a logarithmic size."""
    size_axis(axes, label)
    axes.set(ylim=(-0.02, 1.02), ylabel="final mean success")
