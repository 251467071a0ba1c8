"""What a reviewer asks of a figure: which runs, how long, by what protocol, which intervals."""

from __future__ import annotations

import pandas as pd

from analysis.columns import PROTOCOL
from analysis.comparisons import FEW_SEEDS
from analysis.frame import runs
from analysis.messages import one_line
from analysis.remarks import remarks

INTERVAL = (
    "Intervals: 95 %, bootstrap that resamples whole runs, its percentiles widened for few runs, "
    "seed 0; none for one run."
)
OF_A_RUN = ("goals", "reward_version", "horizon", "evaluation", "version_metaworld")
"""Protocol columns that stand with each configuration where they are not the same in all."""
RUNS = "Runs:"
"""Begins what a caption says of each configuration's runs."""


def caption(name: str, text: str, frame: pd.DataFrame, intervals: bool = True) -> str:
    """A figure's caption file, Markdown: name, text and how intervals were made, where it has some,
    then runs and protocol of its rows.
    """
    table = runs(frame)
    lines = [f"# {name}", "", one_line(text)]
    if intervals:
        lines += ["", INTERVAL]
    smallest = int(table.groupby("label", observed=True)["seed"].nunique().min())
    if smallest < FEW_SEEDS:
        least = f"{smallest} seed" + "s" * (smallest != 1)
        lines += ["", f"Fewer than {FEW_SEEDS} seeds ({least}): no ranking can be drawn from this."]
    lines += ["", RUNS, ""]
    apart = [name for name in OF_A_RUN if name in table and table[name].nunique(dropna=False) > 1]
    for label, rows in table.groupby("label", observed=True, sort=False):
        own = [f"{name.replace('_', ' ')} {shown(rows[name].iloc[0])}" for name in apart]
        lines.append(f"- {one_line('; '.join([sample(str(label), rows), *own]))}")
    lines += [f"- {line}." for own in remarks(frame).values() for line in own]
    lines += ["", "Protocol:", ""]
    lines += [f"- {line}" for line in protocol(table)]
    return "\n".join(lines) + "\n"


def sample(label: str, rows: pd.DataFrame) -> str:
    """One configuration's runs: how many, their seeds, steps and sizes."""
    count = len(rows)
    seeds = ", ".join(str(seed) for seed in sorted(set(rows["seed"])))
    parts = [f"{label}: {count} run{'s' * (count > 1)} (seed{'s' * (count > 1)} {seeds})"]
    steps = ", ".join(f"{value:,.0f}" for value in sorted(set(rows["total_steps"].dropna())))
    if steps:
        parts.append(f"{steps} env steps over all tasks")
    sizes = [
        f"{name} {numbers(rows[f'{column}_parameters'])}"
        for name, column in (("actor", "actor"), ("critics", "critic"))
        if rows[f"{column}_parameters"].notna().any()
    ]
    if sizes:
        parts.append(f"parameters {', '.join(sizes)}")
    return one_line("; ".join(parts))


def numbers(values: pd.Series[float]) -> str:
    """The different numbers, with separators."""
    return " and ".join(f"{value:,.0f}" for value in sorted(set(values.dropna())))


def protocol(table: pd.DataFrame) -> list[str]:
    """The protocol columns; where runs differ in one, all of its values."""
    names = [name for name in PROTOCOL if name in table and name != "total_steps"]
    lines = []
    for name in names:
        found = list(dict.fromkeys(shown(value) for value in table[name]))
        lines.append(f"{name.replace('_', ' ')}: {' | '.join(found)}")
    return lines


def shown(value: object) -> str:
    """A column's value, "unknown" where a file did not say."""
    if value == "" or value != value:
        return "unknown"
    return f"{value:,.0f}" if isinstance(value, float) else one_line(str(value))
