"""One Meta-World environment: Meta-World's own class, or an exact and faster twin of it.

Both engines have Meta-World's step and reset API and give the same bits. `fast` is checked against
one pair of versions only and refuses others; `metaworld` is Meta-World's class, unmodified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from suite.envs import goals as goal_files
from suite.envs.fast.verified import reason_to_refuse

if TYPE_CHECKING:
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

ENGINES = ("fast", "metaworld")


class EngineError(ValueError):
    """The engine is unknown, or its exactness is not verified for the installed versions."""


def check_engine(engine: str) -> None:
    """Raise `EngineError`, in one line, unless `engine` can be used with what is installed."""
    if engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    reason = reason_to_refuse() if engine == "fast" else None
    if reason is not None:
        raise EngineError(reason)


def make_env(task: str, reward_version: str = "v2", engine: str = "fast") -> SawyerXYZEnv:
    """A Meta-World env with a visible goal, to be reset by one of the two functions below.

    `task` is Meta-World's name ("reach-v3"), `reward_version` "v1" or "v2". An env belongs to the
    process that made it (it is not pickled). Raises `EngineError` for an engine that cannot be
    used, `ValueError` for an unknown task or reward version.
    """
    check_engine(engine)
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    if task not in ALL_V3_ENVIRONMENTS:
        raise ValueError(f"unknown Meta-World task {task!r}")
    if reward_version not in ("v1", "v2"):
        raise ValueError(f"unknown reward version {reward_version!r}: choose v1 or v2")
    if engine == "fast":
        from suite.envs.fast.twin import fast_class

        task_class: Any = fast_class(task)
    else:
        task_class = ALL_V3_ENVIRONMENTS[task]
    env: SawyerXYZEnv = task_class(reward_function_version=reward_version)
    # What Meta-World's set_task does for the MT benchmarks.
    env._partially_observable = False
    del env.sawyer_observation_space
    env._set_task_called = True
    return env


def reset_to_goal(env: SawyerXYZEnv, goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reset `env` to a fixed goal: `set_task` with `goal` as `rand_vec`, then `reset`.

    `goal` is [d], d = 3 or 6, one that the task can draw. Returns the first observation [39].
    """
    env._freeze_rand_vec = True
    env._last_rand_vec = np.array(goal, dtype=np.float64)
    observation: NDArray[np.float64] = env.reset()[0]
    return observation


def reset_to_random_goal(env: SawyerXYZEnv, generator: np.random.Generator) -> NDArray[np.float64]:
    """Reset `env` to a goal drawn from `generator`, as Meta-World draws it.

    Meta-World resets twice within a reset, so two goals are drawn (more where a task rejects some);
    the last is left in `env._last_rand_vec`. Returns the first observation [39].
    """
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env.np_random = generator
    observation: NDArray[np.float64] = env.reset()[0]
    return observation


def preset_goals(
    tasks: Sequence[str], seed: int, engine: str = "fast"
) -> list[NDArray[np.float64]]:
    """The preset goals of `tasks`, in this order, that `seed` gives: one array [50, d] per task.

    With MT10's tasks they are those of `metaworld.MT10(seed=seed)`. Both engines give the same
    goals; `fast` also keeps them in the user's cache directory. NumPy's global generator is left
    as it was.
    """
    check_engine(engine)
    if engine == "metaworld":
        return goal_files.metaworld_preset_goals(tasks, seed)
    found = goal_files.load_goals(tasks, seed)
    if found is None:
        found = goal_files.drawn_preset_goals(tasks, seed)
        goal_files.store_goals(tasks, seed, found)
    return found
