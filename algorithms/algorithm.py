"""The contract between an algorithm and the suite.

The task axis comes first: T tasks, N environments per task, B samples per task. An algorithm knows
one seed; where the suite trains several seeds together, each has an algorithm of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """What an algorithm may know of the run that it is built for."""

    tasks: tuple[str, ...]
    """Task names; the order is the task axis."""
    envs_per_task: int = 1
    """N, environments per task."""
    seed: int = 0
    """Root of every generator that the algorithm owns."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where weights, batches and generators live."""
    observation_size: int = 39
    """Floats in an observation, the goal included."""
    action_size: int = 4
    """Floats in an action, each in [−1, 1]."""
    horizon: int = 500
    """Steps of an episode."""
    locksteps: int = 0
    """Steps that every env takes in the whole run, for schedules; 0 where nothing is trained."""


class Batch(NamedTuple):
    """Transitions from the replay, the same number for every task."""

    observations: Tensor
    """[T, B, 39] float32."""
    actions: Tensor
    """[T, B, 4] float32 in [−1, 1]."""
    rewards: Tensor
    """[T, B] float32, as the environment gave them."""
    next_observations: Tensor
    """[T, B, 39] float32; the true successor also where the time limit cut the episode."""
    timeouts: Tensor
    """[T, B] float32, 1 where the time limit ended the episode. Meta-World never terminates."""
    extras: Mapping[str, Tensor] = {}
    """What the algorithm asked the replay to carry, [T, B, ...]."""


class Decision(NamedTuple):
    """What `Algorithm.act` returns."""

    actions: Tensor
    """[T, N, 4] in [−1, 1]."""
    extras: Mapping[str, Tensor] = {}
    """[T, N, ...] for each name in `Algorithm.extras`: stored with the transition."""


class Outcomes(NamedTuple):
    """How the training episodes that have just ended went."""

    returns: Tensor
    """[T, N] float64, sums of unscaled rewards."""
    successes: Tensor
    """[T, N] float64, 1 where any step of the episode was a success."""
    rewards: Tensor
    """[T, N, H] float32, the reward of each of the H steps."""
    mean_rewards: Tensor
    """[T] float64, the mean reward of each task's transitions in the replay."""


class NetworkProbe(NamedTuple):
    """One network on the probe batch of S = T·B samples, by layer name."""

    activations: dict[str, Tensor]
    """[S, units], what each hidden layer's activation function puts out, call by call."""
    weights: dict[str, Tensor]
    """Trained parameters."""
    gradients: dict[str, Tensor]
    """Gradient of the network's loss for each entry of `weights`."""


class ParameterCounts(NamedTuple):
    """Trained parameters: the axis on which architectures are compared."""

    actor: int
    critic: int
    """All online critics, without targets."""

    @property
    def total(self) -> int:
        """Actor and critics together."""
        return self.actor + self.critic


class Algorithm(ABC):
    """A multi-task learner. `MultiTaskSAC` implements all of it for a pair of networks."""

    Settings: ClassVar[type[Any]]
    """Frozen dataclass of the algorithm's own fields; they become command-line options."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What a preset sets for this algorithm: name → field → value, or a function of the number of
    tasks. Its own fields and the suite's may stand here; "published" is its paper's protocol, and
    what stands under "*" it has in every protocol that is a paper's, unless that preset, a base's
    too, says otherwise."""

    capturable: ClassVar[bool] = False
    """Whether `act` and `update` can be replayed as CUDA graphs: they launch the same kernels on
    the same memory at every call, decide nothing on the host and draw from `generators` alone.
    Not inherited: a subclass may do what its base does not know of."""

    extras: Mapping[str, tuple[tuple[int, ...], torch.dtype]] = {}
    """Per-transition data for the replay to carry: name → (shape, dtype)."""

    generators: Mapping[str, torch.Generator] = {}
    """Those on the device that `act` and `update` draw from, by purpose."""

    kernels: str = "torch"
    """Whose code carries out `act` and `update`, where another than torch's may: sums round
    otherwise in each, so provenance records it."""

    due_updates: int = 0
    """Gradient steps that the suite makes before the next action, as after a reset."""

    evaluated_by: str = "deterministic policy"
    """How it acts where it is evaluated, as its rows say: two such ways are two protocols."""

    @abstractmethod
    def __init__(self, settings: Any, problem: Problem) -> None: ...

    @abstractmethod
    def act(self, observations: Tensor, explore: bool) -> Decision:
        """Actions for [T, N, 39] observations: sampled to explore, else as `evaluated_by` says."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step. Metrics, [T] or scalar, stay on the device."""

    @abstractmethod
    def probe(self, batch: Batch, seed: int) -> dict[str, NetworkProbe]:
        """What plasticity measures of each trained network, on a fixed batch; changes no state.

        Losses that need noise draw it from a generator seeded with `seed`. Raises ValueError, with
        a line that says what to change, for a network that cannot be measured.
        """

    @abstractmethod
    def parameter_counts(self) -> ParameterCounts:
        """Sizes of the trained networks."""

    def compile(self) -> None:  # noqa: B027 - an algorithm may have nothing to compile
        """Replaces what is worth it by its compiled self (`torch.compile`)."""

    def end_random_episodes(self, outcomes: Outcomes) -> None:  # noqa: B027 - as below
        """Called when a round has ended in which actions were random: what its rewards tell is to
        be used, how it went is no deed of the algorithm.
        """

    def end_episodes(self, outcomes: Outcomes) -> None:  # noqa: B027 - most algorithms need nothing
        """Called when a round of training episodes has ended."""

    def report(self, batch: Batch) -> dict[str, list[float]]:
        """State worth a row at each evaluation, given the probe batch: name → one value per task.

        NaN means that a task has no such value.
        """
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the future depends on: weights, optimisers, generators.

        Tensors, numbers, strings, lists and dicts only, so that it loads without pickled code.
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
