"""PaCo, parameter-compositional multi-task RL (Sun et al., arXiv 2210.11653).

Networks exist as K sets of parameters; a task's network is their sum, weighted by a vector w of its
own. A task whose losses explode is left out of a step and begins again from a mixture of the other
tasks' w. No input tells the task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Problem
from algorithms.fields import Depth, LogStd, Range, Rate, Width
from algorithms.parts.adam import Adam, State
from algorithms.parts.layers import Init, TaskTable, he_uniform, uniform, zero
from algorithms.parts.network import Network
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, Purpose, SACSettings


@dataclass(frozen=True)
class PaCoSettings(SACSettings):
    """PaCo. Defaults are those of the scaling study, whose numbers are compared with, and which
    neither masks nor resets [scaling: arXiv 2503.05126]; the authors' own are in the preset
    "published" [PaCo: arXiv 2210.11653 and the authors' code].
    """

    actor_width: Width = 400
    """Units of each hidden layer of the actor [PaCo, scaling]."""
    actor_depth: Depth = 3
    """Hidden layers of the actor [PaCo, scaling]."""
    critic_width: Width = 400
    """Units of each hidden layer of each critic [PaCo, scaling]."""
    critic_depth: Depth = 3
    """Hidden layers of each critic [PaCo, scaling]."""
    parameter_sets: Depth = 5
    """K, parameter sets of each network: 5 on MT10 [PaCo, scaling], 20 on MT50 [scaling]."""
    w_activation: Literal["identity", "softmax", "normalise"] = "identity"
    """What a task's learned vector becomes before it weighs the sets: itself, its softmax, or a
    vector of length 1 [PaCo, scaling: identity]."""
    shared_w: bool = False
    """One w per task for actor and critics, trained by both losses in one step, without a target
    copy [PaCo]; or one in each network [scaling]."""
    w_learning_rate: Rate = 3e-4
    """Adam's learning rate of a shared w [PaCo]."""
    min_log_temperature: LogStd = -50.0
    """Lower bound of log α: −50, which is as good as none [scaling], or −10 [PaCo]."""
    identical_init: bool = False
    """Whether all sets begin equal, so that w alone tells them apart [PaCo], or are drawn each
    [scaling]."""
    value_clip: Annotated[float, Range(0, above_low=True, infinite=True)] = math.inf
    """Largest magnitude of values, predicted and aimed at, in the critics' loss: none [PaCo], 5000
    in the runs that the scaling study reports of this method [scaling]."""
    w_reset: Literal["none", "interpolate", "copy"] = "none"
    """What becomes of w of a task that task_loss_threshold leaves out: it stays [scaling]; a random
    convex combination of the w of the tasks that are not left out [PaCo]; one of these at random.
    Where w is in each network, the targets' are replaced, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_log_temperature > self.max_log_temperature:
            raise ValueError(
                f"min_log_temperature {self.min_log_temperature:g} is more than "
                f"max_log_temperature {self.max_log_temperature:g}"
            )
        if math.log(self.initial_temperature) < self.min_log_temperature:
            raise ValueError(
                f"initial_temperature {self.initial_temperature:g} is less than "
                f"{math.exp(self.min_log_temperature):g}, to which min_log_temperature "
                f"{self.min_log_temperature:g} bounds it"
            )
        if self.w_reset != "none" and self.task_loss_threshold == math.inf:
            raise ValueError(
                f"w_reset {self.w_reset} needs a threshold: add --task-loss-threshold 3000"
            )


class ComposedLinear(nn.Module):
    """A linear layer whose weights and bias are, for each task, the sum of K sets weighted by w."""

    def __init__(
        self, sets: int, inputs: int, outputs: int, weight: Init, bias: Init, identical: bool
    ) -> None:
        super().__init__()
        drawn = 1 if identical else sets
        kernel, shift = torch.empty(drawn, inputs, outputs), torch.empty(drawn, outputs)
        weight(kernel, inputs, outputs)
        bias(shift, inputs, outputs)
        self.weight = nn.Parameter(kernel.expand(sets, -1, -1).clone())
        self.bias = nn.Parameter(shift.expand(sets, -1).clone())

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[T, B, in] and w [T, K] → [T, B, out]."""
        sets, inputs, outputs = self.weight.shape
        weight = (w @ self.weight.view(sets, -1)).view(-1, inputs, outputs)
        return torch.baddbmm((w @ self.bias)[:, None], x, weight)


class ComposedNetwork(nn.Module):
    """A plain network, hidden ReLU layers and a head, composed for each task."""

    def __init__(
        self,
        tasks: int,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        head_bound: float,
        s: PaCoSettings,
    ) -> None:
        super().__init__()
        self.activation = s.w_activation
        self.w = None if s.shared_w else w_table(tasks, s)
        sizes, head = [inputs, *[width] * depth], uniform(head_bound)
        k, same = s.parameter_sets, s.identical_init
        self.layers = nn.ModuleList(
            ComposedLinear(k, sizes[i], sizes[i + 1], he_uniform, zero, same) for i in range(depth)
        )
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(depth))
        self.head = ComposedLinear(k, width, outputs, head, head, same)

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """[T, B, in] → [T, B, out], by the network's own w or a shared one [T, K]."""
        if self.w is not None:
            w = self.w()
        assert w is not None
        if self.activation == "softmax":
            w = torch.softmax(w, -1)
        elif self.activation == "normalise":
            w = nn.functional.normalize(w, dim=-1)
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer(x, w))
        return self.head(x, w)


def w_table(tasks: int, s: PaCoSettings) -> TaskTable:
    """A vector w for each task: a linear layer on the one-hot task."""
    return TaskTable(tasks, s.parameter_sets, he_uniform, zero)


class PaCo(MultiTaskSAC):
    """SAC whose tasks' weights are combinations of shared sets."""

    Settings = PaCoSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "*": {"parameter_sets": lambda tasks: 5 if tasks <= 10 else 20},
        "scaling": {"value_clip": 5000.0},
        # The authors' entropy target follows from their library's defaults. Their file for MT10
        # runs 50M steps; their Adam is TensorFlow's, which adds ε before it corrects the second
        # moment's bias; initial weights are those of the scaling study [choice].
        "published": {
            "shared_w": True,
            "identical_init": True,
            "w_reset": "interpolate",
            "update_order": "simultaneous",
            "task_loss_threshold": 3e3,
            "gradient_clip": 0.0,
            "clip_critics": "separately",
            "adam_epsilon": 1e-8,
            "temperature_learning_rate": 1e-4,
            "min_log_temperature": -10.0,
            "max_log_temperature": 0.0,
            "target_entropy": 4 * (math.log(2) + math.log(0.1)),
            "log_std_min": -10.0,
            "horizon": 150,
            "goals": "random",
            "reward_version": "v2",
            "steps": lambda tasks: tasks * 2_000_000,
            "random_steps": 1500,
            "batch_per_task": lambda tasks: max(1, round(1280 / tasks)),
            "buffer_per_task": 1_000_000,
            "eval_episodes": 5,
            "final_episodes": 5,
        },
    }
    capturable = True

    def __init__(self, settings: PaCoSettings, problem: Problem) -> None:
        one, kind = settings.parameter_sets == 1, settings.w_activation
        if one and kind != "identity" and len(problem.tasks) > 1:
            raise ValueError(
                f"parameter_sets 1 with w_activation {kind} cannot tell tasks apart: give 2 or "
                "more, or add --w-activation identity"
            )
        super().__init__(settings, problem)

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size, 2 * p.action_size, s.actor_width, s.actor_depth
        return ComposedNetwork(self.tasks, *sizes, 1e-3, s)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = p.observation_size + p.action_size, 1, s.critic_width, s.critic_depth
        return ComposedNetwork(self.tasks, *sizes, 3e-3, s)

    def build_networks(self) -> dict[str, Network]:
        networks = super().build_networks()
        if self.settings.shared_w:
            build = lambda: w_table(self.tasks, self.settings)  # noqa: E731
            networks["w"] = Network(build, self.problem.device)
        return networks

    def build_optimisers(self) -> dict[str, Adam]:
        optimisers, s = super().build_optimisers(), self.settings
        if s.shared_w:
            optimisers["w"] = Adam(s.w_learning_rate, s.adam_epsilon)
        return optimisers

    def initial_state(self, purpose: str) -> State:
        state = super().initial_state(purpose)
        if self.settings.shared_w:
            state["w.gradient"] = torch.zeros_like(state["w"])
        return state

    def trained_by(self, name: str) -> tuple[str, ...]:
        return (name, "w") if self.settings.shared_w else (name,)

    def shared(self, weights: AllWeights) -> tuple[Tensor, ...]:
        """The shared w [T, K], where there is one."""
        return (self.networks["w"](weights["w"]),) if self.settings.shared_w else ()

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        actor = self.networks["actor"]
        return self.mean_and_log_std(actor(weights["actor"], observations, *self.shared(weights)))

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        w = self.shared(weights)
        if phase == "policy":  # the policy's loss trains w in the policy alone
            w = tuple(part.detach() for part in w)
        return self.networks["critic"](weights["critic"], inputs, *w)

    def backup(self, state: State, batch: Batch, outputs: Tensor, log_density: Tensor) -> Tensor:
        target = super().backup(state, batch, outputs, log_density)
        return self.clipped_value(target)

    def critic_error(self, outputs: Tensor, target: Tensor) -> Tensor:
        return (self.clipped_value(self.value(outputs)) - target).square()

    def clipped_value(self, value: Tensor) -> Tensor:
        """The value, kept within `value_clip`."""
        largest = self.settings.value_clip
        return value if largest == math.inf else value.clamp(-largest, largest)

    def step(self, state: State, gradients: dict[str, Tensor]) -> Tensor:
        """A shared w waits for the actor's gradient, and takes one step along the sum."""
        if not self.settings.shared_w:
            return super().step(state, gradients)
        own, w = {k: g for k, g in gradients.items() if k != "w"}, gradients["w"]
        if "critic" in own:
            state["w.gradient"].copy_(w)
            return super().step(state, own)
        return super().step(state, {**own, "w": w + state["w.gradient"]})

    def step_temperature(self, state: State, gradient: Tensor) -> None:
        super().step_temperature(state, gradient)
        state["log_temperature"].clamp_(min=self.settings.min_log_temperature)

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        given = super().given(purpose, samples, random)
        if purpose == "update" and self.settings.w_reset != "none":
            shape = (self.tasks, self.tasks)
            given["mixing"] = torch.rand(shape, generator=random, device=self.problem.device)
        return given

    def mend(self, state: State, batch: Batch, exploding: Tensor) -> None:
        """Replaces w of exploding tasks by mixtures of the others', if there are any."""
        if self.settings.w_reset == "none":
            return
        share = mixture(batch.extras["mixing"], exploding, self.settings.w_reset == "copy")
        replaced = (exploding & ~exploding.all())[:, None]
        copies = ("w",) if self.settings.shared_w else ("actor", "critic", "critic.target")
        for name in copies:
            network = self.networks[name.removesuffix(".target")]
            rows = network.views(state[name])["rows" if name == "w" else "w.rows"]
            sound = rows.masked_fill(exploding[:, None], 0.0)
            rows.copy_(torch.where(replaced, share @ sound, rows))


def mixture(draws: Tensor, exploding: Tensor, one: bool) -> Tensor:
    """Shares [T, T] of the tasks that do not explode, in each row, from draws [T, T] of U(0, 1).

    Rows sum to 1, or are 0 where all tasks explode; with `one` the largest draw takes all.
    """
    draws = (draws + torch.finfo(draws.dtype).tiny) * ~exploding
    if one:
        draws = draws * (draws == draws.amax(-1, keepdim=True))
    return draws / draws.sum(-1, keepdim=True).clamp(min=torch.finfo(draws.dtype).tiny)
