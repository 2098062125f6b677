"""Losses of labels, against arithmetic by hand."""

import numpy as np
import pytest
import torch

from protlm.objectives.supervised import Supervised, balanced_weights, prior_outputs
from protlm.types.target import Target


def test_classes_are_weighed_and_the_unlabelled_left_out():
    outputs = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 5.0]], requires_grad=True)
    objective = Supervised(Target("classes", "residue", ("a", "b")), weights=np.array([1.0, 3.0]))
    result = objective(outputs, torch.tensor([0, 1, -1]))
    by_hand = np.log1p(np.exp(-2)) + 3 * np.log(2)
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-6)
    assert result.count == 2
    result.loss.backward()
    assert outputs.grad is not None
    assert not outputs.grad[2].any()  # no gradient where there is no label


def test_binary_positives_are_weighed():
    objective = Supervised(Target("binary", "sequence", ("no", "yes")), weights=np.array([4.0]))
    result = objective(torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1]))
    assert result.loss.item() == pytest.approx(np.log1p(np.e) + 4 * np.log1p(np.exp(-1)), rel=1e-6)
    assert result.parts["accuracy"] == (1.0, 2)


def test_labels_count_as_the_mean_over_them():
    objective = Supervised(Target("labels", "sequence", ("a", "b")))
    result = objective(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    assert result.loss.item() == pytest.approx((np.log(2) + np.log1p(np.exp(2))) / 2, rel=1e-6)


@pytest.mark.parametrize(("regression", "expected"), [("squared", 0.5 * (9 + 0.25)), ("huber", 2.5 + 0.125)])
def test_numbers(regression, expected):
    objective = Supervised(Target("value", "sequence"), regression=regression)
    result = objective(torch.tensor([[3.0], [0.5], [9.0]]), torch.tensor([0.0, 0.0, torch.nan]))
    assert result.loss.item() == pytest.approx(expected)
    assert result.count == 2
    assert result.parts["squared_error"] == (pytest.approx(9.25), 2)


def test_nothing_labelled_gives_a_zero_with_a_gradient():
    outputs = torch.ones(2, 3, requires_grad=True)
    result = Supervised(Target("classes", "residue", ("a", "b", "c")))(outputs, torch.tensor([-1, -1]))
    result.loss.backward()
    assert (result.loss.item(), result.count) == (0.0, 0)


def test_balanced_weights_make_classes_count_alike():
    values = np.array([0] * 6 + [1] * 3 + [2] * 1 + [-1] * 4)
    weights = balanced_weights(Target("classes", "residue", ("a", "b", "c")), values)
    assert weights is not None
    np.testing.assert_allclose(weights * [6, 3, 1], 10 / 3)
    positive = balanced_weights(Target("binary", "sequence", ("no", "yes")), np.array([0, 0, 0, 1]))
    assert positive is not None
    assert positive.tolist() == [3.0]
    labels = balanced_weights(Target("labels", "sequence", ("a", "b")), np.array([[1.0, 0], [0, 0], [0, 0]]))
    assert labels is not None
    assert labels.tolist() == [2.0, 1.0]  # a label without a record weighs 1


def test_a_head_can_begin_with_the_shares_of_classes():
    values = np.array([0, 0, 0, 1, -1])
    target = Target("binary", "residue", ("no", "yes"))
    assert prior_outputs(target, values).sigmoid().item() == pytest.approx(1.5 / 5)
    weighed = prior_outputs(target, values, balanced_weights(target, values))
    assert weighed.sigmoid().item() == pytest.approx(4.5 / 8)  # 1.5 × 3 against 3.5
    labels = prior_outputs(Target("labels", "sequence", ("a", "b")), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert labels.sigmoid().tolist() == [pytest.approx(2.5 / 3), pytest.approx(0.5 / 3)]
    assert prior_outputs(Target("value", "sequence"), np.zeros(3)).tolist() == [0.0]
