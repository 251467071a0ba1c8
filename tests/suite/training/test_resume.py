"""A run that is killed, wherever, and started again ends as if nothing had happened."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import storm
import torch
from smoke_runs import Run, call, short

from algorithms.trial import differs
from suite.cli import main
from suite.options import parse

SCRIPT = Path(__file__).parents[1] / "run_and_die.py"
LOADED = 4.0
"""About the seconds that a process takes to load what it needs."""

# So short a run breeds and grows only with small numbers; MEGA's state is what resumes here, with
# that of all its extensions.
EVOLVING = storm.EVOLVING | {
    "critic-genotypes": "True",
    "critic-first-stage": "1",
    "critic-folds": "2",
    "genotype-gradient": "lamarck",
    "genotype-learning-rate": "1",
}


def arguments(algorithm: str, results: Path, **others: str) -> list[str]:
    # Enough rounds that the replay's ring wraps and every kind of file is written several times.
    evolving = EVOLVING if algorithm == "mega" else {}
    return short(algorithm, results, **{"steps": "480", **evolving, **others})


def start(
    algorithm: str, results: Path, die_at: int = 0, where: str = "before", **others: str
) -> subprocess.Popen[bytes]:
    run = arguments(algorithm, results, **others)
    command = [sys.executable, str(SCRIPT), str(die_at), where, *run]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )


def ended(algorithm: str, results: Path, **others: str) -> Run:
    """What a run leaves that nobody kills; trained in this process, which has torch already."""
    run = call(arguments(algorithm, results, **others), results)
    assert run.status == 0, run
    return run


def directory(algorithm: str, results: Path, **others: str) -> Path:
    return results / parse(arguments(algorithm, results, **others)[1:]).name()


def newest_state(path: Path) -> dict[str, Any]:
    state = max((path / "checkpoints").glob("state-*.pt"))
    loaded: dict[str, Any] = torch.load(state, weights_only=True)
    return loaded


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """The directory of an algorithm's run that nobody disturbs, made once, and the seconds that it
    trained.
    """

    @functools.cache
    def run(algorithm: str) -> tuple[Path, float]:
        results, began = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
        return ended(algorithm, results).path, time.monotonic() - began

    return run


# One with extras in its replay, and one whose state is more than tensors. What each method saves is
# the contract's matter: tests/algorithms/test_contract.py.
@pytest.mark.parametrize("algorithm", ["d2r", "mega"])
def test_killed_at_any_moment_and_resumed_equals_uninterrupted_to_the_bit(
    algorithm: str, tmp_path: Path, undisturbed: Callable[[str], tuple[Path, float]]
) -> None:
    one, whole = undisturbed(algorithm)

    # In a file write: a segment, rows, state or manifest.
    where = "before" if algorithm == "mega" else "during"
    victim = start(algorithm, tmp_path / "killed", random.Random(algorithm).randrange(4, 24), where)
    assert victim.wait() == -signal.SIGKILL, victim.communicate()
    # At any other time: while it starts, steps, learns, evaluates or finishes.
    victim = start(algorithm, tmp_path / "killed")
    time.sleep(random.Random(algorithm).uniform(0.3, 1) * (LOADED + whole))
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    other = ended(algorithm, tmp_path / "killed").path
    rows = pq.read_table(other / "rows.parquet")
    if algorithm == "mega":
        stages = pc.filter(rows["value"], pc.equal(rows["metric"].cast("string"), "stage"))
        assert len(pc.unique(stages)) > 1, "a run whose stages do not grow shows too little"
        for metric in ("critic_generation", "genotype_shift", "critic_target_jump"):
            own = pc.filter(rows["value"], pc.equal(rows["metric"].cast("string"), metric))
            assert pc.max(own).as_py() > 0, f"nor one whose {metric} stays 0"
    assert rows.equals(pq.read_table(one / "rows.parquet"), check_metadata=True)
    assert (other / "rows.parquet").read_bytes() == (one / "rows.parquet").read_bytes()
    assert differs(newest_state(one), newest_state(other)) is None


def test_killed_among_the_updates_after_a_reset_it_makes_them_again(tmp_path: Path) -> None:
    # 12 rounds of 20 locksteps, of which 40 do not learn: the reset comes after 80 updates.
    reset = {"resets": "1", "updates_after_reset": "100", "evaluations": "1"}
    reset["update_every"] = "1"
    ends = []
    for name, die_at in (("whole", 0), ("killed", 130)):
        if die_at:
            victim = start("ars", tmp_path / name, die_at, "learning", **reset)
            assert victim.wait() == -signal.SIGKILL, victim.communicate()
            saved = newest_state(directory("ars", tmp_path / name, **reset))
            assert saved["algorithm"]["due_updates"] == 100, "the checkpoint knows of what was due"
        run = ended("ars", tmp_path / name, **reset)
        assert ("resuming at env step 240\n" in run.output) == bool(die_at)
        ends.append(run.path)
    assert (ends[0] / "rows.parquet").read_bytes() == (ends[1] / "rows.parquet").read_bytes()
    assert differs(newest_state(ends[0]), newest_state(ends[1])) is None


def test_interrupted_by_ctrl_c_it_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    run = arguments("mtsac", tmp_path, steps="2000000", checkpoint_minutes="60", compile="off")
    process = subprocess.Popen(
        [sys.executable, "-m", "suite", *run], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("parameters"):
            break
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "saved at env step" in output
    assert "the same command resumes" in output
    (manifest,) = tmp_path.glob("*/checkpoints/manifest-*.json")
    assert manifest.exists()


def test_rows_depend_neither_on_the_number_of_workers_nor_on_the_engine(tmp_path: Path) -> None:
    written = {}
    threads = torch.get_num_threads()
    for workers, engine in ((1, "fast"), (3, "fast"), (2, "metaworld")):
        results = tmp_path / f"{workers}-{engine}"
        given = {"tasks": "reach,push,drawer-close", "workers": str(workers), "engine": engine}
        given["steps"] = "300"
        assert main(arguments("mega", results, **given)) == 0
        (rows,) = results.glob("*/rows.parquet")
        written[workers, engine] = rows.read_bytes()
    torch.set_num_threads(threads)
    assert len(set(written.values())) == 1
