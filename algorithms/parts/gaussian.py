"""SAC's policy: a Gaussian squashed by tanh (arXiv 1801.01290, appendix C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def tanh_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparametrised action tanh(u), u = mean + std·noise, and its log density.

    mean, log_std and standard normal noise are [T, B, A]. Returns the action [T, B, A] and
    log π(a) [T, B], with log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), which is exact where
    tanh saturates.
    """
    u = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - u - functional.softplus(-2 * u))
    return torch.tanh(u), (gaussian - squash).sum(-1)
