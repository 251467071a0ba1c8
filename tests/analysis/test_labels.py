"""Labels: one for all seeds of a configuration, another for each other configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.defaults import OLDER
from analysis.frame import algorithms
from analysis.labels import flat, short_names
from analysis.remarks import remarks
from analysis.rows import load, runs
from analysis.scores import curves, success_matrix
from suite.config import YOUNGER

WriteRun = Callable[..., Path]


def found(folder: Path) -> list[str]:
    return sorted(set(runs(load([folder]))["label"].astype(str)))


def test_seeds_and_devices_share_a_label(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, device in [(0, "cpu"), (1, "cuda:0"), (2, "cuda:1")]:
        write_run(tmp_path, seed=seed, device=device, metrics_every=1 + seed)
    assert found(tmp_path) == ["mtsac"]


def test_widths_are_named_together_where_they_are_equal(
    write_run: WriteRun, tmp_path: Path
) -> None:
    for actor, critic in [(256, 256), (1024, 1024), (256, 1024)]:
        write_run(tmp_path, actor_width=actor, critic_width=critic)
    assert found(tmp_path) == ["mtsac width=1024", "mtsac width=256", "mtsac width=256/1024"]


def test_only_the_algorithm_that_has_several_configurations_is_told_apart(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path, algorithm="mega")
    write_run(tmp_path, discount=0.9)
    write_run(tmp_path, discount=0.99)
    assert found(tmp_path) == ["mega", "mtsac discount=0.9", "mtsac discount=0.99"]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        # The default goes without saying, though most have another value.
        (["uniform", "temperature", "temperature"], ["mtsac", "mtsac task-weighting=temperature"]),
        # No default is there: what most have does.
        ([0.5, 0.5, 0.25], ["mtsac", "mtsac discount=0.25"]),
        ([0.5, 0.25], ["mtsac discount=0.25", "mtsac discount=0.5"]),
    ],
)
def test_short_names_leave_out_what_goes_without_saying(
    values: list[object], names: list[str], write_run: WriteRun, tmp_path: Path
) -> None:
    setting = "discount" if isinstance(values[0], float) else "task_weighting"
    for index, value in enumerate(values):
        # Widths tell those of one value apart.
        write_run(tmp_path, **{setting: value}, actor_width=64 + index, critic_width=64)
    short = short_names(algorithms(runs(load([tmp_path]))))
    kept = {" ".join(w for w in n.split() if not w.startswith("width")) for n in short.values()}
    assert sorted(kept) == names


def test_a_width_hides_no_other_difference(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(tmp_path, actor_width=64, critic_width=64)
    write_run(tmp_path, actor_width=128, critic_width=128, discount=0.5)
    named = [[word.partition("=")[0] for word in label.split()] for label in found(tmp_path)]
    assert named == [["mtsac", "width", "discount"]] * 2


def test_no_configuration_is_named_as_the_plain_one_that_is_not(
    write_run: WriteRun, tmp_path: Path
) -> None:
    # The trigger alone tells them apart, but the second has the default one.
    write_run(tmp_path, algorithm="mega", trigger="none")
    write_run(tmp_path, algorithm="mega", trigger="return", evolution=False)
    frame = load([tmp_path])
    assert set(short_names(algorithms(frame)).values()) == {
        "mega trigger=none",
        "mega evolution=False",
    }
    # Nor where the task set alone tells them apart.
    write_run(tmp_path / "sets", task_set="MT10")
    write_run(tmp_path / "sets", task_set="MT50", discount=0.9)
    assert "mtsac tasks=MT50 discount=0.9" in found(tmp_path / "sets")


def test_a_setting_that_is_younger_than_a_run_is_its_default(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path)
    write_run(tmp_path, seed=1, combine="mean")
    assert found(tmp_path) == ["mtsac"]


def test_a_field_of_the_suite_that_is_younger_than_a_run_is_what_runs_had() -> None:
    """And configurations leave out what they had."""
    assert {part: YOUNGER[part] for part in OLDER} == OLDER
    assert set(YOUNGER) - set(OLDER) == {"settings"}
    fields = flat({"algorithm": "mtsac", "training": {"steps": 1}, "evaluation": {"probe_size": 1}})
    assert (fields["precision"], fields["updates_per_step"], fields["steps"]) == ("float32", 1, 1)
    assert flat({"training": {"precision": "tf32"}})["precision"] == "tf32"
    assert "precision" not in flat({"algorithm": "x"}), "other code's"


def test_devices_of_a_label_are_told(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, device in enumerate(["cpu", "cuda:0", "cuda:1"]):
        write_run(tmp_path / "both", seed=seed, device=device)
        write_run(tmp_path / "gpus", seed=seed, device=f"cuda:{seed}")
    line = "mtsac: its runs were made on cpu (seed 0) and cuda (seed 1, 2)"
    assert remarks(load([tmp_path / "both"])) == {"mtsac": [line]}
    assert remarks(load([tmp_path / "gpus"])) == {}


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"horizon": 200}, "mtsac horizon=200"),
        ({"total_steps": 8000}, "mtsac total-steps=8000"),
        ({"task_set": "MT50"}, "mtsac tasks=MT50"),
        ({"new_field": True}, "mtsac new-field=True"),
    ],
)
def test_protocols_are_never_one_label(
    change: dict[str, object], label: str, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path)
    write_run(tmp_path, **change)
    assert label in found(tmp_path) and len(found(tmp_path)) == 2


def test_fields_that_differ_along_are_told_but_not_in_the_label(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, task_set="MT10", total_steps=4000, gene_bits=2)
    write_run(tmp_path, task_set="MT50", total_steps=8000, gene_bits=4)
    assert found(tmp_path) == ["mtsac tasks=MT10", "mtsac tasks=MT50"]
    said = capsys.readouterr().err
    assert "mtsac also differ in total-steps" in said and "gene-bits" in said


def test_a_goal_seed_that_was_given_is_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "own", seed=seed)
        write_run(tmp_path / "given", seed=seed, goal_seed=7)
    assert found(tmp_path / "own") == ["mtsac"]
    assert found(tmp_path / "given") == ["mtsac"]
    assert found(tmp_path) == ["mtsac goal-seed=7", "mtsac goal-seed=own"]


def test_configurations_are_in_order_of_their_size(write_run: WriteRun, tmp_path: Path) -> None:
    for width in (1024, 256, 64):
        write_run(tmp_path, actor_width=width, critic_width=width)
    write_run(tmp_path, algorithm="mega")
    frame = load([tmp_path])
    order = ["mega", "mtsac width=64", "mtsac width=256", "mtsac width=1024"]
    assert list(frame["label"].cat.categories) == order
    assert list(success_matrix(frame)) == list(curves(frame)) == order


def test_a_goal_seed_that_happens_to_be_a_runs_own_is_no_other_configuration(
    write_run: WriteRun, tmp_path: Path
) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, seed=seed, goal_seed=1)
    assert found(tmp_path) == ["mtsac"]
