"""Methods whose class breaks a rule of the contract, and those in which something is noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from broken import caught_by
from torch import Tensor, nn

from algorithms.algorithm import Algorithm, Batch
from algorithms.mtsac import MTSAC, MTSACSettings

SETTINGS = "settings are a frozen dataclass with defaults"
NOTED: list[tuple[str, str, type[Algorithm]]] = []
"""Point, a part of its note, and method."""


def noted_by(point: str, note: str) -> Any:
    """Puts a method into the list."""

    def listed(kind: type[Algorithm]) -> type[Algorithm]:
        NOTED.append((point, note, kind))
        return kind

    return listed


def plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


class Undecorated(MTSACSettings):
    size: int = 3


class Overridden(MTSACSettings):
    actor_width: int = 3


@dataclass(frozen=True)
class Untyped(MTSACSettings):
    actor_width = 3


@dataclass(frozen=True)
class Unrelated:
    actor_width: int = 8


@caught_by(SETTINGS)
class ForgottenMark(MTSAC):
    Settings = Undecorated


@caught_by(SETTINGS)
class ForgottenMarkOfAnOverride(MTSAC):
    Settings = Overridden


@caught_by(SETTINGS)
class ForgottenType(MTSAC):
    Settings = Untyped


@caught_by(SETTINGS)
class SettingsOfNobody(MTSAC):
    Settings: ClassVar[Any] = Unrelated


@caught_by(SETTINGS)
class SettingsThatAreBuilt(MTSAC):
    Settings: ClassVar[Any] = MTSACSettings()


@caught_by("builds")
class ReturnsNothing(MTSAC):
    def build_actor(self) -> Any:
        plain(39, 8)


@caught_by("builds")
class TorchsOptimiser(MTSAC):
    def build_optimisers(self) -> Any:
        return {**super().build_optimisers(), "actor": torch.optim.Adam([torch.zeros(1)])}


@caught_by("builds")
class NoOptimiser(MTSAC):
    def build_optimisers(self) -> Any:
        return {k: v for k, v in super().build_optimisers().items() if k != "actor"}


class ByTask(nn.Module):
    per_task: Any = ("task",)

    def __init__(self) -> None:
        super().__init__()
        self.task, self.body = nn.Parameter(torch.ones(3, 39)), plain(39, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x + self.task[: len(x), None])
        return result


class ByTasks(ByTask):
    per_task = ("tasks",)


class ByText(ByTask):
    per_task = "task"


@caught_by("builds")
class NamesNoParameter(MTSAC):
    def build_actor(self) -> nn.Module:
        return ByTasks()


@caught_by("builds")
class NamesOneLetterEach(MTSAC):
    def build_actor(self) -> nn.Module:
        return ByText()


@caught_by("networks fit")
class MeansAlone(MTSAC):
    def build_actor(self) -> nn.Module:
        return plain(39, 4)


@caught_by("networks fit")
class CriticOfObservations(MTSAC):
    def build_critic(self) -> nn.Module:
        return plain(39, 1)


@caught_by("networks fit")
class CriticOfEight(MTSAC):
    def build_critic(self) -> nn.Module:
        return plain(43, 8)


@caught_by("networks fit")
class WithoutTaskAxis(MTSAC):
    def build_actor(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(0, 1), plain(39, 8))


@caught_by("networks fit")
class WithoutValueAxis(MTSAC):
    def build_critic(self) -> nn.Module:
        return nn.Sequential(plain(43, 1), nn.Flatten(1, 2))


@caught_by("presets name known fields")
class PresetOfNoName(MTSAC):
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smok": {"actor_width": 8}}


@noted_by("names are known hooks", "ForeignSpelling.build_optimizers; did you mean build_optimis")
class ForeignSpelling(MTSAC):
    def build_optimizers(self) -> Any:
        return super().build_optimisers()


@noted_by("names are known hooks", "SingularHook.reward; did you mean rewards?")
class SingularHook(MTSAC):
    def reward(self, state: Any, batch: Batch) -> Tensor:
        return 0 * batch.rewards


@noted_by("names are known hooks", "SingularNames.preset; did you mean presets?")
class SingularNames(MTSAC):
    extra: ClassVar[Any] = {"option": ((), torch.float32)}
    preset: ClassVar[Any] = {"smoke": {}}


@noted_by("all parameters are trained", "actor 2.bias, actor 2.weight in 8 steps: 2,550 of")
class UnusedLayer(MTSAC):
    def build_actor(self) -> nn.Module:
        class Unused(nn.Sequential):
            def forward(self, x: Tensor) -> Tensor:
                result: Tensor = self[1](self[0](x))
                return result

        return Unused(nn.Linear(39, 8), plain(8, 8), nn.Linear(50, 50))


class OwnHelper(MTSAC):
    """One whose helper is nearly a hook's name, and is read."""

    def task_weight(self, state: Any) -> Tensor:
        return torch.ones_like(state["log_temperature"])

    def task_weights(self, state: Any) -> Tensor:
        return self.task_weight(state)
