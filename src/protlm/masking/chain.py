"""Masking of one chain while the other is read."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from protlm.config import BaseConfig
from protlm.masking.selection import CHOICE, Draw, Selection, maskable, per_token, record_numbers
from protlm.schedules import Schedule, ScheduledRate, value_at
from protlm.types.batch import Batch
from protlm.types.record import Role

Which = Literal["heavy", "light", "random"]

ROLES_OF = {"heavy": (Role.HEAVY, Role.BETA, Role.DELTA), "light": (Role.LIGHT, Role.ALPHA, Role.GAMMA)}
"""Roles that each word covers; the chains of T-cell receptors with a D segment count as heavy."""


class ChainMasking:
    """Select in one chain of each record only, so that the model must read the other.

    A record of one chain, or one that has no such chain beside another, is masked uniformly at
    `single_rate` and counted.

    Parameters
    ----------
    which
        ``heavy``, ``light``, or ``random``: one chain of the record, each as likely, drawn by hash for
        each record and epoch. Heavy and light are roles of antibody chains; the beta and delta chains of
        T-cell receptors count as heavy, alpha and gamma as light.
    rate
        Probability of selection within the chain; 1 hides all of it.
    single_rate
        Probability of selection in the other records.
    """

    class Config(BaseConfig):
        """Settings of chain masking."""

        kind: Literal["chain"] = "chain"
        which: Which = "random"
        """The chain to mask."""
        rate: ScheduledRate = 0.5
        """Probability of selection within it."""
        single_rate: ScheduledRate = 0.15
        """Probability of selection in records of one chain."""

        def build(self) -> "ChainMasking":
            """Make the policy."""
            return ChainMasking(which=self.which, rate=self.rate, single_rate=self.single_rate)

    def __init__(
        self, *, which: Which = "random", rate: float | Schedule, single_rate: float | Schedule = 0.15
    ) -> None:
        self.which, self.rate, self.single_rate = which, rate, single_rate

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            With the roles of chains where `which` is not random.
        draw
            Which chain, and the progress of schedules.
        """
        is_chosen = self._random_chain(batch, draw) if self.which == "random" else self._by_role(batch)
        num_chosen = _count_chains(is_chosen, batch)
        is_meant = (num_chosen > 0) & (num_chosen < _count_chains(batch.is_residue, batch))
        rate = torch.where(is_chosen, value_at(self.rate, draw.progress), 0.0)
        single = value_at(self.single_rate, draw.progress)
        probabilities = torch.where(per_token(is_meant, batch), rate.double(), single) * maskable(batch)
        return Selection(probabilities, fell_back=~is_meant)

    def _random_chain(self, batch: Batch, draw: Draw) -> Bool[Tensor, " t"]:
        counts = _count_chains(batch.is_residue, batch).numpy()
        chosen = np.floor(record_numbers(batch, draw, CHOICE) * counts).astype(np.int64)
        return batch.chain_index == per_token(torch.from_numpy(chosen), batch)

    def _by_role(self, batch: Batch) -> Bool[Tensor, " t"]:
        if batch.roles is None:
            return torch.zeros_like(batch.is_residue)
        roles = torch.tensor(ROLES_OF[self.which], dtype=batch.roles.dtype)
        return torch.isin(batch.roles, roles) & batch.is_residue


def _count_chains(among: Bool[Tensor, " t"], batch: Batch) -> Int[Tensor, " s"]:
    """Count the chains of each sequence that have a token among the given ones."""
    sequence, chain = batch.sequence_index[among].long(), batch.chain_index[among].long()
    longest = int(batch.chain_index.max()) + 1 if len(batch.tokens) else 1
    seen = torch.zeros((batch.num_sequences, max(1, longest)), dtype=torch.bool)
    seen[sequence, chain] = True
    return seen.sum(dim=1)
