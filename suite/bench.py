"""`bench`: carries a run, or several seeds of it, from where they stand to their results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from suite.config import RunConfig
from suite.envs.meta_world import EngineError, check_engine
from suite.estimate import checkpoint_bytes, network_bytes
from suite.interrupt import Interrupted
from suite.messages import UserError
from suite.runs.directory import PROGRESS, RunDirectory, check_space
from suite.runs.progress import Progress
from suite.runs.tracking import TrackedLog, Tracker, check_tracker, open_tracker
from suite.sizes import without_memory
from suite.training.build import build
from suite.training.evaluate import Evaluation
from suite.training.replay import Replay
from suite.training.train import Trainer


def bench(config: RunConfig) -> int:
    """Trains each seed, or says that it is done; returns the exit status."""
    try:
        check_engine(config.execution.engine)
    except EngineError as error:
        raise UserError(str(error)) from None
    check_tracker(config.execution.track)
    runs = config.each_seed()
    check_fits(config, len(runs) if config.execution.batched else 1)
    if config.execution.batched and len(runs) > 1:
        check_together(config)
        return train_all(runs)
    for run in runs:
        status = train_all([run])
        if status:
            return status
    return 0


def check_fits(config: RunConfig, seeds: int) -> None:
    """Raises UserError, with the bytes needed, where replay and networks exceed the memory."""
    try:
        built = without_memory(config.algorithm, config.settings, config.tasks)
    except Exception:
        return  # a user's algorithm that cannot be counted without memory: building it will tell
    counts, extras = built.parameter_counts(), built.extras
    replay = seeds * Replay.bytes(len(config.tasks), config.training.buffer_per_task, extras)
    networks = seeds * network_bytes(counts)
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if config.device != "cpu":
        have = torch.cuda.get_device_properties(config.device).total_memory
    if replay + networks > have:
        fewer = ", or train fewer seeds together" if seeds > 1 else ""
        raise UserError(
            f"memory: the replay needs {replay / 1e9:.1f} GB, the networks with their optimisers "
            f"{networks / 1e9:.1f} GB, and {config.device} has {have / 1e9:.1f} GB; make "
            f"--buffer-per-task or the widths smaller{fewer}"
        )


def check_together(config: RunConfig) -> None:
    """Raises UserError where seeds cannot be trained together."""
    if config.execution.track in ("wandb", "trackio"):
        raise UserError(
            f"track: {config.execution.track} follows one run a process; with batched seeds give "
            "--track tensorboard or none"
        )


def train_all(configs: Sequence[RunConfig]) -> int:
    """Trains the runs that are not done, together where they stand at the same round."""
    directories = [RunDirectory(config) for config in configs]
    for directory in directories:
        directory.open()
    todo = []
    for directory in directories:
        done = directory.result
        if done is None:
            todo.append(directory)
            continue
        directory.tidy()
        print(table(done))
        print(f"this run is done: {directory.path / 'rows.parquet'} (--force runs it again)")
    for at, group in standing_together(todo):
        status = train(group, at)
        if status:
            return status
    return 0


def standing_together(
    directories: Sequence[RunDirectory],
) -> Iterator[tuple[int | None, list[RunDirectory]]]:
    """Groups of runs that can go on from one round, which is given too where there are several.

    A kill between two writes leaves some runs a checkpoint behind the others, which have it, too.
    """
    left = list(directories)
    while left:
        rounds = {d: d.checkpoints.rounds() or [0] for d in left}
        at = min(newest for newest, *_ in rounds.values())
        slowest = next(d for d in left if rounds[d][0] == at)
        group = [d for d in left if at in rounds[d] and d.threads() == slowest.threads()]
        left = [d for d in left if d not in group]
        yield (at if len(group) > 1 else None), group


def train(directories: Sequence[RunDirectory], at: int | None = None) -> int:
    """Trains one run, or several seeds together from round `at`; returns the exit status."""
    configs = [directory.config for directory in directories]
    config, seeds = configs[0], [c.seed for c in configs]
    torch.set_num_threads(directories[0].threads())
    torch.set_float32_matmul_precision(
        "highest" if config.training.precision == "float32" else "high"
    )
    if config.device.startswith("cuda"):
        torch.cuda.set_device(config.device)
    for directory in directories:
        directory.begin_session(seeds)
    total = config.rounds * config.steps_per_round
    name = config.name()
    if len(seeds) > 1:
        name = f"{name.rpartition('-s')[0]}-s{','.join(map(str, seeds))}"
    where = directories[0].path if len(seeds) == 1 else directories[0].path.parent
    print(f"{name}: {total:,} env steps on {len(config.tasks)} tasks → {where}")
    progress = Progress(name, total, [directory.path / PROGRESS for directory in directories])
    trainer = built(directories, progress)
    trackers: list[Tracker] = []
    try:
        for line in trainer.restore(at):
            print(f"warning: {line}; the checkpoint before it is used", file=sys.stderr)
        if trainer.round:
            print(f"resuming at env step {trainer.env_step:,}")
        for run in trainer.runs:
            trackers.append(open_tracker(run.config, run.directory.path, trainer.env_step))
            run.log = TrackedLog(config.tasks, trackers[-1])
        progress.begin(trainer.env_step)
        evaluations = trainer.run()
        speed = progress.timing(total)["steps_per_second"]
        counts = trainer.runs[0].algorithm.parameter_counts()
        for directory, evaluation in zip(directories, evaluations, strict=True):
            directory.finish(counts, summary(directory.config, evaluation))
    except Interrupted as stop:
        progress.close()
        without = ", without --force," if config.execution.force else ""
        print(f"{stop}; the same command{without} resumes there")
        return 130
    finally:
        progress.close()
        trainer.envs.close()
        trainer.evaluation_envs.close()
        for tracker in trackers:
            tracker.close()
    show(directories)
    print(f"{len(seeds) * speed:,.0f} env steps/s in this session")
    return 0


def built(directories: Sequence[RunDirectory], progress: Progress) -> Trainer:
    """The parts of a run, or of several seeds. Raises UserError where memory or disk are short."""
    configs = [directory.config for directory in directories]
    config, seeds = configs[0], len(configs)
    try:
        trainer = build(configs, directories, progress)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error).lower():
            raise
        fewer = ", or train fewer seeds together" if seeds > 1 else ""
        raise UserError(
            f"memory: this run's networks and replay do not fit on {config.device}; make "
            f"--buffer-per-task or the widths smaller{fewer}"
        ) from None
    counts = trainer.runs[0].algorithm.parameter_counts()
    needed = checkpoint_bytes(config, trainer.runs[0].algorithm.extras, counts)
    check_space([directory.path for directory in directories], needed * seeds)
    print(f"parameters: actor {counts.actor:,}, critics {counts.critic:,}")
    return trainer


def show(directories: Sequence[RunDirectory]) -> None:
    """Prints what each run ended with, and where its rows are."""
    for directory in directories:
        if len(directories) > 1:
            print(f"seed {directory.config.seed}")
        print(table(directory.result or {}))
        print(f"rows: {directory.path / 'rows.parquet'}")


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
