"""Antibody regions, gene segments, and numbered positions, as small integers per residue.

In every per-residue track 0 means *not known*, so a chain without the track is all zeros.
"""

import re
from enum import IntEnum

import numpy as np

from protlm.errors import DataError


class Region(IntEnum):
    """IMGT region of a residue in a variable domain."""

    NONE = 0
    FR1 = 1
    CDR1 = 2
    FR2 = 3
    CDR2 = 4
    FR3 = 5
    CDR3 = 6
    FR4 = 7


class Segment(IntEnum):
    """Gene segment that encodes a residue; N is non-templated."""

    NONE = 0
    V = 1
    N = 2
    D = 3
    J = 4


class Mutated(IntEnum):
    """Whether a templated residue differs from its germline."""

    NONE = 0
    GERMLINE = 1
    MUTATED = 2


REGIONS = tuple(region for region in Region if region is not Region.NONE)
"""The seven regions in order along the chain."""

IMGT_RANGES = {
    Region.FR1: (1, 26),
    Region.CDR1: (27, 38),
    Region.FR2: (39, 55),
    Region.CDR2: (56, 65),
    Region.FR3: (66, 104),
    Region.CDR3: (105, 117),
    Region.FR4: (118, 128),
}
"""First and last IMGT position of each region (Lefranc et al. 2003, doi:10.1016/S0145-305X(02)00039-3)."""

_REGION_OF_NUMBER = np.zeros(256, dtype=np.uint8)
for _region, (_first, _last) in IMGT_RANGES.items():
    _REGION_OF_NUMBER[_first : _last + 1] = _region

_LABEL = re.compile(r"(\d+)([A-Z]*)")


def encode_position(label: str) -> int:
    """Pack a numbering label into 16 bits: number in the high byte, insertion in the low one.

    Parameters
    ----------
    label
        A scheme's position such as ``"111A"``.

    Returns
    -------
    int
        In [256, 65535]; 0 is kept for "not numbered".

    Examples
    --------
    >>> [encode_position(label) for label in ("1", "111A")]
    [256, 28417]
    """
    match = _LABEL.fullmatch(label)
    if match is None or not 1 <= int(match[1]) <= 255:
        raise DataError(f"{label!r} is not a numbered position", hint="expected a label such as 105 or 111A")
    insertion = 0
    for letter in match[2]:
        insertion = insertion * 26 + ord(letter) - ord("A") + 1
    if insertion > 255:
        raise DataError(f"position {label!r} has more insertions than the 255 that can be stored")
    return int(match[1]) << 8 | insertion


def decode_position(code: int) -> str:
    """Give the label of a packed position; the empty string for 0.

    Parameters
    ----------
    code
        What `encode_position` gave.

    Examples
    --------
    >>> decode_position(encode_position("112AB"))
    '112AB'
    """
    if code == 0:
        return ""
    insertion, letters = int(code) & 255, ""
    while insertion:
        insertion, rest = divmod(insertion - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{int(code) >> 8}{letters}"


def imgt_regions(positions: np.ndarray) -> np.ndarray:
    """Give the region of each packed IMGT position.

    Parameters
    ----------
    positions
        Packed positions, any shape.

    Returns
    -------
    numpy.ndarray
        `Region` codes, uint8, same shape.
    """
    return _REGION_OF_NUMBER[np.asarray(positions, dtype=np.uint16) >> 8]
