"""Geometry of backbones in torch: directions, torsion angles, local frames, distances spread over bins.

Shapes: ``b`` structures of a batch, ``r`` residues of the longest, ``c`` vectors.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

_TINY = 1e-8
_FROM_ONE = 1e-7
_ROWS = 1024
"""Rows of distances that are held at once."""


def length(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
    """Give lengths, of which the gradient at 0 is finite.

    Parameters
    ----------
    vectors
        In Å.
    """
    return torch.sqrt(vectors.square().sum(-1) + _TINY)


def unit(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Give directions; that of nothing is 0.

    Parameters
    ----------
    vectors
        Finite.
    """
    return vectors / length(vectors)[..., None]


def strict_unit(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Give directions of length 1 however short the vectors are; that of nothing is 0.

    Parameters
    ----------
    vectors
        Finite.
    """
    return F.normalize(vectors, dim=-1)


def torsions(
    atoms: Float[Tensor, "b r 3 3"], *, direction: Callable[[Tensor], Tensor] = unit
) -> Float[Tensor, "b r 6"]:
    """Give cosines, then sines, of φ, ψ and ω; the angle is 0 where a chain begins or ends.

    Parameters
    ----------
    atoms
        N, CA and C in Å.
    direction
        `unit` or `strict_unit`.
    """
    bonds = direction(atoms.flatten(1, 2).diff(dim=1))
    before, middle, after = bonds[:, :-2], bonds[:, 1:-1], bonds[:, 2:]
    normal = direction(torch.linalg.cross(before, middle))
    next_normal = direction(torch.linalg.cross(middle, after))
    cosine = (normal * next_normal).sum(-1).clamp(-1 + _FROM_ONE, 1 - _FROM_ONE)
    angle = torch.sign((before * next_normal).sum(-1)) * torch.acos(cosine)
    angle = F.pad(angle, (1, 2)).unflatten(1, (-1, 3))
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def neighbour_directions(atoms: Float[Tensor, "b r 3 3"]) -> Float[Tensor, "b r 2 3"]:
    """Give the directions from each CA to the next and to the one before; 0 at the ends.

    Parameters
    ----------
    atoms
        N, CA and C in Å.
    """
    steps = unit(atoms[:, :, 1].diff(dim=1))
    return torch.stack([F.pad(steps, (0, 0, 0, 1)), F.pad(-steps, (0, 0, 1, 0))], dim=2)


def side_chain_direction(atoms: Float[Tensor, "b r 3 3"]) -> Float[Tensor, "b r 3"]:
    """Give the direction in which CB lies in a tetrahedron about CA.

    Parameters
    ----------
    atoms
        N, CA and C in Å.
    """
    to_n, to_c = unit(atoms[:, :, 0] - atoms[:, :, 1]), unit(atoms[:, :, 2] - atoms[:, :, 1])
    upright = unit(torch.linalg.cross(to_c, to_n))
    return -math.sqrt(1 / 3) * unit(to_c + to_n) - math.sqrt(2 / 3) * upright


def local_frames(atoms: Float[Tensor, "b r 3 3"]) -> Float[Tensor, "b r 3 3"]:
    """Give three axes per residue, one per row: along CA–C, towards N, and upright on both.

    Parameters
    ----------
    atoms
        N, CA and C in Å.
    """
    to_c, to_n = atoms[:, :, 2] - atoms[:, :, 1], atoms[:, :, 0] - atoms[:, :, 1]
    first = unit(to_c)
    second = unit(to_n - first * (first * to_n).sum(-1, keepdim=True))
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


def in_frames(vectors: Float[Tensor, "b r c 3"], frames: Float[Tensor, "b r 3 3"]) -> Float[Tensor, "b r f"]:
    """Give the components of vectors along the axes of their residue, which no rotation changes.

    Parameters
    ----------
    vectors
        Of each residue.
    frames
        From `local_frames`.
    """
    return (vectors @ frames.transpose(-1, -2)).flatten(-2)


def spread(values: Float[Tensor, "*n"], low: float, high: float, bins: int = 16) -> Float[Tensor, "*n bins"]:
    """Spread values over Gaussian bins as wide as their spacing.

    Parameters
    ----------
    values
        Any.
    low, high
        Centres of the first and last bin.
    bins
        How many.
    """
    centres = torch.linspace(low, high, bins, device=values.device)
    return torch.exp(-(((values[..., None] - centres) * (bins / (high - low))) ** 2))


def nearest(
    points: Float[Tensor, "b r 3"], is_known: Bool[Tensor, "b r"], count: int
) -> tuple[Float[Tensor, "b r k"], Int[Tensor, "b r k"]]:
    """Give the distances and indices of the nearest points of each, itself among them.

    Parameters
    ----------
    points
        In Å, finite.
    is_known
        Others are infinitely far from all.
    count
        At most so many are given.

    Returns
    -------
    distance, index
        By distance; infinite where there are fewer.
    """
    count = min(count, points.shape[1])
    found = []
    for rows in torch.arange(points.shape[1], device=points.device).split(_ROWS):
        distance = torch.cdist(
            points[:, rows], points, compute_mode="donot_use_mm_for_euclid_dist"
        ).masked_fill(~(is_known[:, rows, None] & is_known[:, None, :]), torch.inf)
        found.append(distance.topk(count, dim=-1, largest=False))
    return torch.cat([each[0] for each in found], dim=1), torch.cat([each[1] for each in found], dim=1)
