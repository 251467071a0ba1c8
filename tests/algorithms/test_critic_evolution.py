"""Critics that are bred: what wires them, what judges them, and what a new genotype changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plain_stack import plain_stack
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch, Outcomes
from algorithms.critic_evolution import BredCritics, fitness, moments, trained_loss
from algorithms.genetics import decode

T = 3


def ended(success: float = 0.0, envs: int = 2) -> Outcomes:
    """A round of episodes, all alike."""
    successes = torch.full((T, envs), success, dtype=torch.float64)
    return Outcomes(
        torch.ones(T, envs).double(), successes, torch.zeros(T, envs, 9), torch.zeros(T)
    )


@pytest.fixture
def bred(build: Callable[..., Algorithm]) -> Callable[..., Any]:
    """MEGA with critics of two genotypes per task; each round of episodes ends a generation."""

    def make(**fields: Any) -> Any:
        small = {"critic_genotypes": True, "population": 2, "critic_folds": 2}
        return build("mega", **small | fields)

    return make


def update_batch(algorithm: Any, batch: Batch) -> Batch:
    """A batch as `learn` gets it."""
    samples = batch.rewards.shape[1]
    given = algorithm.given("update", samples, algorithm.generators["update"])
    return algorithm.prepared(algorithm.state, algorithm.with_extras(batch, **given))


def plain_critic(algorithm: Any, copy: int, x: Tensor, table: Tensor) -> tuple[Tensor, Any]:
    """One critic's values [T, B] source by source, and the module that they were computed with."""
    network = algorithm.networks["critic"]
    module = network.build()
    module.load_state_dict(
        {k: w[copy] for k, w in network.views(algorithm.state["critic"]).items()}
    )
    return module.head(plain_stack(module.stack, torch.relu(module.base(x)), table))[..., 0], module


def test_with_a_fixed_genotype_the_critics_are_a_static_stack(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    """Values and gradients of both twins, against the stack computed source by source."""
    mega = bred(evolution=False)
    for population in mega.critics.evolution.populations:
        population.individuals[1].bits = population.individuals[0].bits.copy()
    mega.critics.look_up()
    s, populations = mega.settings, mega.critics.evolution.populations
    table = torch.from_numpy(
        np.stack([decode(p.individuals[0].bits, s.gene_bits, p.stage) for p in populations])
    ).float()[:, None]
    batch = update_batch(mega, collect(mega))
    x = torch.cat([batch.observations, batch.actions], -1)
    loss, _, gradient = mega.differentiate("critic", mega.state, batch)
    found = mega.networks["critic"].views(gradient(torch.ones(T))["critic"])
    for copy in range(2):
        values, module = plain_critic(mega, copy, x, table)
        errors = (values - batch.extras["target"]).square().mean(-1)
        torch.testing.assert_close(loss[copy], errors.detach())
        names, weights = zip(*module.named_parameters(), strict=True)
        expected = torch.autograd.grad(errors.mean(), weights, allow_unused=True)
        for name, own in zip(names, expected, strict=True):
            own = torch.zeros_like(found[name][copy]) if own is None else own
            torch.testing.assert_close(found[name][copy], own, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stage", [1, 3])
def test_modules_above_the_critics_stage_are_not_trained(
    stage: int, bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    mega = bred(critic_first_stage=stage, evolution=False)
    views = mega.networks["critic"].views
    before = {k: v.clone() for k, v in views(mega.state["critic"]).items()}
    for _ in range(3):
        mega.update(collect(mega))
    after = views(mega.state["critic"])
    moved = [not torch.equal(after[k], v) for k, v in before.items() if "stack.later" in k]
    assert moved == [j < 2 * (stage - 1) for j in range(8)]  # a weight and a bias each
    assert not torch.equal(after["stack.first.weight"], before["stack.first.weight"])


def test_what_is_held_out_trains_nobody_and_judges_whoever_was_trained(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    """Other rewards of one transition: with its fold held out the weights stay, and only then."""
    states = []
    for fold in (0, 1):
        for extra in (0.0, 5.0):
            mega = bred()
            batch = collect(mega)
            batch.extras["fold"].fill_(1)
            batch.extras["fold"][:, 2] = fold
            rewards = batch.rewards.clone()
            rewards[:, 2] += extra
            mega.update(batch._replace(rewards=rewards))
            states.append((mega.state["critic"].clone(), mega.state["critic_record"].clone()))
    (held, record), (held_other, record_other), (free, none), (free_other, _) = states
    assert torch.equal(held, held_other) and not torch.equal(record, record_other)
    assert not torch.equal(free, free_other) and not none.any()
    assert record[..., 0].sum((1, 2)).tolist() == [2.0] * T  # one transition, of two critics
    assert ((record[..., 0] > 0).sum(1) == 1).all(), "one individual of each task was trained"


def test_the_held_out_fold_changes_with_the_generation(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    mega, folds = bred(critic_folds=3), []
    for _ in range(5):
        folds.append(mega.critics.held_fold[:, 0].tolist())
        mega.state["critic_record"] += 2
        mega.end_episodes(ended())
    assert folds == [[0] * T, [1] * T, [2] * T, [0] * T, [1] * T]
    drawn = torch.cat([mega.act(torch.zeros(T, 2, 39), True).extras["fold"] for _ in range(50)], 1)
    assert drawn.unique().tolist() == [0, 1, 2]


def test_fitness_is_its_formula() -> None:
    """Moments of two steps, against NumPy on the transitions themselves."""
    random = torch.Generator().manual_seed(0)
    target = 3 + torch.randn(2, 40, generator=random)
    values = target + 0.5 * torch.randn(2, 2, 40, generator=random) + 0.2
    held = torch.rand(2, 40, generator=random) < 0.5
    record = torch.zeros(2, 2, 2, 7, dtype=torch.float64)
    record[:, 0] = moments(values[..., :25], target[:, :25], held[:, :25])
    record[:, 1] = moments(values[..., 25:], target[:, 25:], held[:, 25:])
    parts = (slice(0, 25), slice(25, 40))
    for task in range(2):
        variance = np.var(target[task, held[task]].numpy())
        for individual, part in enumerate(parts):
            y = target[task, part][held[task, part]].double().numpy()
            for critic in range(2):
                q = values[critic, task, part][held[task, part]].double().numpy()
                error = fitness(record, "bellman")[task, individual, critic]
                assert float(error) == pytest.approx(-np.mean((q - y) ** 2) / variance, rel=1e-4)
                same = fitness(record, "correlation")[task, individual, critic]
                assert float(same) == pytest.approx(np.corrcoef(q, y)[0, 1], rel=1e-4)


def test_fitness_compares_between_tasks_and_knows_perfection_and_the_mean() -> None:
    y = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1.0], [9.0]]
    )
    everything = torch.ones(2, 64, dtype=torch.bool)
    for values, expected in ((y, 0.0), (y.mean(1, keepdim=True).expand(-1, 64), -1.0)):
        record = moments(values[None], y, everything)[:, None]
        assert fitness(record, "bellman").flatten().tolist() == pytest.approx(
            [expected] * 2, abs=1e-5
        )
    shifted = moments((100 + 3 * y)[None], y, everything)[:, None]
    assert fitness(shifted, "correlation").flatten().tolist() == pytest.approx([1.0] * 2, abs=1e-5)
    nothing = torch.zeros(2, 1, 1, 7, dtype=torch.float64)
    assert not any(fitness(nothing, kind).isnan().any() for kind in ("bellman", "correlation"))


def judge(mega: Any, best: list[int]) -> None:
    """Lets the individual `best` of each task have the least error in this generation."""
    record = mega.state["critic_record"]
    record.zero_()
    record[..., 0], record[..., 1], record[..., 3] = 10, 8, 10
    for task, individual in enumerate(best):
        record[task, individual, :, 1] = 1


def test_a_generation_waits_until_every_genotype_is_measured(bred: Callable[..., Any]) -> None:
    mega = bred()
    judge(mega, [0, 0, 0])
    mega.state["critic_record"][1, 1, :, 0] = 1
    mega.end_episodes(ended())
    generations = [p.generation for p in mega.critics.evolution.populations]
    assert generations == [1, 0, 1]
    assert mega.state["critic_record"].flatten(1).any(1).tolist() == [False, True, False]


def test_the_fittest_survives_makes_the_targets_and_their_jump_is_reported(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    mega = bred(mutation_rate=1.0)
    batch = collect(mega)
    for _ in range(4):
        mega.update(batch)
    judge(mega, [1, 1, 0])
    network, before = mega.networks["critic"], mega.critics.tables.clone()
    bits = [[i.bits.copy() for i in p.individuals] for p in mega.critics.evolution.populations]
    weights = mega.state["critic.target"].clone()
    mega.end_episodes(ended())
    elites = [p.elite.bits for p in mega.critics.evolution.populations]
    assert [np.array_equal(e, b[i]) for e, b, i in zip(elites, bits, [1, 1, 0], strict=True)]
    assert torch.equal(mega.state["critic.target"], weights), "wiring changes, and no weight"
    x = torch.cat([batch.observations, batch.actions], -1)
    x = x[:, torch.arange(32) % x.shape[1]]
    views = network.views(mega.state["critic.target"])
    old, new = (network(views, x, t[:, None])[..., 0] for t in (before[:, 0], before[:, 1]))
    jump = (new - old).abs().mean((0, 2))
    report = mega.report(batch)
    assert report["critic_genotype_changes"] == [1.0, 1.0, 0.0]
    assert report["critic_target_jump"][:2] == pytest.approx(jump[:2].tolist(), rel=1e-4)
    assert np.isnan(report["critic_target_jump"][2]) and jump.min() > 0
    # The error of the fittest is a tenth of the targets' variance, which is 1.
    assert report["critic_fitness"] == pytest.approx([-0.1] * T)
    given = mega.given("update", 6, torch.Generator())
    torch.testing.assert_close(given["target_table"][:2, 0], before[:2, 1])


def test_the_critics_loss_wires_whom_it_trains_and_all_else_the_fittest(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    mega = bred()
    batch, critics, tasks = collect(mega), mega.critics, torch.arange(T)
    assert (critics.tables[:, 0] != critics.tables[:, 1]).flatten(1).any(1).all()
    x, weights = torch.cat([batch.observations, batch.actions], -1), mega.weights(mega.state)
    trained = set()
    for _ in range(30):
        given = mega.given("update", 6, torch.Generator())
        drawn = given["critic_individual"][:, 0]
        trained |= set(drawn.tolist())
        whose = {"critic": drawn, "policy": critics.elites, "target": critics.elites}
        for phase, individuals in whose.items():
            table = critics.tables[tasks, individuals][:, None]
            expected = mega.networks["critic"](weights["critic"], x, table)
            assert torch.equal(mega.values(weights, x, phase, given), expected), phase
    assert trained == {0, 1}


def test_the_loss_is_the_mean_over_what_is_not_held_out() -> None:
    random = torch.Generator().manual_seed(0)
    error = torch.rand(2, 3, 8, generator=random)
    held = torch.rand(3, 8, generator=random) < 0.4
    held[2] = True
    found = trained_loss(error, held)
    for task in range(2):
        torch.testing.assert_close(found[:, task], error[:, task][:, ~held[task]].mean(-1))
    assert not found[:, 2].any()


def test_critics_have_stages_of_their_own(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    mega = bred(critic_first_stage=2, first_stage=3)
    batch = collect(mega)
    for _ in range(6):
        judge(mega, [0] * T)
        mega.end_episodes(ended())
    report = mega.report(batch)
    assert max(report["critic_stage"]) > 2
    assert all(
        1 <= m <= s
        for m, s in zip(report["critic_modules_in_use"], report["critic_stage"], strict=True)
    )
    metrics = mega.update(batch)
    assert all(m.isfinite().all() and m.shape in ((), (T,)) for m in metrics.values())


def test_without_evolution_nothing_is_held_out(
    bred: Callable[..., Any], collect: Callable[..., Batch]
) -> None:
    mega = bred(evolution=False)
    for _ in range(3):
        mega.update(collect(mega))
        mega.end_episodes(ended())
    assert not mega.state["critic_record"].any()
    assert [p.generation for p in mega.critics.evolution.populations] == [0] * T


def test_more_stages_than_modules_are_refused(bred: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="critic_first_stage 6 is more than modules"):
        bred(critic_first_stage=6)


def test_a_new_run_knows_no_fitness(bred: Callable[..., Any]) -> None:
    critics: BredCritics = bred().critics
    assert all(np.isnan(v) for v in critics.report()["critic_fitness"])
