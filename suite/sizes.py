"""Widths at which an algorithm has a given number of parameters: comparisons at equal size.

Networks are counted as they are built, on torch's meta device, where tensors have shapes and no
memory. A width is found by bisection, so counts must grow with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from algorithms import algorithm_names, entry, load
from algorithms.algorithm import Algorithm, ParameterCounts, Problem
from suite.config import RunConfig
from suite.messages import UserError, choose
from suite.presets import preset

TOLERANCE = 0.01
"""Largest relative difference at which two sizes count as equal."""
WIDEST = 2**17
"""Widths beyond this are not searched."""
NETS = ("actor", "critic", "total")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}

Settings = Any
"""An algorithm's frozen dataclass of fields."""


class Target(NamedTuple):
    """Wanted parameter counts; None leaves a network as it is."""

    actor: int | None = None
    critic: int | None = None
    """Both online critics together."""
    total: int | None = None
    """Of actor and critics at one width for both."""


class StayOnMeta(TorchFunctionMode):
    """Leaves a tensor without data where it is when it is sent to another device."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def without_memory(algorithm: str, settings: Settings, tasks: Sequence[str]) -> Algorithm:
    """The algorithm with weights that have shapes only. Raises UserError where that fails."""
    build = load(entry(algorithm).path)
    try:
        with torch.device("meta"), StayOnMeta():
            return build(settings, Problem(tuple(tasks)))
    except (RuntimeError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"match: {algorithm} cannot be counted without memory ({reason}); its constructor "
            "must not read the values of tensors"
        ) from None


@cache
def count(algorithm: str, settings: Settings, tasks: tuple[str, ...]) -> ParameterCounts:
    """Trained parameters of the algorithm with these settings."""
    return without_memory(algorithm, settings, tasks).parameter_counts()


def target(text: str, config: RunConfig, preset_name: str) -> Target:
    """What `--match` stands for: an algorithm, 4M, actor=1M, critic=2M or actor=1M+critic=2M.

    An algorithm stands for its actor's and its critics' size at the preset and tasks.
    """
    if "=" in text:
        wanted: dict[str, int] = {}
        for part in text.split("+"):
            net, _, value = part.partition("=")
            if net not in NETS or net in wanted:
                raise UserError(choose("match", net, NETS, "actor=…, critic=…, total=…, each once"))
            wanted[net] = number(value)
        if "total" in wanted and len(wanted) > 1:
            raise UserError(f"match: {text!r} gives total and a part of it; give one of them")
        return Target(**wanted)
    if text[:1].isdigit():
        return Target(total=number(text))
    if text not in algorithm_names() and ":" not in text:
        forms = f"{', '.join(algorithm_names())}, package.module:Class, 4M, actor=1M, critic=2M"
        raise UserError(choose("match", text, algorithm_names(), forms))
    counts = count(text, preset(preset_name, text, config.task.tasks).settings, config.tasks)
    return Target(counts.actor, counts.critic)


def number(text: str) -> int:
    """4M, 1.5M, 400k or 691022 as a whole number. Raises UserError for anything else."""
    found = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([kKMGB]?)", text)
    value = round(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if value < 1:
        raise UserError(f"match: {text!r} is not a parameter count; write 691022, 400k, 1.5M or 1G")
    return value


def matched(config: RunConfig, text: str, preset_name: str) -> RunConfig:
    """The configuration with the widths at which its counts are the target's.

    Raises UserError, saying what can be reached, where a count is not within the tolerance.
    """
    wanted = target(text, config, preset_name)
    for net, value in wanted._asdict().items():
        if value is not None:
            config = sized(config, net, value)
    return config


def sized(config: RunConfig, net: str, wanted: int) -> RunConfig:
    """The configuration at the width of `net` whose count is nearest to the wanted one."""
    names = [f"{part}_width" for part in (("actor", "critic") if net == "total" else (net,))]
    missing = [name for name in names if not hasattr(config.settings, name)]
    if missing:
        raise UserError(
            f"match: {config.algorithm} has no setting {missing[0]}; an algorithm is matched by "
            "its settings actor_width and critic_width"
        )

    def at(width: int) -> RunConfig:
        return replace(config, settings=replace(config.settings, **dict.fromkeys(names, width)))

    known: dict[int, int] = {}

    def count_at(width: int) -> int:
        if width not in known:
            counts = count(config.algorithm, at(width).settings, config.tasks)
            known[width] = getattr(counts, net)
        return known[width]

    width = nearest(count_at, wanted)
    if abs(count_at(width) - wanted) > TOLERANCE * wanted:
        reachable = [w for w in (width - 1, width, width + 1) if 1 <= w <= WIDEST]
        shown = ", ".join(f"width {w} has {count_at(w):,}" for w in reachable)
        raise UserError(
            f"match: no {net} of {config.algorithm} has {wanted:,} parameters within "
            f"{TOLERANCE:.0%}; {shown}"
        )
    return at(width)


def nearest(count_at: Callable[[int], int], wanted: int) -> int:
    """The width, 1 to `WIDEST`, whose count is nearest; the smaller one of two.

    `count_at` must not fall with the width.
    """
    high = 1
    while high < WIDEST and count_at(high) < wanted:
        high *= 2
    low = high // 2
    # count_at(low) < wanted <= count_at(high), but at the ends of the range.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_at(middle) < wanted else (low, middle)
    return min((w for w in (low, high) if w), key=lambda w: (abs(count_at(w) - wanted), w))
