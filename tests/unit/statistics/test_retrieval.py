"""Ranks by hand and by going through every order of ties; the joint space by plain loops."""

from itertools import permutations

import numpy as np
import pytest

from protlm.errors import DataError
from protlm.statistics.joint_space import (
    alignment,
    effective_rank,
    modality_gap,
    notebook_uniformity,
    uniformity,
)
from protlm.statistics.retrieval import RECALLS, ceiling_ranks, chance_ranks, rank_relevant


def by_all_orders(scores, relevant):
    """Mean rank, hits and reciprocal rank of the first relevant item over all orders of ties."""
    ranks = []
    for order in permutations(range(len(scores))):
        ordered = sorted(order, key=lambda item: -scores[item])  # stable, so `order` breaks ties
        ranks.append(1 + next(place for place, item in enumerate(ordered) if relevant[item]))
    ranks = np.array(ranks)
    return [ranks.mean(), *((ranks <= count).mean() for count in RECALLS), (1 / ranks).mean()]


def test_ties_are_worth_the_mean_over_all_their_orders():
    random = np.random.default_rng(0)
    for _ in range(12):
        scores = random.integers(0, 3, (3, 6)).astype(float)
        relevant = random.random((3, 6)) < 0.4
        relevant[:, 0] |= ~relevant.any(axis=1)
        ranks = rank_relevant(scores, relevant)
        found = np.column_stack([ranks.rank, ranks.values])
        expected = [by_all_orders(*row) for row in zip(scores, relevant, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_matrix_by_hand():
    scores = [[0.9, 0.5, 0.1], [0.8, 0.7, 0.6], [0.3, 0.2, 0.1]]
    ranks = rank_relevant(scores, np.eye(3))
    assert ranks.rank.tolist() == [1, 2, 3]
    assert ranks.values.mean(axis=0).tolist() == pytest.approx([1 / 3, 1, 1, 1, (1 + 1 / 2 + 1 / 3) / 3])


def test_constant_scores_have_exactly_chance_whatever_is_relevant():
    relevant = np.eye(40, dtype=bool)
    relevant[0, :4] = True
    constant, chance = rank_relevant(np.full((40, 40), 0.7), relevant), chance_ranks(relevant)
    assert (constant.values == chance.values).all()
    assert chance.hits(1)[1:] == pytest.approx(1 / 40)
    assert chance.hits(10)[1:] == pytest.approx(10 / 40)
    assert chance.hits(1)[0] == pytest.approx(4 / 40)
    assert chance.reciprocal[1] == pytest.approx(np.mean(1 / np.arange(1, 41)))


def test_only_candidates_count():
    scores = np.array([[0.1, 0.9, 0.5]])
    candidates = [[True, False, True]]
    ranks = rank_relevant(scores, [[True, False, False]], candidates)
    assert (ranks.rank.tolist(), ranks.size.tolist()) == ([2.0], [2])
    with pytest.raises(DataError, match="query 1 of 1 has no relevant item"):
        rank_relevant(scores, [[False, True, False]], candidates)
    with pytest.raises(DataError, match="similarity"):
        rank_relevant([[np.nan, 0.0]], [[True, False]])
    with pytest.raises(DataError, match="one row per query"):
        rank_relevant(scores, [[True]])


def test_ceiling_is_one_over_the_number_of_repeats():
    sequences, structures = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 3, 3])
    ranks = ceiling_ranks(sequences, structures)
    assert ranks.hits(1).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2])
    assert ranks.hits(3).tolist() == [1.0] * 5
    assert ranks.reciprocal[0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_space_by_loops():
    random = np.random.default_rng(1)
    one, other = (random.normal(size=(7, 3)) for _ in range(2))
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other))

    def kernel(first, second):
        return np.exp(-2 * ((first - second) ** 2).sum())

    pairs = [kernel(one[i], one[j]) for i in range(7) for j in range(i)]
    assert uniformity(one) == pytest.approx(np.log(np.mean(pairs)))
    both = np.concatenate([one, other])
    everything = [kernel(first, second) for first in both for second in both]
    assert notebook_uniformity(one, other) == pytest.approx(np.log(np.mean(everything)))
    assert alignment(one, other).mean() == pytest.approx(np.mean(2 - 2 * (one * other).sum(axis=1)))
    assert modality_gap(one, one) == 0
    assert modality_gap(one, -one) == pytest.approx(2 * np.linalg.norm(one.mean(axis=0)))
    assert effective_rank(np.eye(5)) == pytest.approx(5)
    assert np.isnan(uniformity(one[:1]))
    with pytest.raises(DataError, match="row i of both"):
        alignment(one, other[:3])


def test_effective_rank_by_hand():
    vectors = np.diag([3.0, 1.0])  # shares 3/4 and 1/4
    assert effective_rank(vectors) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
