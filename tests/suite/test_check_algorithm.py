"""`check-algorithm`: a table of points, and the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import main

OWN = """
from algorithms.mtsac import MTSAC

class Forgetful(MTSAC):
    rounds = 0

    def end_episodes(self, outcomes):
        self.rounds += 1

    def act(self, observations, explore):
        return super().act(observations / (1 + self.rounds), explore)

class Mistaken(MTSAC):
    presets = {"quick": {"horizon": 100, "actor_widht": 8}}

class Misnamed(MTSAC):
    presets = {"smok": {"actor_width": 8}}

class Foreign(MTSAC):
    def build_optimizers(self):
        return super().build_optimisers()

class Raises(MTSAC):
    def report(self, batch):
        raise KeyError("stage")
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "to_be_checked.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


def table(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = main(["check-algorithm", "--alg", name])
    return status, capsys.readouterr().out.splitlines()


def test_a_method_that_keeps_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = table("mtsac", capsys)
    assert status == 0
    assert lines[-1] == "mtsac: all passed"
    assert all(line.endswith("passed") for line in lines)


@pytest.mark.parametrize(
    ("name", "point", "change"),
    [
        ("Forgetful", "goes on to the bit", "an attribute is missing in state_dict"),
        ("Mistaken", "presets name known fields", "presets['quick'] sets actor_widht"),
        ("Misnamed", "presets name known fields", "is no preset; did you mean smoke?"),
        ("Raises", "reports by task", "KeyError: 'stage' (to_be_checked.py:25)"),
    ],
)
def test_a_breach_is_a_line_that_says_what_to_change(
    name: str, point: str, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = table(f"to_be_checked:{name}", capsys)
    assert status == 1
    assert "points failed" in lines[-1]
    (line,) = [line for line in lines if line.startswith(point)]
    assert "FAILED" in line
    assert change in line


def test_a_note_is_a_line_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = table("to_be_checked:Foreign", capsys)
    assert (status, lines[-1]) == (0, "to_be_checked:Foreign: all passed")
    (line,) = [line for line in lines if "note: " in line]
    assert line.endswith("nothing reads Foreign.build_optimizers; did you mean build_optimisers?")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "alg: no algorithm given"),
        (["--alg", "mtsak"], "did you mean mtsac?"),
        (["--alg", "to_be_checked:Missing"], "'to_be_checked:Missing' cannot be loaded"),
        (["--alg", "mtsac", "--seed", "3"], "takes --alg alone, not --seed"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-algorithm", *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
