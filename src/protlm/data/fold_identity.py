"""How near the records of each fold are to the nearest ones of other folds, chain by chain."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.fold_search import Searched, nearest_by_places, nearest_by_search, places_of
from protlm.data.identity_facts import identity_facts, identity_line
from protlm.data.peptides import SHORT
from protlm.types.record import Chain, Record, Role

MOST = 2_000
"""Distinct test sequences of a chain that are looked at; of more, so many by the hash of their content."""
_FORMAT = 1
"""Raise it when the way of comparing changes, so that what was kept is not taken up."""
_SCHEMA = pl.Schema(
    {
        "fold": pl.String,
        "id": pl.String,
        "chain": pl.String,
        "residues": pl.Int64,
        "identity": pl.Float64,
        "train_id": pl.String,
    }
)


@dataclass(frozen=True)
class FoldNeighbours:
    """The nearest sequence outside the fold of each distinct test sequence."""

    table: pl.DataFrame
    """``fold, id, chain, residues, identity, train_id``: a row for each distinct sequence of a chain in a
    tested fold, under the first record that has it; identity in [0, 1], and no `train_id` where none was
    found."""
    notes: list[str] = field(default_factory=list)
    """How chains were compared, and what was cut."""

    def lines(self) -> list[str]:
        """Say it in words, a line for each chain and each note."""
        return [*(identity_line(name, facts) for name, facts in self.facts().items()), *self.notes]

    def facts(self) -> dict[str, dict[str, float]]:
        """Give `protlm.data.identity_facts.identity_facts`."""
        return identity_facts(self.table)


def fold_neighbours(
    records: Sequence[Record],
    folds: Sequence[Any] | np.ndarray,
    *,
    tested: Sequence[Any] | None = None,
    is_ordered: bool | None = None,
    most: int = MOST,
    folder: Path | None = None,
    threads: int = 1,
) -> FoldNeighbours:
    """Find for the records of tested folds the nearest records of all other folds.

    Chains of one name are compared: numbered ones at their IMGT positions (equal residues over the
    positions that either has), those of one length that are alike place by place, peptides of fewer than 20
    residues by edits, and the rest by local alignment with MMseqs2 (see
    `protlm.data.identity.nearest_by_alignment`). One search serves all folds; what it finds inside a
    fold does not count.

    Parameters
    ----------
    records
        All of them.
    folds
        Of each record.
    tested
        Folds to ask for; all by default.
    is_ordered
        Whether chains have roles; else all chains are compared with all. By default they have none where a
        record has several chains of an unknown role.
    most
        Distinct test sequences of each chain that are looked at.
    folder
        Where results are kept under a hash of what was compared; nowhere by default.
    threads
        Of MMseqs2; the result does not depend on them.
    """
    place = {fold: code for code, fold in enumerate(dict.fromkeys(_plain(folds)))}
    codes = np.array([place[fold] for fold in _plain(folds)], dtype=np.int64)
    asked = (
        set(place.values()) if tested is None else {place[each] for each in _plain(tested) if each in place}
    )
    if is_ordered is None:
        is_ordered = not any(_has_equal_roles(record) for record in records)
    by_chain: dict[str, list[tuple[int, Chain]]] = {}
    for row, record in enumerate(records):
        for name, chain in zip(record.chain_names, record.chains, strict=True):
            by_chain.setdefault(name if is_ordered else "chains", []).append((row, chain))
    names = list(place)
    tables, notes, numbered = [], [], []
    for name, entries in by_chain.items():
        pool = _Pool(entries, codes, asked, most)
        if not len(pool.queries):
            continue
        found = _kept(pool, folder, threads)
        tables.append(pool.table(name, records, found, names))
        notes += _notes(name, pool, found.how)
        numbered += [name] if found.how == "imgt" else []
    if numbered:
        notes.append(f"compared at IMGT positions: {', '.join(numbered)}")
    return FoldNeighbours(pl.concat(tables) if tables else pl.DataFrame(schema=_SCHEMA), notes)


class _Pool:
    """Distinct sequences of one chain, in alphabetical order, with the folds that each is in."""

    def __init__(
        self, entries: Sequence[tuple[int, Chain]], folds: np.ndarray, asked: set[int], most: int
    ) -> None:
        self.folds_of: dict[str, dict[int, int]] = {}
        chains: dict[str, Chain] = {}
        for row, chain in entries:
            self.folds_of.setdefault(chain.residues, {}).setdefault(int(folds[row]), row)
            chains.setdefault(chain.residues, chain)
        self.texts = sorted(self.folds_of)
        self.chains = [chains[text] for text in self.texts]
        self.home = np.array(
            [next(iter(own)) if len(own) == 1 else -1 for own in map(self.folds_of.get, self.texts) if own],
            dtype=np.int64,
        )
        """The one fold of each, or -1 where there are several: these are copies."""
        tested = [n for n, text in enumerate(self.texts) if asked & self.folds_of[text].keys()]
        self.num_tested = len(tested)
        if len(tested) > most:
            tested = sorted(sorted(tested, key=lambda number: _hash(self.texts[number]))[:most])
        self.queries, self.asked = np.array(tested, dtype=np.int64), asked

    def digest(self, how: str) -> str:
        """Give a hash of all that the result depends on."""
        digest = hashlib.sha256(json.dumps([_FORMAT, how, sorted(self.asked)]).encode())
        for text, home, chain in zip(self.texts, self.home.tolist(), self.chains, strict=True):
            digest.update(f"{text}\x1f{home}\x1e".encode())
            if how == "imgt":
                digest.update(np.ascontiguousarray(chain.tracks["position"]).tobytes())
        digest.update(self.queries.tobytes())
        return digest.hexdigest()[:32]

    def table(
        self, name: str, records: Sequence[Record], found: Searched, folds: Sequence[Any]
    ) -> pl.DataFrame:
        rows = []
        for query, target, identity in zip(
            self.queries.tolist(), found.target.tolist(), found.identity.tolist(), strict=True
        ):
            own = self.folds_of[self.texts[query]]
            for fold, row in own.items():
                if fold in self.asked:
                    near = self.folds_of[self.texts[target]] if target >= 0 else {}
                    other = next((near[each] for each in near if each != fold), None)
                    train_id = None if other is None else records[other].id
                    length = len(self.texts[query])
                    rows.append((str(folds[fold]), records[row].id, name, length, identity, train_id))
        return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _kept(pool: _Pool, folder: Path | None, threads: int) -> Searched:
    """Search, or take what an earlier search of the same kept."""
    how, letters = places_of(pool.chains)
    path = None if folder is None else folder / f"identity-{pool.digest(how)}.npz"
    if path is not None and path.is_file():
        kept = np.load(path)
        return Searched(kept["target"], kept["identity"], how)
    if letters is not None:
        found = nearest_by_places(letters, pool.home, pool.queries, how)
    else:
        found = nearest_by_search(
            pool.texts, pool.home, pool.queries, is_one=len(pool.asked) == 1, threads=threads
        )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.stem + ".part.npz")
        np.savez(part, target=found.target, identity=found.identity)
        part.replace(path)
    return found


def _notes(name: str, pool: _Pool, how: str) -> list[str]:
    notes = []
    if len(pool.queries) < pool.num_tested:
        what = f"{len(pool.queries):,} of {pool.num_tested:,} distinct test sequences of {name}"
        notes.append(f"{what} were compared, drawn by content")
    short = sum(len(pool.texts[query]) < SHORT for query in pool.queries.tolist())
    if short and how == "search":
        notes.append(f"{short:,} sequences of {name} under {SHORT} residues: by edits, 0.2 to 0.4 is chance")
    return notes


def _has_equal_roles(record: Record) -> bool:
    return sum(chain.role is Role.OTHER for chain in record.chains) > 1


def _plain(values: Sequence[Any] | np.ndarray) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
