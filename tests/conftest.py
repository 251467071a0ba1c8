"""Simulated runs, written as the suite writes real ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite.process import give_mkl_avx512

# Before anything loads torch: threads that spin while they wait take the cores of other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "4000")
# And what runs in this process rounds as what has a process of its own.
give_mkl_avx512()

WriteRun = Callable[..., Path]


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores, up to four: tests of Slurm, Ray and sweeps mostly wait."""
    return min(4, len(os.sched_getaffinity(0)) + 2)


SETTINGS = {"actor_width": 128, "critic_width": 128, "discount": 0.99}


def write_simulated_run(
    folder: Path,
    *,
    algorithm: str = "mtsac",
    seed: int = 0,
    tasks: Sequence[str] = ("reach-v3", "push-v3", "door-open-v3"),
    task_set: str = "",
    final: Sequence[float] | float = 0.5,
    evaluations: int = 4,
    horizon: int = 500,
    total_steps: int = 4000,
    goal_seed: int | None = None,
    device: str = "cpu",
    plasticity: bool = True,
    run: str = "",
    **settings: Any,
) -> Path:
    """Writes <folder>/<run>/rows.parquet and config.json; success rises linearly to `final`."""
    task_set = task_set or ",".join(tasks)
    last = np.broadcast_to(np.asarray(final, dtype=float), len(tasks))
    rows: list[tuple[str, str, int, float]] = []
    for number in range(1, evaluations + 1):
        step = total_steps * number // evaluations
        success = last * number / evaluations
        rows += [(t, "success", step, v) for t, v in zip(tasks, success.tolist(), strict=True)]
        rows.append(("", "success/mean", step, float(success.mean())))
        if plasticity:
            for network in ("actor", "critic_0"):
                name = f"plasticity/{network}/dormant_0.1/pooled"
                rows.append(("", name, step, 0.1 * number + 0.01 * seed))
    chosen = SETTINGS | settings
    config = {
        "algorithm": algorithm,
        "settings": chosen,
        "seed": seed,
        "device": device,
        "task": {
            "tasks": task_set,
            "goals": "preset",
            "goal_seed": seed if goal_seed is None else goal_seed,
            "reward_version": "v2",
            "horizon": horizon,
            "envs_per_task": 1,
        },
        "training": {"steps": total_steps},
        "evaluation": {"final_episodes": 50},
    }
    text = json.dumps(config, sort_keys=True)
    run = run or f"{algorithm}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    width = int(chosen["actor_width"])
    own = {
        "run": run,
        "config_hash": run[-8:],
        "algorithm": algorithm,
        "seed": seed,
        "task_set": task_set,
        "tasks": len(tasks),
        "goals": "preset",
        "reward_version": "v2",
        "horizon": horizon,
        "total_steps": total_steps,
        "actor_parameters": 3 * width**2,
        "critic_parameters": 6 * width**2,
        "total_parameters": 9 * width**2,
        "evaluation": "deterministic policy, 50 final episodes a task",
        "device": device,
        "version_metaworld": "3.1.1",
        "version_mtscale": "0.1.0",
    }
    names, metrics, steps, values = zip(*rows, strict=True)
    encoded = pa.dictionary(pa.int32(), pa.string())
    columns = {
        "task": pa.array(names, pa.string()).dictionary_encode().cast(encoded),
        "metric": pa.array(metrics, pa.string()).dictionary_encode().cast(encoded),
        "env_step": pa.array(steps, pa.int64()),
        "update": pa.array(steps, pa.int64()),
        "value": pa.array(values, pa.float64()),
    }
    for name, value in own.items():
        column = pa.repeat(pa.scalar(value), len(rows))
        columns[name] = column.dictionary_encode() if isinstance(value, str) else column
    table = pa.table(columns).replace_schema_metadata({"mtscale": json.dumps({"config": config})})
    path = folder / run / "rows.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    (path.parent / "config.json").write_text(json.dumps({"run": run, **config}))
    return path


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """`write_simulated_run`, for tests in any folder."""
    return write_simulated_run
