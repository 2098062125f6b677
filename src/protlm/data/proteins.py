"""The proteins that links are between: each sequence once, found by any of its ids."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from protlm.data.arrow_tables import MappedTable, TableWriter
from protlm.data.corpus import CHAIN_SCHEMA, plain_chain_hash, plain_chains
from protlm.data.remembered import NumberSet
from protlm.errors import DataError

_BATCH = 1 << 15

UNKNOWN, LEFT_OUT = -1, -2
"""Codes of an id that no file has, and of one whose sequence was left out."""


@dataclass(frozen=True)
class Proteins:
    """Distinct sequences, numbered in the order of their content hashes, whatever the order of the input.

    `n` proteins.
    """

    table: MappedTable
    """Rows of the `chains` table of a corpus."""
    rows: np.ndarray
    """Row of each protein there, int64 ``[n]``."""
    contents: np.ndarray
    """Content hash of each, uint64 ``[n]``, ascending."""
    lengths: np.ndarray
    """Residues, int64 ``[n]``."""
    names: pl.Series
    """The first id of each by letters."""
    lookups: tuple["Lookup", "Lookup"]
    """By id, for each of the two sides of a link."""
    num_aliases: int
    """Ids whose sequence another id has too."""

    def __len__(self) -> int:
        return len(self.contents)

    def chain_batches(self, is_used: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Stream the rows of some proteins.

        Parameters
        ----------
        is_used
            Which, bool ``[n]``.
        """
        is_row_used = np.zeros(len(self), dtype=bool)
        is_row_used[self.rows] = is_used
        start = 0
        for batch in self.table.batches():
            yield batch.filter(pa.array(is_row_used[start : start + len(batch)]))
            start += len(batch)

    def chain_rows(self, is_used: np.ndarray) -> np.ndarray:
        """Give the row of each protein among those of `chain_batches`, int64 ``[n]``.

        Parameters
        ----------
        is_used
            Which, bool ``[n]``.
        """
        is_row_used = np.zeros(len(self), dtype=bool)
        is_row_used[self.rows] = is_used
        return (np.cumsum(is_row_used) - 1)[self.rows]

    def each_residues(self, codes: np.ndarray) -> Iterator[str]:
        """Stream the letters of some proteins.

        Parameters
        ----------
        codes
            Their numbers.
        """
        for start in range(0, len(codes), _BATCH):
            yield from self.residues(codes[start : start + _BATCH])

    def residues(self, codes: np.ndarray) -> list[str]:
        """Give the letters of some proteins.

        Parameters
        ----------
        codes
            Their numbers.
        """
        column = self.table.column("residues")
        return column.take(pa.array(self.rows[codes])).to_pylist() if len(codes) else []


@dataclass(frozen=True)
class Lookup:
    """Codes by id, through 64-bit hashes of the ids."""

    hashes: np.ndarray
    """uint64, ascending."""
    codes: np.ndarray
    """int64."""

    def find(self, names: pl.Series) -> np.ndarray:
        """Give the code of each id, `UNKNOWN` or `LEFT_OUT`; int64.

        An id that is unknown is taken for a known one with a chance of 1 in 10¹² for ten million proteins.

        Parameters
        ----------
        names
            Ids.
        """
        if not len(self.hashes):
            return np.full(len(names), UNKNOWN)
        asked = id_hashes(names)
        places = np.minimum(np.searchsorted(self.hashes, asked), len(self.hashes) - 1)
        return np.where(self.hashes[places] == asked, self.codes[places], UNKNOWN)


@dataclass
class ProteinStore:
    """Gathers ids and sequences on disk, each sequence once, in some 30 bytes of memory per id and its text.

    Sides tell apart files that have ids of their own for the first and for the second protein of a link: an
    epitope 38 and a receptor 38. Side 0 is both.
    """

    path: Path
    """The file to make."""
    _seen: NumberSet = field(default_factory=NumberSet)
    _texts: list[tuple[bytes, str]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _name_parts: list[pa.Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._table = TableWriter(self.path, CHAIN_SCHEMA)
        self._row_contents, self._row_lengths = array("Q"), array("q")
        self._id_contents, self._sides, self._is_kept = array("Q"), array("b"), array("b")

    def add(self, name: str, residues: str | None, *, side: int = 0) -> None:
        """Remember an id and its sequence.

        Parameters
        ----------
        name
            The id.
        residues
            Its letters; `None` where they were left out.
        side
            0 for both sides, or 1 or 2.
        """
        content = 0
        if residues is not None:
            digest = plain_chain_hash(residues)
            content = int.from_bytes(digest[:8], "little")
            if self._seen.add(content):
                self._row_contents.append(content)
                self._row_lengths.append(len(residues))
                self._texts.append((digest, residues))
                if len(self._texts) >= _BATCH:
                    self._flush()
        self._id_contents.append(content)
        self._sides.append(side)
        self._is_kept.append(residues is not None)
        self._names.append(name)
        if len(self._names) >= _BATCH:
            self._name_parts.append(pa.array(self._names, pa.large_string()))
            self._names.clear()

    def close(self) -> Proteins:
        """Finish the file and number the proteins.

        Raises
        ------
        DataError
            If an id has two different sequences.
        """
        self._flush()
        self._table.close()
        self._name_parts.append(pa.array(self._names, pa.large_string()))
        names = pl.Series("name", pa.chunked_array(self._name_parts))
        contents = np.array(self._row_contents, dtype=np.uint64)
        order = np.argsort(contents)
        contents = contents[order]
        codes = np.searchsorted(contents, np.array(self._id_contents, dtype=np.uint64)).astype(np.int64)
        codes[np.array(self._is_kept, dtype=np.int8) == 0] = LEFT_OUT
        sides = np.array(self._sides, dtype=np.int8)
        lookups = tuple(_lookup(names, codes, (sides == 0) | (sides == side)) for side in (1, 2))
        first = (
            pl.DataFrame({"name": names, "code": codes})
            .filter(pl.col("code") >= 0)
            .group_by("code")
            .agg(pl.col("name").min(), pl.col("name").n_unique().alias("count"))
            .sort("code")
        )
        return Proteins(
            MappedTable(self.path),
            rows=order,
            contents=contents,
            lengths=np.array(self._row_lengths, dtype=np.int64)[order],
            names=first["name"],
            lookups=(lookups[0], lookups[1]),
            num_aliases=int((first["count"] - 1).sum()),
        )

    def _flush(self) -> None:
        if self._texts:
            self._table.append_batch(plain_chains(*zip(*self._texts, strict=True)))
            self._texts.clear()


def id_hashes(names: pl.Series) -> np.ndarray:
    """Hash ids to 64 bits, uint64; the same only within one process.

    Parameters
    ----------
    names
        Texts.
    """
    return names.hash(0).to_numpy()


def _lookup(names: pl.Series, codes: np.ndarray, is_its: np.ndarray) -> Lookup:
    places = np.flatnonzero(is_its)
    hashes = id_hashes(names)[places]
    order = np.argsort(hashes, kind="stable")
    hashes, places = hashes[order], places[order]
    for place in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
        one, other = int(places[place]), int(places[place + 1])
        if names[one] != names[other]:
            raise DataError(
                f"the ids '{names[one]}' and '{names[other]}' have the same 64-bit hash", hint="rename one"
            )
        if codes[one] != codes[other]:
            raise DataError(
                f"the id '{names[one]}' is there twice with different sequences",
                hint="give it one sequence; where the first and the second proteins of the links have ids of "
                "their own, say whose file is whose: --sequences COLUMN=FILE",
            )
    is_first = np.concatenate([[True], hashes[1:] != hashes[:-1]]) if len(hashes) else np.zeros(0, bool)
    return Lookup(hashes[is_first], codes[places[is_first]])
