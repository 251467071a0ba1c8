"""A run of a user's method belongs to the code that it was begun with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from algorithms import ALGORITHMS, load
from analysis.remarks import remarks
from analysis.rows import load as load_rows
from suite.bench import bench
from suite.cli import main
from suite.config import RunConfig
from suite.messages import UserError
from suite.options import parse
from suite.runs.directory import RunDirectory
from suite.runs.method_code import code_of

LAYERS = """
from torch import nn
def body(): return nn.ReLU()
"""
METHOD = '''
"""A method."""
from algorithms.mtsac import MTSAC, MTSACSettings
from dataclasses import dataclass
import torch, layers_of_mine
from torch import nn

@dataclass(frozen=True)
class Settings(MTSACSettings):
    """Its settings."""

class Mine(MTSAC):
    Settings = Settings
    def build_actor(self):
        """As it is."""
        return super().build_actor()
'''
COMMAND = ("--alg=method_of_mine:Mine", "--preset=smoke", "--tasks=reach", "--steps=200",
           "--random-steps=50", "--width=16", "--track=none")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "method_of_mine.py").write_text(METHOD)
    (tmp_path / "layers_of_mine.py").write_text(LAYERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("method_of_mine", "layers_of_mine"):
        sys.modules.pop(name, None)


def config(seed: int = 0) -> RunConfig:
    arguments = [part for own in COMMAND if "width" not in own for part in own.split("=")]
    widths = ["--actor-width", "16", "--critic-width", "16", "--seed", str(seed)]
    return parse([*arguments, *widths])


def edit(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def test_the_code_is_that_of_the_method_and_of_what_it_imports(folder: Path) -> None:
    method = load("method_of_mine:Mine")
    first = code_of(method)
    assert sorted(first) == ["layers_of_mine", "method_of_mine"]
    edit("method_of_mine.py", '"""As it is."""', "# nothing\n        'Said otherwise.'")
    edit("layers_of_mine.py", "def body(): return", "def body():\n\n  return")
    assert code_of(method) == first
    edit("layers_of_mine.py", "ReLU", "Tanh")
    changed = code_of(method)
    assert changed["method_of_mine"] == first["method_of_mine"]
    assert changed["layers_of_mine"] != first["layers_of_mine"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_suites_own_methods_have_its_commit_alone(name: str) -> None:
    assert code_of(load(name)) == {}


def test_a_run_that_is_done_is_not_taken_for_one_of_other_code(folder: Path) -> None:
    assert bench(config()) == 0
    (rows,) = folder.glob("results/runs/*/rows.parquet")
    before = rows.read_bytes()
    edit("layers_of_mine.py", "ReLU", "Tanh")
    with pytest.raises(UserError, match=r"begun with other code of layers_of_mine; put that back"):
        bench(config())
    sweep = ["sweep", *(part for own in COMMAND for part in own.split("="))]
    assert main([*sweep, "--seed", "0,1", "--dry-run"]) == 2
    assert rows.read_bytes() == before
    # Another seed of it is told apart in what is said of the rows.
    assert bench(config(seed=1)) == 0
    said = remarks(load_rows([folder / "results" / "runs"]))
    assert [line for (line,) in said.values()] == [
        "method_of_mine:Mine: its runs were made with 2 versions of its code"
    ]
    edit("layers_of_mine.py", "Tanh", "ReLU")
    assert bench(config()) == 0
    assert rows.read_bytes() == before
    edit("layers_of_mine.py", "ReLU", "Tanh")
    forced = config()
    assert bench(replace(forced, execution=replace(forced.execution, force=True))) == 0
    told = pd.concat(map(pd.read_parquet, folder.glob("results/runs/*/rows.parquet")))
    assert told["version_method"].nunique() == 1


def test_a_run_that_was_begun_does_not_go_on_with_other_code(folder: Path) -> None:
    directory = RunDirectory(config())
    directory.open()
    directory.begin_session([0], "eager")
    directory.close()
    edit("method_of_mine.py", "super().build_actor()", "super().build_actor().float()")
    with pytest.raises(UserError, match="other code of method_of_mine"):
        directory.open()
    directory.close()
    edit("method_of_mine.py", ".float()", "")
    directory.open()
    directory.close()
