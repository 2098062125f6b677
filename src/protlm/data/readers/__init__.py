"""Files to records: one module per kind of file, one policy for what may be in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from protlm.data.readers.fasta import read_fasta
from protlm.data.readers.policy import ColumnNames, InputPolicy, ReadReport
from protlm.data.readers.tables import read_table
from protlm.errors import DataError
from protlm.types.record import Record

Reader = Callable[[Path, ColumnNames, InputPolicy, ReadReport], Iterator[Record]]

READERS: dict[str, Reader] = {
    ".fasta": read_fasta,
    ".fa": read_fasta,
    ".faa": read_fasta,
    ".fas": read_fasta,
    ".csv": read_table,
    ".tsv": read_table,
    ".txt": read_table,
    ".parquet": read_table,
}
"""Reader by file suffix; ``.gz`` behind it is allowed for text."""


def iterate_records(
    path: Path | str,
    *,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    report: ReadReport | None = None,
) -> Iterator[Record]:
    """Stream the records of a FASTA, CSV, TSV or Parquet file.

    Parameters
    ----------
    path
        The file; text may be gzip-compressed.
    columns
        Which columns hold what; found by their usual names where not said.
    policy
        What to do with records that are not plain residues.
    report
        Filled with counts of what was changed or dropped.

    Raises
    ------
    DataError
        Naming file, row, value and remedy.
    """
    path = check_file(path)
    return reader_for(path)(
        path,
        columns or ColumnNames(),
        policy or InputPolicy(),
        report if report is not None else ReadReport(),
    )


def check_file(path: Path | str) -> Path:
    """Refuse what is not a regular file. Files are read more than once, so a pipe will not do.

    Parameters
    ----------
    path
        What the user gave.
    """
    path = Path(path)
    if path.is_dir():
        is_corpus = (path / "chains.arrow").exists()
        what = "a corpus, which is made already" if is_corpus else "a folder"
        raise DataError(f"{path} is {what}, not a file", hint="give a FASTA, CSV, TSV or Parquet file")
    if not path.exists():
        raise DataError(f"no such file: {path}", hint="check the path and the working directory")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file", hint="write its content to a file first")
    return path


def reader_for(path: Path) -> Reader:
    """Choose the reader by suffix.

    Parameters
    ----------
    path
        A file name.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    reader = READERS.get(suffixes[-1]) if suffixes else None
    if reader is None:
        raise DataError(
            f"cannot tell what kind of file {path} is",
            hint=f"rename it to end in one of {', '.join(READERS)}, with .gz behind it if compressed",
        )
    return reader


def read_records(
    path: Path | str,
    *,
    heavy: str | None = None,
    light: str | None = None,
    sequence: str | None = None,
    layout: str = "auto",
    labels: Sequence[str] = (),
    paired_ids: bool = False,
    policy: InputPolicy | None = None,
) -> list[Record]:
    r"""Read a FASTA, CSV, TSV or Parquet file into a list of records.

    Lower case, a stop at the end and white space are mended; anything else that is not plain residues
    is an error unless `policy` says otherwise (``InputPolicy(invalid="drop", gaps="remove")``).

    Parameters
    ----------
    path
        The file; text may be gzip-compressed.
    heavy, light, sequence
        Column names, where they are not the usual ones.
    layout
        What kind of table it is, a name of `protlm.data.readers.layouts.LAYOUTS`; ``auto`` tells it from the
        columns.
    labels
        Columns to keep as labels; of an OAS file also keys of its first line.
    paired_ids
        Join the two chains of one name in a FASTA file.
    policy
        What to do with records that are not plain residues; by default an error.

    Raises
    ------
    DataError
        Naming file, row, value and remedy.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.fasta"
    >>> _ = path.write_text(">a\nMKT\n>b some words\nGG\nGW\n")
    >>> [(record.id, record.chains[0].residues) for record in read_records(path)]
    [('a', 'MKT'), ('b', 'GGGW')]
    """
    columns = ColumnNames(layout=layout, heavy=heavy, light=light, sequence=sequence, labels=tuple(labels))
    policy = replace(policy or InputPolicy(), paired_ids=True) if paired_ids else policy
    return list(iterate_records(path, columns=columns, policy=policy))


__all__ = ["ColumnNames", "InputPolicy", "ReadReport", "check_file", "iterate_records", "read_records"]
