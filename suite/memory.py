"""Whether a run fits into memory: one answer for `bench`, for checks before it and for sweeps."""

from __future__ import annotations

import os
from pathlib import Path

from suite.config import RunConfig
from suite.envs import ACTION_SIZE, EVALUATION_ENVS, OBSERVATION_SIZE
from suite.messages import UserError

TRANSITION_BYTES = 4 * (2 * OBSERVATION_SIZE + ACTION_SIZE + 2)
"""A transition in the replay: observation, action, reward, timeout, next observation."""
ENV_BYTES = 3_000_000
"""An environment with its MuJoCo model."""
CGROUPS = Path("/sys/fs/cgroup")


def check_memory(config: RunConfig, have: int, extras: int = 0, networks: int = 0) -> None:
    """`check_bytes` of a run, or of all its seeds where they are trained together."""
    seeds = len(config.each_seed()) if config.execution.batched else 1
    sizes = config.training.buffer_per_task, config.task.envs_per_task
    check_bytes(config.device, have, len(config.tasks), seeds, *sizes, extras, networks)


def check_bytes(
    device: str,
    have: int,
    tasks: int,
    seeds: int,
    buffer_per_task: int,
    envs_per_task: int,
    extras: int = 0,
    networks: int = 0,
) -> None:
    """Raises UserError, with the bytes needed, where `have` bytes of the device are too few.

    `extras` are the bytes that the algorithm adds to a transition, `networks` those of a seed's
    networks with their optimisers; 0 where not known.
    """
    replay = tasks * buffer_per_task * (TRANSITION_BYTES + extras)
    envs = env_bytes(tasks, envs_per_task) if device == "cpu" else 0
    if seeds * (replay + networks + envs) <= have:
        return
    needs = {"the replay": replay, "the networks with their optimisers": networks, "the envs": envs}
    shown = [f"{name} {seeds * size / 1e9:.1f} GB" for name, size in needs.items() if size]
    of_seeds = f" and {seeds} seeds" if seeds > 1 else ""
    where = "this machine" if device == "cpu" else device
    smaller = "--buffer-per-task, --envs-per-task or the widths"
    fewer = ", or train fewer seeds together" if seeds > 1 else ""
    raise UserError(
        f"memory: {tasks} tasks{of_seeds} need for {as_said(shown)}, and {where} has "
        f"{have / 1e9:.1f} GB; make {smaller} smaller{fewer}"
    )


def env_bytes(tasks: int, envs_per_task: int) -> int:
    """Host memory of a run's envs, those of its evaluations among them."""
    return tasks * (envs_per_task + EVALUATION_ENVS) * ENV_BYTES


def as_said(parts: list[str]) -> str:
    """Parts as they are said: a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def host_memory(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process may use: the machine's, or fewer in a container or a cluster's job.

    A limit of any group that holds this one counts, in version 1 and 2 of the kernel's cgroups.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in text(own).splitlines():
        _, kinds, group = [*line.split(":", 2), "", ""][:3]
        if kinds and "memory" not in kinds.split(","):
            continue
        root, name = (
            (cgroups / "memory", "memory.limit_in_bytes") if kinds else (cgroups, "memory.max")
        )
        # In a container the group's own folder may be the root: each level that is there counts.
        path = root / group.strip("/")
        for folder in (path, *path.parents):
            limit = text(folder / name).strip()
            if limit.isdigit():
                limits.append(int(limit))
            if folder == root:
                break
    return min(limits)


def text(path: Path) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
