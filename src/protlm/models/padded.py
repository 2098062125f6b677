"""Batches as the padded rectangles that an architecture's own call takes."""

import inspect
from typing import Any

import torch
from torch import Tensor

from protlm.data.layout import FILE_NAME, TokenLayout
from protlm.errors import ModelError
from protlm.types.batch import Batch

BEHIND_PADDING = ("esm", "roberta", "longformer", "xlm-roberta")
"""Families whose position ids start behind the id of the padding token."""


def padded_inputs(module: Any, layout: TokenLayout, batch: Batch, *, name: str) -> dict[str, Tensor]:
    """Give the arguments of a Hugging Face module's own call.

    Outputs have columns for padding; `Batch.unpad` cuts them off.

    Parameters
    ----------
    module
        The Hugging Face model.
    layout
        Its tokens.
    batch
        On the module's device.
    name
        Of the model, for messages.

    Raises
    ------
    ModelError
        If residues have positions of their own and the module's call takes none.
    """
    inputs = {
        "input_ids": batch.pad(batch.tokens, layout.pad_id),
        "attention_mask": batch.pad(torch.ones_like(batch.tokens), 0),
    }
    fills = {"input_ids": layout.pad_id, "attention_mask": 0}
    if layout.position_gap or "column" in batch.tracks:
        inputs["position_ids"], fills["position_ids"] = _position_ids(module, layout, batch, name)
    missing = -inputs["input_ids"].shape[1] % padding_multiple(module.config)
    if not missing:
        return inputs
    return {
        each: torch.nn.functional.pad(values, (0, missing), value=fills[each])
        for each, values in inputs.items()
    }


def padding_multiple(config: Any) -> int:
    """Give what the padded length must be a multiple of: the widest window of a Longformer, otherwise 1.

    Parameters
    ----------
    config
        A Hugging Face configuration.
    """
    if config.model_type != "longformer":
        return 1
    window = config.attention_window
    return window if isinstance(window, int) else max(window)


def _position_ids(module: Any, layout: TokenLayout, batch: Batch, name: str) -> tuple[Tensor, int]:
    """Give positions as the module counts them, with the gap between chains, and that of padding."""
    kind = module.config.model_type
    calls = (module.forward, module.base_model.forward)
    if not all("position_ids" in inspect.signature(call).parameters for call in calls):
        raise ModelError(
            f"model '{name}' ({kind}) cannot take residues at positions of their own (a gap of "
            f"{layout.position_gap} between chains, or columns of an alignment): its call takes no "
            "position_ids",
            hint=f"set position_gap to 0 in its {FILE_NAME} or in the configuration; prepare homologues "
            "with --as sequences",
        )
    first = module.config.pad_token_id + 1 if kind in BEHIND_PADDING else 0
    fill = first - 1 if first else 0
    return batch.pad(batch.positions + first, fill), fill
