"""Checkpoints of `fair-esm` (ESM-1b, ESM-1v, ESM-2) as configuration and weights of transformers."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import EsmConfig

from protlm.data.layout import published_layout
from protlm.errors import ModelError

_PREFIX = re.compile(r"^(encoder\.sentence_encoder\.|encoder\.|sentence_encoder\.)")

_LAYER = r"layers\.(\d+)\."
_HF_LAYER = r"esm.encoder.layer.\1."
NAMES = {
    r"embed_tokens\.weight": "esm.embeddings.word_embeddings.weight",
    r"embed_positions\.weight": "esm.embeddings.position_embeddings.weight",
    r"emb_layer_norm_before\.(weight|bias)": r"esm.embeddings.layer_norm.\1",
    _LAYER + r"self_attn_layer_norm\.(weight|bias)": _HF_LAYER + r"attention.LayerNorm.\2",
    _LAYER + r"self_attn\.q_proj\.(weight|bias)": _HF_LAYER + r"attention.self.query.\2",
    _LAYER + r"self_attn\.k_proj\.(weight|bias)": _HF_LAYER + r"attention.self.key.\2",
    _LAYER + r"self_attn\.v_proj\.(weight|bias)": _HF_LAYER + r"attention.self.value.\2",
    _LAYER + r"self_attn\.out_proj\.(weight|bias)": _HF_LAYER + r"attention.output.dense.\2",
    _LAYER + r"self_attn\.rot_emb\.inv_freq": _HF_LAYER + "attention.self.rotary_embeddings.inv_freq",
    _LAYER + r"final_layer_norm\.(weight|bias)": _HF_LAYER + r"LayerNorm.\2",
    _LAYER + r"fc1\.(weight|bias)": _HF_LAYER + r"intermediate.dense.\2",
    _LAYER + r"fc2\.(weight|bias)": _HF_LAYER + r"output.dense.\2",
    r"emb_layer_norm_after\.(weight|bias)": r"esm.encoder.emb_layer_norm_after.\1",
    r"contact_head\.regression\.(weight|bias)": r"esm.contact_head.regression.\1",
    r"lm_head\.dense\.(weight|bias)": r"lm_head.dense.\1",
    r"lm_head\.layer_norm\.(weight|bias)": r"lm_head.layer_norm.\1",
    r"lm_head\.weight": "lm_head.decoder.weight",
    r"lm_head\.bias": "lm_head.bias",
}
"""Every parameter by its name there, and its name in transformers."""


def is_fair_esm(values: Any) -> bool:
    """Tell whether a pickle is a checkpoint of `fair-esm`.

    Parameters
    ----------
    values
        What it holds.
    """
    return isinstance(values, Mapping) and "model" in values and ("args" in values or "cfg" in values)


def from_fair_esm(
    values: Mapping[str, Any], regression: Mapping[str, Any] | None, *, where: str
) -> tuple[EsmConfig, dict[str, Tensor]]:
    """Give configuration and weights, named as in transformers.

    Parameters
    ----------
    values
        The checkpoint.
    regression
        The file ``…-contact-regression.pt`` that comes with most; `None` without it.
    where
        The file, for messages.

    Raises
    ------
    ModelError
        If it is another architecture than ESM-1b, ESM-1v or ESM-2, or has a weight without a known name.

    Notes
    -----
    Like `fair-esm`, the embedding of the mask token is put to zero in ESM-1b and ESM-1v, save where the head
    has a copy of the embeddings, which then holds.
    """
    settings = _settings(values, where)
    weights = {_PREFIX.sub("", name): value for name, value in values["model"].items()}
    if "embed_tokens.weight" not in weights or "layers.0.fc1.bias" not in weights:
        raise ModelError(
            f"{where} has no embed_tokens or no layers", hint="expected ESM-1b, ESM-1v or ESM-2 of fair-esm"
        )
    if "cfg" not in values:
        weights["embed_tokens.weight"] = _without_mask(weights)
    weights |= dict((regression or {}).get("model", {}))
    return _config(settings, weights, where), {_name(name, where): value for name, value in weights.items()}


def _settings(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "cfg" in values:
        return {
            name.removeprefix("encoder_"): value for name, value in _facts(values["cfg"]["model"]).items()
        }
    settings = {name.removeprefix("encoder_"): value for name, value in _facts(values["args"]).items()}
    if settings.get("arch") != "roberta_large":
        raise ModelError(
            f"{where} is a '{settings.get('arch')}' model, which transformers has no place for",
            hint="ESM-1b, ESM-1v and ESM-2 are converted; ESM-1, MSA Transformer and ESM-IF1 are not",
        )
    return settings


def _facts(holder: Any) -> dict[str, Any]:
    return dict(holder) if isinstance(holder, Mapping) else dict(vars(holder))


def _without_mask(weights: dict[str, Tensor]) -> Tensor:
    embeddings, head = weights["embed_tokens.weight"], weights.get("lm_head.weight")
    mask_id = published_layout("esm").mask_id
    embeddings[mask_id].zero_()  # where the head shares the memory it changes too, as there
    if head is None:
        return embeddings
    others = torch.arange(len(embeddings)) != mask_id
    return head if torch.equal(embeddings[others], head[others]) else embeddings


def _config(settings: dict[str, Any], weights: dict[str, Tensor], where: str) -> EsmConfig:
    layout = published_layout("esm")
    learned = "embed_positions.weight" in weights
    heads = settings.get("attention_heads")
    if not isinstance(heads, int):
        raise ModelError(
            f"{where} does not say how many attention heads there are", hint="is it cut out of a checkpoint?"
        )
    vocab_size, hidden_size = weights["embed_tokens.weight"].shape
    return EsmConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers.")),
        num_attention_heads=heads,
        intermediate_size=len(weights["layers.0.fc1.bias"]),
        position_embedding_type="absolute" if learned else "rotary",
        # the table there counts the ids up to the padding one, as transformers does
        max_position_embeddings=len(weights["embed_positions.weight"]) if learned else 1026,
        emb_layer_norm_before="emb_layer_norm_before.weight" in weights,
        token_dropout=bool(settings.get("token_dropout", False)),
        layer_norm_eps=1e-5,
        pad_token_id=layout.pad_id,
        mask_token_id=layout.mask_id,
        bos_token_id=layout.ids["<cls>"],
        eos_token_id=layout.ids["<eos>"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _name(name: str, where: str) -> str:
    for pattern, replacement in NAMES.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise ModelError(
        f"{where} has a weight '{name}' that ESM-1b, ESM-1v and ESM-2 do not have",
        hint="other architectures of fair-esm are not converted",
    )
