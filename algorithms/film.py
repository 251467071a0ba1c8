"""Multi-task SAC on networks whose encoder each task scales and shifts: FiLM (Perez et al., arXiv
1709.07871) as a baseline of CARE's authors (arXiv 2102.06177), and in its later re-implementation.

A task's learned vector says by what each layer of the encoder is multiplied and what is added to
it; the layers that follow read the encoding and the task's context (`algorithms.encoded`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.encoded import PUBLISHED, Context, Encoded, EncodedSettings
from algorithms.fields import Depth
from algorithms.parts.layers import Init, linear, stacked, zero


@dataclass(frozen=True)
class FiLMSettings(EncodedSettings):
    """FiLM. The networks are those of the re-implementation [RX: rainx0r/mtrl, arXiv 2503.05126],
    trained as its MT-SAC is. CARE's authors share one encoder among actor and critics, whose
    factors and shifts are the context itself. The preset "published" has this and their protocol;
    the one published number belongs to it [CARE: arXiv 2102.06177 and its code,
    facebookresearch/mtrl].
    """

    encoder: Literal["shared", "separate"] = "separate"
    normalise_rewards: bool = False
    log_std_bound: Literal["tanh", "clamp"] = "clamp"
    init: Literal["original", "scaling"] = "scaling"

    encoder_depth: Depth = 3
    """Layers of the encoder, the last one linear [CARE, RX]."""
    film_per: Literal["layer", "feature"] = "layer"
    """Whether a layer has one factor and one shift [CARE, RX], or each of its features has."""
    film_init: Literal["he", "identity"] = "he"
    """Initial factors and shifts: random ones around 0, drawn as those of other layers [CARE, RX],
    or 1 and 0 [choice]."""


class ModulatedEncoder(nn.Module):
    """An encoder whose layers the context scales and shifts, by itself or through a network."""

    def __init__(self, inputs: int, size: int, init: Init, s: FiLMSettings) -> None:
        super().__init__()
        dense = partial(linear, weight=init, bias=zero)
        self.features = size if s.film_per == "feature" else 1
        self.film: nn.Module = nn.Identity()
        if s.encoder == "separate":
            self.film = stacked(dense, size, size, size, numbers(size, s))
        sizes = [inputs, *[size] * s.encoder_depth]
        self.layers = nn.ModuleList(dense(*sizes[i : i + 2]) for i in range(s.encoder_depth))
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(s.encoder_depth - 1))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[T, B, in] and a context [T, C] → [T, B, size]."""
        return self.encode(x, self.film(context))

    def encode(self, x: Tensor, film: Tensor) -> Tensor:
        """[T, B, in] → [T, B, size] by the tasks' factors and shifts: [T, layers · 2 · features],
        in each layer its factors, then its shifts.
        """
        pairs = film.view(len(film), len(self.layers), 2, 1, self.features)
        for layer, transform in enumerate(self.layers):
            x = transform(x)
            if layer < len(self.activations):
                x = self.activations[layer](x)
            x = pairs[:, layer, 0] * x + pairs[:, layer, 1]
        return x


def numbers(size: int, s: FiLMSettings) -> int:
    """Factors and shifts of an encoder."""
    return s.encoder_depth * 2 * (size if s.film_per == "feature" else 1)


def begin_at_identity(layers: nn.Module, depth: int) -> None:
    """Makes the last of linear layers put out factors of 1 and shifts of 0, whatever it reads."""
    last = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.view(depth, 2, -1)[:, 0] = 1.0


class FiLM(Encoded):
    """FiLM-conditioned MT-SAC: the task scales and shifts the layers of an encoder."""

    Settings = FiLMSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "encoder": "shared",
            "normalise_rewards": True,
            "log_std_bound": "tanh",
            "init": "original",
            "adam_epsilon": 1e-8,
            "gradient_clip": 0.0,
            "clip_critics": "separately",
            **PUBLISHED,
        }
    }
    capturable = True

    def encoder_of(self, inputs: int, size: int) -> nn.Module:
        encoder = ModulatedEncoder(inputs, size, self.weight, self.settings)
        if self.settings.film_init == "identity" and not self.shared:
            begin_at_identity(encoder.film, self.settings.encoder_depth)
        return encoder

    def trunk_of(self, size: int) -> tuple[int, ...]:
        return (size, size, numbers(size, self.settings)) if self.shared else ()

    def context_of(self, size: int) -> Context:
        context = super().context_of(size)
        if self.settings.film_init == "identity" and self.shared:
            begin_at_identity(context.trunk, self.settings.encoder_depth)
        return context
