"""Whether a method of the user's can be trained at all: tried before a run or a sweep begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from algorithms import ALGORITHMS
from algorithms.algorithm import Algorithm, Problem
from algorithms.trial import N
from suite.config import RunConfig
from suite.estimate import size_of
from suite.messages import UserError
from suite.presets import algorithm_of
from suite.sizes import CannotCount

LARGEST = 30_000_000
"""Parameters beyond which a gradient step is no small thing to try."""
TRIED: set[tuple[type[Algorithm], str]] = set()
"""What has been tried and can be trained."""


def rehearse(runs: Iterable[RunConfig]) -> None:
    """Tries a gradient step of each method that is not built in, once with the same settings.

    Raises UserError for one that cannot be trained.
    """
    for config in runs:
        # What needs a GPU cannot be tried beside the runs that it has.
        if config.algorithm in ALGORITHMS or config.device != "cpu":
            continue
        # As text: what a user's settings leave out of a comparison counts, too.
        key = algorithm_of(config.algorithm), repr((asdict(config.settings), config.tasks))
        if key not in TRIED and is_small(config):
            try_one(config)
            TRIED.add(key)


def try_one(config: RunConfig) -> None:
    """Raises UserError where the method cannot be trained with a run's settings."""
    from algorithms.check import fault_of_run

    name, horizon = config.algorithm, config.task.horizon
    problem = Problem(config.tasks, N, config.seed, horizon=horizon, locksteps=config.locksteps)
    batch = config.training.batch_per_task
    if fault := fault_of_run(algorithm_of(name), config.settings, problem, batch):
        raise UserError(
            f"algorithm: {name}: {fault}; make check-algorithm ALG={name} names every point"
        )


def is_small(config: RunConfig) -> bool:
    """Whether a step takes little memory and time, as far as that can be known."""
    try:
        return size_of(config).counts.total <= LARGEST
    except CannotCount:
        return True
