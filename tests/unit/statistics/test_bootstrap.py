"""Bootstrap: exact small cases, coverage on synthetic data, clusters, pairing."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from protlm.errors import ConfigError, DataError
from protlm.statistics import bootstrap
from protlm.statistics.bootstrap import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_means,
    bootstrap_metric,
)
from protlm.statistics.metrics import auroc, spearman


def width(interval: bootstrap.Interval) -> float:
    return interval.high - interval.low


def test_micro_average_by_hand():
    """1 of 2 and 8 of 8 residues: 9 of 10, not the mean of 0.5 and 1."""
    assert bootstrap_mean([1, 8], weights=[2, 8]).value == 0.9


def test_matches_the_full_enumeration_of_resamples():
    """Five rows have 5^5 = 3,125 equally likely resamples; their 10 % and 90 % quantiles are exact."""
    sums, counts = np.array([0.0, 3, 4, 12, 7]), np.array([5.0, 5, 10, 20, 8])
    picks = np.array(list(itertools.product(range(5), repeat=5)))
    exact = np.quantile(sums[picks].sum(1) / counts[picks].sum(1), [0.1, 0.9])
    interval = bootstrap_mean(sums, weights=counts, num_draws=40_000, confidence=0.8)
    assert [interval.low, interval.high] == pytest.approx(exact, abs=0.01)


def test_spread_of_draws_is_the_standard_error():
    """For a mean the draws are near normal: bounds lie 1.96 standard errors away."""
    values = np.random.default_rng(1).normal(5, 2, size=400)
    interval = bootstrap_mean(values, num_draws=10_000)
    half_width = 1.96 * scipy.stats.sem(values)
    assert interval.low == pytest.approx(values.mean() - half_width, rel=0.003)
    assert interval.high == pytest.approx(values.mean() + half_width, rel=0.003)


def binomial_bounds(num_trials: int, chance: float) -> tuple[float, float]:
    """Bounds that a correct method misses once in 10,000."""
    low, high = scipy.stats.binom.ppf([0.00005, 0.99995], num_trials, chance)
    return low, high


def test_coverage_of_the_micro_average():
    """1,500 experiments of 150 records with 1 to 20 residues; the true accuracy is 0.7 for each residue.

    95 % intervals must hold the truth as often as a coin of 0.94 to 0.95 would (the percentile
    bootstrap is a little short on finite samples).
    """
    generator = np.random.default_rng(7)
    held = 0
    for seed in range(1500):
        counts = generator.integers(1, 21, size=150)
        interval = bootstrap_mean(generator.binomial(counts, 0.7), weights=counts, num_draws=500, seed=seed)
        held += interval.low <= 0.7 <= interval.high
    assert binomial_bounds(1500, 0.94)[0] <= held <= binomial_bounds(1500, 0.95)[1]


def clustered(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """60 clusters of 8 rows; true mean 0; three quarters of the variance is between clusters."""
    labels = np.repeat(np.arange(60), 8)
    values = generator.normal(scale=math.sqrt(3), size=60)[labels] + generator.normal(size=480)
    return values, labels


def test_cluster_coverage_holds_where_the_naive_fails():
    """With within-cluster correlation 3/4 the naive interval is 2.5 times too narrow."""
    generator = np.random.default_rng(11)
    held, held_naive = 0, 0
    for seed in range(300):
        values, labels = clustered(generator)
        by_cluster = bootstrap_mean(values, clusters=labels, num_draws=400, seed=seed)
        by_row = bootstrap_mean(values, num_draws=400, seed=seed)
        held += by_cluster.low <= 0 <= by_cluster.high
        held_naive += by_row.low <= 0 <= by_row.high
    assert binomial_bounds(300, 0.93)[0] <= held <= binomial_bounds(300, 0.95)[1]
    assert held_naive < 0.75 * 300


def test_cluster_interval_is_wider_by_the_design_effect():
    """The variance of the mean grows by 1 + (8 - 1) · 3/4 = 6.25, the width by 2.5."""
    values, labels = clustered(np.random.default_rng(0))
    ratio = width(bootstrap_mean(values, clusters=labels)) / width(bootstrap_mean(values))
    assert 2.1 < ratio < 2.9
    assert bootstrap_mean(values, clusters=labels).n == 480


def test_a_cluster_each_is_no_cluster():
    """Labels that sort as the rows do give the very same draws."""
    values = np.random.default_rng(2).normal(size=50)
    names = [f"{index:02d}" for index in range(50)]
    assert bootstrap_mean(values, clusters=names) == bootstrap_mean(values)


def test_pairing_removes_the_shared_part():
    """Second is first minus 0.1 ± 0.01: the difference is known a hundred times better than either."""
    generator = np.random.default_rng(3)
    first = generator.normal(size=300)
    second = first - generator.normal(0.1, 0.01, size=300)
    difference = bootstrap_difference(first, second)
    assert 0.097 < difference.low < difference.value < difference.high < 0.103
    assert width(difference) < width(bootstrap_mean(first)) / 50
    swapped = bootstrap_difference(second, first)
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low), abs=1e-12)


def test_difference_is_weighted():
    """(3 - 1 + 8 - 4) / (4 + 8) = 1/2."""
    assert bootstrap_difference([3, 8], [1, 4], weights=[4, 8]).value == 0.5


def test_columns_equal_single_columns():
    generator = np.random.default_rng(4)
    counts = generator.integers(1, 9, size=(80, 3))
    sums = generator.binomial(counts, 0.5)
    together = bootstrap_means(sums, weights=counts, clusters=np.arange(80) // 4)
    for column, interval in enumerate(together):
        alone = bootstrap_mean(sums[:, column], weights=counts[:, column], clusters=np.arange(80) // 4)
        assert [interval.value, interval.low, interval.high] == pytest.approx(
            [alone.value, alone.low, alone.high], abs=1e-12
        )


def test_absent_regions_do_not_count():
    """Column 1 is absent from two of four records: n 2, and one fully absent column is NaN with n 0."""
    first, second, third = bootstrap_means(
        [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], weights=[[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
    )
    assert (first.value, first.n) == (0.5, 4)
    assert (second.value, second.n) == (0.5, 2)
    assert (second.low, second.high) == (0.0, 1.0)
    assert third.n == 0
    assert all(math.isnan(number) for number in (third.value, third.low, third.high))


def test_one_unit_has_no_interval():
    for interval in (
        bootstrap_mean([3.0]),
        bootstrap_mean([3.0, 3.0], clusters=["a", "a"]),
        bootstrap_mean([3.0, 0.0], weights=[1, 0]),
        bootstrap_metric(np.mean, [3.0, 3.0], clusters=["a", "a"]),
    ):
        assert interval.value == 3.0
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_chunks_do_not_change_the_result(monkeypatch):
    values = np.random.default_rng(5).normal(size=37)
    whole = bootstrap_mean(values, num_draws=101)
    monkeypatch.setattr(bootstrap, "_CELLS_PER_CHUNK", 100)
    pieces = bootstrap_mean(values, num_draws=101)
    assert [pieces.low, pieces.high] == pytest.approx([whole.low, whole.high], abs=1e-12)


def test_seed_decides():
    values = np.random.default_rng(6).normal(size=30)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1).low != bootstrap_mean(values, seed=2).low


def test_metric_form_agrees_with_the_mean_form():
    """Same seed, same resamples: the general form on the mean gives the fast form's interval."""
    values, labels = clustered(np.random.default_rng(8))
    fast = bootstrap_mean(values, clusters=labels, num_draws=200)
    general = bootstrap_metric(np.mean, values, clusters=labels, num_draws=200)
    assert [general.value, general.low, general.high] == pytest.approx(
        [fast.value, fast.low, fast.high], abs=1e-9
    )


def test_metric_keeps_rows_together():
    """A perfect correlation stays perfect in each resample only if both arrays are drawn alike."""
    scores = np.random.default_rng(9).normal(size=40)
    interval = bootstrap_metric(spearman, scores, 3 * scores, num_draws=100)
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_spearman_interval_matches_fisher():
    """For normal data with r = 0.6 and n = 500, atanh(rho) has a standard error of about 1.03 / sqrt(497)."""
    generator = np.random.default_rng(10)
    first = generator.normal(size=500)
    second = 0.6 * first + 0.8 * generator.normal(size=500)
    interval = bootstrap_metric(spearman, first, second, num_draws=600)
    half_width = 1.96 * 1.03 / math.sqrt(497)
    expected = np.tanh(math.atanh(interval.value) + half_width * np.array([-1, 1]))
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.025)


def test_undefined_draws_are_left_out():
    """One positive among three: about a third of the resamples have none, and no AUROC."""
    interval = bootstrap_metric(auroc, [3, 2, 1], [1, 0, 0], num_draws=200)
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="2 of 3 values are NaN or infinite"):
        bootstrap_mean([1, math.nan, math.inf])
    with pytest.raises(DataError, match="at least 0, found -1"):
        bootstrap_mean([1, 2], weights=[1, -1])
    with pytest.raises(DataError, match="weights have shape"):
        bootstrap_mean([1, 2], weights=[1, 1, 1])
    with pytest.raises(DataError, match="clusters: expected one label for each of 2 rows"):
        bootstrap_mean([1, 2], clusters=["a"])
    with pytest.raises(DataError, match="1 of 2 labels missing"):
        bootstrap_mean([1, 2], clusters=["a", None])
    with pytest.raises(DataError, match="1 of 2 labels missing"):
        bootstrap_mean([1, 2], clusters=[1.0, math.nan])
    with pytest.raises(DataError, match="bootstrap_means takes columns"):
        bootstrap_mean([[1, 2]])
    with pytest.raises(DataError, match="same rows"):
        bootstrap_difference([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match=r"found \[2, 3\]"):
        bootstrap_metric(spearman, [1, 2], [1, 2, 3])
    with pytest.raises(DataError, match=r"found \[\]"):
        bootstrap_metric(spearman)
    with pytest.raises(ConfigError, match="num_draws"):
        bootstrap_mean([1, 2], num_draws=0)
    with pytest.raises(ConfigError, match="confidence: 95"):
        bootstrap_metric(spearman, [1, 2], [1, 2], confidence=95)


def test_no_rows():
    interval = bootstrap_mean([])
    assert interval.n == 0
    assert math.isnan(interval.value)
