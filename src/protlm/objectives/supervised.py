"""Learning from labels: cross-entropy for classes and labels, squared or Huber error for numbers."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from protlm.types.batch import LossOutput
from protlm.types.target import UNLABELLED, Target

Regression = Literal["squared", "huber"]


class Supervised:
    r"""Sum of the loss of a target over the rows that have a label.

    Classes have the cross-entropy, each row weighed by the weight of its class. Binary targets and labels
    have the cross-entropy of each output by itself, positives weighed by `weights`. Numbers, which are
    scaled before, have half the squared error, or Huber's loss, which is linear from an error of 1 on.

    Requirements: outputs of a `Head` for the same target. Relations: the loop divides by the number of rows
    that have a label, whatever their weights, so accumulation over micro-batches equals one large batch.

    Parameters
    ----------
    target
        What is learned.
    weights
        By class (`classes`), by label (`labels`), or one number for the positive class (`binary`); all 1
        where not given.
    regression
        The loss of a `value`.
    """

    def __init__(
        self, target: Target, *, weights: np.ndarray | None = None, regression: Regression = "squared"
    ) -> None:
        self.target = target
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.regression = regression

    def __call__(self, outputs: Tensor, values: Tensor) -> LossOutput:
        """Give the summed loss and what the log shows beside it.

        Parameters
        ----------
        outputs
            ``[n, o]`` of a head.
        values
            Numbers of classes, int64 ``[n]`` (`binary`, `classes`); 0 or 1, float ``[n, o]`` (`labels`);
            scaled numbers, float ``[n]`` (`value`). `UNLABELLED` or NaN is left out.
        """
        is_known = known(values)
        if not bool(is_known.any()):
            return LossOutput(outputs.sum() * 0.0, 0)
        outputs, values = outputs[is_known].float(), values[is_known]
        losses = self._losses(outputs, values)
        with torch.no_grad():
            parts = self._parts(outputs, values)
        return LossOutput(losses.sum(), len(values), parts)

    def _losses(self, outputs: Tensor, values: Tensor) -> Tensor:
        weights = None if self.weights is None else self.weights.to(outputs.device)
        if self.target.kind == "classes":
            return F.cross_entropy(outputs, values, weight=weights, reduction="none")
        if self.target.kind == "value":
            if self.regression == "huber":
                return F.huber_loss(outputs[:, 0], values.float(), reduction="none")
            return 0.5 * (outputs[:, 0] - values.float()).square()
        truth = values.float().reshape(outputs.shape)
        by_output = F.binary_cross_entropy_with_logits(outputs, truth, pos_weight=weights, reduction="none")
        return by_output.mean(dim=1)

    def _parts(self, outputs: Tensor, values: Tensor) -> dict[str, tuple[float, int]]:
        if self.target.kind == "value":
            error = (outputs[:, 0] - values.float()).square()
            return {"squared_error": (float(error.sum()), len(values))}
        if self.target.kind == "classes":
            hits = outputs.argmax(-1) == values
        else:
            hits = (outputs > 0) == values.reshape(outputs.shape).bool()
        return {"accuracy": (float(hits.sum()), hits.numel())}


def known(values: Tensor) -> Tensor:
    """Tell which rows have a label.

    Parameters
    ----------
    values
        As for `Supervised`.

    Returns
    -------
    torch.Tensor
        bool ``[n]``; a row of several labels has all or none.
    """
    if values.is_floating_point():
        return ~(values.isnan() if values.ndim == 1 else values.isnan().any(dim=1))
    return values != UNLABELLED


def balanced_weights(target: Target, values: np.ndarray) -> np.ndarray | None:
    """Give weights under which the classes count alike: n / (classes × n of the class).

    Parameters
    ----------
    target
        Not a `value`, which has no classes.
    values
        Of the training rows, as for `Supervised`; those without a label do not count.

    Returns
    -------
    numpy.ndarray or None
        As `Supervised` takes them; for `binary` and `labels` negatives over positives. A class without a row
        weighs 1, and is never trained. `None` for a `value`.

    Examples
    --------
    >>> balanced_weights(Target("classes", "sequence", ("a", "b")), np.array([0, 0, 0, 1])).round(2).tolist()
    [0.67, 2.0]
    """
    if target.kind == "value":
        return None
    if target.kind == "classes":
        counts = np.bincount(values[values != UNLABELLED], minlength=len(target.classes)).astype(np.float64)
        return np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 1.0)
    rows = (
        values[values != UNLABELLED][:, None] if target.kind == "binary" else values[~np.isnan(values[:, 0])]
    )
    positives = rows.sum(axis=0).astype(np.float64)
    negatives = len(rows) - positives
    return np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1.0)


def prior_outputs(target: Target, values: np.ndarray, weights: np.ndarray | None = None) -> Tensor:
    """Give the outputs that say no more than how frequent classes are, which a head can begin with.

    Parameters
    ----------
    target
        What is learned.
    values
        Of the training rows, as for `Supervised`; those without a label do not count.
    weights
        As for `Supervised`; under them classes are as frequent as their weights say.

    Returns
    -------
    torch.Tensor
        ``[o]``, one half of a row added to each class; 0 for a `value`, which is scaled.

    Examples
    --------
    >>> shares = prior_outputs(Target("classes", "sequence", ("a", "b")), np.array([0, 0, 1])).softmax(0)
    >>> [round(share, 3) for share in shares.tolist()]
    [0.625, 0.375]
    """
    if target.kind == "value":
        return torch.zeros(1)
    scale = np.ones(target.num_outputs) if weights is None else weights
    if target.kind == "classes":
        counts = (np.bincount(values[values != UNLABELLED], minlength=len(target.classes)) + 0.5) * scale
        return torch.from_numpy(np.log(counts / counts.sum())).float()
    rows = (
        values[values != UNLABELLED][:, None] if target.kind == "binary" else values[~np.isnan(values[:, 0])]
    )
    positives = rows.sum(axis=0) + 0.5
    return torch.from_numpy(np.log(positives * scale / (len(rows) + 1 - positives))).float()
