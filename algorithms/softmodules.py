"""Soft Modularization, multi-task RL with soft modules (Yang et al., arXiv 2003.13661).

Layers of modules, and between them weights that a routing network chooses for each sample: each
module reads a mixture of the modules before it. Actor and critics are such networks; only the
routing sees the task. Where the paper and the authors' code differ, this is the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.fields import Depth, Range, Width
from algorithms.parts.layers import (
    Experts,
    Init,
    TaskTable,
    constant,
    fan_out_uniform,
    he_uniform,
    linear,
    scaled,
    stacked,
    uniform,
    zero,
)
from algorithms.sac import MultiTaskSAC, SACSettings


@dataclass(frozen=True)
class SoftModulesSettings(SACSettings):
    """Soft Modularization. Defaults are those of the scaling study, whose numbers are compared
    with [scaling: arXiv 2503.05126]; the authors' own are in the preset "published" [SM: arXiv
    2003.13661 and the authors' code].
    """

    actor_width: Width = 400
    """Width of the actor's base network; modules and routing scale with it [SM, scaling]."""
    critic_width: Width = 400
    """Width of each critic's base network; modules and routing scale with it [SM, scaling]."""
    layers: Depth = 2
    """Layers of modules: 2 on MT10, 4 on MT50 [SM, scaling]."""
    modules: Depth = 2
    """Modules of each layer: 2 on MT10, 4 on MT50 [SM, scaling]."""
    module_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.64
    """Module width over base width: 256 / 400 on MT10, and on MT50 256 / 400 [scaling] or 128 / 400
    [SM]. The deep network of SM is `--layers 4 --modules 4 --module-ratio 0.32` on any task set."""
    router_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.64
    """Width of the routing network over base width: 256 / 400 [SM, scaling]."""
    init: Literal["scaling", "original"] = "scaling"
    """Initial weights. scaling: He-uniform with biases of 0, routing and the actor's output
    U(±0.001), the critics' U(±0.003) [scaling]. original: U(±1/√fan-out) with biases of 0.1,
    routing and all outputs U(±0.003) [SM]."""
    task_weighting: Literal["uniform", "temperature"] = "temperature"
    """Weight of each task's loss: 1, or T·softmax(−log α) [SM, scaling]."""


class SoftModularNetwork(nn.Module):
    """L layers of n modules, mixed for each sample by weights of the routing network."""

    def __init__(
        self,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        head_bound: float,
        s: SoftModulesSettings,
    ) -> None:
        super().__init__()
        original = s.init == "original"
        init = (fan_out_uniform, constant(0.1)) if original else (he_uniform, zero)
        dense = partial(linear, weight=init[0], bias=init[1])
        routing = uniform(3e-3 if original else 1e-3)
        n, gate = s.modules, scaled(s.router_ratio, width)
        module = scaled(s.module_ratio, width)
        self.base = stacked(dense, inputs, width, width)
        self.embedding = TaskTable(tasks, width, *init)
        self.gate = stacked(dense, width, gate, gate)
        self.routers = nn.ModuleList(
            Router(gate, layer, n, 1 if layer == s.layers - 1 else n, dense, routing)
            for layer in range(s.layers)
        )
        sizes = [width] + [module] * (s.layers - 1)
        self.layers = nn.ModuleList(ModuleLayer(n, size, module, *init) for size in sizes)
        head = uniform(3e-3 if original else head_bound)
        self.head = linear(module, outputs, head, head)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        features = self.base(x)
        h = torch.relu(features)
        for layer, weights in zip(self.layers, self.routes(features), strict=True):
            h = layer(h, weights)
        return self.head(h[0])

    def routes(self, features: Tensor) -> list[Tensor]:
        """Mixing weights [T, B, targets, n] after each layer; after the last, of one target."""
        task = self.gate(torch.relu(self.embedding()[:, None] * features))
        routes: list[Tensor] = []
        for router in self.routers:
            routes.append(router(task, routes))
        return routes


class Router(nn.Module):
    """Weights of a layer's modules for each target, from the task and all earlier weights."""

    def __init__(
        self,
        inputs: int,
        layer: int,
        modules: int,
        targets: int,
        dense: Callable[[int, int], nn.Module],
        init: Init,
    ) -> None:
        super().__init__()
        self.modules_read = modules
        self.condition = dense(layer * modules**2, inputs) if layer else None
        self.logits = linear(inputs, targets * modules, init, init)

    def forward(self, task: Tensor, earlier: list[Tensor]) -> Tensor:
        """[T, B, in] and layers' weights [T, B, n, n] → [T, B, targets, n], which sum to 1."""
        if self.condition is not None:
            task = task * self.condition(torch.cat([w.flatten(-2) for w in earlier], -1))
        logits = self.logits(torch.relu(task))
        return torch.softmax(logits.reshape(*task.shape[:-1], -1, self.modules_read), -1)


class ModuleLayer(nn.Module):
    """n modules side by side, and the mixtures of their outputs that its targets read."""

    def __init__(self, modules: int, inputs: int, outputs: int, weight: Init, bias: Init) -> None:
        super().__init__()
        self.each = Experts(modules, inputs, outputs, weight, bias)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """[n, T, B, in], or [T, B, in] for all, and [T, B, targets, n] → [targets, T, B, out]."""
        return torch.relu(torch.einsum("ntbd,tbkn->ktbd", self.each(x), weights))


PUBLISHED: dict[str, Any] = {
    # The authors' MT50 network is deep and narrow. Their Meta-World is a fork of the v1 era.
    "module_ratio": lambda tasks: 0.64 if tasks <= 10 else 0.32,
    "init": "original",
    "adam_epsilon": 1e-8,
    "clip_critics": "separately",
    "update_order": "simultaneous",
    "horizon": 200,
    "goals": "random",
    "reward_version": "v1",
    "steps": lambda tasks: tasks * (1_500_000 if tasks <= 10 else 1_000_000),
    "buffer_per_task": lambda tasks: 100_000 if tasks <= 10 else 200_000,
    "eval_episodes": 3,
    "final_episodes": 3,
}
"""The authors' protocol.

Their code differs from this: it steps temperatures before it computes targets and losses, here they
step last; it makes 200 gradient steps after 200 env steps of each task, not one after each; the
first 4,000 env steps of a task are the untrained policy's, not random ones; and its file for MT50
with random goals has a horizon of 1,000, beyond the time limit of Meta-World.
"""


class SoftModules(MultiTaskSAC):
    """SAC on layers of modules that a router mixes softly."""

    Settings = SoftModulesSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "*": {
            "layers": lambda tasks: 2 if tasks <= 10 else 4,
            "modules": lambda tasks: 2 if tasks <= 10 else 4,
        },
        "published": PUBLISHED,
    }
    capturable = True

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size, 2 * p.action_size, s.actor_width
        return SoftModularNetwork(self.tasks, *sizes, 1e-3, s)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size + p.action_size, 1, s.critic_width
        return SoftModularNetwork(self.tasks, *sizes, 3e-3, s)
