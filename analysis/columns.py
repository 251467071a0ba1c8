"""The columns of the tidy frame that every table and figure is a function of."""

from __future__ import annotations

VALUES = ("task", "metric", "env_step", "value")
"""What differs from row to row; `task` is empty where a value belongs to the whole agent."""

PROTOCOL = (
    *("task_set", "tasks", "goals", "reward_version", "horizon", "total_steps", "evaluation"),
    "version_metaworld",
)
"""Rows that differ in one of these are results of different benchmarks: never merged."""

TEXT = (
    *("run", "algorithm", "task_set", "goals", "reward_version", "evaluation", "device"),
    "config_hash",
)
PARAMETERS = ("actor_parameters", "critic_parameters", "total_parameters")
DIVERGED = "diverged_at"
"""Env steps before the round in which a run diverged; its success counts as 0 from there on. Other
runs have none."""
NUMBERS = ("seed", "tasks", "horizon", "total_steps", *PARAMETERS, DIVERGED)
REQUIRED = ("run", "algorithm", "seed")
"""What a file must hold beside the values; the others are empty where it does not."""

WIDTHS = ("actor_width", "critic_width")
"""Settings that the frame has as columns."""
