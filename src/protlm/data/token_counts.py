"""How many tokens chains take up: their residues, or their sub-words, which are counted once for a corpus."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from protlm.data.corpus import Corpus
from protlm.data.layout import TokenLayout
from protlm.data.subwords import encoder
from protlm.types.record import Record

_CHUNK_RESIDUES = 4 << 20


def record_counts(records: Sequence[Record], layout: TokenLayout) -> np.ndarray:
    """Count the tokens of the chains of each record, special tokens not among them.

    Parameters
    ----------
    records
        Any.
    layout
        The model's; at residue level it is the number of residues.

    Returns
    -------
    numpy.ndarray
        int64 ``[n]``; `TokenLayout.num_specials` and `num_positions` take it from there.
    """
    if layout.is_residue_level:
        return np.array([len(record) for record in records], dtype=np.int64)
    texts = [chain.residues for record in records for chain in record.chains]
    return _sums(_encoded_lengths(texts, layout), np.array([len(record.chains) for record in records]))


def record_lengths(records: Sequence[Record], layout: TokenLayout) -> np.ndarray:
    """Count the tokens of each record, special tokens included.

    Parameters
    ----------
    records, layout
        As for `record_counts`.

    Returns
    -------
    numpy.ndarray
        int64 ``[n]``.
    """
    num_chains = np.array([len(record.chains) for record in records], dtype=np.int64)
    return record_counts(records, layout) + layout.num_specials(num_chains)


def corpus_counts(
    corpus: Corpus, layout: TokenLayout, *, on_chains: Callable[[int], None] | None = None
) -> np.ndarray:
    """Count the tokens of the chains of each record of a corpus, special tokens not among them.

    The sub-words of every chain are counted once and kept in the corpus' folder as
    ``token_lengths.DIGEST.npy``, int32 by row of `chains`; or in memory, where the folder cannot be written.

    Parameters
    ----------
    corpus
        Any corpus.
    layout
        The model's.
    on_chains
        Called with the number of chains finished, where they are not counted yet.

    Returns
    -------
    numpy.ndarray
        int64 ``[n]``.
    """
    if layout.is_residue_level:
        return corpus.lengths
    counts = _kept(corpus, layout)
    if counts is None:
        counts = _count_chains(corpus, layout, on_chains)
    rows = corpus.chain_rows(np.arange(len(corpus)))
    return _sums(counts[rows], corpus.num_chains_per_record)


def is_counted(corpus: Corpus, layout: TokenLayout) -> bool:
    """Tell whether `corpus_counts` has nothing left to do.

    Parameters
    ----------
    corpus, layout
        As there.
    """
    return layout.is_residue_level or _kept(corpus, layout) is not None


_IN_MEMORY: dict[Path, np.ndarray] = {}
"""Counts whose folder cannot be written, by the file that they would be in."""


def _count_chains(corpus: Corpus, layout: TokenLayout, on_chains: Callable[[int], None] | None) -> np.ndarray:
    """Count the sub-words of every chain, in chunks of bounded size, and keep them."""
    lengths = corpus.chain_lengths
    counts = np.zeros(len(lengths), dtype=np.int32)
    residues = corpus.chain_column("residues")
    chunk_of = np.cumsum(lengths) // _CHUNK_RESIDUES
    cuts = [0, *(np.flatnonzero(np.diff(chunk_of)) + 1).tolist(), len(lengths)]
    for start, stop in pairwise(cuts):
        counts[start:stop] = _encoded_lengths(residues.slice(start, stop - start).to_pylist(), layout)
        if on_chains is not None:
            on_chains(stop - start)
    path = _path(corpus, layout)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.save(file, counts)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        _IN_MEMORY[path] = counts
    return counts


def _kept(corpus: Corpus, layout: TokenLayout) -> np.ndarray | None:
    path = _path(corpus, layout)
    try:
        counts = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError):  # not there, or cut short, and it can be counted again
        counts = _IN_MEMORY.get(path)
    fits = counts is not None and counts.dtype == np.int32 and counts.shape == corpus.chain_lengths.shape
    return counts if fits else None


def _path(corpus: Corpus, layout: TokenLayout) -> Path:
    return corpus.path / f"token_lengths.{_digest(layout)}.npy"


@lru_cache(maxsize=8)
def _digest(layout: TokenLayout) -> str:
    """Hash what decides how a chain is cut."""
    text = "\n".join((*layout.tokens, "", *layout.merges, layout.unknown))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encoded_lengths(texts: list[str], layout: TokenLayout) -> np.ndarray:
    encoded = encoder(layout).encode_batch_fast(texts, add_special_tokens=False)
    return np.fromiter(map(len, encoded), dtype=np.int64, count=len(texts))


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Add up runs of values."""
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    stops = np.cumsum(counts)
    return sums[stops] - sums[stops - counts]
