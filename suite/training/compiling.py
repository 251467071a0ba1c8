"""Whether a run's learner is compiled, and the proof that it then does what its plain lines do."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch
from suite.config import RunConfig
from suite.envs import EVALUATION_ENVS
from suite.messages import UserError, first_line, warn
from suite.training.replay import NEXT, WIDTH, unpack
from suite.training.train import SeedRun, Trainer

Mode = Literal["compiled", "eager"]
"""How the learner's lines are carried out; the two round differently."""
FEWEST_UPDATES = 5_000
"""Gradient steps from which `auto` compiles: in fewer, the compiler takes longer than it saves."""
MOST_VERSIONS = 1024
"""Compiled versions of one function: each seed has its own, and one for each shape."""
TOLERANCE = 1e-2
"""Largest difference of compiled and plain results, relative to the largest entry of each: some
1e-6 in float32, 1e-3 in TF32."""


def mode_of(config: RunConfig, began: str | None) -> Mode:
    """The mode that a run should have: what it began with, else what its configuration says.

    Raises UserError where it is told to go on in another one.
    """
    choice = config.execution.compile
    asked: Mode | None = {"on": "compiled", "off": "eager"}.get(choice)  # type: ignore[assignment]
    if began is not None:
        if asked not in (None, began):
            raise UserError(
                f"compile: this run began {began}, and {choice} would round otherwise; leave "
                f"--compile out, or give {'on' if began == 'compiled' else 'off'}"
            )
        return "compiled" if began == "compiled" else "eager"
    if asked is not None:
        return asked
    updates = config.locksteps // config.training.update_every * config.training.updates_per_step
    return "compiled" if updates >= FEWEST_UPDATES else "eager"


def compile_learners(trainer: Trainer, mode: Mode) -> Mode:
    """Compiles the algorithms of all runs if that is the mode; returns the mode they then have.

    What cannot be compiled, or then does something else, stays plain, with one warning; where the
    configuration says `on`, it is refused with a UserError.
    """
    if mode == "eager":
        return "eager"
    trainer.progress.note("compiling")
    reason = why_not(trainer)
    if reason is None:
        return "compiled"
    name = trainer.config.algorithm
    if trainer.config.execution.compile == "on":
        raise UserError(f"compile: {name} cannot be compiled: {reason}")
    warn(f"{name} runs without torch.compile, and slower: {reason}")
    return "eager"


def why_not(trainer: Trainer) -> str | None:
    """Compiles the algorithms of all runs; None, or why that cannot be."""
    device = trainer.config.device
    # For its kernels on a CPU, for what launches them on a GPU.
    kind, names = ("C++", ("g++", "clang++")) if device == "cpu" else ("C", ("gcc", "clang"))
    if not any(map(shutil.which, names)):
        return f"there is no {kind} compiler ({names[0]})"
    settle(device)
    reason = first_reason(trainer.runs)
    if reason is not None and torch._inductor.config.cpp_wrapper:
        # There are operators that C++ cannot call, and Python can.
        torch._inductor.config.cpp_wrapper = False
        torch.compiler.reset()
        reason = first_reason(trainer.runs)
    return reason


def first_reason(runs: Sequence[SeedRun]) -> str | None:
    """Compiles the algorithms of all runs; None, or why one cannot be, and then none is."""
    for run in runs:
        reason = compile_and_compare(run, runs[0].algorithm)
        if reason is not None:
            for other in runs:
                plain(other.algorithm)
            return reason
    return None


def settle(device: str) -> None:
    """Sets what the compiler keeps for the whole process."""
    # Nothing that it decides by a measurement may decide how sums round.
    torch._inductor.config.deterministic = True
    # What calls the kernels is C++, too: in Python it takes a seventh of a small gradient step.
    torch._inductor.config.cpp_wrapper = device == "cpu"
    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MOST_VERSIONS


def compiled_parts(algorithm: Algorithm) -> dict[str, Any]:
    """The functions that an algorithm has compiled, by name."""
    parts = vars(algorithm).items()
    return {name: part for name, part in parts if hasattr(part, "_torchdynamo_orig_callable")}


def ours(algorithm: Algorithm) -> bool:
    """Whether the algorithm's class is of the package `algorithms`, not a stranger's."""
    return type(algorithm).__module__.partition(".")[0] == "algorithms"


def plain(algorithm: Algorithm) -> None:
    """Takes the compiled functions off an algorithm again."""
    for name in compiled_parts(algorithm):
        delattr(algorithm, name)


def compile_and_compare(run: SeedRun, first: Algorithm) -> str | None:
    """Compiles one algorithm; None, or why it cannot stay so. Its state is as before.

    What the first seed has compiled serves the others where the class is of `algorithms`: it works
    on the state that it is handed. A stranger's hook may read an attribute that differs by seed, so
    that each compiles its own; what is the same comes from the compiler's cache.
    """
    algorithm, config = run.algorithm, run.config
    before = copy.deepcopy(algorithm.state_dict())
    batch = batch_like(run)
    few, many = config.task.envs_per_task, EVALUATION_ENVS
    # As they come in training: views of packed rows.
    packed = batch.observations.new_zeros(len(config.tasks), few, WIDTH)
    packed[..., NEXT] = of_probe(run.probe.observations, few)
    shown = of_probe(run.probe.observations, many)

    def results() -> dict[str, Any]:
        algorithm.load_state_dict(copy.deepcopy(before))
        explored = algorithm.act(packed[..., NEXT], explore=True)
        found: dict[str, Any] = {
            **explored.extras,
            "explore": explored.actions,
            "evaluate": algorithm.act(shown, explore=False).actions,
            **algorithm.update(batch),
        }
        found = {name: value.clone() for name, value in found.items()}
        tensors = algorithm.state_dict().get("tensors", {})
        moments = {k: v.clone() for k, v in tensors.items() if k.endswith("first_moment")}
        return {**found, **moments}

    expected = results()
    try:
        if algorithm is first or not ours(algorithm):
            algorithm.compile()
        else:
            vars(algorithm).update(compiled_parts(first))
        difference = {name: apart(value, expected[name]) for name, value in results().items()}
    except Exception as error:  # whatever stops a compiler, of which the plain lines know nothing
        plain(algorithm)
        algorithm.load_state_dict(before)
        return first_line(error).rstrip(".")
    algorithm.load_state_dict(before)
    # Not by `max`, which passes over NaN.
    wrong = {name: size for name, size in difference.items() if not size <= TOLERANCE}
    if not wrong:
        return None
    plain(algorithm)
    worst = max(wrong, key=lambda name: (math.isnan(wrong[name]), wrong[name]))
    return f"its {worst} differs by {wrong[worst]:.1g}"


def apart(mine: Tensor, plain_result: Tensor) -> float:
    """Largest difference, relative to the largest entry; of whole numbers and flags, such as packed
    routes, the share that differs: rounding may decide between two that are all but equal.

    NaN where one of the two is not finite and the other not the same.
    """
    if not mine.is_floating_point():
        return float((mine != plain_result).double().mean())
    a, b = mine.double(), plain_result.double()
    same = (a == b) | (a.isnan() & b.isnan())
    largest = b.abs().nan_to_num(0.0, posinf=0.0).max().clamp(min=1e-12)
    difference = float((a - b).masked_fill(same, 0.0).abs().max() / largest)
    return difference if math.isfinite(difference) else math.nan


def batch_like(run: SeedRun) -> Batch:
    """Transitions of the probe in the shape and the layout of a training batch."""
    samples, probe = run.config.training.batch_per_task, run.probe
    rows = probe.rewards.new_zeros(len(probe.rewards), samples, WIDTH)
    for place, part in zip(unpack(rows, {})[:5], probe[:5], strict=True):
        place.copy_(of_probe(part, samples))
    # What is remembered is decided for as many envs as act.
    seen = of_probe(probe.observations, run.config.task.envs_per_task)
    extras = run.algorithm.act(seen, explore=True).extras
    own = {name: of_probe(extras[name], samples) for name in run.algorithm.extras}
    return unpack(rows, own)


def of_probe(values: Tensor, count: int) -> Tensor:
    """So many samples of each task of [T, N, ...], over and over where there are fewer."""
    return values[:, torch.arange(count, device=values.device) % values.shape[1]]
