"""Matchers of sequences and structures that know no protein: by length, and by composition."""

import numpy as np

from protlm.errors import DataError
from protlm.evaluation.retrieval_pairs import Pairs
from protlm.evaluation.secondary_shares import secondary_shares
from protlm.types.alphabet import STANDARD

LENGTH, WHOLE_LENGTH, COMPOSITION = "length", "length, uncropped", "composition"
_RIDGE = 1.0
_LEAST_TRAINING = 30
_DECIMALS = 9


def length_scores(pairs: Pairs) -> np.ndarray:
    """Give minus the difference in length, float64 ``[sequences, structures]``.

    A sequence is as long as the construct, a structure as its resolved residues: what either tower sees.

    Parameters
    ----------
    pairs
        Whole ones; cropped ones are all of one length.
    """
    return -np.abs(pairs.lengths[:, None] - pairs.resolved[None]).astype(np.float64)


class CompositionMatcher:
    """Tells secondary structure from composition: ridge regression, fitted on training pairs.

    Shares of the 20 amino acids of the sequence give the expected shares of helix and strand. A pair scores
    by how much more likely the structure's shares are about those than about the mean of all structures,
    each under a normal distribution whose covariance is that of the residuals, or of all: without the second
    part a middling structure would suit every sequence. The third share is one minus these two.

    Parameters
    ----------
    training
        Pairs to fit on, cropped as those that are judged.

    Raises
    ------
    DataError
        If there are fewer than 30.
    """

    def __init__(self, training: Pairs) -> None:
        shares = _secondary(training)
        known = np.isfinite(shares).all(axis=1)
        if known.sum() < _LEAST_TRAINING:
            raise DataError(
                f"{int(known.sum())} training pairs are too few to tell secondary structure from composition",
                hint=f"expected at least {_LEAST_TRAINING}",
            )
        inputs, shares = composition_of(training)[known], shares[known]
        self._mean, self._spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
        self._centre = shares.mean(axis=0)
        scaled = (inputs - self._mean) / self._spread
        gram = scaled.T @ scaled + _RIDGE * np.eye(scaled.shape[1])
        self._weights = np.linalg.solve(gram, scaled.T @ (shares - self._centre))
        residuals = shares - self._expect(inputs)
        self._precision, self._prior = _precision(residuals), _precision(shares)

    def _expect(self, inputs: np.ndarray) -> np.ndarray:
        return self._centre + ((inputs - self._mean) / self._spread) @ self._weights

    def scores(self, pairs: Pairs) -> np.ndarray:
        """Give the log ratio of both likelihoods, up to a constant, float64 ``[sequences, structures]``.

        Parameters
        ----------
        pairs
            That it was not fitted on.
        """
        found = np.nan_to_num(_secondary(pairs), nan=0.0)
        apart = self._expect(composition_of(pairs))[:, None] - found[None]
        usual = found - self._centre
        distance = np.einsum("ijk,kl,ijl->ij", apart, self._precision, apart)
        return np.round(np.einsum("jk,kl,jl->j", usual, self._prior, usual)[None] - distance, _DECIMALS) / 2


def composition_of(pairs: Pairs) -> np.ndarray:
    """Give the share of each of the 20 amino acids, in the order of their letters, float64 ``[pairs, 20]``.

    Parameters
    ----------
    pairs
        Other letters count as residues of none.
    """
    letters = sorted(STANDARD)
    return np.array(
        [
            [backbone.residues.count(letter) / len(backbone) for letter in letters]
            for backbone in pairs.backbones
        ]
    ).reshape(len(pairs), len(letters))


def _secondary(pairs: Pairs) -> np.ndarray:
    return np.stack([secondary_shares(backbone)[:2] for backbone in pairs.backbones])


def _precision(values: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.cov(values.T) + 1e-6 * np.eye(values.shape[1]))
