"""A matcher of sequences and structures that knows which letters stand at which angles, and no more."""

import numpy as np

from protlm.errors import DataError
from protlm.evaluation.retrieval_pairs import Pairs
from protlm.evaluation.secondary_shares import backbone_angles
from protlm.types.alphabet import STANDARD
from protlm.types.structure import Backbone

ANGLES = "letters by angles"
_STEP = 30
"""Degrees of a bin of φ and of ψ."""
_PRIOR = 20.0
"""Residues by which each bin leans on the letters of all."""
_LEAST_TRAINING = 30
_DECIMALS = 9
_LETTERS = "".join(sorted(STANDARD))
_SIDE = 360 // _STEP


class AngleMatcher:
    """Tells letters from φ and ψ by counting them in bins of 30° over training pairs.

    A pair scores by the sum over its residues of log p(letter | bin) − log p(letter). Residue i of the
    sequence is laid on residue i of the structure, as far as the shorter one goes; residues without both
    angles and letters that are not among the 20 do not count. Glycine stands where hardly another letter
    does, so that this alone tells most windows of one length apart.

    Parameters
    ----------
    training
        Pairs to count in.

    Raises
    ------
    DataError
        If there are fewer than 30 pairs.
    """

    def __init__(self, training: Pairs) -> None:
        if len(training) < _LEAST_TRAINING:
            raise DataError(
                f"{len(training)} training pairs are too few to tell letters from angles",
                hint=f"expected at least {_LEAST_TRAINING}",
            )
        counts = np.zeros((_SIDE**2 + 1, len(_LETTERS) + 1))
        for backbone in training.backbones:
            np.add.at(counts, (_bins(backbone), _letters(backbone.residues)), 1)
        counts = counts[:-1, :-1]
        usual = (counts.sum(axis=0) + 1) / (counts.sum() + len(_LETTERS))
        shares = (counts + _PRIOR * usual) / (counts.sum(axis=1, keepdims=True) + _PRIOR)
        self._gain = np.pad(np.log(shares / usual), ((0, 1), (0, 1)))

    def scores(self, pairs: Pairs) -> np.ndarray:
        """Give the log ratio, float64 ``[sequences, structures]``.

        Parameters
        ----------
        pairs
            That it was not fitted on.
        """
        letters = np.full((len(pairs), int(pairs.lengths.max(initial=0))), len(_LETTERS))
        for row, backbone in enumerate(pairs.backbones):
            letters[row, : len(backbone)] = _letters(backbone.residues)
        found = [
            self._gain[_bins(backbone), letters[:, : len(backbone)]].sum(axis=1)
            for backbone in pairs.backbones
        ]
        return np.round(np.stack(found, axis=1), _DECIMALS)


def _bins(backbone: Backbone) -> np.ndarray:
    """Give the bin of each residue; the last one where an angle is missing."""
    angles = np.stack(backbone_angles(backbone))
    is_known = np.isfinite(angles).all(axis=0)
    places = np.clip(np.floor((np.nan_to_num(angles) + 180) / _STEP), 0, _SIDE - 1).astype(np.int64)
    return np.where(is_known, places[0] * _SIDE + places[1], _SIDE**2)


def _letters(residues: str) -> np.ndarray:
    """Give the place of each letter among the 20; 20 for others."""
    return np.array([_LETTERS.find(letter) % (len(_LETTERS) + 1) for letter in residues], dtype=np.int64)
