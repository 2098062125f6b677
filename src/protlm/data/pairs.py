"""Native pairs of chains and their shuffled counterparts, without leaks from one side to the other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from protlm.data.flat import record_key
from protlm.data.gene_names import gene_family
from protlm.data.hashing import combine
from protlm.errors import DataError
from protlm.types.record import Chain, Record, Role

Negatives = Literal["random", "v-gene-mismatch"]


@dataclass(frozen=True)
class Shuffle:
    """Which light chain each heavy chain gets in its place."""

    partners: np.ndarray
    """For each record the record whose light chain it gets, int64 ``[n]``; -1 where it is left out."""
    counts: dict[str, int]
    """Records left out, by reason."""


def distinct_pairs(records: Sequence[Record]) -> tuple[list[Record], dict[str, int]]:
    """Keep the first record of each distinct pair of a heavy and a light chain.

    Parameters
    ----------
    records
        Numbered records.

    Returns
    -------
    list of Record
        With the heavy chain first.
    dict of str to int
        What was left out, by reason.
    """
    counts: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    kept = []
    for record in records:
        chains = heavy_and_light(record)
        if chains is None:
            counts["not one heavy and one light chain"] += 1
            continue
        content = (chains[0].residues, chains[1].residues)
        if content in seen:
            counts["a pair that was there before"] += 1
            continue
        seen.add(content)
        kept.append(record if record.chains == chains else replace(record, chains=chains))
    return kept, dict(counts)


def heavy_and_light(record: Record) -> tuple[Chain, Chain] | None:
    """Give the heavy and the light chain of a record; `None` unless it has exactly one of each.

    Parameters
    ----------
    record
        Any record.
    """
    by_role = {chain.role: chain for chain in record.chains}
    if len(record.chains) != 2 or set(by_role) != {Role.HEAVY, Role.LIGHT}:
        return None
    return by_role[Role.HEAVY], by_role[Role.LIGHT]


def shuffle_pairs(
    records: Sequence[Record],
    folds: np.ndarray,
    *,
    within: Sequence[str] | None = None,
    negatives: Negatives = "random",
    seed: int = 0,
) -> Shuffle:
    """Exchange light chains inside each fold, so that every chain is once native and once shuffled there.

    Nothing but the pairing can then tell the classes apart: each has the same heavy and the same light
    chains. And no chain of one fold is in another, in either class, if none is in two folds natively.

    DISCREPANCY: Ng & Briney 2025 shuffle the light chains of half their pairs and split afterwards by
    label alone. In a function that their notebook keeps, ``native_pairs.reset_index(drop=True)`` runs
    before ``df.drop(native_pairs.index)``, so that not the sampled pairs are set aside but as many from the
    top: nearly half of the heavy chains in the shuffled class are in the native class as well, and a chain
    of the training folds comes back in the test fold with the other label
    (brineylab/preferential-masking-paper, ``1-split_pair_datasets.ipynb``).

    Parameters
    ----------
    records
        Distinct native pairs, heavy chain first (see `distinct_pairs`).
    folds
        Fold of each, int64 ``[n]``.
    within
        A label per record, such as its organism; chains are exchanged only between records that share it.
    negatives
        ``"random"``: any other light chain. ``"v-gene-mismatch"``: one of another V gene family than the
        native one; records without a V call are left out.
    seed
        Of the shuffle. The order of the records does not matter.

    Returns
    -------
    Shuffle
        A record is left out where no exchange gives it a pair that is not native anywhere in the pool.

    Raises
    ------
    DataError
        If two records are the same pair, or no pair can be shuffled.
    """
    pairs = [(record.chains[0].residues, record.chains[1].residues) for record in records]
    taken = set(pairs)
    if len(taken) != len(pairs):
        raise DataError(
            f"{len(pairs) - len(taken):,} of {len(pairs):,} pairs are there twice",
            hint="call distinct_pairs first",
        )
    families = [gene_family(record.chains[1].v_call) for record in records]
    labels = [""] * len(records) if within is None else list(within)
    keys = np.array([record_key(record) for record in records], dtype=np.uint64)
    partners = np.full(len(records), -1, dtype=np.int64)
    counts: Counter[str] = Counter()
    cells: dict[tuple[int, str], list[int]] = {}
    for row in np.argsort(keys, kind="stable").tolist():
        if negatives == "v-gene-mismatch" and not families[row]:
            counts["no V call of the light chain"] += 1
            continue
        cells.setdefault((int(folds[row]), labels[row]), []).append(row)
    for rows in cells.values():
        cell = _Cell(rows, pairs, taken, families if negatives == "v-gene-mismatch" else None)
        generator = np.random.default_rng(combine(seed, keys[rows].min())[0])
        found = cell.shuffle(generator)
        counts["no other light chain fits"] += len(rows) - len(found)
        for row, partner in found.items():
            partners[row] = partner
            taken.add((pairs[row][0], pairs[partner][1]))
    if (partners < 0).all():
        raise DataError(
            f"none of {len(records):,} pairs can be shuffled ({negatives})",
            hint="are there at least two different light chains in each fold?",
        )
    return Shuffle(partners, {reason: count for reason, count in counts.items() if count})


def shuffled_records(records: Sequence[Record], shuffle: Shuffle) -> list[Record]:
    """Build the shuffled pairs; a record that was left out gives none.

    Parameters
    ----------
    records
        The native pairs.
    shuffle
        From `shuffle_pairs`.

    Returns
    -------
    list of Record
        Named ``HEAVY+LIGHT`` after the records that the chains are from, with the labels of the first.
    """
    return [
        replace(
            records[row],
            id=f"{records[row].id}+{records[partner].id}",
            chains=(records[row].chains[0], records[partner].chains[1]),
        )
        for row, partner in enumerate(shuffle.partners.tolist())
        if partner >= 0
    ]


@dataclass(frozen=True)
class _Cell:
    """Pairs among which light chains are exchanged."""

    rows: Sequence[int]
    pairs: Sequence[tuple[str, str]]
    taken: set[tuple[str, str]]
    """Pairs that must not be made: native ones, and what other cells made."""
    families: Sequence[str] | None

    def shuffle(self, generator: np.random.Generator) -> Mapping[int, int]:
        """Give the partner of each row that can have one; rows that block it are left out."""
        rows = list(self.rows)
        while len(rows) > 1:
            order = [rows[place] for place in generator.permutation(len(rows))]
            partner = dict(zip(order, [*order[1:], order[0]], strict=True))  # one cycle: no fixed point
            stuck = self._mend(partner, order, generator)
            if not stuck:
                return partner
            rows = [row for row in rows if row not in stuck]
        return {}

    def _mend(
        self, partner: dict[int, int], order: Sequence[int], generator: np.random.Generator
    ) -> set[int]:
        """Exchange partners until every pair is allowed; give the rows for which there is no exchange."""
        stuck = set()
        used = Counter(self._pair(row, partner[row]) for row in order)
        for row in order:
            if self._fits(row, partner[row]) and used[self._pair(row, partner[row])] == 1:
                continue
            for place in generator.permutation(len(order)):
                other = order[place]
                if other != row and self._exchange(row, other, partner, used):
                    break
            else:
                stuck.add(row)
        return stuck

    def _exchange(self, row: int, other: int, partner: dict[int, int], used: Counter) -> bool:
        """Let two rows change partners if both new pairs are allowed and new."""
        mine, theirs = self._pair(row, partner[other]), self._pair(other, partner[row])
        fits = self._fits(row, partner[other]) and self._fits(other, partner[row])
        if not fits or mine == theirs or used[mine] or used[theirs]:
            return False
        for gone in (self._pair(row, partner[row]), self._pair(other, partner[other])):
            used[gone] -= 1
        used[mine] += 1
        used[theirs] += 1
        partner[row], partner[other] = partner[other], partner[row]
        return True

    def _pair(self, row: int, partner: int) -> tuple[str, str]:
        return self.pairs[row][0], self.pairs[partner][1]

    def _fits(self, row: int, partner: int) -> bool:
        if self._pair(row, partner) in self.taken:
            return False
        return self.families is None or self.families[row] != self.families[partner]
