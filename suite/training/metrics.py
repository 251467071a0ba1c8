"""Metrics of gradient steps: kept on the device, fetched once a round, checked for NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.messages import Diverged
from suite.runs.rows import RowLog

Fetched = Mapping[str, NDArray[np.float64]]


class TrainingDiverged(Diverged):
    """A loss, value or action is not a finite number."""


def all_finite(
    metric: str, values: NDArray[Any], tasks: Sequence[str], step: int, update: int | None = None
) -> None:
    """Raises TrainingDiverged, naming step, task and metric, unless all [T, ...] are finite."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
    if not bad.any():
        return
    at = f"env step {step:,}" + (f" (gradient step {update:,})" if update is not None else "")
    task = f" of {tasks[int(bad.argmax())]}" if len(values) == len(tasks) else ""
    raise TrainingDiverged(
        f"{metric}{task} became nan or infinite at {at}; try lower learning "
        "rates (--actor-learning-rate, --critic-learning-rate) or a --gradient-clip"
    )


def check_state(state: Any, step: int, name: str) -> None:
    """Raises TrainingDiverged, naming step and tensor, unless all of a nested state is finite.

    A gradient step's metrics are those before it: this sees what the last one of a round did.
    """
    if isinstance(state, Tensor):
        if state.is_floating_point() and not bool(torch.isfinite(state).all()):
            raise TrainingDiverged(
                f"{name} became nan or infinite in the gradient step before env step {step:,}; try "
                "lower learning rates"
            )
    elif isinstance(state, dict):
        for key, value in state.items():
            check_state(value, step, f"{name}/{key}")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            check_state(value, step, f"{name}/{index}")


class UpdateMetrics:
    """The metrics of one round's gradient steps."""

    def __init__(self, tasks: Sequence[str], fetch: Callable[[], Fetched]) -> None:
        """`fetch` gives each metric of all steps so far, [U, T] or [U]; it is called once."""
        self.tasks, self.fetch = tasks, fetch
        self.steps: list[int] = []
        """In which step of the episode each gradient step was made."""
        self.fetched: Fetched = {}

    def check(self, first_env_step: int, env_steps_per_step: int, first_update: int) -> None:
        """Raises TrainingDiverged at the first gradient step that gave a non-finite metric."""
        self.fetched = self.fetch()
        finite = {
            name: np.isfinite(v).reshape(len(v), -1).all(1) for name, v in self.fetched.items()
        }
        bad = [(int(ok.argmin()), name) for name, ok in finite.items() if not ok.all()]
        if not bad:
            return
        # The loss of a task says more than a norm over all tasks at the same step.
        index, name = min(bad, key=lambda b: (b[0], self.fetched[b[1]].ndim == 1))
        step = first_env_step + self.steps[index] * env_steps_per_step
        values = np.atleast_1d(self.fetched[name][index])
        tasks = self.tasks if self.fetched[name].ndim > 1 else []
        all_finite(name, values, tasks, step, first_update + index)

    def write(self, log: RowLog, env_step: int, update: int) -> None:
        """Logs the mean of each metric over the round; `check` comes first."""
        for name, values in self.fetched.items():
            if values.ndim == 1:
                log.whole(f"train/{name}", env_step, update, float(values.mean()))
            else:
                log.per_task(f"train/{name}", env_step, update, values.mean(0))
