"""How fast training on MT10 goes, and where the time goes: `make perf`, or this file with
`--benchmark-only -s`.

Rounds of the training loop, preset `quick` and the scaling study's sizes. `envs` is the time that
the learner waits for them after its own work, since both go on at once; `loop` is all that is
neither acting, nor a gradient step (sampling included), nor the envs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.presets import preset
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.training.build import build
from suite.training.compiling import compile_learners
from suite.training.train import Trainer

pytest.importorskip("pytest_benchmark")
HORIZON = 200
"""That of the preset `quick`; a round of the other would take minutes."""


class Clock:
    """Adds up what calls of some methods take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, method: str, name: str) -> None:
        timed: Callable[..., Any] = getattr(owner, method)

        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = timed(*arguments, **keywords)
            self.seconds[name] += time.perf_counter() - start
            return result

        setattr(owner, method, call)


def trainer(algorithm: str, sizes: str, seeds: int, folder: Path) -> Trainer:
    config = preset(sizes, algorithm, "MT10")
    config = replace(
        config,
        task=replace(config.task, horizon=HORIZON),
        training=replace(config.training, random_steps=HORIZON, buffer_per_task=2000),
        execution=replace(config.execution, results=str(folder), seeds=str(seeds)),
    )
    runs = config.each_seed()
    made = build(runs, [RunDirectory(run) for run in runs], Progress("", 10**9))
    compile_learners(made, "compiled")
    return made


@pytest.mark.parametrize(
    ("algorithm", "sizes", "seeds"),
    [
        ("mtsac", "quick", 1),
        ("mtsac", "quick", 5),
        ("mega", "quick", 1),
        ("d2r", "quick", 1),
        ("mtsac", "scaling", 1),
    ],
)
def test_training(benchmark: Any, tmp_path: Path, algorithm: str, sizes: str, seeds: int) -> None:
    made = trainer(algorithm, sizes, seeds, tmp_path)
    try:
        made.train_round()  # random actions
        clock = Clock()
        for run in made.runs:
            clock.watch(run.algorithm, "act", "act")
            clock.watch(run.algorithm, "update", "update")
            clock.watch(run.replay, "sample", "update")
        clock.watch(made.envs, "send", "envs")
        clock.watch(made.envs, "receive", "envs")
        clock.watch(made.envs, "reset", "envs")
        benchmark.pedantic(made.train_round, rounds=1)
    finally:
        made.envs.close()
        made.evaluation_envs.close()
    total = benchmark.stats["mean"]
    steps = seeds * made.config.steps_per_round / total
    shares = {name: seconds / total for name, seconds in clock.seconds.items()}
    shares["loop"] = 1 - sum(shares.values())
    benchmark.extra_info.update(steps_per_second=steps, **shares)
    parts = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    print(
        f"\n{algorithm}, MT10, {sizes}, {seeds} seeds: {steps:,.0f} env steps/s "
        f"({torch.get_num_threads()} learner threads): {parts}"
    )
