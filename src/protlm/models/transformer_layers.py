"""Pre-norm transformer layers with the parameter names of fairseq: the encoder and decoder of ESM-IF1.

Shapes: ``b`` rows, ``t`` tokens, ``s`` tokens of the source, ``d`` width.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Positions(nn.Module):
    """Sines and cosines of the position, counted from 1 behind the padding's id; 0 for padding.

    Parameters
    ----------
    width
        Even.
    pad
        Its id.
    """

    def __init__(self, width: int, pad: int) -> None:
        super().__init__()
        self.width, self.pad = width, pad
        self.register_buffer("_float_tensor", torch.zeros(1))  # a name that published checkpoints have

    def forward(self, tokens: Int[Tensor, "b t"], *, start: int = 0) -> Float[Tensor, "b t d"]:
        """Give the position of each token.

        Parameters
        ----------
        tokens
            Ids.
        start
            How many tokens go before.
        """
        half = self.width // 2
        rate = torch.exp(torch.arange(half, device=tokens.device) * (-math.log(10000.0) / (half - 1)))
        place = torch.arange(tokens.shape[1], device=tokens.device) + (start + self.pad + 1)
        turns = place[:, None] * rate
        return torch.cat([turns.sin(), turns.cos()], dim=-1) * (tokens != self.pad)[..., None]


class Attention(nn.Module):
    """Multi-head attention.

    Parameters
    ----------
    width, heads
        Of the queries.
    source_width
        Of keys and values.
    dropout
        Of the weights, while training.
    """

    def __init__(self, width: int, heads: int, *, source_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(source_width, width)
        self.v_proj = nn.Linear(source_width, width)
        self.out_proj = nn.Linear(width, width)

    def split(self, values: Tensor) -> Tensor:
        """Cut the width into heads: ``[b, heads, t, k]``.

        Parameters
        ----------
        values
            ``[b, t, d]``.
        """
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def source(self, states: Float[Tensor, "b s d"]) -> tuple[Tensor, Tensor]:
        """Give keys and values, to be used for any number of queries.

        Parameters
        ----------
        states
            That are attended to.
        """
        return self.split(self.k_proj(states)), self.split(self.v_proj(states))

    def forward(
        self,
        states: Float[Tensor, "b t d"],
        source: tuple[Tensor, Tensor],
        visible: Bool[Tensor, "b 1 t s"] | None = None,
        *,
        is_causal: bool = False,
    ) -> Float[Tensor, "b t d"]:
        """Mix.

        Parameters
        ----------
        states
            Queries.
        source
            From `source`, of as many rows or of one.
        visible
            What may be attended to.
        is_causal
            Whether only what lies before may.
        """
        key, value = (each.expand(len(states), -1, -1, -1) for each in source)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            self.split(self.q_proj(states)), key, value, visible, dropout, is_causal
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class Memory:
    """Keys and values of one layer for tokens that were seen.

    Parameters
    ----------
    seen
        Keys and values ``[b, heads, t, k]``, of as many rows as follow or of one; `None` for no token.
    """

    def __init__(self, seen: tuple[Tensor, Tensor] | None = None) -> None:
        self.seen = seen

    def extended(self, own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Put keys and values behind those that are there.

        Parameters
        ----------
        own
            Of the tokens that follow.
        """
        if self.seen is not None:
            rows = len(own[0])
            pairs = zip(self.seen, own, strict=True)
            key, value = (torch.cat([old.expand(rows, -1, -1, -1), new], dim=2) for old, new in pairs)
            own = key, value
        self.seen = own
        return own

    def first(self, count: int) -> "Memory":
        """Give the memory of the first tokens alone.

        Parameters
        ----------
        count
            How many.
        """
        assert self.seen is not None
        key, value = (each[:, :, :count] for each in self.seen)
        return Memory((key, value))


class TransformerLayer(nn.Module):
    """Attention to itself, then to a source if there is one, then two linear maps.

    Parameters
    ----------
    width, hidden, heads
        Sizes.
    source_width
        Of the source; `None` without one.
    dropout, attention_dropout
        While training.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        heads: int,
        *,
        source_width: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, source_width=width, dropout=attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn, self.encoder_attn_layer_norm = None, None
        if source_width is not None:
            self.encoder_attn = Attention(width, heads, source_width=source_width, dropout=attention_dropout)
            self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        states: Float[Tensor, "b t d"],
        visible: Tensor | None = None,
        *,
        source: tuple[Tensor, Tensor] | None = None,
        source_visible: Tensor | None = None,
        is_causal: bool = False,
        past: Memory | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Give new states.

        Parameters
        ----------
        states
            Of the tokens.
        visible, source_visible
            What may be attended to, here and in the source.
        source
            Keys and values of the source.
        is_causal
            Whether a token sees only itself and those before it.
        past
            Keys and values of tokens that go before; those of these tokens are put behind them.
        """
        normed = self.self_attn_layer_norm(states)
        own = self.self_attn.source(normed)
        if past is not None:
            own = past.extended(own)
        mixed = self.self_attn(normed, own, visible, is_causal=is_causal)
        states = states + self.dropout(mixed)
        if self.encoder_attn is not None and self.encoder_attn_layer_norm is not None and source is not None:
            normed = self.encoder_attn_layer_norm(states)
            states = states + self.dropout(self.encoder_attn(normed, source, source_visible))
        hidden = torch.relu(self.fc1(self.final_layer_norm(states)))
        return states + self.dropout(self.fc2(hidden))


class SequenceDecoder(nn.Module):
    """Letters of a sequence one after the other, each from those before it and the states of a source.

    Parameters
    ----------
    num_tokens, pad
        Of the alphabet.
    width, hidden, heads, num_layers, source_width
        Sizes.
    dropout, attention_dropout
        While training.
    """

    def __init__(
        self,
        num_tokens: int,
        pad: int,
        width: int,
        hidden: int,
        heads: int,
        *,
        num_layers: int,
        source_width: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pad = pad
        self.embed_tokens = nn.Embedding(num_tokens, width, pad)
        self.embed_positions = Positions(width, pad)
        self.layers = nn.ModuleList(
            TransformerLayer(
                width,
                hidden,
                heads,
                source_width=source_width,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for _ in range(num_layers)
        )
        self.layer_norm = nn.LayerNorm(width)
        self.output_projection = nn.Linear(width, num_tokens, bias=False)
        self.dropout = nn.Dropout(dropout)

    def sources(self, states: Float[Tensor, "b s d"]) -> list[tuple[Tensor, Tensor]]:
        """Give keys and values of the source for every layer.

        Parameters
        ----------
        states
            Of the source.
        """
        return [layer.encoder_attn.source(states) for layer in self.layers]  # type: ignore[union-attr]

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        sources: list[tuple[Tensor, Tensor]],
        is_hidden: Bool[Tensor, "b s"],
        *,
        past: Sequence[Memory] | None = None,
        start: int = 0,
    ) -> Float[Tensor, "b t v"]:
        """Give logits of what follows each token.

        Parameters
        ----------
        tokens
            What goes before, beginning with the begin token; padding at the end.
        sources
            From `sources`, of as many rows or of one.
        is_hidden
            Tokens of the source that nothing attends to.
        past
            Memory of each layer, to which these tokens are added.
        start
            How many tokens the memory has; `tokens` are those that follow.
        """
        width = self.embed_tokens.embedding_dim
        states = self.embed_tokens(tokens) * math.sqrt(width) + self.embed_positions(tokens, start=start)
        states = self.dropout(states)
        before = self._before(tokens, start)
        for number, (layer, source) in enumerate(zip(self.layers, sources, strict=True)):
            states = layer(
                states,
                before,
                source=source,
                source_visible=~is_hidden[:, None, None, :],
                is_causal=before is None,
                past=None if past is None else past[number],
            )
        return self.output_projection(self.layer_norm(states))

    def _before(self, tokens: Tensor, start: int) -> Tensor | None:
        """Say which tokens each may see, where that is not simply all before it."""
        is_pad = tokens == self.pad
        if not start and not is_pad.any():
            return None
        rows, size = tokens.shape
        lower = torch.ones(size, start + size, dtype=torch.bool, device=tokens.device).tril(start)
        is_letter = torch.cat([is_pad.new_ones(rows, start), ~is_pad], dim=1)
        return lower & is_letter[:, None, None, :]
