"""Runs of a sweep on a Ray cluster whose nodes share the results folder (extra `ray`).

A run is a task. When its worker or node dies, Ray starts the task again on another one, where the
run resumes from its checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from suite.config import RunConfig
from suite.estimate import Cost, combined
from suite.messages import Failure, UserError
from suite.options import command_line, parse
from suite.sweeps.child import LOST, STOPPED, Share, carry_out, import_paths, keep_failure
from suite.sweeps.plan import Plan, together

try:
    import ray
except ImportError:
    how = f"{sys.executable} -m pip install -e '.[ray]'"
    raise UserError(f"launcher: ray is not installed; {how}") from None


class RayLauncher:
    """Tasks of the cluster that is found, or of one that is started on this machine."""

    detaches = False

    def __init__(
        self,
        plan: Plan,
        costs: Sequence[Cost],
        cores: int,
        jobs: int = 0,
        gpus_per_run: float = 0.0,
    ) -> None:
        if not ray.is_initialized():
            connect()
        self.cores, self.jobs, self.gpus = cores, jobs, gpus_per_run or 1.0
        self.costs = {c.name(): cost for c, cost in zip(plan.runs, costs, strict=True)}
        self.at_once = self.capacity(plan)
        self.task = ray.remote(max_retries=-1)(portable())
        self.tasks: dict[Any, RunConfig] = {}

    def capacity(self, plan: Plan) -> int:
        """Tasks that the cluster has room for. Raises UserError where it has none for one."""
        there = ray.cluster_resources()
        room = [there.get("CPU", 0) // self.cores]
        if any(config.device == "cuda" for config in plan.runs):
            room.append(there.get("GPU", 0) // self.gpus)
        if min(room) < 1:
            raise UserError(
                f"launcher: the Ray cluster has {there.get('CPU', 0):g} cores and "
                f"{there.get('GPU', 0):g} GPUs, too few for one run; see --cores, --gpus-per-run"
            )
        return max(1, min(int(min(room)), self.jobs or len(together(plan.runs))))

    def has_room(self, config: RunConfig) -> bool:
        """See `Launcher.has_room`; Ray keeps the queue, but for a limit of jobs."""
        return not self.jobs or len(self.tasks) < self.jobs

    def never_fits(self, config: RunConfig) -> str:
        """See `Launcher.never_fits`: no node has the memory that a task asks for."""
        needed = combined(self.costs, config).memory
        nodes = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]]
        if needed <= max(nodes, default=0):
            return ""
        return (
            f"memory: the run needs about {needed / 1e9:.1f} GB, and no node of the cluster has "
            f"more than {max(nodes, default=0) / 1e9:.1f} GB"
        )

    def start(self, config: RunConfig) -> None:
        """See `Launcher.start`."""
        needs: dict[str, Any] = {
            "num_cpus": self.cores,
            "memory": combined(self.costs, config).memory,
            "name": config.name(),
        }
        if config.device == "cuda":
            needs["num_gpus"] = self.gpus
        reference = self.task.options(**needs).remote(
            command_line(config), self.cores, os.getcwd(), import_paths()
        )
        self.tasks[reference] = config

    def ended(self) -> Iterable[tuple[RunConfig, int]]:
        """See `Launcher.ended`."""
        if not self.tasks:
            return
        ready, _ = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        for reference in ready:
            config = self.tasks.pop(reference)
            try:
                status: int = ray.get(reference)
            except ray.exceptions.TaskCancelledError:
                status = STOPPED
            except ray.exceptions.RayTaskError as error:  # what the task itself raised
                status = Failure.status
                keep_failure(config, status, last_lines(error))
            except ray.exceptions.RayError as error:
                status = LOST
                keep_failure(config, status, last_lines(error), "its worker was lost")
            yield config, status

    def stop(self) -> None:
        """See `Launcher.stop`; a cancelled task lets its run save."""
        for reference in self.tasks:
            ray.cancel(reference, force=False)

    def kill(self) -> None:
        """See `Launcher.kill`."""
        for reference in self.tasks:
            ray.cancel(reference, force=True)


def last_lines(error: Exception) -> list[str]:
    """The last lines of what Ray says, in which the cause stands."""
    return str(error).strip().splitlines()[-3:]


def connect() -> None:
    """Joins the cluster of RAY_ADDRESS or of this machine, else starts one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), **quiet)
    except ConnectionError as error:
        if "RAY_ADDRESS" in os.environ:
            raise UserError(f"launcher: no Ray cluster at RAY_ADDRESS: {error}") from None
        ray.init(include_dashboard=False, **quiet)


def portable() -> Callable[[list[str], int, str, list[str]], int]:
    """The task as a function that Ray sends by value: workers need not find this package."""

    def run(arguments: list[str], cores: int, folder: str, paths: list[str]) -> int:
        import os
        import sys

        os.chdir(folder)
        sys.path[:0] = [path for path in paths if path not in sys.path]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        from suite.sweeps.on_ray import carry

        return carry(arguments, cores)

    return run


def carry(arguments: list[str], cores: int) -> int:
    """What a worker does: the run as its child, as on any machine; returns its exit status."""
    sys.stdout.flush()
    return carry_out(parse(arguments[1:]), Share(cores))
