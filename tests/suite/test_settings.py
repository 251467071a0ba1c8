"""What a stranger's settings may be, and what is said before any work of those that may not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import suite
from suite.cli import main
from suite.messages import UserError
from suite.options import command_line, parse
from suite.settings import OF_SWEEPS
from suite.sweeps.question import Options
from suite.values import kinds

CLASS = """
from __future__ import annotations
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional

from algorithms.mtsac import MTSAC

class Color(Enum):
    RED = 1

@dataclass(frozen=True)
class Settings(MTSAC.Settings):
    {field}

class Own(MTSAC):
    Settings = Settings
    presets = {presets}
"""
Write = Callable[..., str]


def test_every_option_of_a_sweep_is_taken() -> None:
    assert {"width", *kinds(Options)} == OF_SWEEPS


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a class with this field and these presets; returns its name."""

    def written(field: str, presets: str = "{}") -> str:
        (tmp_path / "with_a_field.py").write_text(CLASS.format(field=field, presets=presets))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.delitem(sys.modules, "with_a_field", raising=False)
        return "with_a_field:Own"

    return written


WRONG = [
    ("xs: list[float] = (0.1, 0.2)", "Settings.xs is list[float], which cannot be typed; write"),
    ("xs: tuple = (0.1, 0.2)", "Settings.xs is tuple, which cannot be typed; write int, float"),
    ("xs: tuple[tuple[int, ...], ...] = ((1,),)", "which cannot be typed"),
    ("xs: tuple[float] = (0.1, 0.2)", "is not a tuple of 1 value; tuple[float, ...] takes any"),
    ("xs: Color = Color.RED", "Settings.xs is Color, which cannot be typed"),
    ("xs: Path = Path('a')", "Settings.xs is Path, which cannot be typed"),
    ("xs: Any = 3", "Settings.xs is Any, which cannot be typed"),
    ("xs: dict[str, int] = field(default_factory=dict)", "is dict[str, int], which cannot be"),
    ("xs: Annotated[int, 3] = 3", "Settings.xs is Annotated[int, 3], and with_a_field does not"),
    ("xs: int = field(default=3, init=False)", "Settings.xs has init=False"),
    ("xs: bool = 'yes'", "Settings.xs = 'yes' is text, not True or False"),
    ("xs: bool = 0", "Settings.xs = 0 is not True or False"),
    ("xs: int = True", "Settings.xs = True is not a whole number"),
    ("xs: float = '1'", "Settings.xs = '1' is text, not a number"),
    ("xs: str = 3", "Settings.xs = 3 is not text"),
    ("xs: int = None", "Settings.xs = None is not a whole number; write int | None"),
    ("xs: Literal['a', 'b'] = 'c'", "Settings.xs = 'c' is not one of a, b"),
    ("xs: Literal[1, '1'] = 1", "Settings.xs is typing.Literal[1, '1'], which cannot be typed"),
    ("xs: float = float('nan')", "Settings.xs = nan is out of range; give a finite number"),
    ("xs: Optional[str] = 'none'", "Settings.xs = 'none' would be None where it is typed"),
    ("xs: tuple[str, ...] = ('a,b',)", "would be ('a', 'b') where it is typed"),
    ("jobs: int = 3", "its field 'jobs' is the suite's; rename Settings.jobs"),
    ("steps: int = 3", "its field 'steps' is the suite's; rename Settings.steps"),
    ("help: bool = False", "its field 'help' is the suite's; rename Settings.help"),
    ("größe: int = 3", "Settings.größe cannot be typed as an option"),
    ("no_multi_head: bool = False", "is typed as the opposite of multi_head is; rename it"),
]
WRONG_PRESETS = [
    ("{'smoke': {'actor_width': '3'}}", "Own.presets['smoke']: actor_width = '3' is text, not a"),
    ("{'quick': {'discount': 2.0}}", "presets['quick']: discount = 2.0 is out of range; give 0"),
    ("{'quick': {'horizon': 501}}", "presets['quick']: horizon = 501 is out of range; give 1 to"),
    ("{'quick': {'critics': lambda tasks: tasks / 4}}", "critics = 2.5 is not a whole number"),
]


@pytest.mark.parametrize(("field", "line"), WRONG)
def test_a_field_that_cannot_be_typed_is_refused_everywhere(
    write: Write, field: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(field)
    for command in (["bench"], ["bench", "--help"], ["sweep", "--dry-run"]):
        assert main([*command, "--alg", name, "--preset", "smoke", "--tasks", "reach"]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert line in captured.err and "'with_a_field:Own'" in captured.err
    with pytest.raises(UserError) as error:
        suite.train(name)
    assert line in str(error.value)


@pytest.mark.parametrize(("presets", "line"), WRONG_PRESETS)
def test_a_preset_of_what_a_field_does_not_take_is_refused(
    write: Write, presets: str, line: str
) -> None:
    with pytest.raises(UserError) as error:
        parse(["--alg", write("xs: int = 3", presets)])
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("xs: tuple[int, ...] = field(default_factory=lambda: [1, 2])", (1, 2)),
        ("xs: tuple[int, float] = (1, 2)", (1, 2.0)),
        ("xs: Literal['a', None] = None", None),
        ("xs: Optional[Literal['a', 'b']] = None", None),
        ("xs: Optional[tuple[float, ...]] = (1,)", (1.0,)),
        ("xs: int | str = 'auto'", "auto"),
        ("xs: tuple[int, ...] = ()", ()),
        ("xs: str = 'none'", "none"),
        ("xs: str = ''", ""),
        ("xs: float = float('inf')", float("inf")),
    ],
)
def test_these_fields_may_be(write: Write, field: str, value: object) -> None:
    config = parse(["--alg", write(field), "--tasks", "reach"])
    assert repr(config.settings.xs) == repr(value)
    assert parse(command_line(config)[1:]) == config


def test_the_check_of_a_method_has_a_point_for_it(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-algorithm", "--alg", write("xs: list[float] = (0.1, 0.2)")]) == 1
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "typed" in row]
    assert line.startswith("settings can be typed")
    assert "FAILED" in line and "Settings.xs is list[float]" in line
