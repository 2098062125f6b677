"""Trivial features, worked out by hand."""

import numpy as np

from protlm.evaluation.trivial import end_features, mutation_features, one_hot, v_gene_features
from protlm.types.record import Chain, Record
from protlm.types.regions import Mutated, Segment


def pair(heavy: str = "QVQLVW", light: str = "DIQMTK", v=("IGHV3-23*01", "IGKV1-39*01")) -> Record:
    return Record("r", (Chain(heavy, v_call=v[0]), Chain(light, v_call=v[1])))


def test_v_genes_families_and_their_product():
    records = [pair(), pair(v=("IGHV3-7*01", "IGKV1D-33*01")), pair(v=("IGHV1-2*02", ""))]
    table = v_gene_features(records)
    genes, families, product = [3, 2], [2, 1], [1]  # heavy, light; heavy, light; one product that is known
    assert table.shape == (3, sum(genes + families + product))
    assert table.sum(axis=1).tolist() == [5, 5, 2]
    assert (table[0] * table[1]).sum() == 3  # both families, and their product
    assert v_gene_features([pair(v=("", ""))]) is None


def test_ends_see_ends_length_and_source_and_nothing_between():
    same = end_features([pair("QVQAAALVT"), pair("QVQWWWLVT")])
    assert (same[0] == same[1]).all()
    longer = end_features([pair("QVQAAALVT"), pair("QVQAAAALVT")])
    assert (longer[0] != longer[1]).sum() == 1
    with_source = end_features([pair(), pair()], ["a", "b"])
    assert (with_source[0] != with_source[1]).sum() == 2
    assert end_features([pair("QV"), pair()]).shape[0] == 2  # shorter than an end: no letters


def test_mutations_are_counted_in_v_alone():
    segment = np.array([Segment.V, Segment.V, Segment.N, Segment.J], dtype=np.uint8)
    mutated = np.array([Mutated.MUTATED, Mutated.GERMLINE, Mutated.NONE, Mutated.MUTATED], dtype=np.uint8)
    one = Chain("QVQL", tracks={"segment": segment, "mutated": mutated})
    none = Chain("DIQM", tracks={"segment": segment, "mutated": np.full(4, Mutated.GERMLINE, np.uint8)})
    table = mutation_features([Record("a", (one, none)), Record("b", (one, one)), Record("c", (none, none))])
    # counts, whether 0, whether not known, difference, whether one alone is 0
    assert table.tolist() == [
        [1, 0, 0, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0, 0],
    ]
    assert mutation_features([pair()]) is None
    half = mutation_features([Record("a", (one, none)), pair()])
    assert half[1].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]


def test_empty_words_have_no_column():
    assert one_hot(["", ""]).shape == (2, 0)
