"""From bits to mixing weights: closed forms of arXiv 2502.13569."""

from __future__ import annotations

import numpy as np
import pytest
from evolutions import evolution
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.genetics import decode, genotype_length, segment_weights


@pytest.mark.parametrize("gene_bits", [1, 2, 4, 8])
@pytest.mark.parametrize("stage", [1, 2, 3, 16])
def test_genotype_length_is_half_pw_n_n_plus_1(gene_bits: int, stage: int) -> None:
    assert genotype_length(stage, gene_bits) == gene_bits * sum(range(1, stage + 1))
    e = evolution(gene_bits=gene_bits, first_stage=stage, modules=16)
    lengths = {len(i.bits) for p in e.populations for i in p.individuals}
    assert lengths == {gene_bits * stage * (stage + 1) / 2}


def test_halfsoftmax_numerators_of_two_bit_genes_are_the_papers() -> None:
    weights = segment_weights(np.arange(4), "halfsoftmax")
    numerators = weights / weights[0] * 0.01
    assert numerators == pytest.approx([0.01, 1.728, 6.399, 19.096], abs=5e-4)


@pytest.mark.parametrize(("decoding", "least"), [("halfsoftmax", 0.0005), ("softmax", 0.047)])
def test_least_weight_of_two_inputs(decoding: str, least: float) -> None:
    weights = segment_weights(np.array([0, 3]), decoding)
    assert weights[0] == pytest.approx(least, rel=0.06)
    assert weights.sum() == pytest.approx(1, abs=1e-15)


def test_softmax_decoding_is_the_softmax() -> None:
    genes = np.array([3, 0, 1, 1])
    expected = np.exp(genes) / np.exp(genes).sum()
    assert segment_weights(genes, "softmax") == pytest.approx(expected)


def test_decoding_by_hand_with_the_most_significant_bit_first() -> None:
    # Genes: segment 1 is [1], segment 2 is [2, 1]; a head row at depth 4 leaves rows 2, 3 empty.
    bits = np.array([0, 1, 1, 0, 0, 1], np.uint8)
    table = decode(bits, 2, depth=4)
    two, one = np.exp(2) - 0.99, np.exp(1) - 0.99
    expected = np.zeros((4, 4))
    expected[0, 0] = 1
    expected[3, :2] = [two / (two + one), one / (two + one)]
    assert table == pytest.approx(expected)


def test_the_least_significant_bit_may_come_first() -> None:
    bits = np.array([1, 0, 1, 0, 1, 1], np.uint8)
    first, last = (decode(bits, 2, 2, "softmax", order) for order in ("msb_first", "lsb_first"))
    swapped = decode(bits.reshape(-1, 2)[:, ::-1].reshape(-1).copy(), 2, 2, "softmax", "lsb_first")
    np.testing.assert_array_equal(first, swapped)
    assert not np.array_equal(first, last)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_decoded_tables_are_mixtures(data: st.DataObject) -> None:
    gene_bits, stage = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 7))
    depth = stage + data.draw(st.integers(0, 3))
    decoding = data.draw(st.sampled_from(["halfsoftmax", "softmax"]))
    length = gene_bits * stage * (stage + 1) // 2
    bits = np.array(data.draw(st.lists(st.integers(0, 1), min_size=length, max_size=length)))
    table = decode(bits.astype(np.uint8), gene_bits, depth, decoding)
    assert table.shape == (depth, depth)
    assert np.all(table >= 0)
    assert np.array_equal(table, np.tril(table))
    fed = [*range(stage - 1), depth - 1]
    assert table[fed].sum(1) == pytest.approx(np.ones(stage))
    assert not np.delete(table, fed, 0).any(), "modules above the stage read nothing"
    assert not table[-1, stage:].any(), "and the head does not read them"
    assert table[0, 0] == 1 or stage == 1
    assert stage > 1 or table[-1, 0] == 1, "segment 1 has one source"
