"""Several seeds in one process: each leaves the directory that it would have left alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from real_sweeps import fields, planned
from smoke_runs import short

from suite.bench import standing_together
from suite.cli import main
from suite.options import command_line, parse
from suite.runs.directory import RunDirectory
from suite.sweeps.plan import of_seeds, together

SCRIPT = Path(__file__).parents[1] / "run_and_die.py"


def arguments(algorithm: str, results: Path, **others: str) -> list[str]:
    return short(algorithm, results, **{"steps": "320", **others})


def call(command: list[str]) -> tuple[int, str]:
    """The command line in this process: exit status and output."""
    threads, output = torch.get_num_threads(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = main(command)
    torch.set_num_threads(threads)
    return status, output.getvalue()


def tables(results: Path) -> dict[str, pd.DataFrame]:
    return {p.parent.name: pd.read_parquet(p) for p in sorted(results.glob("*/rows.parquet"))}


def test_rows_are_those_of_single_runs_to_the_bit(tmp_path: Path) -> None:
    status, _ = call(arguments("mega", tmp_path / "together", seeds="4,0", batched="True"))
    assert status == 0
    for seed in ("4", "0"):
        assert call(arguments("mega", tmp_path / "alone", seed=seed))[0] == 0
    both, alone = tables(tmp_path / "together"), tables(tmp_path / "alone")
    assert len(both) == 2 and both.keys() == alone.keys()
    for name, expected in alone.items():
        pd.testing.assert_frame_equal(both[name], expected, check_exact=True)
    for path in (tmp_path / "together").glob("*/provenance.json"):
        assert json.loads(path.read_text())[0]["seeds_together"] == [4, 0]


def test_done_seeds_are_shown_and_the_others_trained(tmp_path: Path) -> None:
    status, output = call(arguments("mtsac", tmp_path, seeds="1,3"))
    assert status == 0
    # Without --batched, one after the other.
    assert output.count("320 env steps on 2 tasks") == 2
    before = row_files(tmp_path)
    status, output = call(arguments("mtsac", tmp_path, seeds="4", batched="True"))
    assert status == 0
    assert output.count("this run is done") == 2 and "-s0,2: 320 env steps" in output
    assert len(tables(tmp_path)) == 4
    assert before.items() <= row_files(tmp_path).items()


def killed(results: Path, die_at: int, where: str) -> bool:
    """Whether two seeds together, in a process that kills itself, were killed."""
    command = arguments("mtsac", results, seeds="2", batched="True")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(die_at), where, *command],
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
    )
    return done.returncode == -signal.SIGKILL


def row_files(results: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in results.glob("*/rows.parquet")}


def test_killed_and_damaged_and_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    assert call(arguments("mtsac", whole, seeds="2", batched="True"))[0] == 0
    assert len(row_files(whole)) == 2
    # Between the checkpoints of the two: each round writes eight files, half for each seed.
    assert killed(other, 30, "during")
    # Of the newest round that both have, one seed's is damaged and the other one's whole.
    shared = max(path.name for path in other.glob("*-s1-*/checkpoints/state-*.pt"))
    (newest,) = other.glob(f"*-s0-*/checkpoints/{shared}")
    newest.write_bytes(newest.read_bytes()[:-7] + b"garbage")
    assert call(arguments("mtsac", other, seeds="2", batched="True"))[0] == 0
    assert row_files(other) == row_files(whole)


def directory(results: Path, seed: int, rounds: list[int], threads: int = 1) -> RunDirectory:
    """A run of which there are checkpoints of these rounds."""
    made = RunDirectory(parse(arguments("mtsac", results, seed=str(seed))[1:]))
    made.path.mkdir(parents=True)
    (made.path / "provenance.json").write_text(json.dumps([{"threads": threads}]))
    for round_ in rounds:
        made.checkpoints.save(round_, {"round": round_}, {}, 0, 10, None)
    return made


def test_runs_go_on_together_from_the_newest_round_that_they_share(tmp_path: Path) -> None:
    behind, ahead = directory(tmp_path, 0, [3, 4]), directory(tmp_path, 1, [4, 5])
    far, fresh = directory(tmp_path, 2, [8, 9]), directory(tmp_path, 3, [])
    fresh_too = directory(tmp_path, 4, [])
    groups = list(standing_together([behind, ahead, far, fresh, fresh_too]))
    assert groups == [(0, [fresh, fresh_too]), (4, [behind, ahead]), (None, [far])]
    loaded = ahead.checkpoints.load(4)
    assert loaded is not None and loaded.state["round"] == 4
    assert ahead.checkpoints.rounds() == [4], "what came after is made again"


def test_runs_that_began_with_other_threads_stay_apart(tmp_path: Path) -> None:
    one, other = directory(tmp_path, 0, [2]), directory(tmp_path, 1, [2], threads=2)
    config = parse(arguments("mtsac", tmp_path, threads="0")[1:])
    one.config = other.config = config
    assert list(standing_together([one, other])) == [(None, [one]), (None, [other])]


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": "0"}, "for seed 0 alone SEED=0 (--seed 0)"),
        ({"seeds": "-1"}, "seeds: -1 is how many, counted from --seed: none; give 1 or more"),
        ({"seeds": "1,1"}, "seeds: '1,1' names a seed twice; name each once"),
        ({"seeds": "99999999999"}, "seeds: 99999999999 are too many, more than 10,000"),
        ({"seeds": "a"}, "seeds: 'a' is not a whole number"),
        *(
            ({"seeds": "0,7", "seed": seed}, f"seeds: 0,7 is a list of all seeds, and seed {seed}")
            for seed in ("0", "3", "7")
        ),
        ({"seeds": "-1,2"}, "seed: -1 is out of range; give 0 to"),
        ({"seeds": "2", "run_dir": "x"}, "run-dir: several seeds have a directory each"),
        ({"seeds": "2", "batched": "True", "track": "wandb"}, "track: wandb"),
        ({"seeds": "2", "batched": "True", "buffer_per_task": "40000000"}, "2 tasks and 2 seeds"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    options: dict[str, str], message: str, tmp_path: Path
) -> None:
    status, output = call(arguments("mtsac", tmp_path, **options))
    assert status == 2
    assert message in output and output.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Sweeps --------------------------------------------------------------------------------------


def test_a_sweep_starts_batched_seeds_as_one(tmp_path: Path) -> None:
    given = fields(tmp_path, alg="mtsac,mega", seed="0,3,1", batched="True")
    runs = planned(given).runs
    started = together(runs)
    assert [[run.seed for run in s.each_seed()] for s in started] == [[0, 1, 3], [0, 1, 3]]
    assert {run.name() for s in started for run in s.each_seed()} == {r.name() for r in runs}
    assert together(planned({**given, "batched": "False"}).runs) == list(
        planned({**given, "batched": "False"}).runs
    )
    # What a launcher hands to a process comes back as the same runs.
    (_, *line) = command_line(started[0])
    assert parse(line).each_seed() == started[0].each_seed()
    later = of_seeds([run for run in runs if run.algorithm == "mega" and run.seed])
    assert [run.seed for run in later.each_seed()] == [1, 3]
    assert parse(command_line(later)[1:]).each_seed() == later.each_seed()
