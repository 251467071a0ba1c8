"""What the report shows, as plain data: a function of the rows and of what lies beside them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons import Comparison, corrected_for
from analysis.figures.captions import protocol
from analysis.figures.style import Look, looks, named
from analysis.frame import algorithms, runs
from analysis.labels import short_names
from analysis.parquet_rows import configuration
from analysis.plots import benchmarks
from analysis.scores import Curves, curves
from analysis.statistics import AGGREGATES, Array, band
from analysis.study import MOST_AT_ONCE, Configuration, Study, compared, label_of, seen, study
from analysis.tables import aggregates, few

POINTS = 120
"""Points that a curve is thinned to."""
FILM_BYTES = 24_000_000
"""What all films together may add to the report."""


def payload(frame: pd.DataFrame, title: str, against: str = "", planned: int = 0) -> dict[str, Any]:
    """Everything but the figures; `against` and `planned` as in `analysis.tables.tables`."""
    notes: list[str] = []
    look = looks(frame)
    names = short_names(algorithms(runs(frame)))
    parts = [(name, rows, study(rows)) for name, _, rows in benchmarks(frame)]
    scored = [one for _, _, found in parts for one in found.configurations]
    control = label_of(against, names, scored)
    shown = [benchmark(name, rows, found, look, control, planned) for name, rows, found in parts]
    scores = {run: own for part in shown for run, own in part.pop("scores").items()}
    films = Films(notes)
    return {
        "title": title,
        "control": control,
        "benchmarks": shown,
        "runs": [a_run(str(name), row, scores, films) for name, row in runs(frame).iterrows()],
        "notes": notes,
    }


def benchmark(
    name: str,
    rows: pd.DataFrame,
    found: Study,
    look: Mapping[str, Look],
    control: str,
    planned: int,
) -> dict[str, Any]:
    """One benchmark: its protocol, configurations, curves and comparisons."""
    own = named(look, rows)
    configurations = found.configurations
    table = runs(rows)
    tasks = list(dict.fromkeys(t for one in configurations for t in one.final.tasks if t))
    pairs = compared(found.groups, control, planned)
    sentences = [replace(c, a=own[c.a].name, b=own[c.b].name).sentence() for c in pairs]
    for group in found.groups:
        sentences += seen(group, pairs, control, planned)
    return {
        "name": name,
        "protocol": [
            *protocol(table),
            *(line for lines in found.remarks.values() for line in lines),
            *few(found),
        ],
        "members": [str(run) for run in table.index],
        "tasks": tasks,
        "configurations": [configuration_row(one, own[one.label], table) for one in configurations],
        "curves": {one.label: agent_curve(one.curve) for one in configurations if one.curve},
        "taskCurves": task_curves(rows, tasks),
        "comparisons": sentences,
        "compared": how_compared(found, control, pairs, planned),
        "scores": {
            run: dict(zip(one.final.tasks, row.tolist(), strict=True))
            for one in configurations
            for run, row in zip(one.final.runs, one.final.values, strict=True)
        },
    }


def how_compared(found: Study, control: str, pairs: list[Comparison], planned: int) -> str:
    """Which pairs are compared, in words, and what their p-values are corrected for."""
    if control:
        return f"Is one better than the control? Corrected for {corrected_for(pairs, planned)}"
    made = len(pairs)
    if any(len(group) > MOST_AT_ONCE for group in found.groups):
        return (
            f"Is one better? {made} comparisons, each with the best, which these scores chose; "
            "corrected for all pairs"
        )
    return f"Is one better? {made} comparisons, every pair" if made != 1 else "Is one better?"


def configuration_row(one: Configuration, look: Look, table: pd.DataFrame) -> dict[str, Any]:
    """What the summary table has of one configuration."""
    label, scores = one.label, one.final
    own = table[table["label"] == label]
    results = dict(zip(AGGREGATES, aggregates(scores), strict=True))
    return {
        "label": label,
        "name": look.name,
        "algorithm": str(own["algorithm"].iloc[0]),
        "colour": look.colour,
        "dash": dashes(look.dash),
        "runs": len(scores.runs),
        "aggregates": {
            name: [number(e.value), number(e.low), number(e.high)] if e else [None] * 3
            for name, e in results.items()
        },
        "parameters": [
            number(own[f"{part}_parameters"].iloc[0]) for part in ("actor", "critic", "total")
        ],
        "steps": sorted({int(step) for step in scores.steps}),
        "tasks": dict(zip(scores.tasks, rounded(scores.sample.mean(0)), strict=True))
        if scores.per_task
        else {},
    }


def agent_curve(found: Curves) -> dict[str, Any]:
    """Mean success over training: IQM over seeds, its band, each run."""
    thin = thinned(found)
    value, low, high = band(thin.values)
    return {
        "steps": thin.steps.tolist(),
        "value": rounded(value),
        "low": rounded(low),
        "high": rounded(high),
        "runs": [rounded(run) for run in thin.values],
    }


def task_curves(rows: pd.DataFrame, tasks: list[str]) -> dict[str, Any]:
    """Success over training by task and label: mean over runs, and their least and greatest."""
    wanted = rows[(rows["metric"] == "success") & (rows["task"] != "")]
    shown: dict[str, Any] = {}
    for task, own in wanted.groupby("task", observed=True, sort=False):
        if str(task) not in tasks:
            continue
        found = {label: thinned(c) for label, c in curves(own, "success", str(task)).items()}
        shown[str(task)] = {
            label: {
                "steps": c.steps.tolist(),
                "value": rounded(c.values.mean(0)),
                "low": rounded(c.values.min(0)),
                "high": rounded(c.values.max(0)),
                "runs": [],
            }
            for label, c in found.items()
        }
    return shown


def thinned(found: Curves) -> Curves:
    """A curve at evenly chosen steps of its own, the last one among them."""
    keep = np.unique(np.linspace(0, len(found.steps) - 1, POINTS).round().astype(int))
    return Curves(found.steps[keep], found.values[:, keep], found.seeds)


def a_run(
    name: str, row: pd.Series[Any], scores: Mapping[str, Any], films: Films
) -> dict[str, Any]:
    """One run: where it is from, its configuration and provenance, scores and films."""
    source = Path(str(row["source"]))
    folder = source.parent
    own = source.name == "rows.parquet" and source.is_file()
    tasks = scores.get(name, {})
    return {
        "run": name,
        "label": str(row["label"]),
        "seed": int(row["seed"]),
        "source": str(source),
        "success": number(float(np.mean(list(tasks.values()))) if tasks else math.nan),
        "tasks": {task: number(value) for task, value in tasks.items()},
        "config": finite(configuration(source)),
        "provenance": stored(folder / "provenance.json") if own else None,
        "rows": {
            key: plain(value)
            for key, value in row.items()
            if key not in ("label", "source") and plain(value) is not None
        },
        "films": films.of(folder, str(row["label"])) if own else {},
        "folder": str(folder) if own else "",
    }


class Films:
    """The films beside the rows: of one run a configuration, up to a size."""

    def __init__(self, notes: list[str]) -> None:
        self.notes, self.left = notes, FILM_BYTES
        self.shown: set[str] = set()

    def of(self, folder: Path, label: str) -> dict[str, Any]:
        """A run's films by task, with how each episode went; empty where others stand for it."""
        described = stored(folder / "film" / "film.json")
        entries = described.get("tasks") if isinstance(described, dict) else None
        if not isinstance(entries, dict) or label in self.shown:
            return {}
        self.shown.add(label)
        found = {}
        for task, entry in entries.items():
            if not isinstance(entry, dict):
                continue
            path = folder / "film" / f"{task}.webp"
            size = path.stat().st_size * 4 // 3 if path.is_file() else 0
            if not size:
                continue
            if size > self.left:
                self.notes.append(f"films left out of {folder}: {FILM_BYTES / 1e6:.0f} MB are full")
                break
            self.left -= size
            got = entry.get("return")
            found[task] = {
                "image": data_uri(path, "image/webp"),
                "success": bool(entry.get("success")),
                "return": number(got) if isinstance(got, int | float) else None,
            }
        return found


def data_uri(path: Path, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def stored(path: Path) -> Any:
    """A JSON file's contents, None where there is none that can be read."""
    try:
        return finite(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None


def finite(value: Any) -> Any:
    """Nested data with infinities and NaN, which JSON does not have, as text."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> Any:
    """A cell as JSON has it; None where it is empty."""
    if isinstance(value, int | float | np.number):
        return number(float(value))
    return str(value) or None


def number(value: float) -> float | int | None:
    """A number that JSON has: None for NaN and infinities, whole where it is."""
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 4)


def rounded(values: Array) -> list[float | int | None]:
    """Numbers to four digits, None where there is none."""
    return [number(value) for value in values.tolist()]


def dashes(dash: Any) -> str:
    """A line style as SVG has it."""
    return "" if dash == "-" else " ".join(f"{part * 1.5:g}" for part in dash[1])
