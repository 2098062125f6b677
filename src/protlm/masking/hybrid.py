"""A mix of policies: one of several for each record and epoch."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.errors import ConfigError
from protlm.masking import maskings
from protlm.masking.policies import RegionMasking, UniformMasking
from protlm.masking.selection import CHOICE, Draw, MaskingPolicy, Selection, per_token, record_numbers
from protlm.schedules import Schedule, ScheduledWeight, value_at
from protlm.types.batch import Batch


class HybridPart(BaseConfig):
    """One policy of a mix."""

    weight: ScheduledWeight
    """How often, in proportion to the weights of the others."""
    masking: Annotated[AnyConfig, one_of(maskings, "uniform")]
    """The policy."""


CDR_ONLY = RegionMasking.Config(
    region_rates={"CDR1": 0.5, "CDR2": 0.5, "CDR3": 0.5}, mean_rate=None, other_rate=0.0
)


class HybridMasking:
    """Treat each record, in each epoch, by one of several policies, drawn with stated weights.

    The choice is a hash of seed, epoch and record, so it does not depend on the batch; a residue's
    expected rate is the weighted mean of those of the policies. By default it is the hybrid of
    AbCDR-ESM: half of the residues in the three CDRs and nothing else in 80 % of records, 15 % of the
    whole chain in the others.

    Parameters
    ----------
    policies
        The policies.
    weights
        As many numbers of at least 0, in proportion; schedules are allowed.

    References
    ----------
    Talaei et al. 2026, AbCDR-ESM, doi:10.1101/2025.10.31.685149.
    """

    class Config(BaseConfig):
        """Settings of hybrid masking."""

        kind: Literal["hybrid"] = "hybrid"
        policies: tuple[HybridPart, ...] = Field(
            default=(
                HybridPart(weight=0.8, masking=CDR_ONLY),
                HybridPart(weight=0.2, masking=UniformMasking.Config(mean_rate=0.15)),
            ),
            min_length=1,
        )
        """Each a weight and a policy: ``{weight: 0.8, masking: {kind: …}}``."""

        @model_validator(mode="after")
        def _some_weight(self) -> Self:
            if not any(isinstance(part.weight, Schedule) or part.weight > 0 for part in self.policies):
                raise ValueError("at least one policy needs a weight above 0")
            return self

        def build(self) -> "HybridMasking":
            """Make the policy."""
            return HybridMasking(
                [part.masking.build() for part in self.policies],  # type: ignore[attr-defined]
                weights=[part.weight for part in self.policies],
            )

    def __init__(self, policies: Sequence[MaskingPolicy], *, weights: Sequence[float | Schedule]) -> None:
        self.policies, self.weights = list(policies), list(weights)

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probability of each token under the policy chosen for its record.

        Parameters
        ----------
        batch
            What the policies need.
        draw
            Which choice, and the progress of schedules.

        Notes
        -----
        Each policy sees the whole batch, so that one that needs a track says so from the start.
        """
        chosen = self._choose(batch, draw)
        own = torch.arange(len(batch.tokens))
        probabilities = torch.zeros(len(batch.tokens), dtype=torch.float64)
        draw_from, fell_back = own.clone(), torch.zeros(batch.num_sequences, dtype=torch.bool)
        for number, policy in enumerate(self.policies):
            selection = policy(batch, draw.inside(number))
            is_its = torch.from_numpy(chosen == number)
            of_token = per_token(is_its, batch)
            probabilities = torch.where(of_token, selection.probabilities, probabilities)
            if selection.draw_from is not None:
                draw_from = torch.where(of_token, selection.draw_from, draw_from)
            if selection.fell_back is not None:
                fell_back |= is_its & selection.fell_back
        shares = not bool((draw_from == own).all())
        return Selection(probabilities, draw_from=draw_from if shares else None, fell_back=fell_back)

    def _choose(self, batch: Batch, draw: Draw) -> np.ndarray:
        weights = np.array([value_at(weight, draw.progress) for weight in self.weights])
        if not weights.sum() > 0:
            raise ConfigError(
                f"no policy of the mix has a weight above 0 at training progress {draw.progress:g}",
                hint="give one of them a weight that stays above 0",
            )
        stops = np.cumsum(weights) / weights.sum()
        return np.searchsorted(stops[:-1], record_numbers(batch, draw, CHOICE), side="right")
