from __future__ import annotations

import pytest

from suite.envs.placement import COMMON_COST, COST, spread
from suite.envs.tasks import all_tasks, task_sets


@pytest.mark.parametrize("name", ["MT10", "MT25", "MT50"])
@pytest.mark.parametrize("workers", [1, 2, 5, 10])
def test_every_env_has_one_worker_and_loads_differ_by_less_than_the_dearest_env(
    name: str, workers: int
) -> None:
    tasks = task_sets()[name]
    plan = spread(tasks, workers)
    assert sorted(i for part in plan for i in part) == list(range(len(tasks)))
    loads = [sum(COST.get(tasks[i], COMMON_COST) for i in part) for part in plan]
    assert max(loads) - min(loads) <= max(COST.values())


def test_what_costs_most_is_dealt_first() -> None:
    # One after the other to each in turn would be [[0, 2], [1]].
    assert spread(["box-close-v3", "reach-v3", "reach-v3"], 2) == [[0], [1, 2]]


def test_costs_are_of_tasks_that_exist() -> None:
    assert set(COST) <= set(all_tasks())
