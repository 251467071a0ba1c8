"""Combined gradients against their explicit forms: T backward passes, vectors, loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Batch, Problem
from algorithms.combine import (
    CombineSettings,
    cagrad,
    draw_order,
    gradnorm_slope,
    gradnorm_step,
    pcgrad,
    start_gradnorm,
    with_mean_of_others,
)
from algorithms.d2r import D2R, D2RSettings
from algorithms.mega import MEGA, MEGASettings
from algorithms.mtsac import MTSAC, MTSACSettings
from algorithms.parts.task_gradients import by_passes, by_slices
from algorithms.sac import MultiTaskSAC, SACSettings

TASKS, SAMPLES = 4, 5
Network = Any
SMALL = {"actor_width": 25, "critic_width": 25}
ARCHITECTURES = {
    "mlp": (MTSAC, lambda **f: MTSACSettings(**SMALL, **f)),
    "d2r": (D2R, lambda **f: D2RSettings(**SMALL, modules=4, **f)),
    "mega": (MEGA, lambda **f: MEGASettings(**SMALL, modules=4, first_stage=3, **f)),
}
OTHERS = {
    name: (load(name), partial(load(name).Settings, **SMALL))
    for name in ("softmodules", "paco", "moore", "film")
}
"""Whose networks are all their own."""
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 0.25])
"""Of the tasks' losses; powers of two, which round nothing."""


def made(architecture: str, **fields: Any) -> MultiTaskSAC:
    cls, settings = {**ARCHITECTURES, **OTHERS}[architecture]
    names = tuple(f"task-{i}" for i in range(TASKS))
    algorithm = cast(MultiTaskSAC, cls(settings(**fields), Problem(names, seed=3)))
    random = torch.Generator().manual_seed(0)
    for name in ("actor", "critic"):  # away from small heads, so that tasks come into conflict
        noise = torch.randn(algorithm.state[name].shape, generator=random)
        algorithm.state[name] += 0.1 * noise
    return algorithm


def batch_of(algorithm: MultiTaskSAC, purpose: Any = "update") -> Batch:
    """A made-up batch as the losses see it."""
    random = torch.Generator().manual_seed(1)
    observations = torch.randn(TASKS, SAMPLES, 39, generator=random)
    decisions = [algorithm.act(observations[:, i : i + 1], True) for i in range(SAMPLES)]
    batch = Batch(
        observations,
        torch.rand(TASKS, SAMPLES, 4, generator=random) * 2 - 1,
        # some tasks punish, so that their critics pull apart
        torch.rand(TASKS, SAMPLES, generator=random)
        * torch.tensor([1e3, -1e3, 1e3, -1e3])[:, None],
        torch.randn(TASKS, SAMPLES, 39, generator=random),
        torch.zeros(TASKS, SAMPLES),
        {k: torch.cat([d.extras[k] for d in decisions], 1) for k in algorithm.extras},
    )
    given = algorithm.given(purpose, SAMPLES, algorithm.generators["update"])
    return algorithm.with_extras(batch, **given)


def each_gradient(algorithm: MultiTaskSAC, name: Network, batch: Batch) -> Tensor:
    """The gradient of each task's loss in float64 [T, P]: T backward passes over whole batches."""
    weights = algorithm.weights(algorithm.state)
    own = {k: w.detach().clone().requires_grad_() for k, w in weights[name].items()}
    losses, _ = algorithm.loss_of(name)({**weights, name: own}, batch)
    rows = []
    for task in range(TASKS):
        loss = losses[..., task].sum() * algorithm.loss_scale(name) * TASKS
        found = torch.autograd.grad(
            loss, list(own.values()), retain_graph=True, materialize_grads=True
        )
        flat = algorithm.flat({name: dict(zip(own, found, strict=True))})[name]
        rows.append(flat.flatten().double())
    return torch.stack(rows)


def combined_by(algorithm: MultiTaskSAC, name: Network, batch: Batch) -> Tensor:
    """What the learner steps on, for the tasks' weights above."""
    algorithm.check_slices(batch)
    assert algorithm.by_slices[name]
    _, _, gradient = algorithm.differentiate(
        name, algorithm.state, algorithm.prepared(algorithm.state, batch)
    )
    return gradient(WEIGHT)[name].flatten().double()


def explicit_pcgrad(gradients: Tensor, order: Tensor, include_self: bool = False) -> Tensor:
    """Algorithm 1 of the paper, on vectors."""
    result = []
    for i, own in enumerate(gradients):
        g = own.clone()
        for j in order[i].tolist():
            if (j != i or include_self) and g @ gradients[j] < 0:
                g = g - (g @ gradients[j]) / gradients[j].square().sum() * gradients[j]
        result.append(g)
    return torch.stack(result).mean(0)


def explicit_cagrad(gradients: Tensor, c: float, rate: float) -> Tensor:
    """As the authors' code has it: torch's SGD on autograd, the best of 21 points; ÷ (1 + c²)."""
    tasks = len(gradients)
    gram = gradients @ gradients.T
    gram = gram / (gram.diagonal() + 1e-4).sqrt().mean().square()
    with_mean = gram.mean(1, keepdim=True)
    reach = (with_mean.mean() + 1e-4).sqrt() * c
    logits = torch.zeros(tasks, 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=rate, momentum=0.5)
    least, best = float("inf"), logits.detach()
    for step in range(21):
        optimiser.zero_grad()
        w = torch.softmax(logits, 0)
        objective = (w.T @ with_mean + reach * (w.T @ gram @ w + 1e-4).sqrt()).squeeze()
        if objective.item() < least:
            least, best = objective.item(), w.detach().clone()
        if step < 20:
            objective.backward()
            optimiser.step()
    strength = reach / ((best.T @ gram @ best + 1e-4).sqrt() + 1e-4)
    return ((1 / tasks + best * strength) * gradients).sum(0) / (1 + c**2)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *OTHERS])
@pytest.mark.parametrize("name", ["actor", "critic"])
def test_equals_explicit_form(architecture: str, name: Network) -> None:
    """Also in which parameters enter, how critics are joined, and where weights multiply."""
    for combine in ("pcgrad", "cagrad"):
        algorithm = made(architecture, combine=combine)
        batch = batch_of(algorithm)
        ready = algorithm.prepared(algorithm.state, batch)
        gradients = WEIGHT[:, None] * each_gradient(algorithm, name, ready)
        if combine == "pcgrad":
            order = batch.extras["pcgrad_order"][:, 0 if name == "actor" else 1]
            expected = explicit_pcgrad(gradients, order)
            conflicts = (expected - gradients.mean(0)).norm() > 1e-3 * expected.norm()
            assert conflicts or architecture in OTHERS
        else:
            expected = explicit_cagrad(gradients, 0.9, 25)
        found = combined_by(algorithm, name, batch)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["actor", "critic"])
def test_mean_of_the_tasks_is_the_plain_gradient(architecture: str, name: Network) -> None:
    algorithm = made(architecture)
    batch = algorithm.prepared(algorithm.state, batch_of(algorithm))
    loss, metrics, plain = algorithm.differentiate(name, algorithm.state, batch)
    arguments = algorithm.loss_of(name), algorithm.weights(algorithm.state), (name,)
    for each in (by_slices, by_passes):
        found, others, gradients = each(*arguments, algorithm.networks, batch)
        share = WEIGHT * algorithm.loss_scale(name)
        mixed = algorithm.flat(gradients.mixed(share, share, algorithm.networks))[name]
        expected = plain(WEIGHT)[name]
        torch.testing.assert_close(found, loss)
        torch.testing.assert_close(others, metrics)
        assert (mixed - expected).norm() < 1e-6 * expected.norm()


def test_scope_and_networks_are_chosen_apart() -> None:
    """With `shared`, heads and task embeddings take the plain gradient and do not enter G."""
    plain, joined = made("mlp"), made("mlp", combine="pcgrad", combine_scope="shared")
    batch = batch_of(joined)
    joined.check_slices(batch)
    ready = joined.prepared(joined.state, batch)
    order = batch.extras["pcgrad_order"][:, 0]
    gradients = WEIGHT[:, None] * each_gradient(joined, "actor", ready)
    network = joined.networks["actor"]
    own = torch.zeros(network.size, dtype=torch.bool)
    for entry in network.layout:
        own[entry.start : entry.start + entry.shape.numel()] = entry.name in network.per_task
    expected = explicit_pcgrad(gradients * ~own, order) + gradients.mean(0) * own
    found = joined.differentiate("actor", joined.state, ready)[2](WEIGHT)["actor"].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))

    critics = made("mlp", combine="pcgrad", combine_on="critic")
    critics.check_slices(batch)
    ones = torch.ones(TASKS)
    actor = [a.differentiate("actor", a.state, ready)[2](ones)["actor"] for a in (plain, critics)]
    critic = [
        a.differentiate("critic", a.state, ready)[2](ones)["critic"] for a in (plain, critics)
    ]
    assert torch.equal(actor[0], actor[1]) and not torch.allclose(critic[0], critic[1])


def test_sum_is_as_many_times_the_mean_as_there_are_tasks() -> None:
    both = [made("mlp", combine="cagrad", combine_reduction=r) for r in ("mean", "sum")]
    mean, total = (combined_by(a, "actor", batch_of(a)) for a in both)
    torch.testing.assert_close(total, TASKS * mean)


# Solvers -----------------------------------------------------------------------------------------


def random_gradients(tasks: int = 6, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(tasks, 9, generator=random, dtype=torch.float64)


def order_of(tasks: int, kind: Any = "independent") -> Tensor:
    s = CombineSettings(pcgrad_order=kind)
    return draw_order(s, tasks, torch.Generator().manual_seed(0))[:, 0]


@pytest.mark.parametrize("kind", ["independent", "shared", "fixed"])
@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("tasks", [2, 6, 50])
def test_pcgrad_in_coefficients(kind: str, include_self: bool, tasks: int) -> None:
    g, order = random_gradients(tasks), order_of(tasks, kind)
    found = pcgrad(g @ g.T, order, include_self, 0.0) @ g
    torch.testing.assert_close(found, explicit_pcgrad(g, order, include_self))


def test_orders() -> None:
    """Each is a permutation; independent ones differ from task to task, actor to critic."""
    draw = draw_order(CombineSettings(), 50, torch.Generator().manual_seed(0))
    assert torch.equal(draw.sort(-1).values, torch.arange(50).expand(50, 2, 50))
    assert len({tuple(row) for row in draw.flatten(0, 1).tolist()}) == 100
    assert len({tuple(row) for row in order_of(50, "shared").tolist()}) == 1
    assert order_of(3, "fixed").tolist() == [[0, 1, 2]] * 3


def test_pcgrad_invariants() -> None:
    friends = random_gradients().abs()
    order = order_of(6)
    mean = torch.full((6,), 1 / 6, dtype=torch.float64)
    assert torch.equal(pcgrad(friends @ friends.T, order, False, 0.0), mean)
    one = random_gradients(1)
    assert pcgrad(one @ one.T, order_of(1), False, 0.0).tolist() == [1.0]
    opposed = torch.cat([one, -3 * one])
    d = pcgrad(opposed @ opposed.T, order_of(2), False, 0.0) @ opposed
    assert d.norm() < 1e-12
    for seed in range(20):
        two = random_gradients(2, seed)
        d = pcgrad(two @ two.T, order_of(2), False, 0.0) @ two
        assert bool((two @ d >= -1e-12).all())
    two[1] = 0.0  # a task that is left out of an update conflicts with none
    assert pcgrad(two @ two.T, order_of(2), False, 0.0).tolist() == [0.5, 0.5]


def every(gradients: Tensor) -> Tensor:
    """Each of the gradients by itself."""
    return torch.eye(len(gradients), dtype=gradients.dtype)


@pytest.mark.parametrize("c", [0.0, 0.5, 0.9])
def test_cagrad_invariants(c: float) -> None:
    """As far from the mean as allowed; the worst task gains; w is on the simplex."""
    for seed in range(10):
        g = 100 * random_gradients(4, seed)
        mean = g.mean(0)
        a = cagrad(g @ g.T, every(g), c, "none", 1000, 0.5, 0.5)
        d = a @ g
        assert abs((d - mean).norm() / mean.norm() - c) < 2e-3
        assert (g @ d).min() >= (g @ mean).min() - 1e-3 * mean.square().sum()
        w = (a - 1 / 4) / max(float((a - 1 / 4).sum()), 1e-9)
        assert w.min() >= 0
    if c > 0:
        equal = 100 * random_gradients(1).expand(4, -1)
        d = cagrad(equal @ equal.T, every(equal), c, "none", 20, 25.0, 0.5) @ equal
        torch.testing.assert_close(d, (1 + c) * equal[0], rtol=1e-3, atol=0)


def test_cagrad_finds_the_minimum_and_rescales() -> None:
    """A grid over the simplex of three tasks finds no better point."""
    g = 100 * random_gradients(3, 5)
    gram, c = g @ g.T / (g @ g.T).diagonal().sqrt().mean().square(), 0.5
    a = cagrad(g @ g.T, every(g), c, "none", 2000, 1.0, 0.5)
    w = (a - 1 / 3) / (a - 1 / 3).sum()

    def objective(w: Tensor) -> Tensor:
        length = ((w @ gram) * w).sum(-1).clamp(min=0).sqrt()
        return w @ gram.mean(1) + c * gram.mean().sqrt() * length

    ticks = torch.linspace(0, 1, 101, dtype=torch.float64)
    grid = torch.stack([ticks.repeat_interleave(101), ticks.repeat(101)], 1)
    grid = torch.cat([grid, 1 - grid.sum(1, keepdim=True)], 1)
    grid = grid[grid[:, 2] >= -1e-9]
    assert objective(w) <= objective(grid).min() + 1e-3
    strength = (a - 1 / 3).sum()
    for rescale, divisor in {"1+c2": 1 + c**2, "1+lambda": 1 + strength, "1+c": 1 + c}.items():
        torch.testing.assert_close(
            cagrad(g @ g.T, every(g), c, rescale, 2000, 1.0, 0.5), a / divisor
        )


@pytest.mark.parametrize("count", [1, 3, 5])
def test_fast_cagrad_is_cagrad_on_a_sample_and_the_mean_of_the_rest(count: int) -> None:
    """Against the solver on those gradients themselves: g_0 stays the mean over all tasks."""
    g, c = 100 * random_gradients(6), 0.9
    rows = every(g)[[4, 1, 5, 0, 2, 3]]
    sample = torch.cat([g[[4, 1, 5, 0]][: count - 1], (rows[count - 1 :] @ g).mean(0)[None]])
    share = torch.full((count,), 1 / 6, dtype=torch.float64)
    share[-1] = 1 - (count - 1) / 6
    inner, mean = sample @ sample.T, share @ sample
    scale = inner.diagonal().sqrt().mean()
    logits = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.SGD([logits], lr=1.0, momentum=0.5)
    for _ in range(2000):
        w = torch.softmax(logits, 0)
        loss = w @ sample @ mean + c * mean.norm() * (w @ inner @ w).sqrt()
        descent.zero_grad()
        (loss / scale**2).backward()
        descent.step()
    mixed = torch.softmax(logits, 0).detach() @ sample
    expected = (mean + c * mean.norm() / mixed.norm() * mixed) / (1 + c)
    weighed = with_mean_of_others(rows, count)
    found = cagrad(g @ g.T, weighed, c, "1+c", 2000, 1.0, 0.5) @ g
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(mean.norm()))


def test_fast_cagrad_draws_tasks_for_each_step() -> None:
    algorithm = made("mlp", combine="cagrad", cagrad_gradients=2)
    orders = [batch_of(algorithm).extras["cagrad_order"] for _ in range(9)]
    assert all(torch.equal(o.sort(0).values[:, 0], torch.arange(TASKS)) for o in orders)
    assert len({tuple(o.flatten().tolist()) for o in orders}) > 1
    assert not torch.equal(
        combined_by(algorithm, "actor", batch_of(algorithm)),
        combined_by(made("mlp", combine="cagrad"), "actor", batch_of(algorithm)),
    )


def test_settings_of_the_combiners_reach_them() -> None:
    """Settings that are nobody's default, against the solvers called by hand."""
    odd: dict[str, Any] = {
        **{"cagrad_c": 0.3, "cagrad_rescale": "none", "cagrad_steps": 7, "cagrad_rate": 3.0},
        **{"cagrad_momentum": 0.2, "cagrad_gradients": 2},
    }
    surgery = {"combine": "pcgrad", "pcgrad_include_self": True, "pcgrad_epsilon": 1e8}
    for fields in ({"combine": "cagrad", **odd}, surgery):
        algorithm = made("mlp", **fields)
        batch = batch_of(algorithm)
        ready = algorithm.prepared(algorithm.state, batch)
        g = WEIGHT[:, None] * each_gradient(algorithm, "critic", ready)
        if fields["combine"] == "cagrad":
            weighed = with_mean_of_others(every(g)[batch.extras["cagrad_order"][:, 1]], 2)
            share = cagrad(g @ g.T, weighed, 0.3, "none", 7, 3.0, 0.2)
        else:
            share = pcgrad(g @ g.T, batch.extras["pcgrad_order"][:, 1], True, 1e8)
        found, expected = combined_by(algorithm, "critic", batch), share @ g
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_more_gradients_than_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=f"cagrad_gradients 9 for {TASKS} tasks"):
        made("mlp", combine="cagrad", cagrad_gradients=9)


@pytest.mark.parametrize("detach", [True, False])
def test_gradnorm_slope_is_that_of_its_loss(detach: bool) -> None:
    v = torch.tensor([0.5, 1.5, 1.0], dtype=torch.float64, requires_grad=True)
    length = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    loss, first = torch.tensor([1.0, 3.0, 2.0]).double(), torch.tensor([2.0, 3.0, 1.0]).double()
    ratio = loss / first
    target = (v * length).mean() * (ratio / ratio.mean()) ** 0.12
    target = target.detach() if detach else target
    (expected,) = torch.autograd.grad((v * length - target).abs().sum(), v)
    found = gradnorm_slope(v.detach(), length, loss, first, 0.12, 1e-3, detach)
    torch.testing.assert_close(found, expected)
    # losses of an actor: of changed sign, and zero at first
    odd = gradnorm_slope(v.detach(), length, -loss, torch.tensor([2.0, 0.0, -1.0]), 0.12, 1e-3)
    assert bool(odd.isfinite().all())


def test_gradnorm_does_not_take_a_task_that_is_ahead_for_one_behind() -> None:
    """An actor's loss falls below 0 as it improves: no ratio of two such losses tells a pace."""
    alike = torch.ones(2, dtype=torch.float64)
    first = torch.tensor([-1.0, -1.0]).double()
    found = gradnorm_slope(alike, alike, torch.tensor([-50.0, -1.0]).double(), first, 1.0, 1e-3)
    assert found.tolist() == [0, 0]


def test_gradnorm_slows_the_task_that_is_ahead() -> None:
    settings, state = CombineSettings(combine="gradnorm", gradnorm_kappa=1.5), {}
    start_gradnorm(settings, state, 3, torch.device("cpu"))
    alike = torch.eye(3, dtype=torch.float64)
    for loss in ([1.0, 1.0, 1.0], [0.5, 1.0, 1.0]):
        gradnorm_step(settings, "critic", state, alike, torch.tensor(loss))
    assert state["critic.pace"][0] < 1 < state["critic.pace"][1]


def test_gradnorm_trains_its_weights() -> None:
    """Σ v = T; κ = 0 brings norms together; equal norms and losses leave v at 1; first losses
    stay; a reset begins again.
    """
    algorithm = made("mlp", combine="gradnorm", gradnorm_kappa=0.0, gradnorm_rate=0.05)
    batch = batch_of(algorithm)
    rewards = batch.rewards * torch.tensor([1.0, 1.5, 2.0, 3.0])[:, None]
    batch = batch._replace(rewards=rewards)
    algorithm.check_slices(batch)
    ready, state = algorithm.prepared(algorithm.state, batch), algorithm.state
    lengths = each_gradient(algorithm, "critic", ready).norm(dim=1)
    spread = lengths.log().std()
    _, _, gradient = algorithm.differentiate("critic", state, ready)
    before = gradient(torch.ones(TASKS))["critic"]
    mean = each_gradient(algorithm, "critic", ready).mean(0)
    torch.testing.assert_close(
        before.flatten().double(), mean, rtol=0, atol=1e-6 * float(mean.abs().max())
    )
    first = state["critic.first_loss"].clone()
    for _ in range(20):
        gradient(torch.ones(TASKS))
    pace = state["critic.pace"].double()
    assert abs(pace.sum() - TASKS) < 1e-5
    assert (pace * lengths).log().std() < 0.5 * spread
    assert torch.equal(state["critic.first_loss"], first) and bool((first > 0).all())
    algorithm.reset("again")
    assert bool((state["critic.pace"] == 1).all()) and bool((state["critic.first_loss"] == 0).all())

    same = gradnorm_slope(torch.ones(3), torch.ones(3), torch.ones(3), torch.ones(3), 0.12, 1e-3)
    assert same.tolist() == [0.0] * 3


# Updates -----------------------------------------------------------------------------------------


class Indexed(nn.Module):
    """Looks its task up in a way that nobody is told of."""

    def __init__(self, tasks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(tasks, inputs))
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale[torch.arange(x.shape[0])]
        result: Tensor = self.layer(torch.relu(x * scale[:, None]))
        return result


@dataclass(frozen=True)
class PlainSettings(SACSettings):
    """Those of all."""


class Unsliceable(MultiTaskSAC):
    """An architecture of somebody who has not heard of `per_task`."""

    Settings = PlainSettings

    def build_actor(self) -> nn.Module:
        return Indexed(self.tasks, 39, 8)

    def build_critic(self) -> nn.Module:
        return Indexed(self.tasks, 43, 1)


def test_tasks_that_cannot_be_told_apart_cost_a_pass_each() -> None:
    names = tuple(f"task-{i}" for i in range(TASKS))
    algorithm = Unsliceable(PlainSettings(combine="pcgrad"), Problem(names))
    batch = batch_of(algorithm)
    with pytest.warns(UserWarning, match="takes 4 backward passes.*per_task") as warned:
        algorithm.check_slices(batch)
    assert len(warned) == 2
    assert algorithm.by_slices == {"actor": False, "critic": False}
    ready = algorithm.prepared(algorithm.state, batch)
    for index, name in enumerate(("actor", "critic")):
        gradients = each_gradient(algorithm, name, ready)
        expected = explicit_pcgrad(gradients, batch.extras["pcgrad_order"][:, index])
        _, _, gradient = algorithm.differentiate(cast(Network, name), algorithm.state, ready)
        found = gradient(torch.ones(TASKS))[name].flatten().double()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_architecture_takes_one_pass(
    name: str, build: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    algorithm = build(name, combine="cagrad")
    algorithm.update(collect(algorithm))
    assert algorithm.by_slices == {"actor": True, "critic": True}


@pytest.mark.parametrize("combine", ["pcgrad", "cagrad", "gradnorm"])
def test_resumes_exactly(combine: str) -> None:
    """What a combiner remembers or draws is part of the state; metrics have the usual shapes."""
    one, other = made("d2r", combine=combine), made("d2r", combine=combine)
    batch = batch_of(one)
    shapes = {k: v.shape for k, v in made("d2r").update(batch).items()}
    assert {k: v.shape for k, v in one.update(batch).items()} == shapes
    other.load_state_dict(one.state_dict())
    for algorithm in (one, other):
        algorithm.update(batch)
    assert all(torch.equal(v, other.state[k]) for k, v in one.state.items())


@pytest.mark.parametrize("combine", ["pcgrad", "cagrad", "gradnorm"])
def test_one_program_equals_the_lines(combine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.compile captures and differentiates it, without the C++ of `test_compile`."""
    captured = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", captured)
    small = {"actor_depth": 1, "critic_depth": 1, "combine": combine, "cagrad_gradients": 2}
    eager, compiled = made("mlp", **small), made("mlp", **small)
    compiled.compile()
    batch = batch_of(made("mlp", **small))  # which draws from neither's generators
    for _ in range(2):
        expected, found = eager.update(batch), compiled.update(batch)
    for name in ("actor", "critic"):
        moved = eager.state[name] - compiled.state[name]
        assert moved.abs().max() < 1e-5
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
