"""A masked language model with its token layout: the one object that scorers and recipes hold."""

from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import EsmForMaskedLM, EsmTokenizer

from protlm.data.layout import TokenLayout
from protlm.models.forward import Attention, attention_for, encode, head_logits, num_parameters
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

    ESM-1b, ESM-1v and ESM-2 run through `protlm.models.forward`; any other model through its own
    call on a padded rectangle. `path` says which and why.

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
        The Hugging Face tokenizer that the model came with, to be saved with it; an ESM model needs none.
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
        self.is_flat = isinstance(module, EsmForMaskedLM)
        self._attention: Attention | None = attention
        if self.is_flat:
            # never trained or read here; without this, distributed training waits for its gradient
            module.esm.contact_head.requires_grad_(False)

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
            return f"{kind} through its own padded call: no flat path for this architecture"
        attention, reason = self._attention_path()
        return f"flat tokens, {attention} attention: {reason}"

    def hidden(self, batch: Batch) -> Float[Tensor, "t d"]:
        """Give the last hidden state of every token.

        Parameters
        ----------
        batch
            On any device.
        """
        batch = batch.to(self.device)
        if self.is_flat:
            return encode(self.module.esm, batch, attention=self._attention_path()[0])
        tokens = batch.pad(batch.tokens, self.layout.pad_id)
        output = self.module.base_model(input_ids=tokens, attention_mask=_token_mask(batch))
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
            states = encode(self.module.esm, batch, rows, attention=self._attention_path()[0])
            return head_logits(self.module.lm_head, states)
        tokens = batch.pad(batch.tokens, self.layout.pad_id)
        logits = batch.unpad(self.module(input_ids=tokens, attention_mask=_token_mask(batch)).logits)
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

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors``, tokenizer files and ``token_layout.json``.

        Parameters
        ----------
        folder
            Made if it is not there. `AutoModelForMaskedLM.from_pretrained` loads it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.module.save_pretrained(folder)
        if self.is_flat:
            vocabulary = folder / "vocab.txt"
            vocabulary.write_text("\n".join(self.layout.tokens), encoding="utf-8")
            EsmTokenizer(str(vocabulary)).save_pretrained(folder)
        elif self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        self.layout.save(folder)

    def _attention_path(self) -> tuple[Attention, str]:
        asked: Attention | None = self._attention
        return attention_for(self.device) if asked is None else (asked, "asked for")


def _token_mask(batch: Batch) -> Tensor:
    return batch.pad(torch.ones_like(batch.tokens), 0)
