"""MEGA: genotypes wire the actor (arXiv 2502.13569)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from algorithms.routing import Choice, RoutedNetwork
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch, Outcomes
from algorithms.genetics import decode


def outcomes(returns: Any, successes: Any = 0.0, shape: tuple[int, int] = (3, 4)) -> Outcomes:
    def full(values: Any) -> Tensor:
        return torch.as_tensor(np.broadcast_to(np.asarray(values, np.float64), shape).copy())

    return Outcomes(full(returns), full(successes))


@pytest.fixture
def mega(build: Callable[..., Algorithm]) -> Any:
    """Four individuals and four envs: each round of episodes is a generation."""
    return build("mega", envs=4)


def tables_of(algorithm: Any, task: int) -> list[np.ndarray]:
    s, populations = algorithm.settings, algorithm.evolutions[0].populations
    depth = max(p.stage for p in populations)
    return [decode(i.bits, s.gene_bits, depth, s.decoding) for i in populations[task].individuals]


def test_each_env_acts_with_the_genotype_whose_turn_it_is(
    mega: Any, reference_stack: Callable[..., Tensor]
) -> None:
    mega.end_episodes(outcomes(np.arange(12.0).reshape(3, 4)))
    mega.evolutions[0].turn = np.array([1, 2, 3, 0])
    mega.look_up()
    x = torch.randn(3, 4, 39, generator=torch.Generator().manual_seed(0))
    mean, _ = mega.policy(x, "explore")
    actor = mega.actor
    f = torch.relu(actor.base(x))[0]
    first = torch.relu(f @ actor.stack.first.weight[0] + actor.stack.first.bias[0])
    for task in range(3):
        tables = tables_of(mega, task)
        for env in range(4):
            table = torch.from_numpy(tables[(1 + env) % 4]).float()[..., None, None]
            row = first[task : task + 1, env : env + 1]
            body = reference_stack(row, actor.stack.weight, actor.stack.bias, table)
            expected = actor.head(body.unsqueeze(0))[0, 0, 0, :4]
            torch.testing.assert_close(mean[task, env], expected)


def test_the_fittest_is_evaluated(mega: Any) -> None:
    mega.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 8], [5, 6, 7, 8]]))
    # The worst was replaced by a child without fitness; ties go to the older.
    assert mega.elites.tolist() == [1, 0, 3]
    seen = []
    mega.actor.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    mega.act(torch.zeros(3, 7, 39), explore=False)
    assert seen[0].shape[-1] == 1, "one genotype serves all samples of a task"
    for task, elite in enumerate([1, 0, 3]):
        expected = torch.from_numpy(tables_of(mega, task)[elite]).float()
        torch.testing.assert_close(seen[0][:, :, task, 0], expected)


@pytest.mark.parametrize("choice", ["uniform", "best"])
def test_a_gradient_step_trains_whom_the_setting_says(
    choice: str, build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    algorithm: Any = build("mega", envs=4, train_genotype=choice)
    batch = collect(algorithm, samples=4)
    algorithm.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 7], [5, 6, 7, 8]]))
    trained: list[Counter[int]] = [Counter() for _ in range(3)]
    for _ in range(60):
        algorithm.update(batch)
        for task, individual in enumerate(algorithm.in_training.tolist()):
            trained[task][individual] += 1
    if choice == "best":
        assert [list(c) for c in trained] == [[1], [0], [3]]
    else:
        assert all(set(c) == {0, 1, 2, 3} for c in trained)
        assert all(4 <= n <= 30 for c in trained for n in c.values())
        assert trained[0] != trained[1], "tasks draw apart"


@pytest.mark.parametrize("stage", [1, 3])
def test_modules_above_the_stage_are_not_trained(
    stage: int, build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    algorithm: Any = build("mega", first_stage=stage, evolution=False)
    stack = algorithm.actor.stack
    before = {name: p.detach().clone() for name, p in stack.named_parameters()}
    batch = collect(algorithm)
    for _ in range(3):
        algorithm.update(batch)
        assert not stack.weight.grad[:, stage - 1 :].any()
        assert not stack.bias.grad[:, stage - 1 :].any()
    moved = (stack.weight.detach() != before["weight"]).flatten(2).any(-1)[0].tolist()
    assert moved == [j < stage - 1 for j in range(4)]
    assert not torch.equal(stack.first.weight, before["first.weight"])


def test_a_task_sends_exactly_no_gradient_to_modules_above_its_own_stage(mega: Any) -> None:
    mega.evolutions[0].grow(1)
    mega.evolutions[0].grow(1)
    mega.decode_populations()
    mega.look_up()
    assert [p.stage for p in mega.evolutions[0].populations] == [3, 5, 3]
    x = torch.randn(3, 50, 39, generator=torch.Generator().manual_seed(0))
    mean, _ = mega.policy(x, "evaluate")
    for task, stage in enumerate([3, 5, 3]):
        (gradient,) = torch.autograd.grad(
            mean[task].sum(), [mega.actor.stack.weight], retain_graph=True
        )
        by_module = gradient[0].flatten(1).any(-1).tolist()
        assert not any(by_module[stage - 1 :])
        assert any(by_module[: stage - 1])


def test_growth_deepens_the_tables_and_everything_still_runs(
    mega: Any, collect: Callable[..., Batch]
) -> None:
    batch = collect(mega, samples=4)
    for generation in range(2):
        assert mega.tables.shape == (3, 3, 3, 4), generation
        mega.end_episodes(outcomes([[5.0], [5.0], [5.0 * (1 + generation)]]))
    assert [p.stage for p in mega.evolutions[0].populations] == [4, 4, 3]
    assert mega.tables.shape == (4, 4, 3, 4)
    torch.testing.assert_close(mega.tables[3].sum(0), torch.ones(3, 4))
    assert mega.act(torch.zeros(3, 4, 39), explore=True).actions.shape == (3, 4, 4)
    assert all(m.isfinite().all() for m in mega.update(batch).values())


def test_with_a_fixed_table_the_actor_is_d2rs_module_model(mega: Any) -> None:
    """The seed's first experiment: base, modules and head are D2R's, weight for weight."""
    s = mega.settings
    routed = RoutedNetwork(1, 3, 39, 8, s.actor_width, s, torch.Generator().manual_seed(0))
    routed.load_state_dict(mega.actor.state_dict(), strict=False)
    x = torch.randn(3, 6, 39, generator=torch.Generator().manual_seed(0))
    tables = []
    routed.stack.register_forward_pre_hook(lambda module, inputs: tables.append(inputs[1]))
    expected, _ = routed(x, Choice("greedy"))
    torch.testing.assert_close(mega.actor(x, tables[0]), expected)


def test_by_default_the_actor_does_not_see_the_task(build: Callable[..., Algorithm]) -> None:
    x = torch.randn(1, 5, 39, generator=torch.Generator().manual_seed(0)).expand(3, 5, 39)
    for append in (False, True):
        algorithm: Any = build("mega", append_task_id=append)
        f = algorithm.actor.base(x)[0]
        assert torch.allclose(f[0], f[1]) != append


@pytest.mark.parametrize("decoding", ["halfsoftmax", "softmax"])
@pytest.mark.parametrize("gene_bits", [1, 2, 4])
def test_tables_are_the_decoded_genotypes(
    decoding: str, gene_bits: int, build: Callable[..., Algorithm]
) -> None:
    algorithm: Any = build("mega", decoding=decoding, gene_bits=gene_bits)
    for task in range(3):
        for index, table in enumerate(tables_of(algorithm, task)):
            got = algorithm.tables[:, :, task, index].double().numpy()
            assert got == pytest.approx(table, abs=1e-7)


def test_the_critics_are_static(mega: Any, collect: Callable[..., Batch]) -> None:
    """Evolution touches the actor's wiring only."""
    batch = collect(mega, samples=4)
    inputs = torch.cat([batch.observations, batch.actions], -1)
    before = mega.values(mega.critic, inputs, "policy")
    for generation in range(4):
        mega.end_episodes(outcomes(5.0 + 0 * generation))
    assert torch.equal(mega.values(mega.critic, inputs, "policy"), before)


def test_report_has_the_stage_and_the_elites_mixing_weights(
    mega: Any, collect: Callable[..., Batch]
) -> None:
    mega.evolutions[0].grow(1)
    mega.decode_populations()
    batch = collect(mega, samples=4)
    mega.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 7], [5, 6, 7, 8]]))
    report = mega.report(batch)
    populations = mega.evolutions[0].populations
    assert report["stage"] == [3.0, 4.0, 3.0]
    assert report["best_fitness"] == [9.0, 8.0, 8.0]
    assert report["generation"] == [1.0, 1.0, 1.0]
    assert report["population_diversity"] == [p.diversity() for p in populations]
    assert all(
        1 <= used <= p.stage for used, p in zip(report["modules_in_use"], populations, strict=True)
    )
    for task, p in enumerate(populations):
        table = decode(p.elite.bits, mega.settings.gene_bits, p.stage)
        for j in range(1, 5):
            for i in range(1, j + 1):
                value = report[f"weight/{j}/{i}"][task]
                if j <= p.stage:
                    assert value == pytest.approx(table[j - 1, i - 1], abs=1e-6)
                else:
                    assert math.isnan(value)
    assert all(len(values) == 3 for values in report.values())
