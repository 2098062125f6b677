"""Attention over the sequences of a flat batch, without a mask, in a rectangle, or by blocks under a window.

Shapes: ``t`` tokens of the batch, ``h`` heads, ``k`` head width, ``r`` rows that are read, ``n`` sequences or
blocks, ``l`` tokens of one of them.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from protlm.types.batch import Batch

SMALLEST_BLOCK = 64
"""Queries per block under a narrow window; smaller blocks cost more in calls than they save in work."""


class Mixer(Protocol):
    """Attention over one batch, the same for every layer."""

    def __call__(
        self,
        query: Float[Tensor, "r h k"],
        key: Float[Tensor, "t h k"],
        value: Float[Tensor, "t h k"],
        rows: Int[Tensor, " r"] | None,
        dropout: float,
    ) -> Float[Tensor, "r h k"]:
        """Mix values for each query over the tokens that it may see.

        Parameters
        ----------
        query, key, value
            Projected and rotated.
        rows
            Ascending flat token indices of the queries; `None` is every token.
        dropout
            Of the attention weights.
        """
        ...


class Grouped:
    """Sequences of equal length that follow each other, without a mask.

    Parameters
    ----------
    batch
        Flat.
    """

    def __init__(self, batch: Batch) -> None:
        lengths, counts = torch.unique_consecutive(batch.lengths, return_counts=True)
        self._groups = list(zip(counts.tolist(), lengths.tolist(), strict=True))
        self._sizes = [count * length for count, length in self._groups]

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor | None, dropout: float
    ) -> Tensor:
        """Mix values.

        Parameters
        ----------
        query, key, value, rows, dropout
            As for `Mixer`.
        """
        # split, not slices: the gradient of each slice would be a tensor as large as the batch
        keys, values = key.split(self._sizes), value.split(self._sizes)
        row_parts = None if rows is None else self._row_parts(rows)
        queries = query.split(self._sizes if row_parts is None else [len(part) for part in row_parts])
        mixed = []
        for number, (count, length) in enumerate(self._groups):
            if not len(queries[number]):
                continue
            shape = (count, length, *key.shape[1:])
            key_nlhk, value_nlhk = keys[number].view(shape), values[number].view(shape)
            if row_parts is None:
                mixed.append(
                    _attention(queries[number].view(shape), key_nlhk, value_nlhk, dropout).flatten(0, 1)
                )
                continue
            place = _ragged(row_parts[number] // length, count)
            query_nrhk = _spread(queries[number], place, count)
            mixed.append(_attention(query_nrhk, key_nlhk, value_nlhk, dropout)[place])
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def _row_parts(self, rows: Tensor) -> list[Tensor]:
        """The rows of each group, counted from its first token."""
        stops = torch.tensor(self._sizes).cumsum(0)
        cuts = torch.searchsorted(rows, stops.to(rows.device)).tolist()
        starts = [0, *stops.tolist()]
        return [
            rows[first:last] - start for first, last, start in zip([0, *cuts], cuts, starts, strict=False)
        ]


class Padded:
    """One rectangle as long as the longest sequence, with a mask over the padding.

    Parameters
    ----------
    batch
        Flat.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor | None, dropout: float
    ) -> Tensor:
        """Mix values.

        Parameters
        ----------
        query, key, value, rows, dropout
            As for `Mixer`.
        """
        batch = self._batch
        key_nlhk, value_nlhk = batch.pad(key, 0.0), batch.pad(value, 0.0)
        is_token = torch.arange(key_nlhk.shape[1], device=key.device) < batch.lengths[:, None]
        sequence = batch.sequence_index.long() if rows is None else batch.sequence_index.long()[rows]
        place = _ragged(sequence, batch.num_sequences)
        query_nrhk = _spread(query, place, batch.num_sequences)
        return _attention(query_nrhk, key_nlhk, value_nlhk, dropout, is_token[:, None, None, :])[place]


class Blocks:
    """A window, by blocks of the flat tokens: each block of queries against itself and its neighbours.

    A block is as long as the window, so that one neighbour on each side is enough and 3 * window keys meet a
    query, of which it sees 2 * window + 1 at most.

    Parameters
    ----------
    batch
        Flat.
    window
        Tokens on each side.
    """

    def __init__(self, batch: Batch, window: int) -> None:
        self._block = max(window, SMALLEST_BLOCK)
        self._num_blocks = -(-len(batch.tokens) // self._block)
        self._num_tokens = len(batch.tokens)
        device = batch.tokens.device
        index = torch.arange(self._num_blocks * self._block, device=device).view(-1, self._block)
        sequence = self._blocks(batch.sequence_index.long() + 1).view(index.shape)  # 0 is padding
        key_index = _with_neighbours(index)
        is_near = (index[:, :, None] - key_index[:, None, :]).abs() <= window
        is_same = sequence[:, :, None] == _with_neighbours(sequence)[:, None, :]
        # shared by the layers, which would each make their own of a mask of truth values
        self._bias = torch.zeros(is_near.shape, device=device).masked_fill_(~(is_near & is_same), -torch.inf)

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor | None, dropout: float
    ) -> Tensor:
        """Mix values.

        Parameters
        ----------
        query, key, value, rows, dropout
            As for `Mixer`.
        """
        key_nlhk, value_nlhk = (_with_neighbours(self._blocks(each)) for each in (key, value))
        bias = self._bias.to(query.dtype)
        if rows is None:
            mixed = _attention(self._blocks(query), key_nlhk, value_nlhk, dropout, bias[:, None])
            return mixed.flatten(0, 1)[: self._num_tokens]
        place = _ragged(rows // self._block, self._num_blocks)
        query_nrhk = _spread(query, place, self._num_blocks)
        row_bias = bias.new_zeros((*query_nrhk.shape[:2], bias.shape[-1]))
        row_bias[place] = bias[place[0], rows % self._block]
        return _attention(query_nrhk, key_nlhk, value_nlhk, dropout, row_bias[:, None])[place]

    def _blocks(self, values: Tensor) -> Tensor:
        """Cut flat values ``[t, ...]`` into blocks, the last one filled up with zeros."""
        missing = self._num_blocks * self._block - self._num_tokens
        filled = torch.cat([values, values.new_zeros((missing, *values.shape[1:]))])
        return filled.view(self._num_blocks, self._block, *values.shape[1:])


def _with_neighbours(blocks: Tensor) -> Tensor:
    """Put the block before and the one behind beside each block, zeros beyond the ends."""
    none = blocks.new_zeros((1, *blocks.shape[1:]))
    return torch.cat([torch.cat([none, blocks[:-1]]), blocks, torch.cat([blocks[1:], none])], dim=1)


def _attention(
    query_nrhk: Tensor, key_nlhk: Tensor, value_nlhk: Tensor, dropout: float, mask: Tensor | None = None
) -> Tensor:
    mixed = F.scaled_dot_product_attention(
        query_nrhk.transpose(1, 2),
        key_nlhk.transpose(1, 2),
        value_nlhk.transpose(1, 2),
        attn_mask=mask,
        dropout_p=dropout,
    )
    return mixed.transpose(1, 2)


def _spread(query: Tensor, place: tuple[Tensor, Tensor], count: int) -> Tensor:
    """Lay flat queries out as a rectangle of `count` rows."""
    slot, column = place
    rectangle = query.new_zeros((count, int(column.max()) + 1, *query.shape[1:]))
    return rectangle.index_put((slot, column), query)


def _ragged(sequence: Tensor, num_sequences: int) -> tuple[Tensor, Tensor]:
    """Give each sorted entry its row and its running number within the row."""
    counts = torch.bincount(sequence, minlength=num_sequences)
    before = torch.cumsum(counts, 0) - counts
    return sequence, torch.arange(len(sequence), device=sequence.device) - before[sequence]
