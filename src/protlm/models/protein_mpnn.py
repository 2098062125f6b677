"""ProteinMPNN (Dauparas et al. 2022): messages between neighbours in space, within and between chains.

Parameters have the names of the published checkpoints. A residue is used if N, CA, C and O are all resolved.

Shapes: ``b`` structures, ``r`` residues of the longest, ``k`` neighbours, ``d`` width, ``n`` sequences,
``v`` letters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protlm.models.geometry import nearest, spread

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
"""The published alphabet."""
_ATOMS = ("N", "CA", "C", "O", "CB")
_PAIRS = (
    *("CA CA", "N N", "C C", "O O", "CB CB", "CA N", "CA C", "CA O", "CA CB", "N C", "N O", "N CB", "CB C"),
    *("CB O", "O C", "N CA", "C CA", "O CA", "CB CA", "C N", "O N", "CB N", "C CB", "O CB", "C O"),
)
_FIRST, _SECOND = ([_ATOMS.index(pair.split()[place]) for pair in _PAIRS] for place in (0, 1))
_FURTHEST_OFFSET = 32
_OTHER_CHAIN = 2 * _FURTHEST_OFFSET + 1
_SCALE = 30.0
"""What sums of messages are divided by."""


@dataclass(frozen=True)
class ProteinMPNNSettings:
    """Sizes; the defaults are those of the published models with 48 neighbours."""

    hidden_dim: int = 128
    num_encoder_layers: int = 3
    num_decoder_layers: int = 3
    """0 for an encoder alone."""
    k_neighbors: int = 48
    dropout: float = 0.1
    augment_eps: float = 0.0
    """Standard deviation in Å of the noise on coordinates, while training."""


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


@dataclass(frozen=True)
class Encoded:
    """Structures as the encoder leaves them."""

    nodes: Float[Tensor, "b r d"]
    edges: Float[Tensor, "b r k d"]
    neighbour: Int[Tensor, "b r k"]
    is_known: Bool[Tensor, "b r"]
    is_edge: Bool[Tensor, "b r k"]
    """False where a structure has fewer residues than neighbours."""


def _gather(nodes: Float[Tensor, "b r d"], neighbour: Int[Tensor, "b r k"]) -> Float[Tensor, "b r k d"]:
    begin = torch.arange(len(nodes), device=nodes.device)[:, None, None] * nodes.shape[1]
    return nodes.flatten(0, 1)[neighbour + begin]


class _RelativePlaces(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(_OTHER_CHAIN + 1, width)

    def forward(self, batch: ChainBatch, neighbour: Tensor) -> Tensor:
        place, chain = (_gather(each[..., None], neighbour)[..., 0] for each in (batch.place, batch.chain))
        offset = (batch.place[..., None] - place + _FURTHEST_OFFSET).clamp(0, 2 * _FURTHEST_OFFSET)
        offset = offset.masked_fill(batch.chain[..., None] != chain, _OTHER_CHAIN)
        return F.embedding(offset, self.linear.weight.T) + self.linear.bias


class _Features(nn.Module):
    """The edges from each residue to its nearest: distances between atoms, and places along the chains."""

    def __init__(self, settings: ProteinMPNNSettings) -> None:
        super().__init__()
        self.num_neighbours, self.noise = settings.k_neighbors, settings.augment_eps
        self.embeddings = _RelativePlaces(16)
        self.edge_embedding = nn.Linear(16 + 16 * len(_PAIRS), settings.hidden_dim, bias=False)
        self.norm_edges = nn.LayerNorm(settings.hidden_dim)

    def forward(self, batch: ChainBatch) -> tuple[Tensor, Tensor]:
        atoms = batch.atoms
        if self.training and self.noise:
            atoms = atoms + self.noise * torch.randn_like(atoms)
        distance, neighbour = _neighbours(atoms[:, :, 1], batch, self.num_neighbours)
        atoms = torch.cat([atoms, _beta(atoms)[:, :, None]], dim=2)
        theirs = _gather(atoms.flatten(2), neighbour).unflatten(-1, (-1, 3))
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
    exact = torch.sqrt((points[:, :, None] - _gather(points, index)).square().sum(-1) + 1e-6)
    return torch.where(other.gather(2, index), furthest, exact), index


def _first_map(
    linear: nn.Linear, here: Tensor, edges: Tensor, there: Tensor, neighbour: Int[Tensor, "b r k"]
) -> Tensor:
    """Map residue, edge and neighbour put side by side, of which each residue is mapped once."""
    of_here, of_edge, of_there = linear.weight.split(
        [here.shape[-1], edges.shape[-1], there.shape[-1]], dim=1
    )
    mapped = edges @ of_edge.T + _gather(there @ of_there.T, neighbour)
    return mapped + (here @ of_here.T + linear.bias)[:, :, None]


class _Dense(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.W_in, self.W_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, nodes: Tensor) -> Tensor:
        return self.W_out(F.gelu(self.W_in(nodes)))


class _EncoderLayer(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.W1, self.W11 = nn.Linear(3 * width, width), nn.Linear(3 * width, width)
        self.W2, self.W3 = nn.Linear(width, width), nn.Linear(width, width)
        self.W12, self.W13 = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dense, self.dropout = _Dense(width), nn.Dropout(dropout)

    def forward(
        self, nodes: Tensor, edges: Tensor, neighbour: Tensor, is_known: Tensor
    ) -> tuple[Tensor, Tensor]:
        message = _first_map(self.W1, nodes, edges, nodes, neighbour)
        message = self.W3(F.gelu(self.W2(F.gelu(message))))
        is_used = is_known[..., None] & _gather(is_known[..., None], neighbour)[..., 0]
        nodes = self.norm1(nodes + self.dropout((message * is_used[..., None]).sum(2) / _SCALE))
        nodes = self.norm2(nodes + self.dropout(self.dense(nodes))) * is_known[..., None]
        message = _first_map(self.W11, nodes, edges, nodes, neighbour)
        message = self.W13(F.gelu(self.W12(F.gelu(message))))
        return nodes, self.norm3(edges + self.dropout(message))


class _DecoderLayer(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.W1 = nn.Linear(4 * width, width)
        self.W2, self.W3 = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dense, self.dropout = _Dense(width), nn.Dropout(dropout)

    def forward(self, nodes: Tensor, letters: Tensor | None, seen: Tensor | None, encoded: Encoded) -> Tensor:
        width = nodes.shape[-1]
        of_here, of_edge, of_letter, of_there = self.W1.weight.split(width, dim=1)
        neighbour = encoded.neighbour
        message = encoded.edges @ of_edge.T + self.W1.bias
        at_first = _gather(encoded.nodes @ of_there.T, neighbour)
        if letters is None or seen is None:
            message = message + at_first
        else:
            neighbour = neighbour.expand(len(nodes), -1, -1)
            now = _gather(letters @ of_letter.T + nodes @ of_there.T, neighbour)
            message = message + torch.where(seen[..., None], now, at_first)
        message = message + (nodes @ of_here.T)[:, :, None]
        message = self.W3(F.gelu(self.W2(F.gelu(message)))) * encoded.is_edge[..., None]
        nodes = self.norm1(nodes + self.dropout(message.sum(2) / _SCALE))
        return self.norm2(nodes + self.dropout(self.dense(nodes))) * encoded.is_known[..., None]


class ProteinMPNN(nn.Module):
    """Encoder of structures and, where there is one, decoder of sequences in any order.

    Parameters
    ----------
    settings
        Sizes.
    """

    def __init__(self, settings: ProteinMPNNSettings) -> None:
        super().__init__()
        width = settings.hidden_dim
        self.settings = settings
        self.features = _Features(settings)
        self.W_e = nn.Linear(width, width)
        self.encoder_layers = nn.ModuleList(
            _EncoderLayer(width, settings.dropout) for _ in range(settings.num_encoder_layers)
        )
        if settings.num_decoder_layers:
            self.W_s = nn.Embedding(len(LETTERS), width)
            self.W_out = nn.Linear(width, len(LETTERS))
        self.decoder_layers = nn.ModuleList(
            _DecoderLayer(width, settings.dropout) for _ in range(settings.num_decoder_layers)
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes the same model anew."""
        return asdict(self.settings)

    def encode(self, batch: ChainBatch) -> Encoded:
        """Give states of residues and of the edges to their neighbours.

        Parameters
        ----------
        batch
            From `batch_chains`.
        """
        edges, neighbour = self.features(batch)
        edges = self.W_e(edges)
        nodes = torch.zeros_like(edges[:, :, 0])
        for layer in self.encoder_layers:
            nodes, edges = layer(nodes, edges, neighbour, batch.is_known)
        is_edge = _gather(batch.is_there[..., None], neighbour)[..., 0]
        return Encoded(nodes, edges, neighbour, batch.is_known, is_edge)

    def unconditional(self, encoded: Encoded) -> Float[Tensor, "b r v"]:
        """Give log-probabilities of letters from the structure alone, no letter being seen.

        Parameters
        ----------
        encoded
            From `encode`.
        """
        nodes = encoded.nodes
        for layer in self.decoder_layers:
            nodes = layer(nodes, None, None, encoded)
        return self.W_out(nodes).log_softmax(-1)

    def ordered(
        self, encoded: Encoded, letters: Int[Tensor, "n r"], turn: Int[Tensor, "n r"]
    ) -> Float[Tensor, "n r v"]:
        """Give log-probabilities of letters, each residue seeing those whose turn came before.

        Parameters
        ----------
        encoded
            Of as many structures as sequences, or of one for all of them.
        letters
            Indices into `LETTERS`.
        turn
            When each residue is decoded; one row serves all.
        """
        turn = turn.expand(len(encoded.neighbour), -1) if len(turn) == 1 else turn
        theirs = _gather(turn[..., None], encoded.neighbour.expand(len(turn), -1, -1))[..., 0]
        seen = theirs < turn[..., None]
        embedded = self.W_s(letters)
        nodes = encoded.nodes.expand(len(letters), -1, -1)
        for layer in self.decoder_layers:
            nodes = layer(nodes, embedded, seen, encoded)
        return self.W_out(nodes).log_softmax(-1)


def settings_of(arguments: Mapping[str, Any]) -> ProteinMPNNSettings:
    """Take what is known of a mapping.

    Parameters
    ----------
    arguments
        By name.
    """
    known = {each.name for each in fields(ProteinMPNNSettings)}
    return ProteinMPNNSettings(**{name: value for name, value in arguments.items() if name in known})
