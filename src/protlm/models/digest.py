"""A fingerprint of a model: its weights, their precision, its configuration and its tokens."""

import dataclasses
import hashlib
import json

import torch

from protlm.models.language_model import LanguageModel

_VOLATILE = (
    *("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype", "use_cache"),
    *("output_hidden_states", "output_attentions", "return_dict", "id2label", "label2id", "problem_type"),
)
"""Keys of a configuration that say where and with what it was written, and change no number."""


def model_digest(model: LanguageModel) -> str:
    """Give the SHA-256 of a model's layout, configuration and weights, in hex.

    Two models with one digest give the same numbers for the same input on the same device.

    Parameters
    ----------
    model
        On any device.
    """
    config = {name: value for name, value in model.module.config.to_dict().items() if name not in _VOLATILE}
    facts = [dataclasses.asdict(model.layout), config]
    digest = hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode())
    for name, values in model.module.state_dict().items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
