"""Plasticity: how alive and how rich a network's hidden layers are, on a fixed batch.

Every definition names its source. Measured for the actor and both critics, per layer and pooled,
on as many samples for every task set (`probe_batch`), but of the run's own tasks: what differs
between task sets may be what the probe holds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithms.algorithm import NetworkProbe

DORMANT_THRESHOLDS = (0.0, 0.025, 0.1)
"""τ of the dormant fraction: none, ReDo's, and the scaling study's."""
SRANK_DELTA = 0.01
"""δ of srank (Kumar et al., 2021)."""
FEATURE_RANK_EPSILON = 0.01
"""ε of the feature rank (Lyle et al., 2022)."""


def dormancy_scores(activations: Tensor) -> Tensor:
    """E|h_i| / mean_k E|h_k| of each unit, [S, units] → [units]; 0 for a wholly dead layer.

    Sokar et al. (arXiv 2302.12902), definition 3.1.
    """
    strength = activations.abs().mean(0, dtype=torch.float64)
    mean = strength.mean()
    return strength / mean if mean > 0 else torch.zeros_like(strength)


def dormant_fraction(activations: Tensor, threshold: float) -> float:
    """Share of the layer's units whose dormancy score is at most the threshold."""
    return float((dormancy_scores(activations) <= threshold).double().mean())


def singular_values(activations: Tensor) -> Tensor:
    """Singular values of [S, units], largest first, by the smaller Gram matrix in float64.

    The Gram matrix loses values below about 1e-8 of the largest, far under every threshold here.
    """
    h = activations.double()
    gram = h.T @ h if h.shape[0] >= h.shape[1] else h @ h.T
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
    return eigenvalues.clamp(min=0).sqrt().flip(0)


def srank(values: Tensor) -> int:
    """Least k whose largest singular values hold 1 − δ of their sum (Kumar et al., 2021)."""
    total = values.sum()
    if total <= 0:
        return 0
    share = values.cumsum(0) / total
    return int((share < 1 - SRANK_DELTA).sum()) + 1


def effective_rank(values: Tensor) -> float:
    """Exp of the entropy of the normalised singular values (Roy & Vetterli, 2007)."""
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


def feature_rank(values: Tensor, samples: int, epsilon: float = FEATURE_RANK_EPSILON) -> int:
    """Number of singular values σ with σ / √S > ε (Lyle et al., 2022)."""
    return int((values / samples**0.5 > epsilon).sum())


def active_units(activations: Tensor) -> float:
    """Share of (sample, unit) pairs that are not zero."""
    return float((activations != 0).double().mean())


def norm(tensors: Mapping[str, Tensor]) -> float:
    """Euclidean norm of all entries together."""
    return float(sum((t.double().square().sum() for t in tensors.values()), torch.zeros(())) ** 0.5)


def measure(probe: NetworkProbe) -> dict[str, float]:
    """All metrics of one network: `metric/layer`, and `metric/pooled` over its layers.

    Pooled fractions weigh every unit alike; pooled ranks are sums over layers; pooled norms are
    those of all entries together.
    """
    result: dict[str, float] = {}
    units = {layer: h.shape[1] for layer, h in probe.activations.items()}
    fractions = [f"dormant_{tau:g}" for tau in DORMANT_THRESHOLDS] + ["active_units"]
    ranks = ["srank", "effective_rank", "feature_rank"]
    for layer, h in probe.activations.items():
        for tau in DORMANT_THRESHOLDS:
            result[f"dormant_{tau:g}/{layer}"] = dormant_fraction(h, tau)
        result[f"active_units/{layer}"] = active_units(h)
        values = singular_values(h)
        result[f"srank/{layer}"] = srank(values)
        result[f"effective_rank/{layer}"] = effective_rank(values)
        result[f"feature_rank/{layer}"] = feature_rank(values, len(h))
    total = sum(units.values())
    for metric in fractions:
        weighted = sum(result[f"{metric}/{layer}"] * n for layer, n in units.items())
        result[f"{metric}/pooled"] = weighted / total
    for metric in ranks:
        result[f"{metric}/pooled"] = sum(result[f"{metric}/{layer}"] for layer in units)
    for metric, tensors in (
        ("weight_norm", probe.weights),
        ("gradient_norm", probe.gradients),
    ):
        for layer, tensor in tensors.items():
            result[f"{metric}/{layer}"] = norm({layer: tensor})
        result[f"{metric}/pooled"] = norm(tensors)
    return result
