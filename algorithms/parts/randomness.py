"""Random numbers: a generator for each purpose, each from the run's seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(seed: int, purpose: str) -> int:
    """32 bits that depend on the run's seed and the purpose alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    """A generator of its own on the device."""
    return torch.Generator(device).manual_seed(seed_of(seed, purpose))


@contextmanager
def drawing(seed: int, purpose: str) -> Iterator[None]:
    """Within, torch's global generator on the host draws for this purpose; then it is as before.

    For building networks: torch's layers and `nn.init` know no other generator. Weights are drawn
    on the host, so that they do not depend on the device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, purpose))
        yield
