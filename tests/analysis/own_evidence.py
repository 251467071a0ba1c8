"""Made-up rows of the sweeps mt10-small-1 to -4, in the shape that these will have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from suite.config import RunConfig
from suite.sizes import count
from suite.sweeps.plan import plan

Row = tuple[str, str, int, float]
SKILL = {
    **{"mtsac": 0.42, "d2r": 0.36, "mega": 0.31, "softmodules": 0.4, "moore": 0.47, "paco": 0.3},
    **{"care": 0.38, "film": 0.45},
}
"""Nothing of this has been measured."""


def write_study(folder: Path, study: int, seeds: int = 5) -> Path:
    """The runs of a study below a folder of its own, but for those that are there already."""
    own = folder / f"study-{study}"
    there = {path.parent.name for path in folder.rglob("rows.parquet")}
    given = {"seed": [str(seed) for seed in range(seeds)]}
    for config in plan(f"mt10-small-{study}", given).runs:
        if config.name() not in there:
            write_run(own / config.name(), config)
    return own


def write_run(path: Path, config: RunConfig) -> None:
    """One run's directory, as the suite leaves it."""
    counts = count(config.algorithm, config.settings, config.tasks)
    constant: dict[str, Any] = {
        "run": config.name(),
        "config_hash": config.hash(),
        "algorithm": config.algorithm,
        "seed": config.seed,
        "task_set": config.identity()["task"]["tasks"],
        "tasks": len(config.tasks),
        "goals": config.task.goals,
        "reward_version": config.task.reward_version,
        "horizon": config.task.horizon,
        "total_steps": config.rounds * config.steps_per_round,
        "actor_parameters": counts.actor,
        "critic_parameters": counts.critic,
        "total_parameters": counts.total,
        "evaluation": "deterministic policy, 50 preset goals",
        "device": config.device,
        "version_metaworld": "3.1.1",
        "version_torch": "2.13.0",
    }
    rows = pd.DataFrame(values(config), columns=["task", "metric", "env_step", "value"])
    table = pa.Table.from_pandas(rows.assign(**constant), preserve_index=False)
    described = {"mtscale": json.dumps({"config": config.identity()})}
    path.mkdir(parents=True)
    pq.write_table(table.replace_schema_metadata(described), path / "rows.parquet")


def values(config: RunConfig) -> Iterator[Row]:
    """Task, metric, env step and value of each evaluation."""
    generator = np.random.default_rng(int(config.hash(), 16))
    settings, tasks = config.settings, config.tasks
    width = (settings.actor_width * settings.critic_width**2) ** (1 / 3)
    skill = SKILL[config.algorithm] * (width / 163) ** (0.25 if config.algorithm == "mtsac" else 0)
    luck, hard = generator.normal(0, 0.04), np.linspace(0.4, 2.2, len(tasks))
    for evaluation in range(1, config.evaluation.evaluations + 1):
        share = evaluation / config.evaluation.evaluations
        step = round(share * config.rounds * config.steps_per_round)
        noise = generator.normal(0, 0.06, len(tasks))
        success = np.round(np.clip(skill * share**0.7 / hard + luck + noise, 0, 1) * 50) / 50
        yield from ((t, "success", step, float(v)) for t, v in zip(tasks, success, strict=True))
        yield "", "success/mean", step, float(success.mean())
        for network, units in (
            ("actor", settings.actor_width),
            ("critic_0", settings.critic_width),
        ):
            spread = generator.normal(1, 0.1)
            dormant = 0.3 * share * spread / (1 + len(tasks) / 5) * units / 163
            yield "", f"plasticity/{network}/dormant_0.1/pooled", step, dormant
            yield "", f"plasticity/{network}/srank/pooled", step, 0.9 * units * spread
            rank = 8 * spread * len(tasks) ** 0.4
            yield "", f"plasticity/{network}/effective_rank/pooled", step, rank
        if config.algorithm == "mega":
            yield from bred(config, step, share, generator)
        if config.algorithm == "d2r":
            for index, task in enumerate(tasks):
                yield task, "route_entropy", step, 0.8 - 0.4 * share + 0.02 * index
                yield task, "modules_in_use", step, 4 - 1.5 * share + 0.1 * index


def bred(
    config: RunConfig, step: int, share: float, generator: np.random.Generator
) -> Iterator[Row]:
    """What MEGA reports of its genotypes."""
    s = config.settings
    for index, task in enumerate(config.tasks):
        room = s.modules - s.first_stage if s.evolution and s.trigger != "none" else 0
        stage = s.first_stage + int(room * share * (index + 3) / 12)
        yield task, "stage", step, float(stage)
        yield task, "modules_in_use", step, max(2.0, stage - generator.integers(2))
        yield task, "population_diversity", step, (0.5 - 0.3 * share) if s.evolution else 0.5
        for module in range(1, stage + 1):
            genes = generator.integers(2**s.gene_bits, size=module)
            scores = np.exp(genes) - (0.99 if s.decoding == "halfsoftmax" else 0)
            for source, weight in enumerate(scores / scores.sum(), 1):
                yield task, f"weight/{module}/{source}", step, float(weight)
