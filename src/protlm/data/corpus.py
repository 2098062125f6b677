"""A Corpus: many records on disk as two memory-mapped Arrow tables, `chains` and `records`.

``chains.arrow`` holds each distinct chain once; only one that recurs after over four million others may stand
there twice. ``records.arrow`` lists, per record, the rows of its chains. A subset, a set of pairs or of
negatives is another records table, ``records.NAME.arrow``, over the same chains; ``FOLDER:NAME`` opens it.
Tokens are never stored.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from protlm.data.arrow_tables import MappedTable, TableWriter
from protlm.data.flat import FlatRecords, expand_slices, record_key
from protlm.data.hashing import combine
from protlm.data.remembered import RecentRows
from protlm.errors import DataError
from protlm.types.record import TRACK_DTYPES, Chain, Record, Role

FORMAT_VERSION = 3
"""2 added the D call and the tracks `germline` and `weight`, 3 the track `column` and sample weights; earlier
corpora are read without them."""
_DIGEST_BYTES = 16

CHAIN_SCHEMA = pa.schema(
    [
        ("hash", pa.binary(_DIGEST_BYTES)),
        ("residues", pa.large_string()),
        ("locus", pa.string()),
        ("v_call", pa.string()),
        ("d_call", pa.string()),
        ("j_call", pa.string()),
        *[(name, pa.large_binary()) for name in TRACK_DTYPES],
    ]
)
RECORD_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("key", pa.uint64()),
        ("chains", pa.large_list(pa.int64())),
        ("roles", pa.large_list(pa.uint8())),
        ("group", pa.large_string()),
        ("labels", pa.large_string()),
        ("sample_weight", pa.float32()),
    ]
)


class CorpusWriter:
    """Writes a corpus record by record in bounded memory; the folder appears when all is written.

    Parameters
    ----------
    path
        The folder to make.
    force
        Replace a corpus that is there.

    Raises
    ------
    DataError
        If the folder exists, or a folder ``PATH.part`` that is not an unfinished corpus.
    """

    def __init__(self, path: Path | str, *, force: bool = False) -> None:
        self.path = Path(path)
        if not _is_free(self.path) and not (force and is_corpus(self.path)):
            what = "holds a corpus" if is_corpus(self.path) else "exists and is not a corpus"
            remedy = ", or pass --force to replace it" if is_corpus(self.path) else ""
            raise DataError(f"{self.path} {what}", hint=f"choose another --out{remedy}")
        self._part = self.path.with_name(self.path.name + ".part")
        if not _is_free(self._part) and not (self._part / "chains.arrow").is_file():
            raise DataError(
                f"{self._part}, where the corpus is written first, exists and is not an unfinished corpus",
                hint="choose another --out, or move it away",
            )
        if self._part.exists():
            shutil.rmtree(self._part)
        self._part.mkdir(parents=True)
        self._chains = TableWriter(self._part / "chains.arrow", CHAIN_SCHEMA)
        self._tables = {"": TableWriter(self._part / "records.arrow", RECORD_SCHEMA)}
        self._written = RecentRows()
        self.num_residues = 0

    @property
    def folder(self) -> Path:
        """Where files that belong beside the tables are written, before `close` moves all into place."""
        return self._part

    def add(self, record: Record, *, subset: str = "", subsets: Iterable[str] | None = None) -> None:
        """Append a record to the main table, or to a subset as well.

        Parameters
        ----------
        record
            Any record.
        subset
            Name of a further table that lists this record.
        subsets
            In place of that, names of all the tables that do; the main table has the empty name.
        """
        row = {
            "id": record.id,
            "key": record_key(record),
            "chains": [self._chain_row(chain) for chain in record.chains],
            "roles": [int(chain.role) for chain in record.chains],
            "group": record.group,
            "labels": json.dumps(dict(record.labels), default=str) if record.labels else "",
            "sample_weight": record.sample_weight,
        }
        names = list(dict.fromkeys(["", subset] if subsets is None else subsets))
        for name in names:
            self._table(name).append(row)
        self.num_residues += len(record) if "" in names else 0

    def add_chains(self, batch: pa.RecordBatch) -> None:
        """Append rows to the `chains` table, which the caller knows to be distinct, without looking at them.

        Parameters
        ----------
        batch
            Of `CHAIN_SCHEMA`; see `chain_batch`.
        """
        self._chains.append_batch(batch)

    def add_records(self, batch: pa.RecordBatch, *, subsets: Iterable[str], num_residues: int = 0) -> None:
        """Append many records at once whose chains are there, or will be.

        Parameters
        ----------
        batch
            Of `RECORD_SCHEMA`, with rows of the `chains` table.
        subsets
            Names of the tables that list these records; the main table has the empty name.
        num_residues
            Of these records, for the manifest, which counts those of the main table.
        """
        for name in subsets:
            self._table(name).append_batch(batch)
        self.num_residues += num_residues

    def _table(self, subset: str) -> TableWriter:
        if subset not in self._tables:
            self._tables[subset] = TableWriter(self._part / f"records.{subset}.arrow", RECORD_SCHEMA)
        return self._tables[subset]

    def close(self, manifest: Mapping[str, Any] | None = None) -> "Corpus":
        """Finish the files, write ``manifest.json``, move the folder into place and open it.

        Parameters
        ----------
        manifest
            Further facts: inputs, dropped rows by reason.
        """
        self._chains.close()
        for table in self._tables.values():
            table.close()
        facts = {
            "format_version": FORMAT_VERSION,
            "num_records": self._tables[""].num_rows,
            "num_chains": self._chains.num_rows,
            "num_chains_forgotten": self._written.num_forgotten,
            "num_residues": self.num_residues,
            "subsets": {name: table.num_rows for name, table in self._tables.items() if name},
            **(manifest or {}),
        }
        (self._part / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if self.path.exists():
            shutil.rmtree(self.path)
        self._part.rename(self.path)
        return Corpus(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            shutil.rmtree(self._part, ignore_errors=True)

    def _chain_row(self, chain: Chain) -> int:
        tracks = dict.fromkeys(TRACK_DTYPES, b"")
        for name, values in chain.tracks.items():
            tracks[name] = np.asarray(values, dtype=TRACK_DTYPES[name]).tobytes()
        texts = (chain.residues, chain.locus, chain.v_call, chain.d_call, chain.j_call)
        content = _content_hash(["\x1f".join(texts).encode(), *tracks.values(), b""])
        row = self._written.find(content)
        if row is None:
            row = self._chains.num_rows
            self._written.add(content, row)
            self._chains.append(
                {
                    "hash": content,
                    "residues": chain.residues,
                    "locus": chain.locus,
                    "v_call": chain.v_call,
                    "d_call": chain.d_call,
                    "j_call": chain.j_call,
                    **tracks,
                }
            )
        return row


class Corpus:
    """Records on disk, opened by memory map.

    Parameters
    ----------
    path
        A corpus folder, or ``FOLDER:SUBSET``.

    Raises
    ------
    DataError
        If there is no such corpus or subset.
    """

    def __init__(self, path: Path | str) -> None:
        self.path, self.subset = _split_subset(path)
        if not is_corpus(self.path):
            raise DataError(
                f"{self.path} is not a corpus folder (it has no manifest.json with chains.arrow)",
                hint="make one with: protlm prepare INPUT --out FOLDER",
            )
        self.manifest = _read_manifest(self.path / "manifest.json")
        name = f"records.{self.subset}.arrow" if self.subset else "records.arrow"
        if not (self.path / name).exists():
            known = ", ".join(self.manifest.get("subsets", {})) or "none"
            raise DataError(f"{self.path} has no subset '{self.subset}'", hint=f"its subsets: {known}")
        self._records = MappedTable(self.path / name)
        self._chains = MappedTable(self.path / "chains.arrow")

    def __len__(self) -> int:
        return self._records.num_rows

    @property
    def name(self) -> str:
        """Folder name, with the subset behind a colon."""
        return self.path.name + (f":{self.subset}" if self.subset else "")

    @cached_property
    def chain_lengths(self) -> np.ndarray:
        """Residues per chain, int64, over the whole `chains` table."""
        return self._chains.lengths("residues")

    @cached_property
    def lengths(self) -> np.ndarray:
        """Residues per record, int64 ``[n]``."""
        rows, counts = self._records.lists("chains")
        sums = np.concatenate([[0], np.cumsum(self.chain_lengths[rows])])
        stops = np.cumsum(counts)
        return sums[stops] - sums[stops - counts]

    @cached_property
    def num_chains_per_record(self) -> np.ndarray:
        """Chains per record, int64 ``[n]``."""
        return self._records.lists("chains")[1]

    @cached_property
    def keys(self) -> np.ndarray:
        """Content key per record, uint64 ``[n]``."""
        return self._records.numbers("key")

    @cached_property
    def sample_weights(self) -> np.ndarray | None:
        """Chance of each record to be drawn in an epoch, float32 ``[n]``; `None` where all are 1."""
        if "sample_weight" not in self._records.names:
            return None
        weights = self._records.numbers("sample_weight")
        return None if (weights == 1).all() else weights

    @cached_property
    def digest(self) -> str:
        """Hash of the keys and lengths of the records of this table, in any order; 48 hexadecimal digits.

        Another digest means other records; tracks, labels and groups do not enter.
        """
        hashes = combine(self.keys, self.lengths)
        total, parity = int(np.add.reduce(hashes)), int(np.bitwise_xor.reduce(hashes))
        return f"{len(self):016x}{total:016x}{parity:016x}"

    @cached_property
    def track_names(self) -> tuple[str, ...]:
        """Tracks that at least one chain has."""
        present = [name for name in TRACK_DTYPES if name in self._chains.names]
        return tuple(name for name in present if int(self._chains.lengths(name).sum()) > 0)

    def gather(self, rows: np.ndarray) -> FlatRecords:
        """Lay the named records end to end, without a Python object per record.

        Parameters
        ----------
        rows
            Row numbers, int64 ``[n]``, repeats allowed.
        """
        rows = np.asarray(rows, dtype=np.int64)
        chain_rows, counts = self._chain_rows(rows)
        lengths = self.chain_lengths[chain_rows]
        return FlatRecords(
            residues=self._chains.gather("residues", chain_rows, lengths),
            chain_lengths=lengths,
            chains_per_record=counts,
            keys=self.keys[rows],
            tracks={
                name: self._chains.gather(name, chain_rows, lengths, TRACK_DTYPES[name])
                for name in self.track_names
            },
            roles=self._roles(rows, counts),
        )

    def chain_roles(self, rows: np.ndarray) -> np.ndarray:
        """Give the `Role` of each chain of the named records, record by record; int8.

        Parameters
        ----------
        rows
            Row numbers of records.
        """
        rows = np.asarray(rows, dtype=np.int64)
        return self._roles(rows, self.num_chains_per_record[rows])

    def _roles(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        roles = self._records.lists("roles")[0]
        return roles[expand_slices(self._list_starts[rows], counts)].astype(np.int8)

    def record(self, row: int) -> Record:
        """Build one record as an object.

        Parameters
        ----------
        row
            Row number.
        """
        values = self._records.row(row)
        chains = [
            self._chain(index, Role(role))
            for index, role in zip(values["chains"], values["roles"], strict=True)
        ]
        labels = json.loads(values["labels"]) if values["labels"] else {}
        return Record(
            values["id"],
            tuple(chains),
            labels=labels,
            group=values["group"],
            sample_weight=values.get("sample_weight", 1.0),
        )

    def column(self, name: str) -> list[str]:
        """Give a text column of the records table: ``id``, ``group`` or ``labels``.

        Parameters
        ----------
        name
            The column.
        """
        return self._records.texts(name)

    def chain_column(self, name: str) -> pa.ChunkedArray:
        """Give a column of the `chains` table.

        Parameters
        ----------
        name
            ``residues``, ``locus``, ``v_call``, ``d_call`` or ``j_call``.
        """
        return self._chains.column(name)

    def chain_rows(self, rows: np.ndarray) -> np.ndarray:
        """Give the rows of the `chains` table that the named records use, record by record.

        Parameters
        ----------
        rows
            Row numbers of records.
        """
        return self._chain_rows(np.asarray(rows, dtype=np.int64))[0]

    def _chain_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, counts = self._records.lists("chains")
        starts = self._list_starts
        return values[expand_slices(starts[rows], counts[rows])], counts[rows]

    @cached_property
    def _list_starts(self) -> np.ndarray:
        counts = self._records.lists("chains")[1]
        return np.cumsum(counts) - counts

    def _chain(self, index: int, role: Role) -> Chain:
        values = self._chains.row(index)
        tracks = {
            name: np.frombuffer(values[name], dtype=dtype)
            for name, dtype in TRACK_DTYPES.items()
            if values.get(name)
        }
        return Chain(
            values["residues"],
            role=role,
            locus=values["locus"],
            v_call=values["v_call"],
            d_call=values.get("d_call", ""),
            j_call=values["j_call"],
            tracks=tracks,
        )


_NO_TRACKS = b"\x1f" * (len(TRACK_DTYPES) + 5)


def plain_chain_hash(residues: str) -> bytes:
    """Give the content hash of a chain that has neither calls nor tracks.

    Parameters
    ----------
    residues
        Its letters.
    """
    return _content_hash([residues.encode() + _NO_TRACKS])


def plain_chains(hashes: Sequence[bytes], residues: Sequence[str]) -> pa.RecordBatch:
    """Make rows of the `chains` table for chains that have neither calls nor tracks.

    Parameters
    ----------
    hashes
        Of `plain_chain_hash`.
    residues
        Letters of each.
    """
    count = len(residues)
    filled = {"hash": hashes, "residues": residues}
    columns = [
        pa.array(filled[each.name], type=each.type)
        if each.name in filled
        else pa.repeat(pa.scalar("" if pa.types.is_string(each.type) else b"", type=each.type), count)
        for each in CHAIN_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CHAIN_SCHEMA)


def _content_hash(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(b"\x1f".join(parts))
    return digest.digest()


def is_corpus(path: Path | str) -> bool:
    """Tell whether `path` is a corpus folder.

    Parameters
    ----------
    path
        Any path.
    """
    return (Path(path) / "manifest.json").exists() and (Path(path) / "chains.arrow").exists()


def names_corpus(path: Path | str) -> bool:
    """Tell whether `path` is a corpus folder or ``FOLDER:SUBSET`` of one.

    Parameters
    ----------
    path
        Any path.
    """
    return is_corpus(_split_subset(path)[0])


def write_corpus(path: Path | str, records: Iterable[Record], *, force: bool = False) -> Corpus:
    """Write records to a new corpus folder and open it.

    Parameters
    ----------
    path
        The folder.
    records
        Consumed once.
    force
        Replace a corpus that is there.
    """
    with CorpusWriter(path, force=force) as writer:
        for record in records:
            writer.add(record)
        return writer.close()


def _is_free(path: Path) -> bool:
    """Whether nothing would be lost there: no such path, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error})", hint="make the corpus again") from None
    if version > FORMAT_VERSION:
        raise DataError(
            f"{path.parent} has corpus format {version}; this protlm reads up to {FORMAT_VERSION}",
            hint="upgrade protlm, or make the corpus again",
        )
    return manifest


def _split_subset(path: Path | str) -> tuple[Path, str]:
    text = str(path)
    folder, _, subset = text.rpartition(":")
    if folder and not Path(text).exists() and is_corpus(folder):
        return Path(folder), subset
    return Path(text), ""
