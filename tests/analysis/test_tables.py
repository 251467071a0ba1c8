"""Tables: the numbers of the statistics, in three forms, protocols apart."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import COMMANDS, RELEASED, default_source, main
from analysis.messages import RowsError
from analysis.plots import ACROSS, FIGURES
from analysis.published import FOLDER, published
from analysis.reproduction import reproduction
from analysis.rows import load
from analysis.scores import success_matrix
from analysis.statistics import Estimate, estimate, iqm_of_runs, mean
from analysis.table_formats import Table, comma_separated, latex, markdown, write
from analysis.tables import tables
from tests.analysis import simulated

WriteRun = Callable[..., Path]


def by_name(folder: Path, literature: pd.DataFrame | None = None) -> dict[str, Table]:
    rows = published() if literature is None else literature
    return {table.name: table for table in tables(load([folder]), rows)}


def records(table: Table) -> list[dict[str, object]]:
    return [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]


@pytest.fixture
def two_methods(write_run: WriteRun, tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for algorithm, level in [("mega", 0.8), ("mtsac", 0.4)]:
        for seed in range(6):
            final = np.clip(generator.normal(level, 0.05, 3), 0, 1)
            write_run(tmp_path, algorithm=algorithm, seed=seed, final=final)
    return tmp_path


def test_aggregates_are_those_of_the_statistics(two_methods: Path) -> None:
    rows = records(by_name(two_methods)["aggregate"])
    scores = success_matrix(load([two_methods]))
    for row in rows:
        values = scores[str(row["method"])].values
        assert row["IQM over seeds"] == estimate(iqm_of_runs, values)
        assert row["seeds"] == 6
        assert (row["actor width"], row["actor parameters"]) == (128, 3 * 128**2)
    assert [row["method"] for row in rows] == ["mega", "mtsac"]


def test_tasks_and_configurations_of_a_table_are_those_of_its_cells(two_methods: Path) -> None:
    scores = success_matrix(load([two_methods]))
    rows = records(by_name(two_methods)["per_task"])
    assert len(rows) == 3
    for row in rows:
        for label, own in scores.items():
            column = own.values[:, [own.tasks.index(str(row["task"]))]]
            assert row[label] == estimate(mean, column)


def test_what_is_said_of_the_training_stands_in_its_own_column(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path, final=0.9)  # .225, .45, .675 and .9, at 1000 to 4000
    (row,) = records(by_name(tmp_path)["aggregate"])
    names = ("IQM over seeds, best evaluation", "mean over training", "steps to 0.8")
    assert [row[name].value for name in names] == pytest.approx([0.9, 0.5625, 4000])  # type: ignore[attr-defined]


def test_a_clear_difference_is_compared_and_called_significant(two_methods: Path) -> None:
    (row,) = records(by_name(two_methods)["comparisons"])
    assert row["comparison"] == "mega − mtsac"
    assert row["at 95%"] == "significant"
    assert row["seeds"] == "6 / 6"


def test_plasticity_has_intervals(two_methods: Path) -> None:
    rows = records(by_name(two_methods)["plasticity"])
    dormant = rows[0]["dormant (τ 0.1)"]
    assert isinstance(dormant, Estimate)
    # 0.4 and 0.01 a seed: the middle of six seeds is 0.425.
    assert dormant.value == pytest.approx(0.425)
    assert 0.4 <= dormant.low < dormant.value < dormant.high <= 0.45


def test_plasticity_that_is_another_number_is_named(two_methods: Path) -> None:
    notes = by_name(two_methods)["plasticity"].notes
    assert sum("constant, so never dormant" in note for note in notes) == 1
    assert not any("tanh" in note for note in notes)


def test_rows_of_different_protocol_are_never_merged(write_run: WriteRun, tmp_path: Path) -> None:
    for horizon in (200, 500):
        for seed in range(5):
            write_run(tmp_path, seed=seed, horizon=horizon, final=horizon / 500)
    found = by_name(tmp_path)
    rows = records(found["aggregate"])
    assert [(row["horizon"], row["mean"].value) for row in rows] == [  # type: ignore[attr-defined]
        (200, pytest.approx(0.4)),
        (500, pytest.approx(1.0)),
    ]
    assert "horizon" not in found["aggregate"].caption
    assert "reward v2" in found["aggregate"].caption
    assert "comparisons" not in found
    assert any("differ in horizon" in note for note in found["per_task"].notes)


def test_published_results_stand_beside_ours_with_their_protocol(
    write_run: WriteRun, tmp_path: Path
) -> None:
    for seed in range(5):
        write_run(tmp_path, seed=seed, task_set="MT10")
    rows = records(by_name(tmp_path)["aggregate"])
    theirs = [row for row in rows if row["source"] == "arXiv 2503.05126"]
    assert {row["horizon"] for row in theirs} == {500}
    soft = next(row for row in theirs if row["method"] == "Soft Modules")
    assert soft["IQM over seeds"] == Estimate(0.812, 0.77, 0.865)
    assert soft["steps"] == 20_000_000 and soft["seeds"] == 10
    assert {row["task set"] for row in rows} == {"MT10"}
    mega = next(row for row in rows if row["method"] == "MEGA")
    assert mega["IQM over seeds"] is None and mega["goals"] == "fixed"
    stated = mega["statistic not stated"]
    assert isinstance(stated, Estimate) and stated.value == 0.88


def test_task_sets_have_tables_of_their_own(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path, tasks=("reach-v3", "push-v3"))
    write_run(tmp_path, tasks=("reach-v3", "door-open-v3"))
    found = by_name(tmp_path)
    assert {"per_task_reach+push", "per_task_reach+door-open"} <= set(found)
    assert [row["task"] for row in records(found["per_task_reach+push"])] == [
        "push-v3", "reach-v3",
    ]  # fmt: skip


def test_few_seeds_are_warned_of(write_run: WriteRun, tmp_path: Path) -> None:
    for algorithm in ("mega", "d2r"):
        for seed in range(3):
            write_run(tmp_path, algorithm=algorithm, seed=seed, final=0.9 - seed / 10)
    found = by_name(tmp_path)
    assert any("Fewer than 5 seeds" in note for note in found["aggregate"].notes)
    (row,) = records(found["comparisons"])
    assert "fewer than 5 seeds" in str(row["warning"])
    assert row["at 95%"] == "not significant"


def test_a_threshold_that_is_not_reached_reads_never(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path, final=0.3)
    assert "| never |" in markdown(by_name(tmp_path)["aggregate"])


TABLE = Table(
    "t",
    "A & B",
    ("name", "score", "parameters"),
    (("a_b|c", Estimate(0.12345, 0.1, 0.2), 1234567), ("d", Estimate(0.5, math.nan, 1), None)),
    ("50% of them",),
)


def test_markdown_is_a_table() -> None:
    assert markdown(TABLE).splitlines() == [
        "A & B",
        "",
        "| name | score | parameters |",
        "| --- | --- | --- |",
        "| a_b\\|c | 0.123 [0.100, 0.200] | 1,234,567 |",
        "| d | 0.500 |  |",
        "",
        "- 50% of them",
    ]


def test_csv_keeps_every_digit() -> None:
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows[0] == ["name", "score", "score low", "score high", "parameters"]
    assert rows[1] == ["a_b|c", "0.12345", "0.1", "0.2", "1234567"]
    assert rows[2] == ["d", "0.5", "", "1", ""]


def test_latex_is_escaped_and_booktabs() -> None:
    text = latex(TABLE)
    assert r"\caption{A \& B}" in text and r"50\% of them" in text
    assert r"a\_b|c & 0.123 [0.100, 0.200] & 1,234,567 \\" in text
    assert r"\begin{tabular}{lrr}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if "&" in line} == {2}


def test_all_tables_are_written_in_three_forms(two_methods: Path, tmp_path: Path) -> None:
    for table in tables(load([two_methods]), published()):
        for path in write(table, tmp_path / "out"):
            assert path.stat().st_size > 0
            assert not re.search(r"\bnan\b|None|Estimate\(", path.read_text()), path


def test_published_rows_have_source_protocol_and_numbers() -> None:
    rows = published()
    assert len(rows) == 100
    assert (rows["source"] != "").all()
    success = rows[rows["metric"] == "success"]
    for name in ("value", "low", "high"):
        assert success[name].dropna().between(0, 1).all()
    both = success.dropna(subset=["value", "low"])
    assert ((both["low"] <= both["value"]) & (both["value"] <= both["high"])).all()
    width = success[(success["actor_width"] == 1024) & (success["critic_width"] == 1024)]
    stated = width[width["statistic"] != ""].set_index("task_set")["value"]
    assert stated.to_dict() == {"MT10": 0.87, "MT25": 0.739, "MT50": 0.727}
    paco = success[(success["method"] == "PaCo") & (success["task_set"] == "MT10")]
    by_protocol = paco.set_index(["horizon", "reward_version", "note"])["value"].to_dict()
    assert by_protocol == {
        (500.0, "v2", ""): 0.738,
        (500.0, "v2", "second-hand"): 0.736,
        (500.0, "v1", "second-hand"): 0.262,
        (150.0, "v2", "second-hand"): 0.854,
    }
    # Spelled as our rows spell them, or they never stand beside one another.
    assert set(rows["goals"]) == {"", "preset", "random", "fixed", "random+preset"}
    on_preset = rows[rows["evaluation"].str.contains("preset goals")]
    assert set(on_preset["goals"]) == {"random+preset"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("0.88", "much"), r"mega\.csv:2: value: 'much' is not a number"),
        (("arXiv 2502.13569,MEGA,MT10", ",MEGA,MT10"), r"mega\.csv:2: source is empty"),
        (("0.88,0.84,0.92", ",,"), r"mega\.csv:2: has no number"),
        (("horizon", "horizont"), r"mega\.csv:1: columns must be"),
    ],
)
def test_a_bad_published_row_is_named(change: tuple[str, str], reason: str, tmp_path: Path) -> None:
    text = (FOLDER / "mega.csv").read_text()
    (tmp_path / "mega.csv").write_text(text.replace(*change))
    with pytest.raises(RowsError, match=reason):
        published(tmp_path)


def test_command_writes_tables_and_names_them(
    two_methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tables", str(two_methods), "--out", str(tmp_path / "out")]) == 0
    named = capsys.readouterr().out.splitlines()
    assert sorted(Path(line) for line in named) == sorted((tmp_path / "out").iterdir())
    assert (tmp_path / "out" / "aggregate.tex").exists()


def test_command_without_runs_reads_the_released_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(FOLDER.parents[1])
    monkeypatch.setattr("analysis.cli.RUNS", tmp_path)
    assert main(["tables", "--out", str(tmp_path / "out")]) == 0
    assert "results/release" in capsys.readouterr().err
    assert "mega" in (tmp_path / "out" / "aggregate.md").read_text()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table"]) == 2
    assert "did you mean tables?" in capsys.readouterr().err
    assert main(["tables", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "there is no such folder or file" in line


def test_every_command_has_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert all(command.__doc__ for command in COMMANDS.values())


def test_coverage_command_prints_the_documentations_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["coverage", "--simulations", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * 4 * 4 and "rliable" in lines[0]


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "9e29", "nan", "", "10000000"])
def test_numbers_of_simulations_have_a_range(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", "--simulations", count]) == 2
    assert "is not a whole number from 1 to 1,000,000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("tables --out=", "out: is empty; name a file or a folder"),
        ("tables --skip", "did you mean --skip-malformed?"),
        ("tables --ends share", "ends: 'share' is not one of shared, refuse; did you mean shared?"),
        ("tables --agianst mtsac", "option: '--agianst' is not one of --help,"),
        ("tables --agianst=mtsac", "did you mean --against?"),
        ("tables --against", "against: expected one argument"),
        ("tables --planned 0", "planned: '0' is not a whole number from 1 to 1,000"),
        ("plots -o x", "unrecognized arguments: -o"),
        ("plots --only", "only: expected at least one argument"),
        ("plots --only matchd", "only: 'matchd' is unknown; did you mean matched? There are learn"),
        ("report --titel x", "did you mean --title?"),
        ("reproduced --relased x", "did you mean --released?"),
        ("reproduced x", "the following arguments are required: --released"),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2 and list(tmp_path.iterdir()) == []
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("error: ") and said in output.err


def test_an_empty_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", ""]) == 2
    assert "sources: is empty; name a file or a folder" in capsys.readouterr().err


def test_help_names_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plots", "--help"])
    assert stop.value.code == 0
    assert {*FIGURES, *ACROSS} <= set(capsys.readouterr().out.replace(",", " ").split())


# Against one control, and trained again ---------------------------------------------------------


def test_against_one_label_fewer_comparisons_are_corrected_for(
    write_run: WriteRun, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    for algorithm, level in [("d2r", 0.5), ("mega", 0.8), ("moore", 0.7), ("mtsac", 0.4)]:
        for seed in range(5):
            final = np.clip(generator.normal(level, 0.02, 3), 0, 1)
            write_run(tmp_path, algorithm=algorithm, seed=seed, final=final)
    found = {t.name: t for t in tables(load([tmp_path]), published(), "mtsac")}["comparisons"]
    rows = records(found)
    pairs = [row["comparison"] for row in rows]
    assert pairs == ["mtsac − d2r", "mtsac − mega", "mtsac − moore"]
    # Of five runs and five, all apart: two of the 252 splits are as extreme, three times.
    assert [row["p, difference of means"] for row in rows] == pytest.approx([3 * 2 / 252] * 3)
    assert {row["at 95%"] for row in rows} == {"significant"}
    assert len(by_name(tmp_path)["comparisons"].rows) == 6
    made = {t.name: t for t in tables(load([tmp_path]), published(), "mtsac")}["against_control"]
    first, *others = records(made)
    assert (first["method"], first["p"], first["seeds"]) == ("mtsac", None, 5)
    for row, pair in zip(others, rows, strict=True):
        mine, theirs = row["minus mtsac"], pair["difference, IQM over seeds"]
        assert isinstance(mine, Estimate) and isinstance(theirs, Estimate)
        assert (mine.value, mine.low, mine.high) == (-theirs.value, -theirs.high, -theirs.low)
        assert row["told apart at 95%"] == "yes" and mine.low > 0


def test_what_a_protocol_has_planned_is_corrected_for_before_all_of_it_is_there(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "tables"
    for algorithm, level in [("d2r", 0.5), ("mega", 0.8), ("mtsac", 0.4)]:
        for seed in range(5):
            write_run(runs, algorithm=algorithm, seed=seed, final=level + seed / 100)
    command = ["tables", str(runs), "--out", str(out), "--against", "mtsac"]
    assert main([*command, "--planned", "5"]) == 0
    so_far = "5 comparisons, of which 2 can be made so far (Holm)"
    assert so_far in (out / "against_control.md").read_text()
    for name in ("against_control", "comparisons"):
        # The least p of five runs and five, five times; and the next one can be no less.
        assert (out / f"{name}.md").read_text().count(f"{5 * 2 / 252:.3f}") == 2, name
    assert main([*command, "--planned", "1"]) == 2
    assert "planned: these rows make 2 comparisons, not 1" in capsys.readouterr().err
    assert main([*command[:-2], "--planned", "5"]) == 2
    assert "planned: goes with --against" in capsys.readouterr().err
    plots = ["plots", str(runs), "--out", str(tmp_path / "m.png"), "--only", "matched"]
    assert main([*plots, "--planned", "5"]) == 0
    assert so_far in (tmp_path / "m.md").read_text()


def test_the_users_own_runs_are_read_where_there_are_any(
    two_methods: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("analysis.cli.RUNS", two_methods)
    assert default_source() == two_methods
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("analysis.cli.RUNS", two_methods / "nothing")
    assert default_source() == RELEASED
    assert "no finished run" in capsys.readouterr().err


def test_a_label_that_is_not_there_is_refused(
    two_methods: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tables", str(two_methods), "--against", "mtsca"]) == 2
    assert "did you mean mtsac?" in capsys.readouterr().err


def test_a_run_trained_again_is_held_against_how_seeds_vary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        simulated.write(tmp_path / "released", simulated.Simulated(seed=seed))
    like = simulated.write(tmp_path / "like", simulated.Simulated(seed=9))
    other = simulated.write(tmp_path / "other", simulated.Simulated(seed=8, skill=0.1))
    released = success_matrix(load([tmp_path / "released"]))["mtsac"].values.mean(1)
    table = reproduction(load([like, other]), load([tmp_path / "released"]))
    by_run = {row["run"]: row for row in records(table)}
    assert by_run[like.name]["verdict"] == "agrees"
    assert by_run[other.name]["verdict"] == "DIFFERS"
    low, high = (by_run[like.name][end] for end in ("from", "to"))
    # t of four degrees of freedom is 2.776.
    width = 2.776 * np.std(released, ddof=1) * math.sqrt(1.2)
    assert [low, high] == pytest.approx(
        [released.mean() - width, released.mean() + width], rel=1e-3
    )
    # The released run of its own seed says nothing of how seeds vary.
    (copied,) = (tmp_path / "released").glob("*s3*")
    shutil.copytree(copied, tmp_path / "again" / copied.name)
    table = reproduction(load([tmp_path / "again"]), load([tmp_path / "released"]))
    assert records(table)[0]["their mean"] == pytest.approx(np.delete(released, 3).mean())
    assert records(table)[0]["verdict"] == "identical"
    assert "it is a copy" in table.notes[1]
    wide = simulated.write(tmp_path / "wide", simulated.Simulated(seed=0, actor_width=512))
    arguments = ["reproduced", str(wide), "--released", str(tmp_path / "released")]
    assert main(arguments) == 2
    assert "0 other seeds of its configuration" in capsys.readouterr().err
    # Beside one that can be judged it is named.
    table = reproduction(load([like, wide]), load([tmp_path / "released"]))
    assert [row["run"] for row in records(table)] == [like.name]
    assert any(wide.name in note for note in table.notes)
