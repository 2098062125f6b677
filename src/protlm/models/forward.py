"""The ESM family, RoBERTa and Longformer run on flat tokens from the sub-modules of the Hugging Face module.

Shapes: ``t`` tokens of the batch, ``d`` width, ``k`` head width, ``r`` rows that are read.

The parameters stay where Hugging Face put them, so adapters, sharding and checkpoints keep working;
only the arithmetic is ours. Linear layers see all tokens at once without padding; attention stays inside a
sequence (`protlm.models.attention`). Where only some rows are read, the last layer and the head are computed
for those alone.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LongformerModel, RobertaModel

from protlm.models.attention import Attention, Mixer, Rotary, attend, mixer_of
from protlm.types.batch import Batch

TRAINED_MASK_SHARE = 0.15 * 0.8
"""Share of mask tokens that the token-dropout rescaling of ESM assumes (Rives et al. 2021; ESM code)."""


def encode(
    model: Any, batch: Batch, rows: Int[Tensor, " r"] | None = None, *, attention: Attention = "grouped"
) -> Float[Tensor, "r d"]:
    """Run the encoder and give its normalised last hidden states.

    Parameters
    ----------
    model
        An `EsmModel`, a `RobertaModel`, or a `LongformerModel` without global attention, possibly with
        adapters in it.
    batch
        Flat tokens on the model's device.
    rows
        Sorted flat token indices to give states for; `None` gives all.
    attention
        How attention is computed; the results agree to rounding.
    """
    mixer = mixer_of(batch, attention, window=window_of(model.config))
    if isinstance(model, RobertaModel | LongformerModel):
        return _encode_roberta(model, batch, rows, mixer)
    x_td = _embed(model, batch)
    rotary = _rotary_table(model, batch, x_td.dtype)
    last = len(model.encoder.layer) - 1
    for number, layer in enumerate(model.encoder.layer):
        read = rows if number == last else None
        x_td = _layer(layer, x_td, mixer, rotary, read)
    return model.encoder.emb_layer_norm_after(x_td)


def window_of(config: Any) -> int | None:
    """Give the tokens that each token sees on each side, `None` where it sees all.

    Parameters
    ----------
    config
        Of a Hugging Face model; ``attention_window`` counts both sides, as Longformer's, which has a list of
        one number per layer. The numbers of a list are equal.
    """
    both_sides = getattr(config, "attention_window", None)
    if isinstance(both_sides, list | tuple):
        both_sides = both_sides[0]
    return None if both_sides is None else both_sides // 2


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


def _rotary_table(model: Any, batch: Batch, dtype: torch.dtype) -> Rotary | None:
    """Cosine and signed sine, each ``[t, 1, k]``: out = q * cosine + halves_swapped(q) * sine."""
    if model.rotary_embeddings is None:
        return None
    angles = batch.positions[:, None].float() * model.rotary_embeddings.inv_freq.float()
    cosine, sine = angles.cos(), angles.sin()
    cosine = torch.cat([cosine, cosine], dim=-1)[:, None].to(dtype)
    sine = torch.cat([-sine, sine], dim=-1)[:, None].to(dtype)
    return cosine, sine


def _layer(
    layer: Any,
    x_td: Tensor,
    mixer: Mixer,
    rotary: Rotary | None,
    rows: Tensor | None,
) -> Tensor:
    attention = layer.attention
    normed = attention.LayerNorm(x_td)
    mixed = attend(attention.self, normed, mixer, rotary, rows)
    residual = x_td if rows is None else x_td[rows]
    x_td = attention.output.dropout(attention.output.dense(mixed)) + residual
    inner = F.gelu(layer.intermediate.dense(layer.LayerNorm(x_td)))
    return layer.output.dropout(layer.output.dense(inner)) + x_td


def _encode_roberta(model: Any, batch: Batch, rows: Tensor | None, mixer: Mixer) -> Tensor:
    """RoBERTa and Longformer differ by learned positions, one token type, and norms behind each block."""
    embeddings = model.embeddings
    x_td = embeddings.word_embeddings(batch.tokens) + embeddings.token_type_embeddings.weight[0]
    x_td = x_td + embeddings.position_embeddings(batch.positions + embeddings.padding_idx + 1)
    x_td = embeddings.dropout(embeddings.LayerNorm(x_td))
    last = len(model.encoder.layer) - 1
    for number, layer in enumerate(model.encoder.layer):
        read = rows if number == last else None
        mixed = attend(layer.attention.self, x_td, mixer, None, read)
        x_td = layer.attention.output(mixed, x_td if read is None else x_td[read])
        x_td = layer.output(layer.intermediate(x_td), x_td)
    return x_td


def num_parameters(module: nn.Module) -> int:
    """Count parameters, tied ones once.

    Parameters
    ----------
    module
        Any module.
    """
    return sum({id(p): p.numel() for p in module.parameters()}.values())
