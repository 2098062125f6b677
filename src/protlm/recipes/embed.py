"""embed: sequences to a Parquet file of embeddings, in input order, resumable."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from protlm.data.flat import record_key
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.token_counts import record_lengths
from protlm.errors import DataError, Interrupted, RunError
from protlm.models.default import default_model
from protlm.models.digest import model_digest
from protlm.models.embed import embed_records
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.models.residue_level import require_residue_level
from protlm.progress import Progress
from protlm.recipes.outputs import claim_file
from protlm.recipes.prepare import nothing_left
from protlm.runs import file_hash
from protlm.types.record import Record

Say = Callable[[str], None]
LongRecords = Literal["error", "drop"]

CHUNK_BYTES = 256 << 20
"""How much of the result is held in memory at most, besides one batch."""
_CHUNK_RECORDS = 8192
_CHUNK_KEY = b"protlm_chunk"


def embed(
    model: str | LanguageModel | None,
    records: Path | str | Sequence[Record],
    *,
    per_residue: bool = False,
    max_tokens: int | None = None,
    device: str = "auto",
    precision: Precision = "float32",
) -> pl.DataFrame:
    """Embed sequences and give them as a table in input order.

    Parameters
    ----------
    model
        A name, a folder, or a loaded model. `None` takes the packaged antibody model, ``protlm-ab-mini``.
    records
        A file or records.
    per_residue
        One row per residue instead of the mean per chain.
    max_tokens
        Token budget of a batch; by the device if `None`.
    device, precision
        For a model given by name.

    Returns
    -------
    polars.DataFrame
        ``id, chain, embedding``, and ``index`` (0-based) per residue.
    """
    given = list(iterate_records(records)) if isinstance(records, str | Path) else list(records)
    model = default_model(given, say=lambda _: None) if model is None else model
    loaded = (
        model if isinstance(model, LanguageModel) else load_model(model, device=device, precision=precision)
    )
    where = str(records) if isinstance(records, str | Path) else "the input"
    given = list(_fitting(given, loaded, where, "error", ReadReport()))
    if not given:
        raise DataError(f"{where}: there is nothing to embed", hint="give at least one record")
    states = embed_records(
        loaded, given, per_residue=per_residue, max_tokens=max_tokens or loaded.token_budget
    )
    width = loaded.module.config.hidden_size
    return pl.DataFrame(pl.from_arrow(_table(given, states, width, per_residue=per_residue)))


def embed_file(
    model: LanguageModel,
    source: Path,
    out: Path,
    *,
    per_residue: bool = False,
    max_tokens: int | None = None,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    long_records: LongRecords = "error",
    force: bool = False,
    say: Say = print,
) -> None:
    """Embed a file chunk by chunk into one Parquet file; the same call resumes.

    The whole input is read and checked before the first chunk is run.

    Parameters
    ----------
    model
        A loaded model.
    source
        FASTA, CSV, TSV or Parquet.
    out
        ``.parquet``. Until all is done, finished chunks are in ``OUT.parts``.
    per_residue, max_tokens
        As for `embed`.
    columns, policy
        How to read.
    long_records
        Records over the model's limit: stop, or leave out and count.
    force
        Replace a finished file, and parts of another input, model or setting.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If the input is wrong, or nothing of it is left.
    RunError
        If `out` exists, or the parts there are of another input, model or setting.
    Interrupted
        On Ctrl-C; finished chunks are kept.
    ModelError
        If embeddings per residue are asked of a model of sub-words.
    """
    if per_residue:
        require_residue_level(model, "embed --per-residue")
    claim_file(out, (".parquet",), force=force)
    source = check_file(source)
    report = ReadReport()

    def read(report: ReadReport) -> Iterator[Record]:
        records = iterate_records(source, columns=columns, policy=policy, report=report)
        return _fitting(records, model, str(source), long_records, report)

    total = sum(1 for _ in read(report))
    for line in report.lines():
        say(line)
    if not total:
        raise nothing_left(source, report)
    say(f"{model.name}: {total:,} records; {model.path}")
    width = model.module.config.hidden_size
    parts = _Parts(out.with_name(out.name + ".parts"), _facts(model, source, per_residue=per_residue))
    done = parts.open(force=force)
    if done:
        say(f"resuming after {done:,} finished chunks")
    number = -1
    try:
        with Progress("embedding", total, unit="record") as progress:
            for number, chunk in enumerate(_chunks(read(ReadReport()), width, per_residue=per_residue)):
                if parts.has(number, chunk):
                    progress.advance(units=len(chunk))
                    continue
                states = embed_records(
                    model,
                    chunk,
                    per_residue=per_residue,
                    max_tokens=max_tokens or model.token_budget,
                    on_batch=lambda finished: progress.advance(units=finished),
                )
                parts.write(number, chunk, _table(chunk, states, width, per_residue=per_residue))
        parts.join(out, number + 1)
        if model.padding_note:
            say(f"{model.name}: {model.padding_note}")
    except KeyboardInterrupt:
        kept = f"finished chunks are in {parts.folder}; the same command resumes"
        raise Interrupted(f"interrupted: {kept}") from None


def _chunks(records: Iterator[Record], width: int, *, per_residue: bool) -> Iterator[list[Record]]:
    """Cut the input where the result would fill `CHUNK_BYTES`; the cuts depend on the input alone."""
    if not per_residue:
        while chunk := list(islice(records, _CHUNK_RECORDS)):
            yield chunk
        return
    most, chunk, size = CHUNK_BYTES // (4 * width), [], 0
    for record in records:
        if chunk and size + len(record) > most:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record)
    if chunk:
        yield chunk


def _fitting(
    records: Iterable[Record], model: LanguageModel, where: str, long_records: LongRecords, report: ReadReport
) -> Iterator[Record]:
    """Pass on the records that fit the model's limit."""
    limit = model.layout.max_tokens
    for record in records:
        needed = int(record_lengths([record], model.layout)[0])
        if limit is None or needed <= limit:
            yield record
        elif long_records == "drop":
            report.drop(f"over the model's limit of {limit} tokens", f"{where}, record '{record.id}'")
        else:
            raise DataError(
                f"{where}, record '{record.id}': {len(record):,} residues need {needed:,} tokens, but model "
                f"'{model.name}' takes at most {limit:,}",
                hint="pass --long-records drop to leave such records out, or use a model without a limit, "
                "such as esm2-8m",
            )


def _table(
    records: Sequence[Record], states: Sequence[Sequence[np.ndarray]], width: int, *, per_residue: bool
) -> pa.Table:
    ids, chains, indices, arrays = [], [], [], []
    for record, own in zip(records, states, strict=True):
        for name, chain, array in zip(record.chain_names, record.chains, own, strict=True):
            rows = len(chain) if per_residue else 1
            ids += [record.id] * rows
            chains += [name] * rows
            indices += range(rows)
            arrays.append(array.reshape(rows, width))
    values = np.concatenate(arrays).astype(np.float32, copy=False)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
    columns: dict[str, Any] = {"id": ids, "chain": chains}
    if per_residue:
        columns["index"] = pa.array(indices, type=pa.int32())
    return pa.table(columns | {"embedding": embedding})


def _facts(model: LanguageModel, source: Path, *, per_residue: bool) -> dict[str, Any]:
    return {
        "format_version": 1,
        "verb": "embed",
        "model": model.name,
        "weights": model_digest(model),
        "precision": str(next(model.module.parameters()).dtype).removeprefix("torch."),
        "pooling": "per_residue" if per_residue else "mean",
        "input": source.name,
        "input_sha256": file_hash(source),
    }


class _Parts:
    """Finished chunks of a call that is not finished, each with a hash of what it was made from."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = facts

    def open(self, *, force: bool) -> int:
        """Make the folder, or take up the one there; give the number of chunks in it."""
        note = self.folder / "facts.json"
        done = len(self._files())
        if done and json.loads(note.read_text(encoding="utf-8")) != self.facts:
            if not force:
                raise self._other()
            shutil.rmtree(self.folder)
            done = 0
        self.folder.mkdir(exist_ok=True)
        note.write_text(json.dumps(self.facts, indent=2) + "\n", encoding="utf-8")
        return done

    def has(self, number: int, chunk: Sequence[Record]) -> bool:
        """Whether a chunk is finished; refuses one that was made from other records."""
        path = self._path(number)
        if not path.exists():
            return False
        metadata = pq.read_schema(path).metadata or {}
        if metadata.get(_CHUNK_KEY) != _digest(chunk):
            raise self._other()
        return True

    def write(self, number: int, chunk: Sequence[Record], table: pa.Table) -> None:
        """Keep a finished chunk, whole or not at all."""
        part = self._path(number).with_suffix(".part")
        pq.write_table(table.replace_schema_metadata({_CHUNK_KEY: _digest(chunk)}), part)
        part.rename(self._path(number))

    def join(self, out: Path, count: int) -> None:
        """Put the chunks together to the result, whole or not at all, and remove them."""
        files = self._files()
        if len(files) != count:
            raise self._other()
        schema = pq.read_schema(files[0]).with_metadata({b"protlm": json.dumps(self.facts).encode()})
        part = out.with_name(out.name + ".part")
        with pq.ParquetWriter(part, schema) as writer:
            for file in files:
                for batch in pq.ParquetFile(file).iter_batches(batch_size=16384):
                    writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
        part.replace(out)
        shutil.rmtree(self.folder)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("??????.parquet"))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _other(self) -> RunError:
        return RunError(
            f"{self.folder} holds chunks of another input, model or setting",
            hint="choose another --out, or remove that folder to start over",
        )


def _digest(chunk: Sequence[Record]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for record in chunk:
        roles = "".join(str(int(chain.role)) for chain in record.chains)
        digest.update(f"{record_key(record)},{roles};".encode())
    return digest.hexdigest().encode()
