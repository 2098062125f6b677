"""Pairs of a sequence and its structure, counted once each, whole or cropped to one length."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protlm.data.clusters import cluster_sequences
from protlm.data.hashing import combine, uniform
from protlm.data.structure_pairs import LEAST_RESOLVED, crop_pair, record_of
from protlm.errors import DataError
from protlm.types.record import Record
from protlm.types.structure import Backbone

_CROP_STREAM = 211


@dataclass(frozen=True)
class Pairs:
    """Sequences with their structures: record i and backbone i are one protein, residue by residue."""

    records: Sequence[Record]
    """The sequence view: all residues of the construct, resolved or not."""
    backbones: Sequence[Backbone]
    """The structure view."""
    clusters: np.ndarray
    """Label of each, str ``[pairs]``."""

    def __len__(self) -> int:
        return len(self.backbones)

    def take(self, rows: np.ndarray) -> "Pairs":
        """Keep some.

        Parameters
        ----------
        rows
            0-based.
        """
        kept = rows.tolist()
        return Pairs(
            [self.records[row] for row in kept], [self.backbones[row] for row in kept], self.clusters[rows]
        )

    @property
    def ids(self) -> list[str]:
        """Names, as in the structures."""
        return [backbone.id for backbone in self.backbones]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Residues of the construct, which a sequence tower sees, int64 ``[pairs]``."""
        return np.array([len(backbone) for backbone in self.backbones], dtype=np.int64)

    @cached_property
    def resolved(self) -> np.ndarray:
        """Residues with N, CA and C, which a structure tower sees, int64 ``[pairs]``."""
        return np.array([int(backbone.is_resolved.sum()) for backbone in self.backbones], dtype=np.int64)

    @cached_property
    def sequences(self) -> list[str]:
        """Residues of each, with ``/`` between chains."""
        return ["/".join(chain.residues for chain in record.chains) for record in self.records]

    @cached_property
    def sequence_codes(self) -> np.ndarray:
        """Equal where the sequences are, int64 ``[pairs]``."""
        return _codes(self.sequences)

    @cached_property
    def structure_codes(self) -> np.ndarray:
        """Equal where the coordinates are, int64 ``[pairs]``."""
        return _codes([backbone.coordinates.tobytes() for backbone in self.backbones])

    @cached_property
    def keys(self) -> np.ndarray:
        """A number of each that depends on nothing but its id and residues, uint64 ``[pairs]``."""
        texts = [f"{backbone.id}\0{backbone.residues}".encode() for backbone in self.backbones]
        hashes = [int.from_bytes(hashlib.sha256(text).digest()[:8]) for text in texts]
        return np.array(hashes, dtype=np.uint64)


def pairs_of(backbones: Sequence[Backbone], clusters: Sequence[str]) -> Pairs:
    """Take the residues of each backbone as its sequence, chain by chain.

    Parameters
    ----------
    backbones
        Any.
    clusters
        Label of each.
    """
    return Pairs([record_of(backbone) for backbone in backbones], backbones, np.array(clusters, dtype=str))


def distinct_rows(pairs: Pairs, identity: float | None = None) -> np.ndarray:
    """Give the first pair of each distinct sequence, 0-based.

    Parameters
    ----------
    pairs
        In the order in which the first counts.
    identity
        Count alike sequences once too: clusters of MMseqs2 at this identity, in (0, 1]; only identical ones
        by default. Chains of a pair are laid end to end for it.
    """
    codes = pairs.sequence_codes
    if identity is not None:
        codes = cluster_sequences([backbone.residues for backbone in pairs.backbones], identity=identity)
    return np.sort(np.unique(codes, return_index=True)[1])


def crop_pairs(pairs: Pairs, size: int, *, seed: int = 0) -> tuple[Pairs, np.ndarray, dict[str, int]]:
    """Cut all pairs to windows of one length, so that no length is left to go by.

    A window is a run of residues of the construct in the longest chain; its start is a hash of the seed, the
    id and the residues, and does not depend on what else is in the set.

    Parameters
    ----------
    pairs
        Any.
    size
        Residues of a window, at least 1.
    seed
        Of the starts.

    Returns
    -------
    tuple
        The windows, the rows they were cut from, and how many were left out, by reason.

    Raises
    ------
    DataError
        If fewer than two pairs are left.
    """
    draws = uniform(combine(seed, _CROP_STREAM, pairs.keys))
    records, windows, rows = [], [], []
    left_out = {"short": 0, "unresolved": 0}
    for row, (backbone, draw) in enumerate(zip(pairs.backbones, draws.tolist(), strict=True)):
        counts = np.bincount(backbone.chain_index)
        start, length = int(np.cumsum(counts)[counts.argmax()] - counts.max()), int(counts.max())
        if length < size:
            left_out["short"] += 1
            continue
        start += int(draw * (length - size + 1))
        record, window = crop_pair(pairs.records[row], backbone, start, size)
        if window.is_resolved.sum() < LEAST_RESOLVED * size:
            left_out["unresolved"] += 1
            continue
        records.append(record)
        windows.append(window)
        rows.append(row)
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} of {len(pairs):,} pairs have {size} residues in a chain, at least half resolved",
            hint="give a smaller --crop",
        )
    kept = np.array(rows, dtype=np.int64)
    return Pairs(records, windows, pairs.clusters[kept]), kept, left_out


def _codes(values: Sequence[object]) -> np.ndarray:
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
