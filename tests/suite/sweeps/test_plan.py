"""Plans: which runs a sweep stands for, each once, and what is wrong with one."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from algorithms import ALGORITHMS
from suite.cli import main
from suite.estimate import cost
from suite.memory import TRANSITION_BYTES
from suite.messages import UserError
from suite.options import command_line, parse
from suite.presets import preset
from suite.sizes import count
from suite.sweeps.grid_file import FOLDERS
from suite.sweeps.plan import plan
from suite.sweeps.question import asked

NAMED = (
    "scaling",
    "diversity",
    "matched",
    "mega-ablations",
    "mega-critics",
    "mega-gradients",
    "mega-trigger",
    "mega-collapse",
    "architectures",
    "combiners",
    "state-of-the-art",
)
OWN = ("easy3", *(f"mt10-small-{study}" for study in (1, 2, 3, 4, 5)), "paper-mt10")
"""Those of our own evidence, whose small versions they are themselves."""


def test_a_grid_is_every_combination_of_its_lists() -> None:
    axes = {"alg": ["mtsac", "d2r"], "tasks": ["MT10", "reach,push"], "seed": ["0", "1"]}
    planned = plan("", {**axes, "width": ["32", "64"], "preset": ["smoke"]})
    found = {(c.algorithm, c.task.tasks, c.seed, c.settings.actor_width) for c in planned.runs}
    assert len(planned.runs) == len(found) == 16
    assert {c.settings.actor_width - c.settings.critic_width for c in planned.runs} == {0}
    assert {c.training.steps for c in planned.runs} == {2000, 400}


def test_one_run_in_two_spellings_is_one_run() -> None:
    planned = plan(
        "", {"alg": ["mtsac"], "tasks": ["reach,push", "reach-v3,push-v3"], "threads": ["1"]}
    )
    assert len(planned.runs) == 1


OWN_FIELDS = """
from dataclasses import dataclass

from algorithms.mtsac import MTSAC

@dataclass(frozen=True)
class Settings(MTSAC.Settings):
    strength: float = 1
    hidden: tuple[int, ...] = (32, 32)
    sizes: tuple[int, ...] | None = None

class Own(MTSAC):
    Settings = Settings
"""


@pytest.fixture
def own_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "own_fields.py").write_text(OWN_FIELDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_fields", raising=False)
    return ["--alg", "own_fields:Own", "--tasks", "reach", "--preset", "smoke"]


def test_a_sweep_over_a_default_starts_the_runs_that_it_plans(own_fields: list[str]) -> None:
    runs = asked([*own_fields, "--strength", "1,2"]).plan.runs
    assert [run.settings.strength for run in runs] == [1, 2]
    assert [parse(command_line(run)[1:]).name() for run in runs] == [run.name() for run in runs]


def test_a_sweep_whose_processes_would_train_other_runs_is_refused(
    own_fields: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.sweeps.plan.command_line", lambda run: ["bench", *own_fields])
    asked([*own_fields, "--strength", "1"])
    with pytest.raises(UserError, match=r"would be trained as .*: a setting of own_f"):
        asked([*own_fields, "--strength", "1,2"])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("32,16", [(32, 16)]),
        ("32,32", [(32, 32)]),
        ("32,16/64", [(32, 16), (64,)]),
        ("32/16", [(32,), (16,)]),
    ],
)
@pytest.mark.parametrize("field", ["hidden", "sizes"])
def test_commas_of_a_tuple_are_its_own_and_slashes_are_the_sweeps(
    own_fields: list[str], field: str, typed: str, expected: list[tuple[int, ...]]
) -> None:
    runs = asked([*own_fields, f"--{field}", typed]).plan.runs
    assert [getattr(run.settings, field) for run in runs] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[[32, 16], [64]]", [(32, 16), (64,)]),
        ("[[32, 16]]", [(32, 16)]),
        ('["32,16", "64"]', [(32, 16), (64,)]),
        ('"32,16"', [(32, 16)]),
        ("32", [(32,)]),
        ("[32, 16]", "write [[32, 16]] for one, or [[32], [16]] for 2"),
        ("[[[1]]]", "is not a value or a list of values"),
    ],
)
def test_a_tuple_in_a_file_is_a_list_in_the_list(
    own_fields: list[str], tmp_path: Path, value: str, expected: object
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[all]\nalg = "own_fields:Own"\ntasks = "reach"\n[[grid]]\nhidden = {value}')
    if isinstance(expected, str):
        with pytest.raises(UserError, match=re.escape(expected)):
            asked([str(file)])
        return
    assert [run.settings.hidden for run in asked([str(file)]).plan.runs] == expected
    over = asked([str(file), "--hidden", "8,8/4"]).plan.runs
    assert [run.settings.hidden for run in over] == [(8, 8), (4,)]


def test_all_runs_of_a_seed_come_before_those_of_the_next() -> None:
    planned = plan("", {"seed": ["1", "0"], "alg": ["mtsac", "mega"]})
    assert [c.seed for c in planned.runs] == [0, 0, 1, 1]


def test_a_file_and_the_command_line_over_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """about = "widths"
        [all]
        alg = "mtsac"
        seed = [0, 1]
        [[grid]]
        actor-width = [16, 32]
        [[grid]]
        actor-width = 32
        horizon = 150
        multi-head = false
        """
    )
    planned = plan(str(file), {})
    assert (planned.name, planned.about) == ("mine", "widths")
    shape = Counter(
        (c.settings.actor_width, c.task.horizon, c.settings.multi_head) for c in planned.runs
    )
    assert shape == {(16, 200, True): 2, (32, 200, True): 2, (32, 150, False): 2}
    wide = plan(str(file), {"seed": ["7"], "width": ["24"], "no_multi_head": [None]})
    assert {(c.settings.actor_width, c.settings.critic_width) for c in wide.runs} == {(24, 24)}
    assert {c.settings.multi_head for c in wide.runs} == {False}
    over = plan(str(file), {"seed": ["7"], "results": [str(tmp_path)]})
    assert [c.seed for c in over.runs] == [7, 7, 7]
    assert {c.execution.results for c in over.runs} == {str(tmp_path)}


def test_the_results_folder_is_the_same_from_everywhere() -> None:
    (config,) = plan("", {"alg": ["mtsac"], "results": ["here"]}).runs
    assert config.execution.results == str(Path.cwd() / "here")


# The named sweeps ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMED, *OWN, *(f"{name}-demo" for name in NAMED)])
def test_every_named_sweep_has_a_plan_and_a_purpose(name: str) -> None:
    planned = plan(name, {"seed": ["0"]})
    assert planned.about
    assert len({c.hash() for c in planned.runs}) == len(planned.runs) > 1


def test_every_file_of_a_sweep_is_one_of_them() -> None:
    files = {path.stem for path in FOLDERS[1].glob("*.toml")}
    assert files == {*NAMED, *OWN, *(f"{name}-demo" for name in NAMED)}


@pytest.mark.parametrize("name", NAMED)
def test_a_demo_is_estimated_to_take_a_few_minutes_on_two_cores(name: str) -> None:
    costs = [cost(config, 1).seconds for config in plan(f"{name}-demo", {}).runs]
    assert sum(costs) / 2 < 8 * 60
    full = [cost(config, 1).seconds for config in plan(name, {}).runs]
    assert sum(full) > 1000 * sum(costs)


def test_scaling_is_the_studys_grid() -> None:
    runs = plan("scaling", {"seed": ["0"]}).runs
    widths = {(c.settings.actor_width, c.settings.critic_width) for c in runs}
    swept = (256, 512, 1024, 2048, 4096)
    assert widths == {
        *((w, w) for w in swept),
        *((w, 400) for w in swept),
        *((400, w) for w in swept),
    }
    assert {c.task.tasks for c in runs} == {"MT10", "MT25", "MT50"}


def test_diversity_nests_its_task_sets() -> None:
    sets = sorted({c.tasks for c in plan("diversity", {}).runs}, key=len)
    assert [len(tasks) for tasks in sets] == [1, 2, 5, 10, 25, 50]
    for smaller, larger in itertools.pairwise(sets):
        assert set(smaller) < set(larger)


def test_matched_has_each_algorithm_and_a_plain_net_of_its_size() -> None:
    runs = plan("matched", {"seed": ["0"], "tasks": ["MT10"]}).runs
    plain = [count("mtsac", c.settings, c.tasks) for c in runs if c.algorithm == "mtsac"]
    others = {c.algorithm: count(c.algorithm, c.settings, c.tasks) for c in runs}
    assert set(others) == set(ALGORITHMS)
    for own in others.values():
        near = [p for p in plain if abs(p.actor / own.actor - 1) < 0.01]
        assert any(abs(p.critic / own.critic - 1) < 0.01 for p in near)
    assert len(plain) == len(ALGORITHMS)


def test_the_ablations_differ_from_mega_in_one_respect_each() -> None:
    runs = plan("mega-ablations", {"seed": ["0"], "goals": ["fixed"]}).runs
    base = preset("d2r", "mega", "MT10")
    changed = Counter[tuple[str, ...]]()
    for config in runs:
        if config.algorithm == "mega" and config.task.tasks == "MT10":
            different = [
                k for k, v in vars(config.settings).items() if v != getattr(base.settings, k)
            ]
            changed[tuple(different)] += 1
    assert changed[()] == 1
    assert changed[("decoding",)] == 1
    assert changed[("gene_bits",)] == 2
    assert changed[("gene_bits", "decoding")] == 2
    assert changed[("population",)] == 3
    single = {"cross_population_rate", "growth", "success_threshold", "improvement_threshold"}
    for name in (*single, "window", "evolution"):
        assert changed[(name,)] >= 1, name


# Costs ---------------------------------------------------------------------------------------


def test_cost_grows_with_what_it_depends_on() -> None:
    base = preset("scaling", "mtsac", "MT10")
    now = cost(base, 2)
    wide = cost(replace(base, settings=replace(base.settings, critic_width=2000)), 2)
    assert wide.seconds > now.seconds and wide.memory > now.memory and wide.kept > now.kept
    longer = replace(base, training=replace(base.training, steps=2 * base.training.steps))
    assert 1.9 < cost(longer, 2).seconds / now.seconds < 2.1
    twice = cost(replace(base, training=replace(base.training, updates_per_step=2)), 2)
    assert twice.seconds > 1.5 * now.seconds
    assert cost(base, 4).seconds < now.seconds
    assert now.gpu_memory == 0
    gpu = cost(replace(base, device="cuda"), 2)
    assert gpu.gpu_memory > 0 and gpu.memory < now.memory and gpu.seconds < now.seconds


def test_a_run_is_evaluated_no_oftener_than_it_has_rounds() -> None:
    base = preset("scaling", "mtsac", "MT10")
    short = replace(base, training=replace(base.training, steps=3 * base.steps_per_round))
    each, more = (
        cost(replace(short, evaluation=replace(short.evaluation, evaluations=n)), 2).seconds
        for n in (3, 3000)
    )
    assert each == more


def test_a_replay_on_a_gpu_takes_its_whole_capacity_at_once() -> None:
    base = preset("scaling", "mtsac", "MT10")
    short = replace(base, training=replace(base.training, steps=3 * base.steps_per_round))
    larger = replace(short, training=replace(short.training, buffer_per_task=300_000))
    on_cpu = [cost(config, 2).memory for config in (short, larger)]
    assert on_cpu[0] == on_cpu[1], "a host gives memory as the replay fills"
    on_gpu = [cost(replace(config, device="cuda"), 2).gpu_memory for config in (short, larger)]
    assert on_gpu[1] - on_gpu[0] == 10 * 200_000 * TRANSITION_BYTES


# Mistakes and the command line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["scalin"], ["sweep: 'scalin'", "matched", "did you mean scaling?"]),
        (["no/such.toml"], ["there is no file no/such.toml"]),
        ([], ["name one of results/sweeps, or give fields"]),
        (["scaling", "--launcher", "loacl"], ["launcher: 'loacl'", "did you mean local?"]),
        (["scaling", "--jobs", "many"], ["jobs: 'many' is not a whole number"]),
        (["scaling", "--jobs", "-1"], ["jobs: -1 is out of range; give 0 to 10,000"]),
        (["scaling", "--jobs="], ["jobs: the value is empty"]),
        (["scaling", "--dry-run", "yes"], ["dry-run: 'yes' is not one of True, False"]),
        (["scaling", "--dry-run="], ["dry-run: the value is empty"]),
        (["scaling", "--gpus-per-run", "inf"], ["gpus-per-run: inf is out of range"]),
        (["scaling", "--no-force"], ["force cannot be given to a sweep"]),
        (["scaling", "--FORCE"], ["force cannot be given to a sweep"]),
        (["scaling", "--run_dir=x"], ["run-dir cannot be given to a sweep"]),
        (["scaling", "--seed", "0", "--seed", "1"], ["seed: given twice"]),
        (["--alg", "mega", "--seeds", "5"], ["SEED=0,1,2,3,4 (--seed 0,1,2,3,4)", "BATCHED=1"]),
        (["--alg", "mega", "--seeds", "0,5"], ["SEED=0,5 (--seed 0,5)", "BATCHED=1"]),
        (["--alg", "mega", "--seeds", "many"], ["SEED=0,1,2 (--seed 0,1,2)"]),
        (["scaling", "--width"], ["actor-width: no value given"]),
        (["scaling", "--slurm", "a=1"], ["slurm: is for --launcher slurm"]),
        (["scaling", "--cores", "2"], ["cores: is for --launcher ray or slurm"]),
        (["scaling", "--results", "x" * 300], ["results: the path is too long"]),
        (["scaling", "--results", "/dev/null/x"], ["results: /dev/null is a file"]),
        (["scaling", "--seed", "0,,1"], ["seed: the value is empty"]),
        (["--alg", "mtsac", "--threads", "1,2"], ["threads: changes no run's result", "give one"]),
        (["scaling", "--width", "8", "--actor-width", "9"], ["width decides actor_width"]),
        (["scaling", "--force"], ["force cannot be given to a sweep"]),
        (["scaling", "--run-dir", "x"], ["run-dir cannot be given to a sweep"]),
        (["--alg", "mtsac,mgea"], ["algorithm: 'mgea'", "did you mean mega?"]),
        (["--alg", "mega,mtsac", "--modules", "4"], ["'modules' is one of mega, not of mtsac"]),
        (["--alg"], ["alg: no value given"]),
        (["--alg", "mtsac", "--seed", "0-4"], ["'0-4'", "a list has commas: 0,1,2"]),
        (["--alg", "mtsac", "--sed", "1"], ["field: 'sed'", "did you mean seed?"]),
        (["--alg", "mtsac", "--dryrun"], ["field: 'dryrun'", "did you mean dry-run?"]),
        (["--alg", "mtsac", "--horizon", "20,501"], ["horizon: 501"]),
        (
            ["--alg", "mtsac", "--width", "8", "--match", "d2r"],
            ["match: 'd2r' decides actor-width"],
        ),
        (["--alg", "mtsac", "--steps", "1M,9e29"], ["steps: 9e29 is out of range"]),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for part in expected:
        assert part in captured.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[all\n", "cannot be read"),
        ("[al]\nseed = 1", "'al' is not one of about, all, grid; did you mean all?"),
        ("alg = 'mtsac'", "mine.toml: alg stands above every table; fields belong below [all] or"),
        ("[[grid]]\nhorizon = 501", "sweep: mine.toml: horizon: 501 is out of range"),
        ("[all]\nalg = 'mtsak'", "sweep: mine.toml: algorithm: 'mtsak'"),
        ("[all]\nwidth = 0", "sweep: mine.toml: actor-width: 0 is out of range"),
        ("[[grid]]\nhorizn = 3", "sweep: mine.toml: field: 'horizn'"),
        ("[[grid]]\nseed = '0,1'", "mine.toml: seed: '0,1' is one value; for several write a list"),
        ("[grid]\nseed = 1", "write [all] once, [[grid]] for each grid"),
        ("[[grid]]\nseed = []", "seed: [] is not a value or a list of values"),
        ("[[grid]]\nseed = {a = 1}", "is not a value or a list of values"),
        ("[[grid]]\nactor-width = 1\nactor_width = 2", "actor_width is given twice"),
        ("[[grid]]\nwidth = 1\ncritic-width = 2", "width decides critic_width"),
        ("[[grid]]\nhorizon = ''", "horizon: the value is empty"),
        ("about = 'none'", "write [all] once, [[grid]] for each grid, and fields"),
        ("grid = []", "write [all] once, [[grid]] for each grid"),
        ("grid = [1]", "write [all] once, [[grid]] for each grid"),
        ('[[grid]]\n"seed=1 --force" = 1', "is not a name"),
        ('[[grid]]\n"" = 1', "is not a name"),
        *(
            (f"[[grid]]\n{key} = {value}", expected)
            for key, expected in (
                *((k, "force cannot be given to a sweep") for k in ("force", "FORCE", "no-force")),
                *((f'"{k}"', "is not a name") for k in ("force=True", "--force", "force ")),
                ("run-dir", "run-dir cannot be given to a sweep"),
                ('"run_dir=x"', "is not a name"),
                ("Run_Dir", "run-dir cannot be given to a sweep"),
                ("seeds", "seeds cannot be given to a sweep"),
            )
            for value in ("true", "'True'", "''", "[false]")
        ),
    ],
)
def test_a_mistake_in_a_file_is_named(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    assert main(["sweep", str(tmp_path / "mine.toml")]) == 2
    assert expected in capsys.readouterr().err


def test_a_mistake_of_the_command_line_is_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("[[grid]]\nhorizon = 100")
    assert main(["sweep", str(tmp_path / "mine.toml"), "--horizon", "501"]) == 2
    assert capsys.readouterr().err.startswith("error: horizon: 501 is out of range")


def test_a_dry_run_prints_the_plan_and_does_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["matched-demo", "--dry-run", "--seed", "0,1", "--results", str(tmp_path / "r")]
    assert main(["sweep", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sweep matched-demo: ")
    # Every algorithm, and MT-SAC at the size of each of the others.
    shown = 2 * len(ALGORITHMS) - 1
    assert len(lines) == 2 + shown + 1
    assert all(" 0,1 " in line for line in lines[2:-1])
    assert lines[-1].startswith(f"{2 * shown} runs, 0 done; about ")
    assert "GB while they run" in lines[-1]
    assert not (tmp_path / "r").exists()


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU here")
def test_a_gpu_is_needed_where_the_runs_are_and_not_to_plan_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda = ["--alg", "mtsac", "--match", "4M", "--device", "cuda", "--results", str(tmp_path)]
    assert main(["sweep", *cuda, "--dry-run"]) == 0
    assert main(["status", *cuda]) == 0
    assert len(plan("", {"device": ["cuda"]}, here=False).runs) == 1
    capsys.readouterr()
    assert main(["sweep", *cuda]) == 2
    assert "device: 'cuda' is not there" in capsys.readouterr().err
    assert main(["sweep", *cuda[:-4], "--dry-run", "--device", "gpu"]) == 2
    assert "device: 'gpu' is not one of" in capsys.readouterr().err
    assert main(["sweep", *cuda[:-4], "--dry-run", "--device", "cuda:1"]) == 2
    assert "device: a sweep chooses among GPUs itself; give cuda" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_noticed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert main(["sweep", "scaling-demo", "--results", str(tmp_path)]) == 2
    assert "disk: the sweep needs about 0.1 GB" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
