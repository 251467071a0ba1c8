"""Methods from outside, each one file: they pass the check, match sizes and resume to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from suite.cli import main
from suite.presets import preset
from suite.sizes import count, matched

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DYING = HERE.parent / "suite" / "run_and_die.py"
LINES = {
    "soft_modules:SoftModules": 90,
    "gradient_surgery:Surgery": 40,
    "categorical:Categorical": 110,
}
every_method = pytest.mark.parametrize("method", LINES)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own that finds the strangers' files."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@every_method
def test_it_fits_in_a_file_of_its_own(method: str) -> None:
    file = HERE / f"{method.partition(':')[0]}.py"
    assert len(file.read_text().splitlines()) <= LINES[method]


@every_method
def test_it_passes_the_check(method: str) -> None:
    run = python("-m", "suite", "check-algorithm", "--alg", method)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert run.stdout.splitlines()[-1] == f"{method}: all passed"


@every_method
def test_sizes_are_matched_in_both_directions(method: str) -> None:
    for trained, reference in ((method, "mtsac"), ("mtsac", method)):
        config = matched(preset("scaling", trained, "MT10"), reference, "scaling")
        found = count(trained, config.settings, config.tasks)
        wanted = count(reference, preset("scaling", reference, "MT10").settings, config.tasks)
        assert found.actor == pytest.approx(wanted.actor, rel=0.01)
        assert found.critic == pytest.approx(wanted.critic, rel=0.01)


def test_one_is_killed_and_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # That the state of each is whole has been checked above.
    monkeypatch.syspath_prepend(str(HERE))
    threads, rows = torch.get_num_threads(), []
    for name, writes in (("whole", 0), ("killed", 11)):
        bench = ["bench", "--alg", "categorical:Categorical", "--preset", "smoke"]
        bench += ["--tasks", "reach,push", "--steps", "480", "--track", "none"]
        bench += ["--threads", "1", "--workers", "1"]
        bench += ["--results", str(tmp_path / name)]
        if writes:
            dead = python(str(DYING), str(writes), "before", *bench)
            assert dead.returncode == -signal.SIGKILL, dead.stdout + dead.stderr
        assert main(bench) == 0, capsys.readouterr().err
        assert ("resuming at env step" in capsys.readouterr().out) == bool(writes)
        (found,) = (tmp_path / name).glob("*/rows.parquet")
        rows.append(found.read_bytes())
    torch.set_num_threads(threads)
    assert rows[0] == rows[1]


def test_they_are_swept_at_one_size_and_plotted(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    sweep = ["sweep", "--alg", ",".join(LINES), "--match", "60k", "--seed", "0,1"]
    sweep += ["--preset", "smoke", "--tasks", "reach,push", "--batched", "--track", "none"]
    sweep += ["--results", runs]
    done = python("-m", "suite", *sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 runs in 3 processes" in done.stdout
    assert "6 of 6 runs done" in done.stdout + done.stderr
    out = tmp_path / "figures"
    drawn = python("-m", "analysis", "plots", runs, "--only", "learning_curves", "--out", str(out))
    assert drawn.returncode == 0, drawn.stdout + drawn.stderr
    assert list(out.rglob("*learning_curves*.png"))
