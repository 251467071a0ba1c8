"""Gradients on genotypes: between generations an individual's mixing weights learn, MEGA's second
open question (arXiv 2502.13569).

An individual starts from what its genes decode to, w. The actor's gradient steps also move a shift
s of the logarithms of its weights, w·eˢ / Σ w·eˢ in each segment, and it acts, is evaluated and is
judged with the shifted weights. The steps are Adam's, for gradients by wiring are thousands of
times smaller than a change of a gene. As a generation ends, every shift is 0 again, and Adam
begins anew. What had been learned

- is forgotten with `baldwin`: it has shown in the fitness alone (Baldwin, 1896; Hinton & Nowlan,
  1987);
- is written into the genes with `lamarck`, before anyone is culled or has children: the nearest
  genes, by `encode`.

Without evolution no generation ends, and weights go on learning through the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from algorithms.fields import Share
from algorithms.genetics import Bits, gene_strengths, genes_of
from algorithms.modules.routing import as_table, routes

Floats = NDArray[np.float64]
LARGEST = 20.0
"""A shift counts up to here, either way: further on a weight is 0 or 1 in float32."""
STRICTLY = 1e-9
"""Genes change for a squared distance that is smaller by more than this."""


@dataclass(frozen=True)
class GradientSettings:
    """Whether mixing weights learn within a generation."""

    genotype_gradient: Literal["none", "baldwin", "lamarck"] = "none"
    """Whether the actor's mixing weights learn by gradient within a generation, and whether what
    they learn is encoded back into the genes (lamarck) or lost (baldwin); the T·N_p·n(n+1)/2
    numbers that learn are, like genes, not counted as parameters [choice: an open question of
    MEGA]."""
    genotype_learning_rate: Share = 3e-3
    """Adam's learning rate of the logarithms of the mixing weights, of which a gene's next value is
    about 1 away [choice]."""


def learning(settings: GradientSettings) -> bool:
    """Whether mixing weights learn: at a rate of 0 there is nothing that does."""
    return settings.genotype_gradient != "none" and settings.genotype_learning_rate > 0


class LearnedMixing(nn.Module):
    """Shifts of the logarithms of all individuals' mixing weights, 0 at birth."""

    per_task = ("shift",)

    def __init__(self, tasks: int, population: int, modules: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(tasks, population, routes(modules)))
        """Gene by gene, segment after segment, as genotypes have them."""

    def forward(self, table: Tensor, individuals: Tensor, segments: Tensor) -> Tensor:
        """Decoded tables [T, B, d, d] of the individuals [T, B] → tables with what they learned.

        `segments` [T, d] says which segment fills a row. With a shift of 0 not one bit changes.
        """
        own = self.shift.gather(1, individuals[..., None].expand(-1, -1, self.shift.shape[-1]))
        depth = table.shape[-1]
        rows = segments[:, None, :, None].expand(*table.shape)
        shift = as_table(own.clamp(-LARGEST, LARGEST), 0.0)[..., :depth].gather(-2, rows)
        mixed, empty = table * shift.exp(), table.sum(-1, keepdim=True) == 0
        gained = (mixed.sum(-1, keepdim=True) + empty) / (table.sum(-1, keepdim=True) + empty)
        return mixed / gained


def segments_of_rows(stages: list[int], depth: int) -> Tensor:
    """The segment, from 0, that fills each row of a table of this depth, [T, depth].

    Rows that a genotype leaves empty name the segment that would be theirs.
    """
    return torch.tensor([[*range(depth - 1), stage - 1] for stage in stages])


# Back to genes ----------------------------------------------------------------------------------


def log_weights(bits: Bits, shift: Floats, settings: Any) -> Floats:
    """Logarithms of the mixing weights of a genotype with its shift [at least genes], up to a
    constant in each segment, [genes].
    """
    genes = genes_of(bits, settings.gene_bits, settings.bit_order)
    return np.log(gene_strengths(genes, settings.decoding)) + shift[: len(genes)]


def encode(logarithms: Floats, before: Bits, settings: Any) -> Bits:
    """The genotype whose mixing weights are nearest to those with these logarithms, [genes].

    Segment by segment, in the geometry of shares (Aitchison, 1982): the squared distance of w and v
    is Σ (log w − log v − c)² with the best c, so that logarithms count up to a constant. Where
    others are not nearer the genes `before` stay.
    """
    bits_each = settings.gene_bits
    levels = np.log(gene_strengths(np.arange(2**bits_each), settings.decoding))
    genes = genes_of(before, bits_each, settings.bit_order).copy()
    start, segment = 0, 1
    while start < len(genes):
        own = slice(start, start + segment)
        found = nearest(logarithms[own], levels)
        gain = distance(levels[genes[own]], logarithms[own])
        if gain - distance(levels[found], logarithms[own]) > STRICTLY:
            genes[own] = found
        start, segment = start + segment, segment + 1
    places = np.arange(bits_each)
    if settings.bit_order == "msb_first":
        places = places[::-1]
    return (genes[:, None] >> places & 1).astype(np.uint8).ravel()


def nearest(logarithms: Floats, levels: Floats) -> NDArray[np.int64]:
    """The genes of one segment, [k], whose `levels` [G], ascending, are nearest to the logarithms.

    For a given c each gene is the one whose level is nearest to its logarithm + c, and only changes
    where c passes the middle between two levels: every choice that can be best is tried.
    """
    middles = (levels[1:] + levels[:-1]) / 2
    turns = np.unique(middles[:, None] - logarithms)
    constants = np.concatenate([[turns[0] - 1], (turns[1:] + turns[:-1]) / 2, [turns[-1] + 1]])
    choices = np.searchsorted(middles, logarithms + constants[:, None])
    return choices[np.argmin(distance(levels[choices], logarithms))]


def distance(levels: Floats, logarithms: Floats) -> Floats:
    """Squared Aitchison distance of shares with these logarithms [..., k]."""
    differences = levels - logarithms
    return np.square(differences - differences.mean(-1, keepdims=True)).sum(-1)
