"""What the README tells a newcomer to write works."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from algorithms.check import check
from suite.config import TaskConfig
from suite.options import parse
from suite.sizes import count

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_worked_example_keeps_the_contract_and_is_matched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n# my_method\.py\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_method.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = check(importlib.import_module("my_method").MyMethod)
    assert [point for point in points if point.passed is False] == []
    own = parse(["--alg", "my_method:MyMethod", "--match", "mega"])
    mega = parse(["--alg", "mega"])
    tasks = TaskConfig().tasks
    assert tasks == "MT10"
    found, wanted = (count(c.algorithm, c.settings, c.tasks) for c in (own, mega))
    assert abs(found.actor / wanted.actor - 1) < 0.01
    assert abs(found.critic / wanted.critic - 1) < 0.01
