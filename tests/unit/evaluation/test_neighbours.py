"""Baselines that look up training rows, and features of pairs and windows, by hand."""

import numpy as np
import pytest

from protlm.evaluation.neighbours import Likeness, degree, nearest
from protlm.evaluation.pair_features import by_chain, join_chains
from protlm.evaluation.probes import Rounds, all_rounds
from protlm.evaluation.residue_features import position_features, window_features
from protlm.evaluation.trivial import chain_composition, chain_kmers, variant_one_hot
from protlm.types.record import Chain, Record


def single(*texts):
    return [Record(f"r{n}", (Chain(text),)) for n, text in enumerate(texts)]


def pairs(*texts):
    return [Record(f"r{n}", (Chain(a), Chain(b))) for n, (a, b) in enumerate(texts)]


def test_chains_of_one_length_are_compared_place_by_place():
    alike = Likeness(single("MKTA", "MKTS", "GGGG"), is_ordered=True)
    found = alike.of(np.array([0]), np.array([0, 1, 2]))
    np.testing.assert_allclose(found, [[1, 0.75, 0]])


def test_others_are_compared_by_words_of_three():
    found = Likeness(single("MKTAY", "MKTAYI", "GGWGGP"), is_ordered=True).of(np.array([0]), np.array([1, 2]))
    np.testing.assert_allclose(found, [[3 / np.sqrt(3 * 4), 0]], rtol=1e-6)


def test_pairs_without_roles_are_compared_in_the_better_order():
    records = pairs(("MKTA", "GGWP"), ("GGWP", "MKTA"), ("MKTA", "CCCC"))
    rows = np.array([0, 1, 2])
    unordered = Likeness(records, is_ordered=False).of(rows, rows)
    assert unordered[0, 1] == 1
    assert unordered[0, 2] == unordered[1, 2] == 0.5
    assert Likeness(records, is_ordered=True).of(rows, rows)[0, 1] == 0


def test_the_nearest_vote_by_likeness_and_nothing_of_the_own_fold():
    records = single("MKTAYIAK", "MKTAYIAR", "GGGGGGGG", "GGGGGGGC", "MKTAYIAS", "GGGGGGGS")
    labels, folds = np.array([0.0, 2.0, 10.0, 12.0, 99.0, 99.0]), np.array([0, 0, 0, 0, 1, 1])
    found = nearest(records, np.arange(6), labels, folds, Rounds((1,), {1: ()}), "value", is_ordered=True)
    assert np.isnan(found[:4]).all()
    assert found[4] == pytest.approx(1.0, abs=1e-3)  # two at 7 of 8, the others at nothing
    assert found[5] == pytest.approx(11.0, abs=1e-3)
    classes = nearest(
        records,
        np.arange(6),
        np.array([0, 0, 1, 1, 2, 2]),
        folds,
        Rounds((1,), {1: ()}),
        "classes",
        is_ordered=True,
    )
    assert classes[4:].tolist() == [0, 1]


def test_degree_is_the_share_of_positive_training_pairs_of_a_chain():
    records = pairs(("AAA", "CCC"), ("AAA", "DDD"), ("EEE", "DDD"), ("AAA", "EEE"), ("FFF", "GGG"))
    labels, folds = np.array([1, 1, 0, 1, 1]), np.array([0, 0, 0, 1, 1])
    found = degree(records, np.arange(5), labels, folds, Rounds((1,), {1: ()}))
    mean = 2 / 3
    hub, other = (2 + mean) / 3, (0 + mean) / 2  # drawn to the mean by one row
    assert found[3] == pytest.approx((hub + other) / 2)
    assert found[4] == pytest.approx(mean)  # neither was seen


def test_joined_chains():
    table = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert join_chains(table, np.array([[0, 1]]), is_ordered=True).tolist() == [[1, 2, 3, 5, 3, 10]]
    assert join_chains(table, np.array([[1]]), is_ordered=True).tolist() == [[3, 5]]
    records = pairs(("MKT", "GGW"), ("GGW", "MKT"))
    for make in (chain_composition, chain_kmers):
        found = by_chain(make, records, is_ordered=False)
        dense = found.toarray() if hasattr(found, "toarray") else found
        np.testing.assert_allclose(dense[0], dense[1])


def test_words_are_scaled_to_one_length_and_unusual_letters_are_in_none():
    table = chain_kmers([Chain("ACACAC"), Chain("AXA")]).toarray()
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 10)
    assert (table[0] > 0).sum() == 2 + 2 + 2  # A, C; AC, CA; ACA, CAC
    assert (table[1] > 0).sum() == 1


def test_one_hot_letters_leave_out_what_is_commonest():
    table = variant_one_hot(single("MKT", "MRT", "MKS", "MKT"))
    assert table.toarray().tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert variant_one_hot(single("MKT", "MK")) is None


def test_windows_end_where_the_chain_ends():
    table = window_features(pairs(("AC", "D")), reach=1).toarray()
    assert table.shape == (3, 3 * 22)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    assert [np.flatnonzero(row).tolist() for row in table] == [
        [21, 22 + letters.index("A"), 44 + letters.index("C")],
        [letters.index("A"), 22 + letters.index("C"), 44 + 21],
        [21, 22 + letters.index("D"), 44 + 21],  # the other chain is no neighbour
    ]


def test_positions_need_numbers():
    assert position_features(single("MKT")) is None
    tracks = {"position": np.array([0, 257, 258], dtype=np.uint16)}
    table = position_features([Record("a", (Chain("MKT", locus="H", tracks=tracks),))])
    assert table.toarray().argmax(axis=1).tolist() == [0, 1, 2]


def test_rounds():
    folds = np.array([0, 1, 2, 3])
    assert len(all_rounds(folds)) == 4 + 6
    some = all_rounds(folds, tested=2, inner="next")
    assert some.tested == (0, 1)
    assert some.pairs == [(0, 1), (1, 2)]
