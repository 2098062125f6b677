"""Masking policies: from a batch to the probability that each token is selected."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from protlm.config import BaseConfig, Rate
from protlm.errors import DataError, did_you_mean
from protlm.types.batch import Batch
from protlm.types.regions import Region


class UniformMasking:
    """Select every residue with the same probability.

    Parameters
    ----------
    mean_rate
        Probability of selection, in [0, 1].

    References
    ----------
    Devlin et al. 2019, BERT, section 3.1, doi:10.18653/v1/N19-1423.
    """

    class Config(BaseConfig):
        """Settings of uniform masking."""

        kind: Literal["uniform"] = "uniform"
        mean_rate: Rate = 0.15
        """Probability of selection of each residue."""

        def build(self) -> "UniformMasking":
            """Make the policy."""
            return UniformMasking(mean_rate=self.mean_rate)

    def __init__(self, *, mean_rate: float) -> None:
        self.mean_rate = mean_rate

    def __call__(self, batch: Batch) -> Float[Tensor, " t"]:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            Any batch.
        """
        return self.mean_rate * maskable(batch).double()


class RegionMasking:
    r"""Select the residues of named regions at rates of their own while the mean rate stays fixed.

    In a record of :math:`N` maskable residues, of which the set :math:`S` lies in named regions with
    rates :math:`r_i`, every other residue gets

    .. math:: p = \frac{\rho N - \sum_{i \in S} r_i}{N - |S|}

    so that the expected rate is the mean rate :math:`\rho` exactly, record by record. Where that
    :math:`p` would leave [0, 1], it is set to the bound and the rates in :math:`S` are scaled (below 0)
    or raised evenly (above 1) instead, so that the expectation still holds.

    Parameters
    ----------
    region_rates
        Probability of selection per region, each in [0, 1].
    mean_rate
        Expected share of selected residues per record, in [0, 1].

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
    >>> [round(p, 3) for p in masking(batch).tolist()][-4:]
    [0.1, 0.35, 0.35, 0.0]
    """

    class Config(BaseConfig):
        """Settings of region masking."""

        kind: Literal["region"] = "region"
        region_rates: dict[str, Rate] = Field(default={"CDR3": 0.25})
        """Probability of selection per region, by name: FR1 CDR1 FR2 CDR2 FR3 CDR3 FR4."""
        mean_rate: Rate = 0.15
        """Expected share of selected residues per record."""

        @field_validator("region_rates")
        @classmethod
        def _known(cls, rates: dict[str, float]) -> dict[str, float]:
            for name in rates:
                if name not in Region.__members__ or name == "NONE":
                    known = [region for region in Region.__members__ if region != "NONE"]
                    raise ValueError(f"unknown region '{name}'; {did_you_mean(name, known)}")
            return rates

        def build(self) -> "RegionMasking":
            """Make the policy."""
            rates = {Region[name]: rate for name, rate in self.region_rates.items()}
            return RegionMasking(region_rates=rates, mean_rate=self.mean_rate)

    def __init__(self, *, region_rates: dict[Region, float], mean_rate: float) -> None:
        self.mean_rate = mean_rate
        self._rate_of_region = torch.full((len(Region),), torch.nan, dtype=torch.float64)
        for region, rate in region_rates.items():
            self._rate_of_region[region] = rate

    def __call__(self, batch: Batch) -> Float[Tensor, " t"]:
        """Give the selection probability of each token.

        Parameters
        ----------
        batch
            With a `region` track.

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
        wanted = self._rate_of_region.to(is_maskable.device)[batch.tracks["region"].long()]
        named = ~torch.isnan(wanted) & is_maskable
        return solve_rates(torch.where(named, wanted, 0.0), named, is_maskable, batch, self.mean_rate)


def maskable(batch: Batch) -> Tensor:
    """Tell which tokens may be selected: the twenty amino acids, never special tokens or X.

    Parameters
    ----------
    batch
        Any batch.
    """
    return batch.is_residue if batch.standard is None else batch.standard


def solve_rates(
    wanted: Tensor, named: Tensor, is_maskable: Tensor, batch: Batch, mean_rate: float
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
    sequence = batch.sequence_index.long()

    def per_record(values: Tensor) -> Tensor:
        sums = torch.zeros(batch.num_sequences, dtype=torch.float64, device=values.device)
        return sums.index_add_(0, sequence, values.double())

    target = mean_rate * per_record(is_maskable)
    named_sum, named_count = per_record(wanted * named), per_record(named)
    other_count = per_record(is_maskable) - named_count
    other = ((target - named_sum) / other_count.clamp(min=1)).clamp(0.0, 1.0)
    other = torch.where(other_count > 0, other, 0.0)
    # what the clamped rate leaves over goes to the named tokens, by scaling down or by filling up
    left = target - other * other_count
    shrink = torch.where(named_sum > 0, left / named_sum.clamp(min=1e-12), 0.0)
    room = named_count - named_sum
    grow = torch.where(room > 0, (left - named_sum) / room.clamp(min=1e-12), 0.0)
    is_short = left > named_sum
    adjusted = torch.where(
        is_short[sequence],
        wanted + (1 - wanted) * grow.clamp(0.0, 1.0)[sequence],
        wanted * shrink.clamp(0.0, 1.0)[sequence],
    )
    return torch.where(named, adjusted, other[sequence]) * is_maskable
