"""New models to train: their sizes and how to build them."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, model_validator
from transformers import EsmConfig, EsmForMaskedLM

from protlm.config import BaseConfig, Rate
from protlm.data.layout import TokenLayout, check_separator, layout_of_vocabulary
from protlm.data.vocabularies import SingleChain
from protlm.errors import ConfigError, ModelError
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.registry import Registry

architectures = Registry(
    "model",
    {
        "esm": "protlm.models.architectures:EsmArchitecture",
        "longformer": "protlm.models.architecture_longformer:LongformerArchitecture",
        "pretrained": "protlm.models.architectures:PretrainedArchitecture",
        "roberta": "protlm.models.architecture_roberta:RobertaArchitecture",
    },
)


def _known_separator(name: str) -> str:
    try:
        return check_separator(name)
    except ConfigError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None


Separator = Annotated[str, AfterValidator(_known_separator)]


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
        window: int | None = Field(default=None, ge=1)
        """A token sees itself and so many tokens on each side; `None` is every token of the sequence."""
        layer_norm_eps: float = Field(default=1e-5, gt=0)
        """Of every layer norm; 1e-12 is what Hugging Face gives where a configuration does not say."""
        vocabulary: str = "esm"
        """A published vocabulary: esm, esm-sep, esm-pipe, preferential-masking, balm-package."""
        separator: Separator = "cls-cls"
        """What stands between two chains: cls-cls, cls, eos-eos, eos, sep, pipe, linker, linker:RESIDUES."""
        position_gap: int = Field(default=0, ge=0)
        """Added to the positions of each chain after the first."""
        single_chain: SingleChain = "bare"
        """A heavy or light chain alone: without the separator, or with it where it has it in a pair."""

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
            try:
                layout = self.layout
            except (ConfigError, ModelError) as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
            if layout.begin != ("<cls>",):
                raise ValueError(
                    f"vocabulary '{self.vocabulary}' has no <cls>, which this architecture needs"
                )
            return self

        @property
        def layout(self) -> TokenLayout:
            """The tokens of the model."""
            return layout_of_vocabulary(
                self.vocabulary,
                separator=self.separator,
                max_tokens=self.max_tokens,
                position_gap=self.position_gap,
                single_chain=self.single_chain,
            )

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
        separator: Separator | None = None
        """What stands between two chains; `None` keeps the model's own."""
        position_gap: int | None = Field(default=None, ge=0)
        """Added to the positions of each chain after the first; `None` keeps the model's own."""
        single_chain: SingleChain | None = None
        """How a heavy or light chain alone is written; `None` keeps the model's own."""

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
            own = {"position_gap": self.position_gap, "single_chain": self.single_chain}
            model.layout = replace(
                model.layout, **{k: value for k, value in own.items() if value is not None}
            )
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
    layout = config.layout
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
        layer_norm_eps=config.layer_norm_eps,
    )
    if config.window is not None:
        # both sides together, as Longformer's key of that name
        settings.update({"attention_window": 2 * config.window})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = EsmForMaskedLM(settings)
    return LanguageModel(module, layout, name=name)
