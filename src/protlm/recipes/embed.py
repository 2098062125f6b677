"""embed: sequences to a Parquet file of embeddings, in input order, resumable."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, iterate_records
from protlm.errors import DataError, RunError
from protlm.evaluation.regions import chain_name
from protlm.models.embed import embed_records
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.progress import Progress
from protlm.runs import file_hash
from protlm.types.record import Record

Say = Callable[[str], None]

CHUNK_BYTES = 256 << 20
"""How much of the result is held in memory at most, besides one batch."""
_CHUNK_RECORDS = 8192


def embed(
    model: str | LanguageModel,
    records: Path | str | Sequence[Record],
    *,
    per_residue: bool = False,
    max_tokens: int = 4096,
    device: str = "auto",
    precision: Precision = "float32",
) -> pl.DataFrame:
    """Embed sequences and give them as a table in input order.

    Parameters
    ----------
    model
        A name, a folder, or a loaded model.
    records
        A file or records.
    per_residue
        One row per residue instead of the mean per chain.
    max_tokens
        Token budget of a batch.
    device, precision
        For a model given by name.

    Returns
    -------
    polars.DataFrame
        ``id, chain, embedding``, and ``index`` (0-based) per residue.
    """
    loaded = (
        model if isinstance(model, LanguageModel) else load_model(model, device=device, precision=precision)
    )
    given = list(iterate_records(records)) if isinstance(records, str | Path) else list(records)
    _check_lengths(loaded, given, "the input")
    states = embed_records(loaded, given, per_residue=per_residue, max_tokens=max_tokens)
    width = loaded.module.config.hidden_size
    return pl.DataFrame(pl.from_arrow(_table(given, states, width, per_residue=per_residue)))


def embed_file(
    model: LanguageModel,
    source: Path,
    out: Path,
    *,
    per_residue: bool = False,
    max_tokens: int = 4096,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    force: bool = False,
    say: Say = print,
) -> None:
    """Embed a file chunk by chunk into one Parquet file; the same call resumes.

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
    force
        Replace a finished file.
    say
        Tells the user what happens.

    Raises
    ------
    RunError
        If `out` exists, or the parts there are of another input or model.
    """
    if out.suffix != ".parquet":
        raise DataError(f"--out {out} must end in .parquet", hint="embeddings are written as Parquet")
    if out.exists() and not force:
        raise RunError(f"{out} exists", hint="choose another --out, or pass --force to replace it")
    parts = out.with_name(out.name + ".parts")
    facts = _facts(model, source, per_residue=per_residue)
    done = _resume(parts, facts, say)
    report = ReadReport()
    records = iterate_records(source, columns=columns, policy=policy, report=report)
    width = model.module.config.hidden_size
    total = sum(1 for _ in iterate_records(source, columns=columns, policy=policy))
    say(f"{model.name}: {total:,} records; {model.path}")
    with Progress("embedding", total, unit="record") as progress:
        for number, chunk in enumerate(_chunks(records, width, per_residue=per_residue)):
            if number < done:
                progress.advance(units=len(chunk))
                continue
            _check_lengths(model, chunk, str(source))
            states = embed_records(
                model,
                chunk,
                per_residue=per_residue,
                max_tokens=max_tokens,
                on_batch=lambda finished: progress.advance(units=finished),
            )
            _write_part(parts / f"{number:06d}.parquet", _table(chunk, states, width, per_residue=per_residue))
    _join(parts, out, facts)
    for line in report.lines():
        say(line)


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


def _check_lengths(model: LanguageModel, records: Sequence[Record], where: str) -> None:
    limit = model.layout.max_tokens
    if limit is None:
        return
    for record in records:
        needed = len(record) + model.layout.num_specials(len(record.chains))
        if needed > limit:
            raise DataError(
                f"{where}: record '{record.id}' has {len(record)} residues and needs {needed} tokens, but "
                f"model '{model.name}' takes at most {limit}",
                hint="leave it out or cut it, or use a model without a limit, such as esm2-8m",
            )


def _table(
    records: Sequence[Record], states: Sequence[Sequence[np.ndarray]], width: int, *, per_residue: bool
) -> pa.Table:
    ids, chains, indices, arrays = [], [], [], []
    for record, own in zip(records, states, strict=True):
        for number, (chain, array) in enumerate(zip(record.chains, own, strict=True)):
            rows = len(chain) if per_residue else 1
            ids += [record.id] * rows
            chains += [chain_name(chain.role, number)] * rows
            indices += range(rows)
            arrays.append(array.reshape(rows, width))
    values = np.concatenate(arrays).astype(np.float32, copy=False)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
    columns: dict[str, Any] = {"id": ids, "chain": chains}
    if per_residue:
        columns["index"] = pa.array(indices, type=pa.int32())
    return pa.table(columns | {"embedding": embedding})


def _facts(model: LanguageModel, source: Path, *, per_residue: bool) -> dict[str, Any]:
    weights = hashlib.sha256()
    for name, values in model.module.state_dict().items():
        weights.update(name.encode())
        weights.update(values.detach().float().cpu().numpy().tobytes()[: 1 << 16])
    return {
        "format_version": 1,
        "verb": "embed",
        "model": model.name,
        "weights": weights.hexdigest(),
        "precision": str(next(model.module.parameters()).dtype).removeprefix("torch."),
        "pooling": "per_residue" if per_residue else "mean",
        "input": source.name,
        "input_sha256": file_hash(source),
    }


def _resume(parts: Path, facts: dict[str, Any], say: Say) -> int:
    """Give the number of finished chunks of an interrupted call with the same input and model."""
    note = parts / "facts.json"
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) != facts:
            raise RunError(
                f"{parts} holds parts of another input, model or setting", hint="remove that folder first"
            )
        done = len(list(parts.glob("??????.parquet")))
        say(f"resuming after {done} finished chunks")
        return done
    parts.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


def _write_part(path: Path, table: pa.Table) -> None:
    part = path.with_suffix(".part")
    pq.write_table(table, part)
    part.rename(path)


def _join(parts: Path, out: Path, facts: dict[str, Any]) -> None:
    files = sorted(parts.glob("??????.parquet"))
    if not files:
        raise DataError("there was nothing to embed", hint="look at what was dropped")
    schema = pq.read_schema(files[0]).with_metadata({b"protlm": json.dumps(facts).encode()})
    part = out.with_name(out.name + ".part")
    with pq.ParquetWriter(part, schema) as writer:
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=16384):
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
    part.replace(out)
    shutil.rmtree(parts)
