"""RoBERTa with fresh weights, as the binding-pairs models were."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from transformers import RobertaConfig, RobertaForMaskedLM

from protlm.config import BaseConfig, Rate
from protlm.data.layout import TokenLayout, layout_of_vocabulary
from protlm.data.subwords import layout_of_tokenizer
from protlm.data.vocabularies import VOCABULARIES, SingleChain
from protlm.errors import ConfigError, ModelError, did_you_mean
from protlm.models.architectures import Separator
from protlm.models.language_model import LanguageModel


class RobertaArchitecture:
    """An encoder with learned positions and layer norms behind each block, with fresh weights.

    References
    ----------
    Filipavicius et al. 2020, section 2 and table 1: 12 layers of width 768, a pair written
    ``<s>A</s></s>B</s>``, no token types, 514 rows of positions for 512 tokens.
    """

    class Config(BaseConfig):
        """Sizes of a new model."""

        kind: Literal["roberta"] = "roberta"
        num_layers: int = Field(default=6, ge=1)
        hidden_size: int = Field(default=128, ge=1)
        num_heads: int = Field(default=8, ge=1)
        """Attention heads; hidden_size must be a multiple."""
        ffn_size: int | None = Field(default=None, ge=1)
        """Width of the feed-forward layer; four times hidden_size where not said."""
        dropout: Rate = 0.1
        """Dropout of hidden states and attention."""
        max_tokens: int = Field(default=512, ge=8)
        """Longest input with special tokens; the position table has so many rows behind that of padding."""
        layer_norm_eps: float = Field(default=1e-5, gt=0)
        """Of every layer norm; 1e-12 is what Hugging Face gives where a configuration does not say."""
        vocabulary: str = "balm"
        """``balm`` (five specials and the twenty), ``roberta`` (and the six unusual letters), or the folder
        of a tokenizer."""
        separator: Separator = "eos-eos"
        """What stands between two chains: eos-eos is ``</s></s>``, as published."""
        position_gap: int = Field(default=0, ge=0)
        """Added to the positions of each chain after the first."""
        single_chain: SingleChain = "bare"
        """A heavy or light chain alone: without the separator, or with it where it has it in a pair."""

        @model_validator(mode="after")
        def _sizes_fit(self) -> "RobertaArchitecture.Config":
            if self.hidden_size % self.num_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
                )
            if self.vocabulary not in VOCABULARIES:
                return self  # a folder may be made later than its configuration is read
            try:
                _ = self.layout
            except (ConfigError, ModelError) as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
            return self

        @property
        def layout(self) -> TokenLayout:
            """The tokens of the model.

            Raises
            ------
            ConfigError
                If there is neither such a vocabulary nor such a folder.
            ModelError
                If the vocabulary lacks what RoBERTa needs.
            """
            return _check_specials(_layout_of(self), self.vocabulary)

        def build(self, *, seed: int, name: str = "model") -> LanguageModel:
            """Make the model with weights drawn from `seed`.

            Parameters
            ----------
            seed
                Of the initial weights.
            name
                For tables.
            """
            return build_roberta(self, seed=seed, name=name)


def build_roberta(config: RobertaArchitecture.Config, *, seed: int, name: str) -> LanguageModel:
    """Make a new RoBERTa.

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
    settings = RobertaConfig(
        vocab_size=len(layout.tokens),
        pad_token_id=layout.pad_id,
        bos_token_id=layout.ids[layout.begin[0]],
        eos_token_id=layout.ids[layout.end[-1]],
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ffn_size or 4 * config.hidden_size,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        # positions start behind the padding token's id
        max_position_embeddings=config.max_tokens + layout.pad_id + 1,
        type_vocab_size=1,
        layer_norm_eps=config.layer_norm_eps,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = RobertaForMaskedLM(settings)
    return LanguageModel(module, layout, name=name)


def _layout_of(config: RobertaArchitecture.Config) -> TokenLayout:
    if config.vocabulary in VOCABULARIES:
        return layout_of_vocabulary(
            config.vocabulary,
            separator=config.separator,
            max_tokens=config.max_tokens,
            position_gap=config.position_gap,
            single_chain=config.single_chain,
        )
    folder = Path(config.vocabulary)
    if not folder.is_dir():
        raise ConfigError(
            f"model.vocabulary '{config.vocabulary}' is neither a published vocabulary nor a folder",
            hint=f"{did_you_mean(config.vocabulary, VOCABULARIES)}; or make a tokenizer: "
            f"protlm tokenizer train INPUT --out {config.vocabulary}",
        )
    return layout_of_tokenizer(
        folder,
        separator=config.separator,
        max_tokens=config.max_tokens,
        position_gap=config.position_gap,
        single_chain=config.single_chain,
    )


def _check_specials(layout: TokenLayout, vocabulary: str) -> TokenLayout:
    if layout.begin != ("<s>",) or layout.end != ("</s>",):
        raise ModelError(
            f"vocabulary '{vocabulary}' writes {''.join(layout.begin)}CHAIN{''.join(layout.end)}, and "
            "this architecture <s>CHAIN</s>",
            hint="take balm, roberta, or the folder of a tokenizer that protlm tokenizer train made",
        )
    return layout
