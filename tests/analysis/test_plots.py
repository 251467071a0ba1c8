"""Every figure that the rows support: files, titles, what is left out, and the command."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from analysis import plots
from analysis.cli import main
from analysis.figures.style import Look, shortened
from analysis.rows import load
from tests.analysis.simulated import questions

RELEASED = Path(__file__).parents[2] / "results" / "release" / "easy3"
OF_SUCCESS = ("matched", "scaling", "scaling_apart", "aggregates", "heat_map")
OF_PLASTICITY = ("plasticity_by_width", "plasticity_by_tasks")
TWO = ("d2r", "mtsac tasks=MT10 width=512")


def test_every_figure_has_picture_pdf_and_a_caption_with_runs_and_protocol(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    said: list[str] = []
    made, _ = plots.draw_all(rows, tmp_path, ["heat_map", "matched"], said.append)
    assert [path.name for path in made] == [
        "matched-MT10-preset.png",
        "heat_map-MT10-preset.png",
        "heat_map-MT25-preset.png",
    ]
    assert any("matched-MT25-preset: left out: needs an mtsac run" in line for line in said)
    for path in made:
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / path.name.replace(".png", ".pdf")).read_bytes()[:4] == b"%PDF"
    caption = (tmp_path / "heat_map-MT25-preset.md").read_text()
    for part in ("2 runs (seeds 0, 1)", "50,000,000 env steps", "horizon: 500", "goals: preset"):
        assert part in caption
    assert "Fewer than 5 seeds (2 seeds)" in caption


def test_the_same_rows_make_the_same_bytes(rows: pd.DataFrame, tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        plots.draw_all(rows, folder, ["learning_curves"], lambda _: None)
        names = sorted(folder.iterdir())
        found.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in names])
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_benchmarks_are_never_drawn_into_one_figure(rows: pd.DataFrame) -> None:
    parts = {name: part for name, _, part in plots.benchmarks(rows)}
    assert set(parts) == {"MT10-preset", "MT25-preset"}
    assert all(part["task_set"].nunique() == 1 for part in parts.values())
    assert sum(map(len, parts.values())) == len(rows)


def test_all_figures_of_a_study_are_drawn(rows: pd.DataFrame, tmp_path: Path) -> None:
    asked = ["mega_trigger", "mega_critics", "mega_gradients", "mega_collapse"]
    paths, _ = plots.draw_all(rows, tmp_path, dpi=40)
    more, _ = plots.draw_all(load([questions(tmp_path / "rows")]), tmp_path, asked, dpi=40)
    made = {p.name.rpartition("-MT")[0] or p.stem for p in paths + more}
    assert made == set(plots.FIGURES | plots.ACROSS)


def test_figures_of_controls_are_left_out_or_drawn_without_one(tmp_path: Path) -> None:
    frame = load([questions(tmp_path / "rows")])
    assert (frame["algorithm"] == "mega").all() and frame["label"].nunique() > 6
    names = ["matched", "learning_curves"]
    made, left_out = plots.draw_all(frame, tmp_path, names, lambda _: None, dpi=40, pdf=False)
    assert [path.name for path in made] == ["learning_curves-MT10-preset.png"]
    assert "needs an mtsac run" in left_out[0][1]


@pytest.mark.parametrize(
    ("without", "drawn"), [(("MT25",), (*OF_SUCCESS, *OF_PLASTICITY)), (("MT10", "MT25"), ())]
)
def test_a_benchmark_without_success_costs_its_own_figures_alone(
    without: tuple[str, ...], drawn: tuple[str, ...], rows: pd.DataFrame, tmp_path: Path
) -> None:
    lost = rows["task_set"].isin(without) & rows["metric"].isin(["success", "success/mean"])
    made, left_out = plots.draw_all(rows[~lost], tmp_path, drawn, lambda _: None, dpi=40, pdf=False)
    names = {path.stem for path in made}
    assert {"plasticity_by_width-MT10-preset", "plasticity_by_tasks"} <= names
    assert ("matched-MT10-preset" in names) == ("MT10" not in without)
    needs = dict(left_out)
    for name in OF_SUCCESS:
        assert "success" in needs[f"{plots.TITLES[name]} (MT25, preset goals)"]


# Titles ----------------------------------------------------------------------------------------


def headings(frame: pd.DataFrame, folder: Path) -> list[str]:
    """The titles of its heat maps."""
    made, _ = plots.draw_all(frame, folder, ["heat_map"], lambda _: None, dpi=40, pdf=False)
    return [path.with_suffix(".md").read_text().splitlines()[0] for path in made]


def test_titles_say_what_tells_benchmarks_apart_and_only_that(
    mt10: pd.DataFrame, tmp_path: Path
) -> None:
    one = mt10[mt10["label"].isin(TWO)].astype({"reward_version": object})
    assert headings(one, tmp_path) == ["# Final success, by task (MT10, preset goals)"]
    other = one.assign(horizon=one["horizon"].mask(one["label"] == "d2r", 200))
    assert headings(other, tmp_path) == [
        "# Final success, by task (MT10, preset goals, horizon 200)",
        "# Final success, by task (MT10, preset goals, horizon 500)",
    ]
    other.loc[other["label"] == "d2r", "reward_version"] = ""
    assert headings(other, tmp_path) == [
        "# Final success, by task (MT10, preset goals, reward unknown, horizon 200)",
        "# Final success, by task (MT10, preset goals, reward v2, horizon 500)",
    ]
    # No other rows take the name that these would have alone.
    assert [name for name, _, _ in plots.benchmarks(other)] == [
        "MT10-preset-unknown_reward_version-h200",
        "MT10-preset-v2-h500",
    ]


def test_titles_name_tasks_of_unknown_sets_where_these_tell_them_apart(
    mt10: pd.DataFrame, tmp_path: Path
) -> None:
    few = ["door-open-v3", "push-v3", "reach-v3"]
    frame = mt10[mt10["task"].isin([*few, "pick-place-v3"])].astype({"task_set": object})
    frame["task_set"] = ""
    shorter = frame[(frame["label"] == TWO[0]) & frame["task"].isin(few)]
    both = pd.concat([shorter, frame[frame["label"] == TWO[1]]])
    assert headings(both, tmp_path) == [
        "# Final success, by task (door-open, push, reach, preset goals)",
        "# Final success, by task (4 tasks, preset goals)",
    ]
    assert headings(shorter, tmp_path) == ["# Final success, by task (preset goals)"]


# The command -----------------------------------------------------------------------------------


def test_the_released_curve_is_drawn_by_its_command(tmp_path: Path) -> None:
    out = tmp_path / "easy3.png"
    assert main(["plots", str(RELEASED), "--only", "learning_curves", "--out", str(out)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["easy3.md", "easy3.pdf", "easy3.png"]
    assert "mega: 1 run (seed 0)" in (tmp_path / "easy3.md").read_text()


@pytest.mark.parametrize("name", ["x.pdf", "x.SVG"])
def test_a_figure_is_asked_for_as_a_png(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plots", str(RELEASED), "--out", str(tmp_path / name)]) == 2
    assert f"{name} is no folder; name one, or a .png" in capsys.readouterr().err


def test_long_words_lose_their_middle_where_names_stay_apart() -> None:
    long = "x" * 30
    names = {"a": f"{long}1{long}", "b": f"{long}2{long}", "c": f"mega {'y' * 50} z", "d": "mtsac"}
    looks = {label: Look("k", "-", "o", name) for label, name in names.items()}
    found = {label: own.name for label, own in shortened(looks).items()}
    assert found == {**names, "c": f"mega {'y' * 18}…{'y' * 18} z"}
    names = {str(i): f"Soft_of_ours_lr3e-4_depth{i}_layer_norm_new_v2" for i in range(3)}
    looks = {label: Look("k", "-", "o", name) for label, name in names.items()}
    found = [own.name for own in shortened(looks).values()]
    assert found == [f"Soft_of_o…depth{i}…rm_new_v2" for i in range(3)]


def test_one_file_cannot_hold_several_figures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = ["--only", "learning_curves", "heat_map"]
    assert main(["plots", str(RELEASED), *names, "--out", str(tmp_path / "x.png")]) == 2
    assert "these rows make 2 figures" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
