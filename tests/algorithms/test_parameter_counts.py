"""Sizes to the unit: published ones, and those that follow from the papers' layer lists."""

from __future__ import annotations

import itertools

import pytest

from algorithms import load
from algorithms.algorithm import Algorithm, ParameterCounts, Problem
from algorithms.counting import without_memory


def full_size(name: str, tasks: int, **fields: object) -> Algorithm:
    """Counted as the suite counts: with shapes and no memory."""
    found, names = load(name), tuple(f"task-{i}" for i in range(tasks))
    return without_memory(found, found.Settings(**fields), Problem(names))


@pytest.mark.parametrize(
    ("width", "tasks", "actor", "critics"),
    [
        (256, 10, 164_944, 295_956),
        (256, 50, 257_424, 336_996),
        (400, 10, 372_880, 692_820),
        (400, 50, 517_200, 756_900),
    ],
)
def test_mtsac_has_the_scaling_studys_sizes(
    width: int, tasks: int, actor: int, critics: int
) -> None:
    algorithm = full_size("mtsac", tasks, actor_width=width, critic_width=width)
    assert algorithm.parameter_counts() == (actor, critics)


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


def test_total_is_the_sum() -> None:
    assert ParameterCounts(3, 4).total == 7
