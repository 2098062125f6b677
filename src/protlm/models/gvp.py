"""Geometric vector perceptrons (Jing et al. 2021) and their graph convolution, in plain torch.

Features are pairs: scalars ``[n, s]``, which no rotation changes, and vectors ``[n, v, 3]``, which turn with
the structure. Parameters have the names of the published checkpoints of ESM-IF1.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]
"""Scalars and vectors."""
Sizes = tuple[int, int]
"""How many scalars and vectors."""
Activation = Callable[[Tensor], Tensor]

_TINY = 1e-8


def _lengths(vectors: Tensor, axis: int) -> Tensor:
    return torch.sqrt(vectors.square().sum(axis) + _TINY)


class GVP(nn.Module):
    """A linear map of scalars and vectors, in which lengths of vectors enter the scalars.

    Parameters
    ----------
    inputs, outputs
        Sizes; both have vectors.
    is_gated
        Whether scalars go through a ReLU and then open and close the vectors; all is linear otherwise.
    """

    def __init__(self, inputs: Sizes, outputs: Sizes, *, is_gated: bool = False) -> None:
        super().__init__()
        hidden = max(inputs[1], outputs[1])
        self.num_scalars, self.num_vectors = inputs
        self.wh = nn.Linear(inputs[1], hidden, bias=False)
        self.ws = nn.Linear(hidden + inputs[0], outputs[0])
        self.wv = nn.Linear(hidden, outputs[1], bias=False)
        self.wg = nn.Linear(outputs[0], outputs[1]) if is_gated else None

    def forward(self, features: Pair) -> Pair:
        """Map features.

        Parameters
        ----------
        features
            Scalars and vectors of the input sizes.
        """
        scalars, vectors = features
        hidden = self.wh(vectors.transpose(-1, -2))
        return self.finish(self.ws(torch.cat([scalars, _lengths(hidden, -2)], dim=-1)), hidden)

    def forward_edges(self, nodes: Pair, edges: Pair, source: Tensor, target: Tensor) -> Pair:
        """Map the features of source, edge and target put side by side, of which each node is mapped once.

        Parameters
        ----------
        nodes, edges
            Features of nodes and of edges.
        source, target
            Indices into the nodes, one per edge.
        """
        scalars, vectors = nodes[0], nodes[1].transpose(-1, -2)
        sizes = [scalars.shape[1], edges[0].shape[1], scalars.shape[1]]
        to_source, to_edge, to_target, to_lengths = self.ws.weight.split(
            [*sizes, self.wh.out_features], dim=1
        )
        channels = [vectors.shape[-1], edges[1].shape[1], vectors.shape[-1]]
        of_source, of_edge, of_target = self.wh.weight.split(channels, dim=1)
        hidden = edges[1].transpose(-1, -2) @ of_edge.T
        hidden = hidden + (vectors @ of_source.T)[source] + (vectors @ of_target.T)[target]
        mapped = edges[0] @ to_edge.T + _lengths(hidden, -2) @ to_lengths.T + self.ws.bias
        mapped = mapped + (scalars @ to_source.T)[source] + (scalars @ to_target.T)[target]
        return self.finish(mapped, hidden)

    def finish(self, scalars: Tensor, hidden: Tensor) -> Pair:
        """Give the outputs from mapped scalars and hidden vectors.

        Parameters
        ----------
        scalars
            Linear.
        hidden
            Vectors ``[n, 3, h]``.
        """
        vectors = self.wv(hidden).transpose(-1, -2)
        if self.wg is None:
            return scalars, vectors
        scalars = torch.relu(scalars)
        return scalars, vectors * torch.sigmoid(self.wg(scalars))[..., None]


class PairNorm(nn.Module):
    """Layer norm of scalars; vectors are divided by the root of their mean squared length.

    Parameters
    ----------
    sizes
        Of the features.
    tiny
        Vectors whose squared length is not above it are left out.
    """

    def __init__(self, sizes: Sizes, *, tiny: float = 1e-4) -> None:
        super().__init__()
        self.scalar_norm = nn.LayerNorm(sizes[0])
        self.tiny = tiny

    def forward(self, features: Pair) -> Pair:
        """Normalise.

        Parameters
        ----------
        features
            Scalars and vectors.
        """
        scalars, vectors = features
        squares = vectors.square().sum(-1, keepdim=True) + self.tiny
        counts = squares > 2 * self.tiny
        mean = (squares * counts).sum(-2, keepdim=True) / (self.tiny + counts.sum(-2, keepdim=True))
        return self.scalar_norm(scalars), counts * (vectors / torch.sqrt(mean + self.tiny))


class PairDropout(nn.Module):
    """Drop scalars one by one, and vectors with all three components.

    Parameters
    ----------
    rate
        From 0 to below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, features: Pair) -> Pair:
        """Drop while training.

        Parameters
        ----------
        features
            Scalars and vectors.
        """
        scalars, vectors = features
        if not self.training or not self.rate:
            return features
        kept = torch.nn.functional.dropout(torch.ones_like(vectors[..., :1]), self.rate)
        return torch.nn.functional.dropout(scalars, self.rate), vectors * kept


class GVPConv(nn.Module):
    """Mean over the edges of a node of a message made by three perceptrons.

    Parameters
    ----------
    nodes, edges
        Sizes of their features.
    """

    def __init__(self, nodes: Sizes, edges: Sizes) -> None:
        super().__init__()
        together = (2 * nodes[0] + edges[0], 2 * nodes[1] + edges[1])
        self.message_func = nn.Sequential(
            GVP(together, nodes, is_gated=True), GVP(nodes, nodes, is_gated=True), GVP(nodes, nodes)
        )

    def forward(self, nodes: Pair, edges: Pair, source: Tensor, target: Tensor) -> Pair:
        """Give the mean message to each node; 0 where there is none.

        Parameters
        ----------
        nodes, edges, source, target
            As for `GVPConvLayer`.
        """
        first, second, third = self.message_func
        assert isinstance(first, GVP)
        scalars, vectors = third(second(first.forward_edges(nodes, edges, source, target)))
        counts = torch.bincount(target, minlength=len(nodes[0])).clamp(min=1).to(scalars)
        return (
            torch.zeros_like(nodes[0]).index_add_(0, target, scalars) / counts[:, None],
            torch.zeros_like(nodes[1]).index_add_(0, target, vectors) / counts[:, None, None],
        )


class GVPConvLayer(nn.Module):
    """A convolution and two perceptrons per node, each added to what was there and normalised.

    Parameters
    ----------
    nodes, edges
        Sizes of their features.
    dropout
        While training.
    """

    def __init__(self, nodes: Sizes, edges: Sizes, *, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = (4 * nodes[0], 2 * nodes[1])
        self.conv = GVPConv(nodes, edges)
        self.norm = nn.ModuleList([PairNorm(nodes), PairNorm(nodes)])
        self.dropout = PairDropout(dropout)
        self.ff_func = nn.Sequential(GVP(nodes, hidden, is_gated=True), GVP(hidden, nodes))

    def forward(
        self,
        nodes: tuple[Float[Tensor, "n s"], Float[Tensor, "n v 3"]],
        edges: tuple[Float[Tensor, "e s2"], Float[Tensor, "e v2 3"]],
        source: Int[Tensor, " e"],
        target: Int[Tensor, " e"],
    ) -> Pair:
        """Give new features of the nodes.

        Parameters
        ----------
        nodes, edges
            Scalars and vectors.
        source, target
            From which node to which a message goes, one per edge.
        """
        for norm, change in zip(
            self.norm, (lambda now: self.conv(now, edges, source, target), self.ff_func), strict=True
        ):
            scalars, vectors = self.dropout(change(nodes))
            nodes = norm((nodes[0] + scalars, nodes[1] + vectors))
        return nodes
