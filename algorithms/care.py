"""CARE, contextual attention-based representation learning (Sodhani et al., arXiv 2102.06177).

Several encoders read the observation; attention, from a context that describes the task, mixes what
they put out. Actor and critics read the mixture and the context (`algorithms.encoded`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.encoded import PUBLISHED, Encoded, EncodedSettings
from algorithms.fields import Depth, NotNegative, Positive, Rate
from algorithms.parts.layers import Experts, Init, linear, stacked, zero


@dataclass(frozen=True)
class CARESettings(EncodedSettings):
    """CARE. Defaults are its authors' [CARE: arXiv 2102.06177 and its code, facebookresearch/mtrl]
    but for `temperature_loss`, which is theirs in the preset "published" alone; a re-implementation
    differs [RX: rainx0r/mtrl]. The authors' code leaves an attention of the actor's own as it was
    drawn; here actor and critics share the attention, as the paper has it.
    """

    adam_epsilon: Rate = 1e-8
    """Adam's ε: 1e-8 [CARE], 1e-5 [RX]."""
    gradient_clip: NotNegative = 0.0
    """Largest global gradient norm of each network; 0 turns it off [CARE]; 1 [RX]."""
    clip_critics: Literal["jointly", "separately"] = "separately"
    """The sum of the critics' losses, with a norm each [CARE], or their mean, with one norm over
    all critics [RX]."""

    experts: Depth = 4
    """Encoders that are mixed: 4 in the command that the authors give, 9 by default of their code
    [CARE]; 6 on MT10, 10 on MT50 [RX]."""
    encoder_depth: Depth = 1
    """Hidden layers of each encoder: 1 [CARE], 2 [RX]."""
    attention_temperature: Positive = 1.0
    """What the attention's logits are divided by [CARE, RX]."""
    detach_attention: bool = True
    """Whether no gradient reaches the context through the attention [CARE]; it does [RX]."""


class MixedEncoder(nn.Module):
    """K encoders, mixed by attention to the context."""

    def __init__(self, inputs: int, size: int, init: Init, s: CARESettings) -> None:
        super().__init__()
        dense = partial(linear, weight=init, bias=zero)
        expert = partial(Experts, s.experts, weight=init, bias=zero)
        self.temperature, self.detached = s.attention_temperature, s.detach_attention
        self.encoders = stacked(expert, inputs, *[size] * s.encoder_depth, size)
        self.attention = stacked(dense, size, size, size, s.experts)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[T, B, in] and a context [T, size] → the encoding [T, B, size]."""
        return torch.einsum("tk,ktbd->tbd", self.weights(context), self.encoders(x))

    def weights(self, context: Tensor) -> Tensor:
        """The encoders' shares [T, K]."""
        logits = self.attention(context.detach() if self.detached else context)
        return torch.softmax(logits / self.temperature, -1)


class CARE(Encoded):
    """SAC on a mixture of encoders that a task context attends to."""

    Settings = CARESettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What RX does otherwise than the authors, part of it for all methods.
        "scaling": {
            "experts": lambda tasks: 6 if tasks <= 10 else 10,
            "encoder": "separate",
            "encoder_depth": 2,
            "detach_attention": False,
            "normalise_rewards": False,
            "log_std_bound": "clamp",
            "init": "scaling",
            "adam_epsilon": 1e-5,
            "gradient_clip": 1.0,
            "clip_critics": "jointly",
        },
        "published": PUBLISHED,
    }
    capturable = True

    def encoder_of(self, inputs: int, size: int) -> nn.Module:
        return MixedEncoder(inputs, size, self.weight, self.settings)
