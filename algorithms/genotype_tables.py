"""Populations as tensors: the mixing weights of every individual, and who is fittest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithms.genetics import Population, decode


def decoded(populations: Sequence[Population], settings: Any) -> Tensor:
    """Mixing weights of every individual, [T, N_p, n, n] for n modules, on the host.

    Modules beyond a stage weigh nothing: a recorded or compiled step, which has one shape, stays
    the one that was compared when populations grow.
    """
    s = settings
    tables = [
        [decode(i.bits, s.gene_bits, s.modules, s.decoding, s.bit_order) for i in p.individuals]
        for p in populations
    ]
    return torch.from_numpy(np.array(tables)).float()


def fittest(populations: Sequence[Population]) -> Tensor:
    """Each task's fittest individual, [T]."""
    return torch.tensor([p.individuals.index(p.elite) for p in populations])


def of_individuals(tables: Tensor, individuals: Tensor) -> Tensor:
    """Tables [T, N_p, n, n] of the individuals [T, B], [T, B, n, n]."""
    tasks = torch.arange(len(tables), device=individuals.device)
    return tables[tasks[:, None], individuals]


def keep(owner: Any, name: str, value: Tensor, device: torch.device) -> None:
    """Sets an attribute on the device, in its place if it has one of this shape."""
    before = getattr(owner, name, None)
    if before is not None and before.shape == value.shape:
        before.copy_(value)
    else:
        setattr(owner, name, value.to(device))
