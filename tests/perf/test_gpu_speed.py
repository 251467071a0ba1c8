"""Gradient steps on a GPU: sampling, losses, clipping, Adam and targets as one CUDA graph.

`pytest tests/perf/test_gpu_speed.py --benchmark-only -s`, on a machine with a GPU.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from algorithms import load
from algorithms.algorithm import Problem
from algorithms.parts.randomness import generator
from suite.presets import preset
from suite.sizes import matched
from suite.training.learner import Learner
from suite.training.replay import Replay

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
STEPS = 200  # of a turn
TURNS = 5


def learner(algorithm: str, sizes: str, **fields: Any) -> Learner:
    """A compiled algorithm with a preset's sizes, but for `fields`, on a filled replay."""
    config, device = preset(sizes, algorithm, "MT10"), torch.device("cuda")
    made = load(algorithm)(replace(config.settings, **fields), Problem(config.tasks, device=device))
    replay = Replay(10, 2000, made.extras, device, generator(0, "replay", device))
    replay.rows.normal_()
    replay.written = replay.capacity
    replay.held.fill_(replay.size)
    for key, stored in made.act(replay.rows[..., :39], explore=True).extras.items():
        replay.extras[key] = stored
    made.compile()
    return Learner(made, replay, config.training.batch_per_task)


def milliseconds(one: Learner) -> float:
    """Median over turns of a step's time."""
    times = []
    for _ in range(TURNS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            one.learn()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / STEPS)
    return float(np.median(times[1:])) * 1e3


@pytest.fixture(params=["float32", "tf32"])
def precision(request: Any) -> Any:
    torch.set_float32_matmul_precision("highest" if request.param == "float32" else "high")
    yield request.param
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("width", [400, 1024, 2048, 4096])
def test_mtsac_update(benchmark: Any, width: int, precision: str) -> None:
    one = learner("mtsac", "scaling", actor_width=width, critic_width=width)
    taken = benchmark.pedantic(milliseconds, (one,), rounds=1)
    benchmark.extra_info.update(milliseconds=taken, graph=one.learning.graph is not None)
    print(f"\nmtsac {width}, MT10, {precision}: {taken:.3f} ms an update on a GPU")


@pytest.mark.parametrize("algorithm", ["d2r", "mega"])
def test_routed_update_over_mtsacs_of_the_same_size(
    benchmark: Any, algorithm: str, precision: str
) -> None:
    plain = matched(preset("scaling", "mtsac", "MT10"), algorithm, "scaling").settings
    widths = {net: getattr(plain, net) for net in ("actor_width", "critic_width")}
    routed = learner(algorithm, "scaling")
    mtsac = learner("mtsac", "scaling", **widths)

    def measure() -> tuple[float, float]:
        return milliseconds(routed), milliseconds(mtsac)

    taken, own = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(milliseconds=taken, over_mtsac=taken / own)
    print(
        f"\n{algorithm}, MT10, {precision}: {taken:.3f} ms an update on a GPU, "
        f"{taken / own:.2f}x that of mtsac at the same size"
    )
