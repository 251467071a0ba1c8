"""Mixing weights that learn: finite differences, nearest genes, and what a rate of 0 changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.algorithm import Algorithm, Batch
from algorithms.genetics import decode, gene_strengths
from algorithms.genotype_gradient import distance, encode, log_weights, nearest
from algorithms.mega import MEGASettings
from algorithms.trial import differs, outcomes, state_of

T = 3
KINDS = st.sampled_from(["halfsoftmax", "softmax"])


def shift_of(algorithm: Any) -> torch.Tensor:
    """The learned shifts, as a view into the state."""
    return algorithm.networks["mixing"].views(algorithm.state["mixing"])["shift"]


def logarithms_of(table: np.ndarray, stage: int) -> np.ndarray:
    """Logarithms of a table's weights, gene by gene."""
    rows = [*range(stage - 1), len(table) - 1]
    return np.log(np.concatenate([table[row, : k + 1] for k, row in enumerate(rows)]))


# Back to genes ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_weights_that_genes_stand_for_are_encoded_as_such(data: st.DataObject) -> None:
    """decode(encode(w)) = w for every w that can be written."""
    s = MEGASettings(
        gene_bits=data.draw(st.integers(1, 5)),
        decoding=data.draw(KINDS),
        bit_order=data.draw(st.sampled_from(["msb_first", "lsb_first"])),
    )
    stage = data.draw(st.integers(1, 6))
    length = s.gene_bits * stage * (stage + 1) // 2
    random = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    bits, before = random.integers(0, 2, (2, length), dtype=np.uint8)
    table = decode(bits, s.gene_bits, stage, s.decoding, s.bit_order)
    found = encode(logarithms_of(table, stage), before, s)
    again = decode(found, s.gene_bits, stage, s.decoding, s.bit_order)
    assert again == pytest.approx(table, abs=1e-12)
    assert np.array_equal(encode(logarithms_of(table, stage), bits, s), bits), "and so they stay"


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_weights_are_encoded_as_the_nearest_genes(data: st.DataObject) -> None:
    """Against all genotypes of a segment."""
    bits, sources = data.draw(st.sampled_from([(1, 5), (1, 2), (2, 3), (2, 4), (3, 2), (4, 2)]))
    levels = np.log(gene_strengths(np.arange(2**bits), data.draw(KINDS)))
    weights = data.draw(st.lists(st.floats(-12, 6), min_size=sources, max_size=sources))
    found = distance(levels[nearest(np.array(weights), levels)], np.array(weights))
    everyone = np.array(list(itertools.product(range(2**bits), repeat=sources)))
    assert found == pytest.approx(distance(levels[everyone], np.array(weights)).min(), abs=1e-9)


def test_the_nearest_genes_by_hand() -> None:
    """Levels of 2 bits are ln 0.01, 0.547, 1.856, 2.950; a common constant does not count."""
    levels = np.log(gene_strengths(np.arange(4), "halfsoftmax"))
    assert nearest(np.array([7.0, 9.5]), levels).tolist() == [1, 3]
    assert nearest(np.array([0.0, 8.0]), levels).tolist() == [0, 3]
    s = MEGASettings()
    start = np.array([1, 1, 1, 1, 1, 1], np.uint8)  # genes 3; 3, 3
    assert encode(np.array([5.0, 0.0, 7.5]), start, s).tolist() == [1, 1, 0, 0, 1, 1]


# Gradients ------------------------------------------------------------------------------------


def learning(build: Callable[..., Algorithm], **fields: Any) -> Any:
    """MEGA with stages 3, 5 and 4, so that tables have empty rows."""
    algorithm: Any = build("mega", **{"genotype_gradient": "baldwin", "population": 2} | fields)
    for task in (1, 1, 2):
        algorithm.evolution.grow(task)
    algorithm.decode_populations()
    algorithm.look_up()
    return algorithm


def test_without_a_shift_not_one_bit_of_a_table_changes(build: Callable[..., Algorithm]) -> None:
    algorithm = learning(build)
    for purpose in ("explore", "evaluate", "update"):
        given_ = algorithm.given(purpose, 6, torch.Generator())
        table = algorithm.wiring(algorithm.weights(algorithm.state), given_)
        assert torch.equal(table, given_["table"]), purpose


def test_shifted_weights_are_the_genes_weights_times_e_to_the_shift(
    build: Callable[..., Algorithm],
) -> None:
    algorithm = learning(build)
    s, shift = algorithm.settings, shift_of(algorithm)
    shift.copy_(torch.randn(shift.shape, generator=torch.Generator().manual_seed(0)))
    algorithm.evaluated[:] = torch.tensor([1, 0, 1])
    given_ = algorithm.given("evaluate", 1, torch.Generator())
    table = algorithm.wiring(algorithm.weights(algorithm.state), given_)[:, 0]
    for task, index in enumerate([1, 0, 1]):
        population = algorithm.populations[task]
        own = log_weights(
            population.individuals[index].bits, shift[task, index].double().numpy(), s
        )
        found = logarithms_of(table[task].double().numpy(), population.stage)
        for k in range(1, population.stage + 1):
            segment = slice(k * (k - 1) // 2, k * (k + 1) // 2)
            expected = np.exp(own[segment]) / np.exp(own[segment]).sum()
            assert np.exp(found[segment]) == pytest.approx(expected, rel=1e-4)


def test_gradients_agree_with_finite_differences(
    build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    """Of the actor's loss, in float64, for every gene of the individuals that are trained."""
    algorithm = learning(build, actor_width=8, critic_width=8)
    batch = collect(algorithm)
    batch = algorithm.with_extras(batch, **algorithm.given("update", 6, torch.Generator()))
    state = {name: value.double() for name, value in algorithm.state.items()}
    observations, actions, rewards, following, timeouts = (part.double() for part in batch[:5])
    double = {k: v.double() if v.is_floating_point() else v for k, v in batch.extras.items()}
    batch = Batch(observations, actions, rewards, following, timeouts, double)
    random = torch.Generator().manual_seed(1)
    state["mixing"] = 0.3 * torch.randn(state["mixing"].shape, generator=random).double()
    batch = algorithm.prepared(state, batch)
    # Weights of the head start so small that differences would drown.
    algorithm.networks["actor"].views(state["actor"])["head.weight"].mul_(100)
    _, _, gradient = algorithm.differentiate("actor", state, batch)
    found = gradient(torch.ones(T).double())["mixing"]

    def loss(vector: torch.Tensor) -> float:
        weights = algorithm.weights({**state, "mixing": vector})
        return float(algorithm.actor_loss(weights, batch)[0].mean())

    step, expected = 1e-5, torch.zeros_like(found)
    for index in range(len(found)):
        ends = []
        for sign in (1, -1):
            moved = state["mixing"].clone()
            moved[index] += sign * step
            ends.append(loss(moved))
        expected[index] = (ends[0] - ends[1]) / (2 * step)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
    own = algorithm.networks["mixing"].views(found)["shift"].abs().sum(-1) > 0
    trained = torch.nn.functional.one_hot(batch.extras["individuals"][:, 0], 2).bool()
    assert torch.equal(own, trained), "nobody else has a gradient"


def live(algorithm: Any, collect: Callable[..., Batch], rounds: int = 4) -> None:
    """Some rounds of acting, learning and breeding."""
    for step in range(rounds):
        for _ in range(2):
            algorithm.update(collect(algorithm, seed=step))
        algorithm.end_episodes(outcomes(step))


def test_with_a_rate_of_0_all_three_are_identical_to_the_bit(
    build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    states = []
    for kind in ("none", "baldwin", "lamarck"):
        algorithm = build("mega", population=2, genotype_gradient=kind, genotype_learning_rate=0.0)
        live(algorithm, collect)
        states.append(state_of(algorithm))
        tensors = states[-1]["tensors"]
        assert not tensors.get("mixing", torch.zeros(1)).any()
        states[-1]["tensors"] = {k: v for k, v in tensors.items() if "mixing" not in k}
    assert differs(states[0], states[1]) is None and differs(states[0], states[2]) is None
    learned = build("mega", population=2, genotype_gradient="baldwin", genotype_learning_rate=0.5)
    live(learned, collect)
    assert differs(states[0]["tensors"]["actor"], state_of(learned)["tensors"]["actor"]) is not None


@pytest.mark.parametrize("kind", ["baldwin", "lamarck"])
def test_at_a_generations_end_learning_is_inherited_or_lost(
    kind: str, build: Callable[..., Algorithm]
) -> None:
    algorithm = learning(
        build, genotype_gradient=kind, mutation_rate=0.0, crossover_rate=0.0, trigger="none"
    )
    shift, s = shift_of(algorithm), algorithm.settings
    shift.copy_(4 * torch.randn(shift.shape, generator=torch.Generator().manual_seed(0)))
    populations = algorithm.populations
    before = [[i.bits.copy() for i in p.individuals] for p in populations]
    learned = [
        [
            encode(log_weights(bits, shift[task, index].double().numpy(), s), bits, s)
            for index, bits in enumerate(own)
        ]
        for task, own in enumerate(before)
    ]
    views = algorithm.networks["mixing"].views
    views(algorithm.state["mixing.first_moment"])["shift"].fill_(1.0)
    algorithm.end_episodes(outcomes(0))
    kept = before if kind == "baldwin" else learned
    for task, population in enumerate(populations):
        elite = population.individuals.index(population.elite)
        # Without mutation and crossover everyone is a copy of the survivor.
        assert all(np.array_equal(i.bits, kept[task][elite]) for i in population.individuals)
        assert not np.array_equal(before[task][elite], learned[task][elite])
    mixing = [v for k, v in algorithm.state.items() if k.startswith("mixing")]
    assert len(mixing) == 4 and not any(v.any() for v in mixing), "everyone starts from its genes"


def test_learned_wiring_lowers_the_actors_loss(
    build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    algorithm = learning(build)
    algorithm.networks["actor"].views(algorithm.state["actor"])["head.weight"].mul_(100)
    batch = collect(algorithm)
    batch = algorithm.with_extras(batch, **algorithm.given("update", 6, torch.Generator()))
    batch = algorithm.prepared(algorithm.state, batch)
    loss, _, gradient = algorithm.differentiate("actor", algorithm.state, batch)
    algorithm.step(algorithm.state, {"mixing": gradient(torch.ones(T))["mixing"]})
    now, _ = algorithm.actor_loss(algorithm.weights(algorithm.state), batch)
    assert (now < loss).all()


def test_the_weights_in_the_rows_are_those_that_were_learned(
    build: Callable[..., Algorithm], collect: Callable[..., Batch]
) -> None:
    algorithm = learning(build)
    batch = collect(algorithm)
    before = algorithm.report(batch)
    shift_of(algorithm)[:, :, 1] += 5.0  # the first gene of module 2
    after = algorithm.report(batch)
    assert all(a > b for a, b in zip(after["weight/2/1"], before["weight/2/1"], strict=True))
    # One gene of each individual has moved by 5: of 6, 15 and 10 genes at stages 3, 5 and 4.
    assert after["genotype_shift"] == pytest.approx([5 / n**0.5 for n in (6, 15, 10)])
    assert before["genotype_shift"] == [0.0] * T


def test_generations_that_end_apart_are_refused() -> None:
    MEGASettings(individual="random")
    with pytest.raises(ValueError, match="add --individual round_robin"):
        MEGASettings(individual="random", genotype_gradient="lamarck")


def test_genes_that_nothing_is_written_into_are_refused() -> None:
    with pytest.raises(ValueError, match="add --evolution or --genotype-gradient baldwin"):
        MEGASettings(evolution=False, genotype_gradient="lamarck")
