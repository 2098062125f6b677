"""ESM-1b, ESM-1v, ESM-2 and RoBERTa run on flat tokens from the Hugging Face module's own sub-modules.

Shapes: ``t`` tokens of the batch, ``d`` width, ``h`` heads, ``k`` head width, ``r`` rows that are
read, ``n`` sequences of one length ``l``.

The parameters stay where Hugging Face put them, so adapters, sharding and checkpoints keep working;
only the arithmetic is ours. Linear layers see all tokens at once without padding. Attention runs over
groups of sequences of equal length without a mask (``grouped``, fastest on a CPU) or over one padded
rectangle with a mask (``padded``). Where only some rows are read, the last layer and the head are
computed for those alone.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import RobertaModel

from protlm.types.batch import Batch

Attention = Literal["grouped", "padded"]

TRAINED_MASK_SHARE = 0.15 * 0.8
"""Share of mask tokens that the token-dropout rescaling of ESM assumes (Rives et al. 2021; ESM code)."""


def attention_for(device: torch.device | str) -> tuple[Attention, str]:
    """Choose the attention path for a device and say why.

    Parameters
    ----------
    device
        Where the model runs.
    """
    if torch.device(device).type == "cpu":
        return "grouped", "on a CPU, equal lengths without a mask beat a padded rectangle"
    return "padded", "on an accelerator, one padded rectangle with a mask keeps kernels few"


def encode(
    model: Any, batch: Batch, rows: Int[Tensor, " r"] | None = None, *, attention: Attention = "grouped"
) -> Float[Tensor, "r d"]:
    """Run the encoder and give its normalised last hidden states.

    Parameters
    ----------
    model
        An `EsmModel` or a `RobertaModel`, possibly with adapters in it.
    batch
        Flat tokens on the model's device.
    rows
        Sorted flat token indices to give states for; `None` gives all.
    attention
        ``"grouped"`` or ``"padded"``; the results agree to rounding.
    """
    if isinstance(model, RobertaModel):
        return _encode_roberta(model, batch, rows, attention)
    x_td = _embed(model, batch)
    rotary = _rotary_table(model, batch, x_td.dtype)
    groups = _groups(batch, attention)
    last = len(model.encoder.layer) - 1
    for number, layer in enumerate(model.encoder.layer):
        read = rows if number == last else None
        x_td = _layer(layer, x_td, groups, rotary, read)
    return model.encoder.emb_layer_norm_after(x_td)


def head_logits(lm_head: Any, hidden: Float[Tensor, "r d"]) -> Float[Tensor, "r v"]:
    """Apply the masked-language-model head.

    Parameters
    ----------
    lm_head
        An `EsmLMHead` or a `RobertaLMHead`.
    hidden
        States from `encode`.
    """
    hidden = lm_head.layer_norm(F.gelu(lm_head.dense(hidden)))
    logits = lm_head.decoder(hidden)
    # RoBERTa's decoder adds the bias itself; adapters may wrap a decoder, and hide its attributes
    return logits if getattr(lm_head.decoder, "bias", None) is not None else logits + lm_head.bias


def _embed(model: Any, batch: Batch) -> Tensor:
    embeddings = model.embeddings
    x_td = embeddings.word_embeddings(batch.tokens)
    if embeddings.token_dropout:
        # per sequence, never per row of a packed batch
        is_mask = batch.tokens == embeddings.mask_token_id
        num_masks = torch.zeros(batch.num_sequences, device=x_td.device).index_add_(
            0, batch.sequence_index.long(), is_mask.float()
        )
        scale = (1 - TRAINED_MASK_SHARE) / (1 - num_masks / batch.lengths)
        per_token = torch.where(is_mask, 0.0, scale[batch.sequence_index.long()])
        x_td = (x_td * per_token[:, None]).to(x_td.dtype)
    if embeddings.position_embedding_type == "absolute":
        # learned positions start behind the padding index
        x_td = x_td + embeddings.position_embeddings(batch.positions + embeddings.padding_idx + 1)
    if embeddings.layer_norm is not None:
        x_td = embeddings.layer_norm(x_td)
    return x_td


def _rotary_table(model: Any, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Cosine and signed sine, each ``[t, 1, k]``: out = q * cosine + halves_swapped(q) * sine."""
    if model.rotary_embeddings is None:
        return None
    angles = batch.positions[:, None].float() * model.rotary_embeddings.inv_freq.float()
    cosine, sine = angles.cos(), angles.sin()
    cosine = torch.cat([cosine, cosine], dim=-1)[:, None].to(dtype)
    sine = torch.cat([-sine, sine], dim=-1)[:, None].to(dtype)
    return cosine, sine


def _rotate(x_thk: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = table
    first, second = x_thk.chunk(2, dim=-1)
    return torch.addcmul(x_thk * cosine, torch.cat([second, first], dim=-1), sine)


@dataclass(frozen=True)
class _Group:
    """Sequences ``[start, start + count)`` of one length; tokens follow each other in the flat batch."""

    token_start: int
    count: int
    length: int
    padded: Batch | None = None

    @property
    def token_stop(self) -> int:
        return self.token_start + self.count * self.length


def _groups(batch: Batch, attention: Attention) -> list[_Group]:
    lengths, counts = torch.unique_consecutive(batch.lengths, return_counts=True)
    if attention == "padded" and len(lengths) > 1:
        return [_Group(0, batch.num_sequences, int(batch.lengths.max()), padded=batch)]
    groups, start = [], 0
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        groups.append(_Group(start, count, length))
        start = groups[-1].token_stop
    return groups


def _layer(
    layer: Any,
    x_td: Tensor,
    groups: list[_Group],
    rotary: tuple[Tensor, Tensor] | None,
    rows: Tensor | None,
) -> Tensor:
    attention = layer.attention
    normed = attention.LayerNorm(x_td)
    mixed = _attend(attention.self, normed, groups, rotary, rows)
    residual = x_td if rows is None else x_td[rows]
    x_td = attention.output.dropout(attention.output.dense(mixed)) + residual
    inner = F.gelu(layer.intermediate.dense(layer.LayerNorm(x_td)))
    return layer.output.dropout(layer.output.dense(inner)) + x_td


def _encode_roberta(model: Any, batch: Batch, rows: Tensor | None, attention: Attention) -> Tensor:
    """RoBERTa differs by learned positions, one token type, and layer norms behind each block."""
    embeddings = model.embeddings
    x_td = embeddings.word_embeddings(batch.tokens) + embeddings.token_type_embeddings.weight[0]
    x_td = x_td + embeddings.position_embeddings(batch.positions + embeddings.padding_idx + 1)
    x_td = embeddings.dropout(embeddings.LayerNorm(x_td))
    groups = _groups(batch, attention)
    last = len(model.encoder.layer) - 1
    for number, layer in enumerate(model.encoder.layer):
        read = rows if number == last else None
        mixed = _attend(layer.attention.self, x_td, groups, None, read)
        x_td = layer.attention.output(mixed, x_td if read is None else x_td[read])
        x_td = layer.output(layer.intermediate(x_td), x_td)
    return x_td


def _attend(
    module: Any,
    x_td: Tensor,
    groups: list[_Group],
    rotary: tuple[Tensor, Tensor] | None,
    rows: Tensor | None,
) -> Tensor:
    shape = (-1, module.num_attention_heads, module.attention_head_size)
    query_source = x_td if rows is None else x_td[rows]
    query = module.query(query_source).view(shape)
    key = module.key(x_td).view(shape)
    value = module.value(x_td).view(shape)
    if rotary is not None:
        query = _rotate(query, rotary if rows is None else (rotary[0][rows], rotary[1][rows]))
        key = _rotate(key, rotary)
    # ESM keeps a number there, RoBERTa a module
    dropout = getattr(module.dropout, "p", module.dropout) if module.training else 0.0
    if not len(query):  # nothing is read
        return query.flatten(1)
    dtype = query.dtype
    if dtype == torch.bfloat16 and query.device.type == "cpu":
        # the CPU's attention kernel is a tenth faster in float32, and more exact
        query, key, value = query.float(), key.float(), value.float()
    if groups[0].padded is not None:
        mixed = _attend_padded(query, key, value, groups[0].padded, rows, dropout)
    else:
        parts = []
        for group in groups:
            part = _attend_group(query, key, value, group, rows, dropout)
            if part is not None:
                parts.append(part)
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
    return mixed.flatten(1).to(dtype)


def _attend_group(
    query: Tensor, key: Tensor, value: Tensor, group: _Group, rows: Tensor | None, dropout: float
) -> Tensor | None:
    span = slice(group.token_start, group.token_stop)
    shape = (group.count, group.length, *key.shape[1:])
    key_nhlk = key[span].view(shape).transpose(1, 2)
    value_nhlk = value[span].view(shape).transpose(1, 2)
    if rows is None:
        query_nhlk = query[span].view(shape).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query_nhlk, key_nhlk, value_nhlk, dropout_p=dropout)
        return mixed.transpose(1, 2).reshape(-1, *key.shape[1:])
    first, last = torch.searchsorted(rows, torch.tensor([span.start, span.stop], device=rows.device)).tolist()
    if first == last:
        return None
    sequence = (rows[first:last] - group.token_start) // group.length
    slot, column = _ragged(sequence, group.count)
    query_nrhk = query.new_zeros((group.count, int(column.max()) + 1, *query.shape[1:]))
    query_nrhk = query_nrhk.index_put((slot, column), query[first:last])
    mixed = F.scaled_dot_product_attention(
        query_nrhk.transpose(1, 2), key_nhlk, value_nhlk, dropout_p=dropout
    )
    return mixed.transpose(1, 2)[slot, column]


def _attend_padded(
    query: Tensor, key: Tensor, value: Tensor, batch: Batch, rows: Tensor | None, dropout: float
) -> Tensor:
    key_nhlk = batch.pad(key, 0.0).transpose(1, 2)
    value_nhlk = batch.pad(value, 0.0).transpose(1, 2)
    length = key_nhlk.shape[2]
    is_token = torch.arange(length, device=key.device) < batch.lengths[:, None]
    sequence = batch.sequence_index.long() if rows is None else batch.sequence_index.long()[rows]
    slot, column = _ragged(sequence, batch.num_sequences)
    query_nrhk = query.new_zeros((batch.num_sequences, int(column.max()) + 1, *query.shape[1:]))
    query_nrhk = query_nrhk.index_put((slot, column), query)
    mixed = F.scaled_dot_product_attention(
        query_nrhk.transpose(1, 2),
        key_nhlk,
        value_nhlk,
        attn_mask=is_token[:, None, None, :],
        dropout_p=dropout,
    )
    return mixed.transpose(1, 2)[slot, column]


def _ragged(sequence: Tensor, num_sequences: int) -> tuple[Tensor, Tensor]:
    """Give each sorted entry its row and its running number within the row."""
    counts = torch.bincount(sequence, minlength=num_sequences)
    before = torch.cumsum(counts, 0) - counts
    return sequence, torch.arange(len(sequence), device=sequence.device) - before[sequence]


def num_parameters(module: nn.Module) -> int:
    """Count parameters, tied ones once.

    Parameters
    ----------
    module
        Any module.
    """
    return sum({id(p): p.numel() for p in module.parameters()}.values())
