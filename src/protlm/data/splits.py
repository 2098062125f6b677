"""Splits by group: a clonotype, donor or cluster is never on both sides."""

import hashlib

from protlm.types.record import Record


def is_held_out(record: Record, share: float, *, seed: int = 0) -> bool:
    """Decide by a hash of the record's group whether it is held out.

    The answer depends on nothing but group, share and seed: not on the order or the other records. A
    record without a group is its own, by its residues.

    Parameters
    ----------
    record
        With or without a group.
    share
        Expected share of groups that are held out, in [0, 1].
    seed
        Another seed gives another split.

    Examples
    --------
    >>> from protlm.types.record import Chain
    >>> pair = [Record(name, (Chain("MK"),), group="IGHV1-2|ARDY") for name in "ab"]
    >>> is_held_out(pair[0], 0.5) == is_held_out(pair[1], 0.5)
    True
    """
    group = record.group or "|".join(chain.residues for chain in record.chains)
    digest = hashlib.blake2b(f"{seed}\x1f{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < share
