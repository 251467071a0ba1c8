"""Task sets and goals: what a run trains on, and which goal each episode has."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.envs import PRESET_GOALS
from suite.envs.meta_world import preset_goals, reset_to_goal, reset_to_random_goal
from suite.messages import UserError, choose
from suite.randomness import stream


@cache
def named_tasks() -> dict[str, tuple[str, ...]]:
    """Lists of tasks in Meta-World's own file, by the names that they have there.

    Read and not imported, which takes longer than all else that a refusal needs.
    """
    spec = importlib.util.find_spec("metaworld")
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).with_name("env_dict.py").read_text("utf-8"))
    found = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="_get_env_dict"), args=[ast.List() as names]),
            ):
                found[name] = tuple(ast.literal_eval(names))
    return found


def task_sets() -> dict[str, tuple[str, ...]]:
    """Meta-World's benchmarks by name, tasks in its order."""
    named = named_tasks()
    return {"MT10": named["MT10_V3"], "MT25": named["MT25_V3"], "MT50": all_tasks()}


def all_tasks() -> tuple[str, ...]:
    """The names of all tasks."""
    return named_tasks()["ALL_V3_ENVIRONMENTS"]


def task_names(tasks: str) -> tuple[str, ...]:
    """The tasks that "MT10", "MT25", "MT50", "MT1:reach-v3" or "reach-v3,push-v3" stand for.

    The suffix -v3 may be left out. Raises UserError naming the nearest task.
    """
    tasks = tasks.strip()
    if tasks.upper() in task_sets():
        return task_sets()[tasks.upper()]
    one = tasks.upper().startswith("MT1:")
    listed = (tasks[4:] if one else tasks).split(",")
    names: list[str] = []
    for given in (part.strip() for part in listed):
        if not given and len(listed) > 1:
            kept = ",".join(part.strip() for part in listed if part.strip())
            raise UserError(f"tasks: {tasks!r} has a comma too many; write {kept or 'MT10'}")
        name = given.lower() if given.lower() in all_tasks() else f"{given.lower()}-v3"
        if given.upper() in task_sets():
            raise UserError(
                f"tasks: {given} in {tasks!r} is a set of tasks, which stands alone; give one set, "
                "or a list of tasks such as reach-v3,push-v3"
            )
        if name not in all_tasks():
            shown = (
                "MT10, MT25, MT50, MT1:<task>, "
                "or a comma-separated list of tasks such as reach-v3,push-v3"
            )
            sets = () if one or len(listed) > 1 else task_sets()  # no hint leads to a set in a list
            raise UserError(choose("tasks", given, (*sets, *all_tasks()), shown))
        if name in names:
            raise UserError(f"tasks: {name} is listed twice in {tasks!r}; name each task once")
        names.append(name)
    if one and len(names) != 1:
        raise UserError(f"tasks: MT1 takes one task, got {tasks!r}; leave out MT1: for a list")
    return tuple(names)


@dataclass(frozen=True)
class Goal:
    """Where one episode's goal comes from: a known goal, or a generator to draw it with."""

    vector: NDArray[np.float64] | None = None
    """Meta-World's rand_vec."""
    stream: tuple[int, tuple[str | int, ...]] | None = None
    """Seed and purpose of the stream that a fresh goal is drawn from."""

    def reset(self, env: Any) -> NDArray[np.float64]:
        """Resets an env of the task to it; returns the first observation [39]."""
        if self.vector is not None:
            return reset_to_goal(env, self.vector)
        assert self.stream is not None
        seed, purpose = self.stream
        return reset_to_random_goal(env, stream(seed, *purpose))


class Goals:
    """The goals of a run's tasks.

    A benchmark's preset goals are Meta-World's `MT10(seed)` and so on; those of a list of tasks
    are each task's `MT1(task, seed)`, so that a task has the same goals in every list.
    """

    def __init__(
        self, tasks: str, mode: str, seed: int, goal_seed: int, engine: str, evaluated: str = ""
    ) -> None:
        """`mode` says where goals come from, `evaluated` those of evaluations, where others."""
        self.mode, self.evaluated, self.seed = mode, evaluated or mode, seed
        self.names = task_names(tasks)
        self.preset: Sequence[NDArray[np.float64]] = []
        if {mode, self.evaluated} & {"preset", "fixed"}:
            if tasks.upper() in task_sets():
                self.preset = preset_goals(self.names, goal_seed, engine)
            else:
                self.preset = [preset_goals([name], goal_seed, engine)[0] for name in self.names]

    def training(self, episode: int, envs_per_task: int) -> list[Goal]:
        """The goal of every env, task-major, in the episode of that number."""
        return [
            self.draw(task, "training goal", task, env, episode)
            for task in range(len(self.names))
            for env in range(envs_per_task)
        ]

    def draw(self, task: int, *purpose: str | int) -> Goal:
        """A goal as the mode has it: one of the presets, a fresh one, or the run's only one."""
        if self.mode == "preset":
            index = stream(self.seed, *purpose).integers(PRESET_GOALS)
            return Goal(self.preset[task][index])
        if self.mode == "fixed":
            return Goal(self.preset[task][0])
        return Goal(stream=(self.seed, purpose))

    def evaluation(self, episodes: int) -> list[list[Goal]]:
        """Goals to evaluate each task on, [T][K], the same at every evaluation.

        Preset: the first `episodes` of the 50, each once. Random: that many goals of the
        evaluation's own stream. Fixed: the goal, once, for the policy and the simulation are
        deterministic.
        """
        tasks = range(len(self.names))
        if self.evaluated == "fixed":
            return [[Goal(self.preset[task][0])] for task in tasks]
        if self.evaluated == "preset":
            return [[Goal(goal) for goal in self.preset[task][:episodes]] for task in tasks]
        return [
            [self.draw(task, "evaluation goal", task, i) for i in range(episodes)] for task in tasks
        ]
