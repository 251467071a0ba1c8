"""Adam and AdamW on a flat vector against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from algorithms.parts.adam import Adam, State


@pytest.mark.parametrize("beta1", [0.9, 0.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("schedule", [None, lambda step: 1 / step])
def test_steps_are_those_of_torch(weight_decay: float, schedule, beta1: float) -> None:  # type: ignore[no-untyped-def]
    random = torch.Generator().manual_seed(0)
    state: State = {"w": torch.randn(2, 5, generator=random, dtype=torch.float64)}
    ours = Adam(1e-2, 1e-3, beta1, weight_decay=weight_decay, schedule=schedule)
    ours.start(state, "w")
    # Counted in float64 here, so that the comparison can be as tight.
    state["w.steps"] = state["w.steps"].double()
    weights = nn.Parameter(state["w"].clone())
    betas = (beta1, 0.999)
    theirs = torch.optim.AdamW([weights], 1e-2, betas, eps=1e-3, weight_decay=weight_decay)
    for step in range(1, 51):
        gradient = torch.randn(2, 5, generator=random, dtype=torch.float64)
        ours.step(state, "w", gradient)
        weights.grad = gradient
        theirs.param_groups[0]["lr"] = 1e-2 * (schedule(step) if schedule else 1.0)
        theirs.step()
    torch.testing.assert_close(state["w"], weights.detach(), rtol=1e-12, atol=1e-12)
    moments = theirs.state[weights]
    torch.testing.assert_close(state["w.first_moment"], moments["exp_avg"])
    torch.testing.assert_close(state["w.second_moment"], moments["exp_avg_sq"])
    assert state["w.steps"] == 50


def test_what_gets_no_gradient_stays_without_decay() -> None:
    state: State = {"w": torch.tensor([1.0, 0.0])}
    adam = Adam(1e-2, weight_decay=0.1)
    adam.start(state, "w")
    for _ in range(3):
        adam.step(state, "w", torch.tensor([1.0, 0.0]))
    assert state["w"][0] < 1
    assert state["w"][1] == 0, "the fill between parameters must stay zero"


def test_the_bias_correction_is_right_in_float32_after_a_million_steps() -> None:
    state: State = {"w": torch.zeros(1)}
    adam = Adam(1.0, 0.0)
    adam.start(state, "w")
    state["w.steps"].fill_(1e6)
    state["w.first_moment"].fill_(2.0)
    state["w.second_moment"].fill_(4.0)
    before: Tensor = state["w"].clone()
    adam.step(state, "w", torch.full((1,), 2.0))
    torch.testing.assert_close(before - state["w"], torch.ones(1))
