"""Whole smoke runs, begun in this process by the command line, and what they left behind."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from suite.cli import main


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


def short(algorithm: str, results: Path, **others: str) -> list[str]:
    """A run of seconds whose replay's ring wraps; `others` are further options, by field."""
    options = {
        **{"alg": algorithm, "preset": "smoke", "tasks": "reach,push", "buffer-per-task": "110"},
        **{"threads": "1", "workers": "1", "update-every": "4", "track": "none"},
        **{"results": str(results), **{k.replace("_", "-"): v for k, v in others.items()}},
    }
    return ["bench", *(part for name, value in options.items() for part in (f"--{name}", value))]


def call(arguments: list[str], results: Path) -> Run:
    """`main(arguments)` with its output kept and the global generators watched."""
    threads = torch.get_num_threads()
    output, errors = io.StringIO(), io.StringIO()
    before = (str(np.random.get_state()), torch.get_rng_state(), random.getstate())  # noqa: NPY002
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(arguments)
    moved = []
    if str(np.random.get_state()) != before[0]:  # noqa: NPY002
        moved.append("numpy")
    if not torch.equal(torch.get_rng_state(), before[1]):
        moved.append("torch")
    if random.getstate() != before[2]:
        moved.append("random")
    torch.set_num_threads(threads)
    (path,) = [p for p in results.iterdir() if p.is_dir()]
    return Run(status, output.getvalue(), errors.getvalue(), path, arguments, moved)
