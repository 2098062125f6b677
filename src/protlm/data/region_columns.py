"""Regions that came with the input beside those of the numbering: the input's count where they differ."""

import numpy as np

from protlm.types.regions import Region

_CDRS = (Region.CDR1, Region.CDR2, Region.CDR3)
_BEHIND_ALL = len(Region)


def merge_regions(given: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, bool]:
    """Give the regions of a chain, and whether both sources agree.

    Where `given` says nothing, `found` fills in, unless that would lengthen a CDR that was given or break
    the order of the regions; such a residue stays `NONE`.

    Parameters
    ----------
    given
        `Region` codes from columns, uint8 ``[n]``; `NONE` where they say nothing.
    found
        `Region` codes from the numbering, the same shape; `NONE` outside of the domain.

    Examples
    --------
    >>> merge_regions(np.uint8([0, 6, 6, 0]), np.uint8([5, 6, 6, 7]))
    (array([5, 6, 6, 7], dtype=uint8), True)
    >>> merge_regions(np.uint8([0, 6, 6, 0]), np.uint8([6, 6, 6, 7]))
    (array([0, 6, 6, 7], dtype=uint8), False)
    """
    if np.array_equal(given, found):
        return found, True
    is_open = (given == Region.NONE) & (found != Region.NONE)
    lowest = np.maximum.accumulate(given)
    highest = np.minimum.accumulate(np.where(given == Region.NONE, _BEHIND_ALL, given)[::-1])[::-1]
    refused = is_open & ((found < lowest) | (found > highest))
    for cdr in _CDRS:
        if (given == cdr).any():
            refused |= is_open & (found == cdr)
    merged = np.where(is_open & ~refused, found, given).astype(np.uint8)
    differ = (given != Region.NONE) & (found != Region.NONE) & (given != found)
    return merged, not bool(refused.any() or differ.any())
