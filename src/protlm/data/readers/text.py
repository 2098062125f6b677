"""Text files, plain or gzip-compressed, with a clear message where one is cut short."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from protlm.errors import DataError


def read_lines(path: Path) -> Iterator[str]:
    """Stream the lines of a text file, without line ends, byte-order mark or carriage returns.

    Parameters
    ----------
    path
        ``.gz`` files are decompressed.

    Raises
    ------
    DataError
        If the file is cut short, is not gzip although it is called so, or is not text.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - the error message needs it
                yield line.rstrip("\r\n")
    except EOFError:
        raise DataError(
            f"{path}: the compressed file ends too early, after line {number:,}",
            hint="it was probably cut short while copying; fetch it again",
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not readable as gzip ({error}), after line {number:,}",
            hint="fetch it again, or remove .gz from its name if it is not compressed",
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text, after line {number:,} ({error.reason})",
            hint="is it a binary or compressed file under another name?",
        ) from None


def read_text(path: Path) -> str:
    """Read a whole text file by the rules of `read_lines`.

    Parameters
    ----------
    path
        ``.gz`` files are decompressed.
    """
    return "\n".join(read_lines(path)) + "\n"


def _open(path: Path) -> io.TextIOWrapper:
    try:
        raw = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline=None)  # type: ignore[arg-type]
