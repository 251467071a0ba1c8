"""A run's configuration and trained algorithm, rebuilt from its directory."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from algorithms import load
from algorithms.algorithm import Algorithm, Problem
from suite.config import EvaluationConfig, ExecutionConfig, RunConfig, TaskConfig, TrainingConfig
from suite.messages import UserError
from suite.presets import settings_of


def stored_config(folder: Path) -> RunConfig:
    """The configuration in a run's directory, on the CPU.

    Raises UserError, naming the file, where there is none. Settings that are younger than the run
    have their defaults, which are what it did.
    """
    path = folder / "config.json"
    try:
        stored = json.loads(path.read_text())
        return RunConfig(
            stored["algorithm"],
            known(settings_of(stored["algorithm"]), stored["settings"]),
            seed=stored["seed"],
            device="cpu",
            task=known(TaskConfig, stored["task"]),
            training=known(TrainingConfig, stored["training"]),
            evaluation=known(EvaluationConfig, stored["evaluation"]),
            execution=ExecutionConfig(run_dir=str(folder)),
        )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the directory of a run") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not a run's configuration") from None


def known(kind: type[Any], values: dict[str, Any]) -> Any:
    """A dataclass of the values that it has fields for."""
    names = {f.name for f in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})


def trained(config: RunConfig, folder: Path) -> Algorithm:
    """The algorithm as the newest checkpoint in the directory has it, on the CPU.

    Raises UserError where there is none or it cannot be read.
    """
    found = sorted((folder / "checkpoints").glob("state-*.pt"))
    if not found:
        raise UserError(
            f"{folder / 'checkpoints'} holds no checkpoint; the weights are needed, and the bench "
            "command of this run makes them"
        )
    problem = Problem(config.tasks, config.task.envs_per_task, config.seed)
    algorithm = load(config.algorithm)(config.settings, problem)
    try:
        state = torch.load(found[-1], map_location="cpu", weights_only=True)
        algorithm.load_state_dict(state["algorithm"])
    except Exception as error:
        # Of many kinds, from a cut file to weights of another shape.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{found[-1]} cannot be read: {reason}") from None
    return algorithm
