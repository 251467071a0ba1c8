"""The 50 preset goals of each task, which a seed gives, and their cache on disk.

Meta-World makes them by building every class and resetting it 50 times; a reset settles the arm for
250 physics steps and throws the result away. Only the random vectors are kept, so the fast engine
runs the same resets without physics: the rejection tests of the tasks look at random vectors alone.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from suite.envs import PRESET_GOALS
from suite.envs.cache import load, store


def metaworld_preset_goals(tasks: Sequence[str], seed: int) -> list[NDArray[np.float64]]:
    """The preset goals as Meta-World itself makes them (about 1.5 s per task).

    `tasks` are Meta-World's names; their order matters, as the tasks share one stream of random
    numbers. Returns one array [50, d] per task, d = 3 or 6: the `rand_vec` of Meta-World's tasks.
    """
    from metaworld import _MT_OVERRIDE, _make_tasks
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, _get_args_kwargs, _get_env_dict

    classes = _get_env_dict(tasks)
    arguments = _get_args_kwargs(ALL_V3_ENVIRONMENTS, classes)
    made = _make_tasks(classes, arguments, _MT_OVERRIDE, seed=seed)
    return [
        np.array([pickle.loads(task.data)["rand_vec"] for task in made if task.env_name == name])
        for name in tasks
    ]


def drawn_preset_goals(tasks: Sequence[str], seed: int) -> list[NDArray[np.float64]]:
    """The same goals, drawn by the fast engine's resets without physics (about 5 ms per task).

    NumPy's global generator, which Meta-World seeds, is a `RandomState`; this one is our own.
    """
    from suite.envs.fast.twin import fast_class

    generator = np.random.RandomState(seed)
    goals = []
    for task in tasks:
        env: Any = fast_class(task)()
        env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        env.np_random = generator
        goals.append(np.array([env.draw_goal() for _ in range(PRESET_GOALS)]))
    return goals


def _key(tasks: Sequence[str], seed: int) -> list[object]:
    # NumPy is part of the key as its generator's stream is, and this file's format (goals-2).
    versions = [version("metaworld"), version("mujoco"), version("numpy")]
    return [*versions, "goals-2", list(tasks), seed]


def load_goals(tasks: Sequence[str], seed: int) -> list[NDArray[np.float64]] | None:
    """The cached goals of `tasks` and `seed`, or None if there is no readable file of them."""

    def decode(content: bytes) -> list[NDArray[np.float64]]:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return [cast(NDArray[np.float64], stored[f"goals_{i}"]) for i in range(len(tasks))]

    return load("goals", _key(tasks, seed), decode)


def store_goals(tasks: Sequence[str], seed: int, goals: Sequence[NDArray[np.float64]]) -> None:
    """Keep `goals` for the next time."""
    buffer = io.BytesIO()
    np.savez(buffer, **{f"goals_{i}": g for i, g in enumerate(goals)})  # type: ignore[arg-type]
    store("goals", _key(tasks, seed), buffer.getvalue())
