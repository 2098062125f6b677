"""What ProteinMPNN sees of structures: edges to neighbours in space, within and between chains.

Shapes: ``b`` structures, ``r`` residues of the longest, ``k`` neighbours, ``d`` width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protlm.models.geometry import nearest, spread

_ATOMS = ("N", "CA", "C", "O", "CB")
_PAIRS = (
    *("CA CA", "N N", "C C", "O O", "CB CB", "CA N", "CA C", "CA O", "CA CB", "N C", "N O", "N CB", "CB C"),
    *("CB O", "O C", "N CA", "C CA", "O CA", "CB CA", "C N", "O N", "CB N", "C CB", "O CB", "C O"),
)
_FIRST, _SECOND = ([_ATOMS.index(pair.split()[place]) for pair in _PAIRS] for place in (0, 1))
_FURTHEST_OFFSET = 32
_OTHER_CHAIN = 2 * _FURTHEST_OFFSET + 1


@dataclass(frozen=True)
class ChainBatch:
    """Backbones in a rectangle of residues."""

    atoms: Float[Tensor, "b r 4 3"]
    """N, CA, C and O in Å; 0 where not resolved."""
    is_known: Bool[Tensor, "b r"]
    """Whether all four are resolved."""
    is_there: Bool[Tensor, "b r"]
    """Whether it is a residue and no padding."""
    chain: Int[Tensor, "b r"]
    place: Int[Tensor, "b r"]
    """Of the residue, with a gap between chains."""

    def to(self, device: torch.device) -> "ChainBatch":
        """Move to a device.

        Parameters
        ----------
        device
            Of the model.
        """
        return ChainBatch(*(getattr(self, each.name).to(device) for each in fields(self)))


def batch_chains(
    coordinates: Sequence[np.ndarray], chains: Sequence[np.ndarray], places: Sequence[np.ndarray]
) -> ChainBatch:
    """Put backbones side by side.

    Parameters
    ----------
    coordinates
        Float [residues, 4, 3] of N, CA, C and O in Å; NaN where not resolved.
    chains, places
        Of each residue; integers.
    """
    shape = (len(coordinates), max(len(each) for each in coordinates))
    atoms = torch.full((*shape, 4, 3), torch.nan)
    is_there, chain, place = torch.zeros(shape).bool(), torch.zeros(shape).long(), torch.zeros(shape).long()
    for row, values in enumerate(zip(coordinates, chains, places, strict=True)):
        size = len(values[0])
        is_there[row, :size] = True
        for target, each in zip((atoms, chain, place), values, strict=True):
            target[row, :size] = torch.from_numpy(np.asarray(each)).to(target.dtype)
    return ChainBatch(atoms.nan_to_num(0.0), atoms.isfinite().flatten(2).all(-1), is_there, chain, place)


def gather(nodes: Float[Tensor, "b r d"], neighbour: Int[Tensor, "b r k"]) -> Float[Tensor, "b r k d"]:
    """Give the values of the neighbours.

    Parameters
    ----------
    nodes
        Values of residues.
    neighbour
        Indices within the structure.
    """
    begin = torch.arange(len(nodes), device=nodes.device)[:, None, None] * nodes.shape[1]
    return nodes.flatten(0, 1)[neighbour + begin]


class _RelativePlaces(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(_OTHER_CHAIN + 1, width)

    def forward(self, batch: ChainBatch, neighbour: Tensor) -> Tensor:
        place, chain = (gather(each[..., None], neighbour)[..., 0] for each in (batch.place, batch.chain))
        offset = (batch.place[..., None] - place + _FURTHEST_OFFSET).clamp(0, 2 * _FURTHEST_OFFSET)
        offset = offset.masked_fill(batch.chain[..., None] != chain, _OTHER_CHAIN)
        return F.embedding(offset, self.linear.weight.T) + self.linear.bias


class EdgeFeatures(nn.Module):
    """The edges from each residue to its nearest: distances between atoms, and places along the chains.

    Parameters
    ----------
    width
        Of the features.
    num_neighbours
        Of each residue, itself among them.
    noise
        Standard deviation in Å of what is added to coordinates while training.
    """

    def __init__(self, width: int, num_neighbours: int, *, noise: float) -> None:
        super().__init__()
        self.num_neighbours, self.noise = num_neighbours, noise
        self.embeddings = _RelativePlaces(16)
        self.edge_embedding = nn.Linear(16 + 16 * len(_PAIRS), width, bias=False)
        self.norm_edges = nn.LayerNorm(width)

    def forward(self, batch: ChainBatch) -> tuple[Float[Tensor, "b r k d"], Int[Tensor, "b r k"]]:
        """Give features of the edges, and the neighbour at the end of each.

        Parameters
        ----------
        batch
            From `batch_chains`.
        """
        atoms = batch.atoms
        if self.training and self.noise:
            atoms = atoms + self.noise * torch.randn_like(atoms)
        distance, neighbour = _neighbours(atoms[:, :, 1], batch, self.num_neighbours)
        atoms = torch.cat([atoms, _beta(atoms)[:, :, None]], dim=2)
        theirs = gather(atoms.flatten(2), neighbour).unflatten(-1, (-1, 3))
        between = atoms[:, :, None, _FIRST] - theirs[:, :, :, _SECOND]
        distances = torch.sqrt(between.square().sum(-1) + 1e-6)
        distances = torch.cat([distance[..., None], distances[..., 1:]], dim=-1)
        bins = spread(distances, 2.0, 22.0).flatten(-2)
        return self.norm_edges(
            self.edge_embedding(torch.cat([self.embeddings(batch, neighbour), bins], dim=-1))
        ), neighbour


def _beta(atoms: Tensor) -> Tensor:
    """Place CB, with the constants of the paper."""
    to_ca, to_c = atoms[:, :, 1] - atoms[:, :, 0], atoms[:, :, 2] - atoms[:, :, 1]
    upright = torch.linalg.cross(to_ca, to_c)
    return -0.58273431 * upright + 0.56802827 * to_ca - 0.54067466 * to_c + atoms[:, :, 1]


def _neighbours(points: Tensor, batch: ChainBatch, count: int) -> tuple[Tensor, Tensor]:
    """Give distance and index of the nearest: used residues first, then the others, then padding.

    Residues that are not used are as far as the furthest that is, and come by their distance along the chain.
    Their own neighbours count for nothing, and are themselves.
    """
    distance, index = nearest(points, batch.is_known, count)
    is_own = ~batch.is_known[..., None]
    row = torch.arange(points.shape[1], device=points.device)
    if (distance.isfinite() | is_own).all():
        exact = torch.sqrt(distance.masked_fill(is_own, 0.0).square() + 1e-6)
        return exact, torch.where(is_own, row[:, None], index)
    whole = nearest(points, batch.is_known, points.shape[1])[0]
    furthest = whole.masked_fill(whole.isinf(), 0.0).amax(-1, keepdim=True)
    along = (row[:, None] - row).abs() + 0.25 * (row[:, None] > row)
    other = ~(batch.is_known[:, :, None] & batch.is_known[:, None, :])
    rank = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    rank = torch.where(other, furthest + 1.0 + along, rank) + 1e6 * ~batch.is_there[:, None, :]
    index = rank.topk(min(count, points.shape[1]), dim=-1, largest=False).indices
    exact = torch.sqrt((points[:, :, None] - gather(points, index)).square().sum(-1) + 1e-6)
    return torch.where(other.gather(2, index), furthest, exact), index
