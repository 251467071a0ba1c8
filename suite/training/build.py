"""Makes the parts of a run and wires them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from algorithms import load
from algorithms.algorithm import Algorithm, Problem
from algorithms.parts.randomness import generator
from suite.config import RunConfig
from suite.envs import EVALUATION_ENVS
from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv
from suite.messages import UserError, warn
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.runs.rows import RowLog
from suite.training.probe_batch import probe_batch
from suite.training.replay import Replay
from suite.training.train import SeedRun, Trainer


def build(
    configs: Sequence[RunConfig], directories: Sequence[RunDirectory], progress: Progress
) -> Trainer:
    """Makes every part of a run, or of several seeds of one; the caller closes the envs.

    Raises UserError for networks that cannot be built, or measured.
    """
    config, task = configs[0], configs[0].task
    runs = [seed_run(c, directory) for c, directory in zip(configs, directories, strict=True)]
    names = config.tasks * len(runs)
    labels = [f"{name} (seed {c.seed})" for c in configs for name in config.tasks]
    execution = config.execution
    engine = (task.reward_version, execution.engine, execution.workers, labels)
    # Half of the envs step while a GPU decides for the others. A CPU has to do both with the same
    # cores, and decides for all of them in hardly more time than for half.
    parts = 2 if torch.device(config.device).type == "cuda" else 1
    with ExitStack() as opened:
        envs = opened.enter_context(VectorEnv(names, task.envs_per_task, *engine))
        evaluation_envs = opened.enter_context(
            VectorEnv(names, EVALUATION_ENVS, *engine, parts=parts)
        )
        opened.pop_all()  # both are there: the caller closes them
    return Trainer(runs, envs, evaluation_envs, progress)


def algorithm_of(config: RunConfig) -> Algorithm:
    """The algorithm of a run. Raises UserError for networks that it refuses."""
    problem = Problem(
        config.tasks,
        config.task.envs_per_task,
        config.seed,
        torch.device(config.device),
        horizon=config.task.horizon,
        locksteps=config.locksteps,
    )
    try:
        return load(config.algorithm)(config.settings, problem)
    except ValueError as error:
        raise UserError(f"algorithm: {config.algorithm}: {error}") from None


def goals_of(config: RunConfig, engine: str) -> Goals:
    """The goals that a run trains and is evaluated on; presets are Meta-World's by this engine."""
    task, seeds = config.task, (config.seed, config.goal_seed)
    return Goals(task.tasks, task.goals, *seeds, engine, config.evaluated_goals)


def seed_run(config: RunConfig, directory: RunDirectory) -> SeedRun:
    """The parts that a run has for itself. What cannot be measured is refused here."""
    task, execution, device = config.task, config.execution, torch.device(config.device)
    algorithm = algorithm_of(config)
    goals = goals_of(config, execution.engine)
    probe = probe_batch(
        config.tasks,
        goals.preset if task.goals != "random" else [],  # whatever is evaluated on
        config.evaluation.probe_size,
        task.horizon,
        task.reward_version,
        execution.engine,
        device,
    )
    try:
        measured = algorithm.probe(probe, seed=0)
    except ValueError as error:
        raise UserError(f"algorithm: {config.algorithm}: {error}") from None
    # A layer may hold more units than a width says: each of several experts has as many.
    layers = [units for own in measured.values() for units in own.activations.values()]
    widest = max((units.shape[1] for units in layers), default=0)
    if widest > (size := config.evaluation.probe_size):
        warn(
            f"ranks of layers of more than {size} units, of which one has {widest}, are cut by as "
            f"few samples; a new run can be given --probe-size {widest}"
        )
    replay = Replay(
        len(config.tasks),
        config.training.buffer_per_task,
        algorithm.extras,
        device,
        generator(config.seed, "replay", device),
    )
    return SeedRun(config, directory, goals, RowLog(config.tasks), algorithm, replay, probe)
