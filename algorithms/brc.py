"""BRC, bigger regularised categorical critics (Nauman et al., arXiv 2505.23150).

Large residual critics with layer normalisation put out a distribution over values, learned by
cross-entropy, on rewards that are scaled so that every task's returns fill the same range. Tasks
are told apart by a learned embedding of unit length, which belongs to the critics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Outcomes, Problem
from algorithms.fields import Depth, LogStd, NotNegative, Positive, Range, Rate, Share, Width
from algorithms.parts.adam import Adam, State
from algorithms.parts.layers import TaskTable, linear, orthogonal, unit_normal, with_rows, zero
from algorithms.parts.network import Network
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, SACSettings


@dataclass(frozen=True)
class BRCSettings(SACSettings):
    """Bigger regularised categorical critics [BRC: arXiv 2505.23150 and the authors' code]."""

    adam_epsilon: Rate = 1e-8
    weight_decay: Share = 1e-4
    gradient_clip: NotNegative = 0.0
    clip_critics: Literal["jointly", "separately"] = "separately"
    critic_reduction: Literal["min", "mean"] = "mean"
    initial_temperature: Positive = 0.1
    target_entropy: Annotated[float, Range(-1e6, 1e6)] = -2.0
    temperature_loss: Literal["log_alpha", "alpha"] = "alpha"
    shared_temperature: bool = True
    log_std_min: LogStd = -10.0

    actor_width: Width = 256
    """Units of each layer of the actor [BRC]."""
    actor_depth: Depth = 1
    """Residual blocks of the actor, of two layers each [BRC]."""
    critic_width: Width = 4096
    """Units of each layer of each critic [BRC]."""
    critic_depth: Depth = 2
    """Residual blocks of each critic, of two layers each [BRC]."""
    bins: Annotated[int, Range(2, 10_001)] = 101
    """Values, evenly spaced, over which critics put out a distribution [BRC]."""
    value_limit: Positive = 10.0
    """Largest of these values; the least is its negative [BRC]."""
    value_target: Literal["two_hot", "hl_gauss"] = "two_hot"
    """What critics learn: the target critics' distribution, moved and projected on the values
    [BRC]; or a Gaussian around the target's mean, as in HL-Gauss (arXiv 2403.03950) [choice]."""
    gaussian_width: Positive = 0.75
    """Standard deviation of that Gaussian, in distances between two values [choice: 0.75 as in
    HL-Gauss]."""
    embedding_size: Width = 32
    """Length of a task's embedding [BRC]."""
    normalise_embedding: bool = True
    """Divide embeddings by their norm [BRC]."""
    normalise_rewards: bool = True
    """Divide each task's rewards by its largest return so far, so that values fill the range
    [BRC]."""
    temperature_momentum: Share = 0.5
    """Adam's β₁ of the temperature [BRC]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalise_rewards and self.discount == 1:
            raise ValueError("discount 1 has no largest return: add --no-normalise-rewards")
        if self.temperature_momentum == 1:
            raise ValueError("temperature_momentum 1 never steps: give less than 1")


class BroNet(nn.Module):
    """Lin, LayerNorm, ReLU, then blocks x + LN(Lin(ReLU(LN(Lin(x))))); nothing after the sum."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*normalised(inputs, width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(*normalised(width, width), nn.ReLU(), *normalised(width, width))
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, width]."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return x


def normalised(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    """A linear layer and the normalisation of what it puts out."""
    return (
        linear(inputs, outputs, orthogonal(math.sqrt(2)), zero),
        nn.LayerNorm(outputs, eps=1e-6),
    )


class BRC(MultiTaskSAC):
    """SAC with wide categorical critics and rewards normalised per task."""

    Settings = BRCSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The suite's short runs begin near the temperature that this method begins with anyway.
        "quick": {"reward_scale": 1.0, "initial_temperature": 0.1},
        # The authors evaluate in envs that are built with seed + 42, hence on other fixed goals;
        # here the goals that are trained on are evaluated.
        "published": {
            "horizon": 200,
            "goals": "fixed",
            "reward_version": "v2",
            "steps": lambda tasks: tasks * 1_000_000,
            "random_steps": 5000,
            "updates_per_step": 2,
            "batch_per_task": lambda tasks: max(1, round(1024 / tasks)),
            "buffer_per_task": 1_000_000,
            "eval_episodes": 10,
            "final_episodes": 10,
        },
    }
    capturable = True

    def __init__(self, settings: BRCSettings, problem: Problem) -> None:
        if settings.normalise_embedding and settings.embedding_size == 1 and len(problem.tasks) > 1:
            raise ValueError(
                "embedding_size 1 has one embedding of length 1 and its negative for all tasks: "
                "give 2 or more, or add --no-normalise-embedding"
            )
        super().__init__(settings, problem)
        self.state["return_bound"] = torch.zeros(self.tasks, device=problem.device)

    # Networks --------------------------------------------------------------------------------

    def build_networks(self) -> dict[str, Network]:
        """Actor and critics, and the tasks' embedding, which the critics' loss trains."""
        table = Network(self.build_embedding, self.problem.device)
        return {**super().build_networks(), "embedding": table}

    def build_embedding(self) -> nn.Module:
        """Rows with a norm of about 1."""
        return TaskTable(self.tasks, self.settings.embedding_size, unit_normal)

    def build_actor(self) -> nn.Module:
        s, actions = self.settings, self.problem.action_size

        def by_half(tensor: Tensor, fan_in: int, fan_out: int) -> None:
            nn.init.orthogonal_(tensor.data[:actions], math.sqrt(2))  # means
            # Of log standard deviations: 1, as in the code (jaxrl networks.py).
            nn.init.orthogonal_(tensor.data[actions:], 1.0)

        inputs = self.problem.observation_size + s.embedding_size
        body = BroNet(inputs, s.actor_width, s.actor_depth)
        return nn.Sequential(body, linear(s.actor_width, 2 * actions, by_half, zero))

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        inputs = p.observation_size + p.action_size + s.embedding_size
        body = BroNet(inputs, s.critic_width, s.critic_depth)
        return nn.Sequential(body, linear(s.critic_width, s.bins, orthogonal(math.sqrt(2)), zero))

    def build_optimisers(self) -> dict[str, Adam]:
        s, optimisers = self.settings, super().build_optimisers()
        temperature = Adam(s.temperature_learning_rate, s.adam_epsilon, s.temperature_momentum)
        return {**optimisers, "embedding": optimisers["critic"], "log_temperature": temperature}

    def trained_by(self, name: str) -> tuple[str, ...]:
        return ("critic", "embedding") if name == "critic" else (name,)

    def target_names(self) -> tuple[str, ...]:
        return ("critic", "embedding")

    def with_embedding(self, weights: AllWeights, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, in + E], with the embedding of each task appended."""
        rows = self.networks["embedding"](weights["embedding"])
        if self.settings.normalise_embedding:
            rows = rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        return with_rows(x, rows)

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        inputs = self.with_embedding(weights, observations)
        return self.mean_and_log_std(self.networks["actor"](weights["actor"], inputs))

    def mean_and_log_std(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The log standard deviation goes smoothly from `log_std_min` to `log_std_max`."""
        s, (mean, raw) = self.settings, output.chunk(2, -1)
        return mean, s.log_std_min + (s.log_std_max - s.log_std_min) / 2 * (1 + torch.tanh(raw))

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        return super().values(weights, self.with_embedding(weights, inputs), phase, given)

    # Values as distributions -----------------------------------------------------------------

    @property
    def atoms(self) -> Tensor:
        """The values of the bins, [V]."""
        limit = self.settings.value_limit
        return torch.linspace(-limit, limit, self.settings.bins, device=self.problem.device)

    def value(self, outputs: Tensor) -> Tensor:
        """The mean of each distribution."""
        return torch.softmax(outputs, -1) @ self.atoms

    def backup(self, state: State, batch: Batch, outputs: Tensor, log_density: Tensor) -> Tensor:
        """The distribution [T, B, V] of r + γ (Z − α log π), Z the mixture of the target critics'
        distributions; or a Gaussian around its mean.
        """
        s = self.settings
        if s.value_target == "hl_gauss":
            target = super().backup(state, batch, outputs, log_density)
            return gaussian(target, self.atoms, s.gaussian_width)
        alive = 1 - batch.timeouts if s.timeout_is_terminal else torch.ones_like(batch.timeouts)
        # The less optimistic critic has no mixture but its own distribution.
        chances = torch.softmax(outputs, -1)
        if s.critic_reduction == "mean":
            mixture = chances.mean(0)
        else:
            lowest = self.value(outputs).argmin(0)[None, ..., None]
            mixture = torch.take_along_dim(chances, lowest, 0)[0]
        entropy = batch.extras["temperature"][:, None] * log_density
        values = self.atoms - entropy[..., None]
        values = self.rewards(state, batch)[..., None] + s.discount * alive[..., None] * values
        return two_hot(mixture, values, self.atoms)

    def critic_error(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy [C, T, B]."""
        return -(target * torch.log_softmax(outputs, -1)).sum(-1)

    # Rewards ---------------------------------------------------------------------------------

    def rewards(self, state: State, batch: Batch) -> Tensor:
        """Such that returns of a task, with the entropy that is aimed at, stay in ±value_limit.

        Before the first episode has ended nothing is known, and all are 0.
        """
        s, rewards = self.settings, super().rewards(state, batch)
        if not s.normalise_rewards:
            return rewards
        bound, horizon = s.reward_scale * state["return_bound"], 1 / (1 - s.discount)
        # An entropy above 0 adds to no return.
        entropy = batch.extras["temperature"] * max(0.0, -s.target_entropy / 2 * horizon)
        scale = torch.where(bound > 0, s.value_limit / (bound + entropy), 0.0)
        return rewards * scale[:, None]

    def end_random_episodes(self, outcomes: Outcomes) -> None:
        super().end_random_episodes(outcomes)
        self.raise_bounds(outcomes)

    def end_episodes(self, outcomes: Outcomes) -> None:
        super().end_episodes(outcomes)
        self.raise_bounds(outcomes)

    def raise_bounds(self, outcomes: Outcomes) -> None:
        """Raises each task's bound to the largest |return to go| of the episodes that ended."""
        if not self.settings.normalise_rewards:
            return
        terminal = self.settings.timeout_is_terminal
        returns = returns_to_go(outcomes.rewards.double().cpu(), self.settings.discount, terminal)
        largest = returns.abs().amax((1, 2)).to(self.state["return_bound"])
        self.state["return_bound"].copy_(torch.maximum(self.state["return_bound"], largest))

    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: the largest return that rewards are divided by."""
        return {"return_bound": self.state["return_bound"].tolist()}


def two_hot(chances: Tensor, values: Tensor, atoms: Tensor) -> Tensor:
    """The distribution over `atoms` [V], evenly spaced, of `values` [..., K] that have these
    chances [..., K]: clipped to the atoms' range, each goes to its two neighbours so that its mean
    stays (C51, arXiv 1707.06887). [..., V].
    """
    step = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    place = (values.clamp(atoms[0], atoms[-1]) - atoms[0]) / step
    bins = torch.arange(len(atoms), device=atoms.device)
    near = (1 - (place[..., None] - bins).abs()).clamp(min=0)
    return (chances[..., None] * near).sum(-2)


def gaussian(values: Tensor, atoms: Tensor, width: float) -> Tensor:
    """The distribution [..., V] over `atoms` [V], evenly spaced, of a Gaussian around each of
    `values` [...], clipped to the atoms' range: its mass in the bin of each atom, over that in all.

    `width` is its standard deviation in distances between atoms (HL-Gauss, arXiv 2403.03950).
    """
    step = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    edges = torch.cat([atoms - step / 2, atoms[-1:] + step / 2])
    values = values.clamp(atoms[0], atoms[-1])[..., None]
    below = torch.special.ndtr((edges - values) / (width * step))
    return below.diff(dim=-1) / (below[..., -1:] - below[..., :1])


def returns_to_go(rewards: Tensor, discount: float, terminal: bool = False) -> Tensor:
    """Discounted returns from each step of episodes [..., H] on; what follows the time limit is the
    episode's mean reward for ever, or nothing where it is `terminal`.
    """
    result = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[..., 0])
    if not terminal:
        following = rewards.mean(-1) / (1 - discount)
    for step in reversed(range(rewards.shape[-1])):
        following = rewards[..., step] + discount * following
        result[..., step] = following
    return result
