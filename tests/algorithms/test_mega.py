"""MEGA: genotypes wire the actor (arXiv 2502.13569)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plain_stack import plain_stack
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch, Outcomes
from algorithms.genetics import decode
from algorithms.modules.routing import RoutedNetwork

T = 3


def outcomes(returns: Any, successes: Any = 0.0, shape: tuple[int, int] = (T, 4)) -> Outcomes:
    def full(values: Any) -> Tensor:
        return torch.as_tensor(np.broadcast_to(np.asarray(values, np.float64), shape).copy())

    rewards = torch.zeros(*shape, 500)
    return Outcomes(full(returns), full(successes), rewards, torch.zeros(shape[0]))


@pytest.fixture
def mega(build: Callable[..., Algorithm]) -> Any:
    """Four individuals and four envs: each round of episodes is a generation."""
    return build("mega", envs=4)


def tables_of(algorithm: Any, task: int) -> list[np.ndarray]:
    s, populations = algorithm.settings, algorithm.populations
    individuals = populations[task].individuals
    return [decode(i.bits, s.gene_bits, s.modules, s.decoding, s.bit_order) for i in individuals]


def actor_of(algorithm: Any) -> Any:
    """The actor as a module of its own, with the weights that it has now."""
    network = algorithm.networks["actor"]
    module = network.build()
    module.load_state_dict(network.views(algorithm.state["actor"]))
    return module


def policy(algorithm: Any, x: Tensor, purpose: str) -> Tensor:
    given = algorithm.given(purpose, x.shape[1], torch.Generator())
    mean: Tensor = algorithm.policy(algorithm.weights(algorithm.state), x, purpose, given)[0]
    return mean


def observations(samples: int) -> Tensor:
    return torch.randn(T, samples, 39, generator=torch.Generator().manual_seed(0))


def test_each_env_acts_with_the_genotype_whose_turn_it_is(mega: Any) -> None:
    mega.end_episodes(outcomes(np.arange(12.0).reshape(T, 4)))
    mega.evolution.turn = np.array([1, 2, 3, 0])
    mega.look_up()
    x, actor = observations(4), actor_of(mega)
    table = np.stack([[tables_of(mega, t)[(1 + env) % 4] for env in range(4)] for t in range(T)])
    body = plain_stack(actor.stack, torch.relu(actor.base(x)), torch.from_numpy(table).float())
    torch.testing.assert_close(policy(mega, x, "explore"), actor.head(body)[..., :4])


def test_the_fittest_is_evaluated(mega: Any) -> None:
    mega.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 8], [5, 6, 7, 8]]))
    # The worst was replaced by a child without fitness; ties go to the older.
    assert mega.elites.tolist() == [1, 0, 3]
    table = mega.given("evaluate", 7, torch.Generator())["table"]
    assert table.shape[1] == 1, "one genotype serves all samples of a task"
    for task, elite in enumerate([1, 0, 3]):
        expected = torch.from_numpy(tables_of(mega, task)[elite]).float()
        torch.testing.assert_close(table[task, 0], expected)


def test_the_oldest_may_be_evaluated_instead(build: Callable[..., Algorithm]) -> None:
    algorithm: Any = build("mega", envs=4, evaluate_genotype="oldest")
    algorithm.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 8], [5, 6, 7, 8]]))
    assert algorithm.evaluated.tolist() == [1, 0, 1]  # the first was replaced where it was worst


@pytest.mark.parametrize("choice", ["uniform", "best"])
def test_a_gradient_step_trains_whom_the_setting_says(
    choice: str, build: Callable[..., Algorithm]
) -> None:
    algorithm: Any = build("mega", envs=4, train_genotype=choice)
    algorithm.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 7], [5, 6, 7, 8]]))
    trained: list[Counter[int]] = [Counter() for _ in range(T)]
    for _ in range(60):
        table = algorithm.given("update", 6, torch.Generator())["table"]
        assert table.shape[1] == 1, "one genotype serves a task's whole step"
        for task in range(T):
            same = (algorithm.tables[task] == table[task]).flatten(1).all(1)
            trained[task].update(same.nonzero().flatten().tolist())
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
    network = algorithm.networks["actor"]
    before = {k: v.clone() for k, v in network.views(algorithm.state["actor"]).items()}
    batch = collect(algorithm)
    for _ in range(3):
        algorithm.update(batch)
    after = network.views(algorithm.state["actor"])
    moved = [not torch.equal(after[k], v) for k, v in before.items() if k.startswith("stack.later")]
    assert moved == [j < 2 * (stage - 1) for j in range(8)]  # a weight and a bias each
    assert not torch.equal(after["stack.first.weight"], before["stack.first.weight"])


def test_a_task_sends_exactly_no_gradient_to_modules_above_its_own_stage(mega: Any) -> None:
    mega.evolution.grow(1)
    mega.evolution.grow(1)
    mega.decode_populations()
    mega.look_up()
    assert [p.stage for p in mega.populations] == [3, 5, 3]
    actor = actor_of(mega)
    table = mega.given("evaluate", 50, torch.Generator())["table"]
    output = actor(observations(50), table)
    weights = [layer.weight for layer in actor.stack.later]
    for task, stage in enumerate([3, 5, 3]):
        gradients = torch.autograd.grad(output[task].sum(), weights, retain_graph=True)
        by_module = [bool(g.any()) for g in gradients]
        assert not any(by_module[stage - 1 :])
        assert any(by_module[: stage - 1])


def test_growth_fills_tables_of_one_size_and_everything_still_runs(
    mega: Any, collect: Callable[..., Batch]
) -> None:
    batch = collect(mega, samples=4)
    for generation in range(2):
        assert not mega.tables[..., 3:].any(), generation
        mega.end_episodes(outcomes([[5.0], [5.0], [5.0 * (1 + generation)]], 0.5))
    assert [p.stage for p in mega.populations] == [4, 4, 3]
    # A compiled or recorded step has one shape.
    assert mega.tables.shape == (T, 4, 5, 5)
    torch.testing.assert_close(mega.tables[..., 4, :].sum(-1), torch.ones(T, 4))
    for task, stage in enumerate([4, 4, 3]):
        assert [bool(of.any()) for of in mega.tables[task].unbind(-1)] == [
            module < stage for module in range(5)
        ]
    assert mega.act(torch.zeros(T, 4, 39), explore=True).actions.shape == (T, 4, 4)
    assert all(m.isfinite().all() for m in mega.update(batch).values())
    # What growth has cost is what a task that grew has lost of the share that it had solved.
    mega.end_episodes(outcomes([[5.0], [5.0], [15.0]], 0.1))
    cost = mega.report(batch)["growth_cost"]
    assert cost == pytest.approx([0.8, 0.8, math.nan], nan_ok=True)


def test_with_a_fixed_table_the_actor_is_d2rs_module_model(mega: Any) -> None:
    """The paper's first experiment: base, modules and head are D2R's, weight for weight."""
    routed, actor, x = RoutedNetwork(T, 39, 8, 25, mega.settings), actor_of(mega), observations(6)
    missing, unexpected = routed.load_state_dict(actor.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"router", "embedding", "embedding_bias"}
    tables: list[Tensor] = []
    routed.stack.register_forward_pre_hook(lambda _, inputs: tables.append(inputs[1]))
    expected, _, _ = routed(x)
    torch.testing.assert_close(actor(x, tables[0]), expected)


def test_by_default_the_actor_does_not_see_the_task(build: Callable[..., Algorithm]) -> None:
    x = observations(5)[:1].expand(T, 5, 39)
    for append in (False, True):
        f = actor_of(build("mega", append_task_id=append)).base(x)
        assert torch.allclose(f[0], f[1]) != append


@pytest.mark.parametrize("decoding", ["halfsoftmax", "softmax"])
@pytest.mark.parametrize("gene_bits", [1, 2, 4])
@pytest.mark.parametrize("bit_order", ["msb_first", "lsb_first"])
def test_tables_are_the_decoded_genotypes(
    decoding: str, gene_bits: int, bit_order: str, build: Callable[..., Algorithm]
) -> None:
    fields = {"decoding": decoding, "gene_bits": gene_bits, "bit_order": bit_order}
    algorithm: Any = build("mega", **fields)
    for task in range(T):
        expected = np.stack(tables_of(algorithm, task))
        assert algorithm.tables[task].double().numpy() == pytest.approx(expected, abs=1e-7)


def test_the_critics_are_static(mega: Any, collect: Callable[..., Batch]) -> None:
    """Evolution touches the actor's wiring only."""
    batch = collect(mega, samples=4)
    inputs = torch.cat([batch.observations, batch.actions], -1)

    def values() -> Tensor:
        result: Tensor = mega.values(mega.weights(mega.state), inputs, "policy", {})
        return result

    before = values()
    for generation in range(4):
        mega.end_episodes(outcomes(5.0 + 0 * generation))
    assert torch.equal(values(), before)


def test_report_has_the_stage_and_the_elites_mixing_weights(
    mega: Any, collect: Callable[..., Batch]
) -> None:
    mega.evolution.grow(1)
    mega.decode_populations()
    batch = collect(mega, samples=4)
    mega.end_episodes(outcomes([[1, 9, 3, 4], [8, 2, 3, 7], [5, 6, 7, 8]]))
    report, populations = mega.report(batch), mega.populations
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
    assert all(len(values) == T for values in report.values())


@pytest.mark.parametrize(
    "fields",
    [{"first_stage": 4, "modules": 3}, {"first_stage": 17}, {"update_order": "critic_first"}],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], mega: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(fields)).replace("_", "[_-]")):
        mega.Settings(**fields)
