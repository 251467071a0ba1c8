"""The command line: every field, explained and overridable."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from refusals import refused

from algorithms import ALGORITHMS
from suite.checks import check
from suite.cli import main
from suite.config import DESTRUCTIVE, PARTS, RunConfig
from suite.help import docstrings
from suite.options import parse
from suite.presets import preset, settings_of
from suite.values import written


@dataclass(frozen=True)
class Option:
    """A field on the command line."""

    algorithm: str
    part: str
    name: str
    kind: Any

    @property
    def shown(self) -> str:
        return "--" + self.name.replace("_", "-")

    def value(self, config: RunConfig) -> Any:
        return getattr(getattr(config, self.part) if self.part else config, self.name)


def options() -> Iterator[Option]:
    """Every field of the suite once, and every field of every algorithm."""
    yield Option("mtsac", "", "seed", int)
    yield Option("mtsac", "", "device", str)
    for part, kind in PARTS.items():
        hints = get_type_hints(kind)
        yield from (Option("mtsac", part, f.name, hints[f.name]) for f in fields(kind))
    for algorithm in ALGORITHMS:
        settings = settings_of(algorithm)
        hints = get_type_hints(settings)
        for f in fields(settings):
            yield Option(algorithm, "settings", f.name, hints[f.name])


OPTIONS = list(options())
OTHER_STRINGS = {
    "metadata": "words.npy",
    "seeds": "0,1",
    "tasks": "reach-v3,push-v3",
    "results": "a/b",
    "run_dir": "c",
    "device": "cuda:0",
}
OTHER_NUMBERS = {"goal_seed": 7, "target_entropy": -2.5, "max_log_temperature": 0.5}


def other_value(option: Option, current: Any) -> Any:
    """A valid value that differs from the current one."""
    if option.name in OTHER_NUMBERS:
        return OTHER_NUMBERS[option.name]
    if get_origin(option.kind) is Literal:
        return next(choice for choice in get_args(option.kind) if choice != current)
    if option.kind is bool:
        return not current
    if option.kind is int:
        return current - 1 if current > 1 else current + 1
    if option.kind is float:
        return 2500.0 if current == float("inf") else current / 2 or 0.5
    return OTHER_STRINGS[option.name]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: f"{o.algorithm}-{o.name}")
def test_any_field_can_be_overridden_and_counts_for_the_identity_unless_it_is_execution(
    option: Option,
) -> None:
    if option.algorithm == "ars" and option.name in ("log_std_min", "log_std_max"):
        pytest.skip("ars has no such bounds, and refuses them")
    base = preset("quick", option.algorithm, "MT10")
    wanted = other_value(option, option.value(base))
    given = [option.shown] if option.name in DESTRUCTIVE else [option.shown, written(wanted)]
    arguments = ["--alg", option.algorithm, *given]
    if option.name == "task_loss_threshold":
        arguments += ["--update-order", "simultaneous"]
        arguments += ["--no-shared-temperature"] * (option.algorithm == "brc")
    elif option.name == "precision":
        arguments += ["--device", "cuda"]
    elif option.name in ("update_order", "shared_temperature"):
        arguments += ["--task-loss-threshold", "inf"]
    elif option.name == "w_reset":
        arguments += ["--update-order", "simultaneous", "--task-loss-threshold", "3000"]
    config = parse(arguments)
    assert option.value(config) == wanted
    assert type(option.value(config)) is type(wanted)
    if option.name not in ("device", "precision"):  # those need a GPU
        check(config)
    same = config.hash() == base.hash()
    assert same == (config.name() == base.name()) == (option.part == "execution")
    # And nothing else changed, but for what goes with it.
    companions = {"tasks": {"steps"}, "update_order": {"task_loss_threshold"}}
    companions |= {"task_loss_threshold": {"update_order", "shared_temperature"}}
    companions |= {"shared_temperature": {"task_loss_threshold"}}
    companions |= {"precision": {"device"}}
    companions |= {"w_reset": {"update_order", "task_loss_threshold"}}
    allowed = {option.name} | companions.get(option.name, set())
    shared = [o for o in OPTIONS if o.part != "settings" or o.algorithm == option.algorithm]
    assert {o.name for o in shared if o.value(config) != o.value(base)} <= allowed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--actor-width", "96"],
        ["--actor_width", "96"],
        ["--actor-width=96"],
        ["--actor_width=96"],
    ],
)
def test_options_may_be_spelled_with_dashes_or_underscores_a_space_or_an_equals_sign(
    arguments: list[str],
) -> None:
    assert parse(["--alg", "mtsac", *arguments]).settings.actor_width == 96


def test_mega_on_mt10_with_the_quick_preset_is_the_default() -> None:
    assert parse([]) == preset("quick", "mega", "MT10")


def test_a_preset_depends_on_the_tasks_and_explicit_options_win_over_it() -> None:
    config = parse(["--preset", "scaling", "--tasks", "MT50", "--horizon", "200"])
    assert config.training.steps == 100_000_000
    assert config.task.horizon == 200
    assert parse(["--horizon", "200", "--tasks", "MT50", "--preset", "scaling"]) == config


def test_infinite_values_can_be_given() -> None:
    arguments = ["--alg", "mega", "--task-loss-threshold", "inf", "--max-log-temperature", "inf"]
    settings = parse(arguments).settings
    assert settings.task_loss_threshold == settings.max_log_temperature == float("inf")


# Help ----------------------------------------------------------------------------------------


def squeezed(text: str) -> str:
    """Without line breaks and spaces, so that wrapping does not matter."""
    return "".join(text.split())


@pytest.fixture(scope="module")
def help_of() -> Iterator[Any]:
    shown: dict[str, str] = {}

    def get(algorithm: str, capsys: pytest.CaptureFixture[str]) -> str:
        if algorithm not in shown:
            assert main(["bench", "--help", "--alg", algorithm]) == 0
            shown[algorithm] = squeezed(capsys.readouterr().out)
        return shown[algorithm]

    return get


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_help_explains_every_field_with_its_default(
    algorithm: str, help_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, base = help_of(algorithm, capsys), preset("quick", algorithm, "MT10")
    for part, kind in {**PARTS, "settings": settings_of(algorithm)}.items():
        texts = docstrings(kind)
        for f in fields(kind):
            assert f.name in texts, f"{f.name} has no docstring"
            default = getattr(getattr(base, part), f.name)
            default = repr(default) if default == "" else written(default)
            entry = squeezed(f"--{f.name.replace('_', '-')}")
            text = squeezed(f"{texts[f.name]} (default: {default})")
            assert entry in shown, f.name
            assert text in shown, f"{f.name}: {texts[f.name]} (default: {default})"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_setting_of_an_algorithm_names_its_source(algorithm: str) -> None:
    settings = settings_of(algorithm)
    texts = docstrings(settings)
    for f in fields(settings):
        text = texts[f.name]
        assert re.search(r"\[[^\]]{2,}\]", text), f"{f.name}: {text}"
        assert f.default is not MISSING


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_without_a_command_the_usage_and_the_presets_are_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "python -m suite bench" in shown
    assert all(name in shown for name in ("smoke", "quick", "scaling", "d2r"))


def test_a_users_own_algorithm_brings_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_options.py").write_text(
        textwrap.dedent('''
        from dataclasses import dataclass
        from algorithms.mtsac import MTSAC
        from algorithms.mtsac import MTSACSettings

        @dataclass(frozen=True)
        class OwnSettings(MTSACSettings):
            offset: float = -3.0
            """Offset of my own."""

        class Own(MTSAC):
            Settings = OwnSettings
        ''')
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = parse(["--alg", "own_options:Own", "--offset", "-4.5", "--actor-width", "32"])
    assert (config.settings.offset, config.settings.actor_width) == (-4.5, 32)
    check(config)
    line = refused(["bench", "--alg", "own_options:Own", "--ofset", "1"], capsys)
    assert "did you mean offset?" in line
    assert main(["bench", "--alg", "own_options:Own", "--help"]) == 0
    assert "Offset of my own." in capsys.readouterr().out
