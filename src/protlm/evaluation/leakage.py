"""How much of some records a corpus holds already, and how near its chains are to theirs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.identity import nearest_by_alignment
from protlm.data.identity_facts import identity_facts
from protlm.types.record import Record

MOST_CHAINS = 1_000
"""Distinct chains that are searched for in the training data."""
MOST_KNOWN = 50_000
"""Training chains up to which they are searched."""


def overlap(records: Iterable[Record], *corpora: Corpus) -> dict[str, int]:
    """Count the distinct chains and groups of some records that a corpus, or one of several, holds too.

    Parameters
    ----------
    records
        What a model is judged on; gone through once, so they need not be held.
    *corpora
        What it was trained on; their chains are never held as Python objects.

    Returns
    -------
    dict
        ``shared_chains, chains, shared_groups, groups``; identical chains and equal groups only.
    """
    distinct: tuple[set[str], set[str]] = (set(), set())
    for record in records:
        distinct[0].update(chain.residues for chain in record.chains)
        distinct[1].update([record.group] if record.group else [])
    chains, groups = map(sorted, distinct)
    known_chains, known_groups = np.zeros(len(chains), dtype=bool), np.zeros(len(groups), dtype=bool)
    for corpus in corpora:
        used = np.unique(corpus.chain_rows(np.arange(len(corpus))))
        residues = pl.Series(values=pl.from_arrow(corpus.chain_column("residues").take(used)))
        known_chains |= _is_in(chains, residues)
        known_groups |= _is_in(groups, pl.Series(corpus.column("group"), dtype=pl.String))
    return {
        "shared_chains": int(known_chains.sum()),
        "chains": len(chains),
        "shared_groups": int(known_groups.sum()),
        "groups": len(groups),
    }


def _is_in(values: list[str], seen: pl.Series) -> np.ndarray:
    return pl.Series(values, dtype=pl.String).is_in(seen.implode()).to_numpy()


@dataclass(frozen=True)
class NearTraining:
    """How near the chains that a model is judged on are to those that it was trained on."""

    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    """By chain, see `protlm.data.identity_facts.identity_facts`; empty where nothing was searched."""
    note: str = ""
    """What was cut, or why nothing was searched."""


def near_training(
    records: Iterable[Record],
    corpora: Sequence[Corpus],
    *,
    folder: Path | None = None,
    most: int = MOST_CHAINS,
    most_known: int = MOST_KNOWN,
) -> NearTraining:
    """Find the most identical training chain of each distinct chain, where that is feasible.

    Parameters
    ----------
    records
        What a model is judged on.
    corpora
        What it was trained on.
    folder
        Where results are kept under a hash of what was compared; nowhere by default.
    most
        Distinct chains that are searched for; of more, so many by the hash of their content.
    most_known
        Training chains up to which a search is made.
    """
    name_of: dict[str, str] = {}
    for record in records:
        for name, chain in zip(record.chain_names, record.chains, strict=True):
            name_of.setdefault(chain.residues, name)
    rows = [np.unique(corpus.chain_rows(np.arange(len(corpus)))) for corpus in corpora]
    num_known = sum(map(len, rows))
    if not name_of or not num_known:
        return NearTraining()
    if num_known > most_known:
        return NearTraining(
            note=f"identity was not searched, because there are {num_known:,} training chains and up to "
            f"{most_known:,} are searched; protlm audit does it"
        )
    texts = sorted(name_of, key=_hash)[:most]
    note = (
        f"{len(texts):,} of {len(name_of):,} distinct chains, by content" if len(texts) < len(name_of) else ""
    )
    identity = _kept(texts, corpora, rows, folder)
    names = [name_of[text] for text in texts]
    table = pl.DataFrame({"chain": names, "identity": identity})
    found = pl.when(pl.col("identity") > 0).then(pl.lit("known"))
    return NearTraining(identity_facts(table.with_columns(train_id=found).sort("chain")), note)


def _kept(
    texts: Sequence[str], corpora: Sequence[Corpus], rows: Sequence[np.ndarray], folder: Path | None
) -> np.ndarray:
    """Search, or take what an earlier search of the same kept."""
    whole = "\x1f".join([*texts, "", *(corpus.digest for corpus in corpora)])
    digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
    path = None if folder is None else folder / f"training-identity-{digest}.npy"
    if path is not None and path.is_file():
        return np.load(path)
    known = [
        text
        for corpus, own in zip(corpora, rows, strict=True)
        for text in corpus.chain_column("residues").take(own).to_pylist()
    ]
    identity = nearest_by_alignment(texts, known).identity
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.stem + ".part.npy")
        np.save(part, identity)
        part.replace(path)
    return identity


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
