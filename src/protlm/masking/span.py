"""Masking of neighbours together, at the rates of any other policy."""

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.masking import maskings
from protlm.masking.policies import UniformMasking
from protlm.masking.selection import BOUNDARY, Draw, MaskingPolicy, Selection, numbers_for, residue_hashes
from protlm.schedules import Schedule, ScheduledLength, value_at
from protlm.types.batch import Batch


class SpanMasking:
    """Select blocks of neighbouring residues, each residue at the rate another policy gives it.

    A block ends after each residue with probability 1 / `mean_length`, drawn by hash of the residue, and
    at the end of its chain, so lengths are geometric. The number drawn for the first residue of a block
    decides over all of them: a residue is selected where its own probability is above it. Every residue's
    chance is therefore exactly that of the other policy, at the ends of chains too and with rates that
    differ by region; within a block of equal rates all or none are selected.

    Parameters
    ----------
    policy
        Gives the rates.
    mean_length
        Mean block length in residues, at least 1, away from the ends of chains. Runs of selected
        residues are longer, by 1 / (1 - rate), because selected blocks may touch.

    Notes
    -----
    The observed rate varies more from record to record than that of independent residues: for blocks
    of mean length L by about 2 L - 1 in the variance.

    References
    ----------
    Joshi et al. 2020, SpanBERT, doi:10.1162/tacl_a_00300, draws spans until a budget is used up, which
    gives residues at the ends of a sequence a lower chance; here all have the same.
    """

    class Config(BaseConfig):
        """Settings of span masking."""

        kind: Literal["span"] = "span"
        mean_length: ScheduledLength = 3.0
        """Mean block length in residues."""
        masking: Annotated[AnyConfig, one_of(maskings, "uniform")] = UniformMasking.Config()
        """The policy that gives the rates."""

        def build(self) -> "SpanMasking":
            """Make the policy."""
            return SpanMasking(self.masking.build(), mean_length=self.mean_length)  # type: ignore[attr-defined]

    def __init__(self, policy: MaskingPolicy, *, mean_length: float | Schedule) -> None:
        self.policy, self.mean_length = policy, mean_length

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token and the first token of its block.

        Parameters
        ----------
        batch
            What the inner policy needs.
        draw
            Seed, epoch and progress.
        """
        inner = self.policy(batch, draw.inside(0))
        first = block_starts(batch, draw, value_at(self.mean_length, draw.progress))
        if inner.draw_from is not None:
            first = inner.draw_from[first]
        return Selection(inner.probabilities, draw_from=first, fell_back=inner.fell_back)


def block_starts(batch: Batch, draw: Draw, mean_length: float) -> Int[Tensor, " t"]:
    """Give for each token the flat index of the first token of its block.

    Parameters
    ----------
    batch
        On the CPU.
    draw
        Seed and epoch.
    mean_length
        A residue begins a new block with probability 1 / mean_length.
    """
    chain, sequence = batch.chain_index.numpy(), batch.sequence_index.numpy()
    begins = numbers_for(residue_hashes(batch, draw), BOUNDARY) < 1.0 / mean_length
    begins |= chain < 0
    begins[:1] = True
    begins[1:] |= (chain[1:] != chain[:-1]) | (sequence[1:] != sequence[:-1])
    return torch.from_numpy(np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0)))
