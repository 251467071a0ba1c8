"""ARS, adaptive reward scaling and resets (Cho et al., ICML 2025; code ms-cho/ARS-MTRL).

Rewards of every task are scaled so that their means are equal, and networks begin again a few times
in a run while the replay stays. Both stand on any architecture: `class Mine(ScaledAndReset,
SoftModules)` with settings that derive from `ScaleAndResetSettings` and `SoftModulesSettings`. An
architecture that normalises rewards itself, as CARE and BRC do, wants one of the two left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from algorithms.algorithm import Batch, Outcomes, Problem
from algorithms.fields import Depth, LogStd, NotNegative, Positive, Range, Rate, Share, Width
from algorithms.parts.adam import Adam, State
from algorithms.parts.adapters import Adapted, AdaptingAdam, of_modules
from algorithms.parts.layers import TaskLinear, linear, with_rows, xavier_normal, zero
from algorithms.sac import AllWeights, Given, MultiTaskSAC, Phase, Purpose, SACSettings

JUDGED = 10
"""Rounds whose success decides whether a reset is one: the authors judge ten episodes a task."""


@dataclass(frozen=True)
class ScaleAndResetSettings:
    """Reward scaling by task and scheduled resets [ARS: Cho et al., ICML 2025, and their code].

    It brings no other fields, so that those of an architecture beside it keep their defaults.
    """

    scale_rewards: bool = True
    """Multiply each task's rewards so that all have the mean of the task with the largest one, as
    it is when learning begins and at every reset [ARS]."""
    reward_floor: Positive = 0.01
    """Least mean reward that a task's factor is computed from [ARS]."""
    resets: Annotated[int, Range(0, 1000)] = 4
    """How often networks, temperatures and optimisers begin again, evenly over the run: 4 on MT10,
    6 on MT50, and 9, every 200,000 steps of a task, on MT50 with a horizon of 150 [ARS]."""
    updates_after_reset: Annotated[int, Range(0, 1_000_000)] = 1000
    """Gradient steps after a reset, before the next action [ARS]."""


@dataclass
class Schedule:
    """How far the run has come."""

    rounds: int = 0
    """Episodes that each environment has ended."""
    resets: int = 0
    """Resets so far."""
    successes: list[float] = field(default_factory=list)
    """Mean success of the newest rounds."""

    def state_dict(self) -> dict[str, Any]:
        """All three."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.rounds, self.resets = state["rounds"], state["resets"]
        self.successes = list(state["successes"])


class ScaledAndReset(MultiTaskSAC):
    """Reward scaling and resets for the architecture of the class that stands next to this one.

    Its settings derive from `ScaleAndResetSettings` and from the architecture's.
    """

    def __init__(self, settings: Any, problem: Problem) -> None:
        rounds = problem.locksteps // problem.horizon
        if 0 < rounds <= settings.resets:
            raise ValueError(
                f"resets {settings.resets} do not fit into a run of {rounds} rounds of episodes; "
                f"give at most {rounds - 1}"
            )
        if settings.scale_rewards and getattr(settings, "normalise_rewards", False):
            raise ValueError(
                "scale_rewards and normalise_rewards would both scale a task's rewards: add "
                "--no-scale-rewards or --no-normalise-rewards"
            )
        super().__init__(settings, problem)
        self.state["reward_factors"] = torch.ones(self.tasks, device=problem.device)
        self.schedule = self.stateful["schedule"] = Schedule()

    def rewards(self, state: State, batch: Batch) -> Tensor:
        return super().rewards(state, batch) * state["reward_factors"][:, None]

    def end_random_episodes(self, outcomes: Outcomes) -> None:
        """Factors for when learning begins."""
        super().end_random_episodes(outcomes)
        self.schedule.rounds += 1
        if self.settings.scale_rewards:
            factors = reward_factors(outcomes.mean_rewards, self.settings.reward_floor)
            self.state["reward_factors"].copy_(factors)

    def end_episodes(self, outcomes: Outcomes) -> None:
        """Resets what is due, and says how many updates follow it."""
        super().end_episodes(outcomes)
        first = self.schedule.rounds == 0
        self.schedule.rounds += 1
        newest = [*self.schedule.successes, float(outcomes.successes.mean())]
        self.schedule.successes = newest[-JUDGED:]
        learning = bool(self.state["actor.steps"] > 0)
        due = learning and self.due()
        factors = self.state["reward_factors"].clone()
        if self.settings.scale_rewards and (due or first or not learning):
            factors.copy_(reward_factors(outcomes.mean_rewards, self.settings.reward_floor))
        if due:
            self.schedule.resets += 1
            self.begin_again(f"reset {self.schedule.resets}", factors)
            self.due_updates = self.settings.updates_after_reset
        self.state["reward_factors"].copy_(factors)

    def begin_again(self, purpose: str, factors: Tensor) -> None:
        """A due reset, after which rewards have these factors [T]."""
        self.reset(purpose)

    def due(self) -> bool:
        """Whether a reset stands at the end of this round: there are `resets` in the run, and none
        at its end.
        """
        whole = self.problem.locksteps // self.problem.horizon
        return self.schedule.rounds in reset_rounds(whole, self.settings.resets)

    def report(self, batch: Batch) -> dict[str, list[float]]:
        """Per task: the factor on its rewards."""
        return {**super().report(batch), "reward_factor": self.state["reward_factors"].tolist()}


def reset_rounds(rounds: int, resets: int) -> set[int]:
    """After which of a run's rounds networks begin again: every ⌈rounds / (resets + 1)⌉ [ARS]; as
    evenly as can be where the last of these would come at the end [choice]. While actions are
    random there is nothing to begin again, and a reset that falls there is none.
    """
    between = math.ceil(rounds / (resets + 1))
    if between * resets < rounds:
        return {between * number for number in range(1, resets + 1)}
    return {math.ceil(rounds * number / (resets + 1)) for number in range(1, resets + 1)}


def reward_factors(means: Tensor, floor: float) -> Tensor:
    """The largest of the tasks' mean rewards over each of them, [T]; none counts as less than
    `floor`, the largest one neither [choice].
    """
    means = means.clamp(min=floor)
    return means.max() / means


# ARS on plain networks ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ARSSettings(ScaleAndResetSettings, SACSettings):
    """Reward scaling and resets on plain networks with normalised critics [ARS]."""

    adam_epsilon: Rate = 1e-8
    gradient_clip: NotNegative = 0.0
    log_std_min: LogStd = -20.0
    """Without effect, and to be left out: nothing clamps the standard deviation [ARS]."""
    log_std_max: LogStd = 2.0
    """Without effect, and to be left out: nothing clamps the standard deviation [ARS]."""
    clip_critics: Literal["jointly", "separately"] = "separately"
    temperature_loss: Literal["log_alpha", "alpha"] = "alpha"
    evaluated_actions: Literal["mode", "sample"] = "mode"

    actor_width: Width = 400
    """Units of each hidden layer of the actor: 400, or 1024 for the best result on MT50 [ARS]."""
    actor_depth: Depth = 4
    """Hidden layers of the actor [ARS]."""
    critic_width: Width = 400
    """Units of each hidden layer of each critic [ARS]."""
    critic_depth: Depth = 4
    """Hidden layers of each critic [ARS]."""
    critic_norm: bool = True
    """Normalise the critics' inputs and hidden layers, the task's one-hot among them [ARS]."""
    policy_critics: Literal["reduced", "first"] = "first"
    """Whose value the policy climbs: the critics' as reduced in targets, or the first one's
    [ARS]."""
    lora_rank: Annotated[int, Range(0, 1024)] = 0
    """Rank of the tasks' adapters on every layer that replace late resets: 0 for none [ARS], 8 on
    MT10 and 16 on MT50 [ARS-LoRA]. The actor's output has one adapter, its first layer reads the
    observation alone [choice]."""
    lora_from: Share = 0.75
    """Share of the run after which a reset freezes the networks and begins adapters instead
    [ARS-LoRA]."""
    lora_success: Share = 0.8
    """Mean success below which it is a reset all the same: 0.8 on MT10, 0.65 on MT50 [ARS-LoRA],
    here of the last ten training episodes per task [choice]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("log_std_min", "log_std_max"):
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name}: nothing clamps the standard deviation of ars; leave out")


class ARS(ScaledAndReset):
    """MT-SAC with rewards scaled per task and scheduled resets."""

    Settings = ARSSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"resets": 1, "updates_after_reset": 10},
        # A run of minutes has no time to learn anew four times.
        "quick": {"resets": 1, "updates_after_reset": 200},
        "*": {
            "resets": lambda tasks: 4 if tasks <= 10 else 6,
            "lora_success": lambda tasks: 0.8 if tasks <= 10 else 0.65,
        },
        "published": {
            "evaluated_actions": "sample",
            "horizon": 500,
            "goals": "random",
            "reward_version": "v2",
            "steps": lambda tasks: tasks * 2_000_000,
            "random_steps": 25_000,
            "batch_per_task": 100,
            "buffer_per_task": lambda tasks: 1_000_000 if tasks <= 10 else 500_000,
            "eval_goals": "preset",
            "eval_episodes": 10,
            "final_episodes": 10,
        },
    }
    capturable = True

    def __init__(self, settings: ARSSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        if settings.lora_rank:
            self.state["adapting"] = torch.zeros((), device=problem.device)
            self.state["value_factors"] = torch.ones(self.tasks, device=problem.device)

    # Networks --------------------------------------------------------------------------------

    def build_actor(self) -> nn.Module:
        s, p = self.settings, self.problem
        width, inputs = s.actor_width, p.observation_size
        first = TaskLinear(inputs, self.tasks, width, xavier_normal, zero)
        layers = [self.adapted(first, inputs, width)]
        for size in [width] * (s.actor_depth - 1) + [2 * p.action_size]:
            layers += [nn.ReLU(), self.layer(width, size)]
        return nn.Sequential(*layers)

    def build_critic(self) -> nn.Module:
        s, p = self.settings, self.problem
        inputs = p.observation_size + p.action_size + self.tasks
        layers: list[nn.Module] = [nn.LayerNorm(inputs, eps=1e-6)] if s.critic_norm else []
        for size in [inputs, *[s.critic_width] * (s.critic_depth - 1)]:
            layers.append(self.layer(size, s.critic_width))
            if s.critic_norm:
                layers.append(nn.LayerNorm(s.critic_width, eps=1e-6))
            layers.append(nn.Tanh())
        return nn.Sequential(*layers, self.layer(s.critic_width, 1))

    def layer(self, inputs: int, outputs: int) -> nn.Module:
        """A linear layer, with adapters where there are any."""
        return self.adapted(linear(inputs, outputs, xavier_normal, zero), inputs, outputs)

    def adapted(self, layer: nn.Module, inputs: int, outputs: int) -> nn.Module:
        """The layer, with adapters where there are any."""
        rank = self.settings.lora_rank
        return Adapted(layer, self.tasks, inputs, outputs, rank) if rank else layer

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        """The tasks' one-hots too: normalised with the rest of the input, they are no table."""
        given = super().given(purpose, samples, random)
        given["task"] = torch.eye(self.tasks, device=self.problem.device)
        if self.settings.lora_rank:
            given["value_factors"] = self.state["value_factors"]
        return given

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        outputs = super().values(weights, with_rows(inputs, given["task"]), phase, given)
        if self.settings.lora_rank:
            return outputs * given["value_factors"][:, None, None]
        return outputs

    def policy_value(self, outputs: Tensor) -> Tensor:
        if self.settings.policy_critics == "first":
            return self.value(outputs[:1])[0]
        return super().policy_value(outputs)

    def mean_and_log_std(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """A standard deviation of softplus + 1e-5, which nothing clamps."""
        mean, raw = output.chunk(2, -1)
        return mean, (functional.softplus(raw) + 1e-5).log()

    # Adapters instead of a reset ---------------------------------------------------------------

    def build_optimisers(self) -> dict[str, Adam]:
        optimisers = super().build_optimisers()
        for name in ("actor", "critic") if self.settings.lora_rank else ():
            mine, norms = (
                of_modules(self.networks[name], kind) for kind in (Adapted, nn.LayerNorm)
            )
            optimisers[name] = AdaptingAdam(
                **vars(optimisers[name]), before=~mine, after=mine | norms
            )
        return optimisers

    def begin_again(self, purpose: str, factors: Tensor) -> None:
        """Late in a run that goes well, adapters on what has been learned instead of a reset."""
        s, state = self.settings, self.state
        late = self.schedule.rounds * self.problem.horizon > s.lora_from * self.problem.locksteps
        success = sum(self.schedule.successes) / len(self.schedule.successes)
        if not (s.lora_rank and late and (state["adapting"] > 0 or success >= s.lora_success)):
            super().begin_again(purpose, factors)
            return
        # What the critics say is worth as much more as the rewards will be.
        state["value_factors"].mul_(factors / state["reward_factors"])
        fresh = self.initial_state(purpose)
        for name in ("actor", "critic"):
            mine = of_modules(self.networks[name], Adapted)
            fresh[name] = torch.where(mine, fresh[name], state[name])
            for key in fresh:
                if key == name or key.startswith(f"{name}."):
                    state[key].copy_(fresh[key])
        state["critic.target"].copy_(state["critic"])
        state["adapting"].fill_(1.0)
