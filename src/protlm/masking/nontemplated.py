"""Masking of what no germline gene encodes: N additions, and mutated residues where wanted."""

from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from protlm.config import BaseConfig
from protlm.errors import DataError
from protlm.masking.selection import Draw, Selection, maskable, per_sequence, per_token
from protlm.schedules import Schedule, ScheduledRate, value_at
from protlm.types.batch import Batch
from protlm.types.regions import Mutated, Segment


class NontemplatedMasking:
    """Select only residues of the segment N, and mutated ones where wanted, each at a rate of its own.

    Nothing else of the record is selected, and no mean rate is held: a record's expected number of
    selected residues is ``rate`` times its N residues plus ``mutated_rate`` times its mutated ones.
    A record with neither, or without the track, is masked uniformly at `mean_rate` or left out of the
    loss, as `without` says, and is counted.

    Parameters
    ----------
    rate
        Probability of selection of a residue whose segment is N.
    mutated_rate
        Probability of selection of a templated residue that differs from its germline; 0 for none.
    without
        What happens to records without any such residue: ``uniform`` or ``skip``.
    mean_rate
        Rate of the uniform masking of such records.

    Notes
    -----
    Ng & Briney (2025) speak of non-templated regions, but their code masks the whole of CDR3, the ends
    that V and J encode included; that is `RegionMasking`. This policy follows the words.

    References
    ----------
    Ng & Briney 2025, Patterns, doi:10.1016/j.patter.2025.101239.
    """

    class Config(BaseConfig):
        """Settings of non-templated masking."""

        kind: Literal["nontemplated"] = "nontemplated"
        rate: ScheduledRate = 0.5
        """Probability of selection of a residue of the segment N."""
        mutated_rate: ScheduledRate = 0.0
        """Probability of selection of a mutated residue outside N."""
        without: Literal["uniform", "skip"] = "uniform"
        """Records without any such residue: masked uniformly, or not at all."""
        mean_rate: ScheduledRate = 0.15
        """Rate of the uniform masking of such records."""

        def build(self) -> "NontemplatedMasking":
            """Make the policy."""
            return NontemplatedMasking(
                rate=self.rate, mutated_rate=self.mutated_rate, without=self.without, mean_rate=self.mean_rate
            )

    def __init__(
        self,
        *,
        rate: float | Schedule,
        mutated_rate: float | Schedule = 0.0,
        without: Literal["uniform", "skip"] = "uniform",
        mean_rate: float | Schedule = 0.15,
    ) -> None:
        self.rate, self.mutated_rate = rate, mutated_rate
        self.without, self.mean_rate = without, mean_rate

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            With the track `segment`, and `mutated` where mutated residues are wanted.
        draw
            For the progress of schedules.

        Raises
        ------
        DataError
            If no chain of the corpus has a track that is needed.
        """
        is_maskable = maskable(batch)
        is_added = _is(batch, "segment", Segment.N) & is_maskable
        chosen, probabilities = is_added, value_at(self.rate, draw.progress) * is_added.double()
        if isinstance(self.mutated_rate, Schedule) or self.mutated_rate > 0:
            is_mutated = _is(batch, "mutated", Mutated.MUTATED) & is_maskable & ~is_added
            chosen = chosen | is_mutated
            probabilities += value_at(self.mutated_rate, draw.progress) * is_mutated.double()
        fell_back = per_sequence(chosen, batch) == 0
        if self.without == "uniform":
            alone = per_token(fell_back, batch) & is_maskable
            mean_rate = value_at(self.mean_rate, draw.progress)
            probabilities = torch.where(alone, mean_rate, probabilities)
        return Selection(probabilities, fell_back=fell_back)


def _is(batch: Batch, track: str, code: int) -> Bool[Tensor, " t"]:
    if track not in batch.tracks:
        raise DataError(
            f"non-templated masking needs the track '{track}', but these records have none",
            hint="prepare the corpus with segment columns or a germline set, or use another masking.kind",
        )
    return batch.tracks[track] == code
