"""make refuses what it would otherwise leave out without a word. `-n`: nothing is carried out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What make would do, as a user calls it: not as a part of another make."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sweep SWEEP=scaling DRYRUN=1", ["DRYRUN is no variable of 'make sweep'", "DRY_RUN"]),
        ("bench alg=d2r", ["alg is no variable", " ALG "]),
        ("bench ALG=d2r STEPS=1000", ["STEPS is no", 'ARGS="--option value"; variables of']),
        ("plots ONLY=matched", ["ONLY is no", "which takes ARGS RUNS"]),
        ("tables AGAINST=mtsac", ["AGAINST is no"]),
        ("tables RUN=results/runs", ["RUN is no", "RUNS"]),
        ("scale SEED=1", ["SEED is no variable of 'make scale'"]),
        ("check-algorithm ALG=mega ARGS=--seed", ["ARGS is no", "which takes ALG"]),
        ("test ARGS=-x", ["ARGS is no", "which takes none; variables of the environment"]),
        ("ALG=mega", ["ALG is no variable of 'make help'"]),
        (
            "bench mtsac",
            ["'mtsac' is no target; did you mean ALG=mtsac?", "targets are help bench"],
        ),
        ("sweep matched", ["'matched' is no target; did you mean SWEEP=matched?"]),
        ("bnech", ["'bnech' is no target; targets are help bench"]),
        ("sweep ALG=mega DRY_RUN=maybe", ["DRY_RUN: 'maybe'", "give 1 or 0"]),
        ("bench BATCHED=", ["BATCHED: ''", "give 1 or 0"]),
    ],
)
def test_what_would_be_ignored_is_refused_in_a_line(arguments: str, said: list[str]) -> None:
    done = make(*arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    for part in said:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "done"),
    [
        ("bench ALG=d2r SEEDS=0,1 DEVICE=cuda", "--alg 'd2r' --seeds '0,1' --device 'cuda'"),
        ("sweep SWEEP=easy3 JOBS=2 DRY_RUN=1", "suite sweep easy3 --jobs '2'"),
        ("sweep SWEEP=easy3 DRY_RUN=yes BATCHED=no", "--dry-run=True --batched=False"),
        ("sweep SWEEP=easy3 DRY_RUN=0 BATCHED=TRUE", "--dry-run=False --batched=True"),
        ("status SWEEP=easy3 LAUNCHER=ray", "status easy3 --launcher 'ray'"),
        ("bench ALG= ARGS=--help", "--alg '' --help"),
        ("tables plots report RUNS=paper", "analysis tables paper"),
        ("check-algorithm bench ALG=my_method:MyMethod MATCH=mega", "--match 'mega'"),
        ("-j2 check PYTHON=python3 PIP_ARGS=--quiet SHELL=/bin/sh", "pytest"),
        ("-W pyproject.toml .venv/.ready PYTHON=python3 PIP_ARGS=--quiet", "-m venv"),
        ("help", "grep"),
    ],
)
def test_what_a_target_takes_is_handed_on(arguments: str, done: str) -> None:
    made = make(*arguments.split())
    assert (made.returncode, made.stderr) == (0, "")
    assert done in " ".join(made.stdout.split())
