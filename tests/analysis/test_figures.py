"""Figures show what the rows say: numbers are read back from what was drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from analysis.figures import comparison, curves, evolution, extensions, matched, plasticity, scaling
from analysis.figures.error_bars import bars
from analysis.figures.style import KNOWN, Look, Unsupported, colours, looks
from analysis.rows import load
from analysis.scores import success_matrix
from analysis.statistics import Estimate, iqm_of_runs
from tests.analysis.drawn import lines, look, panel_lines
from tests.analysis.simulated import Simulated, write

DEMO = Path(__file__).parents[2] / "results" / "release" / "demo"


def test_a_curve_is_the_iqm_over_seeds_of_the_rows(mt10: pd.DataFrame) -> None:
    figure = curves.learning_curves(mt10, look(mt10)).figure
    of = mt10[(mt10["label"] == "d2r") & (mt10["metric"] == "success/mean")]
    by_step = of.groupby("env_step")["value"].mean()  # of two runs the IQM is the mean
    drawn = panel_lines(figure, "d2r")["_d2r"]
    assert drawn.get_xdata().tolist() == by_step.index.tolist()
    assert drawn.get_ydata() == pytest.approx(by_step.to_numpy())


def test_curves_have_the_algorithm_s_colour(mt10: pd.DataFrame) -> None:
    figure = curves.learning_curves(mt10, look(mt10)).figure
    assert to_hex(panel_lines(figure, "d2r")["_d2r"].get_color()) == KNOWN["d2r"]


def test_a_legend_of_tasks_names_what_only_other_tasks_have(mt10: pd.DataFrame) -> None:
    first = str(mt10.loc[mt10["metric"] == "success", "task"].iloc[0])
    frame = mt10[mt10["label"].isin(["d2r", "mega decoding=softmax"])]
    frame = frame[(frame["label"] == "d2r") | (frame["task"] != first)]
    (legend,) = curves.task_curves(frame, look(frame)).figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"d2r", "mega"}


def again(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """The rows, and a second run of this configuration's seed 0 that has only zeros."""
    own = frame[(frame["label"] == label) & (frame["seed"] == 0)]
    both = pd.concat([frame, own.assign(run="again", value=0.0)])
    return both.astype({"run": "category"})


def halved(rows: pd.DataFrame) -> pd.Series:
    """The values where such a run counts along with that of its seed."""
    return rows["value"].where(rows["seed"] != 0, rows["value"] / 2)


# Comparison ----------------------------------------------------------------------------------


def test_a_heat_map_holds_the_final_success_of_each_task(mt10: pd.DataFrame) -> None:
    figure = comparison.heat_map(mt10, look(mt10)).figure
    cells = np.asarray(figure.axes[0].collections[0].get_array()).reshape(10, -1)
    columns = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    last = mt10[(mt10["metric"] == "success") & (mt10["env_step"] == mt10["env_step"].max())]
    own = last[(last["label"] == "d2r") & (last["task"] == "push-v3")]
    tasks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert cells[tasks.index("push"), columns.index("d2r")] == pytest.approx(own["value"].mean())


def test_a_heat_map_takes_runs_of_one_seed_as_one(mt10: pd.DataFrame) -> None:
    figure = comparison.heat_map(again(mt10[mt10["label"] == "d2r"], "d2r"), look(mt10)).figure
    cells = np.asarray(figure.axes[0].collections[0].get_array()).ravel()
    last = mt10[(mt10["metric"] == "success") & (mt10["env_step"] == mt10["env_step"].max())]
    own = last[last["label"] == "d2r"]
    tasks = [f"{text.get_text()}-v3" for text in figure.axes[0].get_yticklabels()]
    means = halved(own).groupby(own["task"], observed=True).mean()
    assert cells == pytest.approx(means[tasks].to_numpy())


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


def test_many_configurations_with_long_names_fit_a_page(tmp_path: Path) -> None:
    frame = load([DEMO], metrics=["success"])
    mega = frame[frame["algorithm"] == "mega"]
    long = {k: Look(v.colour, v.dash, v.marker, 9 * v.name) for k, v in look(mega).items()}
    for drawn in (comparison.aggregates(mega, long), comparison.heat_map(mega, long)):
        drawn.figure.savefig(tmp_path / "figure.png")
    axes = comparison.aggregates(mega, long).figure.axes[0]
    places = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(place.x0 >= 0 and place.x1 <= axes.bbox.x0 for place in places)
    assert all(low.y1 <= high.y0 for low, high in itertools.pairwise(places))


# Scaling ---------------------------------------------------------------------------------------


def test_points_of_scaling_are_the_final_success_in_order_of_size(mt10: pd.DataFrame) -> None:
    figure = scaling.scaling(mt10, look(mt10)).figure
    (line,) = [c for c in figure.axes[0].containers if c.get_label() == "mtsac"]
    own = mt10[(mt10["algorithm"] == "mtsac") & (mt10["actor_width"] == mt10["critic_width"])]
    scores, sizes = success_matrix(own), own.drop_duplicates("label").set_index("label")
    of = {sizes["total_parameters"][label]: s.values for label, s in scores.items()}
    x, y = line.lines[0].get_data()
    assert x.tolist() == sorted(of)
    assert y == pytest.approx([iqm_of_runs(of[size])[0] for size in x])


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


@pytest.mark.parametrize("column", ["total_steps", "evaluation", "horizon"])
def test_a_plain_network_of_another_protocol_is_no_control(mt10: pd.DataFrame, column: str) -> None:
    other = mt10.astype({column: object})
    other.loc[other["label"] == "d2r", column] = 7 if column != "evaluation" else "sampled"
    assert "d2r" in matched.controls(mt10, look(mt10))
    assert "d2r" not in matched.controls(other, look(other))


# Plasticity ------------------------------------------------------------------------------------


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


# Evolution -------------------------------------------------------------------------------------


def test_modules_over_time_are_means_over_runs(mt10: pd.DataFrame) -> None:
    own = mt10[mt10["label"] == "mega decoding=halfsoftmax"]
    figure = evolution.mega_modules(own, look(own)).figure
    line = lines(figure)["window-close"]
    stages = own[(own["metric"] == "stage") & (own["task"] == "window-close-v3")]
    assert line.get_ydata() == pytest.approx(stages.groupby("env_step")["value"].mean().to_numpy())


@pytest.mark.parametrize(
    ("label", "metrics"), [("mega decoding=softmax", evolution.MODULES), ("d2r", evolution.ROUTES)]
)
def test_curves_of_configurations_take_runs_of_one_seed_as_one(
    label: str, metrics: dict[str, str], mt10: pd.DataFrame
) -> None:
    name, own = next(iter(metrics)), mt10[mt10["label"] == label]
    figure = evolution.by_configuration(again(own, label), metrics, look(mt10))
    own = own[own["metric"] == name]
    expected = halved(own).groupby(own["env_step"]).mean()
    assert lines(figure)[look(mt10)[label].name].get_ydata() == pytest.approx(expected.to_numpy())


def test_runs_of_one_seed_that_were_measured_apart_meet_at_the_steps_of_both(
    mt10: pd.DataFrame,
) -> None:
    label, name = "mega decoding=softmax", "modules_in_use"
    own = mt10[(mt10["label"] == label) & (mt10["metric"] == name)]
    steps = sorted(own["env_step"].unique())
    # The second run of seed 0 is always at 0, and has every other step alone.
    both = again(own, label)
    both = both[(both["run"] != "again") | both["env_step"].isin(steps[::2])]
    expected = halved(own).groupby(own["env_step"]).mean().loc[: steps[::2][-1]]
    alone = own["task"] == "window-close-v3"
    of_task = halved(own)[alone].groupby(own["env_step"]).mean().loc[: steps[::2][-1]]
    drawn = {
        look(mt10)[label].name: evolution.by_configuration(both, {name: name}, look(mt10)),
        "any": extensions.over_time(both, {name: name}, {label: "any"}),
        "window-close": evolution.by_task(both, {name: name}),
    }
    for title, figure in drawn.items():
        line, means = lines(figure)[title], of_task if title == "window-close" else expected
        assert list(line.get_xdata()) == means.index.tolist()
        assert line.get_ydata() == pytest.approx(means.to_numpy())


def test_a_configuration_without_one_of_the_metrics_is_drawn_in_the_others_panels(
    mt10: pd.DataFrame,
) -> None:
    label = "mega decoding=softmax"
    frame = mt10[(mt10["label"] != label) | (mt10["metric"] != "stage")]
    figure = evolution.mega_modules(frame, look(frame)).figure
    assert label not in lines(figure, 0) and label in lines(figure, 1)


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


# Looks -----------------------------------------------------------------------------------------


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


def test_what_goes_without_saying_is_not_in_names() -> None:
    demo = load(sorted(DEMO.glob("mega-*")), metrics=["success"])
    names = [found.name for found in look(demo).values()]
    # All but one of them have windows of 2, which are not the default.
    assert {"mega", "mega window=2 decoding=softmax first-stage=2"} <= set(names)
    assert len(set(names)) == len(names)
