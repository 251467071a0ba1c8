"""Live tracking: the rows of a run, in short, on a dashboard while the run goes on.

The rows in the run's directory remain the truth; a tracker is sent a summary of them and nothing is
ever read back. TensorBoard, Weights & Biases and Trackio stand behind one small interface. A
tracker that breaks in the middle of a run says so once and never stops it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from suite.config import RunConfig
from suite.messages import UserError, first_line, warn
from suite.runs.provenance import read_sessions
from suite.runs.rows import RowLog

Row = tuple[str, str, int, int, float]
"""Task, metric, env step, update, value: as in `RowLog.rows`."""
INSTALL = {
    "tensorboard": f"{sys.executable} -m pip install -c constraints.txt tensorboard",
    "wandb": f"{sys.executable} -m pip install wandb",
    "trackio": f"{sys.executable} -m pip install trackio",
}
"""How to get the package of each tracker."""


class Tracker(Protocol):
    """Somewhere that shows numbers."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Shows named values at an environment step; steps do not decrease."""

    def close(self) -> None:
        """Sends what is left."""


class Nowhere:
    """Shows nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard:
    """Event files in a folder; see them with `tensorboard --logdir results/runs`.

    Events after `step`, where the run resumes, are marked as superseded: they come again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run logs its steps from the one after the checkpoint on.
        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of wandb, continued under the same id; `WANDB_MODE=offline` needs no network.

    W&B's own step may not go back, as a resumed run does; so `env_step` is logged as a value and
    made the horizontal axis. What is logged twice is equal, for a run resumes to the bit.
    """

    def __init__(self, config: RunConfig, folder: Path, identity: str) -> None:
        module = importlib.import_module("wandb")
        self.run = module.init(
            project=os.environ.get("WANDB_PROJECT", "mtscale"),
            name=config.name(),
            id=identity,
            resume="allow",
            dir=str(folder),
            config=config.identity(),
        )
        self.run.define_metric("env_step")
        self.run.define_metric("*", step_metric="env_step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({**values, "env_step": step})

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A run of Trackio, continued under the same name."""

    def __init__(self, config: RunConfig, identity: str) -> None:
        module = importlib.import_module("trackio")
        self.run = module.init(
            project=os.environ.get("TRACKIO_PROJECT", "mtscale"),
            name=identity,
            resume="allow",
            config=config.identity(),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class Guarded:
    """A tracker whose first failure is said in one line, and whose later ones cannot come."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self.tracker, self.name = tracker, name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        try:
            self.tracker.log(step, values)
        except Exception as error:
            self.give_up(error)

    def close(self) -> None:
        try:
            self.tracker.close()
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Says why, and tracks no more."""
        self.tracker = Nowhere()
        warn(
            f"{self.name} failed ({first_line(error)}); the run goes on without it and its rows "
            "are complete"
        )


class TrackedLog(RowLog):
    """A row log that also sends a summary of each step to a tracker, once the step is over."""

    def __init__(self, tasks: Sequence[str], tracker: Tracker) -> None:
        super().__init__(tasks)
        self.tracker, self.sent = tracker, 0

    def per_task(self, metric: str, step: int, update: int, values: Iterable[float]) -> None:
        self.send_before(step)
        super().per_task(metric, step, update, values)

    def whole(self, metric: str, step: int, update: int, value: float) -> None:
        self.send_before(step)
        super().whole(metric, step, update, value)

    def flush(self) -> bytes:
        self.send()
        self.sent = 0
        return super().flush()

    def send_before(self, step: int) -> None:
        """Sends what has been logged unless it is of this step, which may not be over."""
        if self.rows and self.rows[-1][2] != step:
            self.send()

    def send(self) -> None:
        """Sends the rows that the tracker has not seen, all of one step."""
        rows = self.rows[self.sent :]
        self.sent = len(self.rows)
        if rows:
            self.tracker.log(rows[-1][2], summary(rows))


def summary(rows: Iterable[Row]) -> dict[str, float]:
    """What a dashboard shows of one step's rows.

    Training metrics as means over tasks, plasticity pooled over layers, evaluations per task as
    `metric/task`. MEGA's weights, hundreds of curves, are left to the rows.
    """
    training: dict[str, list[float]] = defaultdict(list)
    values: dict[str, float] = {}
    for task, metric, _, _, value in rows:
        if metric.startswith("train/"):
            training[metric].append(value)
        elif metric.startswith("plasticity/"):
            if metric.endswith("/pooled"):
                values[metric] = value
        elif not metric.startswith("weight/"):
            values[f"{metric}/{task}" if task else metric] = value
    return {name: sum(v) / len(v) for name, v in training.items()} | values


def check_tracker(name: str) -> None:
    """Raises UserError where a tracker is asked for by name and its package is not installed."""
    if name in INSTALL and importlib.util.find_spec(name) is None:
        raise UserError(
            f"track: {name} is not installed; {INSTALL[name]}, or leave --track out (TensorBoard "
            "where it is installed) or --track none"
        )


def open_tracker(config: RunConfig, folder: Path, step: int) -> Tracker:
    """The tracker that the configuration names, for a run that continues at `step`.

    Raises UserError where one that is asked for by name does not start; TensorBoard, the default,
    is then left out with a warning.
    """
    asked = config.execution.track
    name = asked
    if asked == "auto":
        name = "tensorboard" if importlib.util.find_spec("tensorboard") else "none"
    if name == "none":
        return Nowhere()
    try:
        return Guarded(start(name, config, folder, step), name)
    except Exception as error:
        if asked == "auto":
            warn(f"no live tracking, {name}: {first_line(error)}")
            return Nowhere()
        raise UserError(
            f"track: {name} does not start: {first_line(error)}; --track none goes without it"
        ) from None


def start(name: str, config: RunConfig, folder: Path, step: int) -> Tracker:
    """One tracker by name."""
    if name == "tensorboard":
        return TensorBoard(folder / "tensorboard", step)
    # With its first start, so that a run that was forced to begin again is another one there.
    first, *_ = read_sessions(folder / "provenance.json")
    began = "".join(c for c in first.get("started", "") if c.isdigit())[:14]
    identity = f"{config.name()}-{began}".replace("+", "-")[-120:]
    if name == "trackio":
        return Trackio(config, identity)
    return WeightsAndBiases(config, folder, identity)
