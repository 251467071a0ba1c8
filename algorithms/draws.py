"""Random numbers of several seeds side by side, each from a generator of its own.

What a seed draws does not depend on which others it trains with: its generator sees the same calls,
of the same shapes, as in a run of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from algorithms.algorithm import Problem


def generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    """A generator that depends on the seed and the purpose alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "little"))


class Draws:
    """One generator a seed, for one purpose; the first axis of what is drawn is seed-major."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)

    @classmethod
    def of(cls, problem: Problem, purpose: str, device: torch.device | None = None) -> Draws:
        """Those of a problem's seeds, on its device unless another one is named."""
        device = device or problem.device
        return cls([generator(seed, purpose, device) for seed in problem.seeds])

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers in the shape of `like`."""
        result = torch.empty_like(like)
        for part, own in self.parts(result):
            part.normal_(generator=own)
        return result

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers from [0, 1) in the shape of `like`."""
        result = torch.empty_like(like)
        for part, own in self.parts(result):
            part.uniform_(generator=own)
        return result

    def integers(self, high: int, shape: tuple[int, ...]) -> Tensor:
        """Whole numbers from 0 to `high` − 1, of this shape for each seed: [S·shape[0], ...]."""
        drawn = [
            torch.randint(high, shape, generator=own, device=own.device) for own in self.generators
        ]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)

    def parts(self, result: Tensor) -> list[tuple[Tensor, torch.Generator]]:
        """Each seed's part of a tensor, with its generator."""
        return list(zip(result.chunk(len(self.generators)), self.generators, strict=True))
