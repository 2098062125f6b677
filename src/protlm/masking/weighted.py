"""Masking in proportion to any weight per residue, under a mean rate."""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from protlm.config import BaseConfig
from protlm.errors import DataError, did_you_mean
from protlm.masking.selection import Draw, Selection, look_up, maskable, per_sequence, per_token
from protlm.schedules import Schedule, ScheduledRate, ScheduledWeight, value_at
from protlm.types.batch import Batch
from protlm.types.regions import Mutated, Region, Segment

_SMALLEST = 1e-12  # of the largest weight of a record; what is below counts as 0

CODES: Mapping[str, type[IntEnum]] = MappingProxyType(
    {"region": Region, "segment": Segment, "mutated": Mutated}
)
"""Tracks of codes and what their names are; the track ``weight`` holds weights themselves."""


class WeightedMasking:
    r"""Select residues in proportion to a weight while the mean rate of each record stays fixed.

    In a record with weights :math:`w_i` every residue gets

    .. math:: p_i = \min(1, \lambda w_i), \qquad \sum_i p_i = \rho N

    with one :math:`\lambda` per record, so that the expected rate is the mean rate :math:`\rho` exactly.
    What a probability of 1 cannot hold goes to the others (water-filling). Where all residues of
    positive weight are at 1 and the mean is not reached, the rest is spread evenly over those of weight
    0; a record without any positive weight is therefore masked uniformly, and counted.

    Parameters
    ----------
    track
        ``region``, ``segment`` or ``mutated``, whose names get weights, or ``weight``, the user's own
        number per residue (0 where a chain has none).
    weights
        Weight by name, at least 0; none for the track ``weight``.
    other
        Weight of residues whose name is not listed, those with no known name among them.
    mean_rate
        Expected share of selected residues per record, in [0, 1].

    Examples
    --------
    Twelve residues at a mean of 0.25, three to select; the last two weigh five times the other ten, so
    λ = 3 / 20:

    >>> from protlm.data.collate import collate
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.data.layout import esm_layout
    >>> from protlm.types.record import Chain, Record
    >>> import numpy as np
    >>> segment = np.array([Segment.V] * 10 + [Segment.N] * 2, dtype=np.uint8)
    >>> record = Record("a", (Chain("ACDEFGHIKLMN", tracks={"segment": segment}),))
    >>> batch = collate(flatten_records([record]), esm_layout())
    >>> masking = WeightedMasking(track="segment", weights={"N": 5.0}, mean_rate=0.25)
    >>> [round(p, 3) for p in masking(batch, Draw()).probabilities.tolist()][-4:]
    [0.15, 0.75, 0.75, 0.0]
    """

    class Config(BaseConfig):
        """Settings of weighted masking."""

        kind: Literal["weighted"] = "weighted"
        track: Literal["region", "segment", "mutated", "weight"] = "region"
        """Where the weights come from."""
        weights: dict[str, ScheduledWeight] = Field(default={})
        """Weight by name, such as ``{N: 4, D: 2}`` for segments."""
        other: ScheduledWeight = 1.0
        """Weight of residues whose name is not listed."""
        mean_rate: ScheduledRate = 0.15
        """Expected share of selected residues per record."""

        @model_validator(mode="after")
        def _names_are_known(self) -> Self:
            if self.track == "weight":
                if self.weights:
                    raise ValueError("the track 'weight' holds the weights itself; leave `weights` out")
                return self
            known = [name for name in CODES[self.track].__members__ if name != "NONE"]
            for name in self.weights:
                if name not in known:
                    raise ValueError(f"unknown {self.track} '{name}'; {did_you_mean(name, known)}")
            return self

        def build(self) -> "WeightedMasking":
            """Make the policy."""
            return WeightedMasking(
                track=self.track, weights=self.weights, other=self.other, mean_rate=self.mean_rate
            )

    def __init__(
        self,
        *,
        track: str,
        weights: Mapping[str, float | Schedule] | None = None,
        other: float | Schedule = 1.0,
        mean_rate: float | Schedule,
    ) -> None:
        self.track, self.weights, self.other, self.mean_rate = track, dict(weights or {}), other, mean_rate

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            With the track.
        draw
            For the progress of schedules.

        Raises
        ------
        DataError
            If no chain of the corpus has the track, or a user's weight is negative or no number.
        """
        if self.track not in batch.tracks:
            raise DataError(
                f"weighted masking needs the track '{self.track}', but these records have none",
                hint="prepare the corpus with it, or use another masking.track or masking.kind",
            )
        is_maskable = maskable(batch)
        weights = self._weights_of(batch, draw.progress) * is_maskable
        target = value_at(self.mean_rate, draw.progress) * per_sequence(is_maskable, batch)
        probabilities = water_fill(weights, target, is_maskable, batch)
        return Selection(probabilities, fell_back=per_sequence(weights > 0, batch) == 0)

    def _weights_of(self, batch: Batch, progress: float) -> Float[Tensor, " t"]:
        values = batch.tracks[self.track]
        if self.track == "weight":
            wrong = ~(torch.isfinite(values) & (values >= 0))
            if bool(wrong.any()):
                raise DataError(
                    f"a residue has the weight {values[wrong][0].item():g}; expected a number of at least 0",
                    hint="mend the weight column of the input and prepare the corpus again",
                )
            return values.double()
        codes = CODES[self.track]
        table = torch.full((len(codes),), value_at(self.other, progress), dtype=torch.float64)
        for name, weight in self.weights.items():
            table[codes[name]] = value_at(weight, progress)
        return look_up(table, values)


def water_fill(
    weights: Float[Tensor, " t"], target: Float[Tensor, " s"], is_maskable: Tensor, batch: Batch
) -> Float[Tensor, " t"]:
    """Share out a sum per record in proportion to weights, at most 1 to each token.

    Parameters
    ----------
    weights
        At least 0; 0 where a token may not get any. What is below 1e-12 of the largest counts as 0.
    target
        Sum to reach in each sequence, at most the number of its maskable tokens.
    is_maskable
        Tokens that may get something; those of weight 0 only what the others cannot hold.
    batch
        For which token belongs to which sequence.

    Examples
    --------
    Weights 8, 1, 1 share 2: proportions would give the first 1.6, so it gets 1 and the others 0.5.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> one = SimpleNamespace(offsets=torch.tensor([0, 3]), lengths=torch.tensor([3]))
    >>> weights = torch.tensor([8.0, 1.0, 1.0], dtype=torch.float64)
    >>> water_fill(weights, torch.tensor([2.0]), weights > 0, one).tolist()
    [1.0, 0.5, 0.5]
    """
    weights = _relative(weights, batch)
    full = torch.zeros_like(is_maskable)
    positive = weights > 0
    while True:
        free = positive & ~full
        left = target - per_sequence(full, batch)
        free_sum = per_sequence(torch.where(free, weights, 0.0), batch)
        factor = torch.where(free_sum > 0, left / free_sum.clamp(min=_SMALLEST), 0.0)
        shares = per_token(factor, batch) * weights
        over = free & (shares > 1)
        if not bool(over.any()):
            break
        full |= over
    given = torch.where(full, 1.0, torch.where(free, shares, 0.0))
    empty = is_maskable & ~positive
    missing = (target - per_sequence(given, batch)).clamp(min=0.0)
    each = missing / per_sequence(empty, batch).clamp(min=1)
    return torch.where(empty, per_token(each, batch), given).clamp(max=1.0)


def _relative(weights: Float[Tensor, " t"], batch: Batch) -> Float[Tensor, " t"]:
    """Divide by the largest weight of the sequence, so that no sum of weights is too small to divide by."""
    largest = torch.from_numpy(np.maximum.reduceat(weights.numpy(), batch.offsets[:-1].numpy()))
    relative = weights / per_token(torch.where(largest > 0, largest, 1.0), batch)
    return torch.where(relative >= _SMALLEST, relative, 0.0)
