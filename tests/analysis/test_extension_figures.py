"""Figures of MEGA's extensions: numbers are read back from what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures import extensions, trigger
from analysis.figures.style import Unsupported
from analysis.rows import load
from tests.analysis.drawn import look
from tests.analysis.simulated import Simulated, questions, write


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return load([questions(tmp_path_factory.mktemp("questions"))])


def points(figure: Figure, panel: int) -> list[tuple[Any, Any]]:
    """x and y of every series with error bars."""
    return [
        (list(c.lines[0].get_xdata()), list(c.lines[0].get_ydata()))
        for c in figure.axes[panel].containers
    ]


def ended(rows: pd.DataFrame, metric: str, **settings: Any) -> pd.DataFrame:
    """The last rows of the configuration that differs from the usual one in these settings."""
    known = trigger.settings_of(rows)
    usual = {k: s for k, s in known.items() if s == min_settings(known) | settings}
    (label,) = usual
    own = rows[(rows["label"] == label) & (rows["metric"] == metric)]
    return own[own["env_step"] == own["env_step"].max()]


def min_settings(known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The value that most configurations have, of every setting."""
    table = pd.DataFrame(list(known.values()))
    return {str(name): table[name].mode().tolist()[0] for name in table}


def test_the_trigger_s_window_is_in_episodes_and_joins_what_differs_in_it_alone(
    rows: pd.DataFrame,
) -> None:
    figure = trigger.mega_trigger(rows, look(rows)).figure
    series = points(figure, 1)
    assert [x for x, _ in series] == [[100, 200, 400], [50, 100]]  # 5, 10, 20 generations of 20
    for value, at in ((5, 0), (20, 2)):
        own = ended(rows, "success", window=value)
        assert series[0][1][at] == pytest.approx(own["value"].mean())


def test_tasks_at_the_largest_stage_are_counted(rows: pd.DataFrame) -> None:
    figure = trigger.mega_trigger(rows, look(rows)).figure
    (criteria,) = points(figure, 8)
    names = [t.get_text() for t in figure.axes[8].get_xticklabels()]
    own = ended(rows, "stage", trigger="none")
    share = float((own["value"] == 4).mean())
    assert 0 < share < 1
    assert criteria[1][criteria[0].index(names.index("none"))] == pytest.approx(share)


def test_what_a_run_did_not_measure_at_its_end_is_refused_by_name(rows: pd.DataFrame) -> None:
    own = (rows["metric"] == "modules_in_use") & (rows["run"] == rows["run"].iloc[0])
    lost = own & (rows["env_step"] == rows.loc[own, "env_step"].max())
    frame = rows.assign(value=rows["value"].mask(lost))
    for draw in (trigger.mega_trigger, extensions.mega_gradients):
        with pytest.raises(Unsupported, match="needs modules_in_use of every run and task"):
            draw(frame, look(frame))


def test_rows_that_differ_elsewhere_are_no_trigger_study(tmp_path: Any) -> None:
    for decoding in ("halfsoftmax", "softmax"):
        write(tmp_path, Simulated("mega", settings=(("decoding", decoding),)))
    frame = load([tmp_path])
    for draw in (trigger.mega_trigger, extensions.mega_critics, extensions.mega_gradients):
        with pytest.raises(Unsupported, match="needs mega runs"):
            draw(frame, look(frame))


def test_diversity_is_the_mean_of_each_cross_population_rate(rows: pd.DataFrame) -> None:
    figure = extensions.mega_collapse(rows, look(rows)).figure
    drawn = {str(line.get_label()): line for line in figure.axes[1].get_lines()}
    assert list(drawn) == ["τ_cp = 0.1", "τ_cp = 0.5", "τ_cp = 1"]
    assert drawn["τ_cp = 1"].get_ydata()[-1] == pytest.approx(-0.5)
    warned = {str(line.get_label()): line for line in figure.axes[3].get_lines()}
    assert warned["τ_cp = 1"].get_ydata()[-1] == 1 and not warned["τ_cp = 0.1"].get_ydata().any()


def test_critics_are_drawn_by_their_fitness_alone(rows: pd.DataFrame) -> None:
    figure = extensions.mega_critics(rows, look(rows)).figure
    drawn = {str(line.get_label()): line for line in figure.axes[2].get_lines()}
    assert list(drawn) == ["bellman", "correlation"]
    assert drawn["bellman"].get_ydata()[-1] == pytest.approx(-0.2)


def test_learning_genotypes_stand_at_their_rate(rows: pd.DataFrame) -> None:
    figure = extensions.mega_gradients(rows, look(rows)).figure
    (_, y), (rates, shifts) = points(figure, 0)[0], points(figure, 2)[1]
    assert y[0] == pytest.approx(
        ended(rows, "success", genotype_gradient="baldwin")["value"].mean()
    )
    assert rates == [0.01, 0.1]
    assert np.allclose(shifts, [0.1, 1.0])
    level = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert len(level) == 1, "without gradient, what differs from these in nothing else"
