"""SAC's policy against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from algorithms.draws import Draws
from algorithms.tanh_gaussian import sample_tanh_gaussian
from torch import Tensor, distributions

T, B = 3, 4


def tanh_gaussian(mean: Tensor, log_std: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The action and its log density, by torch.distributions."""
    noise = torch.empty_like(mean).normal_(generator=torch.Generator().manual_seed(seed))
    # The cache spares the inverse, which is inexact where tanh saturates.
    tanh = distributions.TanhTransform(cache_size=1)
    base = distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)
    action = tanh(mean + log_std.exp() * noise)
    return action, distributions.TransformedDistribution(base, [tanh]).log_prob(action)


def test_tanh_gaussian_agrees_with_torch_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    mean = (2 * torch.randn(T, B, 4, generator=random)).double().requires_grad_()
    log_std = (torch.rand(T, B, 4, generator=random) * 4 - 3).double().requires_grad_()
    action, density = sample_tanh_gaussian(mean, log_std, Draws([torch.Generator().manual_seed(5)]))
    expected_action, expected_density = tanh_gaussian(mean, log_std, 5)
    assert density.shape == (T, B)
    for got, wanted in ((action, expected_action), (density, expected_density)):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
        gradients = torch.autograd.grad(got.sum(), [mean, log_std], retain_graph=True)
        references = torch.autograd.grad(wanted.sum(), [mean, log_std], retain_graph=True)
        for a, b in zip(gradients, references, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    both = [
        (a.sum() + 3 * d.square().sum())
        for a, d in ((action, density), tanh_gaussian(mean, log_std, 5))
    ]
    together = [torch.autograd.grad(x, [mean, log_std]) for x in both]
    torch.testing.assert_close(*together, rtol=1e-8, atol=1e-8)


def test_tanh_gaussian_density_is_exact_where_tanh_saturates() -> None:
    mean = torch.full((1, 1, 1), 30.0, requires_grad=True)
    log_std = torch.full((1, 1, 1), -5.0, requires_grad=True)
    action, density = sample_tanh_gaussian(mean, log_std, Draws([torch.Generator().manual_seed(0)]))
    assert action.item() == 1.0
    # log(1 − tanh²u) → log 4 − 2u, which float32 cannot get from 1 − tanh².
    noise = torch.empty(1).normal_(generator=torch.Generator().manual_seed(0)).item()
    u = 30 + math.exp(-5) * noise
    expected = -0.5 * noise**2 + 5 - 0.5 * math.log(2 * math.pi) - (math.log(4) - 2 * u)
    assert density.item() == pytest.approx(expected, rel=1e-5)
    assert all(g.isfinite().all() for g in torch.autograd.grad(density.sum(), [mean, log_std]))


def test_tanh_gaussian_repeats_with_its_generator_and_moves_on() -> None:
    random = torch.Generator().manual_seed(0)
    zero = torch.zeros(1, 2, 4)
    state = random.get_state()
    first, _ = sample_tanh_gaussian(zero, zero, Draws([random]))
    second, _ = sample_tanh_gaussian(zero, zero, Draws([random]))
    random.set_state(state)
    again, _ = sample_tanh_gaussian(zero, zero, Draws([random]))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
