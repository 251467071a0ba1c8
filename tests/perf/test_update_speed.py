"""A compiled gradient step against its own matrix products, and against MT-SAC's step, in turns.

`pytest tests/perf/test_update_speed.py --benchmark-only -s`. The bound is the step's products
alone, as plain `torch.mm` into buffers that exist. A step is everything that the loop calls one:
sampling from the replay, losses, clipping, Adam, temperatures and targets.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Algorithm, Problem
from algorithms.parts.randomness import generator
from suite.envs.tasks import task_names
from suite.training.replay import Replay

pytest.importorskip("pytest_benchmark")
QUICK = {"actor_width": 128, "critic_width": 128, "modules": 4}
Product = tuple[int, int, int]
"""Rows, inner size and columns."""


def layers(rows: int, sizes: list[int]) -> tuple[list[Product], list[Product], list[Product]]:
    """Products of an MLP's forward pass, of its weight gradients and of its input gradients."""
    pairs = list(itertools.pairwise(sizes))
    forward = [(rows, a, b) for a, b in pairs]
    weights = [(a, rows, b) for a, b in pairs]
    return forward, weights, [(rows, b, a) for a, b in pairs]


def sac_products(tasks: int, width: int, batch: int) -> list[Product]:
    """Those of one step of MT-SAC with 3 hidden layers: target, both critics, actor."""
    hidden = [width] * 3
    forward, weights, inputs = layers(tasks * batch, [39, *hidden, 8])
    q_forward, q_weights, q_inputs = layers(tasks * batch, [43, *hidden, 1])
    target = forward + 2 * q_forward
    critics = 2 * (q_forward + q_weights + q_inputs[1:])
    return target + critics + forward + 2 * (q_forward + q_inputs) + weights + inputs[1:]


def runner(products: list[Product]) -> Callable[[], None]:
    buffers = {
        (a, b, c): (torch.randn(a, b), torch.randn(b, c), torch.empty(a, c))
        for a, b, c in set(products)
    }

    def run() -> None:
        for shape in products:
            left, right, out = buffers[shape]
            torch.mm(left, right, out=out)

    return run


def in_turns(work: Callable[[], Any], bound: Callable[[], Any], turns: int) -> Any:
    """Median seconds of each, taken in turns."""
    times = []
    for _ in range(turns + 2):
        start = time.perf_counter()
        work()
        middle = time.perf_counter()
        bound()
        times.append((middle - start, time.perf_counter() - middle))
    return np.median(times[2:], axis=0)


def learner(name: str, tasks: str, batch: int, **sizes: Any) -> tuple[Algorithm, Replay]:
    """A compiled algorithm on a replay of made-up transitions."""
    kind, names = load(name), task_names(tasks)
    known = {f.name for f in fields(kind.Settings)}
    settings = kind.Settings(**{k: v for k, v in sizes.items() if k in known})
    algorithm = kind(settings, Problem(names, 1, 0, torch.device("cpu")))
    own = generator(0, "replay", torch.device("cpu"))
    replay = Replay(len(names), 2000, algorithm.extras, torch.device("cpu"), own)
    replay.rows.normal_()
    replay.written = replay.capacity
    for key, stored in algorithm.act(replay.rows[..., :39], explore=True).extras.items():
        replay.extras[key] = stored
    algorithm.compile()
    algorithm.update(replay.sample(batch))
    return algorithm, replay


@pytest.mark.parametrize(
    ("tasks", "width", "batch", "turns"),
    [
        ("MT10", 128, 32, 100),
        ("MT10", 400, 128, 25),
        ("MT10", 1024, 128, 9),
        ("MT10", 2048, 128, 5),
        ("MT50", 400, 128, 5),
    ],
)
def test_mtsac_update(benchmark: Any, tasks: str, width: int, batch: int, turns: int) -> None:
    algorithm, replay = learner("mtsac", tasks, batch, actor_width=width, critic_width=width)
    products = sac_products(len(task_names(tasks)), width, batch)
    bound = runner(products)

    def measure() -> Any:
        return in_turns(lambda: algorithm.update(replay.sample(batch)), bound, turns)

    step, floor = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(over_products=step / floor)
    operations = sum(2 * a * b * c for a, b, c in products) / 1e9
    print(
        f"\nmtsac {width}, {tasks}: {step * 1e3:.2f} ms an update of {operations:.1f} GFLOP, "
        f"{step / floor:.2f}x its products ({torch.get_num_threads()} threads)"
    )


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "mtsac"])
def test_update_beside_mtsac(benchmark: Any, name: str) -> None:
    """Each method's step at the sizes of preset quick, over MT-SAC's."""
    (own, rows), (plain, others) = (learner(n, "MT10", 32, **QUICK) for n in (name, "mtsac"))

    def measure() -> Any:
        return in_turns(
            lambda: own.update(rows.sample(32)), lambda: plain.update(others.sample(32)), 60
        )

    step, floor = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(over_mtsac=step / floor)
    print(f"\n{name}, quick sizes: {step * 1e3:.2f} ms, {step / floor:.2f}x MT-SAC's step")


@pytest.mark.parametrize(
    "fields",
    [
        {"critic_genotypes": True},
        {"critic_genotypes": True, "critic_first_stage": 4},  # its largest at these sizes
        {"genotype_gradient": "baldwin"},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_update_of_megas_extensions_beside_mega(benchmark: Any, fields: dict[str, Any]) -> None:
    """At the sizes of preset quick. With critics that are bred it may take 1.2 times as long."""
    (own, rows), (plain, others) = (
        learner("mega", "MT10", 32, **QUICK, **extra) for extra in (fields, {})
    )

    def measure() -> Any:
        return in_turns(
            lambda: own.update(rows.sample(32)), lambda: plain.update(others.sample(32)), 60
        )

    step, floor = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(over_mega=step / floor)
    print(f"\nmega with {fields}: {step * 1e3:.2f} ms, {step / floor:.2f}x mega's step")
    assert "critic_genotypes" not in fields or step <= 1.2 * floor
