"""What several tests of the suite share: whole smoke runs, and goals that are made only once."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from real_sweeps import begin, ended, fields

from suite.cli import main


@pytest.fixture(scope="session", autouse=True)
def goal_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # The user's own cache is neither read nor written: a stale file there could hide a bug.
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


class Run(NamedTuple):
    """What a call of the command line left behind."""

    status: int
    output: str
    errors: str
    path: Path
    """The only run directory under its results folder."""
    arguments: list[str]
    global_generators_moved: list[str]


def smoke_arguments(algorithm: str, results: Path) -> list[str]:
    return [
        *("bench", "--alg", algorithm, "--preset", "smoke", "--tasks", "reach,push"),
        *("--threads", "1", "--workers", "1", "--results", str(results)),
    ]


def call(arguments: list[str], results: Path) -> Run:
    """`main(arguments)` with its output kept and the global generators watched."""
    threads = torch.get_num_threads()
    output, errors = io.StringIO(), io.StringIO()
    # Not Python's `random`: tyro draws from it, where it runs under pytest only.
    before = (str(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(arguments)
    moved = []
    if str(np.random.get_state()) != before[0]:  # noqa: NPY002
        moved.append("numpy")
    if not torch.equal(torch.get_rng_state(), before[1]):
        moved.append("torch")
    torch.set_num_threads(threads)
    (path,) = [p for p in results.iterdir() if p.is_dir()]
    return Run(status, output.getvalue(), errors.getvalue(), path, arguments, moved)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A finished smoke run of an algorithm; made once a session, so tests must not change it."""
    runs: dict[str, Run] = {}

    def get(algorithm: str) -> Run:
        if algorithm not in runs:
            results = tmp_path_factory.mktemp(algorithm)
            runs[algorithm] = call(smoke_arguments(algorithm, results), results)
        return runs[algorithm]

    return get


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a finished sweep over two seeds; tests must not change it."""
    results = tmp_path_factory.mktemp("undisturbed")
    status, output = ended(begin(fields(results, seed="0,1")))
    assert status == 0, output
    assert "2 of 2 runs done" in output
    return results
