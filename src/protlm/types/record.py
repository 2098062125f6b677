"""A Record: one or more chains with their per-residue tracks. Frozen and torch-free."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np

from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL

TRACK_DTYPES: Mapping[str, np.dtype] = MappingProxyType(
    {
        "region": np.dtype(np.uint8),
        "position": np.dtype(np.uint16),
        "segment": np.dtype(np.uint8),
        "mutated": np.dtype(np.uint8),
        "germline": np.dtype(np.uint8),
        "weight": np.dtype(np.float32),
        "column": np.dtype(np.uint16),
    }
)
"""The per-residue tracks and how they are stored; 0 always means not known.

`region`, `segment` and `mutated` hold codes of `protlm.types.regions`, `position` packed labels,
`germline` the letter (as a byte) that the nearest germline has there, `weight` numbers of the user's own,
`column` the 1-based residue of its family's wild type that a residue is aligned to.
"""

_RESIDUES = re.compile(f"[{STANDARD}{UNUSUAL}]+")
_OTHER_LETTER = re.compile(f"[^{STANDARD}{UNUSUAL}]")


class Role(IntEnum):
    """What a chain is in its record."""

    OTHER = 0
    HEAVY = 1
    LIGHT = 2
    ALPHA = 3
    BETA = 4
    GAMMA = 5
    DELTA = 6


ROLE_OF_LOCUS = MappingProxyType(
    {
        "H": Role.HEAVY,
        "K": Role.LIGHT,
        "L": Role.LIGHT,
        "A": Role.ALPHA,
        "B": Role.BETA,
        "G": Role.GAMMA,
        "D": Role.DELTA,
    }
)
"""Role of an immune receptor chain by its locus letter."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One polypeptide.

    Raises
    ------
    DataError
        If a letter is no residue, or a track is not known or not as long as the residues.

    Examples
    --------
    >>> Chain("EVQL", tracks={"region": np.ones(3, np.uint8)})
    Traceback (most recent call last):
    ...
    protlm.errors.DataError: track 'region' has 3 values for a chain of 4 residues
    """

    residues: str
    """One letter per residue, upper case, no gaps."""
    role: Role = Role.OTHER
    locus: str = ""
    """Immune receptor locus: H K L (antibody), A B G D (T cell); empty where not known."""
    v_call: str = ""
    """V gene or allele, such as IGHV3-23*01; empty where not known."""
    d_call: str = ""
    j_call: str = ""
    tracks: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    """One value per residue under each name of `TRACK_DTYPES`."""

    def __post_init__(self) -> None:
        if not self.residues:
            raise DataError("a chain has no residues", hint="leave it out of its record")
        if not _RESIDUES.fullmatch(self.residues):
            place = next(_OTHER_LETTER.finditer(self.residues)).start()
            raise DataError(
                f"{self.residues[place]!r} at position {place + 1} of a chain is no residue letter "
                f"(expected {STANDARD} or {UNUSUAL})",
                hint="protlm.types.alphabet.clean_residues makes plain residues of text",
            )
        for name, values in self.tracks.items():
            if name not in TRACK_DTYPES:
                raise DataError(f"unknown track '{name}'", hint=f"known: {', '.join(TRACK_DTYPES)}")
            if len(values) != len(self.residues):
                raise DataError(
                    f"track '{name}' has {len(values)} values for a chain of {len(self.residues)} residues"
                )

    def __len__(self) -> int:
        return len(self.residues)


@dataclass(frozen=True, slots=True)
class Record:
    """What is put to a model as one input: a protein, an antibody pair, a complex."""

    id: str
    chains: tuple[Chain, ...]
    labels: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Values of other columns, by name."""
    group: str = ""
    """What must stay on one side of a split: a clonotype, a donor, a cluster."""
    sample_weight: float = field(default=1.0, compare=False)
    """Chance to be drawn in an epoch of training, above 0 and at most 1: low where there are many alike."""

    def __post_init__(self) -> None:
        if not self.chains:
            raise DataError(f"record '{self.id}' has no chains", hint="a record needs at least one")
        if not 0 < self.sample_weight <= 1:
            raise DataError(
                f"record '{self.id}' has the sample weight {self.sample_weight}",
                hint="expected above 0 and at most 1",
            )

    @property
    def chain_names(self) -> tuple[str, ...]:
        """Name of each chain in tables, all different: its role, or its place in the record.

        Examples
        --------
        >>> Record("a", (Chain("EV", role=Role.HEAVY), Chain("DI", role=Role.LIGHT), Chain("MK"))).chain_names
        ('heavy', 'light', 'chain3')
        >>> Record("a", (Chain("EV", role=Role.HEAVY), Chain("QV", role=Role.HEAVY))).chain_names
        ('heavy1', 'heavy2')
        """
        total, seen, names = Counter(chain.role for chain in self.chains), Counter[Role](), []
        for number, chain in enumerate(self.chains, 1):
            role = chain.role
            seen[role] += 1
            if role is Role.OTHER:
                names.append(f"chain{number}")
            else:
                names.append(role.name.lower() + (str(seen[role]) if total[role] > 1 else ""))
        return tuple(names)

    def __len__(self) -> int:
        return sum(len(chain) for chain in self.chains)
