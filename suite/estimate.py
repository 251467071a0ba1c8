"""What a run will take, before it has begun: seconds, memory and disk, to a factor of about two.

Time is an environment step's cost times their number, plus the floating-point operations of the
gradient steps over what a core or a GPU does of them. Measured speed replaces it as soon as there
is some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

import torch

from algorithms.algorithm import ParameterCounts, Problem
from suite.config import RunConfig
from suite.memory import env_bytes
from suite.runs.state import State
from suite.sizes import CannotCount, Size, size
from suite.training.replay import Extras, Replay

CORE_FLOPS = 100e9
"""Useful float32 operations a second of one core in a gradient step."""
GPU_FLOPS = 200e12
"""The same of a GPU, in TF32. With `UPDATE_SECONDS` they give what MT-SAC's steps took on an H200,
at widths 400 to 4096 and to a tenth."""
UPDATE_SECONDS = {"cpu": 2e-3, "cuda": 4e-4}
"""What a gradient step costs at any size."""
ENV_STEP_SECONDS = 350e-6
"""One environment step of the exact engine on one of several cores, MT10 and MT50."""
START_SECONDS = 12.0
"""Loading, building the environments and the goals."""
PROCESS_BYTES = 700_000_000
"""Host memory of a run without its replay."""
WORKER_BYTES = 150_000_000
"""Host memory of an environment process."""
GPU_BYTES = 1_500_000_000
"""GPU memory of a run without replay and weights: context, kernels, activations."""


class Cost(NamedTuple):
    """What a run takes."""

    seconds: float
    memory: int
    """Host memory, bytes."""
    shared: int
    """What of it seeds that are trained together have once."""
    gpu_memory: int
    """GPU memory, bytes; 0 on the CPU."""
    disk: int
    """Largest size of the run's directory while it trains, bytes."""
    kept: int
    """Its size when it is done, bytes."""


def size_of(config: RunConfig) -> Size:
    """Parameter counts and extras of a run's algorithm, counted once for all seeds."""
    task = config.task
    problem = Problem(
        config.tasks, task.envs_per_task, horizon=task.horizon, locksteps=config.locksteps
    )
    return size(config.algorithm, config.settings, problem)


def cost(config: RunConfig, cores: int) -> Cost:
    """The cost of a run that has this many cores."""
    counts, extras = size_of(config)
    cpu = config.device == "cpu"
    weights = 4 * (3 * counts.actor + 4 * counts.critic)
    tasks, capacity = len(config.tasks), config.training.buffer_per_task
    # A host gives memory as the replay fills; a GPU gives all of it at once.
    rows = min(capacity, collected(config)) if cpu else capacity
    data = Replay.bytes(tasks, rows, extras) + network_bytes(config, counts) + weights
    # Training and evaluation have envs and worker processes of their own.
    envs = env_bytes(tasks, config.task.envs_per_task)
    shared = PROCESS_BYTES + 2 * cores * WORKER_BYTES
    return Cost(
        seconds=START_SECONDS + training_seconds(config, counts, cores),
        memory=shared + envs + (data if cpu else 0),
        shared=shared,
        # Three copies of the state while a gradient step is recorded and compared.
        gpu_memory=0 if cpu else GPU_BYTES + data + 4 * weights,
        disk=checkpoint_bytes(config, extras, counts),
        kept=weights + 2_000_000,
    )


def collected(config: RunConfig) -> int:
    """Transitions of each task that a run makes."""
    return config.locksteps * config.task.envs_per_task


def checkpoint_bytes(config: RunConfig, extras: Extras, counts: ParameterCounts) -> int:
    """Upper estimate of what the checkpoints of a run occupy, in bytes.

    The replay once; weights, two moments and targets three times: two checkpoints are kept while
    a third is written.
    """
    state = 3 * 4 * (3 * counts.actor + 4 * counts.critic)
    rows = min(config.training.buffer_per_task, collected(config))
    return int(1.25 * Replay.bytes(len(config.tasks), rows, extras)) + state + 50_000_000


def network_bytes(config: RunConfig, counts: ParameterCounts) -> int:
    """Weights, gradients and Adam's two moments of all networks, and the targets' weights; where
    the tasks' gradients are combined, each task's.
    """
    combines = getattr(config.settings, "combines", lambda _: False)
    apart: int = sum(count for name, count in counts._asdict().items() if combines(name))
    return 4 * (4 * counts.actor + 5 * counts.critic + len(config.tasks) * apart)


def sizes_in_memory(config: RunConfig) -> tuple[int, int]:
    """Bytes that the algorithm adds to a transition, and those of its networks.

    0 both where it cannot be counted without memory, as a user's may not: building it will tell.
    Raises UserError for settings that the algorithm refuses.
    """
    try:
        counts, extras = size_of(config)
    except CannotCount:
        return 0, 0
    own = sum(torch.Size(shape).numel() * kind.itemsize for shape, kind in extras.values())
    return own, network_bytes(config, counts)


def combined(costs: Mapping[str, Cost], config: RunConfig) -> Cost:
    """What a run takes, or all seeds that it is trained together with; `costs` are by name."""
    own = [costs[run.name()] for run in config.each_seed()]
    shared = own[0].shared
    return Cost(
        seconds=max(cost.seconds for cost in own),
        memory=shared + sum(cost.memory - cost.shared for cost in own),
        shared=shared,
        gpu_memory=sum(cost.gpu_memory for cost in own),
        disk=sum(cost.disk for cost in own),
        kept=sum(cost.kept for cost in own),
    )


def training_seconds(config: RunConfig, counts: ParameterCounts, cores: int) -> float:
    """Seconds of training and evaluation."""
    c, tasks = config, len(config.tasks)
    updates = max(0, c.locksteps - c.training.random_steps / c.task.envs_per_task)
    updates *= c.training.updates_per_step / c.training.update_every
    # Policy: targets 1 pass, its own loss 1 and 2 back. Critics: targets 1, their loss 1 and 2
    # back, the policy's loss 1 and 1 back. Two operations a weight and pass.
    passes = 4 * counts.actor + 6 * counts.critic
    operations = 2 * passes * tasks * c.training.batch_per_task
    speed = CORE_FLOPS * cores if c.device == "cpu" else GPU_FLOPS
    update = UPDATE_SECONDS[c.device.partition(":")[0]] + operations / speed
    early, last = (c.evaluated_episodes(final) for final in (False, True))
    episodes = (min(c.evaluation.evaluations, c.rounds) - 1) * early + last
    steps = collected(c) * tasks + episodes * tasks * c.task.horizon
    return updates * update + steps * ENV_STEP_SECONDS / cores


def seconds_left(state: State, expected: Cost) -> float:
    """Seconds that a run still takes: at its measured speed where there is one."""
    if state.phase == "done":
        return 0.0
    if state.steps_per_second > 0:
        return state.steps_left / state.steps_per_second
    return expected.seconds * (1 - state.share)


def sweep_seconds(states: Sequence[State], expected: Sequence[Cost], at_once: int) -> float:
    """Seconds that a sweep still takes with so many runs at once.

    Runs without a measured speed are expected to differ from the estimate as the others do.
    """
    measured = [
        seconds_left(s, e) / (e.seconds * (1 - s.share))
        for s, e in zip(states, expected, strict=True)
        if s.steps_per_second > 0 and s.share < 1
    ]
    factor = median(measured) if measured else 1.0
    left = [
        seconds_left(s, e) * (1.0 if s.steps_per_second > 0 else factor)
        for s, e in zip(states, expected, strict=True)
    ]
    return max(sum(left) / max(at_once, 1), max(left, default=0.0))
