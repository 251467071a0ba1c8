"""MT-SAC, the scaled baseline: plain networks, actor and critic sized apart (arXiv 2503.05126)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from algorithms.fields import Depth, Width
from algorithms.parts.layers import MLP
from algorithms.sac import MultiTaskSAC, SACSettings


@dataclass(frozen=True)
class MTSACSettings(SACSettings):
    """Multi-task SAC on plain networks whose actor and critic scale separately [scaling]."""

    actor_width: Width = 400
    """Units of each hidden layer of the actor [scaling]."""
    actor_depth: Depth = 3
    """Hidden layers of the actor [scaling]."""
    critic_width: Width = 400
    """Units of each hidden layer of each critic [scaling]."""
    critic_depth: Depth = 3
    """Hidden layers of each critic [scaling]."""
    multi_head: bool = True
    """One linear output head per task (MTMHSAC) instead of one for all (MTSAC) [scaling]."""


class MTSAC(MultiTaskSAC):
    """Multi-task SAC on MLPs; `multi_head` makes it the study's MTMHSAC."""

    Settings = MTSACSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {"steps": lambda tasks: tasks * 2_000_000}
    }
    capturable = True

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        size = (s.actor_width, s.actor_depth, s.multi_head)
        return MLP(self.tasks, p.observation_size, 2 * p.action_size, *size, head_bound=1e-3)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        size = (s.critic_width, s.critic_depth, s.multi_head)
        return MLP(self.tasks, p.observation_size + p.action_size, 1, *size, head_bound=3e-3)
