"""Counter-based random numbers: a number is a hash of what it is for, so no order can change it."""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers; a bijection with good avalanche.

    Parameters
    ----------
    values
        uint64, any shape.

    References
    ----------
    Steele, Lea & Flood 2014, SplitMix64 finaliser, doi:10.1145/2660193.2660195.
    """
    with np.errstate(over="ignore"):
        mixed = values + _GOLDEN
        mixed ^= mixed >> np.uint64(30)
        mixed *= _FIRST
        mixed ^= mixed >> np.uint64(27)
        mixed *= _SECOND
        mixed ^= mixed >> np.uint64(31)
    return mixed


def combine(*parts: int | np.ndarray) -> np.ndarray:
    """Hash several integers or arrays of them into one 64-bit value each; the order matters.

    Parameters
    ----------
    *parts
        Whole numbers, broadcast against each other.

    Examples
    --------
    >>> bool(combine(1, 2) == combine(2, 1))
    False
    """
    state = mix(np.zeros(1, dtype=np.uint64))
    for part in parts:
        values = np.asarray(part)
        state = mix(state ^ mix(values.astype(np.uint64, copy=False)))
    return state


def uniform(hashes: np.ndarray) -> np.ndarray:
    """Turn hashes into numbers in [0, 1) with 53 random bits, float64.

    Parameters
    ----------
    hashes
        uint64, any shape.
    """
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
