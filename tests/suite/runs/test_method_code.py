"""A run of a user's method belongs to the code that it was begun with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from algorithms import ALGORITHMS
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
import torch
try:
    from .layers_of_mine import body
except ImportError:
    from layers_of_mine import body
from torch import nn

@dataclass(frozen=True)
class Settings(MTSACSettings):
    """Its settings."""

class Mine(MTSAC):
    Settings = Settings
    def build_actor(self):
        """As it is."""
        return super().build_actor()
    def end_episodes(self, outcomes):
        import lazy_of_mine.part
        super().end_episodes(outcomes)
'''
ALGORITHM = "method_of_mine:Mine"
FIELDS = [
    *("--alg", ALGORITHM, "--preset", "smoke", "--tasks", "reach", "--steps", "200"),
    *("--random-steps", "50", "--actor-width", "16", "--critic-width", "16", "--track", "none"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "lazy_of_mine").mkdir()
    (tmp_path / "lazy_of_mine" / "__init__.py").write_text("")
    (tmp_path / "lazy_of_mine" / "part.py").write_text("VALUE = 1\n")
    (tmp_path / "layers_of_mine.py").write_text(LAYERS)
    (tmp_path / "method_of_mine.py").write_text(METHOD)
    (tmp_path / "variants_of_mine.py").write_text("from method_of_mine import Mine as Wide\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    another_process()


def another_process() -> None:
    """Leaves nothing of the method loaded."""
    for name in [name for name in sys.modules if "_of_mine" in name]:
        del sys.modules[name]


def edit(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))
    another_process()


def config(seed: int = 0) -> RunConfig:
    return parse([*FIELDS, "--seed", str(seed)])


def test_the_code_is_that_of_the_method_and_of_what_it_imports(folder: Path) -> None:
    first = code_of(ALGORITHM)
    assert sorted(first) == [
        *("layers_of_mine", "lazy_of_mine", "lazy_of_mine.part", "method_of_mine")
    ]
    assert "lazy_of_mine" not in sys.modules, "what is imported later counts, loaded or not"
    assert code_of("variants_of_mine:Wide").keys() - first == {"variants_of_mine"}
    edit("method_of_mine.py", '"""As it is."""', "# nothing\n        'Said otherwise.'")
    edit("layers_of_mine.py", "def body(): return", "def body():\n\n  return")
    assert code_of(ALGORITHM) == first
    for file, old, new in (("layers_of_mine", "ReLU", "Tanh"), ("lazy_of_mine/part", "1", "2")):
        before = code_of(ALGORITHM)
        edit(f"{file}.py", old, new)
        after = code_of(ALGORITHM)
        assert [k for k in after if after[k] != before[k]] == [file.replace("/", ".")]


def test_what_runs_counts_and_not_what_has_been_edited_since(folder: Path) -> None:
    first = code_of(ALGORITHM)
    Path("layers_of_mine.py").write_text(LAYERS.replace("ReLU", "Tanh"))
    assert code_of(ALGORITHM) == first
    another_process()
    assert code_of(ALGORITHM) != first


def test_a_module_in_an_archive_has_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("layers_of_mine.py").rename(folder / "lazy_of_mine" / "layers_of_mine.py")
    shutil.make_archive("layers", "zip", "lazy_of_mine")
    monkeypatch.syspath_prepend(str(folder / "layers.zip"))
    assert "layers_of_mine" not in code_of(ALGORITHM)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_suites_own_methods_have_its_commit_alone(name: str) -> None:
    assert code_of(name) == {}


def test_a_run_that_is_done_is_not_taken_for_one_of_other_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(config()) == 0
    (rows,) = folder.glob("results/runs/*/rows.parquet")
    before = rows.read_bytes()
    edit("layers_of_mine.py", "ReLU", "Tanh")
    with pytest.raises(UserError, match=r"begun with other code of layers_of_mine; put that back"):
        bench(config())
    assert main(["sweep", *FIELDS, "--seed", "0,1", "--dry-run"]) == 2
    assert "or train it again with bench and --force" in capsys.readouterr().err
    assert rows.read_bytes() == before
    # Another seed of it is told apart in what is said of the rows.
    assert bench(config(seed=1)) == 0
    said = remarks(load_rows([folder / "results" / "runs"]))
    assert [line for (line,) in said.values()] == [
        f"{ALGORITHM}: its runs were made with 2 versions of its code"
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
