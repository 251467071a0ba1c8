"""The learner against multi-task SAC written by hand in plain torch, and its edge behaviours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from algorithms.gradients import clip
from algorithms.settings import D2RSettings, MEGASettings, MTSACSettings, SACSettings
from torch import Tensor, distributions, nn

from algorithms.algorithm import Algorithm, Batch

T, B = 3, 6
Layers = list[Tensor]


# A learner written by hand: separate networks, one-hot inputs, torch's own optimiser -----------


def plain_layers(network: Any, member: int) -> Layers:
    """Weights and biases of one member as torch.nn.Linear lays them out; heads one a task."""
    layers = []
    for layer in list(network.layers)[::2]:
        weight = layer.weight[member]
        if hasattr(layer, "task"):
            weight = torch.cat([weight, layer.task[member]])
        layers += [weight.T, layer.bias[member, 0]]
    weight, bias = network.head.weight[member], network.head.bias[member]
    layers += [weight.transpose(-1, -2), bias.squeeze(-2)]
    return [x.detach().clone() for x in layers]


def plain_forward(layers: Layers, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """[T, B, in] → [T, B, out] and what the hidden layers put out."""
    one_hot = torch.eye(x.shape[0], dtype=x.dtype)
    outputs, hidden = [], []
    for task, rows in enumerate(x):
        h = torch.cat([rows, one_hot[task].expand(len(rows), -1)], -1)
        units = []
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            h = torch.relu(nn.functional.linear(h, weight, bias))
            units.append(h)
        hidden.append(units)
        weight, bias = (p[task] if layers[-2].dim() == 3 else p for p in layers[-2:])
        outputs.append(nn.functional.linear(h, weight, bias))
    return torch.stack(outputs), [torch.stack(layer) for layer in zip(*hidden, strict=True)]


class PlainSAC:
    """Takes over the weights of an MTSAC and learns on, loop by loop."""

    def __init__(self, algorithm: Any) -> None:
        s = self.settings = algorithm.settings
        self.actor = plain_layers(algorithm.actor, 0)
        self.critics = [plain_layers(algorithm.critic, m) for m in range(2)]
        self.targets = [plain_layers(algorithm.target, m) for m in range(2)]
        self.log_alpha = algorithm.log_temperature.detach().clone()
        for parameter in [*self.actor, *self.critics[0], *self.critics[1], self.log_alpha]:
            parameter.requires_grad_()
        self.noise = torch.Generator()
        self.noise.set_state(algorithm.noise.generators[0].get_state())

        def adam(parameters: list[Tensor], rate: float) -> torch.optim.Adam:
            return torch.optim.Adam(parameters, rate, eps=s.adam_epsilon)

        self.actor_adam = adam(self.actor, s.actor_learning_rate)
        self.critic_adam = adam([*self.critics[0], *self.critics[1]], s.critic_learning_rate)
        self.alpha_adam = adam([self.log_alpha], s.temperature_learning_rate)

    def sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = plain_forward(self.actor, observations)[0].chunk(2, -1)
        std = log_std.clamp(self.settings.log_std_min, self.settings.log_std_max).exp()
        tanh = distributions.TanhTransform(cache_size=1)
        normal = distributions.Independent(distributions.Normal(mean, std), 1)
        noise = torch.randn(mean.shape, generator=self.noise, dtype=mean.dtype)
        action = tanh(mean + std * noise)
        return action, distributions.TransformedDistribution(normal, [tanh]).log_prob(action)

    def critic_losses(self, batch: Batch) -> Tensor:
        """[2, T]."""
        s = self.settings
        with torch.no_grad():
            action, log_density = self.sample(batch.next_observations)
            x = torch.cat([batch.next_observations, action], -1)
            first, second = (plain_forward(c, x)[0][..., 0] for c in self.targets)
            alpha = self.log_alpha.exp().unsqueeze(-1)
            future = torch.minimum(first, second) - alpha * log_density
            if s.timeout_is_terminal:
                future = torch.where(batch.timeouts > 0, torch.zeros_like(future), future)
            y = s.reward_scale * batch.rewards + s.discount * future
        x = torch.cat([batch.observations, batch.actions], -1)
        return torch.stack(
            [
                torch.stack([nn.functional.mse_loss(q, goal) for q, goal in zip(v, y, strict=True)])
                for v in (plain_forward(c, x)[0][..., 0] for c in self.critics)
            ]
        )

    def actor_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[T], and mean log densities [T]."""
        action, log_density = self.sample(batch.observations)
        x = torch.cat([batch.observations, action], -1)
        q = torch.minimum(*(plain_forward(c, x)[0][..., 0] for c in self.critics))
        alpha = self.log_alpha.detach().exp().unsqueeze(-1)
        return (alpha * log_density - q).mean(1), log_density.mean(1).detach()

    def step_critics(self, losses: Tensor) -> None:
        s = self.settings
        self.critic_adam.zero_grad()
        if s.clip_critics == "jointly":
            # One loss, the mean over critics and tasks, and one norm.
            losses.mean().backward(inputs=[*self.critics[0], *self.critics[1]])
            self.clip([*self.critics[0], *self.critics[1]])
        else:
            for critic, loss in zip(self.critics, losses, strict=True):
                loss.mean().backward(inputs=critic, retain_graph=True)
                self.clip(critic)
        self.critic_adam.step()

    def clip(self, parameters: list[Tensor]) -> None:
        if self.settings.gradient_clip > 0:
            nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)

    def update(self, batch: Batch) -> None:
        s, tasks = self.settings, len(self.log_alpha)
        weight = torch.ones(tasks, dtype=torch.float64)
        if s.task_weighting == "temperature":
            inverse = 1 / self.log_alpha.detach().exp()
            weight = tasks * inverse / inverse.sum()
        critic = self.critic_losses(batch)
        included = torch.ones(tasks, dtype=torch.bool)
        if s.update_order == "critic_first":
            self.step_critics(weight * critic)
        actor, log_density = self.actor_losses(batch)
        alpha = -self.log_alpha * (log_density + s.target_entropy)
        if s.update_order == "simultaneous":
            total = weight * critic[0] + weight * critic[1] + weight * actor + alpha
            included = total <= s.task_loss_threshold
        self.actor_adam.zero_grad()
        (weight * actor * included).mean().backward(inputs=self.actor)
        self.clip(self.actor)
        if s.update_order == "simultaneous":
            self.step_critics(weight * critic * included)
        self.actor_adam.step()
        self.alpha_adam.zero_grad()
        (alpha * included).mean().backward(inputs=[self.log_alpha])
        if s.temperature_clip > 0:
            nn.utils.clip_grad_norm_([self.log_alpha], s.temperature_clip)
        self.alpha_adam.step()
        with torch.no_grad():
            self.log_alpha.clamp_(max=s.max_log_temperature)
            for target, online in zip(self.targets, self.critics, strict=True):
                for t, o in zip(target, online, strict=True):
                    t.copy_((1 - s.polyak) * t + s.polyak * o)


def doubled(algorithm: Any) -> Any:
    """In float64, where a step can be compared to many digits."""
    for network in (algorithm.actor, algorithm.critic, algorithm.target):
        network.double()
    algorithm.log_temperature.data = algorithm.log_temperature.data.double()
    return algorithm


def transitions(seed: int, dtype: torch.dtype = torch.float64) -> Batch:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=dtype)

    # Rewards of very different size, so that tasks differ in their losses.
    size = torch.tensor([1.0, 3.0, 30.0], dtype=dtype)[:, None]
    timeouts = (torch.rand(T, B, generator=random) < 0.4).to(dtype)
    return Batch(
        normal(T, B, 39),
        torch.tanh(normal(T, B, 4)),
        normal(T, B).abs() * size,
        normal(T, B, 39),
        timeouts,
        {},
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "scaling study": {},
    "shared head": {"multi_head": False},
    "critics clipped separately": {"clip_critics": "separately", "gradient_clip": 0.3},
    "tight joint clipping": {"gradient_clip": 0.1},
    "no clipping": {"gradient_clip": 0.0},
    "weighted tasks": {"task_weighting": "temperature"},
    "terminal time limits": {"timeout_is_terminal": True},
    "other constants": {
        **{"discount": 0.9, "polyak": 0.1, "reward_scale": 0.1, "initial_temperature": 0.5},
        **{"actor_learning_rate": 1e-2, "critic_learning_rate": 1e-3, "target_entropy": -1.0},
        **{"temperature_learning_rate": 2e-2, "adam_epsilon": 1e-3},
        **{"log_std_min": -0.001, "log_std_max": 0.001},
    },
    "simultaneous": {"update_order": "simultaneous"},
    "simultaneous, shared head": {"update_order": "simultaneous", "multi_head": False},
    "as D2R learns": {
        **{"update_order": "simultaneous", "clip_critics": "separately", "reward_scale": 0.1},
        **{"task_weighting": "temperature", "temperature_clip": 1.0, "max_log_temperature": 0.0},
        **{"adam_epsilon": 1e-8, "temperature_learning_rate": 1e-2, "timeout_is_terminal": True},
    },
    "one task left out": {"update_order": "simultaneous", "task_loss_threshold": 150.0},
    "no task left": {"update_order": "simultaneous", "task_loss_threshold": -1e9},
    "capped temperatures": {
        **{"max_log_temperature": -0.01, "temperature_clip": 0.5, "target_entropy": -9.0},
        **{"temperature_learning_rate": 1e-2},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_update_agrees_with_sac_written_by_hand(
    variant: str, build: Callable[..., Algorithm]
) -> None:
    algorithm = doubled(build("mtsac", actor_width=12, critic_width=10, **VARIANTS[variant]))
    with torch.no_grad():
        # Temperatures, critics and targets apart, so that no mix-up cancels out.
        algorithm.log_temperature += torch.tensor([0.0, -0.5, 0.3])
        for parameter in (*algorithm.target.parameters(), *algorithm.actor.head.parameters()):
            draws = torch.Generator().manual_seed(parameter.numel())
            parameter += 0.05 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
    plain = PlainSAC(algorithm)
    for step in range(4):
        batch = transitions(step)
        algorithm.update(batch)
        plain.update(batch)
    pairs = {
        "actor": (plain_layers(algorithm.actor, 0), plain.actor),
        "temperature": ([algorithm.log_temperature], [plain.log_alpha]),
    }
    for m in range(2):
        pairs[f"critic {m}"] = (plain_layers(algorithm.critic, m), plain.critics[m])
        pairs[f"target {m}"] = (plain_layers(algorithm.target, m), plain.targets[m])
    for name, (got, wanted) in pairs.items():
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(
                a, b, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_the_variants_of_the_reference_test_all_differ(build: Callable[..., Algorithm]) -> None:
    """A setting that changed nothing would be compared with nothing."""
    seen = []
    for fields in VARIANTS.values():
        algorithm: Any = doubled(build("mtsac", actor_width=12, critic_width=10, **fields))
        for step in range(4):
            algorithm.update(transitions(step))
        parameters = (*algorithm.actor.parameters(), *algorithm.critic.parameters())
        state = torch.cat([p.detach().flatten() for p in parameters] + [algorithm.log_temperature])
        assert not any(torch.equal(state, other) for other in seen if other.shape == state.shape)
        seen.append(state.detach().clone())


@pytest.mark.parametrize("order", ["critic_first", "simultaneous"])
def test_metrics_are_those_of_the_losses_written_by_hand(
    order: str, build: Callable[..., Algorithm]
) -> None:
    algorithm = doubled(build("mtsac", update_order=order))
    plain = PlainSAC(algorithm)
    batch = transitions(0)
    metrics = algorithm.update(batch)
    x = torch.cat([batch.observations, batch.actions], -1)
    values = torch.stack([plain_forward(c, x)[0][..., 0] for c in plain.critics])
    critic = plain.critic_losses(batch)
    gradients = torch.autograd.grad(
        critic.mean(), [*plain.critics[0], *plain.critics[1]], retain_graph=True
    )
    if order == "critic_first":
        plain.step_critics(critic)
    actor, log_density = plain.actor_losses(batch)
    expected = {
        "critic_loss": critic.mean(0),
        "value": values.mean((0, 2)),
        "critic_gradient_norm": torch.cat([g.flatten() for g in gradients]).norm(),
        "actor_loss": actor,
        "entropy": -log_density,
        "temperature": torch.ones(T, dtype=torch.float64),
    }
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value.detach(), msg=lambda m, n=name: f"{n}: {m}")


def test_probe_shows_the_units_and_gradients_of_the_networks_own_losses(
    build: Callable[..., Algorithm],
) -> None:
    algorithm = doubled(build("mtsac"))
    plain, batch = PlainSAC(algorithm), transitions(0)
    plain.noise = torch.Generator().manual_seed(77)
    probes = algorithm.probe(batch, 77)
    assert list(probes) == ["actor", "critic_0", "critic_1"]
    critic_losses = plain.critic_losses(batch)
    actor_losses, _ = plain.actor_losses(batch)
    x = torch.cat([batch.observations, batch.actions], -1)
    for name, layers, inputs, loss in (
        ("actor", plain.actor, batch.observations, actor_losses.mean()),
        ("critic_0", plain.critics[0], x, critic_losses[0].mean()),
        ("critic_1", plain.critics[1], x, critic_losses[1].mean()),
    ):
        probe = probes[name]
        hidden = plain_forward(layers, inputs)[1]
        for got, wanted in zip(probe.activations.values(), hidden, strict=True):
            torch.testing.assert_close(got, wanted.detach().flatten(0, 1))
        weight, head = torch.autograd.grad(loss, [layers[2], layers[-2]], retain_graph=True)
        torch.testing.assert_close(probe.gradients["layers.2.weight"].T, weight)
        torch.testing.assert_close(probe.gradients["head.weight"].transpose(-1, -2), head)
        torch.testing.assert_close(probe.weights["layers.2.weight"].T, layers[2].detach())


def test_targets_start_as_copies_of_the_critics_and_twins_start_apart(
    build: Callable[..., Algorithm],
) -> None:
    algorithm: Any = build("mtsac")
    for target, critic in zip(
        algorithm.target.parameters(), algorithm.critic.parameters(), strict=True
    ):
        assert torch.equal(target, critic)
        assert target.data_ptr() != critic.data_ptr()
    assert not torch.equal(*algorithm.critic.head.weight)


# Behaviours ----------------------------------------------------------------------------------


def changed(algorithm: Any, batch: Batch) -> dict[str, Tensor]:
    """By how much one update moves each parameter."""
    named = {
        f"{part}.{name}": parameter
        for part in ("actor", "critic")
        for name, parameter in getattr(algorithm, part).named_parameters()
    }
    before = {name: p.detach().clone() for name, p in named.items()}
    temperature = algorithm.log_temperature.detach().clone()
    algorithm.update(batch)
    moved = {name: p.detach() - before[name] for name, p in named.items()}
    return {**moved, "temperature": algorithm.log_temperature.detach() - temperature}


@pytest.mark.parametrize("terminal", [True, False])
def test_time_limits_matter_only_where_they_are_terminal(
    terminal: bool, build: Callable[..., Algorithm]
) -> None:
    results = []
    for timeouts in (0.0, 1.0):
        algorithm = build("mtsac", timeout_is_terminal=terminal)
        batch = transitions(0, torch.float32)
        batch = batch._replace(timeouts=torch.full((T, B), timeouts))
        results.append(torch.cat([v.flatten() for v in changed(algorithm, batch).values()]))
    assert torch.equal(*results) != terminal


def test_a_task_above_the_threshold_moves_nothing_of_its_own(
    build: Callable[..., Algorithm],
) -> None:
    algorithm = build("mtsac", update_order="simultaneous", task_loss_threshold=3e3)
    batch = transitions(0, torch.float32)
    batch = batch._replace(rewards=batch.rewards * torch.tensor([1.0, 1.0, 100.0])[:, None])
    moved = changed(algorithm, batch)
    for name in ("actor.head.weight", "critic.head.weight", "critic.layers.0.task"):
        by_task = moved[name].transpose(0, 1).flatten(1)
        assert by_task[0].any(), name
        assert by_task[1].any(), name
        assert not by_task[2].any(), name
    assert moved["temperature"].ne(0).tolist() == [True, True, False]


@pytest.mark.parametrize(("factor", "left_out"), [(0.999, True), (1.001, False)])
def test_the_threshold_is_on_the_weighted_sum_of_a_tasks_losses(
    factor: float, left_out: bool, build: Callable[..., Algorithm]
) -> None:
    def make(threshold: float) -> Any:
        algorithm = doubled(
            build(
                "mtsac",
                update_order="simultaneous",
                task_weighting="temperature",
                task_loss_threshold=threshold,
            )
        )
        with torch.no_grad():
            algorithm.log_temperature += torch.tensor([0.5, -1.0, 0.2])
        return algorithm

    # By hand: both critics' and the actor's loss, weighted, and the temperature's, unweighted.
    batch, plain = transitions(0), PlainSAC(make(math.inf))
    critic, (actor, log_density) = plain.critic_losses(batch), plain.actor_losses(batch)
    inverse = (-plain.log_alpha).exp()
    weight = 3 * inverse / inverse.sum()
    total = weight * (critic.sum(0) + actor) - plain.log_alpha * (log_density - 4)
    moved = changed(make(factor * total[1].item()), batch)
    assert moved["actor.head.weight"][0, 1].any() != left_out
    assert moved["critic.head.weight"][0, 1].any() != left_out
    assert moved["temperature"][1].ne(0) != left_out


def test_temperatures_rise_where_entropy_is_below_its_target(
    build: Callable[..., Algorithm],
) -> None:
    # A policy of std 1 before the tanh has an entropy of about 4 · 0.6 nats.
    for target, sign in ((10.0, 1), (-10.0, -1)):
        moved = changed(build("mtsac", target_entropy=target), transitions(0, torch.float32))
        assert moved["temperature"].sign().tolist() == [sign] * T


def test_tasks_have_temperatures_of_their_own(build: Callable[..., Algorithm]) -> None:
    algorithm: Any = build("mtsac", temperature_learning_rate=0.1)
    with torch.no_grad():
        # One task explores far too little: its head's log standard deviations are at −3.
        algorithm.actor.head.bias[0, 1, :, 4:] = -3.0
    moved = changed(algorithm, transitions(0, torch.float32))
    assert moved["temperature"].sign().tolist() == [-1, 1, -1]


def test_a_critic_without_a_future_learns_the_reward_of_each_task(
    build: Callable[..., Algorithm],
) -> None:
    algorithm: Any = build("mtsac", discount=0.0, critic_learning_rate=3e-3)
    rewards = torch.tensor([-1.0, 2.0, 5.0])
    for step in range(250):
        batch = transitions(step, torch.float32)
        metrics = algorithm.update(batch._replace(rewards=rewards[:, None].expand(T, B)))
    torch.testing.assert_close(metrics["value"], rewards, rtol=0.1, atol=0.2)


def test_a_policy_climbs_its_critic(build: Callable[..., Algorithm]) -> None:
    """With a critic fixed at Q = 5·(first action), every task's mode goes towards +1."""
    algorithm: Any = build(
        "mtsac", actor_learning_rate=1e-2, critic_learning_rate=0.0, initial_temperature=0.01
    )
    with torch.no_grad():
        for parameter in algorithm.critic.parameters():
            parameter.zero_()
        first, second, third = list(algorithm.critic.layers)[::2]
        # The offset keeps the ReLUs open.
        first.weight[:, 39, 0], first.bias[:] = 1.0, 1.0
        for layer in (second, third):
            layer.weight[:, 0, 0] = 1.0
        algorithm.critic.head.weight[:, :, 0] = 5.0
    for step in range(60):
        algorithm.update(transitions(step, torch.float32))
    actions = algorithm.act(transitions(99, torch.float32).observations, explore=False).actions
    assert (actions[..., 0] > 0.7).all()


def test_log_standard_deviations_are_clamped(build: Callable[..., Algorithm]) -> None:
    algorithm: Any = build("mtsac", log_std_min=-5.0, log_std_max=1.0)
    output = torch.tensor([-100.0, 100.0]).expand(1, T, B, 2).repeat_interleave(4, -1)
    mean, log_std = algorithm.split(output)
    assert torch.equal(mean, torch.full((T, B, 4), -100.0))
    assert torch.equal(log_std, torch.full((T, B, 4), 1.0))
    assert torch.equal(algorithm.split(-output)[1], torch.full((T, B, 4), -5.0))


@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_clip_is_torchs_clipping(largest: float) -> None:
    random = torch.Generator().manual_seed(0)
    gradients = [torch.randn(2, 3, generator=random), torch.randn(2, 1, 4, generator=random)]
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    expected = nn.utils.clip_grad_norm_(parameters, largest)
    torch.testing.assert_close(clip(gradients, largest)[0], expected)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_clip_by_member_clips_each_by_its_own_norm() -> None:
    gradients = [torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([[4.0], [0.4]])]
    norms = clip(gradients, 1.0, groups=2)
    assert norms.tolist() == pytest.approx([5, 0.5])
    torch.testing.assert_close(gradients[0], torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(gradients[1], torch.tensor([[0.8], [0.4]]))


def test_clip_of_zero_leaves_gradients_alone() -> None:
    gradients = [torch.tensor([30.0, 40.0])]
    assert clip(gradients, 0.0).item() == 50.0
    assert gradients[0].tolist() == [30.0, 40.0]


# Settings ------------------------------------------------------------------------------------


def test_a_loss_threshold_needs_every_loss_before_any_step() -> None:
    with pytest.raises(ValueError, match="update-order simultaneous"):
        SACSettings(task_loss_threshold=3e3)
    with pytest.raises(ValueError, match="update-order simultaneous"):
        D2RSettings(update_order="critic_first")
    SACSettings(task_loss_threshold=3e3, update_order="simultaneous")


@pytest.mark.parametrize(
    "fields",
    [
        {"first_stage": 0},
        {"first_stage": 17},
        {"first_stage": 4, "modules": 3},
        {"population": 1},
        {"gene_bits": 0},
        {"gene_bits": 9},
        {"update_order": "critic_first"},
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields)).split("_")[0]):
        MEGASettings(**fields)


def test_defaults_are_the_published_ones() -> None:
    s = MTSACSettings()
    assert (s.discount, s.polyak, s.target_entropy, s.reward_scale) == (0.99, 0.005, -4.0, 1.0)
    assert (s.actor_learning_rate, s.critic_learning_rate) == (3e-4, 3e-4)
    assert (s.temperature_learning_rate, s.adam_epsilon) == (3e-4, 1e-5)
    assert (s.gradient_clip, s.temperature_clip, s.clip_critics) == (1.0, 0.0, "jointly")
    assert (s.log_std_min, s.log_std_max, s.initial_temperature) == (-20.0, 2.0, 1.0)
    assert (s.update_order, s.task_weighting) == ("critic_first", "uniform")
    assert (s.task_loss_threshold, s.max_log_temperature) == (math.inf, math.inf)
    assert not s.timeout_is_terminal
    assert (s.actor_width, s.actor_depth, s.critic_width, s.critic_depth) == (400, 3, 400, 3)
    assert s.multi_head
    d = D2RSettings()
    assert (d.temperature_learning_rate, d.reward_scale, d.max_log_temperature) == (1e-4, 0.1, 0)
    assert (d.update_order, d.task_weighting) == ("simultaneous", "temperature")
    assert (d.clip_critics, d.gradient_clip, d.task_loss_threshold) == ("separately", 1.0, 3e3)
    assert (d.modules, d.top_k, d.base_depth, d.resrouting) == (16, 2, 2, True)
    assert (round(d.module_ratio * 400), round(d.router_ratio * 400)) == (128, 256)
    m = MEGASettings()
    assert (m.gene_bits, m.population, m.first_stage, m.modules) == (2, 4, 3, 16)
    assert (m.crossover_rate, m.mutation_rate, m.cross_population_rate) == (0.5, 0.15, 0.1)
    assert (m.abandon_rate, m.mutation_bits, m.episodes_per_individual) == (0.25, 0.02, 5)
    assert (m.window, m.success_threshold, m.improvement_threshold) == (10, 0.8, 0.02)
    assert (m.decoding, m.growth, m.fitness) == ("halfsoftmax", "reinitialise", "return")
    assert (m.train_genotype, m.append_task_id, m.evolution) == ("uniform", False, True)
