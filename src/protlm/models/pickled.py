"""Weights in pickles, read without running what a pickle may hold. Only `protlm convert` does so."""

import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from protlm.errors import ModelError

ALLOWED = (Namespace,)
"""Besides tensors and plain containers: what fair-esm keeps its settings in."""


def read_pickle(path: Path) -> Any:
    """Give what a file of `torch.save` holds, if that is tensors, plain containers and settings.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ModelError
        If it holds anything else, which could run code, or is damaged.
    """
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError),
        *(KeyError, AttributeError, IndexError, OSError, zipfile.BadZipFile),
    ) as error:
        raise _refusal(path, str(error)) from error


def _refusal(path: Path, message: str) -> ModelError:
    name = re.search(r"GLOBAL (\S+)", message)
    if name is not None:
        return ModelError(
            f"{path} holds {name.group(1)}, which is no weight and could run code: nothing of it was read",
            hint="only weights, plain containers and argparse.Namespace are read; save a state_dict alone",
        )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    # torch's first line advises to read the file without care
    first = next((line for line in lines if "weights_only" not in line), "no content")
    return ModelError(
        f"{path} is damaged or no file of torch.save: {first}", hint="copy or download it again"
    )


def check_weights(values: Any, path: Path) -> dict[str, torch.Tensor]:
    """Give weights by name, if that is what was read.

    Parameters
    ----------
    values
        From `read_pickle`.
    path
        For the message.

    Raises
    ------
    ModelError
        If it is no mapping from names to tensors.
    """
    if not isinstance(values, Mapping) or not values:
        raise ModelError(
            f"{path} holds a {type(values).__name__} and no weights by name",
            hint="expected the state_dict of a model",
        )
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ModelError(
                f"{path}: '{name}' is a {type(value).__name__} and no tensor",
                hint="expected the state_dict of a model, and nothing beside it",
            )
    return dict(values)
