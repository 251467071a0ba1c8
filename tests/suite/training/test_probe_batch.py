"""The probe batch: as large for every task set, the same whenever it is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from algorithms.algorithm import Batch
from suite.envs.tasks import all_tasks, task_names
from suite.presets import preset
from suite.runs.directory import RunDirectory
from suite.training import probe_batch as module
from suite.training.build import seed_run
from suite.training.probe_batch import probe_batch

CPU = torch.device("cpu")
REACH = np.array([[0.0, 0.6, 0.02, 0.05, 0.85, 0.2], [0.05, 0.65, 0.02, -0.05, 0.8, 0.15]])
PUSH = np.array([[0.0, 0.65, 0.02, 0.05, 0.85, 0.01], [0.05, 0.62, 0.02, -0.05, 0.8, 0.02]])


def build(tasks: tuple[str, ...] = ("reach-v3", "push-v3"), size: int = 120) -> Batch:
    goals = {"reach-v3": REACH, "push-v3": PUSH}
    return probe_batch(tasks, [goals[task] for task in tasks], size, 20, "v2", "fast", CPU)


def test_a_layer_wider_than_the_probe_is_told_whatever_the_width_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset("smoke", "moore", "reach,push")
    settings = replace(config.settings, actor_width=128, critic_width=128, experts=4)
    config = replace(
        config,
        settings=settings,
        evaluation=replace(config.evaluation, probe_size=300),
        execution=replace(config.execution, results=str(tmp_path)),
    )
    seed_run(config, RunDirectory(config))
    assert "more than 300 units, of which one has 512" in capsys.readouterr().err


def equal(one: Batch, other: Batch) -> bool:
    tensors = ("observations", "actions", "rewards", "next_observations", "timeouts")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return build()


def test_the_same_tasks_and_goals_give_the_same_batch(batch: Batch) -> None:
    before = str(np.random.get_state())  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002 - what others do to the global generator must not matter
    seeded = str(np.random.get_state())  # noqa: NPY002
    assert seeded != before
    assert equal(build(), batch)
    assert str(np.random.get_state()) == seeded  # noqa: NPY002


def test_a_tasks_transitions_do_not_depend_on_the_other_tasks(batch: Batch) -> None:
    alone = build(("push-v3",), size=60)
    assert torch.equal(alone.observations[0], batch.observations[1])
    assert torch.equal(alone.actions[0], batch.actions[1])


def test_half_is_random_and_half_scripted(batch: Batch) -> None:
    actions = batch.actions
    assert actions.shape == (2, 60, 4)
    assert actions.abs().max() <= 1
    # Uniform on [−1, 1]: standard deviation 0.58 in every coordinate, mean 0.
    assert (actions[:, :30].std(1) - 0.577).abs().max() < 0.25
    # The scripted policies keep the gripper's action over many steps.
    assert len(actions[0, 30:, 3].unique()) < 5 < len(actions[0, :30, 3].unique())


def test_transitions_are_real_and_follow_each_other(batch: Batch) -> None:
    # 30 of a policy from two episodes of 20 steps; consecutive ones share an observation.
    follows = (batch.next_observations[:, :-1] == batch.observations[:, 1:]).all(-1)
    assert 0.3 < follows.float().mean() < 1
    assert (batch.rewards != 0).all()
    assert batch.extras == {}
    # The goal is visible, and both goals of reach are used.
    assert len(batch.observations[0, :, 36:].unique(dim=0)) == 2


def test_without_preset_goals_fresh_ones_are_drawn_reproducibly() -> None:
    one, other = (probe_batch(["reach-v3"], [], 40, 5, "v2", "fast", CPU) for _ in range(2))
    assert equal(one, other)
    assert len(one.observations[0, :, 36:].unique(dim=0)) >= 4


class Stub:
    """An env without physics."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, float]]:
        return np.zeros(39), 1.0, False, False, {}


@pytest.fixture
def without_physics(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaworld import policies

    class Still:
        def get_action(self, _: Any) -> Any:
            return np.zeros(4)

    monkeypatch.setattr(module, "make_env", lambda *_: Stub())
    monkeypatch.setattr(module, "reset_to_goal", lambda *_: np.zeros(39))
    monkeypatch.setattr(policies, "ENV_POLICY_MAP", dict.fromkeys(all_tasks(), Still))


@pytest.mark.parametrize("tasks", ["MT1:reach", "reach,push", "reach,push,hammer", "MT10", "MT25",
                                   "MT50"])  # fmt: skip
@pytest.mark.parametrize("horizon", [20, 200, 500])
@pytest.mark.usefixtures("without_physics")
def test_every_task_set_is_measured_on_as_many_transitions(tasks: str, horizon: int) -> None:
    names = task_names(tasks)
    goals = [np.zeros((50, 3))] * len(names)
    batch = probe_batch(names, goals, 4200, horizon, "v2", "fast", CPU)
    assert batch.rewards.shape == (len(names), 4200 // len(names))
    assert batch.rewards.numel() == 4200
    # All of them are transitions that were made, none is left at zero.
    assert (batch.rewards == 1).all()
