"""How algorithms are found, by name, by path and from installed packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import algorithms
from algorithms import ALGORITHMS, algorithm_names, load, path_of, presets_of
from algorithms.algorithm import Batch
from algorithms.mega import MEGA
from algorithms.mtsac import MTSAC

OWN = """
from dataclasses import dataclass
from algorithms.mtsac import MTSAC, MTSACSettings

@dataclass(frozen=True)
class MineSettings(MTSACSettings):
    extra: float = 2.5

class Mine(MTSAC):
    Settings = MineSettings

class NoAlgorithm:
    Settings = MineSettings

function = len

class Bare(__import__("algorithms.algorithm").algorithm.Algorithm):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's, importable for this test alone."""
    module = "a_users_own_algorithm"
    (tmp_path / f"{module}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    return module


def test_a_users_own_algorithm_is_found_by_its_path_and_runs(
    own: str, build: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    assert load(f"{own}:Mine").Settings().extra == 2.5
    algorithm = build(f"{own}:Mine", extra=3.0)
    assert algorithm.settings.extra == 3.0
    algorithm.update(collect(algorithm))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("unknown", LookupError),
        ("no_such_module_anywhere:Mine", ImportError),
        ("{own}:Missing", AttributeError),
        ("{own}:", AttributeError),
        ("{own}:NoAlgorithm", TypeError),
        ("{own}:function", TypeError),
        ("{own}:Bare", TypeError),
        (":Mine", ImportError),
    ],
)
def test_a_wrong_path_gives_the_documented_error(
    path: str, error: type[Exception], own: str
) -> None:
    with pytest.raises(error):
        load(path.format(own=own))


def test_installed_packages_add_algorithms(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{own}:Mine", algorithms.ENTRY_POINTS)
    asked = []

    def points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [point]

    monkeypatch.setattr(algorithms, "entry_points", points)
    assert algorithm_names() == [*ALGORITHMS, "mine"]
    assert path_of("mine") == f"{own}:Mine"
    assert load("mine").Settings.__name__ == "MineSettings"
    assert set(asked) == {"mtscale.algorithms"}


def test_an_outsider_cannot_shadow_a_built_in_algorithm(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("mtsac", f"{own}:Mine", algorithms.ENTRY_POINTS)
    monkeypatch.setattr(algorithms, "entry_points", lambda group: [point])
    assert path_of("mtsac") == ALGORITHMS["mtsac"]


def test_names_can_be_read_without_torch() -> None:
    code = (
        "import sys, algorithms; [algorithms.path_of(n) for n in algorithms.algorithm_names()];"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(algorithms.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_preset_is_what_a_class_and_its_bases_set() -> None:
    quick, own = presets_of(MEGA, "quick"), presets_of(MTSAC, "quick")
    assert quick["modules"] == 4, "from the routed critics"
    assert quick["initial_temperature"] == own["initial_temperature"], "from the learner"
    assert "modules" not in own
    assert presets_of(MEGA, "*")["gene_bits"](50) == 4
    assert presets_of(MEGA, "no such preset") == {}
