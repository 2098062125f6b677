"""prepare: a file to a corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protlm.data.corpus import Corpus, CorpusWriter, names_corpus
from protlm.data.numbering import NumberingReport, Receptor, Unnumbered, number_records
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, iterate_records
from protlm.data.splits import is_held_out
from protlm.errors import DataError
from protlm.runs import file_hash

TRAIN, HELD_OUT = "train", "holdout"


@dataclass(frozen=True)
class Prepared:
    """A corpus and what happened on the way."""

    corpus: Corpus
    reading: ReadReport
    numbering: NumberingReport


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    receptor: Receptor = "auto",
    unnumbered: Unnumbered = "keep",
    holdout: float = 0.0,
    seed: int = 0,
    force: bool = False,
    on_record: Callable[[], None] | None = None,
) -> Prepared:
    """Read a file, number antibody chains, and write a corpus.

    Parameters
    ----------
    source
        FASTA, CSV, TSV or Parquet.
    out
        Corpus folder to make.
    columns, policy
        How to read.
    receptor, unnumbered
        How to number.
    holdout
        Share of groups, in [0, 1), to list in the subset ``holdout``; the rest goes to ``train``.
    seed
        Of the split.
    force
        Replace a corpus that is there.
    on_record
        Called after each record.

    Raises
    ------
    DataError
        If the input is wrong or the folder is taken.
    """
    if not 0 <= holdout < 1:
        raise DataError(f"--holdout {holdout} is not a share", hint="expected a number from 0 up to below 1")
    source = Path(source)
    reading, numbering = ReadReport(), NumberingReport()
    with CorpusWriter(out, force=force) as writer:
        records = iterate_records(source, columns=columns, policy=policy, report=reading)
        for record in number_records(records, receptor=receptor, unnumbered=unnumbered, report=numbering):
            subset = ""
            if holdout:
                subset = HELD_OUT if is_held_out(record, holdout, seed=seed) else TRAIN
            writer.add(record, subset=subset)
            if on_record is not None:
                on_record()
        manifest: dict[str, Any] = {
            "inputs": [{"name": source.name, "sha256": file_hash(source), "bytes": source.stat().st_size}],
            "changed": dict(reading.changed),
            "dropped": dict(reading.dropped),
            "numbering": {
                "numbered": dict(numbering.numbered),
                "unnumbered": dict(numbering.unnumbered),
                "num_dropped": numbering.num_dropped,
                "is_off": numbering.is_off,
            },
        }
        if holdout:
            manifest["split"] = {"by": "group", "holdout": holdout, "seed": seed}
        return Prepared(writer.close(manifest), reading, numbering)


def open_source(source: Path | str, folder: Path, *, say: Callable[[str], None]) -> Corpus:
    """Open a corpus, or make one from a file that `prepare` reads.

    Parameters
    ----------
    source
        A corpus, ``FOLDER:SUBSET``, or a file.
    folder
        Where a corpus made from a file goes; one that is there already is reused.
    say
        Tells the user what happened.
    """
    if names_corpus(source):
        return Corpus(source)
    if Path(source).is_dir():
        return Corpus(source)  # raises the message for a folder that is no corpus
    if names_corpus(folder):
        return Corpus(folder)
    prepared = prepare(source, folder)
    for line in [*prepared.reading.lines(), *prepared.numbering.lines()]:
        say(f"{source}: {line}")
    return prepared.corpus
