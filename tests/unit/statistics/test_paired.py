"""Paired t-test, Bonferroni's correction and stars."""

import math

import numpy as np
import pytest
import scipy.stats

from protlm.errors import DataError
from protlm.statistics.paired import bonferroni, paired_t_test, stars


def test_by_hand():
    """Differences 1 and 3: mean 2, variance 2, standard error 1, so t = 2 with one degree of freedom.

    That is a Cauchy variable: p = 1 - (2/π) atan 2.
    """
    test = paired_t_test([4, 8], [3, 5])
    assert (test.statistic, test.mean_difference, test.n) == (pytest.approx(2.0, abs=1e-12), 2.0, 2)
    assert test.p_value == pytest.approx(1 - 2 / math.pi * math.atan(2), abs=1e-12)


@pytest.mark.parametrize("shift", [-0.5, 0.0, 3.0])
def test_agrees_with_scipy_and_leaves_out_nan_pairs(shift):
    generator = np.random.default_rng(0)
    first, second = generator.normal(shift, size=40), generator.normal(size=40)
    first[[1, 5]], second[[5, 9, 30]] = math.nan, math.nan
    reference = scipy.stats.ttest_rel(first, second, nan_policy="omit")
    test = paired_t_test(first, second)
    assert test.n == 36
    assert test.statistic == pytest.approx(reference.statistic, rel=1e-10)
    assert test.p_value == pytest.approx(reference.pvalue, rel=1e-8)


def test_swapping_changes_only_the_sign():
    there, back = paired_t_test([1, 2, 5], [0, 3, 1]), paired_t_test([0, 3, 1], [1, 2, 5])
    assert (back.statistic, back.mean_difference) == (-there.statistic, -there.mean_difference)
    assert back.p_value == there.p_value


def test_false_positives_are_as_rare_as_promised():
    """Of 2,000 tests without an effect 5 % should be below 0.05: 100 ± 9.7, bounds at 4 deviations."""
    generator = np.random.default_rng(1)
    draws = generator.normal(size=(2000, 2, 12))
    found = sum(paired_t_test(first, second).p_value < 0.05 for first, second in draws)
    assert 61 <= found <= 139


def test_equal_differences():
    same = paired_t_test([1, 2, 3], [1, 2, 3])
    assert (same.statistic, same.p_value, same.mean_difference, same.n) == (0.0, 1.0, 0.0, 3)
    lower = paired_t_test([1, 2, 3], [2, 3, 4])
    assert (lower.statistic, lower.p_value, lower.mean_difference) == (-math.inf, 0.0, -1.0)


def test_too_few_pairs():
    one = paired_t_test([3, math.nan], [1, 2])
    assert (one.mean_difference, one.n) == (2.0, 1)
    assert math.isnan(one.statistic)
    assert math.isnan(one.p_value)
    none = paired_t_test([math.nan], [1])
    assert none.n == 0
    assert math.isnan(none.mean_difference)


def test_bonferroni_counts_only_real_tests():
    """Three tests and one region without any: times 3, and 0.5 · 3 is cut at 1."""
    adjusted = bonferroni([0.01, math.nan, 0.5, 0.002])
    np.testing.assert_allclose(adjusted, [0.03, math.nan, 1.0, 0.006])
    assert bonferroni([]).shape == (0,)


def test_bonferroni_of_14_regions_is_the_papers_rule():
    """Ng and Briney compare p with 0.05 / 14; we compare 14 p with 0.05."""
    p_values = np.full(14, 0.9)
    p_values[:2] = 0.0035, 0.0036
    assert [stars(value) for value in bonferroni(p_values)[:2]] == ["*", ""]


@pytest.mark.parametrize(
    ("p_value", "expected"),
    [
        (1.0, ""),
        (0.05, ""),
        (0.0499, "*"),
        (0.01, "*"),
        (0.0099, "**"),
        (0.00099, "***"),
        (0.0001, "***"),
        (0.000099, "****"),
        (0.0, "****"),
        (math.nan, ""),
    ],
)
def test_stars(p_value, expected):
    assert stars(p_value) == expected


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        paired_t_test([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="second: 1 of 2 values infinite"):
        paired_t_test([1, 2], [1, math.inf])
    with pytest.raises(DataError, match="first: expected numbers"):
        paired_t_test(["a"], [1])
    with pytest.raises(DataError, match=r"found 1\.5"):
        bonferroni([0.1, 1.5])
    with pytest.raises(DataError, match=r"found -0\.1"):
        stars(-0.1)
