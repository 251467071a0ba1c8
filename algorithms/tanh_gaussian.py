"""SAC's policy: a Gaussian squashed by tanh (arXiv 1801.01290, appendix C)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from algorithms.draws import Draws


class _TanhGaussian(torch.autograd.Function):
    """From mean, log σ and noise n: a = tanh(u) with u = mean + σ n, and log π(a).

    With log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), exact where tanh saturates, and
    derivative −2a, the backward pass is a third of what autograd would do:

        ∂u = (1 − a²) ∂a + 2a ∂log π,   ∂mean = ∂u,   ∂log σ = σ n ∂u − ∂log π.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        offset = log_std.exp() * noise
        pre_tanh = mean + offset
        action = torch.tanh(pre_tanh)
        density = functional.softplus(-2 * pre_tanh).add_(pre_tanh).mul_(2).sub_(log_std)
        density.addcmul_(noise, noise, value=-0.5)
        constant = 0.5 * math.log(2 * math.pi) + 2 * math.log(2)
        ctx.save_for_backward(offset, action)
        return action, density.sum(-1).sub_(constant * mean.shape[-1])

    @staticmethod
    def backward(ctx: Any, by_action: Tensor, by_density: Tensor) -> Any:
        offset, action = ctx.saved_tensors
        by_density = by_density.unsqueeze(-1)
        by_mean = torch.addcmul(by_action, action, by_action * action, value=-1)
        by_mean.addcmul_(action, by_density, value=2)
        return by_mean, torch.addcmul(-by_density, offset, by_mean), None


def sample_tanh_gaussian(mean: Tensor, log_std: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Reparametrised action tanh(u), u ~ N(mean, std), and its log density.

    mean, log_std: [T, B, A]. Returns the action [T, B, A] and log π(a) [T, B].
    """
    noise = draws.normal(mean)
    result: tuple[Tensor, Tensor] = _TanhGaussian.apply(mean, log_std, noise)  # type: ignore[no-untyped-call]
    return result
