"""Adam and AdamW on flat weight vectors: an optimiser's state is a few entries of the learner's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What an algorithm learns, by name; see `MultiTaskSAC.state`."""


@dataclass(frozen=True)
class Adam:
    """Adam (arXiv 1412.6980); with `weight_decay`, AdamW (arXiv 1711.05101)."""

    learning_rate: float
    epsilon: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    """Decoupled decay: a step also takes learning rate × this × weight from every weight."""
    schedule: Callable[[Tensor], Tensor] | None = None
    """Factor on the learning rate, from the number of the step, a scalar tensor that starts at 1;
    torch operations only."""

    def start(self, state: State, name: str) -> None:
        """Adds moments and step count of the vector `state[name]`, all zero."""
        shape, dtype, device = state[name].shape, state[name].dtype, state[name].device
        for moment in ("first_moment", "second_moment"):
            state[f"{name}.{moment}"] = torch.zeros(shape, dtype=dtype, device=device)
        state[f"{name}.steps"] = torch.zeros((), device=device)

    def step(self, state: State, name: str, gradient: Tensor) -> None:
        """One step of `state[name]` against the gradient, in place."""
        weights, steps = state[name], state[f"{name}.steps"] + 1
        first = self.beta1 * state[f"{name}.first_moment"] + (1 - self.beta1) * gradient
        second = self.beta2 * state[f"{name}.second_moment"]
        second = second + (1 - self.beta2) * gradient.square()
        unbiased_first = first / weighed(self.beta1, steps)
        unbiased_second = second / weighed(self.beta2, steps)
        rate = self.learning_rate * (1.0 if self.schedule is None else self.schedule(steps))
        direction = unbiased_first / (unbiased_second.sqrt() + self.epsilon)
        weights.copy_(weights - rate * (direction + self.weight_decay * weights))
        state[f"{name}.first_moment"].copy_(first)
        state[f"{name}.second_moment"].copy_(second)
        state[f"{name}.steps"].copy_(steps)


def weighed(beta: float, steps: Tensor) -> Tensor | float:
    """1 − βⁿ, what a moment's terms weigh after n steps; exact also where βⁿ is near 1."""
    return -torch.expm1(steps * math.log(beta)) if beta > 0 else 1.0


def check_optimisers(optimisers: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises ValueError where one of the names has none, or one that does not step such a state."""
    for name in names:
        if name not in optimisers:
            raise ValueError(f"build_optimisers has none for {name}; keep what super() gives")
    for name, own in optimisers.items():
        if not (hasattr(own, "start") and hasattr(own, "step")):
            kind = f"{type(own).__module__}.{type(own).__name__}"
            raise ValueError(
                f"build_optimisers: {name} has a {kind}, which cannot step a flat vector; give "
                "algorithms.parts.adam.Adam, or what has its start and step"
            )
