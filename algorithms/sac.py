"""Multi-task soft actor-critic: the learner that every built-in algorithm shares.

SAC (arXiv 1801.01290, 1812.05905) with one temperature per task, on batches [T, B, ...]. Read
`learn` from top to bottom. An architecture supplies two plain modules, `build_actor` and
`build_critic`; what else a method changes is a hook with a default.

All that learning changes is in `state`, by name; `learn` reads and writes that and nothing else, so
that it can be compiled as one function, or replayed as a CUDA graph.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from algorithms.algorithm import Algorithm, Batch, Decision, NetworkProbe, ParameterCounts, Problem
from algorithms.combine import combined, drawn, start_gradnorm
from algorithms.parts.adam import Adam, State, check_optimisers
from algorithms.parts.gaussian import tanh_gaussian
from algorithms.parts.network import Network, Weights
from algorithms.parts.randomness import drawing, generator, seed_of
from algorithms.parts.task_gradients import Tensors, by_passes, by_slices, why_not_by_slices
from algorithms.parts.units import UnitRecord
from algorithms.sac_settings import SACSettings as SACSettings

Purpose = Literal["explore", "evaluate", "update", "probe"]
"""What numbers are drawn for."""
Phase = Literal["explore", "evaluate", "target", "critic", "policy"]
"""Why a network is run: to act (explore, evaluate), for the TD target, or for one of the losses."""
Given = Mapping[str, Tensor]
"""Tensors [T, ...] that networks and losses need beside observations, by name."""
AllWeights = Mapping[str, Weights]
"""The weights of each network, by its name."""
LossFunction = Callable[[AllWeights, Batch], tuple[Tensor, dict[str, Tensor]]]
"""Losses [T], or [C, T] of C critics, and detached metrics, from all weights and a batch."""


class Stateful(Protocol):
    """What is no tensor and yet part of the state."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dicts."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""


class MultiTaskSAC(Algorithm):
    """SAC on T tasks at once; see the module's docstring."""

    # From α = 1 the temperature needs tens of thousands of gradient steps to fall to where policies
    # learn; a short run starts near there.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "reward_scale": 0.1,
            "initial_temperature": 0.05,
            "temperature_learning_rate": 3e-4,
        },
        "d2r": {"reward_scale": 0.1},
        "ars": {"evaluated_actions": "sample"},
    }

    def __init__(self, settings: SACSettings, problem: Problem) -> None:
        self.settings: Any = settings
        self.problem, self.tasks = problem, len(problem.tasks)
        settings.check_tasks(self.tasks)
        with drawing(problem.seed, "structure"):
            self.networks = self.build_networks()
        self.optimisers = self.build_optimisers()
        check_optimisers(self.optimisers, (*self.networks, "log_temperature"))
        self.state: State = self.initial_state("init")
        """All tensors that learning changes, by name; subclasses add their own."""
        self.generators: dict[str, torch.Generator] = {
            purpose: generator(problem.seed, purpose, problem.device)
            for purpose in ("exploration", "update")
        }
        """What acting and `given` draw from; saved with the state, as are those that subclasses
        add."""
        if settings.evaluated_actions == "sample":
            self.evaluated_by = "sampled actions"
            # Of its own, so that evaluating leaves training as it is.
            self.generators["evaluation"] = generator(problem.seed, "evaluation", problem.device)
        self.stateful: dict[str, Stateful] = {}
        """Further parts of the state, which are no tensors."""
        self.by_slices: dict[str, bool] = {}
        """Whether the tasks' gradients of a network come from one pass; see `check_slices`."""

    # What an architecture supplies ---------------------------------------------------------

    @abstractmethod
    def build_actor(self) -> nn.Module:
        """The actor, [T, B, 39] → [T, B, 2·A]; torch's global generator is seeded for it."""

    @abstractmethod
    def build_critic(self) -> nn.Module:
        """One critic, [T, B, 39 + A] → [T, B, 1], or whatever `value` and `critic_error` read."""

    # Hooks -----------------------------------------------------------------------------------

    def build_networks(self) -> dict[str, Network]:
        """The actor, the critics and, in subclasses, networks that they share; all are counted.

        What is shared needs an optimiser too, and a place in `trained_by` and `target_names`.
        """
        device = self.problem.device
        return {
            "actor": Network(self.build_actor, device),
            "critic": Network(self.build_critic, device, copies=self.settings.critics),
        }

    def build_optimisers(self) -> dict[str, Adam]:
        """The optimiser of each part of the state that gradients change."""
        s = self.settings
        return {
            "actor": Adam(s.actor_learning_rate, s.adam_epsilon, weight_decay=s.weight_decay),
            "critic": Adam(s.critic_learning_rate, s.adam_epsilon, weight_decay=s.weight_decay),
            "log_temperature": Adam(s.temperature_learning_rate, s.adam_epsilon),
        }

    def given(self, purpose: Purpose, samples: int, random: torch.Generator) -> dict[str, Tensor]:
        """Tensors [T, ...] that acting or an update needs: noise, and what subclasses add.

        Called before the compiled step, which draws nothing itself; `random` is the only source.
        """
        shape, device = (self.tasks, samples, self.problem.action_size), self.problem.device
        names = {"explore": ["noise"], "evaluate": []}.get(purpose, ["next_noise", "noise"])
        given = {name: torch.randn(shape, generator=random, device=device) for name in names}
        return given | drawn(self.settings, self.tasks, random) if purpose == "update" else given

    def policy(
        self, weights: AllWeights, observations: Tensor, phase: Phase, given: Given
    ) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, [T, B, A] each."""
        return self.mean_and_log_std(self.networks["actor"](weights["actor"], observations))

    def mean_and_log_std(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The actor's output [T, B, 2·A] in its halves, the second one clamped."""
        mean, log_std = output.chunk(2, -1)
        return mean, log_std.clamp(self.settings.log_std_min, self.settings.log_std_max)

    def values(self, weights: AllWeights, inputs: Tensor, phase: Phase, given: Given) -> Tensor:
        """The critics' outputs [C, T, B, V] for observations with actions appended."""
        return self.networks["critic"](weights["critic"], inputs)

    def value(self, outputs: Tensor) -> Tensor:
        """The value [..., T, B] that the outputs [..., T, B, V] stand for."""
        return outputs[..., 0]

    def reduced(self, values: Tensor) -> Tensor:
        """The critics' values [C, T, B] as one, [T, B]."""
        return values.amin(0) if self.settings.critic_reduction == "min" else values.mean(0)

    def policy_value(self, outputs: Tensor) -> Tensor:
        """The value [T, B] that the policy climbs, from the critics' outputs [C, T, B, V]."""
        return self.reduced(self.value(outputs))

    def rewards(self, state: State, batch: Batch) -> Tensor:
        """The rewards [T, B] to learn from; reported returns never see them."""
        return self.settings.reward_scale * batch.rewards

    def backup(self, state: State, batch: Batch, outputs: Tensor, log_density: Tensor) -> Tensor:
        """What the critics learn to put out, [T, B, ...], from the target critics' outputs
        [C, T, B, V] and log π [T, B] at the next observation: r + γ (Q − α log π).
        """
        s = self.settings
        alive = 1 - batch.timeouts if s.timeout_is_terminal else 1.0
        soft_value = self.reduced(self.value(outputs))
        soft_value = soft_value - batch.extras["temperature"][:, None] * log_density
        return self.rewards(state, batch) + s.discount * alive * soft_value

    def critic_error(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss [C, T, B] of the critics' outputs [C, T, B, V] against their target."""
        return (self.value(outputs) - target).square()

    def task_weights(self, state: State) -> Tensor:
        """Weight of each task's loss, [T]; T·softmax(−log α) is D2R's route balancing."""
        if self.settings.task_weighting == "uniform":
            return torch.ones_like(state["log_temperature"])
        return torch.softmax(-state["log_temperature"], 0) * self.tasks

    def temperature_gradient(self, state: State, log_density: Tensor) -> Tensor:
        """That of −log α · (log π + target entropy) of each task, [T], from log π [T, B]: Haarnoja
        et al. (1812.05905), equation 18.
        """
        excess: Tensor = log_density.mean(-1) + self.settings.target_entropy
        if self.settings.temperature_loss == "alpha":
            excess = excess * state["log_temperature"].exp()
        return -excess

    def mend(self, state: State, batch: Batch, exploding: Tensor) -> None:
        """Called after a step that left out the tasks of which `exploding` [T] is true."""

    def polyak_of(self, name: str) -> float:
        """Rate at which the target copy of a network follows it."""
        return self.settings.polyak

    # Acting ----------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observations: Tensor, explore: bool) -> Decision:
        purpose: Literal["explore", "evaluate"] = "explore" if explore else "evaluate"
        given = self.given(purpose, observations.shape[1], self.generators["exploration"])
        if not explore and "evaluation" in self.generators:
            random = self.generators["evaluation"]
            shape = (*observations.shape[:2], self.problem.action_size)
            given["noise"] = torch.randn(shape, generator=random, device=random.device)
        return Decision(*self.decide(self.state, observations, given, purpose))

    def decide(
        self, state: State, observations: Tensor, given: Given, phase: Phase
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions [T, N, A], the mode's where no noise is given, and what goes with them to the
        replay.
        """
        mean, log_std = self.policy(self.weights(state), observations, phase, given)
        if "noise" not in given:
            return torch.tanh(mean), {}
        return tanh_gaussian(mean, log_std, given["noise"])[0], {}

    # Learning --------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, Tensor]:
        given = self.given("update", batch.rewards.shape[1], self.generators["update"])
        batch = self.with_extras(batch, **given)
        if not self.by_slices:
            self.check_slices(batch)
        return self.learn(self.state, batch)

    def check_slices(self, batch: Batch) -> None:
        """Finds out, on the first batch, how the gradients that are combined are to be had.

        Warns of a network whose tasks cannot be told apart in one pass.
        """
        self.by_slices = {"actor": True, "critic": True}
        if self.settings.combine == "mean":
            return
        batch, weights = self.prepared(self.state, batch), self.weights(self.state)
        for name in ("actor", "critic"):
            if not self.settings.combines(name):
                continue
            parts = self.trained_by(name)
            why = why_not_by_slices(self.loss_of(name), weights, parts, self.networks, batch)
            self.by_slices[name] = not why
            if why:
                warnings.warn(
                    f"combine: {self.settings.combine} takes {self.tasks} backward passes for the "
                    f"{name} instead of one ({why}); a module's parameters with a task axis stand "
                    "in its `per_task`, and tensors of `given` have that axis first",
                    stacklevel=2,
                )

    def learn(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """One step of critics, actor, temperatures and targets; returns metrics."""
        s = self.settings
        temperature = state["log_temperature"].exp()
        weight = self.task_weights(state)
        batch = self.prepared(state, batch)

        critic_loss, metrics, critic_gradient = self.differentiate("critic", state, batch)
        if s.update_order == "critic_first":
            critic_norm = self.step(state, critic_gradient(weight))
            actor_loss, found, actor_gradient = self.differentiate("actor", state, batch)
            by_actor = actor_gradient(weight)
        else:
            actor_loss, found, actor_gradient = self.differentiate("actor", state, batch)
            by_temperature = self.temperature_gradient(state, found["log_density"])
            loss = weight * (critic_loss.sum(0) + actor_loss)
            # The gradient of log α · x is x, that of α · x is itself.
            scale = state["log_temperature"] if s.temperature_loss == "log_alpha" else 1.0
            loss = loss + scale * by_temperature
            exploding = loss > s.task_loss_threshold
            weight = weight * ~exploding
            # The critics step in place: what is pulled back later would see them moved.
            by_actor = actor_gradient(weight)
            critic_norm = self.step(state, critic_gradient(weight))
        actor_norm = self.step(state, by_actor)
        log_density = found.pop("log_density")
        self.step_temperature(state, self.temperature_gradient(state, log_density) * (weight > 0))
        if s.update_order == "simultaneous":
            self.mend(state, batch, exploding)
        self.follow(state)
        return {
            "critic_loss": critic_loss.mean(0),
            "actor_loss": actor_loss,
            **metrics,
            **found,
            "entropy": -log_density.mean(-1),
            "temperature": temperature,
            "critic_gradient_norm": critic_norm,
            "actor_gradient_norm": actor_norm,
        }

    def prepared(self, state: State, batch: Batch) -> Batch:
        """The batch with what both losses read: temperatures and the critics' target."""
        batch = self.with_extras(batch, temperature=state["log_temperature"].exp())
        with torch.no_grad():
            return self.with_extras(batch, target=self.target(state, batch))

    def target(self, state: State, batch: Batch) -> Tensor:
        """What the critics learn to put out for the batch, [T, B, ...]."""
        observations, given = batch.next_observations, batch.extras
        mean, log_std = self.policy(self.weights(state), observations, "target", given)
        action, log_density = tanh_gaussian(mean, log_std, given["next_noise"])
        inputs = torch.cat([observations, action], -1)
        outputs = self.values(self.weights(state, targets=True), inputs, "target", given)
        return self.backup(state, batch, outputs, log_density)

    def critic_loss(self, weights: AllWeights, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of each critic on each task, [C, T], and the mean value of each task."""
        inputs = torch.cat([batch.observations, batch.actions], -1)
        outputs = self.values(weights, inputs, "critic", batch.extras)
        loss = self.critic_error(outputs, batch.extras["target"]).mean(-1)
        return loss, {"value": self.value(outputs).mean((0, 2)).detach()}

    def actor_loss(self, weights: AllWeights, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """E[α log π(a|s) − Q(s, a)] of each task, [T], and log π(a|s) [T, B]."""
        given = batch.extras
        mean, log_std = self.policy(weights, batch.observations, "policy", given)
        action, log_density = tanh_gaussian(mean, log_std, given["noise"])
        inputs = torch.cat([batch.observations, action], -1)
        value = self.policy_value(self.values(weights, inputs, "policy", given))
        loss = (given["temperature"][:, None] * log_density - value).mean(-1)
        return loss, {"log_density": log_density.detach()}

    def differentiate(
        self, name: Literal["actor", "critic"], state: State, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Callable[[Tensor], dict[str, Tensor]]]:
        """The loss of a network, [T] or [C, T], its metrics, and the gradient as a function.

        The gradient, {part of the state: vector}, is that of the mean over tasks, each with the
        weight [T] that the function is given, or what `combine` makes of the tasks' gradients.
        """
        weights, parts = self.weights(state), self.trained_by(name)
        if self.settings.combines(name):
            each = by_slices if self.by_slices[name] else by_passes
            loss, metrics, gradients = each(
                self.loss_of(name), weights, parts, self.networks, batch
            )

            def joined(weight: Tensor) -> dict[str, Tensor]:
                weight = weight * (self.loss_scale(name) * self.tasks)
                extras, networks = batch.extras, self.networks
                return self.flat(
                    combined(self.settings, name, state, extras, gradients, loss, weight, networks)
                )

            return loss, metrics, joined

        def function(own: AllWeights) -> tuple[Tensor, dict[str, Tensor]]:
            return self.loss_of(name)({**weights, **own}, batch)

        trained = {part: weights[part] for part in parts}
        # with has_aux vjp returns three values, of which its annotation knows nothing
        vjp: Any = torch.func.vjp
        loss, pull, metrics = vjp(function, trained, has_aux=True)

        def gradient(weight: Tensor) -> dict[str, Tensor]:
            (tensors,) = pull((weight * self.loss_scale(name)).expand(loss.shape))
            return self.flat(tensors)

        return loss.detach(), metrics, gradient

    def loss_of(self, name: str) -> LossFunction:
        """The function of a network's loss."""
        return self.critic_loss if name == "critic" else self.actor_loss

    def flat(self, tensors: Tensors) -> dict[str, Tensor]:
        """Each network's tensors as one vector."""
        networks = self.networks
        return {name: networks[name].flat(t, networks[name].lead) for name, t in tensors.items()}

    def trained_by(self, name: str) -> tuple[str, ...]:
        """The networks that the loss of `name` trains."""
        return (name,)

    def loss_scale(self, name: str) -> float:
        """What a task's loss counts: 1 / T, and for critics that step jointly 1 / (C·T)."""
        jointly = name == "critic" and self.settings.clip_critics == "jointly"
        return 1 / (self.tasks * (self.settings.critics if jointly else 1))

    def step(self, state: State, gradients: dict[str, Tensor]) -> Tensor:
        """Clips, steps each vector and returns the first one's norm before clipping."""
        s = self.settings
        norms: list[Tensor] = []
        for name, gradient in gradients.items():
            each = name == "critic" and s.clip_critics == "separately"
            norm = torch.linalg.vector_norm(gradient, dim=-1 if each else None, keepdim=each)
            self.optimisers[name].step(state, name, clipped(gradient, norm, s.gradient_clip))
            norms.append(norm.mean())
        return norms[0]

    def step_temperature(self, state: State, gradient: Tensor) -> None:
        """Steps the temperatures on the gradient [T] of each task's loss. Where all share one, its
        gradient is their sum, and each task's entry takes the same step.
        """
        s = self.settings
        gradient = (gradient.sum() if s.shared_temperature else gradient) / self.tasks
        gradient = clipped(gradient, torch.linalg.vector_norm(gradient), s.temperature_clip)
        gradient = gradient.expand(self.tasks)
        self.optimisers["log_temperature"].step(state, "log_temperature", gradient)
        if s.max_log_temperature < math.inf:
            state["log_temperature"].clamp_(max=s.max_log_temperature)

    def follow(self, state: State) -> None:
        """Polyak averaging of the target critics."""
        for name in self.target_names():
            target = state[f"{name}.target"]
            target.copy_(target + self.polyak_of(name) * (state[name] - target))

    # Weights and state -------------------------------------------------------------------------

    def target_names(self) -> Iterable[str]:
        """Networks of which a slowly following copy makes the targets."""
        return ("critic",)

    def weights(self, state: State, targets: bool = False) -> dict[str, dict[str, Tensor]]:
        """Every network's weights by name; with `targets`, the target copies where there are."""
        following = set(self.target_names()) if targets else set()
        return {
            name: network.views(state[f"{name}.target" if name in following else name])
            for name, network in self.networks.items()
        }

    def initial_state(self, purpose: str) -> State:
        """Fresh weights, drawn for this purpose, with all that belongs to them."""
        start = math.log(self.settings.initial_temperature)
        state: State = {}
        with drawing(self.problem.seed, purpose):
            for name, network in self.networks.items():
                state[name] = network.fresh()
        state["log_temperature"] = torch.full((self.tasks,), start, device=self.problem.device)
        for name in self.target_names():
            state[f"{name}.target"] = state[name].clone()
        for name, optimiser in self.optimisers.items():
            optimiser.start(state, name)
        start_gradnorm(self.settings, state, self.tasks, self.problem.device)
        return state

    def reset(self, purpose: str) -> None:
        """Starts networks, temperatures and optimisers again; everything else stays."""
        for name, value in self.initial_state(purpose).items():
            self.state[name].copy_(value)

    @staticmethod
    def with_extras(batch: Batch, **extras: Tensor) -> Batch:
        """The batch with further tensors [T, ...] for the networks and losses."""
        return batch._replace(extras={**batch.extras, **extras})

    def state_dict(self) -> dict[str, Any]:
        return {
            "tensors": dict(self.state),
            "generators": {name: own.get_state() for name, own in self.generators.items()},
            "due_updates": self.due_updates,
            "by_slices": dict(self.by_slices),
            **{name: part.state_dict() for name, part in self.stateful.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        tensors = state["tensors"]
        if tensors.keys() != self.state.keys():
            different = sorted(tensors.keys() ^ self.state.keys())
            raise ValueError(f"the state is another algorithm's: {different[0]} is not in both")
        for name, value in self.state.items():
            if value.shape != tensors[name].shape:
                raise ValueError(f"the state's {name} is {tuple(tensors[name].shape)}")
            value.copy_(tensors[name])
        for name, own in self.generators.items():
            own.set_state(state["generators"][name])
        self.due_updates = state["due_updates"]
        self.by_slices = dict(state.get("by_slices", {}))
        for name, part in self.stateful.items():
            part.load_state_dict(state[name])

    def compile(self) -> None:
        """Compiles acting and the gradient step: the same lines, fused.

        A part of a network that has something to say first does so in `before_compiling`.
        """
        for network in self.networks.values():
            for part in network.module.modules():
                getattr(part, "before_compiling", lambda: None)()
        whole: Any = {"fullgraph": True, "dynamic": False}
        self.learn = torch.compile(self.learn, **whole)  # type: ignore[method-assign]
        self.decide = torch.compile(self.decide, **whole)  # type: ignore[method-assign]

    # Looking in ------------------------------------------------------------------------------

    def probe(self, batch: Batch, seed: int) -> dict[str, NetworkProbe]:
        samples = batch.rewards.shape[1]
        random = torch.Generator(self.problem.device).manual_seed(seed_of(seed, "probe"))
        given = self.given("probe", samples, random)
        batch = self.prepared(self.state, self.with_extras(batch, **given))
        result: dict[str, NetworkProbe] = {}
        seen: set[str] = set()
        for name in ("actor", "critic"):
            weights = self.weights(self.state)
            parts = [part for part in self.trained_by(name) if part not in seen]
            seen |= set(parts)
            own = {
                part: {k: w.detach().requires_grad_() for k, w in weights[part].items()}
                for part in parts
            }
            with ExitStack() as tracks:
                records = {
                    part: tracks.enter_context(self.networks[part].recorded(self.tasks, samples))
                    for part in parts
                }
                loss, _ = self.loss_of(name)({**weights, **own}, batch)
            for part in parts:
                if part != name and not records[part].units:
                    continue  # a shared table has no hidden units
                result |= self.probed(part, records[part], own[part], loss.mean(-1).sum())
        return result

    def probed(
        self, name: str, record: UnitRecord, own: dict[str, Tensor], loss: Tensor
    ) -> dict[str, NetworkProbe]:
        """What a loss says of each copy of a network, by name."""
        network = self.networks[name]
        gradients = torch.autograd.grad(
            loss, list(own.values()), retain_graph=True, materialize_grads=True, allow_unused=True
        )
        by_name = dict(zip(own, gradients, strict=True))
        return {
            name if network.copies is None else f"{name}_{copy}": NetworkProbe(
                record.of(copy, name), network.of_copy(own, copy), network.of_copy(by_name, copy)
            )
            for copy in range(network.copies or 1)
        }

    def parameter_counts(self) -> ParameterCounts:
        actor, *others = (self.networks[name].count for name in self.networks)
        return ParameterCounts(actor, sum(others))


def clipped(gradient: Tensor, norm: Tensor, largest: float) -> Tensor:
    """The gradient scaled to a norm of at most `largest`; 0 leaves it as it is."""
    return gradient * (largest / (norm + 1e-6)).clamp(max=1.0) if largest > 0 else gradient
