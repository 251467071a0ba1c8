"""CARE, contextual attention-based representation learning (Sodhani et al., arXiv 2102.06177).

Several encoders read the observation; attention, from a context that describes the task, mixes what
they put out. Actor and critics read the mixture and the context. As its authors have it, one
encoder serves all of them and the critics' loss alone trains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.algorithm import ParameterCounts
from algorithms.fields import Depth, NotNegative, Positive, Range, Rate, Share, Width
from algorithms.parts.adam import Adam
from algorithms.parts.layers import (
    Experts,
    Init,
    TaskTable,
    he_uniform,
    linear,
    scaled,
    stacked,
    standard_normal,
    uniform,
    xavier_uniform,
    zero,
)
from algorithms.parts.network import Network
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, Purpose, SACSettings


@dataclass(frozen=True)
class CARESettings(SACSettings):
    """CARE. Defaults are its authors' [CARE: arXiv 2102.06177 and its code, facebookresearch/mtrl];
    a re-implementation differs [RX: rainx0r/mtrl]. The authors' code also normalises each
    environment's rewards, and leaves an attention of the actor's own as it was drawn; here actor
    and critics share the attention, as the paper has it.
    """

    adam_epsilon: Rate = 1e-8
    """Adam's ε: 1e-8 [CARE], 1e-5 [RX]."""
    gradient_clip: NotNegative = 0.0
    """Largest global gradient norm of each network; 0 turns it off [CARE]; 1 [RX]."""
    clip_critics: Literal["jointly", "separately"] = "separately"
    """The sum of the critics' losses, with a norm each [CARE], or their mean, with one norm over
    all critics [RX]."""

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
    experts: Depth = 4
    """Encoders that are mixed: 4 [CARE]; 6 on MT10, 10 on MT50 [RX]."""
    encoder_ratio: Annotated[float, Range(0, 100, above_low=True)] = 0.125
    """Width of encoders and context over that of the layers behind them: 50 / 400 [CARE, RX]."""
    encoder_depth: Depth = 1
    """Hidden layers of each encoder: 1 [CARE], 2 [RX]."""
    attention_temperature: Positive = 1.0
    """What the attention's logits are divided by [CARE, RX]."""
    detach_attention: bool = True
    """Whether no gradient reaches the context through the attention [CARE]; it does [RX]."""
    encoder_polyak: Share = 0.05
    """Rate at which the target copy of a shared encoder follows it; the context has none [CARE]."""
    metadata: str = ""
    """File with a vector that describes each task, such as a sentence embedding of its instruction
    [CARE: RoBERTa's]: .npz with an array for each task's name, or .npy of one row per task, in the
    tasks' order. Empty: a table that is learned [RX]."""
    log_std_bound: Literal["tanh", "clamp"] = "tanh"
    """How the log standard deviation is kept between its bounds: by a tanh [CARE], or clamped
    [RX]."""
    init: Literal["original", "scaling"] = "original"
    """Initial weights. original: Xavier-uniform with biases of 0 everywhere [CARE]. scaling:
    He-uniform with biases of 0, outputs U(±0.001) in the actor and U(±0.003) in the critics
    [RX]."""


class Context(nn.Module):
    """Describes each task by a vector, from a learned table or from metadata of a size."""

    def __init__(self, tasks: int, size: int, init: Init, metadata: int = 0) -> None:
        super().__init__()
        dense = partial(linear, weight=init, bias=zero)
        if metadata:
            self.projection = stacked(dense, metadata, 2 * size, size)
        else:
            self.table = TaskTable(tasks, size, standard_normal)
        self.trunk = stacked(dense, size, size, size, size)

    def forward(self, metadata: Tensor | None = None) -> Tensor:
        """Metadata [T, D], if there is any → [T, size]."""
        task = self.table() if metadata is None else self.projection(torch.relu(metadata))
        context: Tensor = self.trunk(torch.relu(task))
        return context


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
        """[T, B, in] and a context [T, size] → the encoding and the context, [T, B, 2 · size]."""
        encoding = torch.einsum("tk,ktbd->tbd", self.weights(context), self.encoders(x))
        return torch.cat([encoding, context[:, None].expand_as(encoding)], -1)

    def weights(self, context: Tensor) -> Tensor:
        """The encoders' shares [T, K]."""
        logits = self.attention(context.detach() if self.detached else context)
        return torch.softmax(logits / self.temperature, -1)


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
        output: Tensor = self.head(self.hidden(x))
        return output


class AttentiveNetwork(nn.Module):
    """A network with an encoder of its own."""

    def __init__(self, context: Context, encoder: MixedEncoder, torso: Torso) -> None:
        super().__init__()
        self.context, self.encoder, self.torso = context, encoder, torso

    def forward(self, x: Tensor, metadata: Tensor | None = None) -> Tensor:
        """[T, B, in] → [T, B, out]."""
        output: Tensor = self.torso(self.encoder(x, self.context(metadata)))
        return output


class CARE(MultiTaskSAC):
    """SAC on a mixture of encoders that a task context attends to."""

    Settings = CARESettings
    # The authors' goals and reward version are not certain, and stay as they are by default.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "horizon": 150,
            "steps": lambda tasks: tasks * 2_000_000,
            "random_steps": 1500,
            "eval_episodes": 1,
            "final_episodes": 1,
        }
    }
    capturable = True

    @property
    def shared(self) -> bool:
        """Whether actor and critics have one encoder."""
        return bool(self.settings.encoder == "shared")

    def build_networks(self) -> dict[str, Network]:
        path, tasks = self.settings.metadata, self.problem.tasks
        self.metadata = described(path, tasks).to(self.problem.device) if path else None
        networks, device = super().build_networks(), self.problem.device
        if self.shared:
            networks["encoder"] = Network(self.build_encoder, device)
            networks["context"] = Network(self.build_context, device)
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
        if self.shared:
            read = 2 * self.size(self.settings.actor_width) + inputs - self.problem.observation_size
            return Torso(read, outputs, width, depth, self.weight, head)
        size = self.size(width)
        return AttentiveNetwork(
            Context(self.tasks, size, self.weight, self.metadata_size),
            MixedEncoder(inputs, size, self.weight, self.settings),
            Torso(2 * size, outputs, width, depth, self.weight, head),
        )

    def build_encoder(self) -> nn.Module:
        """The encoder that actor and critics share."""
        size = self.size(self.settings.actor_width)
        return MixedEncoder(self.problem.observation_size, size, self.weight, self.settings)

    def build_context(self) -> nn.Module:
        """The context that actor and critics share."""
        size = self.size(self.settings.actor_width)
        return Context(self.tasks, size, self.weight, self.metadata_size)

    @property
    def metadata_size(self) -> int:
        """Numbers that metadata give of a task; 0 where there are none."""
        return 0 if self.metadata is None else self.metadata.shape[-1]

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
        rate: float = self.settings.encoder_polyak
        return rate if name == "encoder" else super().polyak_of(name)

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        given = super().given(purpose, samples, random)
        return given if self.metadata is None else {**given, "metadata": self.metadata}

    def output_of(self, name: str, weights: AllWeights, inputs: Tensor, given: Given) -> Tensor:
        """The actor or the critics on observations, which actions may follow: [..., T, B, out]."""
        known = () if self.metadata is None else (given["metadata"],)
        network, own = self.networks[name], weights[name]
        if not self.shared:
            output: Tensor = network(own, inputs, *known)
            return output
        observations = inputs[..., : self.problem.observation_size]
        context = self.networks["context"](weights["context"], *known)
        encoded = self.networks["encoder"](weights["encoder"], observations, context)
        actions = inputs[..., self.problem.observation_size :]
        output = network(own, torch.cat([encoded, actions], -1))
        return output

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

    def state_dict(self) -> dict[str, Any]:
        own = {} if self.metadata is None else {"metadata": self.metadata}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.metadata is not None and not torch.equal(
            state["metadata"].to(self.metadata), self.metadata
        ):
            raise ValueError(f"metadata: {self.settings.metadata} is not what the run began with")
        super().load_state_dict(state)


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
        raise ValueError(f"metadata: {path}: {error}") from None
    if found.ndim != 2 or len(found) != len(tasks) or found.dtype.kind not in "fiu":
        shape = f"{found.dtype} {list(found.shape)}"
        raise ValueError(f"metadata: {path} is {shape}; give numbers [{len(tasks)} tasks, size]")
    if not np.isfinite(found).all():
        raise ValueError(f"metadata: {path} holds numbers that are not finite")
    return torch.from_numpy(found.astype(np.float32))
