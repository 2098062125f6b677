"""Windows of long records, drawn anew in each epoch."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from protlm.data.flat import FlatRecords, expand_slices
from protlm.data.hashing import combine, uniform
from protlm.data.layout import TokenLayout
from protlm.errors import DataError

CropKind = Literal["crop", "window"]

_CROP_STREAM = 104


@dataclass(frozen=True)
class Crop:
    """How records that are too long are cut."""

    residues: int | None
    """Most residues of a record, whatever the model takes; `None` where only the model limits them."""
    layout: TokenLayout
    """The model's, whose limit counts what stands between chains as well."""
    kind: CropKind = "crop"
    """See `crop_records`."""

    def limits(self, num_chains: np.ndarray) -> np.ndarray:
        """Give the most residues of each record, int64 ``[n]``.

        Parameters
        ----------
        num_chains
            Chains of each record, int64 ``[n]``.

        Raises
        ------
        DataError
            If the chains of a record would get less than a residue each.
        """
        limits = np.full(len(num_chains), np.iinfo(np.int64).max if self.residues is None else self.residues)
        if self.layout.max_tokens is not None:
            others = self.layout.num_positions(np.zeros_like(num_chains), num_chains)
            limits = np.minimum(limits, self.layout.max_tokens - others)
        if (limits < num_chains).any():
            row = int(np.flatnonzero(limits < num_chains)[0])
            raise DataError(
                f"{limits[row]} residues are too few for a record of {num_chains[row]} chains",
                hint="raise data.crop_residues or model.max_tokens",
            )
        return limits

    def cut(self, records: FlatRecords, *, seed: int, epoch: int | np.ndarray) -> FlatRecords:
        """Cut the records that are too long; see `crop_records`.

        Parameters
        ----------
        records
            Any.
        seed, epoch
            As there.
        """
        limits = self.limits(records.chains_per_record)
        return crop_records(records, limits, seed=seed, epoch=epoch, kind=self.kind)


def crop_records(
    records: FlatRecords,
    max_residues: int | np.ndarray,
    *,
    seed: int,
    epoch: int | np.ndarray,
    kind: CropKind = "crop",
) -> FlatRecords:
    """Cut every record that is over a length to a random window of it; others stay whole.

    A record of several chains is cut chain by chain with ``"crop"``: short ones stay whole, and the others
    share evenly what is left, each cut to a window of its own; where that does not come out even, the first
    of them have a residue more. ``"window"`` takes one window of the chains laid end to end; a chain that it
    misses is not in the record any more, and the others may be cut at an end.

    The windows depend on the seed, the epoch and the record's key alone, and every start is equally likely.
    Tracks are cut with their residues. Indices in a batch made of it count from the start of the window.

    Parameters
    ----------
    records
        Any.
    max_residues
        Residues of a record, at least one for each chain; one number, or one for each record, int64 ``[n]``.
    seed
        Of the windows.
    epoch
        How often a record was seen before; one number, or one for each record, int64 ``[n]``.
    kind
        What is done with several chains; a single one is cut in the same way by both.

    Examples
    --------
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.types.record import Chain, Record
    >>> titin = flatten_records([Record("titin", (Chain("MTTQAPTFTQ"),))])
    >>> [crop_records(titin, 4, seed=0, epoch=epoch).residues.tobytes() for epoch in (0, 1)]
    [b'TTQA', b'QAPT']
    >>> pair = flatten_records([Record("pair", (Chain("MTTQAPTFTQ"), Chain("GG")))])
    >>> crop_records(pair, 6, seed=0, epoch=0).chain_lengths.tolist()
    [4, 2]
    """
    counts, lengths = records.chains_per_record, records.record_lengths
    limits = np.broadcast_to(np.asarray(max_residues, dtype=np.int64), lengths.shape)
    is_long = lengths > limits
    if not is_long.any():
        return records
    hashes = np.broadcast_to(combine(seed, _CROP_STREAM, epoch, records.keys), lengths.shape)
    if kind == "window":
        starts, kept = _one_window(records, np.minimum(lengths, limits), hashes)
    else:
        starts, kept = _a_window_each(records, limits, is_long, hashes)
    before = np.cumsum(records.chain_lengths) - records.chain_lengths
    where, is_left = expand_slices(before + starts, kept), kept > 0
    record_of = np.repeat(np.arange(len(counts)), counts)
    return replace(
        records,
        residues=records.residues[where],
        chain_lengths=kept[is_left],
        chains_per_record=np.bincount(record_of[is_left], minlength=len(counts)),
        tracks={name: values[where] for name, values in records.tracks.items()},
        roles=records.roles[is_left],
    )


def _one_window(records: FlatRecords, sizes: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the part of each chain that is in its record's window."""
    counts, lengths = records.chains_per_record, records.record_lengths
    begin = (uniform(hashes) * (lengths - sizes + 1)).astype(np.int64)
    first = np.cumsum(lengths) - lengths
    offsets = np.cumsum(records.chain_lengths) - records.chain_lengths - np.repeat(first, counts)
    starts = np.maximum(np.repeat(begin, counts) - offsets, 0)
    stops = np.minimum(np.repeat(begin + sizes, counts) - offsets, records.chain_lengths)
    kept = np.maximum(stops - starts, 0)
    return np.where(kept > 0, starts, 0), kept


def _a_window_each(
    records: FlatRecords, limits: np.ndarray, is_long: np.ndarray, hashes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the window of each chain."""
    counts = records.chains_per_record
    kept = records.chain_lengths.copy()
    first = np.cumsum(counts) - counts
    for count in np.unique(counts[is_long]).tolist():
        chosen = np.flatnonzero(is_long & (counts == count))
        places = first[chosen][:, None] + np.arange(count)
        kept[places] = share_out(records.chain_lengths[places], limits[chosen])
    ordinal = np.arange(len(kept)) - np.repeat(first, counts)
    own = np.repeat(hashes, counts)
    several = np.repeat(counts > 1, counts)  # a chain alone has the window of its record
    own = np.where(several, combine(own, ordinal), own)
    return (uniform(own) * (records.chain_lengths - kept + 1)).astype(np.int64), kept


def share_out(lengths: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Give each chain the residues that it keeps: short ones all, the others even shares of the rest.

    Parameters
    ----------
    lengths
        Residues of the chains of records that are over the limit, int64 ``[n, chains]``.
    limits
        Residues of each record, int64 ``[n]``.

    Examples
    --------
    >>> share_out(np.array([[900, 100], [900, 700]]), np.array([501, 501])).tolist()
    [[401, 100], [251, 250]]
    """
    ascending = np.sort(lengths, axis=1)
    before = np.cumsum(ascending, axis=1) - ascending
    others = lengths.shape[1] - np.arange(lengths.shape[1])
    is_over = before + ascending * others > limits[:, None]
    place = is_over.argmax(axis=1)  # of the shortest chain that cannot stay whole
    rows = np.arange(len(lengths))
    share, more = np.divmod(limits - before[rows, place], others[place])
    is_cut = lengths >= ascending[rows, place][:, None]
    has_more = is_cut & (np.cumsum(is_cut, axis=1) <= more[:, None])
    return np.where(is_cut, share[:, None] + has_more, lengths)
