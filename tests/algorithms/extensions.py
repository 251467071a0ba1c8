"""MEGA with each of its extensions on, as methods of their own that the contract is tried on.

Populations are so small that every round of episodes ends a generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from algorithms.mega import MEGA, MEGASettings


@dataclass(frozen=True)
class Small(MEGASettings):
    """Breeds and grows in a few rounds."""

    population: int = 2
    episodes_per_individual: int = 1
    window: int = 2
    first_stage: int = 2
    critic_first_stage: int = 2


@dataclass(frozen=True)
class Critics(Small):
    """Critics that are bred."""

    critic_genotypes: bool = True
    critic_folds: int = 3


@dataclass(frozen=True)
class Baldwin(Small):
    """Mixing weights that learn."""

    genotype_gradient: Literal["none", "baldwin", "lamarck"] = "baldwin"


@dataclass(frozen=True)
class Lamarck(Small):
    """Mixing weights that learn, and are inherited."""

    genotype_gradient: Literal["none", "baldwin", "lamarck"] = "lamarck"
    genotype_learning_rate: float = 0.5


@dataclass(frozen=True)
class Trigger(Small):
    """Growth by success."""

    trigger: Literal["return", "success", "none"] = "success"
    trigger_episodes: int = 2
    trigger_success: float = 0.9


@dataclass(frozen=True)
class Everything(Critics):
    """All at once, with the tasks' gradients combined."""

    genotype_gradient: Literal["none", "baldwin", "lamarck"] = "lamarck"
    trigger: Literal["return", "success", "none"] = "success"
    critic_fitness: Literal["bellman", "correlation"] = "correlation"
    combine: Literal["mean", "pcgrad", "cagrad", "gradnorm"] = "pcgrad"


EXTENSIONS = [
    type(f"With{kind.__name__}", (MEGA,), {"Settings": kind})
    for kind in (Critics, Baldwin, Lamarck, Trigger, Everything)
]
