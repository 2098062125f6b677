"""Uniform and region masking: from a batch to the probability that each token is selected."""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from protlm.config import BaseConfig
from protlm.errors import DataError, did_you_mean
from protlm.masking.selection import Draw, Selection, look_up, maskable, per_sequence, per_token
from protlm.schedules import Schedule, ScheduledRate, value_at
from protlm.types.batch import Batch
from protlm.types.regions import Region


class UniformMasking:
    """Select every residue with the same probability.

    Parameters
    ----------
    mean_rate
        Probability of selection, in [0, 1], or a schedule of it.

    References
    ----------
    Devlin et al. 2019, BERT, section 3.1, doi:10.18653/v1/N19-1423.
    """

    class Config(BaseConfig):
        """Settings of uniform masking."""

        kind: Literal["uniform"] = "uniform"
        mean_rate: ScheduledRate = 0.15
        """Probability of selection of each residue."""

        def build(self) -> "UniformMasking":
            """Make the policy."""
            return UniformMasking(mean_rate=self.mean_rate)

    def __init__(self, *, mean_rate: float | Schedule) -> None:
        self.mean_rate = mean_rate

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            Any batch.
        draw
            For the progress of a schedule.
        """
        return Selection(value_at(self.mean_rate, draw.progress) * maskable(batch).double())


class RegionMasking:
    r"""Select the residues of named regions at rates of their own while the mean rate stays fixed.

    In a record of :math:`N` maskable residues, of which the set :math:`S` lies in named regions with
    rates :math:`r_i`, every other residue gets

    .. math:: p = \frac{\rho N - \sum_{i \in S} r_i}{N - |S|}

    so that the expected rate is the mean rate :math:`\rho` exactly, record by record. Where that
    :math:`p` would leave [0, 1], it is set to the bound and the rates in :math:`S` are scaled (below 0)
    or raised evenly (above 1) instead, so that the expectation still holds. A record without any of the
    regions is masked uniformly, and counted.

    With `other_rate` instead of `mean_rate` every other residue gets that rate and nothing is solved:
    ``other_rate=0`` selects in the named regions only. A record without any of them then falls back to
    `other_rate` everywhere, so at 0 it is left out; such records are counted.

    Parameters
    ----------
    region_rates
        Probability of selection per region, each in [0, 1], or a schedule of it.
    mean_rate
        Expected share of selected residues per record, in [0, 1].
    other_rate
        Probability of selection of the residues outside the named regions, where there is no `mean_rate`.

    Notes
    -----
    The guard acts when the named regions fill too much of a record: with CDR3 at 0.25 under a mean of
    0.15, when CDR3 is more than 60 % of it.

    DISCREPANCY: the published code fixes one rate for CDR3 and fails on a record without CDR2 or with
    a single chain; here any region may have a rate, and a record may lack any of them.

    References
    ----------
    Ng & Briney 2025, Patterns, doi:10.1016/j.patter.2025.101239.

    Examples
    --------
    Ten residues of which the last two are CDR3: (0.15 · 10 − 2 · 0.35) / 8 = 0.1.

    >>> from protlm.data.collate import collate
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.data.layout import esm_layout
    >>> from protlm.types.record import Chain, Record
    >>> import numpy as np
    >>> region = np.array([Region.FR3] * 8 + [Region.CDR3] * 2, dtype=np.uint8)
    >>> record = Record("a", (Chain("ACDEFGHIKL", tracks={"region": region}),))
    >>> batch = collate(flatten_records([record]), esm_layout())
    >>> masking = RegionMasking(region_rates={Region.CDR3: 0.35}, mean_rate=0.15)
    >>> [round(p, 3) for p in masking(batch, Draw()).probabilities.tolist()][-4:]
    [0.1, 0.35, 0.35, 0.0]
    """

    class Config(BaseConfig):
        """Settings of region masking."""

        kind: Literal["region"] = "region"
        region_rates: dict[str, ScheduledRate] = Field(default={"CDR3": 0.25})
        """Probability of selection per region, by name: FR1 CDR1 FR2 CDR2 FR3 CDR3 FR4."""
        mean_rate: ScheduledRate | None = 0.15
        """Expected share of selected residues per record."""
        other_rate: ScheduledRate | None = None
        """Instead of `mean_rate`: the rate of all residues outside the named regions."""

        @field_validator("region_rates")
        @classmethod
        def _known(cls, rates: dict[str, float]) -> dict[str, float]:
            for name in rates:
                if name not in Region.__members__ or name == "NONE":
                    known = [region for region in Region.__members__ if region != "NONE"]
                    raise ValueError(f"unknown region '{name}'; {did_you_mean(name, known)}")
            return rates

        @model_validator(mode="after")
        def _one_of_two_rates(self) -> Self:
            if (self.mean_rate is None) == (self.other_rate is None):
                raise ValueError(
                    "give either mean_rate, from which the rate outside the regions follows, or other_rate "
                    "with mean_rate: null"
                )
            return self

        def build(self) -> "RegionMasking":
            """Make the policy."""
            rates = {Region[name]: rate for name, rate in self.region_rates.items()}
            return RegionMasking(region_rates=rates, mean_rate=self.mean_rate, other_rate=self.other_rate)

    def __init__(
        self,
        *,
        region_rates: Mapping[Region, float | Schedule],
        mean_rate: float | Schedule | None,
        other_rate: float | Schedule | None = None,
    ) -> None:
        self.region_rates, self.mean_rate, self.other_rate = dict(region_rates), mean_rate, other_rate

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            With a `region` track.
        draw
            For the progress of schedules.

        Raises
        ------
        DataError
            If no chain of the corpus has regions.
        """
        if "region" not in batch.tracks:
            raise DataError(
                "region masking needs regions, but these records have none",
                hint="prepare the corpus with numbering, or use masking.kind=uniform",
            )
        is_maskable = maskable(batch)
        wanted = look_up(self._rates_at(draw.progress), batch.tracks["region"])
        named = ~torch.isnan(wanted) & is_maskable
        wanted = torch.where(named, wanted, 0.0)
        fell_back = per_sequence(named, batch) == 0
        if self.mean_rate is not None:
            mean_rate = value_at(self.mean_rate, draw.progress)
            solved = solve_rates(wanted, named, is_maskable, batch, mean_rate)
            return Selection(solved, fell_back=fell_back)
        other_rate = value_at(self.other_rate or 0.0, draw.progress)
        probabilities = torch.where(named, wanted, other_rate) * is_maskable
        return Selection(probabilities, fell_back=fell_back)

    def _rates_at(self, progress: float) -> Float[Tensor, " regions"]:
        """Rate by region code; NaN where none is named."""
        rates = torch.full((len(Region),), torch.nan, dtype=torch.float64)
        for region, rate in self.region_rates.items():
            rates[region] = value_at(rate, progress)
        return rates


def solve_rates(
    wanted: Float[Tensor, " t"],
    named: Bool[Tensor, " t"],
    is_maskable: Bool[Tensor, " t"],
    batch: Batch,
    mean_rate: float,
) -> Float[Tensor, " t"]:
    """Fill in the rate of the tokens that were not named so that each record has the mean rate.

    Parameters
    ----------
    wanted
        Rate per token; counts only where `named`.
    named
        Tokens with a rate of their own.
    is_maskable
        Tokens that may be selected.
    batch
        For which token belongs to which record.
    mean_rate
        Expected share of selected tokens among the maskable ones of each record.
    """
    num_maskable = per_sequence(is_maskable, batch)
    target = mean_rate * num_maskable
    named_sum, named_count = per_sequence(wanted * named, batch), per_sequence(named, batch)
    other_count = num_maskable - named_count
    other = ((target - named_sum) / other_count.clamp(min=1)).clamp(0.0, 1.0)
    other = torch.where(other_count > 0, other, 0.0)
    # what the clamped rate leaves over goes to the named tokens, by scaling down or by filling up
    left = target - other * other_count
    shrink = torch.where(named_sum > 0, left / named_sum.clamp(min=1e-12), 0.0)
    room = named_count - named_sum
    grow = torch.where(room > 0, (left - named_sum) / room.clamp(min=1e-12), 0.0)
    is_short = left > named_sum
    adjusted = torch.where(
        per_token(is_short, batch),
        wanted + (1 - wanted) * per_token(grow.clamp(0.0, 1.0), batch),
        wanted * per_token(shrink.clamp(0.0, 1.0), batch),
    )
    return torch.where(named, adjusted, per_token(other, batch)) * is_maskable
