"""ProteinMPNN (Dauparas et al. 2022): messages between neighbours in space, within and between chains.

Parameters have the names of the published checkpoints. A residue is used if N, CA, C and O are all resolved.

Shapes: ``b`` structures, ``r`` residues of the longest, ``k`` neighbours, ``d`` width, ``n`` sequences,
``v`` letters.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protlm.models.protein_mpnn_features import ChainBatch, EdgeFeatures, gather

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
"""The published alphabet."""
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
class Encoded:
    """Structures as the encoder leaves them."""

    nodes: Float[Tensor, "b r d"]
    edges: Float[Tensor, "b r k d"]
    neighbour: Int[Tensor, "b r k"]
    is_known: Bool[Tensor, "b r"]
    is_edge: Bool[Tensor, "b r k"]
    """False where a structure has fewer residues than neighbours."""


def _first_map(
    linear: nn.Linear, here: Tensor, edges: Tensor, there: Tensor, neighbour: Int[Tensor, "b r k"]
) -> Tensor:
    """Map residue, edge and neighbour put side by side, of which each residue is mapped once."""
    of_here, of_edge, of_there = linear.weight.split(
        [here.shape[-1], edges.shape[-1], there.shape[-1]], dim=1
    )
    mapped = edges @ of_edge.T + gather(there @ of_there.T, neighbour)
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
        is_used = is_known[..., None] & gather(is_known[..., None], neighbour)[..., 0]
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
        at_first = gather(encoded.nodes @ of_there.T, neighbour)
        if letters is None or seen is None:
            message = message + at_first
        else:
            neighbour = neighbour.expand(len(nodes), -1, -1)
            now = gather(letters @ of_letter.T + nodes @ of_there.T, neighbour)
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
        self.features = EdgeFeatures(width, settings.k_neighbors, noise=settings.augment_eps)
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
        is_edge = gather(batch.is_there[..., None], neighbour)[..., 0]
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
        theirs = gather(turn[..., None], encoded.neighbour.expand(len(turn), -1, -1))[..., 0]
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
