"""From a `fair-esm` model in memory to Hugging Face's `EsmForMaskedLM`, name by name."""

import re
from typing import Any

import torch
from transformers import EsmConfig, EsmForMaskedLM

NAMES = {
    r"embed_tokens\.weight": "esm.embeddings.word_embeddings.weight",
    r"embed_positions\.weight": "esm.embeddings.position_embeddings.weight",
    r"emb_layer_norm_before\.(weight|bias)": r"esm.embeddings.layer_norm.\1",
    r"layers\.(\d+)\.self_attn_layer_norm\.(weight|bias)": r"esm.encoder.layer.\1.attention.LayerNorm.\2",
    r"layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)": r"esm.encoder.layer.\1.attention.self.query.\2",
    r"layers\.(\d+)\.self_attn\.k_proj\.(weight|bias)": r"esm.encoder.layer.\1.attention.self.key.\2",
    r"layers\.(\d+)\.self_attn\.v_proj\.(weight|bias)": r"esm.encoder.layer.\1.attention.self.value.\2",
    r"layers\.(\d+)\.self_attn\.out_proj\.(weight|bias)": r"esm.encoder.layer.\1.attention.output.dense.\2",
    r"layers\.(\d+)\.final_layer_norm\.(weight|bias)": r"esm.encoder.layer.\1.LayerNorm.\2",
    r"layers\.(\d+)\.fc1\.(weight|bias)": r"esm.encoder.layer.\1.intermediate.dense.\2",
    r"layers\.(\d+)\.fc2\.(weight|bias)": r"esm.encoder.layer.\1.output.dense.\2",
    r"emb_layer_norm_after\.(weight|bias)": r"esm.encoder.emb_layer_norm_after.\1",
    r"contact_head\.regression\.(weight|bias)": r"esm.contact_head.regression.\1",
    r"lm_head\.dense\.(weight|bias)": r"lm_head.dense.\1",
    r"lm_head\.layer_norm\.(weight|bias)": r"lm_head.layer_norm.\1",
    r"lm_head\.weight": "lm_head.decoder.weight",
    r"lm_head\.bias": "lm_head.bias",
    r"layers\.0\.self_attn\.rot_emb\.inv_freq": "esm.rotary_embeddings.inv_freq",
}
"""Every parameter of ESM-1b, ESM-1v and ESM-2 by its name in `fair-esm`, and its name in transformers."""

DROPPED = (r"layers\.[1-9]\d*\.self_attn\.rot_emb\.inv_freq",)
"""Rotary frequencies of the later layers, which repeat those of the first; transformers keeps them once."""


def convert_name(name: str) -> str | None:
    """Give the name in transformers, or `None` for what is kept once there."""
    if any(re.fullmatch(pattern, name) for pattern in DROPPED):
        return None
    for pattern, replacement in NAMES.items():
        match = re.fullmatch(pattern, name)
        if match is not None:
            return match.expand(replacement)
    raise KeyError(f"no rule for the parameter {name!r} of fair-esm")


def convert_config(model: Any) -> EsmConfig:
    """Read the sizes and switches off a `fair-esm` model of the ESM-1b, ESM-1v or ESM-2 layout."""
    weights = model.state_dict()
    learned = "embed_positions.weight" in weights
    vocab_size, hidden_size = weights["embed_tokens.weight"].shape
    settings = model.args if learned else model
    return EsmConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=len(model.layers),
        num_attention_heads=model.layers[0].attention_heads,
        intermediate_size=len(weights["layers.0.fc1.bias"]),
        position_embedding_type="absolute" if learned else "rotary",
        # fair-esm's table already counts the ids up to the padding one
        max_position_embeddings=len(weights["embed_positions.weight"]) if learned else 1026,
        emb_layer_norm_before="emb_layer_norm_before.weight" in weights,
        token_dropout=bool(getattr(settings, "token_dropout", False)),
        layer_norm_eps=1e-5,
        pad_token_id=model.padding_idx,
        mask_token_id=model.mask_idx,
        bos_token_id=model.cls_idx,
        eos_token_id=model.eos_idx,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def convert(model: Any) -> EsmForMaskedLM:
    """Build the transformers model with the same weights; every one of its parameters is filled."""
    converted = EsmForMaskedLM(convert_config(model))
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        new_name = convert_name(name)
        if new_name is not None:
            weights[new_name] = tensor.clone()
    converted.load_state_dict(weights, strict=True)
    return converted.eval()
