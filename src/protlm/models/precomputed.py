"""Vectors of structures that were made elsewhere, by structure id."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from protlm.errors import DataError, ModelError
from protlm.models.three_di import padded
from protlm.runs import file_hash
from protlm.types.structure import Backbone


class PrecomputedVectors:
    """An encoder that looks vectors up.

    Parameters
    ----------
    vectors
        By structure id: ``[residues, dim]``, or ``[dim]`` for the structure as a whole, which then stands at
        every residue.
    name
        For messages.
    identity
        What it depends on, such as the hash of the file.
    """

    def __init__(self, vectors: Mapping[str, np.ndarray], *, name: str, identity: str) -> None:
        if not vectors:
            raise ModelError(f"{name} has no vectors", hint="give one for each structure")
        odd = [one for one, each in vectors.items() if each.ndim not in (1, 2) or not np.isfinite(each).all()]
        if odd:
            raise ModelError(
                f"{name}: {len(odd):,} of {len(vectors):,} entries are no finite vectors (first: '{odd[0]}')",
                hint="leave structures out that have none",
            )
        widths = {each.shape[-1] for each in vectors.values()}
        if len(widths) > 1:
            raise ModelError(
                f"{name}: vectors of {len(widths)} widths ({', '.join(map(str, sorted(widths)))})",
                hint="keep those of one encoder in a file",
            )
        self._vectors = dict(vectors)
        self.name, self.dim, self.identity = name, widths.pop(), identity

    @classmethod
    def read(cls, path: Path) -> "PrecomputedVectors":
        """Read a Parquet file with columns ``id`` and ``vector``, or safetensors with an id for a name.

        Parameters
        ----------
        path
            A vector is a list of numbers, or such a list for each residue.

        Raises
        ------
        ModelError
            If it is another file, or has an id twice.
        """
        try:
            vectors = load_file(path) if path.suffix == ".safetensors" else _from_parquet(path)
        except (SafetensorError, pl.exceptions.PolarsError, ValueError, TypeError) as error:
            raise ModelError(
                f"{path} holds no vectors by id: {error}",
                hint="expected safetensors, or Parquet with columns id and vector (lists of numbers)",
            ) from error
        return cls(vectors, name=path.stem, identity=f"precomputed {file_hash(path)}")

    def save(self, path: Path) -> None:
        """Write the vectors, as `read` takes them.

        Parameters
        ----------
        path
            A safetensors file.
        """
        save_file({name: np.ascontiguousarray(each) for name, each in self._vectors.items()}, path)

    def embed(self, structures: Sequence[Backbone]) -> list[np.ndarray]:
        """Give float32 ``[residues, dim]`` for each structure.

        Parameters
        ----------
        structures
            Whose ids are looked up.

        Raises
        ------
        DataError
            If there is no vector for one, or not one per residue.
        """
        return [self._of(each) for each in structures]

    def states(self, structures: Sequence[Backbone]) -> tuple[Tensor, Tensor]:
        """Give the vectors padded, and which are residues.

        Parameters
        ----------
        structures
            Whose ids are looked up.
        """
        return padded([torch.from_numpy(each) for each in self.embed(structures)])

    def _of(self, structure: Backbone) -> np.ndarray:
        if structure.id not in self._vectors:
            close = difflib.get_close_matches(structure.id, self._vectors, n=1)
            raise DataError(
                f"{self.name} has no vector for structure '{structure.id}' among {len(self._vectors):,}",
                hint=f"did you mean '{close[0]}'?" if close else "are the ids those of the structures?",
            )
        vectors = np.asarray(self._vectors[structure.id], dtype=np.float32)
        if vectors.ndim == 1:
            return np.tile(vectors, (len(structure), 1))
        if len(vectors) != len(structure):
            raise DataError(
                f"{self.name} has {len(vectors):,} vectors for the {len(structure):,} residues of structure "
                f"'{structure.id}'",
                hint="make them of the same residues: those that are not resolved count too",
            )
        return vectors


def _from_parquet(path: Path) -> dict[str, np.ndarray]:
    frame = pl.read_parquet(path)
    if missing := {"id", "vector"} - set(frame.columns):
        raise ValueError(f"there is no column '{sorted(missing)[0]}'")
    if repeated := frame["id"].is_duplicated().sum():
        raise ValueError(f"{repeated:,} rows share an id")
    return {row: np.array(vector, dtype=np.float32) for row, vector in frame.select("id", "vector").rows()}
