"""The replay: a ring, task-major, that comes back from its segments as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from suite.runs.checkpoint import CheckpointStore
from suite.training.replay import ACTION, NEXT, OBSERVATION, REWARD, TIMEOUT, WIDTH, Replay

CPU = torch.device("cpu")
EXTRAS = {"route": ((3,), torch.uint8), "score": ((), torch.float64)}


def replay(tasks: int = 2, capacity: int = 10, seed: int = 0) -> Replay:
    return Replay(tasks, capacity, EXTRAS, CPU, torch.Generator().manual_seed(seed))


def lockstep(tasks: int, envs: int, number: int) -> Tensor:
    """A row of every env that can be told from all others: number, task and env."""
    task = torch.arange(tasks).view(-1, 1).expand(tasks, envs)
    env = torch.arange(envs).view(1, -1).expand(tasks, envs)
    code = (number * 100 + task * 10 + env).float()
    rows = torch.zeros(tasks, envs, WIDTH)
    rows[..., OBSERVATION] = code[..., None]
    rows[..., ACTION] = code[..., None] + 0.25
    rows[..., REWARD] = code + 0.5
    rows[..., TIMEOUT] = number % 4 == 3
    rows[..., NEXT] = code[..., None] + 1
    return rows


def fill(target: Replay, steps: int, envs: int = 1, first: int = 0) -> None:
    for number in range(first, first + steps):
        rows = lockstep(target.tasks, envs, number)
        route = torch.full((target.tasks, envs, 3), number % 256, dtype=torch.uint8)
        extras = {"route": route, "score": rows[..., REWARD].double()}
        target.write(rows, extras)
        target.count(rows.shape[1])


def same(a: Replay, b: Replay) -> bool:
    return (
        torch.equal(a.rows, b.rows)
        and a.written == b.written
        and all(torch.equal(a.extras[name], b.extras[name]) for name in EXTRAS)
        and torch.equal(a.generator.get_state(), b.generator.get_state())
    )


def test_a_batch_holds_whole_transitions_of_the_right_task() -> None:
    target = replay(tasks=3, capacity=20)
    fill(target, 8, envs=2)
    batch = target.sample(200)
    code = batch.observations[..., 0]
    assert batch.observations.shape == (3, 200, 39)
    assert torch.equal((code // 10 % 10).long(), torch.arange(3).view(-1, 1).expand(3, 200))
    assert torch.equal(batch.actions, (code + 0.25)[..., None].expand(3, 200, 4))
    assert torch.equal(batch.rewards, code + 0.5)
    assert torch.equal(batch.next_observations, (code + 1)[..., None].expand(3, 200, 39))
    number = code // 100
    assert torch.equal(batch.timeouts, (number % 4 == 3).float())
    assert torch.equal(batch.extras["route"][..., 0], number.to(torch.uint8))
    assert batch.extras["route"].dtype == torch.uint8
    assert torch.equal(batch.extras["score"], batch.rewards.double())
    # All of the 8 × 2 transitions can be drawn.
    assert all(len(set(row.tolist())) == 16 for row in code)


def test_only_the_newest_transitions_are_kept() -> None:
    target = replay(capacity=10)
    fill(target, 27)
    assert target.size == 10
    numbers = target.sample(500).observations[..., 0] // 100
    assert set(numbers.flatten().tolist()) == set(range(17, 27))


def test_an_unfilled_replay_gives_only_what_was_added() -> None:
    target = replay(capacity=10)
    fill(target, 3)
    numbers = target.sample(300).observations[..., 0] // 100
    assert set(numbers.flatten().tolist()) == {0, 1, 2}


def test_sampling_uses_its_own_generator_and_no_other() -> None:
    one, other, third = replay(seed=1), replay(seed=1), replay(seed=2)
    for target in (one, other, third):
        fill(target, 10)
    before = torch.get_rng_state()
    first = one.sample(50)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(17)  # what others draw from the global generator must not matter
    torch.set_rng_state(before)
    assert torch.equal(first.observations, other.sample(50).observations)
    assert not torch.equal(first.observations, third.sample(50).observations)


def test_tasks_draw_independently() -> None:
    target = replay(tasks=2, capacity=100)
    fill(target, 100)
    numbers = target.sample(1000).observations[..., 0] // 100
    assert 0 < (numbers[0] == numbers[1]).float().mean() < 0.05


def test_memory_is_as_announced() -> None:
    target = replay(tasks=3, capacity=7)
    stored = [target.rows, *target.extras.values()]
    assert Replay.bytes(3, 7, EXTRAS) == sum(t.numel() * t.element_size() for t in stored)
    assert Replay.bytes(10, 100_000, {}) == 10 * 100_000 * WIDTH * 4


moments = st.lists(st.integers(0, 15), min_size=1, max_size=8)
"""Steps between one save and the next."""


@settings(max_examples=60, deadline=None)
@given(moments, st.integers(1, 3), st.integers(3, 20), st.integers(0, 30))
def test_segments_saved_at_any_moments_restore_the_replay(
    steps: list[int], envs: int, capacity: int, afterwards: int
) -> None:
    original = replay(capacity=capacity)
    segments: list[tuple[int, dict[str, Tensor]]] = []
    done = 0
    for count in steps:
        fill(original, count, envs, first=done)
        done += count
        start = segments[-1][0] if segments else 0
        if original.written > start:
            segments.append((original.written, original.segment(start)))
            original.sample(3)
    restored = replay(capacity=capacity, seed=99)
    for stop, segment in segments:
        restored.restore_segment(stop, segment)
    restored.load_state_dict(original.state_dict())
    assert same(restored, original)
    # And they stay the same from there on.
    for target in (original, restored):
        fill(target, afterwards, envs, first=done)
    assert same(restored, original)
    if original.size:
        assert torch.equal(original.sample(9).rewards, restored.sample(9).rewards)


@settings(max_examples=20, deadline=None)
@given(moments, st.integers(3, 20))
def test_checkpoint_files_restore_the_replay_though_overwritten_segments_are_deleted(
    steps: list[int], capacity: int
) -> None:
    original, done = replay(capacity=capacity), 0
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder) / "checkpoints", "mtsac-s0")
        for round_, count in enumerate(steps, 1):
            fill(original, count, first=done)
            done += count
            store.save(
                round_,
                {"replay": original.state_dict()},
                original.segment(store.saved_rows()),
                original.written,
                original.capacity,
                None,
            )
        loaded = CheckpointStore(Path(folder) / "checkpoints", "mtsac-s0").load()
        assert loaded is not None
        # No more of them than cover the ring: else a long run fills the disk.
        assert sum(len(segment["rows"][0]) for _, segment in loaded.segments[1:]) <= capacity
        restored = replay(capacity=capacity, seed=99)
        for stop, segment in loaded.segments:
            restored.restore_segment(stop, segment)
        restored.load_state_dict(loaded.state["replay"])
    assert same(restored, original)


@pytest.mark.parametrize("start", [0, 3, 12])
def test_a_segment_is_no_larger_than_the_ring_and_a_copy(start: int) -> None:
    target = replay(capacity=10)
    fill(target, 14)
    segment = target.segment(start)
    assert segment["rows"].shape == (2, min(10, 14 - start), WIDTH)
    before = segment["rows"].clone()
    fill(target, 10, first=14)
    assert torch.equal(segment["rows"], before)
