"""A set of backbones: from a Parquet file, JSON, a folder of structure files, or beside a corpus."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import polars as pl

from protlm.data.backbone_json import read_backbone_json
from protlm.data.backbone_tables import BackboneTable
from protlm.data.corpus import Corpus, names_corpus
from protlm.data.readers.structure import SUFFIXES, StructureChain, read_structure
from protlm.data.readers.structure_folder import find_structures
from protlm.errors import DataError
from protlm.runs import file_hash
from protlm.types.structure import Backbone

BACKBONES = "backbones.parquet"
"""Name of the file beside the tables of a corpus; its rows are those of the corpus's main table."""


class _Source(Protocol):
    """Where backbones come from."""

    ids: tuple[str, ...]
    lengths: np.ndarray
    labels: pl.DataFrame

    def read(self, row: int) -> Backbone:
        """Give one backbone."""
        ...


class _Listed:
    """Backbones in memory."""

    def __init__(self, backbones: Sequence[Backbone], labels: pl.DataFrame | None = None) -> None:
        self._backbones = list(backbones)
        self.ids = tuple(each.id for each in backbones)
        self.lengths = np.array([len(each) for each in backbones], dtype=np.int64)
        self.labels = pl.DataFrame() if labels is None else labels

    def read(self, row: int) -> Backbone:
        return self._backbones[row]


class BackboneSet(Sequence[Backbone]):
    """Backbones in order, with labels; those of a Parquet file are read as they are asked for.

    Parameters
    ----------
    source
        Where they are; see `open_backbones`, or `BackboneSet.of` for some in memory.
    rows
        Which of them, 0-based; all if `None`.

    Examples
    --------
    >>> one = Backbone("a", "MK", np.zeros((2, 4, 3)), np.zeros(2, int), ("A",))
    >>> other = Backbone("b", "M", np.zeros((1, 4, 3)), np.zeros(1, int), ("A",))
    >>> backbones = BackboneSet.of([one, other])
    >>> len(backbones), backbones.lengths.tolist(), backbones[1].residues, backbones.take([1]).ids
    (2, [2, 1], 'M', ('b',))
    """

    def __init__(self, source: _Source, rows: np.ndarray | None = None) -> None:
        self._source = source
        self._rows = np.arange(len(source.ids)) if rows is None else np.asarray(rows, dtype=np.int64)

    @classmethod
    def of(cls, backbones: Sequence[Backbone], labels: pl.DataFrame | None = None) -> "BackboneSet":
        """Make a set of backbones in memory.

        Parameters
        ----------
        backbones
            Any.
        labels
            A row for each.
        """
        return cls(_Listed(backbones, labels))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Backbone: ...
    @overload
    def __getitem__(self, index: slice) -> "BackboneSet": ...
    def __getitem__(self, index: int | slice) -> "Backbone | BackboneSet":
        if isinstance(index, slice):
            return BackboneSet(self._source, self._rows[index])
        return self._source.read(int(self._rows[index]))

    def __iter__(self) -> Iterator[Backbone]:
        return (self._source.read(int(row)) for row in self._rows)

    def take(self, rows: Sequence[int] | np.ndarray) -> "BackboneSet":
        """Give some of them, in the order named.

        Parameters
        ----------
        rows
            0-based; repeats allowed.
        """
        return BackboneSet(self._source, self._rows[np.asarray(rows, dtype=np.int64)])

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each."""
        return tuple(self._source.ids[row] for row in self._rows)

    @property
    def lengths(self) -> np.ndarray:
        """Residues of each, resolved or not, int64."""
        return self._source.lengths[self._rows]

    @property
    def labels(self) -> pl.DataFrame:
        """Columns beside, a row for each."""
        return self._source.labels[self._rows] if self._source.labels.width else self._source.labels

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The `backbone_digest` of each; reads all."""
        return tuple(backbone_digest(each) for each in self)

    @cached_property
    def digest(self) -> str:
        """Hash of the contents in their order; ids and labels do not enter. 40 hexadecimal digits."""
        return hashlib.sha256(" ".join(self.digests).encode()).hexdigest()[:40]


def backbone_digest(backbone: Backbone) -> str:
    """Give a hash of what an encoder sees: residues, where chains begin, and coordinates; 40 hex digits.

    Parameters
    ----------
    backbone
        Its id, chain ids and residue ids do not enter.
    """
    places = backbone.coordinates + np.float32(0)  # -0 is 0
    places[np.isnan(places)] = np.nan  # of which there are many
    digest = hashlib.sha256(f"1 {backbone.residues};".encode())
    digest.update(np.bincount(backbone.chain_index).astype("<i8").tobytes())
    digest.update(places.astype("<f4").tobytes())
    return digest.hexdigest()[:40]


def backbone_of_chains(name: str, chains: Sequence[StructureChain]) -> Backbone:
    """Lay chains one behind the other.

    Parameters
    ----------
    name
        Id of the backbone.
    chains
        At least one; unresolved residues stay in the sequence, without coordinates.
    """
    return Backbone(
        name,
        "".join(chain.residues for chain in chains),
        np.concatenate([chain.backbone for chain in chains]),
        np.repeat(np.arange(len(chains)), [len(chain) for chain in chains]),
        tuple(chain.chain_id for chain in chains),
        tuple(each for chain in chains for each in chain.residue_ids),
    )


def open_backbones(source: Path | str) -> BackboneSet:
    """Open a set of backbones.

    Parameters
    ----------
    source
        A corpus made by ``prepare --structures`` (``FOLDER`` or ``FOLDER:SUBSET``); a Parquet file as
        `protlm.data.backbone_tables` has it; JSON, or JSON lines, of objects with name, seq and coords (an
        array [n, 4, 3], or an object with N, CA, C and O); a structure file; or a folder of them, each file a
        backbone of all its protein chains. JSON and structure files are read at once.

    Raises
    ------
    DataError
        If anything is wrong with it.
    """
    if names_corpus(source):
        return _of_corpus(Corpus(source))
    path = Path(source)
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", hint="check the path and the working directory")
    if path.is_dir():
        files = find_structures(path)
        return BackboneSet.of(
            [backbone_of_chains(name, read_structure(file).chains) for name, file in files.items()]
        )
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return BackboneSet(BackboneTable(path))
    if name.endswith((".json", ".jsonl")):
        return BackboneSet.of(*read_backbone_json(path))
    if name.endswith(SUFFIXES):
        structure = read_structure(path)
        return BackboneSet.of([backbone_of_chains(structure.name, structure.chains)])
    raise DataError(
        f"cannot tell what kind of structures {path} has by its name",
        hint=f"give a folder, .parquet, .json, .jsonl, or one of {', '.join(SUFFIXES)}",
    )


def _of_corpus(corpus: Corpus) -> BackboneSet:
    path, facts = corpus.path / BACKBONES, corpus.manifest.get("backbones")
    if facts is None or not path.exists():
        raise DataError(
            f"corpus {corpus.path} has no backbones ({BACKBONES})",
            hint="make it with: protlm prepare STRUCTURES --structures --out FOLDER",
        )
    remedy = "the corpus was changed after it was made; prepare it again"
    if (found := file_hash(path)) != facts["sha256"]:
        raise DataError(f"{path} has the hash {found[:12]}…, expected {facts['sha256'][:12]}…", hint=remedy)
    table = BackboneTable(path)
    place = {each: row for row, each in enumerate(table.ids)}
    ids = corpus.column("id")
    if absent := [each for each in ids if each not in place]:
        raise DataError(f"{path} has no backbone '{absent[0]}', which the corpus has", hint=remedy)
    rows = np.array([place[each] for each in ids], dtype=np.int64)
    flat = corpus.gather(np.arange(len(corpus))).residues.tobytes()
    stops = np.cumsum(corpus.lengths)
    sequences = table.sequences()
    for row, start, stop, each in zip(rows, stops - corpus.lengths, stops, ids, strict=True):
        if flat[start:stop] != sequences[row].encode():
            raise DataError(f"record '{each}' of {corpus.name} is not the sequence in {path}", hint=remedy)
    return BackboneSet(table, rows)
