"""The command line: every field, explained and overridable; every mistake in one line."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from algorithms import ALGORITHMS
from suite.checks import check
from suite.cli import main, parse
from suite.config import EvaluationConfig, ExecutionConfig, RunConfig, TaskConfig, TrainingConfig
from suite.presets import preset, settings_of

PARTS = {
    "task": TaskConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "execution": ExecutionConfig,
}
ROOT = Path(__file__).parents[2]


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
    base = preset("quick", option.algorithm, "MT10")
    wanted = other_value(option, option.value(base))
    arguments = ["--alg", option.algorithm, option.shown, str(wanted)]
    if option.name == "task_loss_threshold":
        arguments += ["--update-order", "simultaneous"]
    elif option.name == "update_order":
        arguments += ["--task-loss-threshold", "inf"]
    config = parse(arguments)
    assert option.value(config) == wanted
    assert type(option.value(config)) is type(wanted)
    if option.name not in ("device", "precision"):  # those need a GPU
        check(config)
    assert (config.hash() == base.hash()) == (option.part == "execution")
    # And nothing else changed, but for what goes with it.
    companions = {"tasks": {"steps"}, "update_order": {"task_loss_threshold"}}
    companions["task_loss_threshold"] = {"update_order"}
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


def docstrings(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, also where a base class has it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if "__dataclass_fields__" not in vars(base):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[statement.target.id] = str(following.value.value)
    return found


def squeezed(text: str) -> str:
    """Without boxes, line breaks and spaces, so that wrapping does not matter."""
    return "".join(character for character in text if character not in "│╭╮╰╯─" and character > " ")


@pytest.fixture(scope="module")
def help_of() -> Iterator[Any]:
    shown: dict[str, str] = {}

    def get(algorithm: str, capsys: pytest.CaptureFixture[str]) -> str:
        if algorithm not in shown:
            with pytest.raises(SystemExit) as end:
                main(["bench", "--help", "--alg", algorithm])
            assert end.value.code == 0
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
            default = repr(default) if default == "" else str(default)
            entry = squeezed(f"--{f.name.replace('_', '-')}")
            text = squeezed(f"{texts[f.name]} (default: {default})")
            assert entry in shown, f.name
            assert text in shown, f"{f.name}: {texts[f.name]} (default: {default})"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_setting_of_an_algorithm_names_its_source(algorithm: str) -> None:
    settings = settings_of(algorithm)
    for f in fields(settings):
        text = docstrings(settings)[f.name]
        sources = ("scaling", "D2R", "MEGA", "choice")
        assert any(source in text for source in sources), f"{f.name}: {text}"
        assert f.default is not MISSING


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_without_a_command_the_usage_and_the_presets_are_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "python -m suite bench" in shown
    assert all(name in shown for name in ("smoke", "quick", "scaling", "d2r"))


# Mistakes ------------------------------------------------------------------------------------

NO_GPU = not os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/dxg")

MISTAKES: dict[str, tuple[str, list[str]]] = {
    "algorithm": (
        "--alg mgea",
        ["algorithm: 'mgea'", "mtsac, d2r, mega", "package.module:Class", "did you mean mega?"],
    ),
    "algorithm with no module": ("--alg no_such_module:X", ["algorithm: 'no_such_module:X'"]),
    "algorithm with an empty module": ("--alg :X", ["algorithm: ':X'"]),
    "algorithm with no class": (
        "--alg algorithms.mega:Meta",
        ["algorithm: 'algorithms.mega:Meta'", "Meta"],
    ),
    "algorithm that is none": (
        "--alg algorithms.sac:Phase",
        ["algorithm: 'algorithms.sac:Phase'", "not a subclass"],
    ),
    "task": ("--tasks reech", ["tasks: 'reech'", "MT10, MT25, MT50", "did you mean reach-v3?"]),
    "task in a list": ("--tasks push,pick-plce", ["'pick-plce'", "did you mean pick-place-v3?"]),
    "preset": (
        "--preset scalin",
        ["preset: 'scalin'", "smoke, quick, scaling, d2r", "did you mean scaling?"],
    ),
    "field": ("--actr-width 64", ["field: 'actr-width'", "did you mean actor-width?"]),
    "field of another algorithm": ("--alg mtsac --gene-bits 2", ["field: 'gene-bits'"]),
    "choice": ("--goals presets", ["goals: 'presets'", "preset, random, fixed", "preset?"]),
    "choice of a setting": ("--decoding halfsoft", ["decoding: 'halfsoft'", "halfsoftmax?"]),
    "truth value": ("--resrouting yes", ["resrouting: 'yes'", "True, False"]),
    "whole number": ("--horizon 20.5", ["horizon: '20.5' is not a whole number"]),
    "whole number in words": ("--steps 2e6", ["steps: '2e6' is not a whole number"]),
    "number": ("--discount high", ["discount: 'high' is not a number"]),
    "nan": ("--discount nan", ["discount: nan"]),
    "width of 0": ("--actor-width 0", ["actor-width: 0 is not a positive number"]),
    "negative width": ("--critic-width -4", ["critic-width: -4 is not a positive number"]),
    "horizon over the limit": ("--horizon 501", ["horizon: 501", "give 1 to 500"]),
    "horizon of 0": ("--horizon 0", ["horizon: 0"]),
    "share over 1": ("--mutation-rate 1.5", ["mutation-rate: 1.5", "between 0 and 1"]),
    "fields that do not go together": ("--modules 2", ["first_stage 3", "modules (2)"]),
    "genes too wide": ("--gene-bits 9", ["gene_bits 9", "between 1 and 8"]),
    "loss threshold without its order": (
        "--alg mtsac --task-loss-threshold 5",
        ["task_loss_threshold 5", "--update-order simultaneous"],
    ),
    "device": ("--device gpu", ["device: 'gpu'", "cpu, cuda, cuda:<n>"]),
    "device spelled wrong": ("--device cuda:x", ["device: 'cuda:x'", "cpu, cuda, cuda:<n>"]),
    "device that is not there": ("--device cuda:9", ["device: 'cuda:9' is not there", "cpu"]),
    "missing value": ("--horizon", ["horizon: no value given"]),
    "missing value before another option": ("--horizon --seed 1", ["horizon: no value given"]),
    "stray word": ("mega", ["'mega' stands alone", "--field value"]),
}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that is refused."""
    status = main(arguments)
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    return captured.err.strip()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line_that_says_what_to_type(
    mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, expected = MISTAKES[mistake]
    line = refused(["bench", *given.split()], capsys)
    for part in expected:
        assert part in line, line


def test_an_unknown_command_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["bnech"], capsys)
    assert line.startswith("error: command: 'bnech' is not one of bench, scale")
    assert line.endswith("; did you mean bench?")


def test_help_does_not_hide_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean mega?" in refused(["bench", "--help", "--alg", "mgea"], capsys)


def test_mistakes_are_found_before_torch_is_loaded() -> None:
    # Loading torch alone takes longer than the second in which bad input has to end.
    wanted = ["algorithm", "task", "preset", "field", "width of 0", "horizon over the limit"]
    wanted += ["device that is not there"] if NO_GPU else []
    script = f"""
import sys
from suite.cli import main
for given in {[MISTAKES[name][0] for name in wanted]!r}:
    assert main(["bench", *given.split()]) == 2, given
    loaded = [name for name in ("torch", "pandas", "pyarrow") if name in sys.modules]
    assert not loaded, (given, loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(wanted)


def test_the_module_on_the_command_line_ends_with_the_line_and_status_2() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "suite", "bench", "--actor-width", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert done.returncode == 2
    assert "suite.cli" in imported
    assert "torch" not in imported
    assert [line for line in lines if not line.startswith("import time:")] == [
        "error: actor-width: 0 is not a positive number; give more than 0"
    ]


def test_a_users_own_algorithm_brings_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_options.py").write_text(
        textwrap.dedent('''
        from dataclasses import dataclass
        from algorithms.mtsac import MTSAC
        from algorithms.settings import MTSACSettings

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
    with pytest.raises(SystemExit):
        main(["bench", "--alg", "own_options:Own", "--help"])
    assert "Offset of my own." in capsys.readouterr().out
