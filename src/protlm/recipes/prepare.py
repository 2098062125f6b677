"""prepare: a file to a corpus."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protlm.data.corpus import Corpus, CorpusWriter, names_corpus
from protlm.data.germline_assignment import SAME_SPECIES, assign_germline
from protlm.data.germline_report import GermlineReport
from protlm.data.germline_set import PACKAGE_SET, open_germline
from protlm.data.groups import with_default_groups
from protlm.data.numbering import (
    NumberingReport,
    Receptor,
    TwoDomains,
    Unnumbered,
    number_records,
)
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.splits import is_held_out
from protlm.errors import DataError
from protlm.recipes.outputs import claim_folder
from protlm.runs import file_hash
from protlm.types.record import Record

TRAIN, HELD_OUT = "train", "holdout"
AUTO_GERMLINE, HUMAN_GERMLINE, NO_GERMLINE = "auto", "human", "none"


@dataclass(frozen=True)
class Prepared:
    """A corpus and what happened on the way."""

    corpus: Corpus
    reading: ReadReport
    numbering: NumberingReport
    germline: GermlineReport

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        germline = [] if self.numbering.is_off else self.germline.lines()  # numbering has said it then
        return [*self.reading.lines(), *self.numbering.lines(), *germline]


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    receptor: Receptor = "auto",
    unnumbered: Unnumbered = "keep",
    two_domains: TwoDomains = "keep-first",
    germline: Sequence[str] = ("auto",),
    holdout: float = 0.0,
    seed: int = 0,
    force: bool = False,
    on_record: Callable[[], None] | None = None,
) -> Prepared:
    """Read a file, number immune receptor chains, and write a corpus.

    Parameters
    ----------
    source
        FASTA, CSV, TSV or Parquet.
    out
        Corpus folder to make.
    columns, policy
        How to read.
    receptor, unnumbered, two_domains
        How to number; see `protlm.data.numbering.number_records`.
    germline
        What numbered chains are compared with, see `protlm.data.germline_assignment.assign_germline`:
        ``human`` is the package's table, ``auto`` the same where the chains look human, ``none`` leaves the
        step out; otherwise FASTA files of V, D and J genes.
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
    source = check_file(source)
    claim_folder(Path(out))
    reading, numbering, genes = ReadReport(), NumberingReport(), GermlineReport()
    assign = germline_step(germline, genes)
    sizes: Counter[str] = Counter()
    with CorpusWriter(out, force=force) as writer:
        records = iterate_records(source, columns=columns, policy=policy, report=reading)
        records = number_records(
            records,
            receptor=receptor,
            unnumbered=unnumbered,
            two_domains=two_domains,
            groups=False,
            report=numbering,
        )
        for record in with_default_groups(assign(records)):
            subset = ""
            if holdout:
                subset = HELD_OUT if is_held_out(record, holdout, seed=seed) else TRAIN
            writer.add(record, subset=subset)
            sizes[subset] += 1
            if on_record is not None:
                on_record()
        if not sizes:
            raise nothing_left(source, reading, numbering)
        manifest: dict[str, Any] = {
            "inputs": [{"name": source.name, "sha256": file_hash(source), "bytes": source.stat().st_size}],
            "columns": reading.columns,
            "changed": dict(reading.changed),
            "dropped": dict(reading.dropped),
            "examples": reading.examples,
            "numbering": numbering.facts(),
            "germline": genes.facts(),
        }
        if holdout:
            manifest["split"] = {"by": "group", "holdout": holdout, "seed": seed}
            remedy = "groups are drawn by hash; another --seed or share, or protlm split, gives it some"
            reading.notes += [
                f"EMPTY: no record fell into subset {name}; {remedy}"
                for name in (TRAIN, HELD_OUT)
                if not sizes[name]
            ]
        return Prepared(writer.close(manifest), reading, numbering, genes)


def germline_step(
    source: Sequence[str], report: GermlineReport
) -> Callable[[Iterable[Record]], Iterable[Record]]:
    """Give what assigns germline genes; wrong files are refused before anything is made.

    Parameters
    ----------
    source
        As `germline` of `prepare`.
    report
        Filled with counts.
    """
    if tuple(source) == (NO_GERMLINE,):
        return iter
    named = tuple(source) in ((AUTO_GERMLINE,), (HUMAN_GERMLINE,))
    germline = open_germline(PACKAGE_SET if named else [check_file(each) for each in source])
    min_median = SAME_SPECIES if tuple(source) == (AUTO_GERMLINE,) else 0.0

    def assign(records: Iterable[Record]) -> Iterator[Record]:
        return assign_germline(records, germline, min_median=min_median, report=report)

    return assign


def nothing_left(source: Path, reading: ReadReport, numbering: NumberingReport | None = None) -> DataError:
    """Describe how a file came to give no record at all.

    Parameters
    ----------
    source
        The file.
    reading, numbering
        What happened to its records.
    """
    reasons = [
        f"{count:,} dropped: {reason} (first: {reading.examples[reason][0]})"
        for reason, count in reading.dropped.most_common()
    ]
    remedy = "pass --invalid error to see the first one explained"
    if numbering is not None and numbering.num_dropped:
        reasons.append(f"{numbering.num_dropped:,} dropped: cannot be numbered as antibodies")
        remedy = "pass --unnumbered keep, or --receptor none" if len(reasons) == 1 else remedy
    if numbering is not None and numbering.num_dropped_for_domains:
        reasons.append(f"{numbering.num_dropped_for_domains:,} dropped: more than one variable domain")
        remedy = "pass --two-domains split or keep-first" if len(reasons) == 1 else remedy
    if not reasons:
        return DataError(
            f"{source} has no record", hint="is it the right file, and was it written to its end?"
        )
    return DataError(f"{source}: no record is left; {'; '.join(reasons)}", hint=remedy)


def open_source(source: Path | str, folder: Path, *, say: Callable[[str], None]) -> Corpus:
    """Open a corpus, or make one from a file that `prepare` reads.

    Parameters
    ----------
    source
        A corpus, ``FOLDER:SUBSET``, or a file.
    folder
        Where a corpus made from a file goes; one that was made from the same content is reused.
    say
        Tells the user what happened.

    Raises
    ------
    DataError
        If there is no such corpus, or the file breaks the policy of `prepare`'s defaults with
        ``invalid="error"``.
    """
    if names_corpus(source) or Path(source).is_dir():
        return Corpus(source)  # which has the message for a folder that is no corpus
    path = check_file(source)
    is_there = names_corpus(folder)
    if is_there:
        made = Corpus(folder)
        if [each["sha256"] for each in made.manifest.get("inputs", [])] == [file_hash(path)]:
            return made
    try:
        prepared = prepare(path, folder, force=is_there)
    except DataError as error:
        if "--" not in (error.hint or ""):
            raise
        raise DataError(
            error.message,
            hint=f"give a corpus here, made by: protlm prepare {path} --out CORPUS; there, {error.hint}",
        ) from None
    for line in prepared.lines():
        say(f"{source}: {line}")
    return prepared.corpus
