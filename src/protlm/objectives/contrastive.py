"""Contrastive losses between two views of the same items, such as a sequence and its structure."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protlm.types.batch import LossOutput

SameCluster = Literal["positive", "ignore", "negative"]
"""What other items of an anchor's cluster are to it."""


class Contrastive:
    r"""Symmetric InfoNCE between two sets of unit vectors, summed over anchors.

    With :math:`s_{ij} = \tau\, x_i \cdot y_j` and the positives :math:`P(i)` of an anchor,

    .. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
        \log \frac{e^{s_{ip}}}{\sum_{a \in A(i)} e^{s_{ia}}}

    and the same from the other side; an item counts the mean of both. :math:`A(i)` is the whole batch,
    without the items of the same cluster where these are ignored. With one positive each it is CLIP's loss.

    Requirements: a cluster for each item unless ``same_cluster="negative"``. Relations: the larger the batch,
    the harder the task, so neither losses nor accuracies of different batch sizes can be compared.

    Parameters
    ----------
    same_cluster
        ``positive``: other items of the cluster are positives too. ``ignore``: they are neither.
        ``negative``: as the published loss, which pushes copies of one antibody apart.

    References
    ----------
    Radford et al. 2021 (CLIP), figure 3; Khosla et al. 2020, equation 2, for several positives.

    Examples
    --------
    >>> same = torch.eye(2)
    >>> round(float(Contrastive("negative")(same, same, torch.tensor(1.0)).loss), 4)  # 2 log(1 + 1/e)
    0.6265
    """

    def __init__(self, same_cluster: SameCluster = "positive") -> None:
        self.same_cluster = same_cluster

    def __call__(
        self,
        first: Float[Tensor, "n d"],
        second: Float[Tensor, "n d"],
        scale: Tensor,
        clusters: Int[Tensor, " n"] | None = None,
        *,
        anchors: Int[Tensor, " a"] | None = None,
    ) -> LossOutput:
        """Give the loss summed over anchors, and how often an anchor's own partner is the nearest.

        Parameters
        ----------
        first, second
            Unit vectors of the two views; row i of one belongs to row i of the other.
        scale
            What cosines are multiplied by, the inverse of the temperature.
        clusters
            Of each item; items of one cluster are alike.
        anchors
            Which rows count, 0-based; all if not given. Every row is among the candidates.
        """
        first, second = first.float(), second.float()
        rows = torch.arange(len(first), device=first.device) if anchors is None else anchors
        alike = self._alike(rows, clusters, len(first))
        forth = self._losses(scale * first[rows] @ second.T, rows, alike)
        back = self._losses(scale * second[rows] @ first.T, rows, alike)
        with torch.no_grad():
            hits = [
                int(((one[rows] @ other.T).argmax(1) == rows).sum())
                for one, other in ((first, second), (second, first))
            ]
        names = ("sequence_to_structure", "structure_to_sequence")
        parts = {name: (float(hit), len(rows)) for name, hit in zip(names, hits, strict=True)}
        return LossOutput(0.5 * (forth + back).sum(), len(rows), parts)

    def _alike(self, rows: Tensor, clusters: Tensor | None, size: int) -> Bool[Tensor, "a n"]:
        """Tell which candidates are of the anchor's cluster; the own partner always is."""
        own = rows[:, None] == torch.arange(size, device=rows.device)
        if clusters is None or self.same_cluster == "negative":
            return own
        return own | (clusters[rows][:, None] == clusters)

    def _losses(self, logits: Tensor, rows: Tensor, alike: Tensor) -> Float[Tensor, " a"]:
        if self.same_cluster == "ignore":
            own = rows[:, None] == torch.arange(logits.shape[1], device=rows.device)
            logits = logits.masked_fill(alike & ~own, -torch.inf)
            return F.cross_entropy(logits, rows, reduction="none")
        chances = logits.log_softmax(dim=1)
        return -(chances * alike).sum(dim=1) / alike.sum(dim=1)
