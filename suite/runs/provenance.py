"""What ran: versions, machine and whatever decides how sums round, one entry for each session."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from suite.config import RunConfig
from suite.process import mkl_was_given_avx512, processor
from suite.runs.files import NOT_A_FILE, unreadable
from suite.runs.method_code import code_of

PACKAGES = ("torch", "metaworld", "mujoco", "gymnasium", "numpy", "scipy", "mtscale")
Session = dict[str, Any]


def read_sessions(path: Path) -> list[Session]:
    """The sessions that a provenance.json tells of.

    Raises ValueError where it is damaged, and Failure where it cannot be read.
    """
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_bytes())
        if found and all(isinstance(entry["threads"], int) for entry in found):
            return list(found)
    except (ValueError, KeyError, TypeError, *NOT_A_FILE):
        pass
    except OSError as error:
        raise unreadable(path, error) from None
    raise ValueError(f"{path} is damaged")


def session(
    config: RunConfig,
    threads: int,
    seeds: Sequence[int],
    learner: str,
    kernels: str = "torch",
    env_step: int = 0,
) -> Session:
    """Where and with what a session runs, from an env step on; `learner` is how it carries out a
    gradient step, and `kernels` whose code it has for that.
    """
    versions = {name: version(name) for name in PACKAGES}
    method = code_of(config.algorithm)
    return {
        "env_step": env_step,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounding": {
            **versions,
            "gcc": compiler_version(),
            "processor": cpu(),
            "gpu": torch.cuda.get_device_name(config.device) if config.device != "cpu" else "none",
            "precision": config.precision,
            "threads": threads,
            "learner": learner,
            "kernels": kernels,
            # On a CPU each seed is computed as if alone; a GPU's kernels know the others.
            **({"seeds together": len(seeds)} if config.device != "cpu" else {}),
        },
        **({"method": method} if method else {}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "device": config.device,
        "engine": config.execution.engine,
        "workers": config.execution.workers,
        "threads": threads,
        "seeds_together": list(seeds),
    }


def rounds_otherwise(first: Session, now: Session) -> str:
    """A line where sums of this session may not round as those of the first did, else none."""
    before: Mapping[str, Any] = first.get("rounding", {})
    changes = [
        f"{name} {before[name]}, now {value}"
        for name, value in now["rounding"].items()
        if name in before and before[name] != value
    ]
    if not changes:
        return ""
    return (
        f"this run began with {'; '.join(changes)}: sums may round otherwise, so that its rows "
        "from here on may not be to the bit those of an undisturbed run"
    )


def version(package: str) -> str:
    """The installed version; of this suite with its git commit where it is run from a clone."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    return f"{found}+{commit()}" if package == "mtscale" and commit() else found


def commit() -> str:
    """The clone's commit, marked where files differ from it; empty outside a clone."""
    return said_by("git", "describe", "--always", "--dirty", "--abbrev=12")


def compiler_version() -> str:
    """That of the C compiler which compiled learners ask for, or "none"."""
    return said_by("gcc", "-dumpfullversion") or "none"


def said_by(*command: str) -> str:
    """What a command prints that is given beside this file; empty where it does not answer."""
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def cpu() -> str:
    """The CPU's name and how it multiplies, on which bit-for-bit results may depend."""
    name = processor().get("model name") or platform.processor()
    return f"{name}, MKL given AVX-512" if mkl_was_given_avx512() else name
