"""A method that cannot be trained is one line, before a run or a sweep has begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from suite import rehearsal
from suite.cli import main
from suite.options import parse

OWN = """
from dataclasses import dataclass
import torch
from torch import nn
from algorithms.sac import MultiTaskSAC, SACSettings

@dataclass(frozen=True)
class Own(SACSettings):
    actor_width: int = 15
    critic_width: int = 15

class Unmarked(Own):
    depth: int = 3

@dataclass(frozen=True)
class Unrelated:
    actor_width: int = 15

def mlp(inputs, width, outputs):
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))

class Good(MultiTaskSAC):
    Settings = Own
    def build_actor(self):
        return mlp(39, self.settings.actor_width, 8)
    def build_critic(self):
        return mlp(43, self.settings.critic_width, 1)

class Headed(Good):
    def build_actor(self):
        if self.settings.actor_width % 32:
            raise RuntimeError("32 heads")
        return super().build_actor()

@dataclass(frozen=True, slots=True)
class InSlots(Own):
    actor_width: int = 15
    depth: int = 1

class Slotted(Good):
    Settings = InSlots

class Largest(Good):
    def learn(self, state, batch):
        return {**super().learn(state, batch), "x": batch.rewards.topk(16).values.mean()}

class Deterministic(Good):
    # of one action for each state: no means and deviations are read from its actor
    def build_actor(self):
        return mlp(39, 8, 4)
    def mode(self, weights, observations):
        return torch.tanh(self.networks["actor"](weights["actor"], observations))
    def decide(self, state, observations, given, phase):
        action = self.mode(self.weights(state), observations)
        return (action + given["noise"] if "noise" in given else action).clamp(-1, 1), {}
    def target(self, state, batch):
        action = self.mode(self.weights(state), batch.next_observations)
        inputs = torch.cat([batch.next_observations, action], -1)
        outputs = self.values(self.weights(state, targets=True), inputs, "target", batch.extras)
        return self.backup(state, batch, outputs, torch.zeros_like(batch.rewards))
    def actor_loss(self, weights, batch):
        action = self.mode(weights, batch.observations)
        inputs = torch.cat([batch.observations, action], -1)
        value = self.policy_value(self.values(weights, inputs, "policy", batch.extras))
        return -value.mean(-1), {"log_density": torch.zeros_like(value)}

class NoActor(MultiTaskSAC):
    Settings = Own
    def build_critic(self):
        return mlp(43, 8, 1)

class OfNobody(Good):
    Settings = Unrelated

class Instance(Good):
    Settings = Own()

class Forgotten(Good):
    Settings = Unmarked

class ReturnsNone(Good):
    def build_actor(self):
        mlp(39, 8, 8)

class TorchsAdam(Good):
    def build_optimisers(self):
        return {**super().build_optimisers(), "actor": torch.optim.Adam([torch.zeros(1)])}

class Means(Good):
    def build_actor(self):
        return mlp(39, 8, 4)

class Blind(Good):
    def build_critic(self):
        return mlp(39, 8, 1)

class Squeezed(Good):
    def build_critic(self):
        return nn.Sequential(mlp(43, 8, 1), nn.Flatten(1, 2))

class Number(Good):
    def learn(self, state, batch):
        return {**super().learn(state, batch), "x": 3.0}

class Samples(Good):
    def learn(self, state, batch):
        return {**super().learn(state, batch), "x": batch.rewards}

class Exits(Good):
    def update(self, batch):
        raise SystemExit(3)
"""
FAULTS = {
    "NoActor": "abstract method build_actor",
    "OfNobody": "derive Unrelated from SACSettings",
    "Instance": "Settings is Own(...), no class",
    "Forgotten": "write @dataclass(frozen=True) above Unmarked, or 'depth' is no field",
    "ReturnsNone": "build_actor returns NoneType; return an nn.Module",
    "TorchsAdam": "build_optimisers: actor has a torch.optim.adam.Adam",
    "Means": "build_actor: its module gives [2, 8, 4] for [2, 8, 39]; give [T, B, 8]; "
    "make check-algorithm ALG=to_rehearse:Means names every point",
    "Blind": "build_critic: its module must take [T, B, 43]",
    "Squeezed": "build_critic: its module gives [2, 8] for [2, 8, 43]; give [T, B, 1]",
    "Number": "update: the metric x is a float; give a tensor",
    "Samples": "update: the metric x is (2, 8); give [T] or a scalar",
    "Exits": "SystemExit: 3",
}
RUN = ["--preset", "smoke", "--tasks", "reach,push", "--track", "none"]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "to_rehearse.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("command", ["bench", "sweep"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_method_that_cannot_be_trained_is_a_line(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "runs"
    arguments = [command, "--alg", f"to_rehearse:{name}", *RUN, "--results", str(results)]
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert FAULTS[name] in error
    assert (out, error.count("\n")) == ("", 1)
    assert not results.exists()


@pytest.mark.parametrize("name", ["Good", "Headed", "Slotted", "Largest", "Deterministic"])
def test_one_that_can_be_trained_is_tried_once_with_its_own_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried, try_one = [], rehearsal.try_one
    monkeypatch.setattr(
        rehearsal, "try_one", lambda config: (tried.append(config), try_one(config))
    )
    sweep = ["sweep", "--alg", f"to_rehearse:{name},mtsac", *RUN, "--seed", "0,1", "--dry-run"]
    sweep += ["--batch-per-task", "32"]
    assert main([*sweep, "--results", str(tmp_path / "runs")]) == 0, capsys.readouterr().err
    assert [config.algorithm for config in tried] == [f"to_rehearse:{name}"]


def test_one_for_a_gpu_is_not_tried_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "try_one", None)
    monkeypatch.setattr(rehearsal, "TRIED", set())
    config = parse(["--alg", "to_rehearse:Good", *RUN])
    rehearsal.rehearse([replace(config, device="cuda")])
    with pytest.raises(TypeError):
        rehearsal.rehearse([config])


def test_a_large_one_is_not_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rehearsal, "LARGEST", 1000)
    monkeypatch.setattr(rehearsal, "try_one", None)
    sweep = ["sweep", "--alg", "to_rehearse:Good", *RUN, "--dry-run"]
    assert main([*sweep, "--results", str(tmp_path / "runs")]) == 0
