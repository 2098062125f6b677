"""Matchers of sequences and structures that know no protein: by length, and by composition."""

import numpy as np

from protlm.errors import DataError
from protlm.evaluation.retrieval_pairs import Pairs
from protlm.evaluation.secondary_shares import secondary_shares, segment_numbers
from protlm.types.alphabet import STANDARD

LENGTH, WHOLE_LENGTH = "length", "length, uncropped"
COMPOSITIONS = {"composition": 1, "composition in 8 segments": 8, "composition in 32 segments": 32}
"""By name, how many equal runs of residues are looked at apart."""
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

    Shares of the 20 amino acids of a segment of the sequence, and of the whole, give the expected shares of
    helix and strand in that segment of the structure. A pair scores by how much more likely the structure's
    shares are about those than about the mean of all structures, each under a normal distribution whose
    covariance is that of the residuals, or of all: without the second part a middling structure would suit
    every sequence. The third share is one minus these two. Segments add up as if they were independent.

    Parameters
    ----------
    training
        Pairs to fit on, cropped as those that are judged.
    segments
        Equal runs of residues, all under one regression; 1 for the molecule as a whole.

    Raises
    ------
    DataError
        If there are fewer than 30 pairs.
    """

    def __init__(self, training: Pairs, segments: int = 1) -> None:
        self.segments = segments
        shares = _secondary(training, segments)
        is_known = np.isfinite(shares).all(axis=2)
        if (num_known := int(is_known.any(axis=-1).sum())) < _LEAST_TRAINING:
            raise DataError(
                f"{num_known} training pairs are too few to tell secondary structure from composition",
                hint=f"expected at least {_LEAST_TRAINING}",
            )
        inputs, known = _inputs(training, segments)[is_known], shares[is_known]
        self._mean, self._spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
        self._centre = known.mean(axis=0)
        scaled = (inputs - self._mean) / self._spread
        gram = scaled.T @ scaled + _RIDGE * np.eye(scaled.shape[1])
        self._weights = np.linalg.solve(gram, scaled.T @ (known - self._centre))
        residuals = known - self._expect(inputs)
        self._precision, self._prior = _precision(residuals), _precision(known)

    def _expect(self, inputs: np.ndarray) -> np.ndarray:
        return self._centre + ((inputs - self._mean) / self._spread) @ self._weights

    def scores(self, pairs: Pairs) -> np.ndarray:
        """Give the log ratio of both likelihoods, up to a constant, float64 ``[sequences, structures]``.

        Parameters
        ----------
        pairs
            That it was not fitted on. Segments of a structure without a resolved residue do not count.
        """
        inputs, shares = _inputs(pairs, self.segments), _secondary(pairs, self.segments)
        total = np.zeros((len(pairs), len(pairs)))
        for segment in range(self.segments):
            found = shares[:, segment]
            apart = self._expect(inputs[:, segment])[:, None] - found[None]
            usual = found - self._centre
            distance = np.einsum("ijk,kl,ijl->ij", apart, self._precision, apart)
            gain = np.einsum("jk,kl,jl->j", usual, self._prior, usual)[None] - distance
            total += np.nan_to_num(gain, nan=0.0)
        return np.round(total, _DECIMALS) / 2


def composition_of(pairs: Pairs, segments: int = 1) -> np.ndarray:
    """Give the share of each amino acid, in the order of their letters, float64 ``[pairs, segments, 20]``.

    Parameters
    ----------
    pairs
        Other letters count as residues of none.
    segments
        Equal runs of residues.
    """
    letters = np.frombuffer("".join(sorted(STANDARD)).encode(), dtype=np.uint8)
    found = np.zeros((len(pairs), segments, len(letters)))
    for row, backbone in enumerate(pairs.backbones):
        residues = np.frombuffer(backbone.residues.encode(), dtype=np.uint8)
        segment = segment_numbers(len(residues), segments)
        np.add.at(found[row], segment, residues[:, None] == letters)
        found[row] /= np.maximum(np.bincount(segment, minlength=segments), 1)[:, None]
    return found


def _inputs(pairs: Pairs, segments: int) -> np.ndarray:
    """Give the composition of each segment and, of several, that of the whole beside it."""
    own = composition_of(pairs, segments)
    if segments == 1:
        return own
    return np.concatenate([own, np.broadcast_to(composition_of(pairs), own.shape)], axis=2)


def _secondary(pairs: Pairs, segments: int) -> np.ndarray:
    return np.stack([secondary_shares(backbone, segments)[:, :2] for backbone in pairs.backbones])


def _precision(values: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.cov(values.T) + 1e-6 * np.eye(values.shape[1]))
