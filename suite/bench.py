"""`bench`: carries a run, or several seeds of it, from where they stand to their results."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from suite.config import RunConfig
from suite.envs.meta_world import EngineError, check_engine
from suite.estimate import checkpoint_bytes, sizes_in_memory
from suite.interrupt import Interrupt, Interrupted
from suite.memory import check_memory, host_memory
from suite.messages import Diverged, UserError, warn
from suite.rehearsal import rehearse
from suite.runs.directory import RunDirectory, check_space
from suite.runs.finished import ROWS
from suite.runs.method_code import code_of
from suite.runs.ownership import PROGRESS, clear_directory, refuse_to_delete
from suite.runs.progress import Progress
from suite.runs.state import state
from suite.runs.tracking import TrackedLog, Tracker, check_tracker, open_tracker
from suite.training.build import build
from suite.training.compiling import compile_learners, mode_of
from suite.training.train import Trainer

Work = TypeVar("Work")
"""A run, or several that stand at one round."""


def bench(config: RunConfig) -> int:
    """Trains each seed, or says that it is done; returns the exit status."""
    try:
        check_engine(config.execution.engine)
    except EngineError as error:
        raise UserError(str(error)) from None
    check_tracker(config.execution.track)
    code_of(config.algorithm)  # hours later, for the next seed, it may have been edited
    runs, interrupt = config.each_seed(), Interrupt()
    check_fits(config)
    rehearse(run for run in runs if state(run).phase != "done")
    together = config.execution.batched and len(runs) > 1
    if together:
        check_together(config)
    if config.execution.force:
        clear(runs)
        # Once: hours later another process may have finished the run whose turn comes.
        runs = [replace(run, execution=replace(run.execution, force=False)) for run in runs]
    if together:
        status = train_all(runs, interrupt)
    else:
        status = one_by_one(lambda run: train_all([run], interrupt), runs, interrupt)
    if config.execution.force and status == Interrupted.status:
        print("give it without --force, which would delete what is saved")
    return status


def clear(runs: Sequence[RunConfig]) -> None:
    """Deletes what all of these have left, or, where one is refused, nothing.

    Before the first is trained: after a stop the same command without --force would take an old
    result for one of this command's.
    """
    directories = [RunDirectory(run) for run in runs]
    try:
        for directory in directories:
            directory.claim()
            refuse_to_delete(directory.path)
        for directory in directories:
            clear_directory(directory.path)
    finally:
        for directory in directories:
            directory.close()


def check_fits(config: RunConfig) -> None:
    """Raises UserError, with the bytes needed, where replay and networks exceed the memory."""
    have = host_memory()
    if config.device != "cpu":
        have = torch.cuda.get_device_properties(config.device).total_memory
    check_memory(config, have, *sizes_in_memory(config))


def check_together(config: RunConfig) -> None:
    """Raises UserError where seeds cannot be trained together."""
    if config.execution.track in ("wandb", "trackio"):
        raise UserError(
            f"track: {config.execution.track} follows one run a process; with batched seeds give "
            "--track tensorboard or none"
        )


def train_all(configs: Sequence[RunConfig], interrupt: Interrupt) -> int:
    """Trains the runs that are not done, together where they stand at the same round."""
    directories = [RunDirectory(config) for config in configs]
    try:
        for directory in directories:
            directory.open()
        todo = []
        for directory in directories:
            result = directory.result()
            if result is None:
                todo.append(directory)
                continue
            directory.tidy(result)
            print(table(result))
            print(f"this run is done: {directory.path / ROWS} (--force runs it again)")
        groups = list(standing_together(todo))
        return one_by_one(lambda group: train_together(*group, interrupt), groups, interrupt)
    finally:
        # Not left to the garbage collector: whoever keeps an error keeps what it passed through.
        for directory in directories:
            directory.close()


def train_together(at: int | None, group: list[RunDirectory], interrupt: Interrupt) -> int:
    """Trains runs that stand at one round; where one diverges, each by itself from there on."""
    try:
        return train(group, interrupt, at)
    except Diverged as error:
        if len(group) == 1:
            raise
        print(f"{error}; from here on each seed goes on by itself", file=sys.stderr)
    # Not above: while an error is handled, what it came from is kept in memory.
    return one_by_one(lambda directory: train([directory], interrupt), group, interrupt)


def one_by_one(
    train_one: Callable[[Work], int], parts: Sequence[Work], interrupt: Interrupt
) -> int:
    """Trains the parts in turn, none after a stop was asked for; returns the exit status.

    Raises Diverged where one diverges, when the others are trained.
    """
    diverged = 0
    for index, part in enumerate(parts):
        if interrupt.requested:
            print("stopped; the same command goes on with the other seeds")
            return Interrupted.status
        try:
            status = train_one(part)
        except Diverged as error:
            if index == len(parts) - 1:
                raise
            diverged += 1
            print(f"error: {error}; the others go on", file=sys.stderr)
            continue
        if status:
            return status
    if diverged:
        raise Diverged(f"{diverged} of {len(parts)} diverged, as said above; the others are done")
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
        group = [d for d in left if at in rounds[d] and rounding(d) == rounding(slowest)]
        left = [d for d in left if d not in group]
        yield (at if len(group) > 1 else None), group


def rounding(directory: RunDirectory) -> tuple[int, str | None]:
    """What a run keeps from its beginning: threads, and how its learner is carried out."""
    return directory.threads(), directory.learner()


def train(directories: Sequence[RunDirectory], interrupt: Interrupt, at: int | None = None) -> int:
    """Trains one run, or several seeds together from round `at`; returns the exit status."""
    config = directories[0].config
    gc.collect()  # a run before this one, whose parts refer to each other, still has its memory
    prepare_torch(config, directories[0].threads())
    name, total = name_of(directories), config.rounds * config.steps_per_round
    where = directories[0].path if len(directories) == 1 else directories[0].path.parent
    print(f"{name}: {total:,} env steps on {len(config.tasks)} tasks → {where}")
    progress = Progress(name, total, [directory.path / PROGRESS for directory in directories])
    trainer = built(directories, progress)
    trainer.interrupt = interrupt
    trackers: list[Tracker] = []
    try:
        begin(directories, trainer, at)
        for run in trainer.runs:
            trackers.append(open_tracker(run.config, run.directory.path, trainer.env_step))
            run.log = TrackedLog(config.tasks, trackers[-1])
        progress.begin(trainer.env_step)
        trainer.run()
        speed = progress.timing(total)["steps_per_second"]
        trained = trainer.runs[0].algorithm
        counts = trained.parameter_counts()
        results = [directory.finish(counts, trained.evaluated_by) for directory in directories]
    except Interrupted as stop:
        progress.close()
        print(f"{stop}; the same command resumes there")
        return stop.status
    except Diverged as error:
        line = f"{name}: {error}; {what_is_kept(directories)}"
        if len(directories) == 1:
            write_diverged(trainer)
            line += ", and in its rows success is 0 from here on"
        raise Diverged(line) from None
    finally:
        progress.close()
        trainer.close()
        for tracker in trackers:
            tracker.close()
    show(directories, results)
    print(f"{len(directories) * speed:,.0f} env steps/s in this session")
    return 0


def write_diverged(trainer: Trainer) -> None:
    """Writes the rows of a run that has diverged."""
    (run,) = trainer.runs
    columns = run.directory.columns(run.algorithm.parameter_counts(), run.algorithm.evaluated_by)
    run.directory.write_diverged(columns, run.log, trainer.scored_nothing(), trainer.env_step)


def prepare_torch(config: RunConfig, threads: int) -> None:
    """Sets what torch keeps for the whole process."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest" if config.precision == "float32" else "high")
    device = torch.device(config.device)
    if device.index is not None:  # without one it is the first that the process may see
        torch.cuda.set_device(device)


def name_of(directories: Sequence[RunDirectory]) -> str:
    """What is trained, in a word."""
    name = directories[0].config.name()
    if len(directories) == 1:
        return name
    seeds = ",".join(str(directory.config.seed) for directory in directories)
    return f"{name.rpartition('-s')[0]}-s{seeds}"


def begin(directories: Sequence[RunDirectory], trainer: Trainer, at: int | None) -> None:
    """Takes each run up where it stands, and says so; before that, what is not as it was."""
    seeds = [directory.config.seed for directory in directories]
    for line in trainer.restore(at):
        warn(line)
    mode = compile_learners(trainer, mode_of(trainer.config, directories[0].learner()))
    for directory in directories:
        kernels = trainer.runs[0].algorithm.kernels
        directory.begin_session(seeds, mode, kernels, trainer.env_step)
    if trainer.round:
        print(f"resuming at env step {trainer.env_step:,}")


def what_is_kept(directories: Sequence[RunDirectory]) -> str:
    """What a run that has failed can still be resumed from."""
    if all(any(directory.checkpoints.rounds()) for directory in directories):
        return "the last good checkpoint is kept"
    return "there was no checkpoint yet"


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
    try:
        check_space([directory.path for directory in directories], needed * seeds)
    except UserError:
        trainer.close()
        raise
    print(f"parameters: actor {counts.actor:,}, critics {counts.critic:,}")
    return trainer


def show(directories: Sequence[RunDirectory], results: Sequence[dict[str, Any]]) -> None:
    """Prints what each run ended with, and where its rows are."""
    for directory, result in zip(directories, results, strict=True):
        if len(directories) > 1:
            print(f"seed {directory.config.seed}")
        print(table(result))
        print(f"rows: {directory.path / ROWS}")


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
