"""Figures of the studies of our own evidence, drawn from made-up rows of their sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import plots
from analysis.figures import curves, evolution, matched, plasticity, scaling, trigger
from analysis.figures.captions import caption
from analysis.frame import algorithms
from analysis.labels import short_names
from analysis.messages import AnalysisError
from analysis.published import published
from analysis.remarks import remarks
from analysis.rows import load, runs
from analysis.scores import success_matrix
from analysis.statistics import iqm_of_runs
from analysis.tables import tables
from tests.analysis.drawn import lines, look, panel_lines
from tests.analysis.own_evidence import write_study


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mt10-small")
    for number in (1, 2, 3, 4, 5):
        write_study(folder, number, seeds=2)
    return folder


def of_studies(folder: Path, *numbers: int) -> pd.DataFrame:
    return load([folder / f"study-{number}" for number in numbers])


def test_study_1_stands_against_one_control(evidence: Path) -> None:
    frame = of_studies(evidence, 1)
    figure, text, *_ = matched.matched(frame, look(frame))
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "mtsac, 0.20M", "the control comes first"
    methods = {"care", "d2r", "film", "mega", "moore", "paco", "softmodules"}
    methods |= {"mtsac combine=cagrad", "mtsac combine=pcgrad"}
    assert {name.removesuffix(", 0.20M") for name in names[1:]} == methods
    scores = success_matrix(frame)
    control = next(k for k in scores if look(frame)[k].name == "mtsac")
    shown = {round(text.get_position()[1]): text.get_text() for text in axes.texts}
    for row, name in enumerate(names[1:], 1):
        label = next(k for k in scores if look(frame)[k].name == name.removesuffix(", 0.20M"))
        difference = iqm_of_runs(scores[label].values) - iqm_of_runs(scores[control].values)
        assert shown[row].startswith(f"{float(difference[0]):+.2f}".replace("-", "−"))
    assert "corrected for 9 comparisons (Holm)" in text
    with pytest.raises(AnalysisError, match="planned: these rows make 9 comparisons, not 5"):
        matched.matched(frame, look(frame), planned=5)


def test_points_of_one_size_stand_in_a_band_around_it(evidence: Path) -> None:
    frame = of_studies(evidence, 1)
    figure, text, *_ = scaling.scaling(frame, look(frame))
    (axes,) = figure.axes
    (band,) = axes.patches
    low, high = band.get_x(), band.get_x() + band.get_width()
    sizes = scaling.sizes(frame).set_index("label")["total_parameters"]
    plain = sizes[[k for k in sizes.index if look(frame)[k].name == "mtsac"]].iloc[0]
    assert np.sqrt(low * high) == pytest.approx(plain, rel=0.03)
    # Of each, the point and the two ends of its interval.
    alone = sorted(
        {float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    )
    assert len(alone) == 9 and low < alone[0] and alone[-1] < high
    # One step apart, but for the place of the plain network, whose line has it.
    steps = np.diff(np.log(alone)) / np.log(1 + scaling.APART)
    assert sorted(steps) == pytest.approx([1] * 7 + [2])
    gap = int(steps.argmax())
    assert alone[gap] * 1.02 < plain < alone[gap + 1] / 1.02
    assert "grey band" in text
    # What is not crowded stands where it is.
    assert scaling.side_by_side({"a": 10.0, "b": 20.0}) == ({"a": 10.0, "b": 20.0}, [])


def test_many_curves_are_drawn_by_algorithm_beside_the_control(evidence: Path) -> None:
    frame = of_studies(evidence, 1)
    figure, text, *_ = curves.learning_curves(frame, look(frame))
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 8 and len(set(titles)) == 8, "two rows of four, and no place empty"
    control = panel_lines(figure, "mtsac")["mtsac"].get_ydata()
    for title in set(titles) - {"mtsac"}:
        own = panel_lines(figure, title)
        assert own["mtsac nearest in size"].get_ydata() == pytest.approx(control)
        assert f"_{title}" in own
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    sizes = frame.drop_duplicates("label").set_index("label")
    plain = next(k for k, own in look(frame).items() if own.name == "mtsac")
    others = [k for k in sizes.index if not str(k).startswith("mtsac")]
    parts = sizes[["actor_parameters", "critic_parameters"]]
    worst = (parts.loc[plain] / parts.loc[others] - 1).abs().to_numpy().max()
    assert 0 < worst < 0.02
    assert f"Grey: the mtsac nearest in size, {worst:.1%} off at the most, in actor" in text


def test_study_2_scales_a_network_alone_and_both(evidence: Path) -> None:
    frame = of_studies(evidence, 1, 2)
    figure = scaling.scaling_apart(frame, look(frame)).figure
    for panel, alone in zip(figure.axes, ("critic", "actor"), strict=True):
        drawn = {c.get_label(): c.lines[0].get_xdata() for c in panel.containers}
        assert set(drawn) == {f"mtsac, {alone} of width 163", "both networks grow"}
        assert [len(x) for x in drawn.values()] == [4, 4]
    own = {c.get_label(): c.lines[0] for panel in figure.axes for c in panel.containers}
    styles = {(line.get_marker(), line.get_linestyle()) for line in own.values()}
    assert len(styles) == len(own) == 3, "one legend serves both panels"
    figure = scaling.scaling(frame, look(frame)).figure
    (line,) = [c for c in figure.axes[0].containers if c.get_label() == "mtsac"]
    assert len(line.lines[0].get_xdata()) == 4, "actor and critic at nearly one width"


def test_study_3_has_a_line_for_each_width_over_the_number_of_tasks(evidence: Path) -> None:
    frame = of_studies(evidence, 1, 3)
    figure = plasticity.plasticity_by_tasks(frame, look(frame)).figure
    assert len(figure.axes) == 6
    for panel in figure.axes:
        drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in panel.containers}
        assert drawn == {f"mtsac, {width} wide": [1, 2, 5, 10] for width in (163, 652)}


def test_study_4_never_averages_over_configurations(evidence: Path) -> None:
    frame = of_studies(evidence, 4)
    figure = evolution.mega_modules(frame, look(frame)).figure
    stage = {k: line for k, line in lines(figure, 0).items() if not k.startswith("_")}
    assert len(stage) == 9
    assert set(stage["mega evolution=False"].get_ydata()) == {3}
    assert set(stage["mega first-stage=8 evolution=False"].get_ydata()) == {8}
    assert stage["mega"].get_ydata()[-1] > 3
    weights, text, *_ = evolution.mega_weights(frame, look(frame))
    assert [axes.get_title() for axes in weights.axes] == ["2 bits a gene", "4 bits a gene"]
    # Nor compares decodings of stacks that were grown in another way.
    compared, others = evolution.alike(frame)
    assert len(set(compared.values())) == len(compared) == 4 and others
    assert "MEGAs that differ in anything else" in text
    drawn = trigger.mega_trigger(frame, look(frame)).figure
    assert [axes.get_xlabel() for axes in drawn.axes if axes.get_xlabel()] == ["criterion"]
    names = [label.get_text() for label in drawn.axes[0].get_xticklabels()]
    assert sorted(names) == ["none", "return", "success"]
    assert not drawn.legends, "the axis names the criteria"


def test_random_weights_are_of_stacks_as_deep_as_the_bred_ones(evidence: Path) -> None:
    frame = of_studies(evidence, 4)
    rows = frame[frame["metric"].astype(str).str.startswith("weight/")]
    rows = rows[rows["env_step"] == rows["env_step"].max()]
    # A slot of k sources has k rows, and counts once.
    assert sum(evolution.slots_of(rows)) == len(rows)


def test_study_5s_networks_are_methods_beside_the_plain_one(evidence: Path) -> None:
    frame = load([*(evidence / "study-1").glob("mtsac-*163*"), evidence / "study-5"])
    names = short_names(algorithms(runs(frame)))
    (d2rs,) = [k for k, name in names.items() if "adam-epsilon=1e-08" in name]
    assert set(names.values()) >= {"mtsac", "mtsac task-weighting=temperature"}
    _, text, *_ = matched.matched(frame, look(frame))
    assert "mtsac has 202,546 parameters" in text
    assert {*matched.controls(frame, look(frame)).values()} == {
        next(k for k, name in names.items() if name == "mtsac")
    }
    ((label, (line,)),) = remarks(frame).items()
    assert label == d2rs
    assert {*line.removeprefix(f"{d2rs}: has ").removesuffix(", too").split(", ")} == {
        *("clip-critics=separately", "max-log-temperature=0.0", "temperature-clip=1.0"),
        *("task-loss-threshold=3000.0", "update-order=simultaneous"),
    }
    assert f"- {line}." in caption("matched", text, frame)
    against = tables(frame, published().iloc[:0], against="mtsac")[0]
    assert against.rows[0][0] == "mtsac"
    assert f"{line}." in against.notes


def test_too_many_configurations_for_a_panel_are_refused(evidence: Path, tmp_path: Path) -> None:
    said: list[str] = []
    frame = of_studies(evidence, 1, 2, 4)
    made, left_out = plots.draw_all(frame, tmp_path, ["profiles"], said.append)
    assert made == []
    assert [title for title, _ in left_out] == ["Performance profiles (MT10, preset goals)"]
    assert "needs at most 12 configurations" in said[0]
