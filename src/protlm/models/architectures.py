"""New models to train: their sizes and how to build them."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from transformers import EsmConfig, EsmForMaskedLM

from protlm.config import BaseConfig, Rate
from protlm.data.layout import SEPARATORS, esm_layout
from protlm.errors import did_you_mean
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.registry import Registry

architectures = Registry(
    "model",
    {
        "esm": "protlm.models.architectures:EsmArchitecture",
        "pretrained": "protlm.models.architectures:PretrainedArchitecture",
    },
)


class EsmArchitecture:
    """An encoder of the ESM-1b/ESM-2 family with fresh weights."""

    class Config(BaseConfig):
        """Sizes of a new model."""

        kind: Literal["esm"] = "esm"
        num_layers: int = Field(default=6, ge=1)
        hidden_size: int = Field(default=128, ge=1)
        num_heads: int = Field(default=8, ge=1)
        """Attention heads; hidden_size / num_heads must be even for rotary positions."""
        ffn_size: int | None = None
        """Width of the feed-forward layer; four times hidden_size where not said."""
        positions: Literal["rotary", "learned"] = "rotary"
        token_dropout: bool = False
        """Zero the mask embedding and rescale, as the published ESM models do."""
        dropout: Rate = 0.0
        """Dropout of hidden states and attention."""
        max_tokens: int | None = Field(default=None, ge=8)
        """Longest input; needed for learned positions."""
        separator: str = "cls-cls"
        """What stands between two chains."""

        @model_validator(mode="after")
        def _sizes_fit(self) -> "EsmArchitecture.Config":
            if self.hidden_size % self.num_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
                )
            if self.positions == "rotary" and (self.hidden_size // self.num_heads) % 2:
                raise ValueError("rotary positions need an even head width: hidden_size / num_heads")
            if self.positions == "learned" and self.max_tokens is None:
                raise ValueError("learned positions need max_tokens")
            if self.separator not in SEPARATORS:
                raise ValueError(
                    f"unknown separator '{self.separator}'; {did_you_mean(self.separator, SEPARATORS)}"
                )
            return self

        def build(self, *, seed: int, name: str = "model") -> LanguageModel:
            """Make the model with weights drawn from `seed`.

            Parameters
            ----------
            seed
                Of the initial weights.
            name
                For tables.
            """
            return build_esm(self, seed=seed, name=name)


class PretrainedArchitecture:
    """A published or earlier model to go on training."""

    class Config(BaseConfig):
        """Where to start from."""

        kind: Literal["pretrained"] = "pretrained"
        name: str
        """A Run, a folder, a catalogue name, or a hub name."""
        separator: str | None = None
        """What stands between two chains; `None` keeps the model's own."""

        def build(self, *, seed: int, name: str = "model") -> LanguageModel:
            """Load the model on the CPU.

            Parameters
            ----------
            seed
                Not used; the weights exist.
            name
                For tables.
            """
            del seed
            model = load_model(self.name, device="cpu")
            model.name = name
            if self.separator is not None:
                model.layout = model.layout.with_separator(self.separator)
            return model


def build_esm(config: EsmArchitecture.Config, *, seed: int, name: str) -> LanguageModel:
    """Make a new ESM-family model.

    Parameters
    ----------
    config
        Its sizes.
    seed
        Of the initial weights; drawn without touching the global generator.
    name
        For tables.
    """
    layout = esm_layout(max_tokens=config.max_tokens, separator=config.separator)
    learned = config.positions == "learned"
    settings = EsmConfig(
        vocab_size=len(layout.tokens),
        mask_token_id=layout.mask_id,
        pad_token_id=layout.pad_id,
        bos_token_id=layout.ids["<cls>"],
        eos_token_id=layout.ids["<eos>"],
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ffn_size or 4 * config.hidden_size,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        max_position_embeddings=(config.max_tokens or 1024) + layout.pad_id + 1,
        position_embedding_type="absolute" if learned else "rotary",
        emb_layer_norm_before=learned,
        token_dropout=config.token_dropout,
        layer_norm_eps=1e-5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = EsmForMaskedLM(settings)
    return LanguageModel(module, layout, name=name)
