"""What the documents say of the released evidence is what its rows say, to the printed digit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import plots
from analysis.published import published
from analysis.rows import load
from analysis.scores import success_matrix
from analysis.statistics import Estimate, estimate, iqm_of_runs
from analysis.table_formats import Table, markdown, shown
from analysis.tables import tables
from tests.analysis.drawn import look

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "results" / "release" / "mt10-small"
PAGE, README = ((folder / "README.md").read_text() for folder in (RELEASE, ROOT))
FIGURES = {
    "matched": ["study-1"],
    "learning_curves": ["study-1"],
    "heat_map": ["study-1"],
    "scaling": ["study-1", "study-1-further", "study-2"],
    "scaling_apart": ["study-1/mtsac-*", "study-1-further", "study-2"],
    "plasticity_by_tasks": ["study-1", "study-3"],
    "mega_modules": ["study-4"],
    "mega_weights": ["study-4"],
}
"""The folders that each released figure is drawn from."""
BESIDE = ("mean", "median", "IQM over runs × tasks", "optimality gap")
"""Aggregates that stand beside the headline on the page."""
NAMES = {
    "MT-SAC at 1×": "mtsac width=163",
    "D2R": "d2r",
    "MEGA": "mega",
    "Soft Modules": "softmodules",
    "MOORE": "moore",
    "PaCo": "paco",
    "MT-SAC at 4×, in `study-1-further`": "mtsac width=355/341",
    "FiLM, in `study-1-further`": "film",
    "MT-SAC at ¼×, in `study-2`": "mtsac width=69/74",
    "MT-SAC, the actor alone at ¼×, in `study-2`": "mtsac width=69/163",
    "MT-SAC, the critics alone at ¼×, in `study-2`": "mtsac width=163/74",
}
"""How the page calls the configurations of Studies 1 and 2."""

SEVEN = "mtsac adam-epsilon=1e-08 task-weighting=temperature"
WEIGHTED = "mtsac task-weighting=temperature"
STUDY_5 = {
    "MT-SAC": ("mtsac", ""),
    "MT-SAC, trained as D2R and MEGA are": (SEVEN, ""),
    "D2R": ("d2r", SEVEN),
    "MEGA": ("mega", SEVEN),
    "MT-SAC, trained as Soft Modules are": (WEIGHTED, ""),
    "Soft Modules": ("softmodules", WEIGHTED),
}
"""The lines of the page's table: a configuration, and the MT-SAC that is trained as it is."""

STUDY_4 = {
    "mega": "as it is",
    "mega decoding=softmax": "with softmax",
    "mega gene-bits=4": "4 bits a gene",
    "mega gene-bits=4 decoding=softmax": "4 bits a gene, with softmax",
    "mega trigger=none": "at stage 3 throughout",
    "mega evolution=False": "at stage 3 throughout, drawn once",
    "mega first-stage=8": "at stage 8 throughout",
    "mega first-stage=8 evolution=False": "at stage 8 throughout, drawn once",
}
"""How the page calls what has been made of it."""
PAIRS = {
    "genotypes that are bred, or drawn once (at stage 3)": (
        "mega trigger=none",
        "mega evolution=False",
    ),
    "genotypes that are bred, or drawn once (at stage 8)": (
        "mega first-stage=8",
        "mega first-stage=8 evolution=False",
    ),
    "stages that grow from 3, or stay there": ("mega", "mega trigger=none"),
    "stages that grow from 3, or are 8 throughout": ("mega", "mega first-stage=8"),
    "HalfSoftmax, or softmax (2 bits a gene)": ("mega", "mega decoding=softmax"),
    "HalfSoftmax, or softmax (4 bits a gene)": (
        "mega gene-bits=4",
        "mega gene-bits=4 decoding=softmax",
    ),
}
"""The lines of its table there."""


def rows(*folders: str) -> pd.DataFrame:
    return load([path for folder in folders for path in sorted(RELEASE.glob(folder))])


@pytest.fixture(scope="module")
def study_1() -> dict[str, Table]:
    return {
        t.name: t for t in tables(rows("study-1"), published().iloc[:0], against="mtsac", planned=5)
    }


@pytest.fixture(scope="module")
def success() -> dict[str, Estimate]:
    """IQM over seeds of each configuration of Studies 1 and 2."""
    found = success_matrix(rows("study-1*", "study-2"))
    return {label: estimate(iqm_of_runs, scores.values) for label, scores in found.items()}


def lines(table: Table) -> list[str]:
    return [line for line in markdown(table).splitlines() if line.startswith("|")]


def against(frame: pd.DataFrame, control: str) -> dict[str, list[str]]:
    """By name: success, and how it differs from that of a control."""
    found = tables(frame, published().iloc[:0], against=control)[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines(found)]
    return {row[0]: row[3:5] for row in cells}


def beside(table: Table) -> Table:
    """The aggregates that stand on the page, of the whole table."""
    wanted = [table.columns.index(name) for name in ("method", *BESIDE)]
    cells = tuple(tuple(row[i] for i in wanted) for row in table.rows)
    return Table("beside", "", ("method", *BESIDE), cells, ())


def test_tables_in_the_documents_are_those_of_the_rows(study_1: dict[str, Table]) -> None:
    assert "\n".join(lines(study_1["against_control"])) in README
    assert "\n".join(lines(beside(study_1["aggregate"]))) in PAGE
    assert (RELEASE / "per_task.md").read_text() == markdown(study_1["per_task"])


def test_what_could_have_been_seen_is_what_the_documents_say(study_1: dict[str, Table]) -> None:
    notes = " ".join(study_1["against_control"].notes)
    scatter, difference = re.findall(r"scatter by ([\d.]+), .*means of ([\d.]+) among", notes)[0]
    plain = " ".join(README.split())
    assert f"scatter by {float(scatter):.2f}, as those compared do" in plain
    assert f"a true difference of means of {difference}, from" in plain
    assert f"about {difference}; one of a tenth" in " ".join(PAGE.split())


def test_each_seed_on_the_page_is_its_runs() -> None:
    found = success_matrix(rows("study-1*", "study-2"))
    assert set(found) == set(NAMES.values())
    for name, label in NAMES.items():
        scores = found[label]
        assert list(scores.seeds) == sorted(scores.seeds)
        assert f"- {name}: {', '.join(f'{x:.2f}' for x in scores.values.mean(1))}\n" in PAGE, name
    controls = {"adam-epsilon=1e-08": "D2R and MEGA", "adam-epsilon=1e-05": "Soft Modules"}
    for label, scores in success_matrix(rows("study-5")).items():
        line = f"- MT-SAC at 1× as {controls[label.split()[1]]} are trained, in `study-5`: "
        assert line + ", ".join(f"{x:.2f}" for x in scores.values.mean(1)) + "\n" in PAGE
    for scores in success_matrix(rows("study-3")).values():
        tasks = len(scores.tasks)
        line = f"- MT-SAC at 1× on {tasks} task{'s' if tasks > 1 else ''}, in `study-3`: "
        assert line + ", ".join(f"{x:.2f}" for x in scores.values.mean(1)) in PAGE


@pytest.mark.parametrize("widths", ["69/74", "69/163", "163/74", "355/341"])
def test_other_sizes_are_told_as_they_are(widths: str, success: dict[str, Estimate]) -> None:
    one = success[f"mtsac width={widths}"]
    told = f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
    assert told in " ".join(README.split()) and told in " ".join(PAGE.split())


def test_the_other_family_is_told_as_it_is() -> None:
    frame = rows("study-1/mtsac-*", "study-1-further")
    found = tables(frame, published().iloc[:0], against="mtsac width=163", planned=6)[0]
    assert found.name == "against_control" and "\n".join(lines(found)) in PAGE
    less = markdown(found).splitlines()[-len(found.notes) - 2].split("|")[5].strip()
    assert f"{less} higher than with one time" in " ".join(README.split())
    (film,) = [row for row in found.rows if row[0] == "film"]
    assert f"other family](results/release/mt10-small#what-has-been-made): {shown(film[3])}." in (
        " ".join(README.split())
    )
    (difference,) = re.findall(r"a difference of means of ([\d.]+) among", " ".join(found.notes))
    assert f"a difference of means of {difference} would have been seen" in " ".join(PAGE.split())


def test_where_success_differs_and_how_far_mega_grew() -> None:
    frame = rows("study-1")
    found = list(success_matrix(frame).values())
    windows = [index for index, task in enumerate(found[0].tasks) if task.startswith("window")]

    def share(*groups: np.ndarray) -> float:
        """Of the variance of task means what covaries with the windows' part of them."""
        every = [np.stack([values[:, windows].sum(1) / 10, values.mean(1)]) for values in groups]
        together = np.concatenate([own - own.mean(1, keepdims=True) for own in every], 1)
        (_, both), (_, whole) = together @ together.T
        return float(both / whole)

    assert len(windows) == 2
    told = f"{share(np.concatenate([one.values for one in found])):.0%}".replace("%", " %")
    assert f"these two make {told} of the variance of the thirty runs' means" in " ".join(
        PAGE.split()
    )
    assert share(*(one.values for one in found)) == pytest.approx(0.5, abs=0.03)
    stages = frame[(frame["metric"] == "stage") & (frame["env_step"] == 500_000)]["value"]
    assert f"{(stages == 4).sum()} of its {len(stages)} populations" in PAGE
    assert set(stages) == {3, 4}


def test_study_5_is_told_as_it_is() -> None:
    frame = rows(*(f"study-1/{name}-*" for name in ("mtsac", "d2r", "mega", "softm*")), "study-5")

    plain = against(frame, "mtsac")
    for name, (label, control) in STUDY_5.items():
        trained_alike = against(frame, control)[label][1] if control else ""
        line = " | ".join([name, *plain[label], trained_alike])
        assert f"| {line} |\n" in PAGE, line


def test_study_4_is_told_as_it_is() -> None:
    frame = rows("study-4")
    looks = look(frame)
    for label, scores in success_matrix(frame).items():
        line = f"- MEGA of 8 modules, {STUDY_4[looks[label].name]}, in `study-4`: "
        assert line + ", ".join(f"{x:.2f}" for x in scores.values.mean(1)) + "\n" in PAGE
    for name, (one, other) in PAIRS.items():
        found = against(frame, other)
        cells = [found[one][0], found[other][0], found[one][1]]
        assert f"| {name} | {' | '.join(cells)} |\n" in PAGE
        assert found[one][1] in " ".join(README.split())
    last = frame[frame["env_step"] == frame["total_steps"]]
    means = last.groupby(["label", "metric"], observed=True)["value"].mean()
    ended = {looks[str(label)].name: means[label] for label in means.index.unique("label")}
    grown, kept, whole = ended["mega"], ended["mega trigger=none"], ended["mega first-stage=8"]
    said = f"{grown['stage']:.1f} on average, with {grown['modules_in_use']:.1f} modules in use"
    plain = " ".join(PAGE.split())
    said += f"; at stage 3 throughout {kept['modules_in_use']:.1f} are"
    assert f"end at {said}, at stage 8 throughout {whole['modules_in_use']:.1f} (" in plain
    four = ended["mega gene-bits=4"]
    said = f"{four['stage']:.1f}, with {four['modules_in_use']:.1f} modules in use."
    assert f"With 4 bits a gene stages end at {said}" in plain


def test_study_3_is_told_as_it_is() -> None:
    frame = rows("study-1/mtsac-*", "study-3")
    last = frame[frame["env_step"] == frame["total_steps"]]
    measured = last.groupby(["tasks", "metric"], observed=True)["value"].mean()
    for tasks, name in {1: "one", 2: "two", 5: "five", 10: "ten"}.items():
        cells = [
            f"{100 * found:.0f} %" if kind == "dormant_0.1" else f"{found:.0f}"
            for kind in ("dormant_0.1", "srank", "effective_rank")
            for network in ("actor", "critic_0")
            for found in [measured[tasks, f"plasticity/{network}/{kind}/pooled"]]
        ]
        assert f"| {name} | {' | '.join(cells)} |\n" in PAGE
        if tasks in (1, 10):
            assert all(cell in README for cell in cells[:2])


@pytest.mark.parametrize("name", FIGURES)
def test_captions_are_those_of_figures_drawn_now(name: str, tmp_path: Path) -> None:
    planned = 5 if name == "matched" else 0
    made, left_out = plots.draw_all(
        rows(*FIGURES[name]), tmp_path, [name], lambda _: None, dpi=20, pdf=False, planned=planned
    )
    assert not left_out and len(made) == 1
    assert made[0].with_suffix(".md").read_text() == (RELEASE / f"{name}.md").read_text()
