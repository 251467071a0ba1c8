"""Plasticity metrics against closed forms, a worked example and NumPy's SVD."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algorithms.algorithm import NetworkProbe
from suite.training.plasticity import (
    DORMANT_THRESHOLDS,
    active_units,
    dormancy_scores,
    dormant_fraction,
    effective_rank,
    feature_rank,
    measure,
    norm,
    singular_values,
    srank,
)


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def orthogonal(rows: int, columns: int, scale: float = 1.0) -> Tensor:
    """Orthogonal columns of length `scale`: all singular values are `scale`."""
    return scale * torch.linalg.qr(random_matrix(rows, columns).double())[0]


seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 24))


def test_dormancy_of_the_redo_definition_worked_by_hand() -> None:
    # E|h| of the units: 2, 1, 0, 0.05; their mean is 0.7625, so the scores are these.
    h = torch.tensor([[2.0, -1.0, 0.0, 0.1], [-2.0, 1.0, 0.0, 0.0]])
    expected = [2 / 0.7625, 1 / 0.7625, 0.0, 0.05 / 0.7625]  # …, 0.0656
    assert dormancy_scores(h).tolist() == pytest.approx(expected, rel=1e-6)
    assert [dormant_fraction(h, tau) for tau in (0.0, 0.025, 0.1)] == [0.25, 0.25, 0.5]
    assert active_units(h) == 5 / 8


def test_a_threshold_counts_the_units_that_lie_on_it() -> None:
    h = torch.tensor([[0.5, 1.5]])  # scores 0.5 and 1.5
    assert dormant_fraction(h, 0.5) == 0.5
    assert dormant_fraction(h, 0.499) == 0.0


def test_a_wholly_dead_layer_is_dormant_at_every_threshold_and_has_rank_0() -> None:
    h = torch.zeros(10, 4)
    assert all(dormant_fraction(h, tau) == 1 for tau in DORMANT_THRESHOLDS)
    values = singular_values(h)
    assert (srank(values), effective_rank(values), feature_rank(values, 10)) == (0, 0.0, 0)
    assert active_units(h) == 0


@pytest.mark.parametrize(("samples", "units"), [(50, 8), (8, 50), (30, 30)])
def test_singular_values_are_numpys(samples: int, units: int) -> None:
    h = random_matrix(samples, units)
    reference = np.linalg.svd(h.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_values(h).numpy(), reference, rtol=1e-9)


def test_ranks_of_numpys_singular_values_are_those_of_the_definitions() -> None:
    h = random_matrix(200, 40) * torch.logspace(0, -2, 40)
    sigma = np.linalg.svd(h.double().numpy(), compute_uv=False)
    share = sigma / sigma.sum()
    values = singular_values(h)
    assert srank(values) == np.argmax(np.cumsum(share) >= 0.99) + 1
    assert effective_rank(values) == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert feature_rank(values, 200) == (sigma / math.sqrt(200) > 0.01).sum()
    # All three see another part of the spectrum: none of them may stand for another.
    assert len({srank(values), round(effective_rank(values)), feature_rank(values, 200)}) == 3


@pytest.mark.parametrize("units", [1, 7, 32])
def test_orthogonal_units_have_full_rank(units: int) -> None:
    values = singular_values(orthogonal(64, units, scale=8.0))
    assert effective_rank(values) == pytest.approx(units)
    assert srank(values) == units
    # σ/√S = 8/8 = 1 each.
    assert feature_rank(values, 64, epsilon=0.99) == units
    assert feature_rank(values, 64, epsilon=1.01) == 0


def test_srank_leaves_out_the_last_hundredth() -> None:
    # Of 1000 equal singular values 990 hold 99 %; a tolerance for the rounding of the sum.
    assert srank(torch.ones(1000, dtype=torch.float64)) in (990, 991)
    assert srank(torch.tensor([0.5, 0.3, 0.15, 0.045, 0.005])) == 4


def test_identical_units_have_rank_1() -> None:
    column = random_matrix(50, 1)
    values = singular_values(column @ torch.ones(1, 12))
    assert srank(values) == 1
    assert effective_rank(values) == pytest.approx(1, abs=1e-3)
    assert feature_rank(values, 50) == 1


def test_dead_units_add_no_rank() -> None:
    h = orthogonal(64, 8)
    padded = torch.cat([h, torch.zeros(64, 24)], 1)
    for metric in (srank, effective_rank):
        assert metric(singular_values(padded)) == pytest.approx(metric(singular_values(h)))
    assert dormant_fraction(padded, 0.0) == 0.75


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.integers(-12, 12))
def test_scaling_a_layer_changes_neither_dormancy_nor_effective_rank_nor_srank(
    seed: int, size: tuple[int, int], exponent: int
) -> None:
    h = torch.relu(random_matrix(*size, seed))
    scaled = h * 2.0**exponent  # powers of two scale without rounding
    for tau in DORMANT_THRESHOLDS:
        assert dormant_fraction(scaled, tau) == dormant_fraction(h, tau)
    values, others = singular_values(h), singular_values(scaled)
    assert effective_rank(others) == pytest.approx(effective_rank(values), rel=1e-6)
    assert srank(others) == srank(values)
    assert active_units(scaled) == active_units(h)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes)
def test_metrics_lie_within_their_bounds_and_grow_with_the_threshold(
    seed: int, size: tuple[int, int]
) -> None:
    h = torch.relu(random_matrix(*size, seed))
    fractions = [dormant_fraction(h, tau) for tau in DORMANT_THRESHOLDS]
    assert 0 <= fractions[0] <= fractions[1] <= fractions[2] <= 1
    values, most = singular_values(h), min(size)
    assert 0 <= srank(values) <= most
    assert effective_rank(values) <= most * (1 + 1e-9)
    assert 0 <= feature_rank(values, size[0]) <= most


@settings(max_examples=30, deadline=None)
@given(seeds, sizes)
def test_the_order_of_samples_and_units_does_not_matter(seed: int, size: tuple[int, int]) -> None:
    h = torch.relu(random_matrix(*size, seed))
    random = torch.Generator().manual_seed(seed)
    mixed = h[torch.randperm(size[0], generator=random)]
    mixed = mixed[:, torch.randperm(size[1], generator=random)]
    assert sorted(dormancy_scores(mixed).tolist()) == pytest.approx(
        sorted(dormancy_scores(h).tolist())
    )
    assert effective_rank(singular_values(mixed)) == pytest.approx(
        effective_rank(singular_values(h)), rel=1e-5
    )


def test_norms_are_those_of_all_entries_together() -> None:
    assert norm({"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 4.0]])}) == 5.0
    assert norm({}) == 0.0


def test_measure_reports_each_layer_and_pools_by_units() -> None:
    live, dead = orthogonal(16, 2).float(), torch.zeros(16, 6)
    probe = NetworkProbe(
        {"1": live, "2": dead},
        {"w": torch.tensor([3.0]), "v": torch.tensor([4.0])},
        {"w": torch.tensor([0.0]), "v": torch.tensor([2.0])},
    )
    result = measure(probe)
    assert result["dormant_0/1"] == 0
    assert result["dormant_0/2"] == 1
    assert result["dormant_0.1/pooled"] == 6 / 8
    assert result["active_units/pooled"] == 2 / 8
    assert result["srank/pooled"] == 2
    assert result["effective_rank/pooled"] == pytest.approx(2)
    assert result["weight_norm/pooled"] == 5
    assert result["gradient_norm/v"] == 2
    metrics = [f"dormant_{tau:g}" for tau in DORMANT_THRESHOLDS]
    metrics += ["active_units", "srank", "effective_rank", "feature_rank"]
    expected = {f"{m}/{layer}" for m in metrics for layer in ("1", "2", "pooled")}
    norms = {f"{m}/{k}" for m in ("weight_norm", "gradient_norm") for k in ("w", "v", "pooled")}
    assert result.keys() == expected | norms
