"""Metrics: numbers derived by hand, agreement with scipy and scikit-learn, the ESM-1v oracle."""

import csv
import gzip
import math

import numpy as np
import pytest
import scipy.stats

from protlm.errors import ConfigError, DataError
from protlm.statistics.metrics import (
    accuracy,
    as_floats,
    auroc,
    average_precision,
    mcc,
    ndcg,
    spearman,
    top_recall,
)

NEEDS_SKLEARN = "scikit-learn is not installed; it only serves as a second opinion"


def tied_sample(seed: int, num_rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores on a grid of 12 values, a correlated target on a finer grid, and labels."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(12, size=num_rows).astype(float)
    target = np.round(scores + generator.normal(scale=6, size=num_rows), 0)
    return scores, target, (target > 8).astype(int)


def test_spearman_by_hand_with_a_tie():
    """Ranks of the scores are 1, 2.5, 2.5, 4 and of the target 1, 2, 3, 4; the mean rank is 2.5.

    Centred: (-1.5, 0, 0, 1.5) and (-1.5, -0.5, 0.5, 1.5). Their product is 4.5, their squares sum to
    4.5 and 5, so rho = 4.5 / sqrt(22.5) = sqrt(0.9).
    """
    assert spearman([0, 7, 7, 9], [1, 2, 3, 4]) == pytest.approx(math.sqrt(0.9), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_spearman_agrees_with_scipy(seed):
    scores, target, _ = tied_sample(seed)
    assert spearman(scores, target) == pytest.approx(
        scipy.stats.spearmanr(scores, target).statistic, abs=1e-12
    )


def test_spearman_sees_only_order():
    """exp keeps the order; minus infinity is still the lowest."""
    assert spearman([-math.inf, 0, 1, 2], np.exp([1, 5, 6, 700])) == 1.0
    assert spearman([3, 2, 1], [0, 1e-300, 1]) == -1.0


def test_auroc_by_hand_with_a_tie():
    """Positives 2 and 1, negatives 1 and 0: of four pairs three are won and one tied, 3.5 / 4."""
    assert auroc([2, 1, 1, 0], [1, 1, 0, 0]) == 0.875


def test_average_precision_by_hand_with_a_tie():
    """Scores 3 (positive), 2 (one positive, one negative), 1 (positive): 3 positives in 4 rows.

    Recall rises by 1/3 at each step, at precisions 1/1, 2/3 and 3/4: (1 + 2/3 + 3/4) / 3 = 29/36.
    """
    assert average_precision([3, 2, 2, 1], [1, 0, 1, 1]) == pytest.approx(29 / 36, abs=1e-12)


def test_mcc_by_hand():
    """TP 2, FP 1, FN 1, TN 4: (2·4 - 1·1) / sqrt(3·3·5·5) = 7/15."""
    predicted = [1, 1, 1, 0, 0, 0, 0, 0]
    labels = [1, 1, 0, 1, 0, 0, 0, 0]
    assert mcc(predicted, labels) == pytest.approx(7 / 15, abs=1e-12)
    assert mcc(np.array(predicted, dtype=bool), labels) == mcc(predicted, labels)


@pytest.mark.parametrize("seed", range(5))
def test_binary_metrics_agree_with_sklearn(seed):
    reference = pytest.importorskip("sklearn.metrics", reason=NEEDS_SKLEARN)
    scores, _, labels = tied_sample(seed)
    called = scores > 6
    assert auroc(scores, labels) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )
    assert mcc(called, labels) == pytest.approx(reference.matthews_corrcoef(labels, called), abs=1e-12)
    assert accuracy(called, labels) == pytest.approx(reference.accuracy_score(labels, called), abs=1e-12)


def test_constant_scores_give_the_trivial_baseline():
    """A score that says nothing: AUROC 1/2, average precision and top recall the base rates.

    11 rows: the 0.9 quantile is exactly the 10th, so 2 rows are at the top and recall is 2/11. Every
    gain is replaced by the mean, so NDCG of one row is the mean gain: (0 + … + 10) / 11 / 10 = 1/2.
    """
    scores, labels, target = np.ones(11), [1] + [0] * 10, np.arange(11)
    assert auroc(scores, labels) == 0.5
    assert average_precision(scores, labels) == pytest.approx(1 / 11, abs=1e-12)
    assert top_recall(scores, target) == pytest.approx(2 / 11, abs=1e-12)
    assert ndcg(scores, target) == pytest.approx(0.5, abs=1e-12)


def test_ndcg_by_hand():
    """Four rows, the top half: k = 2. Target 2, 6, 4, 2 has gains 0, 1, 1/2, 0.

    Scores rank them third, first, second, … as rows 2 (gain 1/2), 0 (gain 0): achieved 1/2 at rank 1.
    Ideal: 1 at rank 1 and 1/2 at rank 2, discounted by log2(3).
    """
    ideal = 1 + 0.5 / math.log2(3)
    assert ndcg([3, 1, 9, 2], [2, 6, 4, 2], top_fraction=0.5) == pytest.approx(0.5 / ideal, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_rows", [7, 30, 201])
def test_ndcg_agrees_with_sklearn_on_ties(seed, num_rows):
    """scikit-learn takes raw gains and k, and averages over ties as we do; ours takes the top 10 %."""
    reference = pytest.importorskip("sklearn.metrics", reason=NEEDS_SKLEARN)
    scores, target, _ = tied_sample(seed, num_rows)
    gains = (target - min(target)) / (max(target) - min(target))
    expected = reference.ndcg_score([gains], [scores], k={7: 1, 30: 3, 201: 20}[num_rows])
    assert ndcg(scores, target) == pytest.approx(expected, abs=1e-12)


def test_top_recall_by_hand_with_score_ties():
    """Five rows, 40 %: the 0.6 quantile lies between the third and fourth, so two rows are best: 0 and 1.

    Row 4 scores highest; rows 0, 2, 3 tie for the one place left, so row 0 is in with chance 1/3, row 1
    never: recall (1/3) / 2.
    """
    assert top_recall([5, 0, 5, 5, 9], [8, 9, 1, 2, 3], fraction=0.4) == pytest.approx(1 / 6, abs=1e-12)


def test_top_recall_counts_all_best_rows_of_a_target_tie():
    """Three rows share the highest target and one place is given: at best one third is found."""
    scores = np.arange(10.0)
    target = np.array([0, 0, 0, 0, 0, 0, 0, 5, 5, 5])
    assert top_recall(scores, target) == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize("num_rows", [9, 10, 11, 31, 100, 101])
def test_top_recall_is_proteingyms_without_ties(num_rows):
    generator = np.random.default_rng(num_rows)
    scores, target = generator.permutation(num_rows), generator.permutation(num_rows)
    best = set(np.flatnonzero(target >= np.percentile(target, 90)))
    called = set(np.flatnonzero(scores >= np.percentile(scores, 90)))
    assert top_recall(scores, target) == pytest.approx(len(best & called) / len(best), abs=1e-12)


@pytest.mark.parametrize("metric", [spearman, ndcg, top_recall])
def test_row_order_does_not_matter(metric):
    scores, target, _ = tied_sample(3)
    order = np.random.default_rng(0).permutation(len(scores))
    assert metric(scores[order], target[order]) == pytest.approx(metric(scores, target), abs=1e-12)


@pytest.mark.parametrize("metric", [spearman, auroc, average_precision, mcc, ndcg, top_recall])
@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0]])
def test_constant_truth_gives_nan(metric, truth):
    assert math.isnan(metric([0, 1, 1], truth))


@pytest.mark.parametrize("metric", [spearman, auroc, average_precision, mcc, accuracy, ndcg, top_recall])
def test_no_rows_give_nan(metric):
    assert math.isnan(metric([], []))


def test_constant_scores_give_nan_where_undefined():
    assert math.isnan(spearman([2, 2, 2], [1, 2, 3]))
    assert math.isnan(mcc([1, 1, 1], [0, 1, 1]))


@pytest.mark.parametrize("metric", [spearman, auroc, average_precision, mcc, accuracy, ndcg, top_recall])
def test_nan_is_refused_with_its_count(metric):
    with pytest.raises(DataError, match="2 of 4 values are NaN"):
        metric([math.nan, 1, 0, math.nan], [0, 1, 0, 1])
    with pytest.raises(DataError, match="1 of 4 values is NaN"):
        metric([1, 1, 0, 0], [0, 1, math.nan, 1])


@pytest.mark.parametrize("metric", [spearman, auroc, average_precision, mcc, accuracy, ndcg, top_recall])
def test_unequal_lengths_are_refused(metric):
    with pytest.raises(DataError, match=r"3.*2"):
        metric([0, 1, 1], [0, 1])


def test_wrong_values_are_refused():
    with pytest.raises(DataError, match="expected 0 or 1, found 2"):
        auroc([1, 2, 3], [0, 1, 2])
    with pytest.raises(DataError, match="scores: expected numbers"):
        spearman(["a", "b"], [1, 2])
    with pytest.raises(DataError, match="1 of 3 values is NaN or infinite"):
        ndcg([1, 2, 3], [1, math.inf, 2])
    with pytest.raises(DataError, match="shape"):
        spearman([[1, 2]], [[1, 2]])
    with pytest.raises(DataError, match="cannot be compared"):
        accuracy(["1", "2"], [1, 2])
    with pytest.raises(DataError, match="1 of 2 values missing"):
        accuracy(["A", None], ["A", "B"])
    with pytest.raises(ConfigError, match="top_fraction: 10"):
        ndcg([1, 2], [1, 2], top_fraction=10)
    with pytest.raises(ConfigError, match="fraction: 0"):
        top_recall([1, 2], [1, 2], fraction=0)


def test_as_floats_keeps_shape_and_infinity():
    assert as_floats("table", [[1, 2], [3, math.inf]]).shape == (2, 2)


@pytest.mark.real_data
def test_esm1v_on_beta_lactamase(shared_data):
    """The table that ships with ESM-1v (4,996 variants), see specs B8; published to 4 digits here."""
    with gzip.open(shared_data / "dms/BLAT_ECOLX_Ranganathan2015.tsv.gz", "rt") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert len(rows) == 4996
    target = [float(row["score"]) for row in rows]
    models = np.array(
        [[float(row[f"esm1v_t33_650M_UR90_{number}"]) for row in rows] for number in range(1, 6)]
    )
    found = [round(spearman(scores, target), 4) for scores in models]
    assert found == [0.6619, 0.6632, 0.6449, 0.6865, 0.7064]
    assert round(spearman(models.mean(axis=0), target), 4) == 0.7026
