"""From the states of residues to one vector per chain: never over begin, end, separator or pad tokens."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protlm.errors import ModelError
from protlm.types.batch import Batch

HeadPooling = Literal["mean", "begin", "attention"]
_LEAST = 1e-12
"""Of a sum of weights; the highest weight of a chain is at least 1."""


@dataclass(frozen=True)
class ResidueStates:
    """States of tokens that stand for residues, chain after chain. Letters: ``r`` tokens, ``c`` chains."""

    values: Float[Tensor, "r d"]
    chain: Int[Tensor, " r"]
    """Which chain of the batch, 0-based over all its sequences."""
    sizes: Float[Tensor, " r"]
    """Residues under the token: a sub-word counts as often as it has residues."""
    num_chains: int

    def means(self) -> Float[Tensor, "c d"]:
        """Give the mean over the residues of each chain; 0 for one without any."""
        return self._sum(self.sizes) / self._total(self.sizes).clamp_min(_LEAST)[:, None]

    def weighted(self, scores: Float[Tensor, " r"]) -> Float[Tensor, "c d"]:
        """Give the mean over the residues of each chain with the softmax of some scores as weights.

        It is 0 for a chain without any.

        Parameters
        ----------
        scores
            One per token.
        """
        highest = scores.new_full((self.num_chains,), -torch.inf)
        highest = highest.scatter_reduce(0, self.chain, scores.detach(), reduce="amax")
        weights = (scores - highest[self.chain]).exp() * self.sizes
        return self._sum(weights) / self._total(weights).clamp_min(_LEAST)[:, None]

    def _sum(self, weights: Tensor) -> Tensor:
        sums = self.values.new_zeros(self.num_chains, self.values.shape[1])
        return sums.index_add(0, self.chain, self.values * weights[:, None])

    def _total(self, weights: Tensor) -> Tensor:
        return weights.new_zeros(self.num_chains).index_add(0, self.chain, weights)


def residue_states(hidden: Float[Tensor, "t d"], batch: Batch) -> ResidueStates:
    """Take the states of residues out of those of all tokens.

    Parameters
    ----------
    hidden
        Last hidden states.
    batch
        On the same device.
    """
    chain, num_chains = chain_numbers(batch)
    inside = batch.is_residue
    sizes = (batch.residue_stop - batch.residue_start)[inside].to(hidden.dtype)
    return ResidueStates(hidden[inside], chain[inside], sizes, int(num_chains.sum()))


def chain_numbers(batch: Batch) -> tuple[Int[Tensor, " t"], Int[Tensor, " s"]]:
    """Number the chains of a batch one after another.

    Parameters
    ----------
    batch
        Any.

    Returns
    -------
    torch.Tensor
        The chain of each token, of no meaning for special tokens.
    torch.Tensor
        Chains of each sequence.
    """
    sequence = batch.sequence_index.long()
    counts = torch.zeros(batch.num_sequences, dtype=torch.int64, device=sequence.device)
    counts.scatter_reduce_(0, sequence, batch.chain_index.long() + 1, reduce="amax")
    return (torch.cumsum(counts, 0) - counts)[sequence] + batch.chain_index.long(), counts


class Pooling(nn.Module):
    """Makes one vector per chain, or one per sequence from its begin token.

    Parameters
    ----------
    kind
        ``mean``: over residues. ``begin``: the state of the begin token. ``attention``: a mean over residues
        with weights that are learned, from a score that is linear in the state.
    width
        Of the states.
    """

    def __init__(self, kind: HeadPooling, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Linear(width, 1, bias=False) if kind == "attention" else None
        if self.score is not None:
            nn.init.zeros_(self.score.weight)  # begins as the mean

    def forward(self, states: ResidueStates) -> Float[Tensor, "c d"]:
        """Pool the states of each chain.

        Parameters
        ----------
        states
            Of residues; `begin` has none and is taken from the batch.
        """
        if self.score is None:
            return states.means()
        return states.weighted(self.score(states.values)[:, 0])


def in_segments(states: ResidueStates, segments: int) -> ResidueStates:
    """Part each chain into equal runs of residues, which are then pooled apart.

    Residue i of n, 0-based, is in segment ⌊i · segments / n⌋; some are empty where there are fewer residues.

    Parameters
    ----------
    states
        A residue under each token, the chains one after another, in the order of their residues.
    segments
        Of each chain, at least 1.

    Raises
    ------
    ModelError
        If a token has several residues, whose segments may differ.
    """
    if segments == 1:
        return states
    if bool((states.sizes > 1).any()):
        raise ModelError(
            "this tokenizer puts several residues into one token, which may be in two segments",
            hint="take segments 1, or a model of residues",
        )
    count = torch.bincount(states.chain, minlength=states.num_chains)
    first = torch.cumsum(count, 0) - count
    place = torch.arange(len(states.chain), device=states.chain.device) - first[states.chain]
    segment = place * segments // count[states.chain]
    return ResidueStates(
        states.values, states.chain * segments + segment, states.sizes, states.num_chains * segments
    )


def segment_means(vectors: np.ndarray, counts: np.ndarray, segments: int) -> np.ndarray:
    """Give the mean of each segment of one molecule, float32 ``[segments, d]``; 0 where nothing counts.

    Parameters
    ----------
    vectors
        float32 ``[residues, d]``.
    counts
        Whether a residue counts, bool ``[residues]``; all have their place.
    segments
        At least 1; see `in_segments`.
    """
    chain = torch.zeros(len(vectors), dtype=torch.int64)
    sizes = torch.from_numpy(counts.astype(np.float32))
    states = ResidueStates(torch.from_numpy(np.array(vectors, dtype=np.float32)), chain, sizes, 1)
    return in_segments(states, segments).means().numpy()


def begin_states(hidden: Float[Tensor, "t d"], batch: Batch) -> Float[Tensor, "s d"]:
    """Give the state of the begin token of each sequence.

    Parameters
    ----------
    hidden
        Last hidden states.
    batch
        Of a layout that has a begin token.
    """
    return hidden[batch.offsets[:-1].long()]
