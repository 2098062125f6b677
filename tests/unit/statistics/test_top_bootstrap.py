"""Recall of the best tenth on resamples is what the plain metric gives of the rows written out."""

import math

import numpy as np
import pytest

from protlm.statistics.metrics import top_recall
from protlm.statistics.predictions import METRICS, prediction_metrics, towards_best
from protlm.statistics.top_bootstrap import resampled_top_recall


@pytest.mark.parametrize("num_values", [2, 6, 1000])
@pytest.mark.parametrize("fraction", [0.1, 0.35])
def test_it_is_the_plain_metric_of_the_rows_written_out(num_values, fraction):
    rng = np.random.default_rng(num_values)
    scores = rng.integers(num_values, size=47) / 4
    target = rng.integers(num_values, size=47) + scores
    counts = rng.multinomial(47, np.full(47, 1 / 47), size=60)
    found = resampled_top_recall(scores, target, counts.astype(float), fraction=fraction)
    expected = [top_recall(scores.repeat(own), target.repeat(own), fraction) for own in counts]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.ptp(found) > 0


def test_a_constant_target_has_none_and_constant_scores_have_chance():
    ones = np.ones((1, 20))
    assert math.isnan(resampled_top_recall(np.arange(20.0), np.ones(20), ones)[0])
    assert resampled_top_recall(np.ones(20), np.arange(20.0), ones)[0] == pytest.approx(2 / 20)


def test_only_this_metric_depends_on_which_end_is_best():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=50)
    given = truth + np.where(truth < 0, 3, 0.1) * rng.normal(size=50)  # good at the upper end alone
    high, low = (
        prediction_metrics("value", towards_best(given, best), towards_best(truth, best))
        for best in ("high", "low")
    )
    place = METRICS["value"].index("top_recall")
    np.testing.assert_allclose(np.delete(high, place), np.delete(low, place), atol=1e-12)
    assert low[place] == top_recall(-given, -truth)
    assert low[place] != high[place]
