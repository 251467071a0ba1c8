"""A gradient step against its own matrix products, as ratios taken in turns on the same cores.

`pytest tests/perf/test_update_speed.py --benchmark-only -s`. The bound is the step's products
alone, as plain `torch.mm` into buffers that exist. A step is everything that the loop calls one:
sampling from the replay, losses, clipping, Adam, temperatures and targets.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from algorithms.compiled_routes import Routes
from algorithms.draws import Draws
from algorithms.module_stack import ModuleStack
from algorithms.networks import constant, fan_out_uniform
from algorithms.routing import Choice, choose
from algorithms.settings import D2RSettings, MEGASettings, MTSACSettings
from torch import Tensor

from algorithms.algorithm import Problem
from algorithms.d2r import D2R
from algorithms.mega import MEGA
from algorithms.mtsac import MTSAC
from suite.envs.tasks import task_names
from suite.training.replay import Replay

pytest.importorskip("pytest_benchmark")
BATCH = 128  # of a task
Product = tuple[int, int, int]
"""Rows, inner size and columns."""


def layers(rows: int, sizes: list[int]) -> tuple[list[Product], list[Product], list[Product]]:
    """Products of an MLP's forward pass, of its weight gradients and of its input gradients."""
    pairs = list(itertools.pairwise(sizes))
    forward = [(rows, a, b) for a, b in pairs]
    weights = [(a, rows, b) for a, b in pairs]
    return forward, weights, [(rows, b, a) for a, b in pairs]


def sac_products(tasks: int, width: int) -> list[Product]:
    """Those of one step of MT-SAC with 3 hidden layers: target, both critics, actor."""
    hidden = [width] * 3
    forward, weights, inputs = layers(tasks * BATCH, [39, *hidden, 8])
    q_forward, q_weights, q_inputs = layers(tasks * BATCH, [43, *hidden, 1])
    target = forward + 2 * q_forward
    critics = 2 * (q_forward + q_weights + q_inputs[1:])
    return target + critics + forward + 2 * (q_forward + q_inputs) + weights + inputs[1:]


def routed_products(tasks: int, routed_actor: bool) -> list[Product]:
    """Those of one step of D2R, or of MEGA with all 16 modules: no router in the actor."""
    rows, s = tasks * BATCH, D2RSettings()
    width, router = s.actor_width, round(s.router_ratio * s.actor_width)
    module, logits = round(s.module_ratio * width), s.modules * (s.modules + 1) // 2

    def network(inputs: int, outputs: int, routed: bool) -> list[list[Product]]:
        parts = [[inputs, width, width], [width, *[module] * s.modules, outputs]]
        parts += [[width, router, router, logits]] if routed else []
        kinds = zip(*(layers(rows, sizes) for sizes in parts), strict=True)
        return [list(itertools.chain(*kind)) for kind in kinds]

    forward, weights, inputs = network(39, 8, routed_actor)
    q_forward, q_weights, q_inputs = network(43, 1, True)
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


@pytest.mark.parametrize(
    ("tasks", "width", "turns"),
    [("MT10", 400, 25), ("MT10", 1024, 9), ("MT10", 2048, 5), ("MT50", 400, 5)],
)
def test_mtsac_update(benchmark: Any, tasks: str, width: int, turns: int) -> None:
    names = task_names(tasks)
    problem = Problem(names, 1, 0, torch.device("cpu"))
    settings = replace(MTSACSettings(), actor_width=width, critic_width=width)
    learner = MTSAC(settings, problem)
    replay = Replay(len(names), 2000, {}, problem.device, Draws.of(problem, "replay"))
    replay.rows.normal_()
    replay.written = replay.capacity
    products = sac_products(len(names), width)
    bound = runner(products)

    def measure() -> Any:
        return in_turns(lambda: learner.update(replay.sample(BATCH)), bound, turns)

    step, floor = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(over_products=step / floor)
    operations = sum(2 * a * b * c for a, b, c in products) / 1e9
    print(
        f"\nmtsac {width}, {tasks}: {step * 1e3:.1f} ms an update of {operations:.1f} GFLOP, "
        f"{step / floor:.2f}x its products ({torch.get_num_threads()} threads)"
    )


@pytest.mark.parametrize("name", ["d2r", "mega"])
def test_routed_update(benchmark: Any, name: str) -> None:
    """A step of D2R, and one of MEGA whose tasks all have all 16 modules."""
    names = task_names("MT10")
    # As many envs as are acted for at once, below.
    problem = Problem(names, 2000, 0, torch.device("cpu"))
    learner: Any = (
        D2R(D2RSettings(), problem)
        if name == "d2r"
        else MEGA(MEGASettings(first_stage=16), problem)
    )
    replay = Replay(len(names), 2000, learner.extras, problem.device, Draws.of(problem, "replay"))
    replay.rows.normal_()
    replay.written = replay.capacity
    for key, stored in learner.act(replay.rows[..., :39], explore=True).extras.items():
        replay.extras[key] = stored
    products = routed_products(len(names), name == "d2r")
    bound = runner(products)

    def measure() -> Any:
        return in_turns(lambda: learner.update(replay.sample(BATCH)), bound, 25)

    step, floor = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(over_products=step / floor)
    operations = sum(2 * a * b * c for a, b, c in products) / 1e9
    print(
        f"\n{name}, MT10: {step * 1e3:.1f} ms an update of {operations:.1f} GFLOP, "
        f"{step / floor:.2f}x its products ({torch.get_num_threads()} threads)"
    )


@pytest.mark.parametrize("wired", ["a task", "a task, mixed stages", "a sample"])
def test_module_stack(benchmark: Any, wired: str) -> None:
    """Forward and backward pass of 16 modules: MEGA's weights a task, D2R's routes a sample.

    The products are those of all modules for all tasks, also where stages leave some out.
    """
    tasks, s = 10, D2RSettings()
    n, width = s.modules, round(s.module_ratio * s.actor_width)
    random = torch.Generator().manual_seed(0)
    stack = ModuleStack(1, s.actor_width, n, width, fan_out_uniform(random), constant(0.1))
    x = torch.randn(1, tasks, BATCH, s.actor_width).requires_grad_()
    wanted = [x, *stack.parameters()]
    table: Tensor | Routes
    if wired == "a sample":
        flat = torch.randn(1, tasks, BATCH, n * (n + 1) // 2)
        choice = Choice("sampled", torch.ones(1, tasks), Draws([random]))
        routes, _ = choose(flat, s.top_k, choice, needs_trust=True)
        table = replace(routes, weights=routes.weights.requires_grad_())
        wanted.append(table.weights)
    else:
        table = torch.rand(n, n, tasks, 1) * torch.ones(n, n).tril()[..., None, None]
        stages = range(3, 13) if "mixed" in wired else [n] * tasks
        for task, stage in enumerate(stages):
            table[stage - 1 : -1, :, task] = 0
            table[:, stage:, task] = 0
        table = table / table.sum(1, keepdim=True).clamp(min=1e-9)
    forward, weights, inputs = layers(tasks * BATCH, [s.actor_width] + [width] * n)
    bound = runner(forward + weights + inputs)

    def work() -> None:
        torch.autograd.grad(stack(x, table).sum(), wanted)

    def measure() -> Any:
        return in_turns(work, bound, 25)

    step, floor = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(over_products=step / floor)
    print(f"\n16 modules of {width}, weights {wired}: {step / floor:.2f}x their products")
