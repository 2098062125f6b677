"""Aligned sequences as they are written: A2M, A3M, aligned FASTA and Stockholm, plain or gzip-compressed."""

import difflib
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from protlm.data.readers.text import read_lines
from protlm.errors import DataError

Layout = Literal["auto", "a2m", "aligned"]
"""What lower case and dots mean: in ``"a2m"`` (and A3M) insertions beside the match columns; in ``"aligned"``
residues and gaps like any other, all rows being equally long."""

_INSERTED = string.ascii_lowercase.encode() + b"."
_UPPER = bytes.maketrans(string.ascii_lowercase.encode() + b".", string.ascii_uppercase.encode() + b"-")
_LEGAL = re.compile(rb"[A-Za-z.-]*")
_RANGE = re.compile(r"/([0-9]{1,9})-([0-9]{1,9})$")
_STOCKHOLM = "# STOCKHOLM"


@dataclass(frozen=True)
class AlignedRows:
    """The rows of an alignment file, the query's first."""

    names: tuple[str, ...]
    """First word of each header; ``row 3`` for the third row where it is empty."""
    texts: tuple[bytes, ...]
    """Letters, dashes and dots, ASCII."""
    layout: Literal["a2m", "aligned"]
    """What lower case and dots in `texts` mean."""
    num_read: int
    """Rows in the file."""
    num_illegal: int
    """Rows that were left out because of a letter that is no residue."""
    notes: tuple[str, ...]
    """What the user should know about the file."""

    def matches(self) -> list[bytes]:
        """Give the match columns of each row in capitals and dashes; all are equally long."""
        if self.layout == "a2m":
            return [text.translate(None, _INSERTED) for text in self.texts]
        return [text.translate(_UPPER) for text in self.texts]

    def residues(self, row: int) -> str:
        """Give the whole sequence of a row, insertions included, in capitals.

        Parameters
        ----------
        row
            0 is the query.
        """
        return self.texts[row].translate(_UPPER, b"-.").decode()

    def numbering(self) -> tuple[int, int] | None:
        """Give the first and last position that the query's name states (``BLAT_ECOLX/24-286``), if any."""
        match = _RANGE.search(self.names[0])
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class _Entry:
    line: int
    name: str
    text: bytes


def read_rows(path: Path, *, query: str | None = None, layout: Layout = "auto") -> AlignedRows:
    """Read an alignment, and tell how it is written.

    Parameters
    ----------
    path
        FASTA-like or Stockholm; told from its first line.
    query
        Name of the query's row, with or without its range; the first row by default.
    layout
        By default ``"a2m"`` where all rows have the same number of capitals and dashes, else ``"aligned"``
        where all are equally long.

    Raises
    ------
    DataError
        If the file is empty or neither format, no row or several rows have the query's name, the query
        has a letter that is no residue, or the rows do not have the same number of columns.
    """
    lines = read_lines(path)
    first = next(lines, "")
    parse = _stockholm if first.startswith(_STOCKHOLM) else _fasta
    entries = list(parse(path, first, lines))
    if not entries:
        raise DataError(f"{path}: no aligned sequences", hint="is the file empty?")
    entries.insert(0, entries.pop(_find(entries, query, path)))
    illegal = [entry for entry in entries if not _LEGAL.fullmatch(entry.text)]
    if illegal and illegal[0] is entries[0]:
        raise DataError(f"{_where(path, entries[0])}: the query has {_bad_letter(entries[0])}")
    notes = []
    if illegal:
        examples = "; ".join(f"row '{entry.name}' has {_bad_letter(entry)}" for entry in illegal[:3])
        notes.append(f"left out {len(illegal):,} rows with a letter that is no residue: {examples}")
        entries = [entry for entry in entries if _LEGAL.fullmatch(entry.text)]
    told = _tell_layout(entries, layout, path)
    if layout == "auto" and told == "aligned" and any(entry.text != entry.text.upper() for entry in entries):
        notes.append(
            "lower case and dots stand in the columns of capitals: read as aligned residues and gaps, "
            "not as insertions"
        )
    return AlignedRows(
        tuple(entry.name for entry in entries),
        tuple(entry.text for entry in entries),
        told,
        len(entries) + len(illegal),
        len(illegal),
        tuple(notes),
    )


def _fasta(path: Path, first: str, rest: Iterator[str]) -> Iterator[_Entry]:
    start, header, parts, count = 0, None, [], 0
    for number, line in enumerate((first, *rest), start=1):
        if line.startswith(">"):
            if header is not None:
                count += 1
                yield _entry(start, header, parts, count)
            start, header, parts = number, line[1:], []
        elif header is not None:
            parts.append(line)
        elif line.strip() and not line.startswith((";", "#")):
            raise DataError(
                f"{path}, line {number}: expected a header starting with '>', or '# STOCKHOLM' as the first "
                f"line, got {line[:40]!r}",
                hint="alignments are read as A2M, A3M, aligned FASTA or Stockholm",
            )
    if header is not None:
        yield _entry(start, header, parts, count + 1)


def _stockholm(path: Path, first: str, rest: Iterator[str]) -> Iterator[_Entry]:
    """Join the blocks of a name up to ``//``."""
    del first
    starts: dict[str, int] = {}
    parts: dict[str, list[str]] = {}
    for number, line in enumerate(rest, start=2):
        if line.startswith("//"):
            break
        if line.startswith("#") or not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        if not text.strip():
            raise DataError(
                f"{path}, line {number}: expected a name, a space and aligned letters, got {line[:40]!r}",
                hint="is this a Stockholm file?",
            )
        starts.setdefault(name, number)
        parts.setdefault(name, []).append(text)
    for count, name in enumerate(parts, start=1):
        yield _entry(starts[name], name, parts[name], count)


def _entry(line: int, header: str, parts: Sequence[str], count: int) -> _Entry:
    words = header.split(None, 1)
    text = "".join("".join(parts).split()).encode("ascii", "replace")
    return _Entry(line, words[0] if words else f"row {count}", text.removesuffix(b"*"))


def _find(entries: Sequence[_Entry], query: str | None, path: Path) -> int:
    if query is None:
        return 0
    found = [place for place, entry in enumerate(entries) if entry.name == query]
    found = found or [
        place for place, entry in enumerate(entries) if _RANGE.sub("", entry.name) == query.strip()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"'{entries[place].name}' (line {entries[place].line})" for place in found[:5])
        raise DataError(
            f"{path}: {len(found)} rows are named '{query}': {names}",
            hint="name the row with its range, as NAME/24-286, or leave only one of them in the file",
        )
    close = difflib.get_close_matches(query, [entry.name for entry in entries], n=1)
    raise DataError(
        f"{path}: none of {len(entries):,} rows is named '{query}'",
        hint=(f"did you mean '{close[0]}'? " if close else "")
        + f"the first row is '{entries[0].name}'; without a name it is taken as the query",
    )


def _tell_layout(entries: Sequence[_Entry], asked: Layout, path: Path) -> Literal["a2m", "aligned"]:
    lengths = np.array([len(entry.text) for entry in entries])
    matches = np.array([len(entry.text.translate(None, _INSERTED)) for entry in entries])
    if asked != "aligned" and matches[0] > 0 and (matches == matches[0]).all():
        return "a2m"
    if asked != "a2m" and lengths[0] > 0 and (lengths == lengths[0]).all():
        return "aligned"
    counted = lengths if asked == "aligned" else matches
    unequal = np.flatnonzero(counted != counted[0])
    if not len(unequal):
        raise DataError(
            f"{_where(path, entries[0])}: the query has no columns", hint="is the file cut short?"
        )
    what = "letters, dashes and dots" if asked == "aligned" else "match columns (capitals and dashes)"
    raise DataError(
        f"{_where(path, entries[unequal[0]])}: {counted[unequal[0]]} {what}, but the query "
        f"'{entries[0].name}' has {counted[0]}; {len(unequal):,} of {len(entries):,} rows differ from it",
        hint="is the file aligned, and whole? in A2M and A3M lower case and dots are insertions",
    )


def _where(path: Path, entry: _Entry) -> str:
    return f"{path}, line {entry.line}, row '{entry.name}'"


def _bad_letter(entry: _Entry) -> str:
    index = next(index for index, letter in enumerate(entry.text) if not _LEGAL.fullmatch(bytes([letter])))
    return f"{chr(entry.text[index])!r} at column {index + 1}"
