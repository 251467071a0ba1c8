"""States of several seeds: joined along the first axis of every tensor, and taken apart again.

All that an algorithm of S seeds holds has a first axis that is a multiple of S, the first seed's
part first; single numbers, such as Adam's count of steps, are the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def part_of(state: Any, index: int, seeds: int) -> Any:
    """One seed's part of nested dicts and lists of tensors, as tensors of their own."""
    if seeds == 1:
        return state
    if isinstance(state, dict):
        return {key: part_of(value, index, seeds) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(part_of(value, index, seeds) for value in state)
    if isinstance(state, Tensor) and state.dim():
        # A view would be saved with all that it is a view of.
        return state.chunk(seeds)[index].clone()
    return state


def joined(states: Sequence[Any]) -> Any:
    """Inverse of `part_of`: the states of all seeds, in order, as one."""
    first = states[0]
    if len(states) == 1:
        return first
    if isinstance(first, dict):
        return {key: joined([state[key] for state in states]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(joined(values) for values in zip(*states, strict=True))
    if isinstance(first, Tensor) and first.dim():
        return torch.cat(list(states))
    return first
