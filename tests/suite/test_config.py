"""What a run is: the papers' presets, the identity, and the checks before any work."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from algorithms import ALGORITHMS
from algorithms.algorithm import ParameterCounts
from algorithms.fields import range_of
from algorithms.mtsac import MTSACSettings
from algorithms.paco import PaCoSettings
from suite.checks import check
from suite.config import (
    HORIZON_LIMIT,
    PARTS,
    YOUNGER,
    EvaluationConfig,
    RunConfig,
    TaskConfig,
    TrainingConfig,
)
from suite.envs.tasks import task_sets
from suite.messages import UserError
from suite.options import parse
from suite.presets import PRESETS, SUITE, preset, settings_of
from suite.runs.directory import RunDirectory
from suite.runs.rebuild import stored_config
from suite.training.build import goals_of
from suite.values import kinds, without_range

RELEASE = Path(__file__).parents[2] / "results" / "release"
RELEASED = [RELEASE / study for study in ("demo-methods", "easy3-sweep", "mt10-small")]


def run(**changes: Any) -> RunConfig:
    return RunConfig("mtsac", MTSACSettings(), **changes)


# Presets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "steps", "batch", "buffer"),
    [("MT10", 20_000_000, 1280, 1_000_000), ("MT50", 100_000_000, 6400, 5_000_000)],
)
def test_scaling_preset_has_the_numbers_of_the_scaling_study(
    tasks: str, steps: int, batch: int, buffer: int
) -> None:
    c = preset("scaling", "mtsac", tasks)
    count = len(c.tasks)
    assert c.training.steps == steps
    assert c.training.batch_per_task * count == batch
    assert c.training.buffer_per_task * count == buffer
    assert (c.training.random_steps, c.training.update_every) == (4000, 1)
    assert (c.task.horizon, c.task.reward_version, c.task.goals) == (500, "v2", "preset")
    assert c.task.envs_per_task == 1
    assert c.evaluation.final_episodes == 50
    s = c.settings
    assert (s.actor_width, s.actor_depth, s.critic_width, s.critic_depth) == (400, 3, 400, 3)
    assert s.multi_head
    assert (s.discount, s.polyak, s.adam_epsilon, s.gradient_clip) == (0.99, 0.005, 1e-5, 1.0)
    assert s.actor_learning_rate == s.critic_learning_rate == s.temperature_learning_rate == 3e-4
    assert (s.target_entropy, s.initial_temperature) == (-4, 1)
    assert (s.log_std_min, s.log_std_max) == (-20, 2)
    assert (s.reward_scale, s.timeout_is_terminal, s.temperature_clip) == (1, False, 0)


@pytest.mark.parametrize(
    ("tasks", "steps", "batch", "buffer"),
    [("MT10", 15_000_000, 1280, 1_000_000), ("MT50", 50_000_000, 6400, 10_000_000)],
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_d2r_preset_has_the_numbers_of_the_d2r_paper(
    algorithm: str, tasks: str, steps: int, batch: int, buffer: int
) -> None:
    c = preset("d2r", algorithm, tasks)
    count = len(c.tasks)
    assert c.training.steps == steps
    assert c.training.batch_per_task * count == batch
    assert c.training.buffer_per_task * count == buffer
    assert (c.task.horizon, c.task.goals) == (200, "fixed")
    assert c.settings.reward_scale == 0.1
    assert c.evaluation.eval_episodes == c.evaluation.final_episodes == 32


def test_d2r_itself_has_the_authors_settings_by_default() -> None:
    s = settings_of("d2r")()
    assert (s.modules, s.top_k, s.actor_width, s.critic_width) == (16, 2, 400, 400)
    assert (round(400 * s.module_ratio), round(400 * s.router_ratio)) == (128, 256)
    assert (s.actor_learning_rate, s.temperature_learning_rate) == (3e-4, 1e-4)
    assert (s.max_log_temperature, s.task_loss_threshold) == (0, 3000)
    assert (s.clip_critics, s.update_order) == ("separately", "simultaneous")
    assert s.task_weighting == "temperature"
    assert not s.timeout_is_terminal


def test_mega_has_the_papers_genetics_by_default() -> None:
    s = settings_of("mega")()
    assert (s.modules, s.first_stage, s.gene_bits, s.decoding) == (16, 3, 2, "halfsoftmax")
    assert s.population in (3, 4)
    assert (s.crossover_rate, s.mutation_rate) == (0.5, 0.15)
    assert (s.fitness, s.growth) == ("return", "reinitialise")


@pytest.mark.parametrize("name", [*PRESETS, *ALGORITHMS])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("tasks", ["MT10", "MT25", "MT50", "MT1:reach", "reach,push,door-open"])
def test_every_preset_passes_the_checks(name: str, algorithm: str, tasks: str) -> None:
    config = preset(name, algorithm, tasks)
    check(config)
    # And learns: it trains longer than the first random actions, on more data than one batch.
    training, count = config.training, len(config.tasks)
    assert training.steps // count > 2 * training.random_steps
    assert training.buffer_per_task >= training.random_steps >= training.batch_per_task
    assert config.evaluation.probe_size >= getattr(config.settings, "critic_width", 0)


def test_a_papers_protocol_is_for_all_and_its_own_settings_for_itself() -> None:
    own, alias = preset("mega", "mega", "MT50"), preset("published", "mega", "MT50")
    assert own == alias
    assert (
        own.evaluation.evaluations == 100
        and preset("mega", "mega", "MT10").evaluation.evaluations == 150
    )
    # The paper's bits, whatever else is small.
    for name in ("smoke", "quick", "small", "scaling", "mega"):
        bits = [preset(name, "mega", tasks).settings.gene_bits for tasks in ("MT10", "MT50")]
        assert bits == [2, 4], name
    other = preset("mega", "mtsac", "MT50")
    assert other.task == own.task and other.training == own.training
    assert other.evaluation == own.evaluation
    assert other.settings == settings_of("mtsac")()
    assert preset("published", "mtsac", "MT10") == preset("scaling", "mtsac", "MT10")


BY_TASKS = {
    ("mega", "gene_bits"): (2, 4),
    ("softmodules", "layers"): (2, 4),
    ("softmodules", "modules"): (2, 4),
    ("moore", "experts"): (4, 6),
    ("paco", "parameter_sets"): (5, 20),
    ("ars", "resets"): (4, 6),
    ("ars", "lora_success"): (0.8, 0.65),
}
"""What papers choose for MT10 and for MT50."""


@pytest.mark.parametrize(("algorithm", "field"), BY_TASKS)
def test_what_papers_choose_by_the_number_of_tasks_holds_in_every_papers_protocol(
    algorithm: str, field: str
) -> None:
    wanted, default = BY_TASKS[algorithm, field], getattr(settings_of(algorithm)(), field)
    for name in ("scaling", "published", *ALGORITHMS):
        found = [getattr(preset(name, algorithm, t).settings, field) for t in ("MT10", "MT50")]
        assert tuple(found) == wanted, name
    # Short runs keep the small ones that they were made with.
    short = {"resets": 1, "gene_bits": 4}.get(field, default)
    for name in ("smoke", "quick", "small"):
        assert getattr(preset(name, algorithm, "MT50").settings, field) == short, name


@pytest.mark.parametrize(
    ("name", "algorithm", "field", "wanted"),
    [
        # rainx0r/mtrl: mt10_moore.py has use_task_weights=True, mt50_moore.py leaves it out.
        ("scaling", "moore", "task_weighting", ("temperature", "uniform")),
        ("published", "moore", "task_weighting", ("uniform", "uniform")),
        # RchalYang/Soft-Module, mt_sac.py: all losses before any network steps.
        ("published", "softmodules", "update_order", ("simultaneous",) * 2),
        ("scaling", "softmodules", "update_order", ("critic_first",) * 2),
        # facebookresearch/mtrl, sac.py: alpha_loss is on exp(log_alpha).
        ("published", "care", "temperature_loss", ("alpha",) * 2),
        ("published", "film", "temperature_loss", ("alpha",) * 2),
        ("scaling", "care", "temperature_loss", ("log_alpha",) * 2),
    ],
)
def test_methods_learn_as_the_code_they_are_compared_with(
    name: str, algorithm: str, field: str, wanted: tuple[str, str]
) -> None:
    found = [getattr(preset(name, algorithm, t).settings, field) for t in ("MT10", "MT50")]
    assert tuple(found) == wanted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ars_protocol_evaluates_every_method_by_sampling(algorithm: str) -> None:
    assert preset("ars", algorithm, "MT10").settings.evaluated_actions == "sample"
    assert preset("scaling", algorithm, "MT10").settings.evaluated_actions == "mode"


def test_the_suites_presets_name_no_methods_fields() -> None:
    fields = {name for values in SUITE.values() for name in values}
    own = {name for alg in ALGORITHMS for name in settings_of(alg).__dataclass_fields__}
    assert fields & own == {"actor_width", "critic_width"}


OWN = """
from dataclasses import dataclass
from algorithms.mtsac import MTSAC

@dataclass(frozen=True)
class Settings:
    modules: int = 7
    mutation_rate: float = 55.0
    anything: float = 0.0

class Own(MTSAC):
    Settings = Settings
    presets = {"quick": {"modules": lambda tasks: tasks, "horizon": 77}}

class ByTasks(Own):
    presets = {"*": {"modules": lambda tasks: tasks}, "scaling": {"anything": 3.0}}

class Wrong(Own):
    presets = {"smoke": {"moduls": 3}}

class WrongEverywhere(Own):
    presets = {"*": {"moduls": 3}}

class Destroyer(Own):
    presets = {"smoke": {"force": True}}

class Thawed(Own):
    class Settings:
        pass

@dataclass(frozen=True)
class Bare:
    size: int

class WithoutDefault(Own):
    Settings = Bare

@dataclass(frozen=True)
class Taken:
    horizon: int = 3

class Taking(Own):
    Settings = Taken
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_presets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_presets"


def test_a_strangers_fields_have_neither_our_presets_nor_our_ranges(own: str) -> None:
    smoke = preset("smoke", f"{own}:Own", "MT10")
    assert (smoke.settings.modules, smoke.task.horizon) == (7, 20)
    quick = preset("quick", f"{own}:Own", "MT10")
    assert (quick.settings.modules, quick.task.horizon) == (10, 77)
    check(quick)
    small = preset("small", f"{own}:Own", "MT10")
    assert (small.settings.modules, small.task.horizon) == (10, 200), "a protocol is the suite's"
    scaling, ars, smoke = (
        preset(name, f"{own}:ByTasks", "MT10").settings for name in ("scaling", "ars", "smoke")
    )
    assert (scaling.modules, scaling.anything, ars.modules, smoke.modules) == (10, 3.0, 10, 7)
    arguments = ["--alg", f"{own}:Own", "--anything", "-1e300", "--modules", "-5"]
    assert parse(arguments).settings.anything == -1e300
    for value in ("nan", "inf", "-inf"):
        with pytest.raises(UserError, match=r"anything: .* is out of range; give a finite"):
            parse(["--alg", f"{own}:Own", "--anything", value])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wrong", "Wrong.presets['smoke']: 'moduls' is not one of its settings' fields"),
        ("WrongEverywhere", "WrongEverywhere.presets['*']: 'moduls' is not one of"),
        ("Destroyer", "Destroyer.presets['smoke']: 'force' is not one of"),
        ("Thawed", "Settings is not a frozen dataclass"),
        ("WithoutDefault", "its field 'size' has no default"),
        ("Taking", "its field 'horizon' is the suite's"),
    ],
)
def test_what_is_wrong_with_a_strangers_class_is_said(own: str, name: str, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        parse(["--alg", f"{own}:{name}", "--preset", "smoke"])


@pytest.mark.parametrize(
    ("module", "text", "line"),
    [
        ("failing", "1 / 0", "ZeroDivisionError: division by zero"),
        ("ending", "import sys\nsys.exit(3)", "its module ends the process .* 3"),
    ],
)
def test_a_module_that_fails_is_a_line(
    module: str, text: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"cannot be loaded: {line}"):
        parse(["--alg", f"{module}:Own"])


# Identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MT10", "mt10"),
        ("MT1:reach-v3", "reach"),
        ("mt1:reach", "reach-v3"),
        ("reach,push", "reach-v3, push-v3"),
    ],
)
def test_spellings_of_one_task_set_are_one_run(one: str, other: str) -> None:
    a, b = run(task=TaskConfig(one)), run(task=TaskConfig(other))
    assert (a.hash(), a.name()) == (b.hash(), b.name())


def test_the_order_of_tasks_is_part_of_the_identity() -> None:
    # It is the order of the task axis, and so of every random draw.
    assert run(task=TaskConfig("reach,push")).hash() != run(task=TaskConfig("push,reach")).hash()


def test_mt10_is_another_run_than_the_list_of_its_tasks() -> None:
    # MT10's goals are drawn from one stream over its tasks, those of a list from one a task.
    listed = ",".join(task_sets()["MT10"])
    assert run(task=TaskConfig("MT10")).hash() != run(task=TaskConfig(listed)).hash()


def test_the_goal_seed_follows_the_seed_unless_given() -> None:
    assert run(seed=7).goal_seed == 7
    assert run(seed=7, task=TaskConfig(goal_seed=3)).goal_seed == 3
    assert run(seed=7).hash() == run(seed=7, task=TaskConfig(goal_seed=7)).hash()
    assert run(seed=7).hash() != run(seed=7, task=TaskConfig(goal_seed=3)).hash()


def test_the_name_is_readable_and_fit_for_a_path() -> None:
    name = run(seed=4, task=TaskConfig("reach,push")).name()
    assert name.startswith("mtsac-reach+push-preset-a400-c400-s4-")
    own = RunConfig("package.module:Own", MTSACSettings())
    assert own.name().startswith("Own-MT10-preset-")
    many = run(task=TaskConfig(",".join(task_sets()["MT25"])))
    assert "-25tasks-" in many.name()
    assert len(many.name()) < 100
    assert not set("/: ") & set(own.name())


def test_rounds_are_whole_episodes_that_cover_the_steps() -> None:
    c = run(
        task=TaskConfig("reach,push", horizon=100, envs_per_task=2),
        training=TrainingConfig(steps=1001),
    )
    assert c.steps_per_round == 400
    assert c.rounds == 3


# Checks --------------------------------------------------------------------------------------


def refused(config: RunConfig) -> str:
    with pytest.raises(UserError) as error:
        check(config)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("horizon", [1, HORIZON_LIMIT])
def test_horizons_up_to_meta_worlds_limit_pass(horizon: int) -> None:
    check(run(task=TaskConfig(horizon=horizon)))


NUMBERS = [
    (part, name, kind)
    for part, owner in PARTS.items()
    for name, kind in kinds(owner).items()
    if without_range(kind) in (int, float)
] + [
    ("settings", name, kind)
    for name, kind in kinds(MTSACSettings).items()
    if without_range(kind) in (int, float)
]


@pytest.mark.parametrize(("part", "name", "kind"), NUMBERS, ids=[name for _, name, _ in NUMBERS])
def test_every_number_has_a_range_that_a_configuration_from_python_keeps_too(
    part: str, name: str, kind: Any
) -> None:
    range_ = range_of(kind)
    assert range_ is not None
    values = [math.nan, -math.inf, range_.low - 1]
    values += [] if range_.infinite else [math.inf, range_.high * 2 + 1]
    for value in values:
        config = run()
        changed = getattr(config, part)
        object.__setattr__(changed, name, value)  # past __post_init__, which may refuse it, too
        assert refused(replace(config, **{part: changed})).startswith(f"{name.replace('_', '-')}: ")


@pytest.mark.parametrize("field", ["eval_episodes", "final_episodes"])
def test_no_more_preset_goals_can_be_evaluated_than_there_are(field: str) -> None:
    config = run(evaluation=EvaluationConfig(**{field: 51}))
    message = refused(config)
    assert message.startswith(f"{field.replace('_', '-')}: 51 is more than the 50 preset goals")
    check(replace(config, task=TaskConfig(goals="random")))


def test_the_probe_needs_a_transition_of_every_task() -> None:
    assert "probe-size: 9 " in refused(run(evaluation=EvaluationConfig(probe_size=9)))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_meta_world_cannot_take_are_refused(seed: int) -> None:
    assert refused(run(seed=seed)).startswith(f"seed: {seed} ")
    if seed > 0:
        assert f"goal-seed: {seed} " in refused(run(task=TaskConfig(goal_seed=seed)))


def test_a_whole_number_is_one_also_from_python() -> None:
    config = run(training=TrainingConfig(steps=1e6))  # type: ignore[arg-type]
    assert refused(config) == "steps: 1000000.0 is not a whole number"


def test_a_field_that_came_later_leaves_names_as_they_were() -> None:
    """Where it has the value that earlier runs had; any other value is part of the identity."""
    base = preset("quick", "paco", "reach,push")
    for part, younger in YOUNGER.items():
        for name, value in younger.items():
            owner = base.settings if part == "settings" else getattr(base, part)
            as_before = replace(base, **{part: replace(owner, **{name: value})})
            assert as_before.name() == base.name()
            assert name not in as_before.identity()[part]

    @dataclass(frozen=True)
    class Clipped(PaCoSettings):
        value_clip: float = 5000.0

    unclipped = replace(base, settings=Clipped(value_clip=math.inf))
    assert unclipped.identity()["settings"]["value_clip"] == math.inf
    # What BRC and ARS had before all others have it is part of theirs.
    for algorithm, name in (("brc", "shared_temperature"), ("ars", "evaluated_actions")):
        mine, other = preset("quick", algorithm, "reach"), preset("quick", "mtsac", "reach")
        assert name in mine.identity()["settings"] and name not in other.identity()["settings"]


def test_released_runs_keep_their_names() -> None:
    """Those whose directories are named as their code named them."""
    found = [path.parent for study in RELEASED for path in study.rglob("config.json")]
    assert {folder.name.partition("-")[0] for folder in found} == set(ALGORITHMS)
    assert {folder.name: stored_config(folder).name() for folder in found} == {
        folder.name: folder.name for folder in found
    }


def test_evaluation_goals_stand_in_the_rows_and_the_name(tmp_path: Path) -> None:
    base = parse(["--alg", "mtsac", "--preset", "smoke", "--tasks", "reach", "--goals", "random"])
    other = replace(base, evaluation=replace(base.evaluation, eval_goals="preset"))
    assert base.name() != other.name()
    assert (base.evaluated_goals, other.evaluated_goals) == ("random", "preset")
    goals = goals_of(other, "fast")
    assert [goal.vector is not None for goal in goals.evaluation(3)[0]] == [True] * 3
    assert goals.training(0, 1)[0].vector is None
    shown = []
    for config in (base, other):
        execution = replace(config.execution, results=str(tmp_path))
        columns = RunDirectory(replace(config, execution=execution)).columns(ParameterCounts(1, 2))
        shown.append((columns["goals"], "preset goals" in columns["evaluation"]))
    assert shown == [("random", False), ("random+preset", True)]
    many = replace(other, evaluation=replace(other.evaluation, final_episodes=51))
    with pytest.raises(UserError, match="more than the 50 preset goals"):
        check(many)


def test_a_stored_setting_that_the_method_does_not_have_is_named(tmp_path: Path) -> None:
    identity = preset("smoke", "mtsac", "reach").identity()
    identity["settings"]["no_such"] = 1
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps({"run": f"a-{digest[:8]}", **identity}))
    with pytest.raises(UserError, match="not of this version of the suite: mtsac has no setting"):
        stored_config(tmp_path)
