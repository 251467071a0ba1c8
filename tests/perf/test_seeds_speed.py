"""Seeds trained together against the same seeds one after the other, as ratios taken in turns.

`pytest tests/perf/test_seeds_speed.py --benchmark-only -s`. A step is sampling and the gradient
step of every seed, with the sizes of the presets `quick` and `scaling` on MT10; on a GPU as well
where there is one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from algorithms.draws import Draws
from test_update_speed import in_turns

from algorithms import load
from algorithms.algorithm import Problem
from suite.presets import preset
from suite.training.learner import Learner
from suite.training.replay import Replay

pytest.importorskip("pytest_benchmark")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def learner(
    algorithm: str, sizes: str, seeds: tuple[int, ...], device: str, **fields: Any
) -> Learner:
    """An algorithm with a preset's sizes, but for `fields`, on a filled replay."""
    config = preset(sizes, algorithm, "MT10")
    # As many envs as are acted for at once, below, to fill the replay.
    together = seeds if len(seeds) > 1 else ()
    problem = Problem(config.tasks, 2000, seeds[0], torch.device(device), together=together)
    made = load(algorithm)(replace(config.settings, **fields), problem)
    replay = Replay(10, 2000, made.extras, problem.device, Draws.of(problem, "replay"))
    replay.rows.normal_()
    replay.written = replay.capacity
    replay.held.fill_(replay.size)
    for key, stored in made.act(replay.rows[..., :39], explore=True).extras.items():
        replay.extras[key] = stored
    return Learner(made, replay, config.training.batch_per_task)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sizes", ["quick", "scaling"])
@pytest.mark.parametrize("algorithm", ["mtsac", "mega", "d2r"])
@pytest.mark.parametrize("count", [4])
def test_seeds_together(
    benchmark: Any, algorithm: str, sizes: str, device: str, count: int
) -> None:
    together = learner(algorithm, sizes, tuple(range(count)), device)
    alone = [learner(algorithm, sizes, (seed,), device) for seed in range(count)]

    def finished() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def as_one() -> None:
        together.learn()
        finished()

    def one_by_one() -> None:
        for one in alone:
            one.learn()
        finished()

    def measure() -> Any:
        return in_turns(as_one, one_by_one, 5 if device == "cpu" else 50)

    joint, single = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(faster=single / joint)
    print(
        f"\n{algorithm}, MT10, {sizes}, {device}: {count} seeds together {joint * 1e3:.1f} ms, "
        f"{single / joint:.2f}x as fast as one by one ({torch.get_num_threads()} threads)"
    )
