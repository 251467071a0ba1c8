"""Runs of a sweep on this machine: as many at once as its cores, memory and GPUs allow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from suite.config import RunConfig
from suite.estimate import Cost, combined, sizes_in_memory
from suite.memory import check_memory, host_memory
from suite.messages import UserError
from suite.sweeps.child import Child, Share, keep_failure
from suite.sweeps.plan import Plan, together

USABLE = 0.9
"""Share of the memory that is given away."""


class Machine(NamedTuple):
    """What there is to share."""

    cores: int
    memory: int
    """Bytes."""
    gpus: tuple[tuple[str, int], ...] = ()
    """CUDA_VISIBLE_DEVICES and memory in bytes of each."""


class Running(NamedTuple):
    """A run and what it holds."""

    child: Child
    cost: Cost
    gpu: str


class LocalLauncher:
    """Children of this process. The cores are divided evenly among the runs of the whole plan, so
    that a run has the same threads, and rows, however often the sweep is resumed.
    """

    detaches = False

    def __init__(
        self,
        plan: Plan,
        costs: Sequence[Cost],
        machine: Machine,
        jobs: int = 0,
        gpus_per_run: float = 0.0,
    ) -> None:
        self.machine = machine
        self.at_once, self.cores = division(machine, len(together(plan.runs)), jobs)
        self.per_gpu = int(1 / gpus_per_run) if gpus_per_run else self.at_once
        self.costs = {c.name(): cost for c, cost in zip(plan.runs, costs, strict=True)}
        self.running: dict[str, Running] = {}
        self.refused: list[RunConfig] = []
        """Runs that could not be started."""

    def has_room(self, config: RunConfig) -> bool:
        """See `Launcher.has_room`; a run that is alone always has."""
        if not self.running:
            return True
        mine = combined(self.costs, config)
        used = sum(r.cost.memory for r in self.running.values())
        return (
            len(self.running) < self.at_once
            and used + mine.memory <= USABLE * self.machine.memory
            and (config.device != "cuda" or self.gpu_for(mine) is not None)
        )

    def never_fits(self, config: RunConfig) -> str:
        """See `Launcher.never_fits`."""
        gpus = [memory for _, memory in self.machine.gpus]
        have = self.machine.memory if config.device == "cpu" else max(gpus, default=0)
        try:
            check_memory(config, have, *sizes_in_memory(config))
        except UserError as error:
            return str(error)
        return ""

    def gpu_for(self, cost: Cost) -> str | None:
        """The GPU with the fewest runs that has room for one more; None where none has."""
        held: dict[str, list[Cost]] = {gpu: [] for gpu, _ in self.machine.gpus}
        for running in self.running.values():
            if running.gpu in held:
                held[running.gpu].append(running.cost)
        fitting = [
            (len(held[gpu]), gpu)
            for gpu, memory in self.machine.gpus
            if not held[gpu]
            or (
                len(held[gpu]) < self.per_gpu
                and sum(c.gpu_memory for c in [*held[gpu], cost]) <= USABLE * memory
            )
        ]
        return min(fitting)[1] if fitting else None

    def start(self, config: RunConfig) -> None:
        """See `Launcher.start`."""
        cost = combined(self.costs, config)
        gpu = (self.gpu_for(cost) or "") if config.device == "cuda" else ""
        try:
            child = Child(config, Share(self.cores, gpu))
        except (OSError, UserError) as error:
            # This run's folder or its threads are in the way, not those of the others.
            keep_failure(config, UserError.status, [str(error)])
            self.refused.append(config)
            return
        self.running[config.name()] = Running(child, cost, gpu)

    def ended(self) -> Iterable[tuple[RunConfig, int]]:
        """See `Launcher.ended`."""
        while self.refused:
            yield self.refused.pop(), UserError.status
        for name, running in list(self.running.items()):
            status = running.child.status()
            if status is not None:
                del self.running[name]
                yield running.child.config, status

    def stop(self) -> None:
        """See `Launcher.stop`."""
        for running in self.running.values():
            running.child.stop()

    def kill(self) -> None:
        """See `Launcher.kill`."""
        for running in self.running.values():
            running.child.kill()


def division(machine: Machine, runs: int, jobs: int = 0) -> tuple[int, int]:
    """Runs at once, and cores for each."""
    at_once = max(1, min(jobs or machine.cores, runs))
    return at_once, max(1, machine.cores // at_once)


def this_machine(with_gpus: bool) -> Machine:
    """What this process may use. Raises UserError where there should be a GPU and is none."""
    cores = len(os.sched_getaffinity(0))
    return Machine(cores, host_memory(), gpus() if with_gpus else ())


def gpus() -> tuple[tuple[str, int], ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, asked of the driver: torch would take memory."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        raise UserError("device: 'cuda' is not there (nvidia-smi finds no GPU)") from None
    found = [[cell.strip() for cell in line.split(",")] for line in listed.stdout.splitlines()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = [name.strip() for name in (visible or "").split(",") if name.strip()]
    chosen = wanted or [index for index, _, _ in found]
    known = tuple(
        # A GPU that shares the host's memory says none of its own.
        (name, int(memory) * 2**20 if memory.isdecimal() else host_memory())
        for name in chosen
        for index, uuid, memory in found
        if name == index or uuid.startswith(name)
    )
    if not known:
        raise UserError(
            f"device: CUDA_VISIBLE_DEVICES={visible} names no GPU that nvidia-smi finds"
        )
    return known
