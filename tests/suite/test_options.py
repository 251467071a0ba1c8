"""A command line as a configuration and back; the grammar of values and flags."""

from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms import ALGORITHMS
from algorithms.fields import Range, range_of
from suite.config import PARTS, RunConfig
from suite.messages import UserError
from suite.options import command_line, parse
from suite.presets import PRESETS, preset, settings_of
from suite.values import kinds, read, without_range, written

TASKS = ("MT10", "MT50", "MT1:reach-v3", "reach-v3,push-v3")


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type within its range."""
    range_, kind = range_of(kind) or Range(), without_range(kind)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        low, high = max(range_.low, -9), min(range_.high, 9)
        return st.integers(int(low), int(high))
    if kind is float:
        low, high = max(range_.low, -1e9), min(range_.high, 1e9)
        finite = st.floats(low, high, exclude_min=range_.above_low)
        return st.one_of(finite, st.just(float("inf"))) if range_.infinite else finite
    return st.sampled_from(["a/b c", "results", "x=1", "--x"])


# Their combinations exclude one another, or must be valid names.
LEFT_OUT = {
    *("modules", "first_stage", "task_loss_threshold", "update_order", "initial_temperature"),
    *("log_std_min", "log_std_max", "max_log_temperature", "min_log_temperature"),
    *("tasks", "seeds", "buffer_per_task"),
    *("batch_per_task", "random_steps", "precision", "probe_size", "steps", "update_every"),
}


@st.composite
def configurations(draw: st.DrawFn) -> RunConfig:
    algorithm, tasks = draw(st.sampled_from(list(ALGORITHMS))), draw(st.sampled_from(TASKS))
    config = preset(draw(st.sampled_from([*PRESETS, *ALGORITHMS])), algorithm, tasks)
    config = replace(config, seed=draw(st.integers(0, 9)))
    for part in (*PARTS, "settings"):
        before = getattr(config, part)
        types = {k: v for k, v in kinds(type(before)).items() if k not in LEFT_OUT}
        values = {
            name: draw(strategy(types[name]))
            for name in draw(st.sets(st.sampled_from(sorted(types)), max_size=3))
        }
        with contextlib.suppress(ValueError):  # they exclude one another
            config = replace(config, **{part: replace(before, **values)})
    return config


@given(configurations())
def test_the_command_line_of_a_run_is_read_back_as_the_run(config: RunConfig) -> None:
    command = command_line(config)
    assert command[0] == "bench"
    assert parse(command[1:]) == config


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        *(("mtsac", "smoke"), ("mtsac", "quick"), ("mtsac", "scaling"), ("mtsac", "d2r")),
        *(("mega", "d2r"), ("d2r", "published")),
    ],
)
def test_the_command_line_is_as_short_as_a_person_would_write_it(algorithm: str, name: str) -> None:
    config = replace(preset(name, algorithm, "MT10"), seed=3)
    shortest = command_line(config)
    assert len(shortest) == len(["bench", "--alg", "", "--tasks", "", "--preset", "", "--seed", ""])
    assert parse(shortest[1:]) == config


# Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2000000", 2_000_000),
        ("2_000_000", 2_000_000),
        ("1e5", 100_000),
        ("2E6", 2_000_000),
        ("2M", 2_000_000),
        ("1.5M", 1_500_000),
        ("400k", 400_000),
        ("2G", 2_000_000_000),
        ("12.5e3", 12_500),
        ("+7", 7),
        ("3e2k", 300_000),
        ("20.0", 20),
    ],
)
def test_whole_numbers_may_be_written_as_people_write_them(text: str, value: int) -> None:
    assert parse(["--alg", "mtsac", "--steps", text, "--random-steps", "0"]).training.steps == value


def integers() -> list[tuple[str, Any]]:
    return [
        (name, kind)
        for part in PARTS.values()
        for name, kind in kinds(part).items()
        if without_range(kind) is int
    ]


@pytest.mark.parametrize(("name", "kind"), integers())
def test_every_whole_number_of_the_suite_takes_an_exponent_and_has_both_ends(
    name: str, kind: Any
) -> None:
    assert read(name, kind, "1e0") == 1
    range_ = range_of(kind)
    assert range_ is not None
    for end, beyond in ((range_.low, -1), (range_.high, 1)):
        assert math.isfinite(end)
        assert read(name, kind, str(int(end))) == end
        with pytest.raises(UserError, match="out of range; give"):
            read(name, kind, str(int(end) + beyond))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_number_of_an_algorithm_has_a_range_and_refuses_what_is_none(algorithm: str) -> None:
    for name, kind in kinds(settings_of(algorithm)).items():
        if without_range(kind) not in (int, float):
            continue
        range_ = range_of(kind)
        assert range_ is not None, name
        assert math.isfinite(range_.low), name
        for text in ("nan", "-inf", "-1e30", *(() if range_.infinite else ("inf", "1e30"))):
            with pytest.raises(UserError, match=f"{name.replace('_', '-')}: "):
                read(name, kind, text)


@pytest.mark.parametrize(
    "text", ["1.5", "2.0000001M", "1e-3", "0x10", "1 000", "M", "1e", "1_", "_1", "1__0", "2m", "٣"]
)
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a whole number"):
        read("steps", int, text)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int | None, "none", None),
        (int | None, "3k", 3000),
        (Annotated[int, Range(1, 9)] | None, "9", 9),
        (tuple[int, ...], "64,32", (64, 32)),
        (tuple[int, float], "2,0.5", (2, 0.5)),
        (Literal[1, 2, None], "none", None),
        (Literal[1, 2], "2", 2),
        (float, "-inf", UserError),
        (float, "1e999", UserError),
        (float, "٣", UserError),
        (str, "two\nlines", UserError),
        (str, "\udce9", UserError),
        (int | None, "much", UserError),
        (Annotated[int, Range(1, 9)] | None, "10", UserError),
        (tuple[Annotated[int, Range(1, 9)], ...], "3,10", UserError),
        (tuple[int, float], "2", UserError),
        (dict[str, int], "{}", UserError),
    ],
)
def test_a_strangers_field_may_have_any_of_these_types(kind: Any, text: str, value: Any) -> None:
    if value is UserError:
        with pytest.raises(UserError, match=r"^own: "):
            read("own", kind, text)
    else:
        assert read("own", kind, text) == value
        assert read("own", kind, written(value)) == value


# Flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "multi_head", "batched"),
    [
        ([], True, False),
        (["--no-multi-head", "--batched"], False, True),
        (["--no_multi_head", "--no-batched"], False, False),
        (["--multi-head", "False", "--batched", "True"], False, True),
        (["--multi-head=False", "--multi-head", "False"], False, False),
        (["--multi-head", "--multi-head", "True"], None, None),
    ],
)
def test_flags(arguments: list[str], multi_head: bool | None, batched: bool | None) -> None:
    if multi_head is None:
        with pytest.raises(UserError, match="given twice, as a flag and 'True'"):
            parse(["--alg", "mtsac", *arguments])
        return
    config = parse(["--alg", "mtsac", *arguments])
    assert (config.settings.multi_head, config.execution.batched) == (multi_head, batched)


@pytest.mark.parametrize("typed", ["MT10 ", " mt10"])
def test_a_blank_beside_a_set_of_tasks_is_no_other_run(typed: str) -> None:
    assert parse(["--tasks", typed]).name() == parse(["--tasks", "MT10"]).name()


@pytest.mark.parametrize("name", ["alg", "tasks", "seed", "results", "run-dir", "match", "horizon"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_is_no_value(name: str, value: str) -> None:
    for arguments in ([f"--{name}", value], [f"--{name}={value}"]):
        with pytest.raises(UserError, match=f"^{name}: the value is empty"):
            parse(arguments)


# A stranger's settings ------------------------------------------------------------------------

STRANGERS = """
from dataclasses import dataclass
from typing import Literal

from algorithms.mtsac import MTSAC

@dataclass(frozen=True)
class Settings(MTSAC.Settings):
    strength: float = 1
    cut: float | None = 2
    betas: tuple[float, ...] = (1, 2)
    hidden: tuple[int, ...] = (32, 32)
    kind: Literal["soft", 1, True] = "soft"

class Own(MTSAC):
    Settings = Settings
    presets = {"smoke": {"strength": 3, "hidden": [16, 8]}}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "of_a_stranger.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "of_a_stranger", raising=False)
    return ["--alg", "of_a_stranger:Own", "--tasks", "reach", "--preset"]


@pytest.mark.parametrize(
    "typed",
    [
        *("quick --strength 1", "smoke --strength 3", "quick --cut 2", "quick --betas 1,2"),
        *("quick --strength 1.0", "smoke --hidden 16,8", "quick --hidden 32,32"),
    ],
)
def test_a_default_is_the_same_run_whether_it_is_typed_or_not(own: list[str], typed: str) -> None:
    name, *rest = typed.split()
    assert parse([*own, name, *rest]) == parse([*own, name])
    assert parse([*own, name, *rest]).name() == parse([*own, name]).name()


@pytest.mark.parametrize(
    "typed",
    [
        *("--strength 2", "--strength -0.0", "--cut none", "--betas 1,3", "--hidden 64"),
        *("--kind 1", "--kind True", "--strength 1"),
    ],
)
@pytest.mark.parametrize("name", ["smoke", "quick"])
def test_a_strangers_run_is_read_back_as_itself(own: list[str], name: str, typed: str) -> None:
    config = parse([*own, name, *typed.split()])
    assert parse(command_line(config)[1:]).name() == config.name()
