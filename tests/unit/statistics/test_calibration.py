"""Calibration error and its bins, by hand and as invariants."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protlm.errors import ConfigError, DataError
from protlm.statistics.calibration import calibration


def test_two_bins_by_hand():
    """0.5, 0.5: none right (gap 0.5); 0.8, 1.0: both right (gap 0.1): (2 · 0.5 + 2 · 0.1) / 4 = 0.3."""
    result = calibration([0.8, 0.5, 1.0, 0.5], [1, 0, 1, 0], num_bins=2)
    assert result.error.value == pytest.approx(0.3)
    assert [each.confidence for each in result.bins] == pytest.approx([0.5, 0.9])
    assert [each.accuracy.value for each in result.bins] == [0, 1]
    assert [each.accuracy.n for each in result.bins] == [2, 2]
    # chance: sqrt(2 / pi) (sqrt(0.25 + 0.25) + sqrt(0.16)) / 4
    assert result.chance == pytest.approx(math.sqrt(2 / math.pi) * (math.sqrt(0.5) + 0.4) / 4)


def test_equal_confidences_share_a_bin():
    """A model that always says 0.7 and is right in 7 of 10 is calibrated, whatever the order."""
    result = calibration([0.7] * 10, [1] * 7 + [0] * 3)
    assert len(result.bins) == 1
    assert result.error.value == pytest.approx(0)


def test_a_calibrated_model_is_within_chance_and_an_overconfident_one_is_not():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1, 20_000)
    hits = random.random(20_000) < confidence
    good = calibration(confidence, hits)
    assert good.error.value == pytest.approx(good.chance, rel=0.6)
    assert good.error.low < 0.004
    bad = calibration(np.minimum(confidence + 0.15, 1), hits)
    assert bad.error.low > 0.08
    assert bad.error.high < 0.16


def test_clusters_widen_the_interval():
    """100 copies of each of 20 predictions are 20 observations."""
    random = np.random.default_rng(1)
    confidence = np.repeat(random.uniform(0.3, 0.9, 20), 100)
    hits = np.repeat(random.random(20) < 0.5, 100)
    alone, together = (
        calibration(confidence, hits, clusters=clusters, num_bins=4)
        for clusters in (None, np.repeat(np.arange(20), 100))
    )
    widths = [result.bins[0].accuracy.high - result.bins[0].accuracy.low for result in (alone, together)]
    assert widths[1] > 3 * widths[0]


def test_one_cluster_has_no_interval():
    result = calibration([0.2, 0.9], [0, 1], clusters=["a", "a"])
    assert math.isnan(result.error.low)
    assert math.isnan(result.error.high)


def test_nothing_gives_nan():
    result = calibration([], [])
    assert math.isnan(result.error.value)
    assert result.bins == ()


@pytest.mark.parametrize(
    ("confidences", "hits", "message"),
    [([1.2], [1], "expected 0 to 1"), ([0.5], [2], "expected 0 or 1"), ([0.5], [1, 0], "shape")],
)
def test_wrong_input_is_refused(confidences, hits, message):
    with pytest.raises(DataError, match=message):
        calibration(confidences, hits)


def test_at_least_one_bin():
    with pytest.raises(ConfigError):
        calibration([0.5], [1], num_bins=0)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter_and_bins_hold_every_row(rows, num_bins, random):
    shuffled = random.sample(rows, len(rows))
    results = [
        calibration([c for c, _ in some], [h for _, h in some], num_bins=num_bins, num_draws=5)
        for some in (rows, shuffled)
    ]
    assert results[0].error.value == pytest.approx(results[1].error.value)
    assert 0 <= results[0].error.value <= 1
    assert sum(each.accuracy.n for each in results[0].bins) == len(rows)
    assert len(results[0].bins) <= num_bins
