"""Metrics of gradient steps, and what a user reads when one is not a number."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from suite.runs.rows import RowLog
from suite.training.metrics import TrainingDiverged, UpdateMetrics

TASKS = ("reach-v3", "push-v3")


def metrics_of(steps: dict[int, dict[str, Any]]) -> UpdateMetrics:
    """Gradient steps by the step of the episode in which they were made."""
    names = next(iter(steps.values())) if steps else ()
    fetched = {name: np.array([values[name] for values in steps.values()]) for name in names}
    metrics = UpdateMetrics(TASKS, lambda: fetched)
    metrics.steps = list(steps)
    return metrics


def metrics_with(step: int, **bad: Any) -> UpdateMetrics:
    """Four gradient steps at steps 0, 2, 4, 6 of the episode; the one at `step` is `bad`."""
    return metrics_of(
        {
            at: {"critic_loss": [at + 1.0, at + 2.0], "norm": 3.0} | (bad if at == step else {})
            for at in (0, 2, 4, 6)
        }
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_names_step_gradient_step_task_and_metric(value: float) -> None:
    metrics = metrics_with(4, critic_loss=[1.0, value])
    with pytest.raises(TrainingDiverged) as error:
        metrics.check(first_env_step=1000, env_steps_per_step=10, first_update=50)
    message = str(error.value)
    # The third gradient step of the round, in step 4 of its episode.
    assert "critic_loss of push-v3" in message
    assert "env step 1,040 " in message
    assert "gradient step 52)" in message
    assert "try lower learning rates" in message
    assert "\n" not in message


def test_a_metric_of_the_whole_agent_names_no_task() -> None:
    metrics = metrics_with(0, norm=math.nan)
    with pytest.raises(TrainingDiverged, match=r"^norm became") as error:
        metrics.check(0, 10, 0)
    assert not any(task in str(error.value) for task in TASKS)


def test_the_first_bad_step_is_named_and_there_the_metric_of_a_task() -> None:
    nan, good, bad = math.nan, [1.0, 1.0], [math.nan, 1.0]
    metrics = metrics_of(
        {
            0: {"norm": 1.0, "early": good, "late": good},
            1: {"norm": nan, "early": bad, "late": good},
            2: {"norm": nan, "early": bad, "late": bad},
        }
    )
    with pytest.raises(TrainingDiverged, match=r"early of reach-v3 .* env step 10 "):
        metrics.check(0, 10, 0)


def test_finite_metrics_pass_and_their_means_become_rows() -> None:
    metrics = metrics_with(-1)
    metrics.check(0, 10, 0)
    log = RowLog(TASKS)
    metrics.write(log, env_step=80, update=4)
    assert log.rows == [
        ("reach-v3", "train/critic_loss", 80, 4, 4.0),
        ("push-v3", "train/critic_loss", 80, 4, 5.0),
        ("", "train/norm", 80, 4, 3.0),
    ]
    assert pq.read_table(io.BytesIO(log.flush())).num_rows == 3


def test_a_round_without_gradient_steps_has_no_metrics() -> None:
    metrics = metrics_of({})
    metrics.check(0, 10, 0)
    log = RowLog(TASKS)
    metrics.write(log, 0, 0)
    assert log.rows == []
