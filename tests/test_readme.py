"""What the README tells a newcomer to write works."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from algorithms.check import check
from suite.config import TaskConfig
from suite.options import parse
from suite.sizes import count
from tests.test_makefile import make

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PARTS = ("analysis", "results", "tests")
DOCUMENTS = sorted(p for part in PARTS for p in (ROOT / part).rglob("README.md"))
DOCUMENTS.insert(0, ROOT / "README.md")


def written(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The README's file of this name, as a module."""
    (code,) = re.findall(rf"```python\n# {name}\.py.*?\n(.*?)```", README, re.DOTALL)
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(name)


def test_the_worked_example_keeps_the_contract_and_is_matched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = check(written("my_method", tmp_path, monkeypatch).MyMethod)
    assert [point for point in points if point.passed is False] == []
    own = parse(["--alg", "my_method:MyMethod", "--match", "mega"])
    mega = parse(["--alg", "mega"])
    tasks = TaskConfig().tasks
    assert tasks == "MT10"
    found, wanted = (count(c.algorithm, c.settings, c.tasks) for c in (own, mega))
    assert abs(found.actor / wanted.actor - 1) < 0.01
    assert abs(found.critic / wanted.critic - 1) < 0.01


def test_scaling_and_resets_stand_on_another_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = check(written("scaled", tmp_path, monkeypatch).Scaled)
    assert [point for point in points if not point.passed] == []
    config = parse(["--alg", "scaled:Scaled"])
    # The architecture's own default, and ARS's.
    assert (config.settings.task_weighting, config.settings.resets) == ("temperature", 4)


def commands(text: str) -> list[list[str]]:
    """The words of each line that a document's console blocks hold."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_make_knows_every_target_and_variable_that_is_written(path: Path) -> None:
    made = {tuple(words[1:]) for words in commands(path.read_text()) if words[:1] == ["make"]}
    assert {words: done.stderr for words in made if (done := make(*words)).returncode} == {}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_commands_are_those_of_makes_environment(path: Path) -> None:
    bare = r"(?:^|`)(?:python|pip|tensorboard|pytest) .*"
    assert re.findall(bare, path.read_text(), re.MULTILINE) == []


def anchors(path: Path) -> set[str]:
    """Where links into a document may lead."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_links_lead_to_files_and_sections(path: Path) -> None:
    for file, _, section in re.findall(r"\]\((?!http)([^)#]*)(#?)([^)]*)\)", path.read_text()):
        target = path.parent / file if file else path
        assert target.exists(), file
        document = target / "README.md" if target.is_dir() else target
        assert not section or section in anchors(document), section
