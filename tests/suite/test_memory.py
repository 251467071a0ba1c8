"""One answer to whether a run fits into memory: its parts, and the limits of where it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from algorithms.algorithm import ParameterCounts
from suite.config import RunConfig
from suite.envs import ACTION_SIZE, OBSERVATION_SIZE
from suite.estimate import Size, size_of, sizes_in_memory
from suite.memory import ENV_BYTES, TRANSITION_BYTES, check_memory, host_memory
from suite.messages import UserError
from suite.presets import preset
from suite.training.replay import Replay


@pytest.fixture
def config() -> RunConfig:
    made = preset("smoke", "d2r", "reach,push")
    return replace(made, training=replace(made.training, buffer_per_task=1000))


def test_a_transition_has_the_bytes_that_the_replay_gives_it() -> None:
    assert Replay.bytes(1, 1, {}) == TRANSITION_BYTES
    assert (OBSERVATION_SIZE, ACTION_SIZE) == (39, 4)


def test_networks_and_what_a_method_adds_count(config: RunConfig) -> None:
    extras, networks = sizes_in_memory(config)
    assert networks > 0
    needed = 2 * 1000 * (TRANSITION_BYTES + extras) + networks + 2 * (1 + 5) * ENV_BYTES
    check_memory(config, needed, extras, networks)
    with pytest.raises(UserError, match=r"^memory: 2 tasks need for .* the networks with"):
        check_memory(config, needed - 1, extras, networks)
    batched = replace(config.execution, batched=True, seeds="3")
    with pytest.raises(UserError, match=r"2 tasks and 3 seeds need .* or train fewer seeds"):
        check_memory(replace(config, execution=batched), 3 * needed - 1, extras, networks)


def test_the_tasks_gradients_count_where_they_are_combined(config: RunConfig) -> None:
    combining = replace(config.settings, combine="pcgrad")
    actor_alone = replace(combining, combine_on="actor")
    (_, plain), (_, all_networks), (_, one) = (
        sizes_in_memory(replace(config, settings=s))
        for s in (config.settings, combining, actor_alone)
    )
    counts = size_of(config).counts
    assert all_networks == plain + 2 * 4 * counts.total
    assert one == plain + 2 * 4 * counts.actor


def test_what_a_method_adds_to_a_transition_is_what_its_replay_holds(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"a": ((3,), torch.int64), "b": ((), torch.bool)}
    monkeypatch.setattr("suite.estimate.size_of", lambda _: Size(ParameterCounts(1, 2), held))
    extras, _ = sizes_in_memory(config)
    assert TRANSITION_BYTES + extras == Replay.bytes(1, 1, held)


GROUPS = {
    "version 2": ("0::/job/step\n", "memory.max", ""),
    "version 1": ("9:cpuset:/\n4:memory:/job/step\n0::/\n", "memory.limit_in_bytes", "memory"),
    "version 1, joined": ("4:cpu,memory:/job/step\n", "memory.limit_in_bytes", "memory"),
}


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("level", ["", "job", "job/step"])
def test_the_limit_of_any_group_above_counts(kind: str, level: str, tmp_path: Path) -> None:
    text, name, folder = GROUPS[kind]
    (tmp_path / "cgroup").write_text(text)
    root = tmp_path / folder
    (root / "job" / "step").mkdir(parents=True)
    unlimited = host_memory(tmp_path, tmp_path / "cgroup")
    assert unlimited > 10**8
    (root / "job" / name).write_text("max\n")
    (root / level / name).write_text("12345678\n")
    assert host_memory(tmp_path, tmp_path / "cgroup") == 12345678


def test_without_groups_the_machine_s_memory_counts(tmp_path: Path) -> None:
    assert host_memory(tmp_path, tmp_path / "none") >= host_memory() > 10**8
