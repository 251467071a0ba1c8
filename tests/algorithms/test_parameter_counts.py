"""Sizes to the unit: published ones, and those that follow from the papers' layer lists."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from algorithms import load
from algorithms.algorithm import Algorithm, Problem
from algorithms.counting import without_memory


def full_size(name: str, tasks: int, **fields: object) -> Algorithm:
    """Counted as the suite counts: with shapes and no memory."""
    found, names = load(name), tuple(f"task-{i}" for i in range(tasks))
    return without_memory(found, found.Settings(**fields), Problem(names))


def of_preset(name: str, preset: str, tasks: int) -> Algorithm:
    """As a preset of its own sets it."""
    found = load(name)
    known = {f.name for f in dataclasses.fields(found.Settings)}
    values = {**found.presets.get("*", {}), **found.presets.get(preset, {})}
    values = {k: v(tasks) if callable(v) else v for k, v in values.items() if k in known}
    return full_size(name, tasks, **values)


@pytest.mark.parametrize(
    ("name", "tasks", "fields", "actor", "critics"),
    [
        ("mtsac", 10, {"actor_width": 256, "critic_width": 256}, 164_944, 295_956),
        ("mtsac", 50, {"actor_width": 256, "critic_width": 256}, 257_424, 336_996),
        ("mtsac", 10, {"actor_width": 400, "critic_width": 400}, 372_880, 692_820),
        ("mtsac", 50, {"actor_width": 400, "critic_width": 400}, 517_200, 756_900),
        (
            "softmodules",
            50,
            {"layers": 4, "modules": 4, "module_ratio": 0.64},
            1_606_140,
            3_211_882,
        ),
        ("ars", 10, {}, 504_408, 1_013_014),
        ("ars", 50, {}, 520_408, 1_045_174),
        ("ars", 50, {"actor_width": 1024, "critic_width": 1024}, 3_249_160, 6_508_918),
        ("brc", 50, {}, 153_608, 2 * 67_891_301 + 50 * 32),
    ],
)
def test_published_sizes(
    name: str, tasks: int, fields: dict[str, Any], actor: int, critics: int
) -> None:
    assert full_size(name, tasks, **fields).parameter_counts() == (actor, critics)


@pytest.mark.parametrize(
    ("name", "preset", "tasks", "actor", "critics"),
    [
        ("softmodules", "scaling", 10, 691_022, 1_381_646),
        ("softmodules", "published", 50, 808_444, 1_618_282),
        ("moore", "scaling", 10, 1_379_320, 2_715_300),
        ("moore", "scaling", 50, 2_181_500, 4_101_500),
        ("paco", "scaling", 10, 1_700_095, 3_388_120),
        ("paco", "scaling", 50, 6_801_180, 13_554_080),
        ("film", "scaling", 10, 377_414, 749_614),
        ("film", "scaling", 50, 379_414, 753_614),
        ("care", "scaling", 10, 420_564, 837_914),
        ("care", "scaling", 50, 451_168, 900_722),
    ],
)
def test_presets_have_the_published_sizes(
    name: str, preset: str, tasks: int, actor: int, critics: int
) -> None:
    assert of_preset(name, preset, tasks).parameter_counts() == (actor, critics)


@pytest.mark.parametrize(("width", "millions"), [(512, 2.29), (1024, 8.78), (2048, 34.3)])
def test_brc_has_the_sizes_of_the_authors_code(width: int, millions: float) -> None:
    """As counted there, to three digits where it is not known to the unit."""
    actor, critic = full_size("brc", 50, critic_width=width).parameter_counts()
    assert actor == 153_608
    assert critic / 1e6 == pytest.approx(millions, rel=2e-3)


def test_actor_and_critic_of_mtsac_scale_apart() -> None:
    counts = full_size("mtsac", 10, actor_width=256, critic_width=400).parameter_counts()
    assert counts == (164_944, 692_820)
    assert counts.total == 164_944 + 692_820


def test_a_shared_head_replaces_ten() -> None:
    counts = full_size("mtsac", 10, multi_head=False).parameter_counts()
    assert counts.actor == 372_880 - 9 * (400 * 8 + 8)
    assert counts.critic == 692_820 - 2 * 9 * (400 + 1)


def test_every_critic_counts() -> None:
    assert full_size("mtsac", 10, critics=5).parameter_counts().critic == 692_820 * 5 // 2


def layers(*sizes: int) -> int:
    """Weights and biases of linear layers of these sizes in a row."""
    return sum(a * b + b for a, b in itertools.pairwise(sizes))


ROUTER = layers(400, 256, 256, 136)


def d2r_size(inputs: int, outputs: int, tasks: int) -> int:
    """The authors' layer list with 16 modules."""
    base, embedding = layers(inputs, 400, 400), layers(tasks, 400)
    modules = layers(400, 128) + 15 * layers(128, 128)
    return base + embedding + ROUTER + modules + layers(128, outputs)


def test_d2r_has_the_authors_size() -> None:
    assert ROUTER == 203_400
    assert d2r_size(39, 8, 10) == 684_240
    counts = full_size("d2r", 10).parameter_counts()
    assert counts == (684_240, 2 * d2r_size(43, 1, 10))


def test_d2r_grows_by_an_embedding_row_per_task() -> None:
    assert full_size("d2r", 50).parameter_counts().actor == 684_240 + 40 * 400


def test_megas_actor_is_d2rs_without_router_and_embedding() -> None:
    counts = full_size("mega", 10).parameter_counts()
    assert counts.actor == 684_240 - 203_400 - layers(10, 400)
    assert counts.critic == 2 * d2r_size(43, 1, 10)
