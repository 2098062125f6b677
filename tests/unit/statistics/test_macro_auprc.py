"""Macro AUPRC beside scikit-learn, on all rows and on resamples."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from protlm.statistics.predictions import METRICS, prediction_metrics


def test_macro_auprc_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    truth = generator.random((80, 4)) < [0.1, 0.3, 0.5, 0.7]
    chances = np.clip(truth * 0.3 + generator.random((80, 4)), 0, 1).round(1)  # with ties
    place = METRICS["labels"].index("macro_auprc")
    assert prediction_metrics("labels", chances, truth)[place] == pytest.approx(
        average_precision_score(truth, chances, average="macro")
    )
    counts = generator.multinomial(80, np.full(80, 1 / 80), size=3)
    drawn = prediction_metrics("labels", chances, truth, counts=counts)[:, place]
    for own, value in zip(counts, drawn, strict=True):
        rows = np.repeat(np.arange(80), own)
        assert value == pytest.approx(average_precision_score(truth[rows], chances[rows], average="macro"))


def test_a_label_that_no_row_has_is_left_out_of_the_mean():
    truth = np.array([[True, False], [False, False], [True, False]])
    chances = np.array([[0.9, 0.5], [0.2, 0.4], [0.1, 0.3]])
    place = METRICS["labels"].index("macro_auprc")
    assert prediction_metrics("labels", chances, truth)[place] == pytest.approx(
        average_precision_score(truth[:, 0], chances[:, 0])
    )
