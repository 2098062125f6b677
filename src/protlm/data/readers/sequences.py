"""Files that give the sequence of each id: FASTA, or a table of ids and sequences."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from protlm.data.readers import check_file, reader_for
from protlm.data.readers.fasta import fasta_entries, read_fasta
from protlm.data.readers.paired_fasta import first_word
from protlm.data.readers.policy import InputPolicy, ReadReport
from protlm.data.readers.rows import OpenTable, open_table
from protlm.errors import DataError
from protlm.types.alphabet import ResidueError, clean_residues

ID_NAMES = (
    *("id", "protein_id", "string_protein_id", "accession", "entry", "uniprot", "uniprot_id", "sequence_id"),
    *("protein", "name", "tcr_id", "epitope_id", "pdb_id"),
)
SEQUENCE_NAMES = (
    *("sequence", "sequence_aa", "seq", "protein_sequence", "aa_sequence", "residues"),
    *("tcr_full", "cdr3b", "cdr3_beta", "cdr3", "epitope", "peptide"),
)

_RESIDUES = re.compile("[A-Za-z]{10,}")
_UNIPROT = re.compile(r"(?:sp|tr)\|([^|\s]+)\|")


@dataclass(frozen=True)
class SequenceFile:
    """A file whose columns have been found."""

    path: Path
    id: str = ""
    """Column of ids; empty in FASTA and in a table without a header."""
    sequence: str = ""

    @property
    def title(self) -> str:
        """What was taken for what."""
        columns = f" (id '{self.id}', sequence '{self.sequence}')" if self.id else ""
        return f"sequences: {self.path.name}{columns}"


def open_sequences(
    path: Path | str, *, ids: Sequence[str] = (), sequences: Sequence[str] = ()
) -> SequenceFile:
    """Find the columns of a sequences file.

    Parameters
    ----------
    path
        FASTA, or CSV, TSV or Parquet with a row per protein. Two columns without a header are an id and a
        sequence.
    ids, sequences
        Column names that go before the usual ones.

    Raises
    ------
    DataError
        If the file is not there, is of no known kind, or has no such columns.
    """
    path = check_file(path)
    if reader_for(path) is read_fasta:
        return SequenceFile(path)
    header = open_table(path).header
    found = _find((*sequences, *SEQUENCE_NAMES), header), _find((*ids, *ID_NAMES), header)
    if found[0] and found[1]:
        return SequenceFile(path, found[1], found[0])
    if len(header) == 2 and not any(found) and _RESIDUES.fullmatch(header[1]):
        return SequenceFile(path)
    kind, option, names = (
        ("sequence", "--sequence", SEQUENCE_NAMES) if not found[0] else ("id", "--id", ID_NAMES)
    )
    raise DataError(
        f"{path}: no column is known to hold the {kind} (columns: {', '.join(header)})",
        hint=f"name it: {option} COL; usual names: {', '.join(names[:6])}",
    )


def sequence_columns(path: Path | str) -> tuple[str, ...]:
    """Give the column names of a sequences file; FASTA has none.

    Parameters
    ----------
    path
        The file.
    """
    path = check_file(path)
    return () if reader_for(path) is read_fasta else open_table(path).header


def read_sequences(
    file: SequenceFile, policy: InputPolicy, report: ReadReport
) -> Iterator[tuple[str, str | None, str]]:
    """Stream id, residues and place of each protein; residues are `None` where they were invalid.

    The id of a FASTA record is the header's first word, its accession where that is ``sp|ACCESSION|NAME``.

    Parameters
    ----------
    file
        From `open_sequences`.
    policy
        What to do with sequences that are not plain residues.
    report
        Filled with counts.

    Raises
    ------
    DataError
        If a sequence breaks the policy, or has no id.
    """
    for name, text, where in _entries(file):
        counts: Counter[str] = Counter()
        try:
            residues = clean_residues(text, gaps=policy.gaps, counts=counts)
        except ResidueError as error:
            if policy.invalid == "error":
                raise DataError(f"{where}: {error.message}", hint=error.hint) from None
            report.drop(f"protein left out: {error.reason}", where)
            yield name, None, where
            continue
        if counts:
            report.change(counts, where)
        yield name, residues, where


def _entries(file: SequenceFile) -> Iterator[tuple[str, str, str]]:
    """Give id, text and place of each entry."""
    if reader_for(file.path) is read_fasta:
        for line, header, text in fasta_entries(file.path):
            word = first_word(header)
            match = _UNIPROT.match(word)
            name = match[1] if match else word
            yield _named(name, f"{file.path}, line {line}"), text, f"{file.path}, line {line}, '{name}'"
        return
    table = open_table(file.path)
    for number, (name, text) in enumerate(_cells(table, file), start=1):
        where = f"{file.path}, row {number}"
        yield _named(name.strip(), where), text, f"{where}, '{name}'"


def _cells(table: OpenTable, file: SequenceFile) -> Iterator[tuple[str, str]]:
    if file.id:
        rows = table.rows([file.id, file.sequence])
        return ((_text(row[file.id]), _text(row[file.sequence])) for row in rows)
    first, second = table.header
    return chain([(first, second)], ((row[first], row[second]) for row in table.rows([first, second])))


def _named(name: str, where: str) -> str:
    if not name:
        raise DataError(f"{where}: the protein has no id", hint="links name proteins by id; give it one")
    return name


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _find(names: Sequence[str], header: Sequence[str]) -> str | None:
    lower = {column.lower(): column for column in reversed(header)}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)
