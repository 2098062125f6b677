"""A head on the begin token of an encoder: classes or values of whole records."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    EsmForSequenceClassification,
    LongformerForSequenceClassification,
    RobertaForSequenceClassification,
)

from protlm.data.layout import FILE_NAME, TokenLayout
from protlm.errors import ModelError
from protlm.models.attention import attention_for
from protlm.models.forward import encode
from protlm.models.language_model import LanguageModel
from protlm.models.longformer import local_name
from protlm.models.padded import padded_inputs
from protlm.models.tokenizers import tokenizer_of
from protlm.types.batch import Batch

CLASSES: dict[str, Any] = {
    "esm": EsmForSequenceClassification,
    "roberta": RobertaForSequenceClassification,
    "longformer": LongformerForSequenceClassification,
}
"""Hugging Face's class for each type of model that has a classification path here."""


class SequenceClassifier(nn.Module):
    """A Hugging Face sequence classifier run on flat batches.

    ESM and RoBERTa run through `protlm.models.forward`, with the last layer at the begin tokens alone. A
    Longformer runs through its own call: the begin token sees and is seen by every token, all others keep
    their sliding windows.

    Parameters
    ----------
    module
        Of one of the types in `CLASSES`.
    layout
        Its tokens; with a begin token.
    name
        For tables and messages.
    tokenizer
        The Hugging Face tokenizer to save with it.
    """

    def __init__(
        self, module: Any, layout: TokenLayout, *, name: str = "model", tokenizer: Any = None
    ) -> None:
        super().__init__()
        self.module = module
        self.layout = layout
        self.name = name
        self.tokenizer = tokenizer
        self.is_flat = not isinstance(module, LongformerForSequenceClassification)
        if isinstance(module, EsmForSequenceClassification):
            module.esm.contact_head.requires_grad_(False)  # never read here

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    @property
    def num_labels(self) -> int:
        """Columns of the result."""
        return self.module.config.num_labels

    def forward(self, batch: Batch) -> Float[Tensor, "s n"]:
        """Give logits of each sequence over the labels, or its values in regression.

        Parameters
        ----------
        batch
            On any device.
        """
        batch = batch.to(self.device)
        return self.module.classifier(self._begin_states(batch)[:, None])

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a folder that plain `AutoModelForSequenceClassification.from_pretrained` loads.

        Parameters
        ----------
        folder
            Made if it is not there. It gets ``config.json``, ``model.safetensors``, tokenizer files and
            ``token_layout.json``.
        weights
            The Hugging Face module's weights by name, where they are not the module's own as they are.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = {} if weights is None else {"state_dict": dict(weights)}
        self.module.save_pretrained(folder, save_original_format=False, **own)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        self.layout.save(folder)

    def _begin_states(self, batch: Batch) -> Float[Tensor, "s d"]:
        encoder, config = self.module.base_model, self.module.config
        if self.is_flat:
            width = config.hidden_size // config.num_attention_heads
            attention, _ = attention_for(self.device, head_width=width)
            return encode(encoder, batch, batch.offsets[:-1].long(), attention=attention)
        inputs = padded_inputs(self.module, self.layout, batch, name=self.name)
        is_global = torch.zeros_like(inputs["input_ids"])
        is_global[:, 0] = 1
        return encoder(**inputs, global_attention_mask=is_global).last_hidden_state[:, 0]


def sequence_classifier(
    model: LanguageModel,
    num_labels: int,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    renew_global: bool = True,
) -> SequenceClassifier:
    """Put a fresh head on the begin token of a language model.

    Parameters
    ----------
    model
        An ESM, RoBERTa or Longformer without adapters. It keeps its weights; the copies are in float32.
    num_labels
        Classes, or values of a regression.
    labels
        Names of the classes, for ``config.json``.
    seed
        Of the head; drawn without touching the global generator.
    renew_global
        Copy query, key and value of a Longformer to those of global attention first. Masked training here
        is local, so that they stand where the conversion left them; the published script renews them too.
        `False` is for a Longformer that was trained with global attention elsewhere.

    Raises
    ------
    ModelError
        If there is no such path for the architecture, or the model has no begin token.
    """
    kind = model.module.config.model_type
    if kind not in CLASSES:
        raise ModelError(
            f"model '{model.name}' is of type '{kind}', which has no classification path here",
            hint=f"known: {', '.join(CLASSES)}",
        )
    if not model.layout.begin:
        raise ModelError(f"model '{model.name}' has no begin token", hint="the head reads its state")
    names = [str(name) for name in labels or [f"LABEL_{number}" for number in range(num_labels)]]
    if len(names) != num_labels:
        raise ModelError(
            f"{len(names)} names for {num_labels} labels: {', '.join(names)}", hint="name each label once"
        )
    config = copy.deepcopy(model.module.config)
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: Any = CLASSES[kind](config)
    weights = model.module.base_model.state_dict()
    if renew_global:
        weights = {name: weights[local_name(name)] for name in weights}
    module.base_model.load_state_dict(weights)
    tokenizer = model.tokenizer or tokenizer_of(model.module, model.layout)
    classifier = SequenceClassifier(module, model.layout, name=model.name, tokenizer=tokenizer)
    return classifier.to(model.device)


def load_classifier(folder: Path | str) -> SequenceClassifier:
    """Load what `SequenceClassifier.save` wrote, on the CPU, for inference.

    Parameters
    ----------
    folder
        With ``config.json``, ``model.safetensors`` and ``token_layout.json``.

    Raises
    ------
    ModelError
        If it cannot be read, is no classifier, or is of an architecture without a classification path.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise ModelError(
            f"{folder} is no classifier of ours: it has no {FILE_NAME}",
            hint="expected a folder that SequenceClassifier.save wrote",
        )
    layout = TokenLayout.load(folder)
    try:
        module, report = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"cannot load a classifier from {folder}: {str(error).strip().splitlines()[0]}",
            hint="expected a folder that SequenceClassifier.save wrote",
        ) from error
    missing = sorted(name for name in report["missing_keys"] if "contact_head." not in name)
    if missing or type(module) not in CLASSES.values():
        lacks = f"lacks {len(missing)} weights, such as {missing[0]}" if missing else "has no path here"
        raise ModelError(
            f"{folder} is no classifier: it is of type '{module.config.model_type}' and {lacks}",
            hint="a language model becomes one by sequence_classifier",
        )
    return SequenceClassifier(module, layout, name=folder.resolve().name).eval()
