"""Masked language modelling: cross-entropy at the selected tokens."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from protlm.types.batch import Corrupted, LossOutput
from protlm.types.regions import Region


class MaskedLanguageModelling:
    r"""Sum of the cross-entropy over the selected tokens.

    .. math:: L = -\sum_{i \in M} \log p(x_i \mid x_{\setminus M})

    Requirements: a corrupted batch. Relations: the loop divides by the number of selected tokens of
    the whole step, so accumulation over micro-batches equals one large batch.

    References
    ----------
    Devlin et al. 2019, section 3.1; Ng & Briney 2025 weigh no region in the loss, nor do we.
    """

    def __call__(self, logits_of: Callable[..., Tensor], corrupted: Corrupted) -> LossOutput:
        """Give the summed loss and its parts by region, in nats.

        Parameters
        ----------
        logits_of
            ``logits_of(batch, rows)`` gives logits ``[r, v]``.
        corrupted
            Batch, rows and targets.
        """
        logits = logits_of(corrupted.batch, corrupted.rows)
        losses = F.cross_entropy(logits.float(), corrupted.targets, reduction="none")
        with torch.no_grad():
            hits = (logits.argmax(-1) == corrupted.targets).float()
            parts = {"accuracy": (float(hits.sum()), len(hits))}
            if "region" in corrupted.batch.tracks:
                parts |= _by_region(losses, corrupted)
        return LossOutput(losses.sum(), len(losses), parts)


def _by_region(losses: Tensor, corrupted: Corrupted) -> dict[str, tuple[float, int]]:
    region = corrupted.batch.tracks["region"][corrupted.rows].long()
    sums = torch.bincount(region, weights=losses.double(), minlength=len(Region)).tolist()
    counts = torch.bincount(region, minlength=len(Region)).tolist()
    return {f"loss_{each.name}": (sums[each], counts[each]) for each in Region if counts[each]}
