"""FASTA: one record of one chain per header, or two headers of one name per record."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from protlm.data.readers.paired_fasta import first_word, join_pairs, look_paired
from protlm.data.readers.policy import ColumnNames, InputPolicy, ReadReport, UniqueIds, guarded
from protlm.data.readers.text import read_lines
from protlm.errors import DataError
from protlm.types.alphabet import clean_residues
from protlm.types.record import Chain, Record

_NUM_PROBED = 1000
_REMEDY = "pass --paired-ids to join them"


def read_fasta(path: Path, columns: ColumnNames, policy: InputPolicy, report: ReadReport) -> Iterator[Record]:
    """Stream a FASTA file. The id is the header up to the first white space.

    Parameters
    ----------
    path
        The file.
    columns
        Must name none; a FASTA file has no columns.
    policy
        What to do with records that are not plain residues.
    report
        Filled with counts.

    Raises
    ------
    DataError
        If the file is not FASTA, or a record breaks the policy.
    """
    if columns != ColumnNames():
        raise DataError(
            f"{path} is FASTA and has no columns",
            hint="leave out the options that name columns",
        )
    if policy.regions == "columns":
        raise DataError(
            f"--regions columns, but {path} is FASTA and has no columns",
            hint="pass --regions auto, which numbers the chains",
        )
    if policy.paired_ids:
        return guarded(join_pairs(fasta_entries(path), path, policy, report), policy, report)
    return guarded(_parse(path, policy, report), policy, report)


def _parse(path: Path, policy: InputPolicy, report: ReadReport) -> Iterator[tuple[str, Record | DataError]]:
    ids = UniqueIds(policy, report, remedy=f"; where heavy and light records share a name, {_REMEDY}")
    entries = fasta_entries(path)
    head = list(islice(entries, _NUM_PROBED))
    if look_paired(header for _, header, _ in head):
        report.notes.append(f"names look like those of pairs ('{first_word(head[0][1])}' …): {_REMEDY}")
    for line_number, header, sequence in chain(head, entries):
        name = first_word(header) or f"{path.name.split('.')[0]}:{line_number}"
        where = f"{path}, line {line_number}, record '{name}'"
        counts: Counter[str] = Counter()
        try:
            residues = clean_residues(sequence, gaps=policy.gaps, counts=counts)
        except DataError as error:
            yield where, error
            continue
        report.change(counts, where)
        yield where, Record(ids.claim(name, where), (Chain(residues),))


def fasta_entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """Stream the line of each header, the header, and the joined sequence lines, as they are.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DataError
        If it is not FASTA, or holds no record.
    """
    start, header, parts = 0, None, []
    for number, line in enumerate(read_lines(path), start=1):
        if line.startswith(">"):
            if header is not None:
                yield start, header, "".join(parts)
            start, header, parts = number, line[1:], []
        elif header is not None:
            parts.append(line)
        elif line.strip() and not line.startswith(";"):
            raise DataError(
                f"{path}, line {number}: expected a FASTA header starting with '>', got {line[:40]!r}",
                hint="is this file FASTA? tables should be called .csv, .tsv or .parquet",
            )
    if header is None:
        raise DataError(f"{path}: no FASTA records", hint="is the file empty?")
    yield start, header, "".join(parts)
