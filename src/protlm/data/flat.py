"""Records laid end to end as arrays: what a corpus gives and a batch is made of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protlm.types.record import TRACK_DTYPES, Record


@dataclass(frozen=True)
class FlatRecords:
    """Some records without one Python object per sequence.

    Letters of the shapes: ``n`` records, ``c`` chains, ``r`` residues.
    """

    residues: np.ndarray
    """Residue letters of all chains as bytes, uint8 ``[r]``."""
    chain_lengths: np.ndarray
    """Residues per chain, int64 ``[c]``."""
    chains_per_record: np.ndarray
    """int64 ``[n]``."""
    keys: np.ndarray
    """Content key per record, uint64 ``[n]``."""
    tracks: dict[str, np.ndarray]
    """Per-residue tracks ``[r]``, in the types of `TRACK_DTYPES`."""
    roles: np.ndarray
    """`Role` of each chain, int8 ``[c]``."""

    @property
    def record_lengths(self) -> np.ndarray:
        """Residues per record, int64 ``[n]``."""
        stops = np.cumsum(self.chains_per_record)
        sums = np.concatenate([[0], np.cumsum(self.chain_lengths)])
        return sums[stops] - sums[stops - self.chains_per_record]


def expand_slices(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Write the indices of many slices one after another.

    Parameters
    ----------
    starts, lengths
        int64 ``[n]``.

    Returns
    -------
    numpy.ndarray
        int64 ``[sum(lengths)]``.

    Examples
    --------
    >>> expand_slices(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def record_key(record: Record) -> int:
    """Give the 64-bit key on which a record's random draws depend: its id and its residues.

    Parameters
    ----------
    record
        Any record.
    """
    text = "\x1f".join([record.id, *(chain.residues for chain in record.chains)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def flatten_records(records: Sequence[Record]) -> FlatRecords:
    """Lay records end to end.

    Parameters
    ----------
    records
        At least one. A track that some chain lacks is 0 there.
    """
    chains = [chain for record in records for chain in record.chains]
    names = sorted({name for chain in chains for name in chain.tracks})
    tracks = {
        name: np.concatenate(
            [
                np.asarray(chain.tracks.get(name, np.zeros(len(chain))), dtype=TRACK_DTYPES[name])
                for chain in chains
            ]
        )
        for name in names
    }
    return FlatRecords(
        residues=np.frombuffer("".join(chain.residues for chain in chains).encode(), dtype=np.uint8),
        chain_lengths=np.array([len(chain) for chain in chains], dtype=np.int64),
        chains_per_record=np.array([len(record.chains) for record in records], dtype=np.int64),
        keys=np.array([record_key(record) for record in records], dtype=np.uint64),
        tracks=tracks,
        roles=np.array([chain.role for chain in chains], dtype=np.int8),
    )
