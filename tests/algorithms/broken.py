"""Methods that each break one rule of the contract, by the point that must catch them."""

from __future__ import annotations

import random as python_random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.algorithm import Algorithm, Batch, Decision, Outcomes, ParameterCounts, Problem
from algorithms.mtsac import MTSAC, MTSACSettings
from algorithms.parts.layers import MLP
from algorithms.parts.randomness import generator

BROKEN: list[tuple[str, type[Algorithm]]] = []
"""Point and method."""


def caught_by(point: str) -> Any:
    """Puts a method into the list."""

    def listed(kind: type[Algorithm]) -> type[Algorithm]:
        BROKEN.append((point, kind))
        return kind

    return listed


@dataclass
class Thawed:
    """Settings that can be changed behind everybody's back."""

    actor_width: int = 8


@caught_by("settings are a frozen dataclass with defaults")
class NotFrozen(MTSAC):
    Settings = Thawed


@dataclass(frozen=True, kw_only=True)
class Bare(MTSACSettings):
    needed: int


@caught_by("settings are a frozen dataclass with defaults")
class NoDefault(MTSAC):
    Settings = Bare


@caught_by("presets name known fields")
class PresetOfNothing(MTSAC):
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"actor_widht": 8}}


@caught_by("presets name known fields")
class PresetOutOfRange(MTSAC):
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"log_std_min": 3.0, "log_std_max": 2.0}
    }


@caught_by("builds")
class BatchNorm(MTSAC):
    def build_actor(self) -> nn.Module:
        return nn.Sequential(nn.Linear(39, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))


@caught_by("counts without memory")
class ReadsValues(MTSAC):
    def build_actor(self) -> nn.Module:
        actor = super().build_actor()
        if next(actor.parameters()).sum().item() > 1e9:
            raise RuntimeError
        return actor


@caught_by("acts within bounds")
class Unbounded(MTSAC):
    @torch.no_grad()
    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, extras = super().act(observations, explore)
        return Decision(1.5 * actions, extras)


@caught_by("acts within bounds")
class KeepsGradients(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, extras = super().act(observations, explore)
        return Decision(actions.requires_grad_(), extras)


@caught_by("acts within bounds")
class UndeclaredExtras(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, _ = super().act(observations, explore)
        return Decision(actions, {"option": torch.zeros(actions.shape[:2])})


@caught_by("acts within bounds")
class ExtrasOfAnotherKind(MTSAC):
    extras: ClassVar[Any] = {"option": ((), torch.float32)}

    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, _ = super().act(observations, explore)
        return Decision(actions, {"option": torch.zeros(actions.shape[:2], dtype=torch.long)})


@caught_by("acts within bounds")
class ActsInDouble(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, extras = super().act(observations, explore)
        return Decision(actions.double() if observations.abs().max() > 50 else actions, extras)


@caught_by("acts within bounds")
class ActsForOneEnv(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, extras = super().act(observations, explore)
        return Decision(actions[:, :1] if observations.abs().max() > 50 else actions, extras)


@caught_by("acts within bounds")
class LostFarOut(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        actions, extras = super().act(observations, explore)
        return Decision(actions * torch.where(observations.abs().max() > 50, torch.nan, 1), extras)


@caught_by("evaluates without chance")
class ModeWhateverIsAsked(MTSAC):
    def decide(self, state: Any, observations: Tensor, given: Any, phase: Any) -> Any:
        if phase == "evaluate":
            mean, _ = self.policy(self.weights(state), observations, phase, given)
            return torch.tanh(mean), {}
        return super().decide(state, observations, given, phase)


@caught_by("evaluates without chance")
class NoisyMode(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        return super().act(observations, True)


@caught_by("explores by chance")
class AlwaysGreedy(MTSAC):
    def act(self, observations: Tensor, explore: bool) -> Decision:
        noise = torch.full((1, 1, 4), float(self.problem.seed) / 10)  # another seed, another action
        actions = super().act(observations, False).actions
        return Decision((actions + noise * explore).clamp(-1, 1))


@caught_by("learns a step")
class LearnsNothing(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": batch.rewards.mean(-1)}


@caught_by("learns a step")
class LearnsCriticsAlone(MTSAC):
    def step(self, state: Any, gradients: dict[str, Tensor]) -> Tensor:
        return super().step(state, {k: g for k, g in gradients.items() if k != "actor"} or {
            "critic": torch.zeros_like(state["critic"])})  # fmt: skip


@caught_by("learns a step")
class MetricPerSample(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().update(batch), "rewards": batch.rewards.clone()}


@caught_by("learns a step")
class NoMetric(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        super().update(batch)
        return {}


@caught_by("learns a step")
class AttachedMetric(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().update(batch), "share": torch.ones((), requires_grad=True)}


@caught_by("learns a step")
class InfiniteMetric(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        share = torch.full((), torch.inf if len(batch.rewards) > 1 else 0.0)
        return {**super().update(batch), "share": share}


@caught_by("learns a step")
class OtherMetricsEverySecondTime(MTSAC):
    updates = 0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        metrics = super().update(batch)
        self.updates += 1
        if self.updates % 2 == 0:
            del metrics["actor_loss"]
        return metrics


@caught_by("learns a step")
class WritesIntoTheBatch(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        batch.rewards.mul_(0.1)
        return super().update(batch)


@caught_by("learns one task")
class NeedsTwoTasks(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().update(batch), "spread": batch.rewards.mean(-1).std()}


@caught_by("networks are measured")
class UnseenActivation(MTSAC):
    def build_actor(self) -> nn.Module:
        class Sine(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.sin(x)

        return nn.Sequential(nn.Linear(39, 8), Sine(), nn.Linear(8, 8))


@caught_by("networks are measured")
class CountsTooFew(MTSAC):
    def parameter_counts(self) -> ParameterCounts:
        actor, critic = super().parameter_counts()
        return ParameterCounts(actor - 1, critic)


@caught_by("networks are measured")
class UntrainedLoss(MTSAC):
    def actor_loss(self, weights: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, found = super().actor_loss(weights, batch)
        # Of the same value, and without a gradient where it is probed.
        return (loss if torch._C._functorch.maybe_current_level() else loss * 0), found


@caught_by("reports by task")
class ReportsOneNumber(MTSAC):
    def report(self, batch: Batch) -> dict[str, list[float]]:
        return {"stage": [1.0]}


@caught_by("looking changes nothing")
class ProbeDraws(MTSAC):
    def probe(self, batch: Batch, seed: int) -> Any:
        torch.rand(1, generator=self.generators["update"])
        return super().probe(batch, seed)


@caught_by("looking changes nothing")
class ReportCools(MTSAC):
    def report(self, batch: Batch) -> dict[str, list[float]]:
        self.state["log_temperature"].sub_(0.1)
        return {}


@caught_by("state is plain data")
class PickledState(MTSAC):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "settings": self.settings}


@caught_by("loads a copy")
class KeepsWhatItIsGiven(MTSAC):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.state = dict(state["tensors"])


@caught_by("due updates are saved")
class ForgetsDueUpdates(MTSAC):
    def end_episodes(self, outcomes: Outcomes) -> None:
        self.due_updates = 2

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.due_updates = 0


@caught_by("goes on to the bit")
class ForgetsAGenerator(MTSAC):
    def __init__(self, settings: Any, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.own = generator(problem.seed, "own", problem.device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        noise = torch.rand(batch.rewards.shape, generator=self.own)
        return super().update(batch._replace(rewards=batch.rewards + noise))


@caught_by("goes on to the bit")
class ForgetsARunningMean(MTSAC):
    mean: Tensor | float = 0.0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.mean = 0.9 * self.mean + 0.1 * batch.rewards.mean()
        return super().update(batch._replace(rewards=batch.rewards - self.mean))


@caught_by("goes on to the bit")
class ForgetsACounter(MTSAC):
    rounds = 0

    def end_episodes(self, outcomes: Outcomes) -> None:
        self.rounds += 1

    @torch.no_grad()
    def act(self, observations: Tensor, explore: bool) -> Decision:
        return super().act(observations / (1 + self.rounds), explore)


@caught_by("goes on to the bit")
class ForgetsWhatEpisodesTaught(MTSAC):
    best: Tensor | float = 0.0

    def end_episodes(self, outcomes: Outcomes) -> None:
        self.best = outcomes.returns.max(-1).values.float()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().update(batch), "best": torch.as_tensor(self.best)}


@caught_by("goes on to the bit")
class ForgetsItsLoading(MTSAC):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        tensors = {**state["tensors"], "actor": self.state["actor"]}
        super().load_state_dict({**state, "tensors": tensors})


@caught_by("no global generator")
class DrawsFromTorch(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return super().update(batch._replace(rewards=batch.rewards + torch.rand(())))


@caught_by("no global generator")
class DrawsFromNumPy(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        shift = np.random.rand()  # noqa: NPY002
        return super().update(batch._replace(rewards=batch.rewards + shift))


@caught_by("no global generator")
class DrawsFromPython(MTSAC):
    def end_episodes(self, outcomes: Outcomes) -> None:
        python_random.random()


@caught_by("no global generator")
class ReadsTorchsSeed(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().update(batch), "seed": torch.tensor(float(torch.initial_seed()))}


@caught_by("another seed differs")
class OneSeedForAll(MTSAC):
    def __init__(self, settings: Any, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.generators["exploration"].manual_seed(0)


@caught_by("one seed repeats")
class DrawsTheTime(MTSAC):
    def update(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().update(batch), "now": torch.tensor(time.perf_counter() % 1)}


class Plain(MTSAC):
    """One that breaks none."""

    def build_actor(self) -> nn.Module:
        return MLP(self.tasks, 39, 8, 8, 1, False, head_bound=1e-3)
