"""Text files, plain or gzip-compressed, with a clear message where one is broken."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from protlm.errors import DataError

_GZIP = b"\x1f\x8b"
_NOT_TEXT = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or save it as .csv"),
    b"BZh": ("bzip2-compressed", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("xz-compressed", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "unpack it with unzstd"),
    b"PAR1": ("Parquet", "let its name end in .parquet"),
    b"\xff\xfe": ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
}
"""First bytes of files that are often taken for text."""


def read_lines(path: Path) -> Iterator[str]:
    """Stream the lines of a text file, without line ends, byte-order mark or carriage returns.

    Parameters
    ----------
    path
        Whether it is gzip-compressed is told from its first bytes, not from its name.

    Raises
    ------
    DataError
        If the file cannot be opened, is cut short or damaged, or is not UTF-8 text.
    """
    number = 0
    try:
        for number, line in enumerate(_decoded(path), start=1):  # noqa: B007 - the messages need it
            yield line.rstrip("\r\n")
    except EOFError:
        raise DataError(
            f"{path}: the compressed file ends too early, after line {number:,}",
            hint="it was probably cut short while copying; fetch it again",
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the compressed data is damaged ({error}), after line {number:,}", hint="fetch it again"
        ) from None


def read_bytes(path: Path) -> bytes:
    """Give the content of a file, unpacked where it is gzip-compressed.

    Parameters
    ----------
    path
        Whether it is compressed is told from its first bytes, not from its name.

    Raises
    ------
    DataError
        If the file cannot be opened, or is cut short or damaged.
    """
    try:
        with open_bytes(path) as data:
            return data.read()
    except EOFError:
        raise DataError(
            f"{path}: the compressed file ends too early",
            hint="it was probably cut short while copying; fetch it again",
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the compressed data is damaged ({error})", hint="fetch it again") from None


def _decoded(path: Path) -> Iterator[str]:
    try:
        with open_bytes(path) as data, io.TextIOWrapper(data, encoding="utf-8-sig", newline=None) as file:
            yield from file
    except UnicodeDecodeError as error:
        line, byte = _first_undecodable(path)  # which raises first where damage is the cause
        raise DataError(
            f"{path}, line {line:,}: not UTF-8 text (byte 0x{byte:02x}; {error.reason})",
            hint="if it is Latin-1, convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW; "
            "or is it a binary file under another name?",
        ) from None


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, through gzip where its first bytes say so.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DataError
        If it cannot be opened, or is of a kind that is often taken for text.
    """
    try:
        raw = path.open("rb")
        head = raw.peek(8)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
        ) from None
    with raw:
        if head.startswith(_GZIP):
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(BinaryIO, unpacked)
            return
        for magic, (kind, remedy) in _NOT_TEXT.items():
            if head.startswith(magic) and path.suffix.lower() != ".parquet":
                raise DataError(f"{path} is {kind}, not plain or gzip-compressed text", hint=remedy)
        yield raw


def _first_undecodable(path: Path) -> tuple[int, int]:
    """Give the line and the byte; the reader above decodes in blocks and cannot tell."""
    number = 0
    with open_bytes(path) as data:
        lines = io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape", newline=None)
        for number, line in enumerate(lines, start=1):
            for letter in line:
                if "\udc80" <= letter <= "\udcff":
                    return number, ord(letter) - 0xDC00
    return number, 0  # not reached: the caller found one
