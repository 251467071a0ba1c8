"""The same lines compiled: what they give, and that a cold cache gives it again to the bit.

Compiling costs seconds, so two processes, each with an empty cache, do all of it side by side.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compiled_updates import FIELDS, learned
from torch import Tensor

ROOT = Path(__file__).parents[2]
Found = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What two processes found, neither of which knew of the other's compiled code."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("there is no C++ compiler: install g++")
    script = Path(__file__).with_name("compiled_updates.py")
    results, running = [], []
    for index, names in enumerate((FIELDS, ["mtsac"])):
        folder = tmp_path_factory.mktemp(f"cache{index}")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TORCHINDUCTOR_CACHE_DIR": str(folder),
            # A child that compiles ahead of time, in as many processes as there are cores.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        results.append(folder / "found.pt")
        command = [sys.executable, str(script), str(results[-1]), *names]
        running.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in running] == [0, 0]
    return [torch.load(file) for file in results]


@pytest.mark.parametrize("name", FIELDS)
def test_compiled_is_eager_but_for_rounding(name: str, compiled: list[Found]) -> None:
    eager, found = learned(name, compiled=False), compiled[0][name]
    assert found.keys() == eager.keys()
    for key, value in eager.items():
        scale = max(1e-3, value.abs().max().item())
        torch.testing.assert_close(
            found[key], value, rtol=0, atol=1e-4 * scale, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_code_compiled_anew_gives_the_same_bits(compiled: list[Found]) -> None:
    first, second = (found["mtsac"] for found in compiled)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
