"""A tiny run of any method, as the suite would make it, with made-up transitions.

Global generators start alike at every step, so that a method that draws from one still repeats:
that it does has a point of its own.
"""

from __future__ import annotations

import copy
import inspect
import random
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithms import presets_of
from algorithms.algorithm import Algorithm, Batch, Outcomes, Problem

T, N, B, H = 3, 2, 8, 20
"""Tasks, envs and samples per task, steps of an episode."""
WIDTHS = {"actor_width": 24, "critic_width": 24}
"""Where a method has these fields, as it needs them to be matched in size."""
STEPS = 4


class Broken(Exception):
    """A point of the contract has failed; says what to change."""


def demand(holds: bool | Tensor, change: str) -> None:
    """Raises `Broken` unless it holds."""
    if not holds:
        raise Broken(change)


def told(error: BaseException, kind: type[Algorithm]) -> str:
    """What was raised, and where in the method's own file, if it was there."""
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    own = inspect.getsourcefile(kind)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
    place = f" ({Path(own).name}:{lines[-1]})" if own and lines else ""
    return f"{type(error).__name__}: {reason}{place}"


@dataclass
class Trial:
    """A method, as every point builds it anew."""

    kind: type[Algorithm]
    run_fields: Collection[str] | None = None
    """Fields of a run that presets may set beside the method's own; None does not ask."""
    preset_names: Collection[str] | None = None
    """Presets that there are; None does not ask."""
    run: tuple[Any, Problem] | None = None
    """Settings and problem of a run, to be tried instead of small ones."""
    batch: int = B
    """Transitions of each task in a batch."""

    def settings(self) -> Any:
        """The method's own small ones: its `smoke` preset, and narrow networks."""
        if self.run is not None:
            return self.run[0]
        known = {f.name for f in fields(self.kind.Settings)}
        small = {k: v for k, v in presets_of(self.kind, "smoke").items() if k in known}
        values = {k: v(T) if callable(v) else v for k, v in small.items()}
        return replace(
            self.kind.Settings(), **values | {k: v for k, v in WIDTHS.items() if k in known}
        )

    def problem(self, seed: int = 0, tasks: int = T, envs: int = N) -> Problem:
        """A tiny one."""
        if self.run is not None:
            return self.run[1]
        names = tuple(f"task-{i}" for i in range(tasks))
        # So short that what happens a few times in a run happens within the steps that are tried.
        return Problem(names, envs, seed, horizon=H, locksteps=4 * STEPS * H)

    def build(self, seed: int = 0, tasks: int = T, envs: int = N, **changes: Any) -> Algorithm:
        """A method from scratch; `changes` are of its settings."""
        with alike(0):
            settings = replace(self.settings(), **changes)
            return self.kind(settings, self.problem(seed, tasks, envs))


@contextmanager
def alike(seed: int) -> Iterator[None]:
    """Within, every global generator starts at this seed; then it is as before."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def global_states() -> list[Any]:
    """Where they stand."""
    _, keys, place, *_ = np.random.get_state(legacy=True)  # noqa: NPY002
    return [torch.get_rng_state(), torch.from_numpy(np.array(keys)), place, random.getstate()]


# What a run does with a method -----------------------------------------------------------------


def made_up(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers that depend on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def transitions(
    algorithm: Algorithm, seed: int, tasks: int = T, envs: int = N, samples: int = B
) -> Batch:
    """Made-up transitions, with the method's own actions and extras."""
    observations = made_up(tasks, samples, 39, seed=10 * seed)
    decisions = [algorithm.act(part, explore=True) for part in torch.split(observations, envs, 1)]
    return Batch(
        observations,
        torch.cat([d.actions for d in decisions], 1).detach(),
        made_up(tasks, samples, seed=10 * seed + 1).abs(),
        made_up(tasks, samples, 39, seed=10 * seed + 2),
        (made_up(tasks, samples, seed=10 * seed + 3) > 1).float(),
        {name: torch.cat([d.extras[name] for d in decisions], 1) for name in algorithm.extras},
    )


def outcomes(seed: int, tasks: int = T, envs: int = N) -> Outcomes:
    """Made-up results of a round of episodes."""
    rewards = made_up(tasks, envs, H, seed=10 * seed + 4).abs()
    returns = rewards.double().sum(-1)
    return Outcomes(returns, (returns > returns.mean()).double(), rewards, returns.mean(1) / H)


def lived(algorithm: Algorithm, steps: range, isolated: bool = True) -> list[Any]:
    """What is seen of a method that acts, learns and ends episodes: actions, extras, metrics."""
    seen: list[Any] = []
    for step in steps:
        with alike(step) if isolated else nullcontext():
            seen.append(one_step(algorithm, step))
    return seen


def one_step(algorithm: Algorithm, step: int) -> list[Any]:
    """A round of a run: due updates, exploring, a gradient step, the end of the episodes; random
    ones have ended before the first.
    """
    if step == 0:
        algorithm.end_random_episodes(outcomes(step))
    batch = transitions(algorithm, step)
    due, algorithm.due_updates = min(algorithm.due_updates, 3), 0
    for _ in range(due):
        algorithm.update(batch)
    metrics = {k: v.clone() for k, v in algorithm.update(batch).items()}
    algorithm.end_episodes(outcomes(step))
    mode = algorithm.act(batch.observations, explore=False).actions
    return [batch.actions.clone(), dict(batch.extras), metrics, mode.detach().clone()]


def leaves(state: Any, path: str = "") -> dict[str, Any]:
    """What nested dicts and lists end in, by path."""
    if isinstance(state, Mapping | list | tuple):
        pairs = state.items() if isinstance(state, Mapping) else enumerate(state)
        return {k: v for key, value in pairs for k, v in leaves(value, f"{path}/{key}").items()}
    return {path: state}


def differs(one: Any, other: Any) -> str | None:
    """The first path at which two states are not the same to the bit."""
    a, b = leaves(one), leaves(other)
    if a.keys() != b.keys():
        return min(a.keys() ^ b.keys())
    for path, value in a.items():
        if isinstance(value, Tensor):
            same = isinstance(b[path], Tensor) and alike_in_bits(value, b[path])
        else:
            same = bool(value == b[path])
        if not same:
            return path
    return None


def alike_in_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN being equal to NaN."""
    if not (a.is_floating_point() and b.is_floating_point()):
        return torch.equal(a, b)
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a[~a.isnan()], b[~b.isnan()])


def state_of(algorithm: Algorithm) -> Any:
    """A copy of all that it says of itself."""
    return copy.deepcopy(algorithm.state_dict())
