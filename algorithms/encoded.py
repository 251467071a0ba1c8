"""SAC behind an encoder that knows the task, the learner of CARE's authors (Sodhani et al., arXiv
2102.06177): the ground on which CARE and FiLM stand.

An encoder reads the observation and a context that describes the task; hidden layers read what it
puts out and the context. As the authors have it, one encoder and one context serve actor and
critics, and the critics' loss alone trains them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.algorithm import Batch, Outcomes, ParameterCounts, Problem
from algorithms.fields import Depth, Range, Share, Width
from algorithms.parts.adam import Adam, State
from algorithms.parts.layers import (
    Init,
    TaskTable,
    he_uniform,
    linear,
    scaled,
    stacked,
    standard_normal,
    uniform,
    unit_normal,
    with_rows,
    xavier_uniform,
    zero,
)
from algorithms.parts.network import Network
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, Purpose, SACSettings

REWARD_RATE = 1e-3
"""Share of a step in the running mean and variance of rewards [CARE]."""
PUBLISHED: dict[str, Any] = {
    # The authors' goals and reward version are not certain, and stay as they are by default.
    "temperature_loss": "alpha",
    "horizon": 150,
    "steps": lambda tasks: tasks * 2_000_000,
    "random_steps": 1500,
    "batch_per_task": lambda tasks: max(1, round(1280 / tasks)),
    "eval_episodes": 1,
    "final_episodes": 1,
}
"""The protocol of CARE's authors, in which FiLM is a baseline."""


@dataclass(frozen=True)
class EncodedSettings(SACSettings):
    """What methods behind an encoder share: [CARE] is arXiv 2102.06177 with its code,
    facebookresearch/mtrl, [RX] the re-implementation rainx0r/mtrl (arXiv 2503.05126).
    """

    actor_width: Width = 400
    """Units of each hidden layer behind the actor's encoder [CARE, RX]; a shared encoder scales
    with it."""
    actor_depth: Depth = 3
    """Hidden layers behind the actor's encoder [CARE, RX]."""
    critic_width: Width = 400
    """Units of each hidden layer behind each critic's encoder [CARE, RX]."""
    critic_depth: Depth = 3
    """Hidden layers behind each critic's encoder [CARE, RX]."""
    encoder: Literal["shared", "separate"] = "shared"
    """One encoder of observations for actor and critics, which the critics' loss trains [CARE]; or
    one in each network, which that network's loss trains, and which in critics reads the action,
    too [RX]."""
    encoder_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.125
    """Width of encoder and context over that of the layers behind them: 50 / 400 [CARE, RX]."""
    encoder_polyak: Share = 0.05
    """Rate at which the target copy of a shared encoder follows it; the context has none [CARE]."""
    metadata: str = ""
    """File with a vector that describes each task, such as a sentence embedding of its instruction
    [CARE: RoBERTa's]: .npz with an array for each task's name, or .npy of one row per task, in the
    tasks' order. Empty: a table that is learned [RX]."""
    normalise_rewards: bool = True
    """Divide each task's rewards by their running standard deviation [CARE]; not [RX]. Here the
    newest one counts for all that is learned from, there the one of the reward's own time."""
    log_std_bound: Literal["tanh", "clamp"] = "tanh"
    """How the log standard deviation is kept between its bounds: by a tanh [CARE], or clamped
    [RX]."""
    init: Literal["original", "scaling"] = "original"
    """Initial weights. original: Xavier-uniform with biases of 0 everywhere, a learned table from
    N(0, 1) [CARE]. scaling: He-uniform with biases of 0, outputs U(±0.001) in the actor and
    U(±0.003) in the critics, rows of a learned table of mean square length 1 [RX]."""


class Context(nn.Module):
    """Describes each task by a vector, from a learned table or from metadata of a size: a ReLU of
    it, and layers of the sizes of `trunk` behind that.
    """

    def __init__(
        self,
        tasks: int,
        size: int,
        init: Init,
        row: Init,
        metadata: int = 0,
        trunk: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        dense = partial(linear, weight=init, bias=zero)
        if metadata:
            self.projection = stacked(dense, metadata, 2 * size, size)
        else:
            self.table = TaskTable(tasks, size, row)
        self.trunk = stacked(dense, size, *trunk) if trunk else nn.Identity()

    def forward(self, metadata: Tensor | None = None) -> Tensor:
        """Metadata [T, D], if there is any → [T, size], or as long as the trunk's last layer."""
        task = self.table() if metadata is None else self.projection(torch.relu(metadata))
        return self.trunk(torch.relu(task))


class Torso(nn.Module):
    """Hidden layers and the head behind an encoder."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        weight: Init,
        head: tuple[Init, ...],
    ) -> None:
        super().__init__()
        self.hidden = stacked(partial(linear, weight=weight, bias=zero), inputs, *[width] * depth)
        self.head = nn.Sequential(nn.ReLU(), linear(width, outputs, *head))

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        return self.head(self.hidden(x))


class EncodedNetwork(nn.Module):
    """A network with an encoder and a context of its own."""

    def __init__(self, context: Context, encoder: nn.Module, torso: Torso) -> None:
        super().__init__()
        self.context, self.encoder, self.torso = context, encoder, torso

    def forward(self, x: Tensor, metadata: Tensor | None = None) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        context = self.context(metadata)
        return self.torso(with_rows(self.encoder(x, context), context))


class Encoded(MultiTaskSAC):
    """SAC behind an encoder that knows the task; a method supplies `encoder_of`."""

    def __init__(self, settings: EncodedSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.state["reward_mean"] = torch.zeros(self.tasks, device=problem.device)
        self.state["reward_variance"] = torch.ones(self.tasks, device=problem.device)

    # What a method supplies --------------------------------------------------------------------

    @abstractmethod
    def encoder_of(self, inputs: int, size: int) -> nn.Module:
        """An encoder, [T, B, inputs] and the context [T, C] → [T, B, size]."""

    def trunk_of(self, size: int) -> tuple[int, ...]:
        """Sizes of the layers that make the context of a task's vector of `size`."""
        return size, size, size

    # Networks ----------------------------------------------------------------------------------

    @property
    def shared(self) -> bool:
        """Whether actor and critics have one encoder."""
        return bool(self.settings.encoder == "shared")

    def build_networks(self) -> dict[str, Network]:
        path, tasks = self.settings.metadata, self.problem.tasks
        self.metadata = described(path, tasks).to(self.problem.device) if path else None
        networks, device = super().build_networks(), self.problem.device
        if self.shared:
            size = self.size(self.settings.actor_width)
            inputs = self.problem.observation_size
            networks["encoder"] = Network(lambda: self.encoder_of(inputs, size), device)
            networks["context"] = Network(lambda: self.context_of(size), device)
        return networks

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = 2 * p.action_size, s.actor_width, s.actor_depth
        return self.network(p.observation_size, *sizes, 1e-3)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        sizes = 1, s.critic_width, s.critic_depth
        return self.network(p.observation_size + p.action_size, *sizes, 3e-3)

    def network(
        self, inputs: int, outputs: int, width: int, depth: int, head_bound: float
    ) -> nn.Module:
        """An actor or a critic; with a shared encoder, what stands behind that."""
        original = self.settings.init == "original"
        head = (xavier_uniform, zero) if original else (uniform(head_bound),) * 2
        size = self.size(self.settings.actor_width if self.shared else width)
        read = size + (self.trunk_of(size) or (size,))[-1]
        if self.shared:
            read += inputs - self.problem.observation_size
        torso = Torso(read, outputs, width, depth, self.weight, head)
        if self.shared:
            return torso
        return EncodedNetwork(self.context_of(size), self.encoder_of(inputs, size), torso)

    def context_of(self, size: int) -> Context:
        """A context from tasks' vectors of this size."""
        metadata = 0 if self.metadata is None else self.metadata.shape[-1]
        row = standard_normal if self.settings.init == "original" else unit_normal
        return Context(self.tasks, size, self.weight, row, metadata, self.trunk_of(size))

    def size(self, width: int) -> int:
        """Width of encoder and context in front of layers of this width."""
        return scaled(self.settings.encoder_ratio, width)

    @property
    def weight(self) -> Init:
        """Initialisation of all weights but heads'."""
        return xavier_uniform if self.settings.init == "original" else he_uniform

    def build_optimisers(self) -> dict[str, Adam]:
        optimisers = super().build_optimisers()
        if self.shared:
            optimisers |= dict.fromkeys(("encoder", "context"), optimisers["critic"])
        return optimisers

    def trained_by(self, name: str) -> tuple[str, ...]:
        return (name, "encoder", "context") if self.shared and name == "critic" else (name,)

    def target_names(self) -> Iterable[str]:
        return ("critic", "encoder") if self.shared else ("critic",)

    def polyak_of(self, name: str) -> float:
        return self.settings.encoder_polyak if name == "encoder" else super().polyak_of(name)

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        given = super().given(purpose, samples, random)
        return given if self.metadata is None else {**given, "metadata": self.metadata}

    def output_of(self, name: str, weights: AllWeights, inputs: Tensor, given: Given) -> Tensor:
        """The actor or the critics on observations, which actions may follow: [..., T, B, out]."""
        known = () if self.metadata is None else (given["metadata"],)
        network, own = self.networks[name], weights[name]
        if not self.shared:
            return network(own, inputs, *known)
        observations = inputs[..., : self.problem.observation_size]
        context = self.networks["context"](weights["context"], *known)
        encoding = self.networks["encoder"](weights["encoder"], observations, context)
        actions = inputs[..., self.problem.observation_size :]
        return network(own, torch.cat([with_rows(encoding, context), actions], -1))

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        return self.mean_and_log_std(self.output_of("actor", weights, observations, given))

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        return self.output_of("critic", weights, inputs, given)

    def mean_and_log_std(self, output: Tensor) -> tuple[Tensor, Tensor]:
        s = self.settings
        if s.log_std_bound == "clamp":
            return super().mean_and_log_std(output)
        mean, log_std = output.chunk(2, -1)
        share = (torch.tanh(log_std) + 1) / 2
        return mean, s.log_std_min + share * (s.log_std_max - s.log_std_min)

    def parameter_counts(self) -> ParameterCounts:
        """A shared encoder and its context count as the actor's, which needs them to act."""
        count = {name: network.count for name, network in self.networks.items()}
        critic = count.pop("critic")
        return ParameterCounts(sum(count.values()), critic)

    # Rewards -----------------------------------------------------------------------------------

    def rewards(self, state: State, batch: Batch) -> Tensor:
        rewards = super().rewards(state, batch)
        if not self.settings.normalise_rewards:
            return rewards
        return rewards / (state["reward_variance"].sqrt() + 1e-8)[:, None]

    def end_random_episodes(self, outcomes: Outcomes) -> None:
        super().end_random_episodes(outcomes)
        self.follow_rewards(outcomes)

    def end_episodes(self, outcomes: Outcomes) -> None:
        super().end_episodes(outcomes)
        self.follow_rewards(outcomes)

    def follow_rewards(self, outcomes: Outcomes) -> None:
        """Carries mean and variance of rewards over the episodes that ended, step by step."""
        mean, variance = (self.state[f"reward_{name}"] for name in ("mean", "variance"))
        found = running(mean.double().cpu(), variance.double().cpu(), outcomes.rewards.cpu())
        mean.copy_(found[0])
        variance.copy_(found[1])

    # State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        own = {} if self.metadata is None else {"metadata": self.metadata}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.metadata is not None and not torch.equal(
            state["metadata"].to(self.metadata), self.metadata
        ):
            raise ValueError(f"metadata: {self.settings.metadata} is not what the run began with")
        super().load_state_dict(state)


def running(mean: Tensor, variance: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [T] after episodes with these rewards [T, N, H]: at each step both go
    `REWARD_RATE` of the way to what it shows, the variance around the new mean.
    """
    for reward in rewards.double().unbind(-1):
        mean = mean + REWARD_RATE * (reward.mean(-1) - mean)
        spread = (reward - mean[:, None]).square().mean(-1)
        variance = variance + REWARD_RATE * (spread - variance)
    return mean, variance


def described(path: str, tasks: tuple[str, ...]) -> Tensor:
    """The tasks' vectors [T, D], float32. Raises ValueError for a file that does not give them."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            missing = [task for task in tasks if task not in found.files]
            if missing:
                raise ValueError(f"has no array {missing[0]}")
            found = np.stack([found[task] for task in tasks])
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"metadata: {path}: {reason}") from None
    if found.ndim != 2 or len(found) != len(tasks) or found.dtype.kind not in "fiu":
        shape = f"{found.dtype} {list(found.shape)}"
        raise ValueError(f"metadata: {path} is {shape}; give numbers [{len(tasks)} tasks, size]")
    if not np.isfinite(found).all():
        raise ValueError(f"metadata: {path} holds numbers that are not finite")
    return torch.from_numpy(found.astype(np.float32))
