"""Ensembles: three ways by hand, missing scores, members that say nothing."""

import math
import statistics

import numpy as np
import pytest

from protlm.errors import ConfigError, DataError
from protlm.scoring.ensembles import WAYS, check_way, combine

TWO = [[0.0, -1.0, -2.0, -5.0], [0.5, -8.0, -0.5, 0.5]]


def test_the_mean_is_that_of_the_scores():
    assert combine(TWO).scores.tolist() == [0.25, -4.5, -1.25, -2.25]


def test_z_is_by_the_population_standard_deviation():
    expected = [
        statistics.mean((row[place] - statistics.mean(row)) / statistics.pstdev(row) for row in TWO)
        for place in range(4)
    ]
    np.testing.assert_allclose(combine(TWO, "z").scores, expected, rtol=1e-12)


def test_ranks_average_ties_and_run_from_0_to_1():
    """Ranks from the bottom: 4 3 2 1 and, with a tie for the top, 3.5 1 2 3.5."""
    expected = [(3 / 3 + 2.5 / 3) / 2, (2 / 3 + 0) / 2, (1 / 3 + 1 / 3) / 2, (0 + 2.5 / 3) / 2]
    np.testing.assert_allclose(combine(TWO, "rank").scores, expected, rtol=1e-12)
    assert combine([[3.0, 1.0, 2.0]], "rank").scores.tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("way", WAYS)
def test_higher_stays_fitter(way):
    rising = np.linspace(-9, 0, 12)
    scores = combine([rising, 2 * rising + 1, rising**3], way).scores
    assert (np.diff(scores) > 0).all()


@pytest.mark.parametrize("way", ["z", "rank"])
def test_units_of_a_member_do_not_matter(way):
    scaled = [TWO[0], [100 * value - 7 for value in TWO[1]]]
    np.testing.assert_allclose(combine(scaled, way).scores, combine(TWO, way).scores, atol=1e-12)
    assert not np.allclose(combine(scaled).scores, combine(TWO).scores)


@pytest.mark.parametrize("way", WAYS)
def test_a_variant_that_a_member_did_not_score_has_none_and_does_not_count(way):
    holes = [[*TWO[0], 3.0, math.nan], [*TWO[1], math.nan, -4.0]]
    result = combine(holes, way)
    assert np.isnan(result.scores[4:]).all()
    np.testing.assert_allclose(result.scores[:4], combine(TWO, way).scores, rtol=1e-12)
    (note,) = result.notes
    assert "2 of 6 variants" in note


@pytest.mark.parametrize(("way", "value"), [("z", 0.0), ("rank", 0.5)])
def test_a_member_that_scores_all_alike_says_nothing_and_is_named(way, value):
    flat = [0.1] * 3  # whose standard deviation is 1.4e-17, not 0
    assert np.std(flat) != 0
    result = combine([[3.0, 1.0, 2.0], flat], way, names=["good", "flat"])
    alone = combine([[3.0, 1.0, 2.0]], way).scores
    np.testing.assert_allclose(result.scores, (alone + value) / 2, rtol=1e-12)
    (note,) = result.notes
    assert "'flat'" in note
    assert combine([[3.0, 1.0, 2.0], flat]).notes == []


@pytest.mark.parametrize("way", WAYS)
def test_one_variant_and_none(way):
    assert np.isfinite(combine([[1.0], [2.0]], way).scores).all()
    assert len(combine(np.zeros((2, 0)), way).scores) == 0
    assert np.isnan(combine([[1.0, math.nan], [math.nan, 2.0]], way).scores).all()


def test_what_is_no_way_and_no_table():
    with pytest.raises(ConfigError, match="no ensemble 'ranks'") as caught:
        check_way("ranks")
    assert "'rank'" in str(caught.value)
    with pytest.raises(DataError, match="shape"):
        combine([1.0, 2.0])


def test_equal_sums_of_ranks_are_equal_scores():
    """Three members rank 50 variants; 1 + 2 + 3 in any order is one score, to the last bit."""
    others = np.arange(47.0) + 3
    rows = [np.concatenate([first, others]) for first in ([0, 1, 2], [1, 2, 0], [2, 0, 1])]
    scores = combine(rows, "rank").scores
    assert scores[0] == scores[1] == scores[2] == pytest.approx(1 / 49)
