"""A run's configuration and trained algorithm, rebuilt from its directory."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from algorithms import load
from algorithms.algorithm import Algorithm, Problem
from suite.config import (
    EvaluationConfig,
    ExecutionConfig,
    RunConfig,
    TaskConfig,
    TrainingConfig,
    filled,
)
from suite.messages import UserError, first_line
from suite.presets import settings_of
from suite.runs.checkpoint import CheckpointStore
from suite.runs.directory import RunDirectory
from suite.runs.identity import stored_identity


def stored_config(folder: Path) -> RunConfig:
    """The configuration in a run's directory, on the CPU.

    Raises UserError, naming the file, where there is none or it is damaged.
    """
    path = folder / "config.json"
    stored = stored_identity(path)
    if stored is None:
        why = (
            "is damaged; the bench command of this run writes it again"
            if path.exists()
            else ("is not there; name the directory of a run")
        )
        raise UserError(f"{path} {why}")
    try:
        settings = settings_of(stored["algorithm"])
        unknown = sorted(stored["settings"].keys() - {f.name for f in fields(settings)})
        if unknown:
            raise ValueError(f"{stored['algorithm']} has no setting {unknown[0]}")
        return RunConfig(
            stored["algorithm"],
            filled(settings, stored["settings"]),
            seed=stored["seed"],
            device="cpu",
            task=TaskConfig(**stored["task"]),
            training=TrainingConfig(**stored["training"]),
            evaluation=EvaluationConfig(**stored["evaluation"]),
            execution=ExecutionConfig(run_dir=str(folder)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not of this version of the suite: {error}") from None


def stored_name(folder: Path) -> str:
    """The name of the run in a directory, whose configuration has been read."""
    return str(json.loads((folder / "config.json").read_bytes())["run"])


def trained(config: RunConfig, folder: Path) -> Algorithm:
    """The algorithm as the newest whole checkpoint in the directory has it, on the CPU.

    Raises UserError where there is none, it cannot be read or its method's code has changed.
    """
    RunDirectory(config).compare_code(way_out="")
    path, state = CheckpointStore(folder / "checkpoints", stored_name(folder)).weights()
    problem = Problem(config.tasks, config.task.envs_per_task, config.seed)
    algorithm = load(config.algorithm)(config.settings, problem)
    stored, own = state["algorithm"], algorithm.state_dict()
    if "generators" in own:  # a film draws anew, and those of another device mean nothing here
        stored = {**stored, "generators": own["generators"]}
    try:
        algorithm.load_state_dict(stored)
    except Exception as error:
        # Of many kinds, such as weights of another shape.
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None
    return algorithm
