"""SAC's policy against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from algorithms.parts.gaussian import tanh_gaussian

T, B = 3, 4


def reference(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The action and its log density, by torch.distributions."""
    # The cache spares the inverse, which is inexact where tanh saturates.
    tanh = distributions.TanhTransform(cache_size=1)
    base = distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)
    action = tanh(mean + log_std.exp() * noise)
    return action, distributions.TransformedDistribution(base, [tanh]).log_prob(action)


def test_it_agrees_with_torch_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    mean = (2 * torch.randn(T, B, 4, generator=random)).double().requires_grad_()
    log_std = (torch.rand(T, B, 4, generator=random) * 4 - 3).double().requires_grad_()
    noise = torch.randn(T, B, 4, generator=random, dtype=torch.float64)
    ours, theirs = tanh_gaussian(mean, log_std, noise), reference(mean, log_std, noise)
    assert ours[1].shape == (T, B)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)

    def gradients(action: Tensor, density: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(action.sum() + 3 * density.square().sum(), [mean, log_std])

    torch.testing.assert_close(gradients(*ours), gradients(*theirs), rtol=1e-8, atol=1e-8)


def test_the_density_is_exact_where_tanh_saturates() -> None:
    mean = torch.full((1, 1, 1), 30.0, requires_grad=True)
    log_std = torch.full((1, 1, 1), -5.0, requires_grad=True)
    action, density = tanh_gaussian(mean, log_std, torch.tensor([[[0.7]]]))
    assert action.item() == 1.0
    # log(1 − tanh²u) → log 4 − 2u, which float32 cannot get from 1 − tanh².
    u = 30 + math.exp(-5) * 0.7
    expected = -0.5 * 0.7**2 + 5 - 0.5 * math.log(2 * math.pi) - (math.log(4) - 2 * u)
    assert density.item() == pytest.approx(expected, rel=1e-5)
    assert all(g.isfinite().all() for g in torch.autograd.grad(density.sum(), [mean, log_std]))
