"""Metrics of every kind against scikit-learn and SciPy, on all rows and on resamples written out."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as reference

from protlm.errors import DataError
from protlm.statistics.partial_auc import partial_auc
from protlm.statistics.predictions import METRICS, Judgement, bootstrap_predictions, prediction_metrics


def named(kind, *arrays, **options):
    return dict(zip(METRICS[kind], prediction_metrics(kind, *arrays, **options).tolist(), strict=True))


def made(seed=0, n=60):
    random = np.random.default_rng(seed)
    return random, random.integers(0, 4, n), random.integers(0, 4, n)


def test_several_classes():
    _, truth, called = made()
    found = named("classes", called, truth)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, called))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, called))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, called, average="macro"))
    assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(truth, called))


def test_a_class_that_is_only_called_does_not_count_in_means_over_classes():
    found = named("classes", [0, 1, 2, 1], [0, 1, 1, 1])
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)


def test_numbers():
    random, *_ = made()
    truth = random.normal(size=50) + 7
    given = truth + random.normal(size=50)
    found = named("value", given, truth)
    assert found["spearman"] == pytest.approx(spearmanr(given, truth)[0])
    assert found["pearson"] == pytest.approx(pearsonr(given, truth)[0])
    assert found["r2"] == pytest.approx(reference.r2_score(truth, given))
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((given - truth) ** 2)))
    in_molar = named("value", given * 1e-9, truth * 1e-9)
    assert all(in_molar[name] == pytest.approx(found[name]) for name in ("spearman", "pearson", "r2"))
    constant = named("value", np.full(50, 3.1), truth)
    assert np.isnan(constant["spearman"])
    assert np.isnan(constant["pearson"])
    assert constant["r2"] < 0


def test_several_labels_at_once():
    random, *_ = made()
    truth = random.random((80, 3)) < 0.4
    given = np.clip(truth * 0.3 + random.random((80, 3)) * 0.6, 0, 1)
    found = named("labels", given, truth)
    called = given >= 0.5
    assert found["macro_auroc"] == pytest.approx(reference.roc_auc_score(truth, given, average="macro"))
    assert found["micro_f1"] == pytest.approx(reference.f1_score(truth, called, average="micro"))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, called, average="macro"))


@pytest.mark.parametrize("rate", [0.1, 0.37, 1.0])
def test_partial_areas_are_those_of_scikit_learn_with_ties_too(rate):
    random, *_ = made()
    truth = random.random(200) < 0.3
    for given in (random.normal(size=200) + truth, random.integers(0, 6, 200) + truth):
        expected = reference.roc_auc_score(truth, given, max_fpr=None if rate == 1 else rate)
        assert partial_auc(given, truth, max_rate=rate) == pytest.approx(expected)


def test_partial_areas_of_resamples_and_of_one_class():
    random, *_ = made()
    truth, given = random.random(40) < 0.4, random.normal(size=40)
    rows = random.integers(0, 40, 40)
    counts = np.bincount(rows, minlength=40)[None]
    expected = reference.roc_auc_score(truth[rows], given[rows], max_fpr=0.1)
    assert partial_auc(given, truth, counts=counts)[0] == pytest.approx(expected)
    assert np.isnan(partial_auc([0.1, 0.2], [1, 1]))
    with pytest.raises(DataError, match="out of range"):
        partial_auc(given, truth, max_rate=0)


def test_means_over_parts_leave_out_parts_of_one_class():
    random, *_ = made()
    truth, given = random.random(90) < 0.5, random.random(90)
    parts = np.repeat([0, 1, 2], 30)
    truth[60:] = True
    found = named("binary", given, truth, parts=parts)
    by_part = [reference.roc_auc_score(truth[s], given[s]) for s in (slice(0, 30), slice(30, 60))]
    assert found["macro_auroc"] == pytest.approx(np.mean(by_part))
    assert np.isnan(named("binary", given, truth)["macro_auroc"])


@pytest.mark.parametrize("kind", ["binary", "classes", "labels", "value"])
def test_resamples_are_as_if_written_out(kind):
    random, truth, called = made(3, 48)
    outputs = {"binary": random.random(48), "classes": called, "value": random.normal(size=48)}
    right = {"binary": truth > 1, "classes": truth, "value": random.normal(size=48)}
    outputs["labels"], right["labels"] = random.random((48, 2)), random.random((48, 2)) < 0.5
    clusters = np.repeat(np.arange(12), 4)
    units = random.integers(0, 12, 12)
    counts = np.bincount(units, minlength=12)[clusters][None]
    rows = np.concatenate([np.flatnonzero(clusters == unit) for unit in units])
    written = prediction_metrics(kind, outputs[kind][rows], right[kind][rows])
    np.testing.assert_allclose(
        prediction_metrics(kind, outputs[kind], right[kind], counts=counts)[0], written, atol=1e-9
    )
    draws = bootstrap_predictions(
        kind, [Judgement(outputs[kind], right[kind], clusters)], num_units=12, num_draws=30
    )
    assert draws.draws.shape == (30, len(METRICS[kind]))
    assert np.nanmax(np.abs(draws.minus(draws).draws)) == 0
    with pytest.raises(DataError, match="expected one below 3"):
        bootstrap_predictions(kind, [Judgement(outputs[kind], right[kind], clusters)], num_units=3)
