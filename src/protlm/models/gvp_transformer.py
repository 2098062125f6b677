"""The GVP-Transformer of ESM-IF1 (Hsu et al. 2022): backbones to states per residue, and to sequences.

Parameters have the names of the published checkpoint. A structure has one token before and one behind it,
without coordinates, and its chains lie some hidden tokens apart; where each residue lies is looked up.

Shapes: ``b`` structures, ``t`` tokens of the longest, ``d`` width.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protlm.errors import ModelError
from protlm.models.geometry import (
    in_frames,
    local_frames,
    nearest,
    neighbour_directions,
    side_chain_direction,
    spread,
    strict_unit,
    torsions,
    unit,
)
from protlm.models.gvp import GVP, GVPConvLayer, Pair, PairNorm
from protlm.models.structure_batch import StructureBatch
from protlm.models.transformer_layers import Positions, SequenceDecoder, TransformerLayer

TOKENS = (
    *("<null_0>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>", "<cath>", "<af2>"),
)
"""The published alphabet."""
PAD, MASK, BEGIN = (TOKENS.index(name) for name in ("<pad>", "<mask>", "<cath>"))
_POSITION_FEATURES = 16
_FURTHEST = 20.0


@dataclass(frozen=True)
class GVPTransformerSettings:
    """Sizes, under the names of the published `args`; the defaults are those of the published model."""

    gvp_top_k_neighbors: int = 30
    gvp_node_hidden_dim_scalar: int = 1024
    gvp_node_hidden_dim_vector: int = 256
    gvp_edge_hidden_dim_scalar: int = 32
    gvp_edge_hidden_dim_vector: int = 1
    gvp_num_encoder_layers: int = 4
    gvp_dropout: float = 0.1
    encoder_layers: int = 8
    decoder_layers: int = 8
    """0 for an encoder alone."""
    encoder_embed_dim: int = 512
    decoder_embed_dim: int = 512
    encoder_ffn_embed_dim: int = 2048
    decoder_ffn_embed_dim: int = 2048
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    dropout: float = 0.1
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        for side in ("encoder", "decoder"):
            width, heads = getattr(self, f"{side}_embed_dim"), getattr(self, f"{side}_attention_heads")
            if width % heads or width % 2:
                raise ModelError(
                    f"{side}_embed_dim is {width} with {side}_attention_heads {heads}, expected an even "
                    "multiple of them",
                    hint="choose a width that the heads divide",
                )

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> "GVPTransformerSettings":
        """Take what is known from the published `args`; the rest says how it was trained.

        Parameters
        ----------
        args
            By name.
        """
        return cls(**{each.name: args[each.name] for each in fields(cls) if each.name in args})


class _GraphEmbedding(nn.Module):
    """Features of residues, and of the edges from each to its nearest."""

    def __init__(self, settings: GVPTransformerSettings) -> None:
        super().__init__()
        nodes = (settings.gvp_node_hidden_dim_scalar, settings.gvp_node_hidden_dim_vector)
        edges = (settings.gvp_edge_hidden_dim_scalar, settings.gvp_edge_hidden_dim_vector)
        self.num_neighbours = settings.gvp_top_k_neighbors
        self.embed_node = nn.Sequential(GVP((7, 3), nodes), PairNorm(nodes))
        self.embed_edge = nn.Sequential(GVP((34, 1), edges), PairNorm(edges))
        self.embed_confidence = nn.Linear(16, nodes[0])

    def forward(self, batch: StructureBatch, angles: Tensor, directions: Tensor) -> tuple[Pair, Pair, Tensor]:
        scalars = torch.cat([angles, batch.is_known[..., None].to(angles)], dim=-1)
        scalars, vectors = self.embed_node((scalars, directions))
        scalars = scalars + self.embed_confidence(spread(batch.confidence, 0.0, 1.0))
        ends = self.edges(batch)
        edges = self.embed_edge(_edge_features(batch.atoms[:, :, 1].flatten(0, 1), ends))
        return (scalars.flatten(0, 1), vectors.flatten(0, 1)), edges, ends

    def edges(self, batch: StructureBatch) -> Tensor:
        """Give source and target of each edge between resolved residues, counted over the whole batch."""
        distance, index = nearest(batch.atoms[:, :, 1], batch.is_known, self.num_neighbours)
        first = torch.arange(index.numel() // index.shape[2], device=index.device).view(*index.shape[:2], 1)
        begin = first[:, :1]
        is_edge = distance.isfinite()
        return torch.stack([first.expand_as(index)[is_edge], (index + begin)[is_edge]])


def _edge_features(points: Tensor, ends: Tensor) -> Pair:
    source, target = ends
    between = points[source] - points[target]
    rate = torch.exp(
        torch.arange(0, _POSITION_FEATURES, 2, device=points.device)
        * (-math.log(10000.0) / _POSITION_FEATURES)
    )
    turns = (source - target)[:, None] * rate
    distance = torch.sqrt(between.square().sum(-1) + 1e-8)
    neither_is_missing = torch.zeros(len(source), 2, device=points.device)
    scalars = [spread(distance, 0.0, _FURTHEST), turns.cos(), turns.sin(), neither_is_missing]
    return torch.cat(scalars, dim=-1), unit(between)[:, None]


class _GVPEncoder(nn.Module):
    def __init__(self, settings: GVPTransformerSettings) -> None:
        super().__init__()
        nodes = (settings.gvp_node_hidden_dim_scalar, settings.gvp_node_hidden_dim_vector)
        edges = (settings.gvp_edge_hidden_dim_scalar, settings.gvp_edge_hidden_dim_vector)
        self.embed_graph = _GraphEmbedding(settings)
        self.encoder_layers = nn.ModuleList(
            GVPConvLayer(nodes, edges, dropout=settings.gvp_dropout)
            for _ in range(settings.gvp_num_encoder_layers)
        )

    def forward(self, batch: StructureBatch, angles: Tensor, directions: Tensor) -> Pair:
        nodes, edges, ends = self.embed_graph(batch, angles, directions)
        for layer in self.encoder_layers:
            nodes = layer(nodes, edges, *ends)
        scalars, vectors = nodes
        return scalars.unflatten(0, batch.is_known.shape), vectors.unflatten(0, batch.is_known.shape)


class _Standardise(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        deviation = torch.sqrt(values.var(-1, keepdim=True) + 1e-6)
        return self.gain * (values - values.mean(-1, keepdim=True)) / (deviation + 1e-6) + self.bias


class _TorsionEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.node_embedding = nn.Linear(6, width)
        self.norm_nodes = _Standardise(width)

    def forward(self, atoms: Tensor) -> Tensor:
        return self.norm_nodes(self.node_embedding(torsions(atoms, direction=strict_unit)))


class GVPTransformerEncoder(nn.Module):
    """Graph convolutions over neighbours in space, then attention over the whole structure.

    Parameters
    ----------
    settings
        Sizes.
    """

    def __init__(self, settings: GVPTransformerSettings) -> None:
        super().__init__()
        width = settings.encoder_embed_dim
        outputs = settings.gvp_node_hidden_dim_scalar + 3 * settings.gvp_node_hidden_dim_vector
        self.embed_tokens = nn.Embedding(len(TOKENS), width, PAD)
        self.embed_positions = Positions(width, PAD)
        self.embed_gvp_input_features = nn.Linear(15, width)
        self.embed_confidence = nn.Linear(16, width)
        self.embed_dihedrals = _TorsionEmbedding(width)
        self.gvp_encoder = _GVPEncoder(settings)
        self.embed_gvp_output = nn.Linear(outputs, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                width,
                settings.encoder_ffn_embed_dim,
                settings.encoder_attention_heads,
                dropout=settings.dropout,
                attention_dropout=settings.attention_dropout,
            )
            for _ in range(settings.encoder_layers)
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, batch: StructureBatch) -> Float[Tensor, "b t d"]:
        """Give a state for each token, those at both ends included.

        Parameters
        ----------
        batch
            From `batch_atoms`.
        """
        states = self.dropout(self._embed(batch)) * ~batch.is_hidden[..., None]
        visible = ~batch.is_hidden[:, None, None, :]
        for layer in self.layers:
            states = layer(states, visible)
        return self.layer_norm(states)

    def _embed(self, batch: StructureBatch) -> Tensor:
        angles = torsions(batch.atoms)
        directions = torch.cat(
            [neighbour_directions(batch.atoms), side_chain_direction(batch.atoms)[:, :, None]], dim=2
        )
        frames = local_frames(batch.atoms)
        scalars, vectors = self.gvp_encoder(batch, angles, directions)
        tokens = torch.where(batch.is_hidden, PAD, MASK)
        return (
            self.embed_tokens(tokens) * math.sqrt(self.embed_tokens.embedding_dim)
            + self.embed_dihedrals(batch.atoms)
            + self.embed_gvp_output(torch.cat([scalars, in_frames(vectors, frames)], dim=-1))
            + self.embed_confidence(spread(batch.confidence, 0.0, 1.0))
            + self.embed_gvp_input_features(torch.cat([angles, in_frames(directions, frames)], dim=-1))
            + self.embed_positions(tokens)
        )


class GVPTransformer(nn.Module):
    """Encoder and, where there is one, decoder.

    Parameters
    ----------
    settings
        Sizes.
    """

    def __init__(self, settings: GVPTransformerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = GVPTransformerEncoder(settings)
        self.decoder = None
        if settings.decoder_layers:
            self.decoder = SequenceDecoder(
                len(TOKENS),
                PAD,
                settings.decoder_embed_dim,
                settings.decoder_ffn_embed_dim,
                settings.decoder_attention_heads,
                num_layers=settings.decoder_layers,
                source_width=settings.encoder_embed_dim,
                dropout=settings.dropout,
                attention_dropout=settings.attention_dropout,
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes the same model anew."""
        return asdict(self.settings)
