"""MT-SAC, the scaled baseline: plain networks, actor and critic sized apart (arXiv 2503.05126)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from algorithms.networks import MLP
from algorithms.sac import CRITICS, MultiTaskSAC
from algorithms.settings import MTSACSettings


class MTSAC(MultiTaskSAC):
    """Multi-task SAC on MLPs; `multi_head` makes it the study's MTMHSAC."""

    Settings = MTSACSettings
    seeds_together = True
    capturable = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {"steps": lambda tasks: tasks * 2_000_000}
    }

    def build(self, init: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """See `MultiTaskSAC.build`; heads start at U(±1e-3) and U(±3e-3)."""
        s, observation, action = (
            self.settings,
            self.problem.observation_size,
            self.problem.action_size,
        )
        actor = MLP(
            1,
            self.tasks,
            observation,
            2 * action,
            s.actor_width,
            s.actor_depth,
            s.multi_head,
            1e-3,
            init,
        )
        critic = MLP(
            CRITICS,
            self.tasks,
            observation + action,
            1,
            s.critic_width,
            s.critic_depth,
            s.multi_head,
            3e-3,
            init,
        )
        return actor, critic
