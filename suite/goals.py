"""The 50 preset goals of each task, which a seed gives, and their cache on disk.

Meta-World makes them by building every class and resetting it 50 times; a reset settles the arm for
250 physics steps and throws the result away. Only the random vectors are kept, so the fast engine
runs the same resets without physics: the rejection tests of the tasks look at random vectors alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

GOALS_PER_TASK = 50


def metaworld_preset_goals(tasks: Sequence[str], seed: int) -> list[NDArray[np.float64]]:
    """The preset goals as Meta-World itself makes them (about 1.5 s a task).

    `tasks` are Meta-World's names; their order matters, as the tasks share one stream of random
    numbers. Returns one array [50, d] a task, d = 3 or 6: the `rand_vec` of Meta-World's tasks.
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
    """The same goals, drawn by the fast engine's resets without their physics (about 5 ms a task).

    NumPy's global generator, which Meta-World seeds, is a `RandomState`; this one is our own.
    """
    from suite.fast_class import fast_class

    generator = np.random.RandomState(seed)
    goals = []
    for task in tasks:
        env: Any = fast_class(task)()
        env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        env.np_random = generator
        goals.append(np.array([env.draw_goal() for _ in range(GOALS_PER_TASK)]))
    return goals


def _cache_file(tasks: Sequence[str], seed: int) -> Path:
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    # NumPy is part of the key as its generator's stream is, and this file's format (goals-1).
    key = [version("metaworld"), version("mujoco"), version("numpy"), "goals-1", list(tasks), seed]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return base / "mtscale" / "goals" / f"{digest}.npz"


def load_goals(tasks: Sequence[str], seed: int) -> list[NDArray[np.float64]] | None:
    """The cached goals of `tasks` and `seed`, or None if there is no readable file of them."""
    try:
        with np.load(_cache_file(tasks, seed), allow_pickle=False) as stored:
            goals = [cast(NDArray[np.float64], stored[f"goals_{i}"]) for i in range(len(tasks))]
    except Exception:  # a missing, cut or foreign file: make the goals again
        return None
    complete = all(g.dtype == np.float64 and g.shape in {(50, 3), (50, 6)} for g in goals)
    return goals if complete else None


def store_goals(tasks: Sequence[str], seed: int, goals: Sequence[NDArray[np.float64]]) -> None:
    """Write `goals` to the cache; an unwritable cache costs time, never a run."""
    path = _cache_file(tasks, seed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readers see the whole file or none: many workers may start at once.
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **{f"goals_{i}": g for i, g in enumerate(goals)})  # type: ignore[arg-type]
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return
