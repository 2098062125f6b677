"""Linear probes: nothing of a fold reaches its own predictions, and known signals are found."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from protlm.errors import DataError
from protlm.evaluation.learners import STRENGTHS
from protlm.evaluation.probes import all_rounds, majority, out_of_fold
from protlm.statistics.metrics import auroc


def data(seed: int = 0, rows: int = 120, signal: float = 2.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows)
    features = random.normal(size=(rows, 6))
    features[:, 2] += signal * labels
    return features, labels, np.arange(rows) % 5


def test_a_signal_is_found_and_noise_is_not():
    features, labels, folds = data()
    assert auroc(out_of_fold(features, labels, folds).outputs, labels) > 0.85
    noise = np.mean(
        [auroc(out_of_fold(*each).outputs, each[1]) for each in (data(seed, signal=0.0) for seed in range(8))]
    )
    assert noise == pytest.approx(0.5, abs=0.06)


def test_labels_of_a_fold_do_not_reach_its_own_predictions():
    features, labels, folds = data()
    before = out_of_fold(features, labels, folds).outputs
    changed = np.where(folds == 3, 1 - labels, labels)
    after = out_of_fold(features, changed, folds).outputs
    np.testing.assert_allclose(before[folds == 3], after[folds == 3])
    assert np.abs(before[folds != 3] - after[folds != 3]).max() > 0.01
    # neither do its features, but through the standardisation of no other fold either
    moved = features.copy()
    moved[folds == 3] += 100
    other = out_of_fold(moved, labels, folds).outputs
    assert np.abs(other[folds == 3] - before[folds == 3]).max() > 0.01


def test_one_strength_is_plain_logistic_regression_on_standardised_features():
    features, labels, folds = data()
    found = out_of_fold(features, labels, folds, strengths=[0.1])
    inside = folds != 0
    scaler = StandardScaler().fit(features[inside])
    model = LogisticRegression(C=0.1, tol=1e-8, max_iter=2000).fit(
        scaler.transform(features[inside]), labels[inside]
    )
    expected = model.predict_proba(scaler.transform(features[~inside]))[:, 1]
    np.testing.assert_allclose(found.outputs[~inside], expected, atol=2e-3)
    assert found.strengths == (0.1,) * 5


def test_noise_gets_a_strong_penalty_and_a_clean_signal_a_weak_one():
    random = np.random.default_rng(3)
    labels, folds = random.integers(0, 2, 200), np.arange(200) % 5
    noise = random.normal(size=(200, 60))
    assert max(out_of_fold(noise, labels, folds).strengths) <= 1e-2
    clean = labels[:, None] + 0.05 * random.normal(size=(200, 3))
    assert min(out_of_fold(clean, labels, folds).strengths) == STRENGTHS[-1]


def test_features_that_say_nothing_give_ties_not_an_order_of_rounding_errors():
    random = np.random.default_rng(0)
    half = random.normal(size=(60, 7))
    features, labels = np.concatenate([half, half]), np.repeat([0, 1], 60)
    found = out_of_fold(features, labels, np.tile(np.arange(60) % 5, 2))
    assert set(found.outputs) == {0.5}


def test_progress_is_told_as_often_as_promised():
    features, labels, folds = data()
    calls = []
    out_of_fold(features, labels, folds, on_fit=lambda: calls.append(1))
    assert len(calls) == len(all_rounds(folds)) == 15
    assert len(all_rounds(np.array([0, 1]))) == 2


def test_what_cannot_be_fitted_is_refused():
    features, labels, folds = data()
    with pytest.raises(DataError, match="at least 2 folds"):
        out_of_fold(features, labels, np.zeros(len(labels), dtype=int))
    with pytest.raises(DataError, match="only negative rows"):
        out_of_fold(features, np.where(folds == 1, labels, 0), folds)


def test_the_majority_is_that_of_the_other_folds():
    labels = np.array([1, 1, 1, 0, 0, 0, 0])
    folds = np.array([0, 0, 0, 0, 1, 1, 1])
    assert majority(labels, folds).tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert majority(np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])).tolist() == [1, 1, 1, 1]
