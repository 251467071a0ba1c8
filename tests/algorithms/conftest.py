"""Fixtures of the algorithm tests: tiny settings and made-up transitions."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from algorithms import load
from algorithms.algorithm import Algorithm, Batch, Problem

# Fields are set where an algorithm has them, so that a new entry of the registry needs nothing.
TINY = {
    "actor_width": 25,
    "critic_width": 25,
    "modules": 5,
    "first_stage": 3,
    "episodes_per_individual": 1,
    "window": 2,
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny matrices: more threads only get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build() -> Callable[..., Algorithm]:
    """Builds a tiny algorithm by name or class; further keywords override settings."""

    def make(
        name: str | type[Algorithm], tasks: int = 3, envs: int = 2, seed: int = 0, **fields: Any
    ) -> Algorithm:
        kind = load(name) if isinstance(name, str) else name
        known = {f.name for f in dataclasses.fields(kind.Settings)}
        settings = kind.Settings(**{k: v for k, v in TINY.items() if k in known} | fields)
        return kind(settings, Problem(tuple(f"task-{i}" for i in range(tasks)), envs, seed))

    return make


@pytest.fixture
def collect() -> Callable[..., Batch]:
    """Made-up transitions, with the extras that the algorithm itself declares and fills."""

    def make(algorithm: Any, samples: int = 6, seed: int = 0) -> Batch:
        random = torch.Generator().manual_seed(seed)
        tasks, envs = algorithm.tasks, algorithm.problem.envs_per_task
        observations = torch.randn(tasks, samples, 39, generator=random)
        decisions = [algorithm.act(part, explore=True) for part in observations.split(envs, dim=1)]
        return Batch(
            observations,
            torch.cat([d.actions for d in decisions], 1),
            torch.rand(tasks, samples, generator=random) * 10,
            torch.randn(tasks, samples, 39, generator=random),
            torch.randint(0, 2, (tasks, samples), generator=random).float(),
            {name: torch.cat([d.extras[name] for d in decisions], 1) for name in algorithm.extras},
        )

    return make


@pytest.fixture(params=["plain", "operator"])
def stacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Module stacks of any size by plain torch, and by the operator if there is a C compiler."""
    kind: str = request.param
    if kind == "operator" and not shutil.which("gcc"):
        pytest.skip("there is no C compiler: install gcc")
    monkeypatch.setattr("algorithms.modules.stack.FEWEST_MODULES", 99 if kind == "plain" else 2)
    return kind
