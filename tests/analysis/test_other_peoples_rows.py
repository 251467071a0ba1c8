"""Rows of other code, as people send them in: nothing is lost, merged or scored without a word.

Each test goes through the command line and reads what it wrote.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.cli import main
from analysis.figures.captions import caption
from analysis.remarks import remarks
from analysis.rows import RowsError, load
from analysis.scores import curves, success_matrix

HEADER = "exp_name,env_name,seed,metric,env_step,value"
WriteRun = Callable[..., Path]
Tables = Callable[..., dict[str, list[dict[str, str]]]]


def write(path: Path, lines: Sequence[str], header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def rows(
    method: str,
    tasks: dict[str, float],
    seeds: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = (100, 200),
) -> list[str]:
    """Success that rises to that of each task at the last step, a hundredth higher per seed."""
    return [
        f"{method},{task},{seed},success,{step},{final * step / steps[-1] + seed / 100:.4f}"
        for seed in seeds
        for step in steps
        for task, final in tasks.items()
    ]


BOTH = rows("moore", {"reach-v3": 0.8, "push-v3": 0.4})


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Runs `tables`; every table that it wrote as records, by name."""

    def run(*arguments: str | Path, status: int = 0) -> dict[str, list[dict[str, str]]]:
        out = tmp_path / "written"
        assert main(["tables", *map(str, arguments), "--out", str(out)]) == status
        return {path.stem: list(csv.DictReader(path.open())) for path in out.glob("*.csv")}

    return run


def by_method(found: dict[str, list[dict[str, str]]]) -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in found["aggregate"] if row["source"] == "these rows"}


@pytest.mark.parametrize("column", [1, 2, 4], ids=["task", "seed", "step"])
def test_parts_of_a_run_are_joined(column: int, tables: Tables, tmp_path: Path) -> None:
    for name in {line.split(",")[column] for line in BOTH}:
        own = [line for line in BOTH if line.split(",")[column] == name]
        write(tmp_path / "parts" / f"{name}.csv", own)
    found = by_method(tables(tmp_path / "parts"))["moore"]
    # Means over both tasks at step 200, of seeds 0 to 2: 0.60, 0.61, 0.62.
    assert float(found["mean"]) == pytest.approx(0.61) and found["seeds"] == "3"
    assert set(success_matrix(load([tmp_path / "parts"]))["moore"].steps) == {200}


def test_one_file_a_protocol_is_one_configuration_each(tables: Tables, tmp_path: Path) -> None:
    for horizon in (200, 500):
        lines = [f"{line},{horizon}" for line in rows("x", {"reach-v3": horizon / 1000})]
        write(tmp_path / "p" / f"{horizon}.csv", lines, f"{HEADER},horizon")
    found = by_method(tables(tmp_path / "p"))
    means = {name: float(row["mean"]) for name, row in found.items()}
    assert means == {"x horizon=200": pytest.approx(0.21), "x horizon=500": pytest.approx(0.51)}


def test_files_of_two_task_sets_without_a_name_are_refused(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = rows("moore", {"reach-v3": 0.9})
    large = rows("moore", {"reach-v3": 0.6, "push-v3": 0.6}, steps=[300, 400])
    files = [write(tmp_path / f"{i}.csv", lines) for i, lines in enumerate((small, large))]
    tables(*files, status=2)
    assert "1 tasks in the one and of 2 in the other, at no step of both" in capsys.readouterr().err
    same = [
        write(file, [f"{x},A" for x in lines], f"{HEADER},task_set")
        for file, lines in zip(files, (small, large), strict=True)
    ]
    assert len(by_method(tables(*same))) == 1, "it is theirs to say"
    named = [f"{x},{'A' if x in small else 'B'}" for x in (*small, *large)]
    assert len(by_method(tables(write(files[0], named, f"{HEADER},task_set")))) == 2


def test_who_is_not_compared_is_told_with_the_reason(
    write_run: WriteRun, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        write_run(tmp_path / "ours", seed=seed, tasks=["reach-v3", "push-v3"])
    theirs = write(tmp_path / "a.csv", rows("theirs", {"reach": 0.5, "push": 0.5}))
    tables(tmp_path / "ours", theirs, "--against", "mtsac")
    said = capsys.readouterr().err
    assert "nothing is compared with mtsac\nNot compared with mtsac: theirs, for task set" in said
    for reason in ("evaluation unknown", "Meta-World unknown", "as push for push-v3"):
        assert reason in said
        assert reason in (tmp_path / "written" / "against_control.md").read_text()


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (["push-v3", "push-v2"], ["push-v3"], "success of 1 task, not of 2 tasks"),
        (["push-v3", "push-v2"], ["push-v3", "reach"], "success of other tasks"),
        (["push-v3", "reach"], ["push-v2", "reach"], "tasks spelled otherwise, as push-v2 for"),
    ],
)
def test_tasks_that_keep_from_comparing_are_told(
    first: list[str], second: list[str], reason: str, tables: Tables, tmp_path: Path
) -> None:
    lines = rows("a", dict.fromkeys(first, 0.5)) + rows("b", dict.fromkeys(second, 0.5))
    tables(write(tmp_path / "a.csv", lines))
    assert f"Not compared with a: b, for {reason}" in (
        (tmp_path / "written" / "aggregate.md").read_text()
    )


def test_other_codes_results_of_our_name_are_told_apart(
    write_run: WriteRun, tables: Tables, tmp_path: Path
) -> None:
    write_run(tmp_path / "ours")
    write_run(tmp_path / "ours", algorithm="d2r")
    theirs = write(tmp_path / "a.csv", rows("mtsac", {"reach-v3": 0.5}))
    assert set(by_method(tables(tmp_path / "ours", theirs))) == {"d2r", "mtsac", "mtsac code=other"}
    assert set(by_method(tables(theirs))) == {"mtsac"}
    more = write(tmp_path / "b.csv", rows("mtsac code=other", {"reach-v3": 0.8}))
    means = by_method(tables(tmp_path / "ours", theirs, more))
    assert sorted(float(row["mean"]) for row in means.values()) == pytest.approx(
        [0.5, 0.5, 0.51, 0.81]
    )


@pytest.mark.parametrize("name", ["mean", "Average", "all"])
def test_a_mean_over_tasks_is_no_task(name: str, tmp_path: Path) -> None:
    lines = [*BOTH, *rows("moore", {name: 0.6})]
    assert success_matrix(load([write(tmp_path / "a.csv", lines)]))["moore"].tasks == (
        "push-v3",
        "reach-v3",
    )


def test_more_tasks_than_a_set_has_are_told(tmp_path: Path) -> None:
    lines = [f"{x},MT10" for x in rows("x", {f"task-{i}": 0.5 for i in range(11)}, [0])]
    frame = load([write(tmp_path / "a.csv", lines, f"{HEADER},task_set")])
    assert remarks(frame) == {"x": ["x: has success of 11 tasks, more than MT10 has"]}


def test_cells_that_programs_leave_for_empty_ones_are_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = f"{HEADER},goals,total_steps"
    lines = [f"{x},{'nan' if ',100,' in x else ''},None" for x in BOTH]
    frame = load([write(tmp_path / "a.csv", lines, header)])
    assert set(frame["label"]) == {"moore"} and set(frame["goals"]) == {""}
    lines = [f"{x},preset,{200 if 'push' in x else ''}" for x in BOTH]
    assert len(set(load([write(tmp_path / "a.csv", lines, header)])["label"])) == 2
    assert "are two runs, for the first has no total_steps" in capsys.readouterr().err


def test_tables_of_an_earlier_call_are_named(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "a.csv", BOTH)
    tables(one, write(tmp_path / "b.csv", rows("x", {"reach-v3": 0.3, "push-v3": 0.3})))
    assert "earlier call" not in capsys.readouterr().err
    tables(one)
    assert "of an earlier call, not of these rows:" in (said := capsys.readouterr().err)
    assert "comparisons.md" in said and "aggregate" not in said


def test_evaluations_that_lack_tasks_are_told(tmp_path: Path) -> None:
    lines = [x for x in BOTH if not x.startswith("moore,push-v3,0,success,100")]
    (found,) = remarks(load([write(tmp_path / "a.csv", lines)]))["moore"]
    assert found.startswith("moore: 1 of its 6 evaluations lack success of some of its 2 tasks")


def test_a_whole_agent_scored_after_its_tasks_is_told(tmp_path: Path) -> None:
    lines = [*BOTH, *rows("moore", {"": 0.7}, steps=[210])]
    (found,) = remarks(load([write(tmp_path / "a.csv", lines)]))["moore"]
    assert "success of single tasks up to step 200 alone" in found and "at step 210" in found


def test_a_method_that_lacks_a_task_of_its_set_says_so_where_its_numbers_stand(
    tables: Tables, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "p" / "a.csv", ["x,mt10,0,success,100,0.5", "x,reach-v3,0,success,100,1"]
    )
    line = "x: has success of 1 of the tasks of MT10, and is scored on them alone"
    assert remarks(load([file])) == {"x": [line]}
    assert f"- {line}." in caption("", "", load([file]))
    tables(file)
    assert f"{line}." in (tmp_path / "written" / "aggregate.md").read_text()


def test_whole_agents_and_single_tasks_in_files_of_their_own_are_one_run(tmp_path: Path) -> None:
    write(tmp_path / "p" / "a.csv", ["x,mt10,0,success,100,0.5"])
    write(tmp_path / "p" / "b.csv", ["x,reach-v3,0,success,100,1"])
    frame = load([tmp_path / "p"])
    assert set(frame["run"]) == {"x-s0"} and set(frame["task_set"]) == {"MT10"}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32 - 1))
def test_order_and_files_of_rows_change_nothing(tmp_path: Path, seed: int) -> None:
    lines = [*BOTH, *rows("paco", {"reach-v3": 0.3}), *rows("x", {"": 0.5}, seeds=[3, 1])]
    chance = random.Random(seed)
    expected = load([write(tmp_path / "whole.csv", lines)]).drop(columns="source")
    drawn = lines + chance.sample(lines, 5)
    chance.shuffle(drawn)
    folder = tmp_path / str(seed)
    count = chance.randint(1, 4)
    files = [write(folder / f"{i}.csv", drawn[i::count]) for i in range(count)]
    chance.shuffle(files)
    pd.testing.assert_frame_equal(load(files).drop(columns="source"), expected)


def test_order_of_rows_in_a_parquet_file_changes_nothing(
    write_run: WriteRun, tables: Tables, tmp_path: Path
) -> None:
    runs = [write_run(tmp_path / "r", algorithm=a, seed=s) for a in ("x", "y") for s in range(3)]
    joined = pd.concat([pd.read_parquet(path) for path in runs])
    found = []
    for index in (0, 1):
        path = tmp_path / f"{index}.parquet"
        joined.sample(frac=1, random_state=index).to_parquet(path)
        found.append(tables(path))
    assert found[0] == found[1] and len(by_method(found[0])) == 2


@pytest.mark.parametrize("files", [("a.csv", "a.csv"), ("a.csv", "b.csv")])
def test_contradictions_are_refused_by_file_and_line(
    files: tuple[str, str], tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {"a.csv": list(BOTH), "b.csv": []}
    lines[files[1]].append("moore,reach-v3,1,success,200,0.99")
    for name, own in lines.items():
        if own:
            write(tmp_path / "p" / name, own)
    tables(tmp_path / "p", status=2)
    line = 2 + len(BOTH) if files[1] == "a.csv" else 2
    said = capsys.readouterr().err
    assert f"{files[1]}:{line}: success reach-v3 is 0.99 at step 200, but 0.81 in" in said
    assert f"a.csv:{2 + BOTH.index('moore,reach-v3,1,success,200,0.8100')}" in said
    found = by_method(tables(tmp_path / "p", "--skip-malformed"))["moore"]
    assert found["seeds"] == "2" and float(found["mean"]) == pytest.approx(0.61)
    assert "left out as a whole" in (said := capsys.readouterr().err) and "moore-s1" in said


def test_copies_count_once_and_are_named(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "p" / "a.csv", BOTH)
    write(tmp_path / "p" / "b.csv", BOTH[-2:])
    assert by_method(tables(tmp_path / "p"))["moore"]["seeds"] == "3"
    said = capsys.readouterr().err
    assert "there twice and count once, 2 in all" in said and "moore-s2: in" in said


LAST = "2,success,200,0.8200"


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ((LAST, "2,success,200,bad"), [0, 1]),
        (("2,success,100,0.4200", "2,success,100,nan"), [0, 1]),
        ((LAST, "2,success"), [0, 1]),
        ((LAST, "2,succ"), [0, 1]),
        ((LAST, "2,success,1e30,0.8200"), [0, 1]),
        ((LAST, "two,success,200,0.8200"), [0, 1]),
        ((LAST, "2,success,200,82"), [0, 1]),
        ((LAST, f"{LAST}\nmoore,reach-v3,2,return,200,?"), [0, 1, 2]),
        ((LAST, f"{LAST}\nmoore,reach-v3,nine,success,200,1"), [0, 1, 2]),
    ],
)
def test_a_run_that_lost_a_row_is_left_out_as_a_whole_and_named(
    damage: tuple[str, str],
    left: list[int],
    tables: Tables,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path / "a.csv", BOTH)
    path.write_text(path.read_text().replace(f"reach-v3,{damage[0]}", f"reach-v3,{damage[1]}"))
    tables(path, status=2)
    assert re.search(r"a\.csv:\d+: ", capsys.readouterr().err)
    found = by_method(tables(path, "--skip-malformed"))["moore"]
    assert found["seeds"] == str(len(left))
    assert float(found["mean"]) == pytest.approx(0.6 + sum(left) / len(left) / 100)
    named = (
        "left out as a whole, for what was skipped of them:\n  moore-s2" in capsys.readouterr().err
    )
    assert named == (2 not in left)


def test_a_missing_row_names_run_and_files_and_is_skipped_with_its_run(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "p" / "reach.csv", [x for x in BOTH if "reach" in x])
    push = write(tmp_path / "p" / "push.csv", [x for x in BOTH if "push" in x][:-1])
    tables(tmp_path / "p", status=2)
    said = capsys.readouterr().err
    assert "run moore-s2 has no push-v3 at step 200" in said and str(push) in said
    assert by_method(tables(tmp_path / "p", "--skip-malformed"))["moore"]["seeds"] == "2"


def test_a_task_that_ends_before_the_others_is_no_final_score(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", [x for x in BOTH if ",200," not in x or "reach" in x])
    tables(path, status=2)
    assert "has no push-v3 at step 200" in capsys.readouterr().err


def test_seeds_that_end_at_different_steps_are_scored_at_the_last_that_all_share(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crashed = [x for x in BOTH if ",200," not in x or ",2," not in x]
    path = write(tmp_path / "a.csv", [*crashed, *rows("paco", {"reach-v3": 0.5, "push-v3": 0.5})])
    found = tables(path)
    said = "its runs end at step 100 (seed 2), 200 (seed 0, 1); the last step"
    assert f"moore: {said}" in capsys.readouterr().err
    means = {name: float(row["mean"]) for name, row in by_method(found).items()}
    # paco, which did go on, is scored at the same step: it is compared with moore.
    assert means == {"moore": pytest.approx(0.31), "paco": pytest.approx(0.26)}
    (pair,) = found["comparisons"]
    assert float(pair["difference, IQM over seeds"]) == pytest.approx(0.05)
    for name in ("aggregate", "per_task", "comparisons"):
        assert said in (tmp_path / "written" / f"{name}.md").read_text(), name
    tables(path, "--ends", "refuse", status=2)
    assert "end at different steps" in (said := capsys.readouterr().err) and "moore" in said
    assert main(["plots", str(path), "--only", "aggregates", "--out", str(tmp_path / "f")]) == 0
    assert "its runs end at step" in (tmp_path / "f" / "aggregates-push+reach.md").read_text()


def test_a_seed_that_is_left_out_does_not_move_the_step_of_the_others(tmp_path: Path) -> None:
    """It lacks a task at its only step, which is an earlier one."""
    short = [line for line in BOTH if ",2," in line and ",100," in line and "push" not in line]
    whole = [line for line in BOTH if ",2," not in line]
    # Known at a step that is no evaluation of the others, so that it has the task at all.
    early = [f"moore,{task}-v3,2,success,50,0.1" for task in ("reach", "push")]
    frame = load([write(tmp_path / "a.csv", [*whole, *short, *early])], skip_malformed=True)
    assert set(success_matrix(frame)["moore"].steps) == {200}


def test_a_run_that_diverged_counts_and_is_named(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    well = [f"{x}," for x in rows("moore", {"reach-v3": 0.8}, [0, 2])]
    sick = ["moore,reach-v3,1,success,100,0.4,150", "moore,reach-v3,1,success,200,0,150"]
    units = [
        *(f"moore,,{seed},plasticity/actor/srank/pooled,200,{seed}," for seed in (0, 2)),
        "moore,,1,plasticity/actor/srank/pooled,100,50,150",
    ]
    path = write(tmp_path / "a.csv", [*well, *sick, *units], f"{HEADER},diverged_at")
    found = tables(path)
    said = "moore: training diverged (seed 1 after env step 150); success counts as 0 from there on"
    # Ranks are those of the two runs that came to the end, there.
    ranks = load([path])
    ranks = ranks[ranks["metric"] == "plasticity/actor/srank/pooled"]
    assert (ranks["env_step"] == 200).all() and sorted(ranks["value"]) == [0, 2]
    assert said in capsys.readouterr().err
    assert float(by_method(found)["moore"]["mean"]) == pytest.approx((0.8 + 0 + 0.82) / 3, abs=1e-3)
    for name in ("aggregate", "per_task"):
        assert said in (tmp_path / "written" / f"{name}.md").read_text(), name


def test_success_after_a_run_diverged_is_refused(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"x,reach-v3,0,success,{step},0.8,150" for step in (100, 200)]
    tables(write(tmp_path / "a.csv", lines, f"{HEADER},diverged_at"), status=2)
    said = capsys.readouterr().err
    assert "a.csv:3: success reach-v3 is 0.8 at step 200, but its run diverged at step 150" in said


def test_an_evaluation_before_training_is_no_score_of_runs_that_learned(
    tables: Tables, tmp_path: Path
) -> None:
    lines = [
        *rows("x", {"reach-v3": 0.5}, steps=[0, 100, 200]),
        *rows("y", {"reach-v3": 0.6}, steps=[0, 150, 250]),
    ]
    found = by_method(tables(write(tmp_path / "a.csv", lines)))
    assert {name: round(float(row["mean"]), 2) for name, row in found.items()} == {
        "x": 0.51, "y": 0.61,
    }  # fmt: skip


def test_seeds_that_share_no_step_are_refused(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*rows("x", {"reach-v3": 0.5}, [0]), *rows("x", {"reach-v3": 0.5}, [1], [150, 250])]
    tables(write(tmp_path / "a.csv", lines), status=2)
    assert "x-s1 ends at step 250" in capsys.readouterr().err


def test_methods_that_share_no_step_are_not_compared(tables: Tables, tmp_path: Path) -> None:
    lines = [*rows("x", {"reach-v3": 0.5}), *rows("y", {"reach-v3": 0.6}, steps=[150, 250])]
    found = tables(write(tmp_path / "a.csv", lines))
    assert {name: round(float(row["mean"]), 2) for name, row in by_method(found).items()} == {
        "x": 0.51, "y": 0.61,
    }  # fmt: skip
    assert "comparisons" not in found
    assert "final step are not compared" in (tmp_path / "written" / "aggregate.md").read_text()


@pytest.mark.parametrize("first", ["a", "z"])
def test_comparisons_do_not_depend_on_who_is_first(
    first: str, tables: Tables, tmp_path: Path
) -> None:
    pairs = [*rows("m", {"door": 0.5, "push": 0.5}), *rows("n", {"push": 0.7, "door": 0.7})]
    path = write(tmp_path / "a.csv", [*rows(first, {"reach": 0.9}), *pairs])
    assert main(["report", str(path), "--no-figures", "--out", str(tmp_path / "r.html")]) == 0
    assert "m − n: -0.200" in (tmp_path / "r.html").read_text(encoding="utf-8")
    found = tables(path)
    assert [row["comparison"] for row in found["comparisons"]] == ["m − n"]
    assert float(found["comparisons"][0]["difference, IQM over seeds"]) == pytest.approx(-0.2)


def test_task_sets_without_a_name_have_files_and_figures_of_their_own(
    tables: Tables, tmp_path: Path
) -> None:
    sets = [
        {"reach": 0.2}, {"push": 0.4}, {f"a{i}": 0.5 for i in range(9)},
        {f"b{i}": 0.5 for i in range(9)}, {"re/ach": 0.3}, {"re_ach": 0.3}, {"RE_ach": 0.3},
    ]  # fmt: skip
    lines = [line for i, tasks in enumerate(sets) for line in rows(f"m{i}", tasks)]
    path = write(tmp_path / "a.csv", lines)
    found = tables(path)
    per_task = [table for name, table in found.items() if name.startswith("per_task_")]
    columns = {name for table in per_task for name in table[0]} - {"task"}
    assert len(per_task) == 7 and {f"m{i}" for i in range(7)} <= columns
    for name in found:
        caption = (tmp_path / "written" / f"{name}.md").read_text().splitlines()[0]
        assert not re.search(r"[;,:]\s*[.;,]|\s\.", caption), caption
    assert main(["plots", str(path), "--only", "heat_map", "--out", str(tmp_path / "f")]) == 0
    assert len(list((tmp_path / "f").glob("*.png"))) == 7


def test_the_best_evaluation_is_never_below_the_final_one(tmp_path: Path) -> None:
    write(
        tmp_path / "a.csv",
        [
            *("x,reach,0,success,100,0.2", "x,reach,1,success,100,0.3"),
            *("x,,0,success,200,0.9", "x,,1,success,200,0.8"),
            *("y,reach,0,success,100,0.2", "y,,0,success,100,0.2", "y,reach,0,success,200,0.4"),
        ],
    )
    frame = load([tmp_path / "a.csv"])
    final, best = success_matrix(frame), success_matrix(frame, at="best")
    assert final["x"].values.tolist() == best["x"].values.tolist() == [[0.9], [0.8]]
    assert final["y"].values.tolist() == best["y"].values.tolist() == [[0.4]]
    # The curve has every evaluation, also those that have no row of the whole agent.
    assert curves(frame)["y"].values.tolist() == [[0.2, 0.4]]
    assert curves(frame)["x"].values.tolist() == [[0.2, 0.9], [0.3, 0.8]]


def test_a_whole_success_that_is_not_the_mean_of_the_tasks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load([write(tmp_path / "a.csv", ["x,reach,0,success,100,0.2", "x,,0,success,100,0.9"])])
    assert "run x-s0: success of the whole agent at step 100 is 0.9" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mt10", "MT10", "Mt10", "MT10-v3", "Meta-World/MT10"])
def test_a_task_set_in_any_spelling_is_the_whole_agent(name: str, tmp_path: Path) -> None:
    frame = load([write(tmp_path / "a.csv", [f"x,{name},0,success,100,0.5"])])
    assert set(frame["task_set"]) == {"MT10"} and set(frame["task"]) == {""}
    assert success_matrix(frame)["x"].values.tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("name", "task_set"),
    [("ML10", "ML10"), ("ml45", "ML45"), ("MT1:reach-v3", "reach-v3"), ('"a, b"', "a,b")],
)
def test_other_task_sets_are_whole_agents_too(name: str, task_set: str, tmp_path: Path) -> None:
    frame = load([write(tmp_path / "a.csv", [f"x,{name},0,success,100,0.5"])])
    assert set(frame["task_set"]) == {task_set} and set(frame["task"]) == {""}


@pytest.mark.parametrize("value", ["77.0", "1.5", "-0.1", "100"])
@pytest.mark.parametrize("task", ["reach-v3", "MT10", ""])
def test_a_success_that_is_no_share_is_refused(
    value: str, task: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", [*BOTH[:2], f"y,{task},0,success,100,{value}"])
    tables(path, status=2)
    assert f"{path}:4: success" in (said := capsys.readouterr().err)
    assert "no share from 0 to 1" in said
    assert ("divide percentages by 100" in said) is (float(value) > 1)


@pytest.mark.parametrize("change", [("value", 77.0), ("env_step", -1), ("value", float("nan"))])
def test_a_parquet_file_is_held_to_the_same(
    change: tuple[str, float], write_run: WriteRun, tmp_path: Path
) -> None:
    path = write_run(tmp_path)
    table = pd.read_parquet(path)
    table.loc[table.index[table["metric"] == "success"][0], change[0]] = change[1]
    table.to_parquet(path)
    with pytest.raises(RowsError, match=re.escape(str(path))):
        load([path])


@pytest.mark.parametrize(
    "step", ["1e30", "1e16", "-1", "1.5", "nan", "inf", "-inf", "", "1e400", "0x10", "ten"]
)
def test_a_step_that_is_no_step_is_refused_by_line(
    step: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", [*BOTH, f"x,reach-v3,0,success,{step},0.5"])
    tables(path, status=2)
    assert f"{path}:{len(BOTH) + 2}: env_step: '{step}' is not a" in capsys.readouterr().err


def test_a_folder_of_csv_files_is_read_and_other_tables_are_named(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "p" / "one.csv", BOTH)
    write(tmp_path / "p" / "deep" / "two.CSV", rows("paco", {"reach-v3": 0.5, "push-v3": 0.1}))
    write(tmp_path / "p" / "ours.csv", ["x,0.5"], "method,mean")
    assert set(by_method(tables(tmp_path / "p"))) == {"moore", "paco"}
    assert "ours.csv" in capsys.readouterr().err
    write(tmp_path / "p" / "broken.csv", ["x,0.5"], "exp_name,value")
    tables(tmp_path / "p", status=2)
    assert "broken.csv:1: has no column" in capsys.readouterr().err


NAMES = [
    "a|b", "two\nlines", "tab\tted", "=1+1", "+1", "-1", "@SUM(A1)", "\\|", "<script>", "`x`",
    "*b*", "[a](b)", "  =1", "\x1b[31mred", "＝1", "$\\frac{$", "_hidden", "[x]", "a,b;c",
]  # fmt: skip


def test_names_break_no_table_and_are_no_formula(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER.split(","))
        for name in NAMES:
            writer.writerow([name, "reach|\nv3", 0, "success", 100, 0.5])
            writer.writerow([name, "=push", 0, "success", 100, 0.5])
    found = tables(path)
    assert len(by_method(found)) == len(NAMES)
    for written in (tmp_path / "written").iterdir():
        text = written.read_text(encoding="utf-8")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
        if written.suffix == ".csv":
            cells = [cell for line in csv.reader(text.splitlines()) for cell in line]
            numbers = re.compile(r"-?(\d+(\.\d+)?(e-?\d+)?|inf)")
            for cell in cells:
                assert numbers.fullmatch(cell) or not cell.strip().startswith(
                    ("=", "+", "-", "@", "＝")
                ), cell
        if written.suffix == ".md":
            table = [line for line in text.splitlines() if line.startswith("|")]
            # A pipe behind an even number of backslashes divides cells.
            widths = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table}
            assert len(widths) == 1, written
            assert not re.search(r"(?<!\\)(?:\\\\)*(<script|`)", text)
    (per_task,) = [table for name, table in found.items() if name.startswith("per_task")]
    assert [row["task"] for row in per_task] == ["'=push", "reach| v3"]


def test_names_are_drawn_as_they_stand(tmp_path: Path) -> None:
    lines = [f'"{n}",reach$_{{$,{s},success,{t},0.{s}{t}' for n in ("$x_{$", "_y", "my a", "my b")
             for s in (0, 1) for t in (1, 2)]  # fmt: skip
    path = write(tmp_path / "a.csv", lines)
    assert main(["plots", str(path), "--out", str(tmp_path / "f")]) == 0
    assert len(list((tmp_path / "f").glob("*.png"))) >= 6


def test_labels_that_read_alike_are_told_apart(tmp_path: Path) -> None:
    lines = [
        "x,a,0,success,1,0.1,200",
        "x,a,0,success,1,0.2,500",
        "x horizon=200,a,0,success,1,0.3,",
    ]
    found = success_matrix(load([write(tmp_path / "a.csv", lines, f"{HEADER},horizon")]))
    assert sorted(float(s.values[0, 0]) for s in found.values()) == [0.1, 0.2, 0.3]


def test_runs_without_success_are_named(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", [*BOTH, "q,reach-v3,0,Success,100,0.5"])
    tables(path)
    assert f"without scores:\n  q-s0 ({path})" in capsys.readouterr().err


def test_comparisons_say_what_p_tests(tables: Tables, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*rows("x", {"a": 0.5}), *rows("y", {"a": 0.7})])
    (pair,) = tables(path)["comparisons"]
    assert float(pair["p, difference of means"]) == pytest.approx(0.1)
    text = (tmp_path / "written" / "comparisons.md").read_text()
    assert "p tests means, while the difference beside it is one of IQMs" in text


def test_plasticity_is_that_of_the_last_step_that_all_seeds_share(
    tables: Tables, tmp_path: Path
) -> None:
    metric = "plasticity/actor/srank/pooled"
    lines = [f"moore,,{seed},{metric},{step},{step}" for seed in range(3) for step in (100, 200)]
    found = tables(write(tmp_path / "a.csv", [*BOTH, *lines[:-1]]))
    assert float(found["plasticity"][0]["srank"]) == 100 and found["plasticity"][0]["seeds"] == "3"
    assert "moore at step 100" in (tmp_path / "written" / "plasticity.md").read_text()


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("total_parameters", ["1000", "2000"]),
        ("actor_width,critic_width,evaluation", ["64,64,stochastic", "64,64,deterministic"]),
        ("goals", ["fixed", "random"]),
        ("reward_version", ["v1", "v2"]),
        ("total_steps", ["100", "200"]),
        ("version_metaworld,horizon", ["2.0,200", "3.0,200"]),
    ],
)
def test_sizes_and_protocols_are_never_pooled(
    header: str, cells: list[str], tables: Tables, tmp_path: Path
) -> None:
    for index, more in enumerate(cells):
        lines = [f"{x},{more}" for x in rows("x", {"reach": 0.2 + 0.4 * index}, steps=[100, 200])]
        write(tmp_path / "p" / f"{index}.csv", lines, f"{HEADER},{header}")
    found = by_method(tables(tmp_path / "p"))
    assert sorted(round(float(row["mean"]), 2) for row in found.values()) == [0.21, 0.61]
    assert {row["seeds"] for row in found.values()} == {"3"}
