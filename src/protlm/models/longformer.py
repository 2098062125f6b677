"""RoBERTa to Longformer: the same weights with sliding-window attention, for longer inputs."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LongformerConfig, LongformerForMaskedLM, RobertaForMaskedLM

from protlm.errors import ModelError
from protlm.models.language_model import LanguageModel
from protlm.models.tokenizers import tokenizer_of

PROJECTIONS = ("query", "key", "value")
"""Of a self-attention; a Longformer has each once more, as ``query_global`` and so on."""


def to_longformer(model: LanguageModel, *, max_tokens: int, window: int, name: str = "") -> LanguageModel:
    """Give a Longformer with the weights of a RoBERTa.

    Learned positions are tiled: the rows of the start again and again, with those of padding before them.
    Query, key and value are copied twice, for local and for global attention, each with tensors of its own.
    Up to ``window / 2 + 1`` tokens, where every token sees all others, its logits are those of the RoBERTa.

    DISCREPANCY: the published script leaves the first two rows of the position table, one of which padding
    uses, as whatever memory held, and makes the global projections the very modules of the local ones.

    Parameters
    ----------
    model
        A RoBERTa. It keeps its weights, none is shared.
    max_tokens
        Longest input with special tokens, at least that of the start.
    window
        Tokens that a token sees, half of them on each side, beside itself. As Hugging Face counts.
    name
        For tables; that of the start if not said.

    Raises
    ------
    ModelError
        If the model is no RoBERTa, or the lengths do not fit.

    References
    ----------
    Filipavicius et al. 2020, section 2; `initialize_longformer_from_roberta.py` of paccmann_proteomics.
    """
    _check(model, max_tokens, window)
    source = model.module.config
    settings = LongformerConfig(
        **{key: getattr(source, key) for key in _KEPT},
        max_position_embeddings=max_tokens + source.pad_token_id + 1,
        attention_window=[window] * source.num_hidden_layers,
    )
    with torch.random.fork_rng(devices=[]):
        module: Any = LongformerForMaskedLM(settings)
    module.load_state_dict(_converted(model.module.state_dict(), module))
    layout = replace(model.layout, max_tokens=max_tokens)
    longer = LanguageModel(
        module.to(model.device),
        layout,
        name=name or model.name,
        tokenizer=model.tokenizer or tokenizer_of(model.module, layout),
    )
    longer.family = model.family
    return longer.train(model.training)


_KEPT = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "type_vocab_size"),
    *("initializer_range", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id"),
)
"""Settings that a Longformer has as the RoBERTa."""


def tiled_positions(rows: Float[Tensor, "n d"], num_rows: int, *, num_fixed: int) -> Float[Tensor, "m d"]:
    """Lengthen a table of learned positions by repeating it.

    Parameters
    ----------
    rows
        The table.
    num_rows
        Of the longer table.
    num_fixed
        Rows at the start that stand for no position and are there once: those up to padding's own.

    Examples
    --------
    >>> tiled_positions(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), 7, num_fixed=2).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 2.0, 3.0, 2.0]
    """
    fixed, repeated = rows[:num_fixed], rows[num_fixed:]
    count = -(-(num_rows - num_fixed) // len(repeated))
    return torch.cat([fixed, repeated.repeat(count, 1)])[:num_rows]


def local_name(name: str) -> str:
    """Give the weight for local attention that a weight for global attention starts from; others as they are.

    Parameters
    ----------
    name
        Of a weight of a Longformer.
    """
    for projection in PROJECTIONS:
        name = name.replace(f".self.{projection}_global.", f".self.{projection}.")
    return name


def _converted(weights: dict[str, Tensor], module: Any) -> dict[str, Tensor]:
    converted = {}
    for name, own in module.state_dict().items():
        values = weights[local_name(name).replace("longformer.", "roberta.", 1)]
        if name == "longformer.embeddings.position_embeddings.weight":
            values = tiled_positions(values, len(own), num_fixed=module.config.pad_token_id + 1)
        converted[name] = values
    return converted


def _check(model: LanguageModel, max_tokens: int, window: int) -> None:
    if not isinstance(model.module, RobertaForMaskedLM):
        raise ModelError(
            f"model '{model.name}' is of type '{model.module.config.model_type}', and a Longformer is made "
            "of a RoBERTa",
            hint="train one with model.kind=roberta",
        )
    own = model.layout.max_tokens or 0
    if max_tokens < own:
        raise ModelError(
            f"max_tokens {max_tokens} is less than the {own} that '{model.name}' takes already",
            hint=f"take a multiple of {own}, such as {4 * own}",
        )
    if window < 2 or window % 2:
        raise ModelError(
            f"window {window} is no even number from 2 on: half of it is on each side of a token",
            hint="512 is what was published",
        )
    if max_tokens % window:
        raise ModelError(
            f"window {window} does not divide max_tokens {max_tokens}, and inputs are padded to a multiple "
            "of the window",
            hint=f"take max_tokens {-(-max_tokens // window) * window}",
        )
