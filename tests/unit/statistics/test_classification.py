"""Classification metrics against scikit-learn, by hand, and their resampling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from protlm.errors import DataError
from protlm.statistics.bootstrap import bootstrap_metric
from protlm.statistics.classification import (
    METRICS,
    Predictions,
    bootstrap_classification,
    classification_metrics,
    mean_and_sem,
)
from protlm.statistics.metrics import auroc, average_precision, mcc


def by_name(values) -> dict[str, float]:
    return dict(zip(METRICS, values.tolist(), strict=True))


def test_a_confusion_table_worked_out_on_paper():
    # called positive: rows 0 to 3 (3 right); missed: 1; right negatives: 2
    scores = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.1]
    labels = [1, 1, 0, 1, 1, 0, 0]
    found = by_name(classification_metrics(scores, labels))
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["precision"] == pytest.approx(3 / 4)
    assert found["recall"] == pytest.approx(3 / 4)
    assert found["f1"] == pytest.approx(3 / 4)
    assert found["mcc"] == pytest.approx((3 * 2 - 1 * 1) / math.sqrt(4 * 4 * 3 * 3))
    assert found["auroc"] == pytest.approx(10 / 12)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.booleans()), min_size=2, max_size=30)
)
def test_ties_included_it_equals_scikit_learn(rows):
    scores, labels = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    called = scores >= 0.5
    found = by_name(classification_metrics(scores, labels))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, called))
    if called.any():
        assert found["precision"] == pytest.approx(reference.precision_score(labels, called))
    else:
        assert math.isnan(found["precision"])
    if 0 < labels.sum() < len(labels):
        assert found["recall"] == pytest.approx(reference.recall_score(labels, called))
        assert found["f1"] == pytest.approx(reference.f1_score(labels, called))
        assert found["auroc"] == pytest.approx(reference.roc_auc_score(labels, scores))
        assert found["auprc"] == pytest.approx(reference.average_precision_score(labels, scores))
        assert found["auroc"] == pytest.approx(auroc(scores, labels))
        assert found["auprc"] == pytest.approx(average_precision(scores, labels))
    else:
        assert math.isnan(found["auroc"])
        assert math.isnan(found["auprc"])
    assert found["mcc"] == pytest.approx(mcc(called, labels), nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_counts_are_repeats_of_rows(seed):
    random = np.random.default_rng(seed)
    scores, labels = random.integers(0, 5, 12) / 4, random.integers(0, 2, 12)
    counts = random.integers(0, 4, (3, 12))
    found = classification_metrics(scores, labels, counts=counts)
    for row, times in zip(found, counts, strict=True):
        expected = classification_metrics(np.repeat(scores, times), np.repeat(labels, times))
        np.testing.assert_allclose(row, expected, equal_nan=True)


def test_the_interval_is_that_of_the_general_bootstrap():
    random = np.random.default_rng(0)
    labels, clusters = random.integers(0, 2, 80), np.repeat(np.arange(20), 4)
    scores = labels + random.normal(size=80)
    general = bootstrap_metric(auroc, scores, labels, clusters=clusters, num_draws=300, seed=5)
    own = bootstrap_classification(
        [Predictions(scores, labels.astype(bool), clusters)], num_units=20, num_draws=300, seed=5
    ).interval("auroc")
    assert (own.value, own.low, own.high) == pytest.approx((general.value, general.low, general.high))


def test_a_method_does_not_differ_from_itself_and_equal_gains_are_certain():
    random = np.random.default_rng(1)
    labels, clusters = random.integers(0, 2, 60).astype(bool), np.arange(60)
    scores = random.random(60)
    one = bootstrap_classification([Predictions(scores, labels, clusters)], num_units=60, num_draws=200)
    other = bootstrap_classification([Predictions(scores, labels, clusters)], num_units=60, num_draws=200)
    assert not np.nan_to_num(one.minus(other).draws).any()
    perfect = bootstrap_classification(
        [Predictions(labels.astype(float), labels, clusters)], num_units=60, num_draws=200
    )
    gain = perfect.minus(one).interval("auroc")
    assert gain.low > 0.3


def test_repetitions_with_opposite_errors_average_out():
    labels, clusters = np.array([True, True, False, False]), np.arange(4)
    right = Predictions(labels.astype(float), labels, clusters)
    wrong = Predictions(1 - labels.astype(float), labels, clusters)
    both = bootstrap_classification([right, wrong], num_units=4, num_draws=50)
    assert by_name(both.values)["auroc"] == 0.5
    assert np.nanstd(both.draws[:, METRICS.index("auroc")]) == 0


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="0 or 1"):
        classification_metrics([0.1, 0.2], [0, 2])
    with pytest.raises(DataError, match="shape"):
        classification_metrics([0.1], [0, 1])
    with pytest.raises(DataError, match="NaN"):
        classification_metrics([np.nan, 0.1], [0, 1])
    with pytest.raises(DataError, match="no predictions"):
        bootstrap_classification([], num_units=1)
    with pytest.raises(DataError, match="below 1"):
        bootstrap_classification(
            [Predictions(np.zeros(2), np.zeros(2, bool), np.arange(2))], num_units=1, num_draws=1
        )
    one = bootstrap_classification(
        [Predictions(np.zeros(2), np.array([True, False]), np.arange(2))], num_units=2, num_draws=3
    )
    two = bootstrap_classification(
        [Predictions(np.zeros(2), np.array([True, False]), np.arange(2))], num_units=2, num_draws=4
    )
    with pytest.raises(DataError, match="cannot be paired"):
        one.minus(two)


def test_mean_and_sem_leave_out_what_is_undefined():
    assert mean_and_sem([math.nan, 1.0, 3.0]) == pytest.approx((2.0, 1.0))
    assert math.isnan(mean_and_sem([math.nan])[0])
    assert mean_and_sem([4.0])[0] == 4.0
    assert math.isnan(mean_and_sem([4.0])[1])
