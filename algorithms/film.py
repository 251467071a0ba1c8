"""Multi-task SAC on networks whose encoder each task scales and shifts: FiLM (Perez et al., arXiv
1709.07871) as a baseline of CARE's authors (arXiv 2102.06177), in its later re-implementation.

A task's learned vector says by what each layer of the encoder is multiplied and what is added to
it; the layers that follow read the encoding and that vector. Actor and critics are such networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.fields import Depth, Range, Width
from algorithms.parts.layers import (
    TaskTable,
    he_uniform,
    linear,
    scaled,
    stacked,
    standard_normal,
    uniform,
    zero,
)
from algorithms.sac import MultiTaskSAC, SACSettings


@dataclass(frozen=True)
class FiLMSettings(SACSettings):
    """FiLM. The networks are those of the re-implementation [RX: rainx0r/mtrl, arXiv 2503.05126],
    trained as its MT-SAC is; CARE's authors, whose code leaves more open, shared one encoder among
    actor and critics. Their protocol is in the preset "published" [CARE: arXiv 2102.06177].
    """

    actor_width: Width = 400
    """Units of each hidden layer behind the actor's encoder; the encoder scales with it [CARE,
    RX]."""
    actor_depth: Depth = 3
    """Hidden layers behind the actor's encoder [CARE, RX]."""
    critic_width: Width = 400
    """Units of each hidden layer behind each critic's encoder; the encoder scales with it [CARE,
    RX]."""
    critic_depth: Depth = 3
    """Hidden layers behind each critic's encoder [CARE, RX]."""
    encoder_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.125
    """Width of encoder and task vector over that of the layers behind them: 50 / 400 [CARE, RX]."""
    encoder_depth: Depth = 3
    """Layers of the encoder, the last one linear [CARE, RX]."""
    film_per: Literal["layer", "feature"] = "layer"
    """Whether a layer has one factor and one shift [CARE, RX], or each of its features has."""
    film_init: Literal["he", "identity"] = "he"
    """Initial factors and shifts: random ones around 0, as a He-uniform layer gives them [RX], or
    1 and 0 [choice]."""


class ModulatedNetwork(nn.Module):
    """An encoder, modulated by the task, and the hidden layers and head behind it."""

    def __init__(
        self,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        head_bound: float,
        s: FiLMSettings,
    ) -> None:
        super().__init__()
        dense, head = partial(linear, weight=he_uniform, bias=zero), uniform(head_bound)
        size, layers = scaled(s.encoder_ratio, width), s.encoder_depth
        self.features = size if s.film_per == "feature" else 1
        self.table = TaskTable(tasks, size, standard_normal)
        self.film = stacked(dense, size, size, size, layers * 2 * self.features)
        if s.film_init == "identity":
            last = self.film[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.view(layers, 2, -1)[:, 0] = 1.0
        self.encoder = nn.ModuleList(
            dense(inputs if layer == 0 else size, size) for layer in range(layers)
        )
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(layers - 1))
        self.torso = stacked(dense, 2 * size, *[width] * depth)
        self.head = nn.Sequential(nn.ReLU(), linear(width, outputs, head, head))

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        task = torch.relu(self.table())
        encoding = self.encode(x, self.film(task))
        task = task[:, None].expand(-1, x.shape[1], -1)
        output: Tensor = self.head(self.torso(torch.cat([encoding, task], -1)))
        return output

    def encode(self, x: Tensor, film: Tensor) -> Tensor:
        """[T, B, in] → [T, B, size] by the tasks' factors and shifts: [T, layers · 2 · features],
        in each layer its factors, then its shifts.
        """
        pairs = film.view(len(film), len(self.encoder), 2, 1, self.features)
        for layer, transform in enumerate(self.encoder):
            x = transform(x)
            if layer < len(self.activations):
                x = self.activations[layer](x)
            x = pairs[:, layer, 0] * x + pairs[:, layer, 1]
        return x


class FiLM(MultiTaskSAC):
    """FiLM-conditioned MT-SAC: the task scales and shifts the layers of an encoder."""

    Settings = FiLMSettings
    # CARE's authors also normalise each environment's rewards, which is left out here.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "adam_epsilon": 1e-8,
            "gradient_clip": 0.0,
            "clip_critics": "separately",
            "horizon": 150,
            "steps": lambda tasks: tasks * 2_000_000,
            "random_steps": 1500,
            "eval_episodes": 1,
            "final_episodes": 1,
        }
    }
    capturable = True

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size, 2 * p.action_size, s.actor_width, s.actor_depth
        return ModulatedNetwork(self.tasks, *sizes, 1e-3, s)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size + p.action_size, 1, s.critic_width, s.critic_depth
        return ModulatedNetwork(self.tasks, *sizes, 3e-3, s)
