"""What the README tells a newcomer to write works."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from algorithms.check import check
from suite.config import TaskConfig
from suite.options import parse
from suite.sizes import count

README = (Path(__file__).parents[1] / "README.md").read_text()


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
