"""Figures show what the rows say: numbers are read back from what was drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis import plots
from analysis.cli import main
from analysis.figures import comparison, curves, evolution, matched, plasticity, scaling, trigger
from analysis.figures.captions import INTERVAL, caption
from analysis.figures.error_bars import bars
from analysis.figures.style import KNOWN, Look, Unsupported, colours, looks, named
from analysis.frame import algorithms
from analysis.labels import short_names
from analysis.messages import AnalysisError
from analysis.published import published
from analysis.remarks import remarks
from analysis.rows import load, runs
from analysis.scores import success_matrix
from analysis.statistics import Estimate, iqm_of_runs
from analysis.tables import tables
from tests.analysis.own_evidence import write_study
from tests.analysis.simulated import Simulated, questions, study, write

RELEASED = Path(__file__).parents[2] / "results" / "release" / "easy3"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return load([study(tmp_path_factory.mktemp("study"), seeds=2)])


@pytest.fixture(scope="module")
def mt10(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["task_set"] == "MT10"]


def look(frame: pd.DataFrame) -> dict[str, Look]:
    return named(looks(frame), frame)


def lines(figure: Figure, panel: int = 0) -> dict[str, Any]:
    found = figure.axes[panel].get_lines()
    return {str(line.get_label()): line for line in found}


def panel_lines(figure: Figure, title: str) -> dict[str, Any]:
    (index,) = [i for i, axes in enumerate(figure.axes) if axes.get_title() == title]
    return lines(figure, index)


def test_a_curve_is_the_iqm_over_seeds_of_the_rows(mt10: pd.DataFrame) -> None:
    figure = curves.learning_curves(mt10, look(mt10)).figure
    of = mt10[(mt10["label"] == "d2r") & (mt10["metric"] == "success/mean")]
    by_step = of.groupby("env_step")["value"].mean()  # of two runs the IQM is the mean
    drawn = panel_lines(figure, "d2r")["_d2r"]
    assert drawn.get_xdata().tolist() == by_step.index.tolist()
    assert drawn.get_ydata() == pytest.approx(by_step.to_numpy())


def test_a_heat_map_holds_the_final_success_of_each_task(mt10: pd.DataFrame) -> None:
    figure = comparison.heat_map(mt10, look(mt10)).figure
    cells = np.asarray(figure.axes[0].collections[0].get_array()).reshape(10, -1)
    columns = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    last = mt10[(mt10["metric"] == "success") & (mt10["env_step"] == mt10["env_step"].max())]
    own = last[(last["label"] == "d2r") & (last["task"] == "push-v3")]
    tasks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert cells[tasks.index("push"), columns.index("d2r")] == pytest.approx(own["value"].mean())


def test_aggregates_stand_beside_the_names_of_their_configurations(mt10: pd.DataFrame) -> None:
    axes = comparison.aggregates(mt10, look(mt10)).figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    marks = {line.get_ydata()[0]: line for line in axes.lines if line.get_marker() == "|"}
    found = success_matrix(mt10)
    assert len(marks) == len(found)
    for label, scores in found.items():
        (x,) = marks[names.index(look(mt10)[label].name)].get_xdata()
        assert x == pytest.approx(iqm_of_runs(scores.values)[0])


def test_aggregates_of_whole_agents_are_none_over_tasks(tmp_path: Path) -> None:
    lines = [f"{name},MT10,{seed},success,100,0.{seed + 3}" for name in "ab" for seed in range(3)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["exp_name,env_name,seed,metric,env_step,value", *lines]) + "\n")
    frame = load([path])
    drawn = comparison.aggregates(frame, look(frame))
    assert [axes.get_title() for axes in drawn.figure.axes] == ["IQM\nover seeds", "mean"]
    assert "Whole agents alone" in drawn.text


def test_points_of_scaling_are_the_final_success(mt10: pd.DataFrame) -> None:
    figure = scaling.scaling(mt10, look(mt10)).figure
    (line,) = [c for c in figure.axes[0].containers if c.get_label() == "mtsac"]
    own = mt10[(mt10["algorithm"] == "mtsac") & (mt10["actor_width"] == mt10["critic_width"])]
    scores, sizes = success_matrix(own), own.drop_duplicates("label").set_index("label")
    of = {sizes["total_parameters"][label]: s.values for label, s in scores.items()}
    for x, y in zip(*line.lines[0].get_data(), strict=True):
        assert y == pytest.approx(iqm_of_runs(of[x])[0])


def test_methods_stand_at_their_success_beside_the_controls(mt10: pd.DataFrame) -> None:
    figure = matched.matched(mt10, look(mt10)).figure
    (axes,) = figure.axes
    points = sorted(tuple(c.lines[0].get_xydata()[0][::-1]) for c in axes.containers)
    names = [text.get_text().rpartition(",")[0] for text in axes.get_yticklabels()]
    of = {look(mt10)[label].name: s.values for label, s in success_matrix(mt10).items()}
    assert [x for _, x in points] == pytest.approx([iqm_of_runs(of[name])[0] for name in names])


def test_error_bars_end_where_intervals_do_and_are_never_negative() -> None:
    found = [Estimate(0.5, 0.4, 0.7), Estimate(0.5, np.nan, np.nan), Estimate(0.5, 0.6, 0.7)]
    assert bars(found) == pytest.approx(np.array([[0.1, 0, 0], [0.2, 0, 0.2]]))
    assert bars([]).shape == (2, 0)


def test_scaling_joins_networks_of_one_width_in_order_of_size(mt10: pd.DataFrame) -> None:
    figure = scaling.scaling(mt10, look(mt10)).figure
    (line,) = [
        c for c in figure.axes[0].containers if c.get_label() == "mtsac"
    ]  # a line with error bars
    sizes = line.lines[0].get_xdata()
    own = mt10[(mt10["algorithm"] == "mtsac") & (mt10["actor_width"] == mt10["critic_width"])]
    assert sizes.tolist() == sorted(own["total_parameters"].unique())


def test_architectures_stand_beside_the_nearest_mt_sac(mt10: pd.DataFrame) -> None:
    width = mt10.drop_duplicates("label").astype({"label": str}).set_index("label")["actor_width"]
    found = matched.controls(mt10, look(mt10))
    assert {(label.split()[0], width[plain]) for label, plain in found.items()} == {
        ("d2r", 512),
        ("mega", 512),
    }
    assert len(found) == 3, "d2r, and mega with both decodings"


def test_parameters_that_are_not_near_are_not_matched(tmp_path: Path) -> None:
    write(tmp_path, Simulated("mtsac", 0, 256, 256))
    write(tmp_path, Simulated("d2r", 0, 512, 512))
    frame = load([tmp_path])
    with pytest.raises(Unsupported, match="within 10%"):
        matched.matched(frame, look(frame))


def test_figures_of_controls_are_left_out_or_drawn_without_one(tmp_path: Path) -> None:
    frame = load([questions(tmp_path / "rows")])
    assert (frame["algorithm"] == "mega").all() and frame["label"].nunique() > 6
    names = ["matched", "learning_curves"]
    made, left_out = plots.draw_all(frame, tmp_path, names, lambda _: None, dpi=40, pdf=False)
    assert [path.name for path in made] == ["learning_curves-MT10-preset.png"]
    assert "needs an mtsac run" in left_out[0][1]


@pytest.mark.parametrize("column", ["total_steps", "evaluation", "horizon"])
def test_a_plain_network_of_another_protocol_is_no_control(mt10: pd.DataFrame, column: str) -> None:
    other = mt10.astype({column: object})
    other.loc[other["label"] == "d2r", column] = 7 if column != "evaluation" else "sampled"
    assert "d2r" in matched.controls(mt10, look(mt10))
    assert "d2r" not in matched.controls(other, look(other))


def test_one_point_is_never_of_two_task_sets() -> None:
    point = {"family": "mtsac", "actor_width": 32, "critic_width": 32, "tasks": 2}
    table = pd.DataFrame([{**point, "label": "a"}, {**point, "label": "a"}])
    plasticity.refuse_several_at_a_point(table)
    table["label"] = ["mtsac tasks=reach,push", "mtsac tasks=reach,drawer-close"]
    with pytest.raises(Unsupported, match="not both mtsac tasks=reach,drawer-close and mtsac"):
        plasticity.refuse_several_at_a_point(table)


@pytest.mark.parametrize("widths", [[(82, 163), (82, 326)], [(163, 163), (163, 200), (256, 256)]])
@pytest.mark.parametrize("tasks", [(10,), (5, 10)])
def test_one_point_of_plasticity_is_never_of_two_configurations(
    widths: list[tuple[int, int]], tasks: tuple[int, ...], tmp_path: Path
) -> None:
    for actor, critic in widths:
        for count in tasks:
            write(tmp_path, Simulated("mtsac", 0, actor, critic, count, evaluations=2))
    frame = load([tmp_path])
    draw = plasticity.plasticity_by_tasks if len(tasks) > 1 else plasticity.plasticity_by_width
    with pytest.raises(Unsupported, match="one configuration for each width of the actor"):
        draw(frame, look(frame))


def test_a_legend_of_plasticity_names_the_lines_of_every_panel(tmp_path: Path) -> None:
    for actor, critic in ((69, 74), (163, 163)):
        for tasks in (5, 10):
            write(tmp_path, Simulated("mtsac", 0, actor, critic, tasks, evaluations=2))
    frame = load([tmp_path])
    figure = plasticity.plasticity_by_tasks(frame, look(frame)).figure
    wide = [f"mtsac, {width} wide" for width in (69, 74, 163)]
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(wide)
    drawn = [container for panel in figure.axes for container in panel.containers]
    markers = {(str(c.get_label()), c.lines[0].get_marker()) for c in drawn}
    assert len(markers) == len({marker for _, marker in markers}) == len(wide)


def test_a_configuration_without_one_of_the_metrics_is_drawn_in_the_others_panels(
    mt10: pd.DataFrame,
) -> None:
    label = "mega decoding=softmax"
    frame = mt10[(mt10["label"] != label) | (mt10["metric"] != "stage")]
    figure = evolution.mega_modules(frame, look(frame)).figure
    assert label not in lines(figure, 0) and label in lines(figure, 1)


def test_a_legend_of_tasks_names_what_only_other_tasks_have(mt10: pd.DataFrame) -> None:
    first = str(mt10.loc[mt10["metric"] == "success", "task"].iloc[0])
    frame = mt10[mt10["label"].isin(["d2r", "mega decoding=softmax"])]
    frame = frame[(frame["label"] == "d2r") | (frame["task"] != first)]
    (legend,) = curves.task_curves(frame, look(frame)).figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"d2r", "mega"}


def test_plasticity_that_was_not_measured_is_left_out(mt10: pd.DataFrame) -> None:
    lost = (mt10["run"] == "d2r-MT10-a512-c512-s0") & (
        mt10["metric"] == "plasticity/actor/srank/pooled"
    )
    frame = mt10.assign(value=mt10["value"].mask(lost))
    found = plasticity.final_plasticity(frame)
    own = found[(found["label"] == "d2r") & (found["network"] == "actor")]
    assert own.groupby("measure")["run"].nunique().to_dict() == {
        "dormant_0.1": 2, "effective_rank": 2, "srank": 1,
    }  # fmt: skip
    plasticity.plasticity_by_width(frame, look(frame))


def test_plasticity_is_that_of_the_last_evaluation(mt10: pd.DataFrame) -> None:
    found = plasticity.final_plasticity(mt10)
    assert set(found["env_step"]) == {20_000_000}
    row = found[(found["run"] == "d2r-MT10-a512-c512-s0") & (found["network"] == "actor")]
    expected = mt10[
        (mt10["run"] == "d2r-MT10-a512-c512-s0")
        & (mt10["metric"] == "plasticity/actor/srank/pooled")
        & (mt10["env_step"] == 20_000_000)
    ]["value"].item()
    assert row[row["measure"] == "srank"]["value"].item() == expected


def test_modules_over_time_are_means_over_runs(mt10: pd.DataFrame) -> None:
    own = mt10[mt10["label"] == "mega decoding=halfsoftmax"]
    figure = evolution.mega_modules(own, look(own)).figure
    line = lines(figure)["window-close"]
    stages = own[(own["metric"] == "stage") & (own["task"] == "window-close-v3")]
    assert line.get_ydata() == pytest.approx(stages.groupby("env_step")["value"].mean().to_numpy())


@pytest.mark.parametrize(("name", "bits"), [("halfsoftmax", 2), ("softmax", 4)])
def test_reference_weights_are_decoded_as_the_paper_has_it(name: str, bits: int) -> None:
    from algorithms.genetics import decode

    weights = evolution.random_weights(name, bits, [2])
    ends = np.array([[0] * bits + [1] * bits], dtype=np.uint8)
    # Module 1 takes its only source; the next slot weighs a least against a greatest gene.
    genes = np.concatenate([np.zeros(bits, np.uint8), ends.ravel()])
    table = decode(genes, bits, 2, name)
    assert weights.min() == pytest.approx(table[1, 0], rel=1e-5)
    assert weights.max() == pytest.approx(table[1, 1], rel=1e-5)


def test_an_algorithm_has_one_colour_whatever_else_is_drawn() -> None:
    assert colours(["mega"])["mega"] == colours(["mega", "aaa", "mtsac", "zzz"])["mega"]
    found = colours(["mine", "theirs", "mega", "d2r", "mtsac"])
    assert len({found[name] for name in ("mine", "theirs", "mega", "d2r", "mtsac")}) == 5
    assert {k: found[k] for k in KNOWN} == KNOWN and len(set(KNOWN.values())) == len(KNOWN)


def test_more_algorithms_than_colours_are_told_apart_by_lines_and_markers(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    for name in (*KNOWN, "mine", "theirs", "yours"):
        write_run(tmp_path, algorithm=name)
    found = looks(load([tmp_path]))
    assert len({(own.colour, str(own.dash), own.marker) for own in found.values()}) == 13


def test_curves_have_the_algorithm_s_colour(mt10: pd.DataFrame) -> None:
    figure = curves.learning_curves(mt10, look(mt10)).figure
    assert to_hex(panel_lines(figure, "d2r")["_d2r"].get_color()) == KNOWN["d2r"]


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
    parts = plots.benchmarks(rows)
    assert set(parts) == {"MT10-preset", "MT25-preset"}
    assert all(part["task_set"].nunique() == 1 for part in parts.values())
    assert sum(map(len, parts.values())) == len(rows)


def test_an_unknown_figure_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plots", str(RELEASED), "--only", "heatmap", "--out", str(tmp_path)]) == 2
    assert "did you mean heat_map?" in capsys.readouterr().err


def test_the_released_curve_is_drawn_by_its_command(tmp_path: Path) -> None:
    out = tmp_path / "easy3.png"
    assert main(["plots", str(RELEASED), "--only", "learning_curves", "--out", str(out)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["easy3.md", "easy3.pdf", "easy3.png"]
    assert "mega: 1 run (seed 0)" in (tmp_path / "easy3.md").read_text()


def test_one_file_cannot_hold_several_figures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = ["--only", "learning_curves", "heat_map"]
    assert main(["plots", str(RELEASED), *names, "--out", str(tmp_path / "x.png")]) == 2
    assert "these rows make 2 figures" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_all_figures_of_a_study_are_drawn(rows: pd.DataFrame, tmp_path: Path) -> None:
    asked = ["mega_trigger", "mega_critics", "mega_gradients", "mega_collapse"]
    paths, _ = plots.draw_all(rows, tmp_path, dpi=40)
    more, _ = plots.draw_all(load([questions(tmp_path / "rows")]), tmp_path, asked, dpi=40)
    made = {p.name.rpartition("-MT")[0] or p.stem for p in paths + more}
    assert made == set(plots.FIGURES | plots.ACROSS)


def test_what_goes_without_saying_is_not_in_names() -> None:
    demo = load(sorted((RELEASED.parent / "demo").glob("mega-*")), metrics=["success"])
    names = [found.name for found in look(demo).values()]
    # All but one of them have windows of 2, which are not the default.
    assert {"mega", "mega window=2 decoding=softmax first-stage=2"} <= set(names)
    assert len(set(names)) == len(names)


def test_many_configurations_with_long_names_fit_a_page(tmp_path: Path) -> None:
    frame = load([RELEASED.parent / "demo"], metrics=["success"])
    mega = frame[frame["algorithm"] == "mega"]
    long = {k: Look(v.colour, v.dash, v.marker, 9 * v.name) for k, v in look(mega).items()}
    for drawn in (comparison.aggregates(mega, long), comparison.heat_map(mega, long)):
        drawn.figure.savefig(tmp_path / "figure.png")


# Our own evidence ----------------------------------------------------------------------------


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
    figure = scaling.scaling(frame, look(frame)).figure
    (line,) = [c for c in figure.axes[0].containers if c.get_label() == "mtsac"]
    assert len(line.lines[0].get_xdata()) == 4, "actor and critic at nearly one width"


def test_lines_of_two_points_that_are_left_out_are_told_of(mt10: pd.DataFrame) -> None:
    told = " Of the actor alone and of the critics alone lines of two sizes are left out"
    figure, text, *_ = scaling.scaling_apart(mt10, look(mt10))
    names = {c.get_label() for panel in figure.axes for c in panel.containers}
    # Beside 512 wide critics there are actors 256 and 512 wide, beside 256 wide ones a third.
    assert names == {f"mtsac, {n} of width 256" for n in ("actor", "critic")} | {
        "both networks grow"
    }
    assert told in text
    without = mt10[(mt10["actor_width"] == 256) | (mt10["critic_width"] == 256)]
    assert "left out" not in scaling.scaling_apart(without, look(without)).text


def test_captions_speak_of_intervals_where_a_figure_has_them(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    names = {"heat_map": False, "mega_weights": False, "matched": True, "scaling": True}
    made, _ = plots.draw_all(rows, tmp_path, list(names), lambda _: None, dpi=40, pdf=False)
    said = {p.stem.partition("-")[0]: INTERVAL in p.with_suffix(".md").read_text() for p in made}
    assert said == names
    for drawn, has in (
        (evolution.d2r_routes(rows, look(rows)), False),  # one configuration: a line a task
        (evolution.mega_modules(rows, look(rows)), True),  # two: a band each
        (curves.learning_curves(rows, look(rows)), True),
    ):
        bands = [c for axes in drawn.figure.axes for c in axes.collections if len(c.get_paths())]
        assert drawn.intervals == bool(bands) == has


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


def test_too_many_configurations_for_a_panel_are_refused(evidence: Path, tmp_path: Path) -> None:
    said: list[str] = []
    frame = of_studies(evidence, 1, 2, 4)
    made, left_out = plots.draw_all(frame, tmp_path, ["profiles"], said.append)
    assert made == []
    assert [title for title, _ in left_out] == ["Performance profiles (MT10, preset goals)"]
    assert "needs at most 12 configurations" in said[0]


SUCCESS = ("success", "success/mean")


@pytest.mark.parametrize("without", [("MT25",), ("MT10", "MT25")])
def test_a_benchmark_without_success_costs_its_own_figures_alone(
    without: tuple[str, ...], rows: pd.DataFrame, tmp_path: Path
) -> None:
    lost = rows["task_set"].isin(without) & rows["metric"].isin(SUCCESS)
    made, left_out = plots.draw_all(rows[~lost], tmp_path, dpi=40, pdf=False, say=lambda _: None)
    names = {path.stem for path in made}
    assert {"plasticity_by_width-MT10-preset", "plasticity_by_tasks"} <= names
    assert ("matched-MT10-preset" in names) == ("MT10" not in without)
    needs = dict(left_out)
    for title in ("matched", "scaling", "scaling_apart", "aggregates", "heat_map"):
        assert "success" in needs[f"{plots.TITLES[title]} (MT25, preset goals)"]


def listed(caption: Path) -> set[str]:
    """The configurations whose runs a caption lists."""
    lines = caption.read_text().splitlines()
    return {line[2:].split(": ")[0] for line in lines if "(seed" in line}


MTSAC = "mtsac tasks=MT10 width="
MEGA = {"mega decoding=halfsoftmax", "mega decoding=softmax"}
EVEN = {f"{MTSAC}{width}" for width in (256, 512, 1024)}


@pytest.mark.parametrize(
    ("name", "shown"),
    {
        "matched-MT10-preset": {"d2r", f"{MTSAC}512", *MEGA},
        "scaling_apart-MT10-preset": EVEN
        | {f"{MTSAC}{widths}" for widths in ("1024/256", "256/1024", "256/512", "512/256")},
        "plasticity_by_width-MT10-preset": EVEN,
        "plasticity_by_tasks": {f"{MTSAC}256", "mtsac tasks=MT25 width=256"},
        "mega_weights-MT10-preset": MEGA,
        "d2r_routes-MT10-preset": {"d2r"},
        "improvement-MT10-preset": {"d2r", "mega decoding=halfsoftmax"},
    }.items(),
)
def test_captions_list_the_runs_that_a_figure_shows_and_no_others(
    name: str,
    shown: set[str],
    rows: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison, "MOST_PAIRS", 1)
    plots.draw_all(rows, tmp_path, [name.partition("-")[0]], lambda _: None, dpi=40, pdf=False)
    assert listed(tmp_path / f"{name}.md") == shown


@pytest.mark.parametrize(
    ("name", "count"),
    # of 15 MEGAs: two with bred critics; τ_cp at three values; none, Baldwin and twice Lamarck;
    # a trigger of none, return at three windows, another threshold and growth, success at two
    {"mega_critics": 2, "mega_collapse": 3, "mega_gradients": 4, "mega_trigger": 8}.items(),
)
def test_captions_of_megas_questions_list_what_differs_in_these_alone(
    name: str, count: int, tmp_path: Path
) -> None:
    frame = load([questions(tmp_path / "rows")])
    plots.draw_all(frame, tmp_path, [name], lambda _: None, dpi=40, pdf=False)
    assert len(listed(tmp_path / f"{name}-MT10-preset.md")) == count < frame["label"].nunique()


def test_titles_say_what_tells_benchmarks_apart_and_only_that(
    mt10: pd.DataFrame, tmp_path: Path
) -> None:
    def titles(frame: pd.DataFrame) -> list[str]:
        made, _ = plots.draw_all(frame, tmp_path, ["heat_map"], lambda _: None, dpi=40, pdf=False)
        return [path.with_suffix(".md").read_text().splitlines()[0] for path in made]

    one = mt10[mt10["label"].isin(["d2r", f"{MTSAC}512"])].astype({"reward_version": object})
    assert titles(one) == ["# Final success, by task (MT10, preset goals)"]
    other = one.assign(horizon=one["horizon"].mask(one["label"] == "d2r", 200))
    assert titles(other) == [
        "# Final success, by task (MT10, preset goals, horizon 200)",
        "# Final success, by task (MT10, preset goals, horizon 500)",
    ]
    other.loc[other["label"] == "d2r", "reward_version"] = ""
    assert titles(other) == [
        "# Final success, by task (MT10, preset goals, reward unknown, horizon 200)",
        "# Final success, by task (MT10, preset goals, reward v2, horizon 500)",
    ]


def test_titles_of_unknown_task_sets_name_their_tasks(mt10: pd.DataFrame, tmp_path: Path) -> None:
    frame = mt10[mt10["label"].isin(["d2r", f"{MTSAC}512"])].astype({"task_set": object})
    frame = frame[(frame["label"] != "d2r") | (frame["task"].isin(["push-v3", "reach-v3"]))]
    frame["task_set"] = ""
    frame = frame[frame["task"].isin(["push-v3", "reach-v3", "door-open-v3"])]
    made, _ = plots.draw_all(frame, tmp_path, ["heat_map"], lambda _: None, dpi=40, pdf=False)
    titles = {path.with_suffix(".md").read_text().splitlines()[0] for path in made}
    assert titles == {
        "# Final success, by task (push, reach, preset goals)",
        "# Final success, by task (door-open, push, reach, preset goals)",
    }


def test_titles_are_words(evidence: Path, tmp_path: Path) -> None:
    assert set(plots.TITLES) == set(plots.FIGURES | plots.ACROSS)
    plots.draw_all(of_studies(evidence, 1), tmp_path, ["scaling"], lambda _: None, dpi=40)
    heading = (tmp_path / "scaling-MT10-preset.md").read_text().splitlines()[0]
    assert heading == "# Success against parameters (MT10, preset goals)"
