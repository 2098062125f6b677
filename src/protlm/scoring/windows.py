"""Long chains cut to what a model takes: a window around each residue that is read, or fixed tiles."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.errors import ConfigError

Long = Literal["error", "window", "tile"]
LONG: tuple[Long, ...] = ("error", "window", "tile")

SMALLEST = 8
"""Residues that a window has at least."""


@dataclass(frozen=True)
class Windows:
    """How chains of more than `size` residues are cut. Every piece has begin and end tokens of its own.

    ``window``: the residue that is read stands in the middle, except near the ends of the chain, where the
    window ends with the chain. ``tile``: tiles evenly spread, overlapping by half or more; a residue is read
    in each that has it, with a weight that falls to 0 at the edges of a tile inside the chain.
    """

    kind: Literal["window", "tile"]
    size: int
    """Residues of a piece."""

    def places(self, length: int) -> list[list[tuple[int, float]]]:
        """Give, for each residue of a chain, where the pieces start that it is read in, and their weights.

        Parameters
        ----------
        length
            Residues of the chain.

        Returns
        -------
        list of list of (int, float)
            First residue of a piece, 0-based, and a weight above 0. The weights of a residue sum to 1.

        Examples
        --------
        >>> Windows("window", 8).places(12)[6]
        [(2, 1.0)]
        """
        return _places(self.kind, self.size, length)


@dataclass(frozen=True)
class LengthPolicy:
    """What is done with a chain that a model does not take, as the user asks for it.

    Raises
    ------
    ConfigError
        If there is no such policy, or a window goes with none.
    """

    long: Long = "error"
    window: int | None = None
    """Residues of a piece; what the model takes if `None`."""

    def __post_init__(self) -> None:
        if self.long not in LONG:
            raise ConfigError(f"--long {self.long!r} is not a choice", hint=f"expected {', '.join(LONG)}")
        if self.window is not None and self.long == "error":
            raise ConfigError(
                f"--window {self.window} says how long a piece is, but nothing is to be cut",
                hint="add --long window or --long tile",
            )
        if self.window is not None and self.window < SMALLEST:
            raise ConfigError(f"--window {self.window} is too short", hint=f"expected {SMALLEST} or more")

    def windows(self, layout: TokenLayout, name: str) -> Windows | None:
        """Give the windows for a model; `None` where nothing is cut.

        Parameters
        ----------
        layout
            The model's.
        name
            Of the model, for messages.

        Raises
        ------
        ConfigError
            If the model does not take that window.
        """
        if self.long == "error":
            return None
        limit = None if layout.max_tokens is None else layout.max_tokens - layout.num_positions(0, 1)
        if self.window is not None and limit is not None and self.window > limit:
            raise ConfigError(
                f"--window {self.window} is longer than the {limit} residues that model '{name}' takes",
                hint=f"leave --window out, or pass at most {limit}",
            )
        size = limit if self.window is None else self.window
        return None if size is None else Windows(self.long, size)

    def facts(self) -> dict[str, Any]:
        """Give the policy as plain values, for provenance."""
        return {"long": self.long, "window": self.window}


def tile_starts(length: int, size: int) -> np.ndarray:
    """Spread the fewest tiles evenly that overlap by half of a tile or more.

    Parameters
    ----------
    length
        Residues of the chain, more than `size`.
    size
        Residues of a tile.

    Returns
    -------
    numpy.ndarray
        First residue of each, 0-based int64; the first is 0, the last tile ends with the chain.

    Examples
    --------
    >>> tile_starts(25, 10).tolist()
    [0, 5, 10, 15]
    """
    steps = -(-(length - size) // (size // 2))
    return np.round(np.linspace(0, length - size, steps + 1)).astype(np.int64)


def tile_weights(length: int, size: int) -> np.ndarray:
    r"""Weigh each residue in each tile.

    .. math:: w \propto \sin^2(\tfrac{\pi}{2} \min(1, d / h))

    for the distance d to the nearest edge of the tile inside the chain, 0 for the outermost residue, and half
    a tile h. The first residue of the chain is far from such an edge, so the weight is flat at its ends.

    DISCREPANCY: ProteinGym's ``scoring_utils.py`` gives the outermost tokens of every window the full weight,
    next to neighbours of 0.0004, though these have the worst context; here they weigh 0.

    Parameters
    ----------
    length, size
        As for `tile_starts`.

    Returns
    -------
    numpy.ndarray
        float64 ``[tiles, length]``; 0 outside a tile, and each column sums to 1.
    """
    starts = tile_starts(length, size)[:, None]
    index = np.arange(length)
    left = np.where(starts > 0, index - starts, size)
    right = np.where(starts + size < length, starts + size - 1 - index, size)
    is_inside = (index >= starts) & (index < starts + size)
    distance = np.minimum(left, right) / (size // 2)
    weights = np.where(is_inside, np.sin(np.pi / 2 * np.clip(distance, 0, 1)) ** 2, 0.0)
    return weights / weights.sum(axis=0)


@lru_cache(maxsize=256)
def _places(kind: str, size: int, length: int) -> list[list[tuple[int, float]]]:
    if kind == "window":
        starts = np.clip(np.arange(length) - size // 2, 0, length - size)
        return [[(start, 1.0)] for start in starts.tolist()]
    starts, weights = tile_starts(length, size), tile_weights(length, size)
    return [
        [(int(starts[tile]), float(weights[tile, index])) for tile in np.flatnonzero(weights[:, index])]
        for index in range(length)
    ]
