"""Vectors of pairs from two towers, kept in the Run, so that an interruption loses none."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from protlm.errors import ModelError
from protlm.evaluation.retrieval_pairs import Pairs
from protlm.progress import Progress
from protlm.types.record import Record
from protlm.types.structure import Backbone

PairVectors = tuple[np.ndarray, np.ndarray]
"""Of sequences and of structures, float32 ``[pairs, width]``, unit length."""
_FORMAT = 2


class Towers(Protocol):
    """What `protlm.models.dual_tower.DualTower` is; any object that does this may be judged."""

    name: str

    def embed_sequences(
        self, records: Sequence[Record], *, on_batch: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Give unit vectors."""
        ...

    def embed_structures(
        self, backbones: Sequence[Backbone], *, on_batch: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Give unit vectors."""
        ...

    def untrained(self, seed: int) -> Any:
        """Give the same with fresh weights."""
        ...


def pair_vectors(towers: Towers, pairs: Pairs, folder: Path, *, what: str) -> PairVectors:
    """Read pairs through both towers, or take what the folder has of it.

    Parameters
    ----------
    towers
        The model.
    pairs
        Any.
    folder
        Where vectors are kept under a hash of weights and content; nothing is kept of a model without a
        ``state_dict``.
    what
        Name for the progress.

    Raises
    ------
    ModelError
        If a vector is not finite or not of unit length.
    """
    path = _place(towers, pairs, folder)
    if path is not None and path.is_file():
        with np.load(path) as kept:
            return kept["sequences"], kept["structures"]
    with Progress(what, 2 * len(pairs), unit="view") as progress:

        def advance(count: int) -> None:
            progress.advance(units=count)

        sequences = towers.embed_sequences(pairs.records, on_batch=advance)
        structures = towers.embed_structures(pairs.backbones, on_batch=advance)
    for view, vectors in (("sequence", sequences), ("structure", structures)):
        _check(towers.name, view, vectors, pairs)
    if path is not None:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, sequences=sequences, structures=structures)
        part.replace(path)
    return sequences, structures


def towers_digest(towers: Towers) -> str | None:
    """Give a hash of weights and settings of both towers; `None` of a model without a ``state_dict``.

    Parameters
    ----------
    towers
        The model.
    """
    state = getattr(towers, "state_dict", None)
    if state is None:
        return None
    parts = [getattr(towers, name, None) for name in ("sequence", "structure")]
    heads = [getattr(towers, name, None) for name in ("sequence_head", "structure_head")]
    settings = [
        getattr(parts[0], "kind", ""),
        getattr(parts[0], "segments", 1),
        getattr(getattr(parts[1], "encoder", None), "identity", ""),
        *(getattr(head, "settings", "") for head in heads),  # the same weights may end in another function
    ]
    digest = hashlib.sha256(f"{_FORMAT} {type(towers).__name__} {settings}".encode())
    for name, values in state().items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _place(towers: Towers, pairs: Pairs, folder: Path) -> Path | None:
    weights = towers_digest(towers)
    if weights is None:
        return None
    digest = hashlib.sha256(weights.encode())
    digest.update(pairs.keys.tobytes())
    for backbone in pairs.backbones:
        digest.update(backbone.coordinates.tobytes())
    return folder / f"{digest.hexdigest()[:32]}.npz"


def _check(name: str, view: str, vectors: np.ndarray, pairs: Pairs) -> None:
    if vectors.ndim != 2 or len(vectors) != len(pairs):
        raise ModelError(f"{name}: {view} vectors of shape {vectors.shape} for {len(pairs):,} pairs")
    is_wrong = ~(np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1) < 1e-3)
    if is_wrong.any():
        one = pairs.ids[int(is_wrong.argmax())]
        raise ModelError(
            f"{name}: the {view} vector of '{one}' is not finite or not of unit length, as are "
            f"{int(is_wrong.sum()) - 1:,} more of {len(pairs):,}",
            hint="was it trained to the end? leave the structure out if it has no coordinates",
        )
