"""Gradients: kept from weights that do not learn, and clipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within, the network passes gradients on to its inputs and computes none of its weights'."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def clip(gradients: list[Tensor], largest: float, groups: int = 1) -> Tensor:
    """Scales gradients in place to a global norm of at most `largest` (0: leaves them alone).

    The gradients' first axis holds this many groups of networks, each with a norm of its own.
    Returns the norms before clipping, [groups].
    """
    if groups == 1:  # on a GPU a few launches for all gradients
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if largest > 0:
            torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
        return norm.view(1)
    parts = [torch.linalg.vector_norm(g.reshape(groups, -1), dim=1) for g in gradients]
    norms: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    if largest > 0:
        scale = (largest / (norms + 1e-6)).clamp(max=1.0)
        for g in gradients:
            # Not repeat_interleave, which asks the host: a CUDA graph must not.
            each = scale.unsqueeze(1).expand(-1, len(g) // groups).reshape(-1)
            g.mul_(each.view(-1, *[1] * (g.dim() - 1)))
    return norms
