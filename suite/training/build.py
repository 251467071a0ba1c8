"""Makes the parts of a run and wires them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from algorithms import load
from algorithms.algorithm import Batch, Problem
from algorithms.draws import Draws
from suite.config import RunConfig
from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.runs.rows import RowLog
from suite.training.probe_batch import probe_batch
from suite.training.replay import Replay
from suite.training.train import EVALUATION_ENVS, SeedRun, Trainer


def build(
    configs: Sequence[RunConfig], directories: Sequence[RunDirectory], progress: Progress
) -> Trainer:
    """Makes every part of a run, or of several seeds of one; the caller closes the envs."""
    config = configs[0]
    task, execution, device = config.task, config.execution, torch.device(config.device)
    seeds = tuple(c.seed for c in configs)
    problem = Problem(
        config.tasks,
        task.envs_per_task,
        config.seed,
        device,
        together=seeds if len(seeds) > 1 else (),
    )
    algorithm = load(config.algorithm)(config.settings, problem)
    replay = Replay(
        len(config.tasks),
        config.training.buffer_per_task,
        algorithm.extras,
        device,
        Draws.of(problem, "replay"),
    )
    runs = [
        SeedRun(
            c,
            directory,
            Goals(task.tasks, task.goals, c.seed, c.goal_seed, execution.engine),
            RowLog(c.tasks),
        )
        for c, directory in zip(configs, directories, strict=True)
    ]
    probes = [
        probe_batch(
            config.tasks,
            run.goals.preset,
            config.evaluation.probe_size,
            task.horizon,
            task.reward_version,
            execution.engine,
            device,
        )
        for run in runs
    ]
    names = config.tasks * len(runs)
    labels = [f"{name} (seed {seed})" for seed in seeds for name in config.tasks]
    engine = (task.reward_version, execution.engine, execution.workers, labels)
    return Trainer(
        runs,
        algorithm,
        replay,
        VectorEnv(names, task.envs_per_task, *engine),
        VectorEnv(names, EVALUATION_ENVS, *engine),
        behind_each_other(probes),
        progress,
    )


def behind_each_other(batches: Sequence[Batch]) -> Batch:
    """Batches of several seeds as one whose task axis holds those of all."""
    if len(batches) == 1:
        return batches[0]
    *columns, _ = zip(*batches, strict=True)
    observations, actions, rewards, following, timeouts = (torch.cat(parts) for parts in columns)
    return Batch(observations, actions, rewards, following, timeouts, {})
