"""`bench`: carries one run out from start, or from where it stopped, to its table of results."""

from __future__ import annotations

import sys
from typing import Any

import torch

from algorithms.algorithm import ParameterCounts
from suite.config import RunConfig
from suite.evaluate import Evaluation
from suite.interrupt import Interrupted
from suite.messages import UserError
from suite.meta_world import EngineError, check_engine
from suite.progress import Progress
from suite.replay import Extras, Replay
from suite.runs import PROGRESS, RunDirectory
from suite.tracking import TrackedLog, Tracker, check_tracker, open_tracker
from suite.train import build


def bench(config: RunConfig) -> int:
    """Trains, or says that the run is done; returns the exit status."""
    try:
        check_engine(config.execution.engine)
    except EngineError as error:
        raise UserError(str(error)) from None
    check_tracker(config.execution.track)
    directory = RunDirectory(config)
    directory.open()
    done = directory.result
    if done is not None:
        directory.tidy()
        print(table(done))
        print(f"this run is done: {directory.path / 'rows.parquet'} (--force runs it again)")
        return 0
    torch.set_num_threads(directory.begin_session())
    total = config.rounds * config.steps_per_round
    print(f"{config.name()}: {total:,} env steps on {len(config.tasks)} tasks → {directory.path}")

    progress = Progress(config.name(), total, directory.path / PROGRESS)
    try:
        trainer = build(config, directory, progress)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error).lower():
            raise
        raise UserError(
            f"memory: this run's networks and replay do not fit on {config.device}; make "
            "--buffer-per-task or the widths smaller"
        ) from None
    counts = trainer.algorithm.parameter_counts()
    directory.check_space(checkpoint_bytes(config, trainer.algorithm.extras, counts))
    print(f"parameters: actor {counts.actor:,}, critics {counts.critic:,}")
    tracker: Tracker | None = None
    try:
        for line in trainer.restore():
            print(f"warning: {line}; the checkpoint before it is used", file=sys.stderr)
        if trainer.round:
            print(f"resuming at env step {trainer.env_step:,}")
        tracker = open_tracker(config, directory.path, trainer.env_step)
        trainer.log = TrackedLog(config.tasks, tracker)
        progress.begin(trainer.env_step)
        evaluation = trainer.run()
        timing = progress.timing(total)
        result = summary(config, evaluation)
        directory.finish(counts, result)
    except Interrupted as stop:
        progress.close()
        without = ", without --force," if config.execution.force else ""
        print(f"{stop}; the same command{without} resumes there")
        return 130
    finally:
        progress.close()
        trainer.envs.close()
        trainer.evaluation_envs.close()
        if tracker is not None:
            tracker.close()
    print(table(result))
    print(f"{timing['steps_per_second']:,.0f} env steps/s in this session")
    print(f"rows: {directory.path / 'rows.parquet'}")
    return 0


def checkpoint_bytes(config: RunConfig, extras: Extras, counts: ParameterCounts) -> int:
    """Upper estimate of what the checkpoints of a run occupy, in bytes.

    The replay once; weights, two moments and targets three times: two checkpoints are kept while
    a third is written.
    """
    collected = config.rounds * config.task.horizon * config.task.envs_per_task
    state = 3 * 4 * (3 * counts.actor + 4 * counts.critic)
    rows = min(config.training.buffer_per_task, collected)
    return int(1.25 * Replay.bytes(len(config.tasks), rows, extras)) + state + 50_000_000


def summary(config: RunConfig, evaluation: Evaluation) -> dict[str, Any]:
    """The contents of result.json."""
    return {
        "run": config.name(),
        "env_steps": config.rounds * config.steps_per_round,
        "episodes_per_task": evaluation.successes.shape[1],
        "success": dict(zip(config.tasks, evaluation.success_rates().tolist(), strict=True)),
        "return": dict(zip(config.tasks, evaluation.returns.mean(1).tolist(), strict=True)),
        "mean_success": float(evaluation.successes.mean()),
    }


def table(result: dict[str, Any]) -> str:
    """Final success and return of every task, and the mean."""
    width = max(len(name) for name in [*result["success"], "mean"])
    lines = [f"{'task':{width}}  success   return"]
    for name, success in result["success"].items():
        lines.append(f"{name:{width}}  {success:7.2f}  {result['return'][name]:7.0f}")
    mean = sum(result["return"].values()) / len(result["return"])
    lines.append(f"{'mean':{width}}  {result['mean_success']:7.2f}  {mean:7.0f}")
    lines.append(f"{result['episodes_per_task']} episodes a task at {result['env_steps']:,} steps")
    return "\n".join(lines)
