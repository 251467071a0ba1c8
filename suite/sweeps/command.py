"""`python -m suite sweep` and `status`: the plan first, then the launcher; or where it stands."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from suite.config import RunConfig
from suite.estimate import Cost, cost, size_of, sweep_seconds
from suite.messages import UserError
from suite.rehearsal import rehearse
from suite.runs.directory import RunDirectory
from suite.runs.state import State, state
from suite.scale import aligned
from suite.sweeps.on_this_machine import LocalLauncher, division, this_machine
from suite.sweeps.overview import COLUMNS, about, cells, failures, summary
from suite.sweeps.plan import Plan, runs_at_once, together
from suite.sweeps.question import Options, Question
from suite.sweeps.supervisor import Launcher, Supervisor, there

CLUSTER_CORES, CLUSTER_CORES_GPU = 2, 4
"""Cores of a run on a cluster: learner and env workers."""
OF_A_SWEEP = ", name another folder with --results, or train it again with bench and --force"


def sweep(question: Question) -> int:
    """Prints the plan and carries it out; returns the exit status."""
    options, planned = question
    for run in planned.runs:
        RunDirectory(run).compare_code(OF_A_SWEEP)
    states = [state(config) for config in planned.runs]
    rehearse(run for run, own in zip(planned.runs, states, strict=True) if own.phase != "done")
    processes, cores = division_of(options, planned)
    costs = costs_of(planned, cores)
    chosen = None if options.dry_run else launcher(options, planned, costs, cores)
    if chosen is not None:
        processes = chosen.at_once
    at_once = runs_at_once(planned.runs, processes)
    print(describe(planned, costs, states, at_once))
    if chosen is None:
        return 0
    check_disk(planned, costs, states, at_once)
    return Supervisor(planned, costs, states, chosen).run()


def division_of(options: Options, planned: Plan) -> tuple[int, int]:
    """Processes at once, as far as it is known where no launcher is asked, and cores for each."""
    started = together(planned.runs)
    if options.launcher == "local":
        return division(this_machine(with_gpus=False), len(started), options.jobs)
    cuda = any(config.device == "cuda" for config in planned.runs)
    cores = options.cores or (CLUSTER_CORES_GPU if cuda else CLUSTER_CORES)
    return options.jobs or len(started), cores


def costs_of(planned: Plan, cores: int) -> list[Cost]:
    """What each run takes of so many cores, which seeds that are trained together share."""
    beside = {
        run.name(): len(started.each_seed()) if run.device == "cpu" else 1
        for started in together(planned.runs)
        for run in started.each_seed()
    }
    alone = {run.name(): cost(run, cores) for run in planned.runs}
    return [own._replace(seconds=own.seconds * beside[name]) for name, own in alone.items()]


def launcher(options: Options, planned: Plan, costs: Sequence[Cost], cores: int) -> Launcher:
    """The chosen launcher, ready. Raises UserError where what it needs is not there."""
    if options.launcher == "local":
        machine = this_machine(any(config.device == "cuda" for config in planned.runs))
        return LocalLauncher(planned, costs, machine, options.jobs, options.gpus_per_run)
    if options.launcher == "ray":
        from suite.sweeps.on_ray import RayLauncher

        return RayLauncher(planned, costs, cores, options.jobs, options.gpus_per_run)
    from suite.sweeps.on_slurm import SlurmLauncher

    return SlurmLauncher(planned, costs, cores, options.jobs, options.gpus_per_run, options.slurm)


def status(question: Question) -> int:
    """Prints every run of a sweep, what failed and why, and the time left; returns 0."""
    options, planned = question
    states = [state(config) for config in planned.runs]
    running = sum(s.phase == "running" for s in states)
    at_once, cores = division_of(options, planned)
    costs = costs_of(planned, cores)
    triples = zip(planned.runs, states, costs, strict=True)
    rows = [COLUMNS, *(cells(config.name(), s, c) for config, s, c in triples)]
    print("\n".join([*aligned(rows), *failures(planned, states)]))
    print(summary(planned, states, costs, running or runs_at_once(planned.runs, at_once)))
    return 0


def describe(planned: Plan, costs: Sequence[Cost], states: Sequence[State], at_once: int) -> str:
    """The plan: a line for each configuration, its seeds together, and the sums."""
    rows = [("configuration", "device", "seeds", "actor", "critics", "env steps", "time a run")]

    def kind(pair: tuple[RunConfig, Cost]) -> str:
        return label(pair[0])

    pairs = sorted(zip(planned.runs, costs, strict=True), key=kind)
    order = {label(config): i for i, config in reversed(list(enumerate(planned.runs)))}
    for name, group in sorted(
        ((name, list(group)) for name, group in itertools.groupby(pairs, kind)),
        key=lambda found: order[found[0]],
    ):
        config, expected = group[0]
        counts = size_of(config).counts
        seeds = ",".join(str(c.seed) for c, _ in sorted(group, key=lambda pair: pair[0].seed))
        steps = config.rounds * config.steps_per_round
        numbers = (f"{counts.actor:,}", f"{counts.critic:,}", f"{steps:,}")
        rows.append((name, config.device, seeds, *numbers, about(expected.seconds)))
    done = sum(s.phase == "done" for s in states)
    kept = sum(c.kept for c in costs)
    peak = kept + sum(sorted((c.disk for c in costs), reverse=True)[:at_once])
    lines = [f"sweep {planned.name}: {planned.about}"] if planned.about else []
    lines += aligned(rows)
    left = about(sweep_seconds(states, costs, at_once))
    processes = len(together(planned.runs))
    batched = f" in {processes} processes" if processes < len(planned.runs) else ""
    lines.append(
        f"{len(planned.runs)} runs{batched}, {done} done; about {left} with {at_once} at once; "
        f"disk {peak / 1e9:.1f} GB while they run, {kept / 1e9:.1f} GB after"
    )
    return "\n".join(lines)


def label(config: RunConfig) -> str:
    """What a run and its siblings of other seeds have in common, short and unlike others'."""
    name = replace(config, seed=0).name()
    return name.replace("-s0-", "-")


def check_disk(planned: Plan, costs: Sequence[Cost], states: Sequence[State], at_once: int) -> None:
    """Raises UserError where the runs that are not done will not fit on the disk together.

    One that is too large by itself is left to the supervisor, which starts the others.
    """
    folder = there(Path(planned.runs[0].execution.results))
    free = shutil.disk_usage(folder).free
    waiting = [
        expected for expected, found in zip(costs, states, strict=True) if found.phase == "waiting"
    ]
    left = [expected for expected in waiting if expected.disk <= free] or waiting
    needed = sum(c.kept for c in left)
    needed += sum(sorted((c.disk for c in left), reverse=True)[:at_once])
    if free < needed:
        raise UserError(
            f"disk: the sweep needs about {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} "
            "GB free; make room, choose another --results folder or a smaller --buffer-per-task"
        )
