"""When a task gets one more module, the trigger that MEGA's paper (arXiv 2502.13569) leaves open.

The paper grows a task that is not mastered and stagnates, and publishes no threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from algorithms.fields import Count, NotNegative, Range, Share

if TYPE_CHECKING:
    from algorithms.genetics import Population


@dataclass(frozen=True)
class TriggerSettings:
    """When a stage grows, and what becomes of the genotypes then."""

    trigger: Literal["return", "success", "none"] = "return"
    """When a stage grows, looked at as a generation ends: where the best fitness stagnates over a
    window of a task that is not mastered [MEGA], where the mean success of the task's last
    trigger_episodes episodes at this stage is below trigger_success, or never [choice]."""
    window: Count = 10
    """Generations between two looks at whether a task stagnates, of trigger return; a window of 1
    ends as it begins, so that every task stagnates which is not mastered [choice]."""
    cooldown_windows: Annotated[int, Range(0, 1_000_000)] = 1
    """Windows after growth in which a task does not grow again, of trigger return [choice]."""
    success_threshold: Share = 0.8
    """A task with at least this success counts as mastered and does not grow, of trigger return
    [choice]."""
    improvement_threshold: NotNegative = 0.02
    """Relative gain of the best fitness over a window below which a task stagnates, of trigger
    return [choice]."""
    trigger_episodes: Count = 100
    """Consecutive episodes of a task that trigger success looks at; it waits for as many after
    growth [choice]."""
    trigger_success: Share = 0.2
    """Mean success below which trigger success grows a stage [choice]."""
    growth: Literal["reinitialise", "extend"] = "reinitialise"
    """New genotypes after a stage grows: fresh coin flips [MEGA], or the old bits and a new
    segment [choice]."""


def fires(s: TriggerSettings, population: Population, largest_stage: int) -> bool:
    """Whether the stage grows now that a generation has ended; moves the population's window on."""
    if s.trigger == "return":
        return stagnates(s, population, largest_stage)
    del population.window_successes[: -s.trigger_episodes]
    if s.trigger == "none" or population.stage >= largest_stage:
        return False
    enough = len(population.window_successes) == s.trigger_episodes
    return enough and bool(np.mean(population.window_successes) < s.trigger_success)


def stagnates(s: TriggerSettings, population: Population, largest_stage: int) -> bool:
    """At the end of a window: the best fitness has gained too little and success is too small."""
    best = population.elite.fitness
    if population.window_start == -np.inf:
        population.window_start = best
    if population.generation % s.window:
        return False
    gain = best - population.window_start
    found = (
        not population.cooling
        and population.stage < largest_stage
        and np.mean(population.window_successes) < s.success_threshold
        # A fitness that stays at 0 has no relative gain, and stagnates all the same.
        and (gain <= 0 or gain < s.improvement_threshold * abs(population.window_start))
    )
    population.window_start = best
    population.window_successes = []
    population.cooling = max(0, population.cooling - 1)
    return bool(found)
