"""A masked language model with its token layout: the one object that scorers and recipes hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import EsmForMaskedLM, LongformerForMaskedLM, RobertaForMaskedLM

from protlm.data.family import Family
from protlm.data.layout import TokenLayout
from protlm.models.attention import Attention, attention_for
from protlm.models.forward import encode, head_logits, num_parameters, window_of
from protlm.models.padded import padded_inputs, padding_multiple
from protlm.models.tokenizers import tokenizer_of
from protlm.types.batch import Batch

Precision = Literal["float32", "bfloat16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class MaskedModel(Protocol):
    """What the scoring engine needs of a model."""

    name: str
    layout: TokenLayout

    def logits(self, batch: Batch, rows: Int[Tensor, " r"]) -> Float[Tensor, "r v"]:
        """Give logits at some tokens of a batch.

        Parameters
        ----------
        batch
            On any device.
        rows
            Ascending flat token indices.
        """
        ...


class LanguageModel(nn.Module):
    """A Hugging Face masked language model run on flat batches.

    ESM-1b, ESM-1v, ESM-2, RoBERTa and Longformer run through `protlm.models.forward`; any other model
    through its own call on a padded rectangle. `path` says which and why.

    Parameters
    ----------
    module
        The Hugging Face model.
    layout
        Its tokens.
    name
        For tables and messages.
    attention
        Overrides the choice made for the device.
    tokenizer
        The Hugging Face tokenizer that the model came with, to be saved with it; where there is none, one
        is made for ESM and RoBERTa.
    """

    def __init__(
        self,
        module: Any,
        layout: TokenLayout,
        *,
        name: str = "model",
        attention: Attention | None = None,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.layout = layout
        self.name = name
        self.tokenizer = tokenizer
        self.family: Family | None = None
        """The family whose positions it learned, if it was trained on residues aligned to a wild type."""
        self.is_flat = _has_flat_path(module)
        self.num_tokens = self.num_padded_tokens = 0
        """Tokens that went through the module's own padded call so far, without and with padding."""
        self._attention: Attention | None = attention
        if isinstance(module, EsmForMaskedLM):
            # never trained or read here; without this, distributed training waits for its gradient
            module.esm.contact_head.requires_grad_(False)
        if isinstance(module, LongformerForMaskedLM):
            # no token attends globally here, so that these get no gradient either
            for parameter in global_projections(module):
                parameter.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Parameters, tied ones once."""
        return num_parameters(self.module)

    @property
    def token_budget(self) -> int:
        """Tokens per batch where nothing else is asked for: what is fastest on the device."""
        # on a CPU larger batches leave the cache and are slower (benchmarks/masked_marginal_scan.py)
        return 4096 if self.device.type == "cpu" else 65536

    @property
    def path(self) -> str:
        """Which computation is used, and why."""
        if not self.is_flat:
            kind = type(self.module).__name__
            return f"{kind} through its own padded call: no flat path for this architecture{self._windows()}"
        attention, reason = self._attention_path()
        window = window_of(self.module.config)
        if window is None:
            return f"flat tokens, {attention} attention: {reason}"
        how = "varlen" if attention == "varlen" else "blockwise"
        line = f"flat tokens, {how} attention within {window} tokens on each side: {reason}"
        is_known = isinstance(self.module, LongformerForMaskedLM)
        return line if is_known else f"{line} (plain Hugging Face attends to all)"

    @property
    def padding_share(self) -> float:
        """Share of padding in all tokens computed so far; 0 on the flat path, which has none."""
        return 1 - self.num_tokens / self.num_padded_tokens if self.num_padded_tokens else 0.0

    @property
    def padding_note(self) -> str:
        """That share in words; empty where nothing was padded."""
        share = self.padding_share
        return f"{share:.1%} of the tokens that were computed were padding" if share else ""

    def hidden(self, batch: Batch) -> Float[Tensor, "t d"]:
        """Give the last hidden state of every token.

        Parameters
        ----------
        batch
            On any device.
        """
        batch = batch.to(self.device)
        if self.is_flat:
            return encode(self.module.base_model, batch, attention=self._attention_path()[0])
        output = self.module.base_model(**self._padded_inputs(batch))
        return batch.unpad(output.last_hidden_state)

    def logits(self, batch: Batch, rows: Int[Tensor, " r"] | None = None) -> Float[Tensor, "r v"]:
        """Give logits over the vocabulary at some tokens.

        Parameters
        ----------
        batch
            On any device.
        rows
            Ascending flat token indices; `None` is all.
        """
        batch = batch.to(self.device)
        rows = None if rows is None else rows.to(self.device)
        if self.is_flat:
            states = encode(self.module.base_model, batch, rows, attention=self._attention_path()[0])
            return head_logits(self.module.lm_head, states)
        logits = batch.unpad(self.module(**self._padded_inputs(batch)).logits)
        return logits if rows is None else logits[rows]

    def forward(self, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Give `logits`; the name that distributed wrappers call.

        Parameters
        ----------
        batch, rows
            As for `logits`.
        """
        return self.logits(batch, rows)

    def cast(self, precision: Precision) -> "LanguageModel":
        """Convert the parameters in place; rotary frequencies stay in float32.

        Parameters
        ----------
        precision
            ``"float32"`` or ``"bfloat16"``.
        """
        kept = {
            name: buffer.clone() for name, buffer in self.module.named_buffers() if name.endswith("inv_freq")
        }
        self.module.to(DTYPES[precision])
        for name, buffer in kept.items():
            owner, _, attribute = name.rpartition(".")
            setattr(self.module.get_submodule(owner), attribute, buffer.to(self.device))
        return self

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write ``config.json``, ``model.safetensors``, tokenizer files and ``token_layout.json``.

        Parameters
        ----------
        folder
            Made if it is not there. `AutoModelForMaskedLM.from_pretrained` loads it; a window of an ESM model
            stands in ``config.json``, where plain Hugging Face does not heed it.
        weights
            The Hugging Face module's weights by name, where they are not the module's own as they are:
            put together from shards, or merged with adapters.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # under the names the module has; otherwise transformers writes older ones, such as LayerNorm.gamma
        if weights is None:
            self.module.save_pretrained(folder, save_original_format=False)
        else:
            tied = getattr(self.module, "all_tied_weights_keys", {})
            kept = {name: tensor for name, tensor in weights.items() if name not in tied}
            self.module.save_pretrained(folder, state_dict=kept, save_original_format=False)
        tokenizer = self.tokenizer or tokenizer_of(self.module, self.layout)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        self.layout.save(folder)
        if self.family is not None:
            self.family.save(folder)

    def _windows(self) -> str:
        """Say how far a token sees, and what is padded for it."""
        multiple = padding_multiple(self.module.config)
        if multiple == 1:
            return ""
        return (
            f"; attention within {multiple // 2} tokens on each side, every length padded to a multiple of "
            f"{multiple}"
        )

    def _padded_inputs(self, batch: Batch) -> dict[str, Tensor]:
        inputs = padded_inputs(self.module, self.layout, batch, name=self.name)
        self.num_tokens += len(batch.tokens)
        self.num_padded_tokens += inputs["input_ids"].numel()
        return inputs

    def _attention_path(self) -> tuple[Attention, str]:
        if self._attention is not None:
            return self._attention, "asked for"
        config = self.module.config
        head_width = config.hidden_size // config.num_attention_heads
        return attention_for(self.device, head_width=head_width, window=window_of(config))


def global_projections(module: nn.Module) -> list[nn.Parameter]:
    """List the weights of a Longformer that only tokens with global attention use.

    Parameters
    ----------
    module
        The Hugging Face model.
    """
    return [parameter for name, parameter in module.named_parameters() if "_global." in name]


def _has_flat_path(module: Any) -> bool:
    if isinstance(module, RobertaForMaskedLM):
        return not (module.config.is_decoder or module.config.add_cross_attention)
    if isinstance(module, LongformerForMaskedLM):
        window = module.config.attention_window
        return isinstance(window, int) or len(set(window)) == 1
    return isinstance(module, EsmForMaskedLM)
