"""Sequences beside their structures, residue by residue, and windows of both."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protlm.data.hashing import combine, uniform
from protlm.errors import DataError
from protlm.types.record import Chain, Record
from protlm.types.structure import Backbone

_CROP_STREAM = 401
DIGEST = "sequence_digest"
"""Column of a table of pairs that tells which sequence was read."""
LEAST_RESOLVED = 0.5
"""Share of a window that must be resolved."""


@dataclass(frozen=True)
class StructurePairs:
    """Sequences with their structures: record i and backbone i are one protein, residue by residue."""

    records: Sequence[Record]
    backbones: Sequence[Backbone]
    clusters: np.ndarray
    """Items of one number are alike, int64."""
    keys: np.ndarray
    """Content key of each, uint64, from which the order is drawn."""
    sequence_vectors: np.ndarray | None = None
    """Pooled states of a frozen sequence tower, float32 ``[n, segments, w]``."""
    structure_vectors: np.ndarray | None = None
    """Pooled states of a frozen structure tower, float32 ``[n, segments, w]``."""

    def __len__(self) -> int:
        return len(self.records)

    def take(self, rows: np.ndarray) -> "StructurePairs":
        """Give some of the pairs.

        Parameters
        ----------
        rows
            0-based.
        """

        def some(vectors: np.ndarray | None) -> np.ndarray | None:
            return None if vectors is None else vectors[rows]

        return StructurePairs(
            [self.records[row] for row in rows.tolist()],
            [self.backbones[row] for row in rows.tolist()],
            self.clusters[rows],
            self.keys[rows],
            some(self.sequence_vectors),
            some(self.structure_vectors),
        )

    def pair(self, row: int, crop_residues: int | None, *, seed: int, epoch: int) -> tuple[Record, Backbone]:
        """Give one pair, both views cut to the same window.

        Parameters
        ----------
        row
            0-based.
        crop_residues
            Of the window; what is not longer stays whole, as does all with `None`.
        seed, epoch
            Of the window's place, which depends on nothing else but the pair's content.

        Raises
        ------
        DataError
            If no window is resolved enough; see `window_starts`.
        """
        record, backbone = self.records[row], self.backbones[row]
        if crop_residues is None or len(backbone) <= crop_residues:
            return record, backbone
        starts = window_starts(backbone, crop_residues)
        if not len(starts):
            raise DataError(
                f"'{backbone.id}' has no window of {crop_residues} residues with half of them resolved",
                hint="leave it out",
            )
        drawn = uniform(combine(seed, _CROP_STREAM, epoch, self.keys[row : row + 1]))
        return crop_pair(record, backbone, int(starts[int(drawn[0] * len(starts))]), crop_residues)


def window_starts(backbone: Backbone, residues: int) -> np.ndarray:
    """Give where windows begin of which `LEAST_RESOLVED` is resolved, 0-based, int64.

    Parameters
    ----------
    backbone
        Of at least so many residues.
    residues
        Of a window.
    """
    counts = np.cumsum([0, *backbone.is_resolved])
    return np.flatnonzero(counts[residues:] - counts[:-residues] >= LEAST_RESOLVED * residues)


def sequence_digest(residues: str) -> str:
    """Give a short hash of a sequence, the same everywhere and always; 32 hexadecimal digits.

    Parameters
    ----------
    residues
        Of all chains, with ``/`` between them.

    Examples
    --------
    >>> sequence_digest("MK/V")
    'bed31b513a346ec69b74470bd4ed02a1'
    """
    return hashlib.sha256(residues.encode()).hexdigest()[:32]


def crop_pair(record: Record, backbone: Backbone, start: int, residues: int) -> tuple[Record, Backbone]:
    """Cut a window out of a sequence and of its structure, the same residues of both.

    Parameters
    ----------
    record
        Its chains laid end to end are the residues of the backbone.
    backbone
        Of as many residues.
    start
        First residue of the window, 0-based.
    residues
        Of the window.
    """
    kept, chains, begin = backbone.crop(np.arange(start, start + residues)), [], 0
    for chain in record.chains:
        own = chain.residues[max(0, start - begin) : max(0, start + residues - begin)]
        if own:
            chains.append(Chain(own, role=chain.role))
        begin += len(chain)
    return Record(record.id, tuple(chains), group=record.group), kept


def record_of(backbone: Backbone) -> Record:
    """Make a record of the chains of a backbone.

    Parameters
    ----------
    backbone
        Any; unresolved residues are in the sequence.
    """
    index = backbone.chain_index
    chains = [
        Chain("".join(backbone.residues[place] for place in np.flatnonzero(index == number)))
        for number in range(len(backbone.chain_ids))
    ]
    return Record(backbone.id, tuple(chains))
