"""The sweeps of our own evidence are what their protocol says."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from algorithms.algorithm import ParameterCounts
from suite.config import RunConfig
from suite.presets import preset
from suite.sizes import TOLERANCE, count
from suite.sweeps.plan import plan

PROTOCOL = Path(__file__).parents[3] / "results" / "release" / "mt10-small" / "README.md"
SMALL = tuple(f"mt10-small-{study}" for study in (1, 2, 3, 4, 5))
ARCHITECTURES = {"d2r", "mega", "softmodules", "moore", "paco", "care", "film"}
FIRST_OF_TRIALS = 100


def configurations(name: str) -> list[RunConfig]:
    """One run of each configuration, in the order in which they are begun."""
    return list(plan(name, {"seed": ["0"]}).runs)


def counts(config: RunConfig) -> ParameterCounts:
    return count(config.algorithm, config.settings, config.tasks)


def times_plain(config: RunConfig) -> tuple[float, float]:
    """Actor and critics over those of MT-SAC at the preset, to the tolerance of matching."""
    mine, plain = counts(config), counts(preset("small", "mtsac", config.task.tasks))
    ratios = mine.actor / plain.actor, mine.critic / plain.critic
    near = tuple(min((0.25, 1, 4, 16), key=lambda size: abs(own / size - 1)) for own in ratios)
    assert all(abs(r / n - 1) <= TOLERANCE for r, n in zip(ratios, near, strict=True)), ratios
    return near


def test_a_clone_goes_on_from_the_released_runs() -> None:
    """The sweeps' runs of today have the released ones' names, and are not trained anew."""
    planned = {run.name() for name in SMALL for run in plan(name, {}).runs}
    released = {path.parent.name for path in PROTOCOL.parent.glob("study-*/*/result.json")}
    assert len(released) >= 60 and released <= planned


@pytest.mark.parametrize("name", SMALL)
def test_all_runs_of_a_study_have_one_protocol_and_five_seeds_or_more(name: str) -> None:
    runs = plan(name, {}).runs
    base = preset("small", "mtsac", "MT10")
    assert {c.training.steps / len(c.tasks) for c in runs} == {base.training.steps / 10}
    for config in runs:
        assert config.evaluation == base.evaluation
        assert {**vars(config.training), "steps": 0} == {**vars(base.training), "steps": 0}
        assert {**vars(config.task), "tasks": ""} == {**vars(base.task), "tasks": ""}
    assert (base.task.horizon, base.task.goals, base.task.reward_version) == (200, "preset", "v2")
    assert base.evaluation.final_episodes == 50
    seeds = Counter(config.seed for config in runs)
    assert len(seeds) >= 5 and len(set(seeds.values())) == 1
    assert max(seeds) < FIRST_OF_TRIALS, "trials have seeds that no study uses"


def test_study_1_has_every_architecture_at_the_size_of_one_plain_network() -> None:
    found = configurations("mt10-small-1")
    equal = [c for c in found if times_plain(c) == (1, 1)]
    assert {c.algorithm for c in equal} == {"mtsac"} | ARCHITECTURES
    larger = [times_plain(c) for c in found if c not in equal]
    assert larger == [(4, 4), (16, 16)]
    first = [c.algorithm for c in found[:8]]
    assert first == ["mtsac", "d2r", "mega", "softmodules", "moore", "paco", "mtsac", "mtsac"]
    assert [c.settings.combine for c in equal if c.settings.combine != "mean"] == [
        "pcgrad",
        "cagrad",
    ]


def test_study_2_has_four_sizes_together_and_of_each_network_alone() -> None:
    found = {times_plain(c) for c in configurations("mt10-small-2")}
    sizes = (0.25, 1, 4, 16)
    assert found == {(a, c) for a in sizes for c in sizes if a == c or 1 in (a, c)}
    assert {c.algorithm for c in configurations("mt10-small-2")} == {"mtsac"}
    shared = {c.hash() for c in configurations("mt10-small-1")}
    assert sum(c.hash() in shared for c in configurations("mt10-small-2")) == 3


def test_study_3_nests_its_tasks_and_makes_as_many_gradient_steps_on_each() -> None:
    found = configurations("mt10-small-3")
    sets = sorted({c.tasks for c in found}, key=len)
    assert [len(tasks) for tasks in sets] == [1, 2, 5, 10]
    assert all(set(small) < set(large) for small, large in itertools.pairwise(sets))
    assert len({c.rounds for c in found}) == 1
    widths = {(c.settings.actor_width, c.settings.critic_width) for c in found}
    assert widths == {(163, 163), (652, 652)} and len(found) == 8


def test_study_4_changes_one_part_of_mega_at_a_time() -> None:
    base, *others = configurations("mt10-small-4")
    assert {times_plain(c) for c in (base, *others)} == {(1, 1)}
    changed = []
    for config in others:
        own = vars(config.settings)
        changed.append({k: v for k, v in own.items() if v != getattr(base.settings, k)})
    assert base.settings.modules == 8
    assert changed == [
        {"decoding": "softmax"},
        {"gene_bits": 4},
        {"gene_bits": 4, "decoding": "softmax"},
        {"trigger": "none"},
        {"trigger": "success"},
        {"first_stage": 8},
        {"evolution": False},
        {"evolution": False, "first_stage": 8},
    ]


def test_study_5_trains_plain_networks_as_the_architectures_are() -> None:
    as_d2r, as_soft_modules = configurations("mt10-small-5")
    assert times_plain(as_d2r) == times_plain(as_soft_modules) == (1, 1)
    plain = vars(preset("small", "mtsac", "MT10").settings)
    for control, trained in ((as_d2r, ("d2r", "mega")), (as_soft_modules, ("softmodules",))):
        for algorithm in trained:
            theirs = vars(preset("small", algorithm, "MT10").settings)
            shared = plain.keys() & theirs.keys() - {"actor_width", "critic_width"}
            own = vars(control.settings)
            assert {key: own[key] for key in shared} == {key: theirs[key] for key in shared}
            assert {key: own[key] for key in plain.keys() - shared} == {
                key: plain[key] for key in plain.keys() - shared
            }


def test_the_papers_size_is_the_studys_table_on_mt10() -> None:
    found = configurations("paper-mt10")
    plain = {(c.settings.actor_width, c.settings.critic_width) for c in found
             if c.algorithm == "mtsac"}  # fmt: skip
    swept = (256, 512, 1024, 2048, 4096)
    assert plain == {(400, 400)} | {pair for w in swept for pair in ((w, w), (w, 400), (400, w))}
    assert {c.algorithm for c in found} == {"mtsac", "softmodules", "paco", "moore"}
    assert {c.training.steps for c in found} == {20_000_000}


def test_the_protocols_table_of_sizes_is_what_the_sweep_trains() -> None:
    cells = [
        [cell.strip() for cell in line.strip("|\n ").split("|")]
        for line in PROTOCOL.read_text("utf-8").splitlines()
        if re.match(r"\| \d+ \|", line)
    ]
    plain = counts(preset("small", "mtsac", "MT10"))
    expected = []
    for index, config in enumerate(configurations("mt10-small-1"), 1):
        own, settings = counts(config), config.settings
        aims = times_plain(config)
        expected.append([
            str(index),
            f"{settings.actor_width}, {settings.critic_width}",
            f"{own.actor:,}", f"{100 * (own.actor / plain.actor / aims[0] - 1):+.2f} %",
            f"{own.critic:,}", f"{100 * (own.critic / plain.critic / aims[1] - 1):+.2f} %",
        ])  # fmt: skip
    assert [[row[0], *row[2:7]] for row in cells] == expected
