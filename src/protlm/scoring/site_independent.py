"""Variant effects from the residue frequencies of each alignment column: the simplest model of a family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from protlm.data.alignment import Alignment
from protlm.data.sequence_weights import GAP
from protlm.errors import ConfigError
from protlm.types.alphabet import STANDARD
from protlm.types.variant import Variant

Prior = Literal["uniform", "background", "blosum62"]
"""What is expected of a residue before the column is seen."""

_BLOSUM62 = """
   A  C  D  E  F  G  H  I  K  L  M  N  P  Q  R  S  T  V  W  Y
A  4  0 -2 -1 -2  0 -2 -1 -1 -1 -1 -2 -1 -1 -1  1  0  0 -3 -2
C  0  9 -3 -4 -2 -3 -3 -1 -3 -1 -1 -3 -3 -3 -3 -1 -1 -1 -2 -2
D -2 -3  6  2 -3 -1 -1 -3 -1 -4 -3  1 -1  0 -2  0 -1 -3 -4 -3
E -1 -4  2  5 -3 -2  0 -3  1 -3 -2  0 -1  2  0  0 -1 -2 -3 -2
F -2 -2 -3 -3  6 -3 -1  0 -3  0  0 -3 -4 -3 -3 -2 -2 -1  1  3
G  0 -3 -1 -2 -3  6 -2 -4 -2 -4 -3  0 -2 -2 -2  0 -2 -3 -2 -3
H -2 -3 -1  0 -1 -2  8 -3 -1 -3 -2  1 -2  0  0 -1 -2 -3 -2  2
I -1 -1 -3 -3  0 -4 -3  4 -3  2  1 -3 -3 -3 -3 -2 -1  3 -3 -1
K -1 -3 -1  1 -3 -2 -1 -3  5 -2 -1  0 -1  1  2  0 -1 -2 -3 -2
L -1 -1 -4 -3  0 -4 -3  2 -2  4  2 -3 -3 -2 -2 -2 -1  1 -2 -1
M -1 -1 -3 -2  0 -3 -2  1 -1  2  5 -2 -2  0 -1 -1 -1  1 -1 -1
N -2 -3  1  0 -3  0  1 -3  0 -3 -2  6 -2  0  0  1  0 -3 -4 -2
P -1 -3 -1 -1 -4 -2 -2 -3 -1 -3 -2 -2  7 -1 -2 -1 -1 -2 -4 -3
Q -1 -3  0  2 -3 -2  0 -3  1 -2  0  0 -1  5  1  0 -1 -2 -2 -1
R -1 -3 -2  0 -3 -2  0 -3  2 -2 -1  0 -2  1  5 -1 -1 -3 -3 -2
S  1 -1  0  0 -2  0 -1 -2  0 -2 -1  1 -1  0 -1  4  1 -2 -3 -2
T  0 -1 -1 -1 -2 -2 -2 -1 -1 -1 -1  0 -1 -1 -1  1  5  0 -2 -2
V  0 -1 -3 -2 -1 -3 -3  3 -2  1  1 -3 -2 -2 -3 -2  0  4 -3 -1
W -3 -2 -4 -3  1 -2 -2 -3 -3 -2 -1 -4 -4 -2 -3 -3 -2 -3 11  2
Y -2 -2 -3 -2  3 -3  2 -1 -2 -1 -1 -2 -3 -1 -2 -2 -2 -1  2  7
"""

BLOSUM62 = np.array(
    [[int(score) for score in line.split()[1:]] for line in _BLOSUM62.strip().splitlines()[1:]]
)
"""Scores in half-bits in the order of `STANDARD`, int64 ``[20, 20]``.

Henikoff & Henikoff 1992, PNAS 89:10915.
"""

# fmt: off
BLOSUM62_BACKGROUND = np.array([
    0.074, 0.025, 0.054, 0.054, 0.047, 0.074, 0.026, 0.068, 0.058, 0.099,
    0.025, 0.045, 0.039, 0.034, 0.052, 0.057, 0.051, 0.073, 0.013, 0.032,
])
# fmt: on
"""Residue frequencies of the blocks behind BLOSUM62, in the order of `STANDARD`; they sum to 1."""


def substitution_probabilities() -> np.ndarray:
    r"""Give P(a | b) that BLOSUM62 implies: the residue a where a related sequence has b.

    .. math:: P(a \mid b) = p_a e^{\lambda s_{ab}} / \sum_c p_c e^{\lambda s_{cb}}

    with the background p and the λ that makes :math:`\sum_{ab} p_a p_b e^{\lambda s_{ab}}` 1 (0.321;
    for half-bits before rounding it would be 0.347).

    Returns
    -------
    numpy.ndarray
        float64 ``[20, 20]``, rows a and columns b; columns sum to 1.
    """
    low, high = 0.1, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        total = BLOSUM62_BACKGROUND @ np.exp(middle * BLOSUM62) @ BLOSUM62_BACKGROUND
        low, high = (middle, high) if total < 1 else (low, middle)
    joint = BLOSUM62_BACKGROUND[:, None] * np.exp(low * BLOSUM62)
    return joint / joint.sum(axis=0)


@dataclass(frozen=True)
class SiteIndependent:
    r"""Log-odds of the mutant and the wild-type residue in their column.

    .. math:: s = \sum_{i \in M} \log f_i(x_i^{mt}) - \log f_i(x_i^{wt})

    With weighted counts :math:`c_i(a) = \sum_n w_n [x_{ni} = a]` and :math:`n_i = \sum_a c_i(a)` (gaps are
    left out), every prior is a Dirichlet of total strength β:

    .. math:: f_i(a) = (c_i(a) + \beta \pi_i(a)) / (n_i + \beta)

    ``"uniform"``: :math:`\pi = 1/20`; with β = 10 it is Jeffreys' prior, half a sequence per residue.
    ``"background"``: π is the composition of the whole alignment.
    ``"blosum62"``: :math:`\pi_i(a) = \sum_b (c_i(b) / n_i) P(a \mid b)`, what BLOSUM62 expects beside the
    residues that the column shows. Residues that the family never shows are then ordered by their likeness
    to those that it does show, which is all there is to go by in a shallow alignment, and the more
    sequences there are, the less it says.

    References
    ----------
    Altschul et al. 1997, Nucleic Acids Res. 25:3389, equations 4 and 5, for the BLOSUM62 pseudo-counts and
    β = 10; Hopf et al. 2017, doi:10.1038/nbt.3769, for the independent model beside the pairwise one.
    DISCREPANCY: PSI-BLAST weighs the column's own frequencies by the number of different residues less 1,
    here they weigh :math:`n_i`. The former is at most 19: BLOSUM62 would keep a third of the say in an
    alignment of thousands of sequences.
    """

    alignment: Alignment
    log_frequencies: np.ndarray
    """Natural logarithms of f, float64 ``[columns, 20]``."""

    @classmethod
    def fit(
        cls, alignment: Alignment, *, prior: Prior = "blosum62", strength: float = 10.0
    ) -> "SiteIndependent":
        """Count.

        Parameters
        ----------
        alignment
            With at least one residue in each column.
        prior
            Which pseudo-counts.
        strength
            β above, in effective sequences.

        Raises
        ------
        ConfigError
            If `strength` is not above 0, which would give residues that a column never shows a score
            of minus infinity.
        """
        if not strength > 0:
            raise ConfigError(f"strength is {strength}; expected above 0", hint="10 is usual")
        counts = weighted_counts(alignment)[:, :GAP]
        totals = counts.sum(axis=1, keepdims=True)
        if prior == "uniform":
            expected = np.full(GAP, 1 / GAP)
        elif prior == "background":
            composition = counts.sum(axis=0) + BLOSUM62_BACKGROUND
            expected = composition / composition.sum()
        else:
            expected = (counts / totals) @ substitution_probabilities().T
        frequencies = (counts + strength * expected) / (totals + strength)
        return cls(alignment, np.log(frequencies))

    @property
    def is_covered(self) -> np.ndarray:
        """Whether substitutions of each residue of the wild type have a score, bool ``[residues]``."""
        return self.alignment.is_covered

    def sitewise(self) -> np.ndarray:
        """Give the score of every single substitution, float64 ``[columns, 20]``; 0 for the wild type's."""
        rows = np.arange(len(self.alignment.index))
        wild = self.log_frequencies[rows, self.alignment.wild_type_states]
        return self.log_frequencies - wild[:, None]

    def scores(self, variants: Sequence[Variant]) -> np.ndarray:
        """Give one score per variant, float64 ``[n]``; higher is fitter, 0 for the wild type.

        Parameters
        ----------
        variants
            Parsed against the alignment's wild type. NaN where a site is not covered.

        Raises
        ------
        DataError
            If a variant belongs to another wild type.
        """
        sites = self.alignment.locate(variants)
        return sites.sum(self.sitewise()[sites.column, sites.mutant])


def weighted_counts(alignment: Alignment) -> np.ndarray:
    """Add up the weights of the rows that show each state in each column, float64 ``[columns, 21]``.

    Parameters
    ----------
    alignment
        Its gaps are the last state.
    """
    states = len(STANDARD) + 1
    flat = alignment.rows + states * np.arange(len(alignment.index), dtype=np.int64)
    weights = np.broadcast_to(alignment.weights[:, None], flat.shape)
    counts = np.bincount(flat.ravel(), weights=weights.ravel(), minlength=states * len(alignment.index))
    return counts.reshape(-1, states)
