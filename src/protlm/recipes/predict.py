"""predict: a fine-tuned Run on new sequences, in input order, in bounded memory, resumable."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from protlm.data.corpus import Corpus, names_corpus
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.errors import DataError, Interrupted
from protlm.models.digest import model_digest
from protlm.models.heads import views
from protlm.models.language_model import Precision
from protlm.models.predictor import Predictor, load_predictors, predict_all
from protlm.progress import Progress
from protlm.recipes.finetune_judge import class_columns, residue_places
from protlm.recipes.outputs import claim_file
from protlm.recipes.table_parts import TableParts, discard, join_parts
from protlm.runs import file_hash
from protlm.types.record import Record, Role

Say = Callable[[str], None]
SUFFIXES = (".parquet", ".csv")
CHUNK_RECORDS = 2048
"""Records of a part; memory holds one part."""
_CHUNK_RESIDUES = 1 << 20


def predict_file(
    name: str | Path,
    source: Path | str,
    out: Path,
    *,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    is_plain: bool = False,
    max_tokens: int | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    force: bool = False,
    say: Say = print,
) -> None:
    """Predict every record of a file or corpus; the same call resumes.

    The whole input is read and checked before the first part is run.

    Parameters
    ----------
    name
        A Run of `protlm finetune`; several models in it are averaged.
    source
        FASTA, CSV, TSV, Parquet, or a corpus.
    out
        ``.parquet`` or ``.csv``: ``id``, at residue level ``chain, position`` (1-based) and ``index``
        (0-based), ``predicted``, a probability for each class, and with several models ``sd_…``, their
        spread. Until all is done, finished parts are in ``OUT.parts``.
    columns, policy
        How to read.
    is_plain
        Whether two columns of chains are proteins without roles, not heavy and light.
    max_tokens
        Token budget of a batch; by the device if `None`.
    device, precision
        As for `load_predictors`.
    force
        Replace a finished file.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If the input is wrong, or a record is not like those of the training.
    Interrupted
        On Ctrl-C; finished parts are kept.
    """
    out = Path(out)
    claim_file(out, SUFFIXES, force=force)
    path = source if names_corpus(source) else check_file(source)
    predictors = load_predictors(name, device=device, precision=precision)
    report = ReadReport()

    def read(report: ReadReport) -> Iterator[Record]:
        records = _records(path, columns, policy, report)
        return (_without_roles(record) for record in records) if is_plain else records

    total = 0
    for record in read(report):
        _check(record, predictors[0])
        total += 1
    for line in report.lines():
        say(line)
    if not total:
        raise DataError(f"{source}: there is nothing to predict", hint="give at least one record")
    target = predictors[0].target
    say(f"{total:,} records, {len(predictors)} models of '{target.name}'; {predictors[0].encoder.path}")
    facts = _facts(name, path, predictors)
    facts |= {"columns": vars(columns or ColumnNames()), "policy": vars(policy or InputPolicy())}
    folder = out.with_name(out.name + ".parts")
    parts = TableParts(folder / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24])
    try:
        with Progress("predicting", total, unit="record") as progress:
            for number, chunk in enumerate(_chunks(read(ReadReport()))):
                if parts.has(number):
                    progress.advance(units=len(chunk))
                    continue
                found = predict_all(
                    predictors,
                    chunk,
                    max_tokens=max_tokens,
                    on_batch=lambda done: progress.advance(units=done),
                )
                parts.write(number, prediction_rows(chunk, predictors, found))
    except KeyboardInterrupt:
        kept = f"finished parts are in {folder}; the same command resumes"
        raise Interrupted(f"interrupted: {kept}") from None
    _join(parts, out, facts)
    discard(folder)


def prediction_rows(
    records: Sequence[Record], predictors: Sequence[Predictor], found: Sequence[Sequence[np.ndarray]]
) -> pl.DataFrame:
    """Table predictions: the mean over models, and their standard deviation where there are several.

    Parameters
    ----------
    records
        In order.
    predictors
        Of one target.
    found
        From `predict_all`.
    """
    target = predictors[0].target
    is_residue = target.level == "residue"
    lay = np.concatenate if is_residue else np.stack
    values = np.stack([lay(list(each)) for each in found])
    columns: dict[str, Any] = {"id": [record.id for record in records]}
    if is_residue:
        columns = residue_places(records)
    columns |= class_columns(values.mean(axis=0), target)
    if len(found) > 1:
        spread = values.std(axis=0, ddof=1)
        names = target.classes or ("predicted",)
        columns |= {f"sd_{name}": spread[:, place] for place, name in enumerate(names)}
    return pl.DataFrame(columns)


def _records(
    path: Path | str, columns: ColumnNames | None, policy: InputPolicy | None, report: ReadReport
) -> Iterator[Record]:
    if names_corpus(path):
        corpus = Corpus(path)
        return (corpus.record(row) for row in range(len(corpus)))
    return iterate_records(path, columns=columns, policy=policy, report=report)


def _without_roles(record: Record) -> Record:
    return replace(record, chains=tuple(replace(chain, role=Role.OTHER) for chain in record.chains))


def _check(record: Record, predictor: Predictor) -> None:
    limit = predictor.encoder.layout.max_tokens
    made = views([record], predictor.head.facts)
    if limit is None:
        return
    specials = predictor.encoder.layout.num_specials(np.array([len(made[0].chains)]))
    if max(len(view) for view in made) + int(specials[0]) > limit:
        raise DataError(
            f"record '{record.id}' has {len(record):,} residues, but model '{predictor.name}' takes at most "
            f"{limit:,} tokens",
            hint="shorten or leave out longer records",
        )


def _chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Cut the input into parts of few records and few residues; the cuts depend on the input alone."""
    chunk: list[Record] = []
    size = 0
    while own := list(islice(records, 1)):
        chunk += own
        size += len(own[0])
        if len(chunk) >= CHUNK_RECORDS or size >= _CHUNK_RESIDUES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _facts(name: str | Path, path: Path | str, predictors: Sequence[Predictor]) -> dict[str, Any]:
    digests = {id(each.encoder): model_digest(each.encoder) for each in predictors}
    heads = [
        hashlib.sha256(
            b"".join(values.cpu().numpy().tobytes() for values in each.head.state_dict().values())
        ).hexdigest()
        for each in predictors
    ]
    return {
        "format_version": 1,
        "verb": "predict",
        "model": Path(name).resolve().name,
        "encoders": [digests[id(each.encoder)] for each in predictors],
        "heads": heads,
        "target": predictors[0].target.name,
        "input": str(path) if names_corpus(path) else Path(path).name,
        "input_sha256": Corpus(path).digest if names_corpus(path) else file_hash(Path(path)),
    }


def _join(parts: TableParts, out: Path, facts: dict[str, Any]) -> None:
    """Write the result whole or not at all, with its provenance inside, or beside a CSV."""
    joined = out.with_name(out.name + ".joined.parquet")
    join_parts([parts], joined)
    if out.suffix == ".csv":
        part = out.with_name(out.name + ".part")
        pl.scan_parquet(joined).sink_csv(part)
        beside = out.with_name(out.name + ".meta.json")
        beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        part.replace(out)
        joined.unlink()
        return
    noted = pq.ParquetFile(joined)
    schema = noted.schema_arrow.with_metadata({b"protlm": json.dumps(facts).encode()})
    part = out.with_name(out.name + ".part")
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for group in range(noted.num_row_groups):
            writer.write_table(noted.read_row_group(group).cast(schema))
    part.replace(out)
    joined.unlink()
