"""Every figure that the rows support, as PNG and PDF with a caption file, from the rows.

Rows of different benchmarks (task set, goals, reward, horizon, Meta-World) are never drawn into one
figure, but where the number of tasks is the axis. A figure that the rows do not support is left out
with a line that says what it needs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import (
    comparison,
    curves,
    evolution,
    extensions,
    matched,
    plasticity,
    scaling,
    trigger,
)
from analysis.figures.captions import caption
from analysis.figures.style import (
    Drawn,
    Look,
    Unsupported,
    as_drawn,
    looks,
    named,
    shortened,
    theme,
)
from analysis.file_names import TASKS, file_names, task_set_name
from analysis.frame import runs
from analysis.messages import AnalysisError, choose
from analysis.protocol import NAMES, display, protocols, scored_tasks, text

Key = tuple[str, ...]
Draw = Callable[[pd.DataFrame, Mapping[str, Look]], Drawn]

FIGURES: dict[str, Draw] = {
    "learning_curves": curves.learning_curves,
    "task_curves": curves.task_curves,
    "aggregates": comparison.aggregates,
    "scaling": scaling.scaling,
    "scaling_apart": scaling.scaling_apart,
    "matched": matched.matched,
    "profiles": comparison.profiles,
    "improvement": comparison.improvement,
    "heat_map": comparison.heat_map,
    "plasticity_by_width": plasticity.plasticity_by_width,
    "mega_modules": evolution.mega_modules,
    "mega_weights": evolution.mega_weights,
    "mega_diversity": evolution.mega_diversity,
    "mega_trigger": trigger.mega_trigger,
    "mega_critics": extensions.mega_critics,
    "mega_gradients": extensions.mega_gradients,
    "mega_collapse": extensions.mega_collapse,
    "d2r_routes": evolution.d2r_routes,
}
"""By name, those of one benchmark."""
ACROSS: dict[str, Draw] = {"plasticity_by_tasks": plasticity.plasticity_by_tasks}
"""Those whose axis is the number of tasks: task sets stand beside one another."""
TITLES = {
    "learning_curves": "Success over training",
    "task_curves": "Success over training, by task",
    "aggregates": "Final success",
    "scaling": "Success against parameters",
    "scaling_apart": "Actor or critic? Success against the parameters of each",
    "matched": "Methods against plain networks of the same size",
    "profiles": "Performance profiles",
    "improvement": "Probability of improvement",
    "heat_map": "Final success, by task",
    "plasticity_by_width": "Dormant units and ranks against width",
    "mega_modules": "Modules that MEGA uses",
    "mega_weights": "Mixing weights of MEGA's genotypes",
    "mega_diversity": "Diversity of MEGA's populations",
    "mega_trigger": "The trigger of MEGA's growth",
    "mega_critics": "MEGA with bred critics",
    "mega_gradients": "MEGA with genotypes that learn",
    "mega_collapse": "Collapse of MEGA's populations",
    "d2r_routes": "Routes of D2R",
    "plasticity_by_tasks": "Dormant units and ranks against the number of tasks",
}
"""What the figures show, in words."""
BENCHMARK = ("task_set", "goals", "reward_version", "horizon", "version_metaworld")
"""Columns whose values say what was solved; runs that only differ in length share a figure."""
DPI = 220
METRICS = (
    *("success", "plasticity/", "stage", "modules_in_use", "population_", "elite_clusters"),
    *("weight/", "warning/", "critic_", "genotype_shift", "route_entropy"),
)
"""What of the rows the figures are drawn from."""


def draw_all(
    frame: pd.DataFrame,
    out: Path,
    only: Sequence[str] = (),
    say: Callable[[str], None] = print,
    dpi: float = DPI,
    pdf: bool = True,
    planned: int = 0,
    control: str = "",
) -> tuple[list[Path], list[tuple[str, str]]]:
    """Draws the figures into a folder; returns the PNG files, and the titles of those that are left
    out with what they need. `say` gets a line for each. `planned` comparisons with the plain
    network of the label `control`, or with each without one, are corrected for; 0 is as many as
    there are.

    Raises AnalysisError for a name in `only` that no figure has, and for more comparisons than
    planned.
    """
    check_names(only)
    out.mkdir(parents=True, exist_ok=True)
    look = looks(frame)
    made: list[Path] = []
    left_out: list[tuple[str, str]] = []
    for name, draw, rows, where, words in wanted(
        frame, only, partial(matched.matched, planned=planned, control=control)
    ):
        title = f"{name}-{where}" if where else name
        try:
            with matplotlib.rc_context(theme()):
                own = shortened(named(look, rows))
                own = {k: replace(v, name=as_drawn(v.name)) for k, v in own.items()}
                drawn = draw(rows, own)
                made.append(save(drawn.figure, out / title, dpi, pdf))
        except Unsupported as reason:
            say(f"{title}: left out: {reason}")
            left_out.append((words, str(reason)))
            continue
        shown = rows[rows["label"].isin(list(drawn.labels))]
        described = caption(words, drawn.text, shown, drawn.intervals)
        (out / f"{title}.md").write_text(described, encoding="utf-8")
        say(f"{title}: {made[-1]}")
    return made, left_out


def draw_one(frame: pd.DataFrame, out: Path, only: Sequence[str], planned: int = 0) -> None:
    """Draws a single figure to a PNG file, its PDF and caption beside it.

    Raises AnalysisError where the rows and `only` do not leave exactly one figure.
    """
    with tempfile.TemporaryDirectory() as folder:
        made, _ = draw_all(frame, Path(folder), only, say=lambda _: None, planned=planned)
        if len(made) != 1:
            raise AnalysisError(
                f"out: {out} is one file, and these rows make {len(made)} figures; name a folder, "
                "or one figure with --only"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".pdf", ".md"):
            drawn = made[0].parent / (made[0].name.removesuffix(".png") + suffix)
            shutil.copyfile(drawn, out if suffix == ".png" else out.with_suffix(suffix))
    print(out)


def check_names(only: Sequence[str]) -> None:
    """Raises AnalysisError for a name that no figure has."""
    for name in only:
        if name not in FIGURES | ACROSS:
            raise AnalysisError(choose("only", name, FIGURES | ACROSS))


def wanted(
    frame: pd.DataFrame, only: Sequence[str], matched: Draw
) -> Iterator[tuple[str, Draw, pd.DataFrame, str, str]]:
    """Each figure to draw: its name, function, rows, benchmark as part of a file's name, title."""
    figures = FIGURES | {"matched": matched}
    for where, words, rows in benchmarks(frame):
        for name, draw in figures.items():
            if not only or name in only:
                yield name, draw, rows, where, TITLES[name] + (f" ({words})" if words else "")
    for name, draw in ACROSS.items():
        if not only or name in only:
            yield name, draw, frame, "", TITLES[name]


def benchmarks(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each benchmark by a name for files, and in words for a title, and its rows."""
    groups = labels_by_benchmark(frame)
    telling = differing(groups)
    names = file_names([(as_slug(key, telling), repr(key)) for key in groups])
    for name, (key, labels) in zip(names, groups.items(), strict=True):
        rows = frame[frame["label"].isin(labels)]
        yield name, in_words(rows, key, telling), rows


def labels_by_benchmark(frame: pd.DataFrame) -> dict[Key, list[str]]:
    """The labels of each benchmark, by its values of the columns `BENCHMARK`, as text.

    Where the task set is unknown, configurations that were scored on other tasks are apart.
    """
    tasks, known = scored_tasks(frame), protocols(frame)
    groups: dict[Key, list[str]] = defaultdict(list)
    for label, protocol in known.items():
        task_set = protocol["task_set"] or ",".join(tasks[label])
        groups[task_set, *(protocol[name] for name in BENCHMARK[1:])].append(label)
    return groups


def differing(keys: Iterable[Key]) -> list[str]:
    """The columns of `BENCHMARK` in which benchmarks with these values differ."""
    columns = zip(BENCHMARK, zip(*keys, strict=True), strict=True)
    return [column for column, values in columns if len(set(values)) > 1]


def as_slug(key: Key, telling: Sequence[str]) -> str:
    """A benchmark for files: task set and goals, and what else tells it from the others."""
    shown = {"task_set", "goals", *telling}
    values = zip(key, BENCHMARK, strict=True)
    # An unknown value that tells apart is named, too: or other rows would take this name.
    return "-".join(
        slug(value, column)
        for value, column in values
        if column in telling or (value and column in shown)
    )


def slug(value: str, column: str) -> str:
    """A column's value as part of a file's name."""
    if not value:
        return f"unknown_{column}"
    if column == "task_set" and "," in value:
        return task_set_name(value.split(","))
    return {"horizon": f"h{value}", "version_metaworld": f"metaworld{value}"}.get(column, value)


def shown_set(task_set: str) -> str:
    """A task set for readers: its name, its few tasks, or how many they are."""
    tasks = task_set.split(",")
    return str(display("task_set", task_set)) if len(tasks) < TASKS else f"{len(tasks)} tasks"


def in_words(rows: pd.DataFrame, key: Key, telling: Sequence[str]) -> str:
    """A benchmark in a title: its tasks and goals, and what else tells it from others that are
    drawn along with it.
    """
    value = dict(zip(BENCHMARK, key, strict=True))
    if "task_set" not in telling:
        # Tasks that were scored stand in for an unknown task set only where they tell it apart.
        value["task_set"] = text(runs(rows)["task_set"].iloc[0])
    parts = [shown_set(value["task_set"]), value["goals"] and f"{value['goals']} goals"]
    parts += [
        f"{NAMES[column]} {value[column] or 'unknown'}"
        for column in telling
        if column not in ("task_set", "goals")
    ]
    return ", ".join(part for part in parts if part)


def save(figure: Figure, path: Path, dpi: float, pdf: bool) -> Path:
    """Writes PNG and perhaps PDF, the same bytes for the same rows; returns the PNG."""
    # Not with_suffix: a name may hold a dot.
    png = path.parent / f"{path.name}.png"
    figure.savefig(png, dpi=dpi, metadata={"Software": None})
    if pdf:
        nothing = {"CreationDate": None, "Creator": None, "Producer": None}
        figure.savefig(path.parent / f"{path.name}.pdf", metadata=nothing)
    return png
