"""The same lines compiled: what they give, and that a cold cache gives it again to the bit.

Compiling to C++ costs many seconds, so it is done for one method, by two processes side by side,
each with an empty cache; a run compares its own first step with the plain one in any case. Of the
others it is shown that their lines are one program (`fullgraph`), which takes no C++.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from compiled_updates import learned
from torch import Tensor

from algorithms import ALGORITHMS

ROOT = Path(__file__).parents[2]
Found = dict[str, Tensor]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What two processes found, neither of which knew of the other's compiled code."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("there is no C++ compiler: install g++")
    script = Path(__file__).with_name("compiled_updates.py")
    results, running = [], []
    for index in range(2):
        folder = tmp_path_factory.mktemp(f"cache{index}")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TORCHINDUCTOR_CACHE_DIR": str(folder),
            # A child that compiles ahead of time, in as many processes as there are cores.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        results.append(folder / "found.pt")
        command = [sys.executable, str(script), str(results[-1]), "mtsac"]
        running.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in running] == [0, 0]
    return [torch.load(file) for file in results]


def assert_near(found: Found, expected: Found) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        scale = max(1e-3, value.abs().max().item())
        torch.testing.assert_close(
            found[key], value, rtol=0, atol=1e-4 * scale, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_compiled_is_eager_but_for_rounding(compiled: list[Found]) -> None:
    assert_near(compiled[0], learned("mtsac", compiled=False))


def test_code_compiled_anew_gives_the_same_bits(compiled: list[Found]) -> None:
    first, second = compiled
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_lines_of_every_method_are_one_program(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()  # it counts how often one function is captured
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert_near(learned(name, compiled=True), learned(name, compiled=False))
