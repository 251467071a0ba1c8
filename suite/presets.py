"""The presets: named configurations, every number of which the command line can override."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from algorithms import algorithm_names, entry
from suite.config import EvaluationConfig, ExecutionConfig, RunConfig, TaskConfig, TrainingConfig
from suite.envs.tasks import task_names
from suite.messages import UserError, choose

PRESETS = {
    "smoke": "seconds: shows that everything runs, learns nothing",
    "quick": "about 10 minutes on MT10 with 2 CPU cores",
    "scaling": "the scaling study's protocol (arXiv 2503.05126)",
    "d2r": "the D2R paper's protocol (arXiv 2312.14472)",
}

SMALL = {"actor_width": 64, "critic_width": 64, "modules": 4}
MEDIUM = {"actor_width": 128, "critic_width": 128, "modules": 4}

# From α = 1 the temperature needs tens of thousands of gradient steps to fall to where policies
# learn; a short run starts near there.
SHORT_RUN = {"reward_scale": 0.1, "initial_temperature": 0.05, "temperature_learning_rate": 3e-4}


def preset(name: str, algorithm: str, tasks: str) -> RunConfig:
    """The configuration of a preset, before any field is overridden.

    Raises UserError for an unknown preset, algorithm or task.
    """
    if name not in PRESETS:
        raise UserError(choose("preset", name, PRESETS))
    settings = settings_of(algorithm)()
    count = len(task_names(tasks))
    # MEGA's precision: 2 bits a gene on MT10, 4 on MT50 and, our choice, on anything above MT10.
    genes = {"gene_bits": 2 if count <= 10 else 4}
    base = RunConfig(algorithm, settings, task=TaskConfig(tasks))
    if name == "smoke":
        return replace(
            base,
            settings=override(settings, SMALL),
            task=replace(base.task, horizon=20),
            training=TrainingConfig(
                steps=count * 200, batch_per_task=8, buffer_per_task=1000, random_steps=40
            ),
            evaluation=EvaluationConfig(2, eval_episodes=1, final_episodes=2, probe_size=300),
            execution=ExecutionConfig(checkpoint_minutes=0),
        )
    if name == "quick":
        return replace(
            base,
            settings=override(settings, MEDIUM | SHORT_RUN),
            task=replace(base.task, horizon=200),
            training=TrainingConfig(
                steps=count * 16_000, batch_per_task=32, buffer_per_task=50_000, random_steps=1000
            ),
            evaluation=EvaluationConfig(8, eval_episodes=10),
            execution=ExecutionConfig(checkpoint_minutes=1),
        )
    if name == "scaling":
        return replace(
            base,
            settings=override(settings, genes),
            training=TrainingConfig(steps=count * 2_000_000),
        )
    # The D2R authors' MT50 runs are a third shorter a task and keep twice the transitions.
    large = count > 10
    return replace(
        base,
        settings=override(settings, {"reward_scale": 0.1, **genes}),
        task=replace(base.task, horizon=200, goals="fixed"),
        training=TrainingConfig(
            steps=count * (1_000_000 if large else 1_500_000),
            buffer_per_task=200_000 if large else 100_000,
        ),
        evaluation=EvaluationConfig(150, eval_episodes=32, final_episodes=32),
    )


def override(settings: Any, values: dict[str, Any]) -> Any:
    """The settings with those of the values that they have a field for."""
    known = {f.name for f in fields(settings)}
    return replace(settings, **{k: v for k, v in values.items() if k in known})


def settings_of(algorithm: str) -> type[Any]:
    """The settings class of an algorithm. Raises UserError where there is none."""
    try:
        return entry(algorithm).settings
    except LookupError:
        shown = f"{', '.join(algorithm_names())}, or package.module:Class"
        raise UserError(choose("algorithm", algorithm, algorithm_names(), shown)) from None
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"algorithm: {algorithm!r} cannot be loaded: {error}") from None
