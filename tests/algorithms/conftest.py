"""Fixtures of the algorithm tests: tiny settings, made-up transitions, a plain module stack."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

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


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny matrices: more threads only get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build() -> Callable[..., Algorithm]:
    """Builds a tiny algorithm by name; further keywords override settings."""

    def make(
        name: str,
        tasks: int = 3,
        envs: int = 2,
        seed: int = 0,
        together: tuple[int, ...] = (),
        **fields: Any,
    ) -> Algorithm:
        algorithm = load(name)
        known = {f.name for f in dataclasses.fields(algorithm.Settings)}
        settings = algorithm.Settings(**{k: v for k, v in TINY.items() if k in known} | fields)
        names = tuple(f"task-{i}" for i in range(tasks))
        return algorithm(settings, Problem(names, envs, seed, together=together))

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


@pytest.fixture
def reference_stack() -> Callable[..., Tensor]:
    """The module stack as plain autograd would have it, row by row and source by source.

    ResRouting after the D2R authors' code: a module reads trusted·out + (1 - trusted)·blocked,
    blocked being the output with its own transform detached, while its shortcut carries the
    undetached mixture.
    """

    def stack(
        first: Tensor, weight: Tensor, bias: Tensor, table: Tensor, trusted: Tensor | None = None
    ) -> Tensor:
        n, rows = table.shape[0], first.shape[0]
        trust = torch.ones_like(table) if trusted is None else trusted
        results = []
        for row in range(rows):
            member = row // (rows // weight.shape[0])
            outputs, blocked = [first[row]], [first[row].detach()]

            def mixtures(
                slot: int,
                row: int = row,
                outputs: list[Tensor] = outputs,
                blocked: list[Tensor] = blocked,
            ) -> tuple[Tensor, Tensor]:
                plain, trusting = torch.zeros_like(first[row]), torch.zeros_like(first[row])
                for source in range(slot + 1):
                    w, t = (x[slot, source, row].unsqueeze(-1) for x in (table, trust))
                    plain = plain + w * outputs[source]
                    trusting = trusting + w * (t * outputs[source] + (1 - t) * blocked[source])
                return plain, trusting

            for slot in range(n - 1):
                shortcut, z = mixtures(slot)
                transform = torch.relu(z @ weight[member, slot] + bias[member, slot])
                outputs.append(shortcut + transform)
                blocked.append(shortcut + transform.detach())
            results.append(mixtures(n - 1)[1])
        return torch.stack(results)

    return stack
