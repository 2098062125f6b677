"""Windows of long chains, drawn anew in each epoch."""

from dataclasses import replace

import numpy as np

from protlm.data.flat import FlatRecords, expand_slices
from protlm.data.hashing import combine, uniform
from protlm.errors import DataError

_CROP_STREAM = 104


def crop_records(
    records: FlatRecords, max_residues: int, *, seed: int, epoch: int | np.ndarray
) -> FlatRecords:
    """Cut every record that is over a length to a random window of it; others stay whole.

    The window depends on the seed, the epoch and the record's key alone, and every start is equally likely.
    Tracks are cut with their residues. Indices in a batch made of it count from the start of the window.

    Parameters
    ----------
    records
        Those over the length have one chain each.
    max_residues
        Residues of a window, at least 1.
    seed
        Of the windows.
    epoch
        How often a record was seen before; one number, or one for each record, int64 ``[n]``.

    Raises
    ------
    DataError
        If a record over the length has several chains.

    Examples
    --------
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.types.record import Chain, Record
    >>> titin = flatten_records([Record("titin", (Chain("MTTQAPTFTQ"),))])
    >>> [crop_records(titin, 4, seed=0, epoch=epoch).residues.tobytes() for epoch in (0, 1)]
    [b'TTQA', b'QAPT']
    """
    lengths = records.record_lengths
    is_long = lengths > max_residues
    if not is_long.any():
        return records
    if (records.chains_per_record[is_long] > 1).any():
        raise DataError(
            f"a record of several chains has {lengths[is_long].max():,} residues, over {max_residues:,}, "
            "and such records are not cut to a window",
            hint="leave such records out",
        )
    kept = np.minimum(records.chain_lengths, max_residues)
    num_starts = np.maximum(lengths - max_residues, 0) + 1
    numbers = uniform(combine(seed, _CROP_STREAM, epoch, records.keys))
    starts = np.repeat((numbers * num_starts).astype(np.int64), records.chains_per_record)
    before = np.cumsum(records.chain_lengths) - records.chain_lengths
    where = expand_slices(before + starts, kept)
    return replace(
        records,
        residues=records.residues[where],
        chain_lengths=kept,
        tracks={name: values[where] for name, values in records.tracks.items()},
    )
