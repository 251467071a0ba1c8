"""Which rows may be compared: those that agree in every protocol column."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd

from analysis.columns import PROTOCOL
from analysis.rows import runs

NAMES = {
    "task_set": "task set",
    "goals": "goals",
    "reward_version": "reward",
    "horizon": "horizon",
    "total_steps": "steps",
    "evaluation": "evaluation",
    "version_metaworld": "Meta-World",
}
"""Protocol columns by the names that tables give them."""


def protocols(frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Each label's protocol: its column by column, as text; empty where unknown."""
    found: dict[str, dict[str, str]] = {}
    for _, run in runs(frame).drop_duplicates("label").iterrows():
        found[str(run["label"])] = {name: text(run.get(name)) for name in PROTOCOL}
    return found


def text(value: object) -> str:
    """A protocol's value: whole numbers without a point, nothing for NaN."""
    if value is None or value != value:
        return ""
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def display(name: str, value: str) -> str | int:
    """A protocol's value for readers: tasks without their version, numbers as numbers."""
    if name == "task_set":
        return value.replace("-v3", "").replace(",", ", ")
    return int(value) if value.isdigit() else value


def comparable(frame: pd.DataFrame) -> list[list[str]]:
    """Labels in groups of one protocol."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for label, protocol in protocols(frame).items():
        groups[tuple(protocol.values())].append(label)
    return list(groups.values())


def differing(protocols: list[dict[str, str]]) -> list[str]:
    """The protocol columns that are not the same in all, which a table of them must show."""
    return [name for name in NAMES if len({protocol.get(name, "") for protocol in protocols}) > 1]


def shared(protocols: list[dict[str, str]]) -> str:
    """The rest in words, for a caption: `goals preset, reward v2, horizon 500`."""
    names = [name for name in NAMES if name not in differing(protocols)]
    known = [(name, protocols[0].get(name, "")) for name in names] if protocols else []
    return ", ".join(f"{NAMES[name]} {display(name, value)}" for name, value in known if value)
