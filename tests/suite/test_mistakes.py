"""Every mistake on the command line is answered in one line, before anything heavy is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from algorithms import ALGORITHMS
from suite.options import parse

ROOT = Path(__file__).parents[2]

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
    "set in a list": ("--tasks MT10,reach", ["MT10 in 'MT10,reach' is a set", "stands alone"]),
    "set as one task": ("--tasks MT1:MT10", ["MT10 in 'MT1:MT10' is a set"]),
    "preset": (
        "--preset scalin",
        ["preset: 'scalin'", "smoke, quick, small, scaling", "d2r", "did you mean scaling?"],
    ),
    "field": ("--actr-width 64", ["field: 'actr-width'", "did you mean actor-width?"]),
    "field of another algorithm": ("--alg mtsac --gene-bits 2", ["field: 'gene-bits'"]),
    "no name": ("--=3", ["field: '' is not a name"]),
    "choice": ("--goals presets", ["goals: 'presets'", "preset, random, fixed", "preset?"]),
    "choice of a setting": ("--decoding halfsoft", ["decoding: 'halfsoft'", "halfsoftmax?"]),
    "truth value": ("--resrouting yes", ["resrouting: 'yes'", "True, False"]),
    "flag turned off with a value": ("--no-resrouting True", ["no-resrouting: takes no value"]),
    "flag that is none turned off": ("--no-horizon", ["field: 'no-horizon'"]),
    "flag both ways round": ("--no-batched --batched", ["batched: no-batched is given, too"]),
    "several values": ("--horizon 20,30", ["is several values", 'ARGS="--horizon 20,30"']),
    "a file": ("--alg x_y.py:M", ["without .py and with dots for slashes: x_y:M"]),
    "a path": ("--alg x_y/z.py:M", ["without .py and with dots for slashes: x_y.z:M"]),
    "a comma too many": ("--tasks reach,push,", ["has a comma too many; write reach,push"]),
    "flag both ways": ("--batched --no-batched", ["no-batched: batched is given, too"]),
    "whole number": ("--horizon 20.5", ["horizon: '20.5' is not a whole number"]),
    "whole number in words": ("--steps many", ["steps: 'many' is not a whole number", "4e5"]),
    "number of too many digits": ("--steps 1e999999999", ["steps: 1e999999999 is out of reach"]),
    "number": ("--discount high", ["discount: 'high' is not a number"]),
    "nan": ("--discount nan", ["discount: nan is out of range; give 0 to 1"]),
    "infinite": ("--initial-temperature inf", ["initial-temperature: inf", "give more than 0"]),
    "width of 0": ("--actor-width 0", ["actor-width: 0 is out of range; give 1 to 65,536"]),
    "negative width": ("--critic-width -4", ["critic-width: -4 is out of range"]),
    "too deep": ("--alg mtsac --critic-depth 9e29", ["critic-depth: 9e29 is out of range"]),
    "horizon over the limit": ("--horizon 501", ["horizon: 501 is out of range; give 1 to 500"]),
    "horizon of 0": ("--horizon 0", ["horizon: 0"]),
    "share over 1": ("--mutation-rate 1.5", ["mutation-rate: 1.5", "give 0 to 1"]),
    "steps": ("--steps 9e29", ["steps: 9e29 is out of range; give 1 to 1,000,000,000,000"]),
    "envs": ("--envs-per-task 9e29", ["envs-per-task: 9e29 is out of range; give 1 to 1,000"]),
    "threads": ("--threads 10000", ["threads: 10000 is out of range"]),
    "threads beyond this machine": ("--threads 1024", ["threads: 1024 are too many"]),
    "workers beyond this machine": ("--workers 1024", ["workers: 1024 are too many"]),
    "number of seeds": ("--seeds 9e29", ["seeds: 9e29 are too many"]),
    "one seed out of range": ("--seeds 0,4294967296", ["seed: 4294967296 is out of range"]),
    "last seed out of range": ("--seed 4294967295 --seeds 2", ["seed: 4294967296 is out of"]),
    "minutes": ("--checkpoint-minutes inf", ["checkpoint-minutes: inf is out of range"]),
    "replay": ("--buffer-per-task 1e9", ["10 tasks need for the replay 3360.0 GB"]),
    "fields that do not go together": ("--modules 2", ["first_stage 3", "modules (2)"]),
    "genes too wide": ("--gene-bits 9", ["gene-bits: 9 is out of range; give 1 to 8"]),
    "clamps that cross": (
        "--alg mtsac --log-std-min 2.5",
        ["log_std_min 2.5 is more than log_std_max 2"],
    ),
    "fewer and more updates": (
        "--update-every 2 --updates-per-step 2",
        ["updates-per-step: 2", "update-every 2", "leave out one"],
    ),
    "updates further apart than an episode": (
        "--update-every 101 --horizon 100",
        ["update-every: 101", "give 1 to 100"],
    ),
    "replay smaller than a batch": (
        "--buffer-per-task 100 --batch-per-task 128",
        ["buffer-per-task: 100", "give at least 128"],
    ),
    "random actions to the end": ("--random-steps 16000", ["random-steps: 16000 are all 16000"]),
    "loss threshold without its order": (
        "--alg mtsac --task-loss-threshold 5",
        ["task_loss_threshold 5", "--update-order simultaneous"],
    ),
    "size": ("--match 9e29", ["match: '9e29' is not a parameter count"]),
    "size and width": ("--match 4M --actor-width 8", ["match: '4M' decides actor-width"]),
    "several seeds as one": ("--seed 0,1", ["seed: '0,1'", "give SEEDS=0,1 (--seeds 0,1)"]),
    "device": ("--device gpu", ["device: 'gpu'", "cpu, cuda, cuda:<n>", "did you mean cuda?"]),
    "device of capitals": ("--device GPU:0", ["device: 'GPU:0'", "did you mean cuda?"]),
    "method that is not here": (
        "--alg not_here:MyMethod",
        ["No module named 'not_here'", "save it as not_here.py in this folder", "PYTHONPATH"],
    ),
    "method in a package that is not here": (
        "--alg nowhere.my_method:MyMethod",
        ["No module named 'nowhere'", "save it as nowhere/my_method.py in this folder"],
    ),
    "device spelled wrong": ("--device cuda:x", ["device: 'cuda:x'", "cpu, cuda, cuda:<n>"]),
    "device written twice": ("--device cuda:01", ["device: 'cuda:01'", "cpu, cuda, cuda:<n>"]),
    "device that is not there": ("--device cuda:9", ["device: 'cuda:9' is not there", "cpu"]),
    "missing value": ("--horizon", ["horizon: no value given"]),
    "missing value before another option": ("--horizon --seed 1", ["horizon: no value given"]),
    "empty value": ("--seeds=", ["seeds: the value is empty"]),
    "repeated option": ("--seed 1 --seed 2", ["seed: given twice, as '1' and '2'"]),
    "repeated in another spelling": ("--actor_width 1 --actor-width=2", ["actor-width: given tw"]),
    "stray word": ("mega", ["'mega' stands alone", "--field value"]),
    "directory that is a file": ("--run-dir /dev/null/x", ["run-dir: /dev/null is a file"]),
    "results that are a file": ("--results /dev/null", ["results: /dev/null is a file"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line_that_says_what_to_type(
    mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, expected = MISTAKES[mistake]
    line = refused(["bench", *given.split()], capsys)
    for part in expected:
        assert part in line, line


def test_several_values_are_not_sent_to_a_sweep_that_takes_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(["bench", "--threads", "1,2"], capsys)
    assert line == "error: threads: '1,2' is several values; give one"


def test_an_unknown_command_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["bnech"], capsys)
    assert line.startswith("error: command: 'bnech' is not one of bench, scale")
    assert line.endswith("; did you mean bench?")


def test_help_does_not_hide_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean mega?" in refused(["bench", "--help", "--alg", "mgea"], capsys)


OF_A_STRANGER = {"algorithm with no class", "algorithm that is none"}


def said(script: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a process prints as errors that carries this out, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


OTHER_MISTAKES = [
    ["scale", "--alg", "x"],
    ["scale", "--params", "big"],
    ["scale", "--steps", "9e29"],
    ["scale", "--alg", "mega,d2r", "--modules", "0"],
    ["sweep", "scaling", "--launcher", "x"],
    ["sweep", "scaling", "--jobs", "9e29"],
    ["sweep", "scalin"],
    ["sweep", "scaling", "--force"],
    ["sweep", "--alg", "mtsac,mgea"],
    ["sweep", "--alg", "mega,d2r", "--actor-width", "9e29"],
    ["sweep", "--horizon", "20,501"],
    ["status", "--preset", "d2d"],
    ["film", "tests"],
    ["film", "--size", "9"],
    *(["bench", "--alg", name, "--log-std-min", "5"] for name in ALGORITHMS),
]


def test_nothing_heavy_is_loaded_for_a_mistake_or_for_help() -> None:
    # Loading torch alone takes longer than the second in which bad input has to end.
    wanted = sorted(MISTAKES.keys() - OF_A_STRANGER)
    wanted = wanted if NO_GPU else [name for name in wanted if "device" not in name]
    mistakes = [["bench", *MISTAKES[name][0].split()] for name in wanted] + OTHER_MISTAKES
    script = f"""
import sys
from suite.cli import main
for given in {mistakes!r}:
    assert main(given) == 2, given
    heavy = ("torch", "pandas", "pyarrow", "scipy", "metaworld", "mujoco")
    loaded = [name for name in heavy if name in sys.modules]
    assert not loaded, (given, loaded)
for name in {list(ALGORITHMS)!r}:
    assert main(["bench", "--help", "--alg", name]) == 0
    assert "torch" not in sys.modules, name
"""
    assert said(script).count("\n") == len(mistakes)


def test_the_module_on_the_command_line_ends_with_the_line_and_status_2() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "suite", "bench", "--horizon", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert done.returncode == 2
    assert "suite.cli" in imported
    assert "torch" not in imported
    assert [line for line in lines if not line.startswith("import time:")] == [
        "error: horizon: 0 is out of range; give 1 to 500"
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--steps", "9e29"], "steps: 9e29 is out of range"),
        (["--run-dir", "a-folder"], "a-folder is not empty and not a run"),
        (["--run-dir", "a-file"], "run-dir: a-file is a file"),
        (["--seed", "1", "--run-dir", "a-run"], "a-run holds a run with seed 0, not 1"),
        (["--tasks", "push", "--run-dir", "a-run"], "tasks 'reach-v3', not 'push'"),
        (["--tasks", "reach", "--horizon", "9", "--run-dir", "a-run"], "with horizon 20, not 9"),
        (["--tasks", "MT1:reach", "--run-dir", "another-run"], "algorithm 'd2r', not 'mtsac'"),
    ],
)
def test_a_directory_of_another_run_is_refused_without_torch(
    given: list[str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-folder" / "thesis.txt").touch()
    for name, algorithm in (("a-run", "mtsac"), ("another-run", "d2r")):
        (tmp_path / name).mkdir()
        stored = {"algorithm": algorithm, "seed": 0, "task": {"tasks": "reach-v3", "horizon": 20}}
        (tmp_path / name / "config.json").write_text(json.dumps(stored))
    script = f"""
import sys
from suite.cli import main
assert main(["bench", "--alg", "mtsac", *{given!r}]) == 2
assert "torch" not in sys.modules
"""
    line = said(script, tmp_path, PYTHONPATH=str(ROOT))
    assert expected in line and "force" not in line


@pytest.mark.parametrize("renderer", ["nonsense", "osmesa"])
def test_a_renderer_is_nobodys_business_where_nothing_is_drawn(renderer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "suite", "bench", "--tasks", "reech"],
        cwd=ROOT,
        env=os.environ | {"MUJOCO_GL": renderer},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


NOT_PLAIN = [
    *(["--force", value] for value in ("", " ", "True", "False", "1", "no")),
    *([option] for option in ("--force=", "--force=True", "--force=False", "--no-force")),
    *([option] for option in ("--Force", "--FORCE", "--forc", "--forced", "--no_force", "-force")),
    ["--force", "True", "--force", "False"],
    ["--force", "--force=True"],
]


@pytest.mark.parametrize("given", NOT_PLAIN, ids=" ".join)
def test_nothing_but_its_plain_form_deletes_and_no_hint_names_it(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "run" / "config.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    line = refused(["bench", "--alg", "mtsac", "--run-dir", str(kept.parent), *given], capsys)
    assert kept.exists()
    assert "--force" not in line
    assert "force" not in line.partition("did you mean")[2]


def test_the_plain_form_is_read() -> None:
    assert parse(["--force", "--alg", "mtsac"]).execution.force
    assert not parse(["--alg", "mtsac"]).execution.force
