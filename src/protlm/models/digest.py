"""A fingerprint of a model: its weights, their precision and its tokens."""

import dataclasses
import hashlib
import json

import torch

from protlm.models.language_model import LanguageModel


def model_digest(model: LanguageModel) -> str:
    """Give the SHA-256 of a model's layout and weights, in hex.

    Two models with one digest give the same numbers for the same input on the same device.

    Parameters
    ----------
    model
        On any device.
    """
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(model.layout), default=str).encode())
    for name, values in model.module.state_dict().items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
