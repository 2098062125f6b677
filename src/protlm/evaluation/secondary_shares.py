"""How much of a backbone is helix, strand and other, by its dihedral angles."""

import numpy as np

from protlm.types.structure import ATOMS, Backbone

CLASSES = ("helix", "strand", "other")
_BOND = 2.0
"""Å from C to the next N above which two residues are not bonded."""
_HELIX_RUN, _STRAND_RUN = 4, 3
"""Fewest residues in a row with the angles of one."""


def secondary_classes(backbone: Backbone) -> np.ndarray:
    """Give the place in `CLASSES` of each residue, int64 ``[residues]``; -1 of one that is not resolved.

    Helix: at least four bonded residues in a row with φ from -100° to -30° and ψ from -80° to 5°. Strand: at
    least three with φ from -180° to -80° and ψ from 90° to 180° or below -150°. An angle over a break is no
    angle. Coarser than DSSP, which looks at hydrogen bonds.

    Parameters
    ----------
    backbone
        Of any chains.
    """
    phi, psi = backbone_angles(backbone)
    with np.errstate(invalid="ignore"):
        helix = (phi >= -100) & (phi <= -30) & (psi >= -80) & (psi <= 5)
        strand = (phi <= -80) & ((psi >= 90) | (psi <= -150))
    found = np.full(len(backbone), CLASSES.index("other"), dtype=np.int64)
    found[_in_runs(helix, _HELIX_RUN)] = CLASSES.index("helix")
    found[_in_runs(strand, _STRAND_RUN)] = CLASSES.index("strand")
    found[~backbone.is_resolved] = -1
    return found


def segment_numbers(residues: int, segments: int) -> np.ndarray:
    """Give the segment of each residue, 0-based, int64 ``[residues]``, as towers part a molecule.

    Parameters
    ----------
    residues, segments
        Of the molecule.
    """
    return np.arange(residues) * segments // max(1, residues)


def secondary_shares(backbone: Backbone, segments: int = 1) -> np.ndarray:
    """Give the shares of `CLASSES` among the resolved residues of each segment, float64 ``[segments, 3]``.

    Parameters
    ----------
    backbone
        Of any chains.
    segments
        Equal runs of residues, as towers pool them; NaN for one without a resolved residue.
    """
    classes = secondary_classes(backbone)
    segment = segment_numbers(len(classes), segments)
    counts = np.zeros((segments, len(CLASSES)))
    np.add.at(counts, (segment[classes >= 0], classes[classes >= 0]), 1)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def backbone_angles(backbone: Backbone) -> tuple[np.ndarray, np.ndarray]:
    """Give φ and ψ of each residue in degrees, from -180 to 180; NaN at ends, breaks and gaps.

    Parameters
    ----------
    backbone
        Of any chains.
    """
    n, ca, c = (backbone.coordinates[:, ATOMS.index(atom)].astype(np.float64) for atom in ("N", "CA", "C"))
    phi, psi = np.full(len(n), np.nan), np.full(len(n), np.nan)
    with np.errstate(invalid="ignore"):
        is_bonded = np.linalg.norm(n[1:] - c[:-1], axis=1) <= _BOND
    is_bonded &= np.diff(backbone.chain_index) == 0
    phi[1:] = np.where(is_bonded, _dihedral(c[:-1], n[1:], ca[1:], c[1:]), np.nan)
    psi[:-1] = np.where(is_bonded, _dihedral(n[:-1], ca[:-1], c[:-1], n[1:]), np.nan)
    return phi, psi


def _dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Give the angle about b–c from a to d, in degrees, positive as IUPAC has it."""
    first, axis, last = b - a, c - b, d - c
    left, right = np.cross(first, axis), np.cross(axis, last)
    sine = (np.linalg.norm(axis, axis=1) * (first * right).sum(axis=1)) if len(axis) else np.zeros(0)
    return np.degrees(np.arctan2(sine, (left * right).sum(axis=1)))


def _in_runs(values: np.ndarray, least: int) -> np.ndarray:
    """Keep what is true in a row of at least so many."""
    edges = np.diff(np.concatenate([[0], values.astype(np.int8), [0]]))
    kept = np.zeros(len(values), dtype=bool)
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        kept[start:stop] = stop - start >= least
    return kept
