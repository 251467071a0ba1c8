"""Run directories as the suite writes them, with simulated values: what figures are tested on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

MT10 = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3"),
    *("drawer-close-v3", "button-press-topdown-v3", "peg-insert-side-v3"),
    *("window-open-v3", "window-close-v3"),
)
PROVENANCE = [
    {
        "started": "2026-01-02T03:04:05+00:00",
        "versions": {"torch": "2.13.0", "metaworld": "3.1.1"},
        "processor": "a <processor> & more",
        "cpus": 2,
    }
]


@dataclass(frozen=True)
class Simulated:
    """One run to make up."""

    algorithm: str = "mtsac"
    seed: int = 0
    actor_width: int = 400
    critic_width: int = 400
    tasks: int = 10
    skill: float = 0.7
    evaluations: int = 8
    settings: tuple[tuple[str, Any], ...] = ()
    layers: int = 3
    """Layers of each network with plasticity rows of their own."""

    @property
    def name(self) -> str:
        extra = "".join(f"-{v}" for _, v in self.settings)
        return (
            f"{self.algorithm}-MT{self.tasks}-a{self.actor_width}-c{self.critic_width}{extra}"
            f"-s{self.seed}"
        )


def names(count: int) -> list[str]:
    return [MT10[i] if i < 10 else f"task-{i}-v3" for i in range(count)]


def values(run: Simulated) -> list[tuple[str, str, int, float]]:
    """Task, metric, env step, value."""
    generator = np.random.default_rng((run.seed, run.actor_width, run.tasks, len(run.algorithm)))
    tasks, total = names(run.tasks), 2_000_000 * run.tasks
    hard = np.linspace(0.2, 1.4, run.tasks)
    luck = generator.normal(0, 0.08)
    rows: list[tuple[str, str, int, float]] = []
    for evaluation in range(1, run.evaluations + 1):
        step = total * evaluation // run.evaluations
        share = evaluation / run.evaluations
        success = np.clip(
            run.skill * share / hard + luck + generator.normal(0, 0.05, run.tasks), 0, 1
        )
        success = np.round(success * 50) / 50
        rows += [(t, "success", step, float(v)) for t, v in zip(tasks, success, strict=True)]
        rows += [(t, "return", step, float(v)) for t, v in zip(tasks, 1800 * success, strict=True)]
        rows.append(("", "success/mean", step, float(success.mean())))
        rows += plasticity(run, step, share)
        if run.algorithm == "mega":
            rows += evolution(run, step, share, tasks, generator)
        if run.algorithm == "d2r":
            for index, task in enumerate(tasks):
                rows.append((task, "route_entropy", step, 0.8 - 0.5 * share + 0.02 * index))
                rows.append((task, "modules_in_use", step, 12 - 4 * share + 0.3 * index))
    return rows


def plasticity(run: Simulated, step: int, share: float) -> list[tuple[str, str, int, float]]:
    rows = []
    for network, width in (
        *(("actor", run.actor_width), ("critic_0", run.critic_width)),
        ("critic_1", run.critic_width),
    ):
        dormant = share * 0.4 * np.log(width / 100) / np.log(40) / (1 + run.tasks / 50)
        found = {"dormant_0.1": dormant, "srank": 0.3 * width, "effective_rank": 0.05 * width}
        for measure, value in found.items():
            for layer in ("pooled", *(f"layers.{i}" for i in range(run.layers))):
                metric = f"plasticity/{network}/{measure}/{layer}"
                rows.append(("", metric, step, float(value) * (1 + 0.01 * run.seed)))
    return rows


def evolution(
    run: Simulated, step: int, share: float, tasks: list[str], generator: np.random.Generator
) -> list[tuple[str, str, int, float]]:
    settings = dict(run.settings)
    bits, half = settings.get("gene_bits", 2), settings.get("decoding") != "softmax"
    rows = []
    for index, task in enumerate(tasks):
        stage = 3 + int(share * index) + run.seed % 2
        rows.append((task, "stage", step, float(stage)))
        rows.append((task, "modules_in_use", step, max(2.0, stage - 1.0)))
        rows.append((task, "population_diversity", step, 0.5 - 0.3 * share))
        tau = settings.get("cross_population_rate", 0.1)
        rows.append((task, "population_distance", step, 0.5 - tau * share))
        rows.append((task, "elite_clusters", step, max(1.0, round(10 - 10 * tau * share))))
        rows.append((task, "warning/collapse", step, float(10 - 10 * tau * share < 1.5)))
        if settings.get("genotype_gradient", "none") != "none":
            rows.append((task, "genotype_shift", step, 10 * settings["genotype_learning_rate"]))
        if settings.get("critic_genotypes"):
            rows.append((task, "critic_stage", step, 3 + int(2 * share)))
            rows.append((task, "critic_modules_in_use", step, 3.0))
            rows.append((task, "critic_fitness", step, -1 + 0.8 * share))
            rows.append((task, "critic_target_jump", step, 2 - share))
        for module in range(1, stage + 1):
            genes = generator.integers(2**bits, size=module)
            scores = np.exp(genes) - (0.99 if half else 0)
            for source, weight in enumerate(scores / scores.sum(), 1):
                rows.append((task, f"weight/{module}/{source}", step, float(weight)))
    return rows


def config(run: Simulated) -> dict[str, Any]:
    widths = {"actor_width": run.actor_width, "critic_width": run.critic_width}
    return {
        "algorithm": run.algorithm,
        "settings": widths | dict(run.settings),
        "seed": run.seed,
        "device": "cpu",
        "task": {
            "tasks": f"MT{run.tasks}", "goals": "preset", "goal_seed": run.seed,
            "reward_version": "v2", "horizon": 500, "envs_per_task": 1,
        },
        "training": {"steps": 2_000_000 * run.tasks, "batch_per_task": 128},
        "evaluation": {"evaluations": run.evaluations, "final_episodes": 50},
    }  # fmt: skip


def write(folder: Path, run: Simulated) -> Path:
    """Writes a finished run's directory below a folder, and returns it."""
    path = folder / run.name
    path.mkdir(parents=True)
    frame = pd.DataFrame(values(run), columns=["task", "metric", "env_step", "value"])
    actor, critic = (2 * w * w + 90 * w for w in (run.actor_width, run.critic_width))
    constant: dict[str, Any] = {
        "run": run.name, "config_hash": f"{hash(run) & 0xFFFFFFFF:08x}", "algorithm": run.algorithm,
        "seed": run.seed, "task_set": f"MT{run.tasks}", "tasks": run.tasks, "goals": "preset",
        "reward_version": "v2", "horizon": 500, "total_steps": 2_000_000 * run.tasks,
        "actor_parameters": actor, "critic_parameters": 2 * critic,
        "total_parameters": actor + 2 * critic, "evaluation": "deterministic policy, preset goals",
        "device": "cpu", "version_metaworld": "3.1.1", "version_torch": "2.13.0",
    }  # fmt: skip
    table = pa.Table.from_pandas(frame.assign(**constant), preserve_index=False)
    described = {"mtscale": json.dumps({"config": config(run)})}
    pq.write_table(table.replace_schema_metadata(described), path / "rows.parquet")
    (path / "config.json").write_text(json.dumps({"run": run.name, **config(run)}))
    (path / "provenance.json").write_text(json.dumps(PROVENANCE))
    (path / "result.json").write_text(json.dumps({"run": run.name}))
    return path


def study(folder: Path, seeds: int = 3) -> Path:
    """A small scaling study: widths, task sets, architectures, MEGA's two decodings."""
    for seed in range(seeds):
        for index, width in enumerate((256, 512, 1024)):
            write(folder, Simulated(seed=seed, actor_width=width, critic_width=width,
                                    skill=0.6 + 0.1 * index))  # fmt: skip
        for width in (512, 1024):
            write(folder, Simulated(seed=seed, actor_width=256, critic_width=width, skill=0.7))
            write(folder, Simulated(seed=seed, actor_width=width, critic_width=256, skill=0.65))
        write(folder, Simulated(seed=seed, tasks=25, actor_width=256, critic_width=256, skill=0.5))
        write(folder, Simulated("d2r", seed, 512, 512, skill=0.75))
        for decoding in ("halfsoftmax", "softmax"):
            settings = (("decoding", decoding), ("gene_bits", 2))
            write(folder, Simulated("mega", seed, 512, 512, skill=0.8, settings=settings))
    return folder


def questions(folder: Path, seeds: int = 2) -> Path:
    """MEGA's extensions in small: one setting at a time."""
    changes: list[dict[str, Any]] = [
        {},
        {"trigger": "none"},
        {"trigger": "success"},
        {"window": 5},
        {"window": 20},
        {"trigger": "success", "trigger_episodes": 50},
        {"success_threshold": 0.6},
        {"growth": "extend"},
        {"genotype_gradient": "baldwin"},
        {"genotype_gradient": "lamarck"},
        {"genotype_gradient": "lamarck", "genotype_learning_rate": 0.1},
        {"critic_genotypes": True},
        {"critic_genotypes": True, "critic_fitness": "correlation"},
        {"cross_population_rate": 0.5},
        {"cross_population_rate": 1.0},
    ]
    base: dict[str, Any] = {
        "modules": 4, "population": 4, "episodes_per_individual": 5, "trigger": "return",
        "window": 10, "trigger_episodes": 100, "success_threshold": 0.8, "trigger_success": 0.2,
        "growth": "reinitialise", "genotype_gradient": "none", "genotype_learning_rate": 0.01,
        "critic_genotypes": False, "critic_fitness": "bellman", "cross_population_rate": 0.1,
    }  # fmt: skip
    for index, change in enumerate(changes):
        for seed in range(seeds):
            settings = tuple((base | change).items())
            write(folder, Simulated("mega", seed, skill=0.4 + 0.03 * index, settings=settings))
    return folder
