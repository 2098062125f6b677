"""Models of an alignment alone: they score variants without a language model, as plans and as baselines."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from protlm.data.alignment import Alignment
from protlm.registry import Registry
from protlm.scoring.potts import PottsModel
from protlm.scoring.site_independent import SiteIndependent
from protlm.types.variant import Variant

SITES, SITES_BLOSUM62, POTTS = "site_independent", "site_independent_blosum62", "potts"
family_models = Registry(
    "model of an alignment",
    {
        SITES: "protlm.scoring.family_models:fit_sites",
        SITES_BLOSUM62: "protlm.scoring.family_models:fit_sites_blosum62",
        POTTS: "protlm.scoring.family_models:fit_potts",
    },
)
"""To add one: a function of an alignment and what to say progress with, and a line here."""
QUICK = (SITES, SITES_BLOSUM62)
"""Those that take a second, and stand beside every model where an alignment is given."""

Say = Callable[[str], None]


class FamilyModel(Protocol):
    """What scores variants of the wild type that an alignment is laid along."""

    alignment: Alignment

    def scores(self, variants: Sequence[Variant]) -> np.ndarray:
        """Give one score per variant, float64 ``[n]``; NaN where a site is not covered."""
        ...


def fit_sites(alignment: Alignment, _: Say) -> SiteIndependent:
    """Fit residue frequencies by column, each residue counted half a time more.

    Parameters
    ----------
    alignment
        Of the family.
    """
    return SiteIndependent.fit(alignment, prior="uniform")


def fit_sites_blosum62(alignment: Alignment, _: Say) -> SiteIndependent:
    """Fit residue frequencies by column, with what BLOSUM62 expects beside the residues seen.

    Parameters
    ----------
    alignment
        Of the family.
    """
    return SiteIndependent.fit(alignment, prior="blosum62")


def fit_potts(alignment: Alignment, say: Say) -> PottsModel:
    """Fit a pairwise model by pseudo-likelihood; minutes for hundreds of columns.

    Parameters
    ----------
    alignment
        Of the family.
    say
        Told after every tenth step.
    """

    def tell(iteration: int, objective: float) -> None:
        if iteration % 10 == 0:
            say(f"potts: step {iteration}, penalised negative log-pseudo-likelihood {objective:,.1f}")

    columns = len(alignment.index)
    say(f"potts: fitting {columns} columns, {len(alignment.rows):,} rows; {_seconds(alignment):,.0f} s or so")
    fitted = PottsModel.fit(alignment, on_iteration=tell)
    say(
        f"potts: {'converged' if fitted.is_converged else 'NOT converged'}: {len(fitted.objective) - 1} steps"
    )
    return fitted


def _seconds(alignment: Alignment) -> float:
    """Guess the time of some 30 steps at 60 GFLOP/s, a laptop's speed in float32."""
    states = 21 * len(alignment.index)
    return 30 * 4 * len(alignment.rows) * states**2 / 60e9


@dataclass
class FittedModels:
    """Fits each model of an alignment once, also where several wild types share its columns."""

    say: Say
    _fitted: dict[tuple[str, bytes], FamilyModel] = field(default_factory=dict)

    def get(self, name: str, alignment: Alignment) -> FamilyModel:
        """Fit, or take what was fitted to the same rows.

        Parameters
        ----------
        name
            In `family_models`.
        alignment
            Laid along the wild type whose variants are to be scored.
        """
        key = name, _content(alignment)
        if key not in self._fitted:
            self._fitted[key] = family_models.get(name)(alignment, self.say)
        return replace(self._fitted[key], alignment=alignment)  # type: ignore[type-var]

    def scores(self, name: str, alignment: Alignment, variants: Sequence[Variant]) -> np.ndarray:
        """Score variants under a model, float64 ``[n]``.

        Parameters
        ----------
        name, alignment
            As for `get`.
        variants
            Of its wild type. NaN for insertions and deletions, and where a site is not covered.
        """
        scores = np.full(len(variants), np.nan)
        rows = [row for row, variant in enumerate(variants) if not variant.is_indel]
        scores[rows] = self.get(name, alignment).scores([variants[row] for row in rows])
        return scores


def _content(alignment: Alignment) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(alignment.rows.shape).encode())
    digest.update(alignment.rows.tobytes())
    digest.update(alignment.weights.tobytes())
    return digest.digest()
