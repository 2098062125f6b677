"""A Backbone: the main-chain atoms of one or more chains, residue by residue. Frozen and torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from protlm.errors import DataError, did_you_mean

ATOMS = ("N", "CA", "C", "O")
"""The atoms of a backbone, in the order of `Backbone.coordinates`."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """Main-chain atoms of one or more chains; one row per residue, resolved or not.

    Raises
    ------
    DataError
        If the arrays do not have one row per residue, or the chains are not named one after the other.

    Examples
    --------
    >>> coordinates = np.full((3, 4, 3), np.nan, np.float32)
    >>> coordinates[1] = 0.5
    >>> backbone = Backbone("pair", "GAS", coordinates, np.array([0, 0, 1]), ("H", "L"))
    >>> backbone.is_resolved.tolist(), backbone.chain("H").residues
    ([False, True, False], 'GA')
    """

    id: str
    residues: str
    """One letter each, of all chains one behind the other."""
    coordinates: np.ndarray = field(compare=False, repr=False)
    """Of `ATOMS` in Å, float32 [residues, 4, 3]; NaN where not resolved."""
    chain_index: np.ndarray = field(compare=False, repr=False)
    """Index into `chain_ids`, int64 [residues]; 0 first, never falling, none left out."""
    chain_ids: tuple[str, ...]
    """Unlike, case-sensitive."""
    residue_ids: tuple[str, ...] = ()
    """Author number and insertion code, such as 100A; empty where not resolved. None at all if not known."""

    def __post_init__(self) -> None:
        size = len(self.residues)
        coordinates = np.ascontiguousarray(self.coordinates, dtype=np.float32)
        index = np.asarray(self.chain_index)
        if not size:
            raise DataError(f"backbone '{self.id}' has no residues", hint="leave it out")
        if coordinates.shape != (size, len(ATOMS), 3):
            raise DataError(
                f"backbone '{self.id}': coordinates of shape {list(coordinates.shape)} for {size:,} "
                f"residues, expected [{size}, {len(ATOMS)}, 3]",
                hint=f"give {', '.join(ATOMS)} of every residue, NaN where not resolved",
            )
        if np.isinf(coordinates).any():
            place = int(np.isinf(coordinates).any(axis=(1, 2)).argmax())
            raise DataError(
                f"backbone '{self.id}': an infinite coordinate at position {place + 1}",
                hint="write NaN where an atom is not resolved",
            )
        if index.shape != (size,) or not np.issubdtype(index.dtype, np.integer):
            raise DataError(
                f"backbone '{self.id}': chain_index is {index.dtype} {list(index.shape)}, expected one "
                f"integer for each of {size:,} residues",
                hint="number the chains from 0 in the order of chain_ids",
            )
        if len(set(self.chain_ids)) != len(self.chain_ids):
            raise DataError(
                f"backbone '{self.id}': chain ids {', '.join(self.chain_ids)} repeat",
                hint="give each chain its own",
            )
        steps = np.diff(index, prepend=0)
        if index[-1] != len(self.chain_ids) - 1 or not np.isin(steps, (0, 1)).all():
            raise DataError(
                f"backbone '{self.id}': chain_index must count 0 to {len(self.chain_ids) - 1} chain by "
                f"chain, and has {np.unique(index).tolist()}",
                hint="lay the chains one behind the other, in the order of chain_ids",
            )
        if self.residue_ids and len(self.residue_ids) != size:
            raise DataError(
                f"backbone '{self.id}': {len(self.residue_ids):,} residue ids for {size:,} residues"
            )
        object.__setattr__(self, "coordinates", coordinates)
        object.__setattr__(self, "chain_index", index.astype(np.int64))

    def __len__(self) -> int:
        return len(self.residues)

    @property
    def is_resolved(self) -> np.ndarray:
        """Whether N, CA and C are all there, bool [residues]; O may be missing."""
        return np.asarray(np.isfinite(self.coordinates[:, :3]).all(axis=(1, 2)))

    def crop(self, indices: np.ndarray | Sequence[int]) -> "Backbone":
        """Keep some residues; chains without any are left out.

        Parameters
        ----------
        indices
            0-based, rising.

        Raises
        ------
        DataError
            If there are none, or one is outside or does not rise.
        """
        kept = np.asarray(indices)
        if kept.dtype == bool:
            kept = np.flatnonzero(kept)
        if kept.size and (kept[0] < 0 or kept[-1] >= len(self) or (np.diff(kept) <= 0).any()):
            raise DataError(
                f"backbone '{self.id}': indices to keep must rise from 0 to at most {len(self) - 1}",
                hint="sort them and drop repeats",
            )
        chains, index = np.unique(self.chain_index[kept.astype(np.int64)], return_inverse=True)
        return Backbone(
            self.id,
            "".join(self.residues[place] for place in kept),
            self.coordinates[kept.astype(np.int64)],
            index,
            tuple(self.chain_ids[number] for number in chains),
            tuple(self.residue_ids[place] for place in kept) if self.residue_ids else (),
        )

    def chain(self, name: str) -> "Backbone":
        """Keep one chain.

        Parameters
        ----------
        name
            In `chain_ids`.

        Raises
        ------
        DataError
            If there is no such chain.
        """
        if name not in self.chain_ids:
            raise DataError(
                f"backbone '{self.id}' has no chain '{name}'", hint=did_you_mean(name, self.chain_ids)
            )
        return self.crop(np.flatnonzero(self.chain_index == self.chain_ids.index(name)))
