"""The disk space that a run will need."""

from __future__ import annotations

from dataclasses import replace

from algorithms.algorithm import ParameterCounts
from suite.estimate import checkpoint_bytes
from suite.presets import preset
from suite.training.replay import WIDTH


def test_the_estimate_of_disk_space_covers_a_full_replay() -> None:
    config = preset("scaling", "mtsac", "MT10")
    assert checkpoint_bytes(config, {}, ParameterCounts(1, 1)) > 10 * 100_000 * WIDTH * 4
    assert checkpoint_bytes(config, {}, ParameterCounts(1, 1)) < 3 * 10 * 100_000 * WIDTH * 4


def test_the_estimate_of_disk_space_counts_every_env_of_a_task() -> None:
    short = preset("smoke", "mtsac", "reach")
    many = replace(
        short,
        task=replace(short.task, horizon=500, envs_per_task=8),
        training=replace(short.training, steps=8_000_000, buffer_per_task=8_000_000),
    )
    assert checkpoint_bytes(many, {}, ParameterCounts(1, 1)) > 8_000_000 * WIDTH * 4
