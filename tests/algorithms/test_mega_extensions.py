"""MEGA's extensions together: off they leave no trace, on they are one compiled function."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from evolutions import play
from extensions import EXTENSIONS

from algorithms.algorithm import Algorithm, Batch
from algorithms.genetics import Evolution
from algorithms.mega import MEGASettings
from algorithms.trial import Trial, differs, lived, state_of


@pytest.mark.parametrize(
    ("growth", "digest"), [("reinitialise", "3a4ec0d030d54475"), ("extend", "200b0a21d337d59b")]
)
def test_by_default_evolution_is_what_it_was_to_the_bit(growth: str, digest: str) -> None:
    """Digests of the whole state, from the code before there was any extension."""
    small: dict[str, Any] = {"population": 3, "episodes_per_individual": 2, "window": 2}
    e = Evolution(MEGASettings(**small, modules=6, growth=growth), 4, 2, 0)
    random = np.random.default_rng(7)
    for _ in range(60):
        returns, successes = random.integers(0, 4, (4, 2)), random.integers(0, 2, (4, 2))
        play(e, returns, successes)
    assert hashlib.sha256(e.state_dict()["json"].encode()).hexdigest()[:16] == digest


def test_what_is_off_leaves_no_trace(
    build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    mega: Any = build("mega")
    d2r: Any = build("d2r")
    assert mega.state.keys() == d2r.state.keys()
    assert mega.generators.keys() - d2r.generators.keys() == {"genotypes"}
    assert mega.stateful.keys() == {"evolution", "watch"} and not mega.extras
    given = mega.given("update", 6, torch.Generator())
    assert given.keys() == {"next_noise", "noise", "heat", "critic_routes", "table"}
    names = [name for name in mega.report(collect(mega)) if name.startswith("critic")]
    assert not names
    fields = {"cluster_distance": 1.0, "growth_cost": 0.0, "recovery_generations": 1}
    plain, watched = (lived(build("mega", **own), range(4)) for own in ({}, fields))
    assert differs(plain, watched) is None, "warnings change nothing that is learned"


def test_acting_and_learning_are_one_graph_each() -> None:
    """Also while populations grow; what it does is what the plain lines do, to the bit."""
    kind = EXTENSIONS[-1]  # everything at once
    seen = []
    for compiled in (False, True):
        algorithm: Any = Trial(kind, None).build()
        if compiled:
            for name in ("learn", "decide"):
                whole = torch.compile(
                    getattr(algorithm, name), fullgraph=True, dynamic=False, backend="eager"
                )
                setattr(algorithm, name, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that tasks' gradients take a pass for each task
            seen.append([*lived(algorithm, range(2)), state_of(algorithm)])
    assert differs(*seen) is None
