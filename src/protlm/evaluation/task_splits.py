"""Folds of a task: of groups, of sides that the data give, or of pairs whose proteins are apart."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protlm.data.clonotypes import chain_keys, clonotype_keys
from protlm.data.clusters import cluster_sequences
from protlm.data.splits import Groups, Values, assign_folds, connected_groups, random_groups
from protlm.errors import DataError, did_you_mean
from protlm.evaluation.cards import Split
from protlm.evaluation.probes import Rounds, all_rounds
from protlm.evaluation.task_files import text_of, values_of
from protlm.types.record import Record

_INNER_FOLDS = 3
"""Folds of the training rows of a given split without rows to choose by."""


@dataclass(frozen=True)
class Folded:
    """One way to fold some of the records."""

    rows: np.ndarray
    """Which records, int64."""
    folds: np.ndarray
    """Of each of them."""
    groups: Groups
    """Units of resampling of each of them."""
    rounds: Rounds


def fold_records(
    records: Sequence[Record], split: Split, strata: Sequence[str] | None, seed: int, lines: list[str]
) -> Folded:
    """Fold records as a split says.

    Parameters
    ----------
    records
        All of them.
    split
        Of a card.
    strata
        A label per record whose shares should be alike in all folds.
    seed
        Of the folds.
    lines
        Filled with what is not as one might think.
    """
    if split.is_given:
        return _given(records, split, seed, lines)
    if split.apart:
        return _apart(records, split, seed, lines)
    names = [record.id for record in records]
    groups = random_groups(names) if split.random else key_groups(records, split, lines)
    folds = assign_folds(groups, [1 / split.folds] * split.folds, strata=strata, seed=seed)
    rounds = all_rounds(folds, tested=split.tested, inner=split.inner)
    return Folded(np.arange(len(records)), folds, groups, rounds)


def key_groups(records: Sequence[Record], split: Split, lines: list[str]) -> Groups:
    """Join records that share a value under any key of a split; alone where there is no key.

    Parameters
    ----------
    records
        All of them.
    split
        Of a card.
    lines
        Filled with what lacks a value.
    """
    counts: Counter[str] = Counter()
    keys: list[Values] = []
    for name in split.by:
        if name == "clonotype":
            keys.append(clonotype_keys(records, identity=split.cdr3_identity, counts=counts))
        elif name == "chain":
            keys.append(chain_keys(records))
        elif name == "cluster":
            keys.append(cluster_keys(records, split))
        else:
            values = [values_of(record, name, split.separators.get(name)) for record in records]
            keys.append(values)
            counts[f"no value of '{name}'"] += sum(not own for own in values)
            counts[f"several values of '{name}'"] += sum(len(own) > 1 for own in values)
    lines += [f"split '{split.name}': {n:,} × {reason}" for reason, n in counts.items() if n]
    return connected_groups(*keys, names=[record.id for record in records])


def cluster_keys(records: Sequence[Record], split: Split) -> list[tuple[str, ...]]:
    """Give the MMseqs2 cluster of each chain of each record.

    Parameters
    ----------
    records
        All of them.
    split
        Has identity and coverage.
    """
    sequences = sorted({chain.residues for record in records for chain in record.chains})
    found = cluster_sequences(
        sequences, identity=split.cluster_identity, coverage=split.cluster_coverage, threads=1
    )
    name = {sequence: sequences[number] for sequence, number in zip(sequences, found.tolist(), strict=True)}
    return [tuple(name[chain.residues] for chain in record.chains) for record in records]


def _given(records: Sequence[Record], split: Split, seed: int, lines: list[str]) -> Folded:
    column = str(split.column)
    sides = [text_of(record, column) for record in records]
    known = sorted(set(sides) - {""})
    for name, asked in (("train", split.train), ("valid", split.valid), ("test", split.test)):
        if asked and not set(asked) & set(known):
            raise DataError(
                f"split '{split.name}': side '{name}' is empty, because no row has "
                f"{' or '.join(map(repr, asked))} in '{column}'",
                hint=did_you_mean(asked[0], known),
            )
    if not split.train:
        rows = np.flatnonzero([bool(side) for side in sides])
        folds = np.array([known.index(sides[row]) for row in rows.tolist()])
        rounds = all_rounds(folds, tested=split.tested, inner=split.inner)
        return Folded(rows, folds, _units(records, rows, split, lines), rounds)
    place = dict.fromkeys(split.train, 0) | dict.fromkeys(split.valid, 1) | dict.fromkeys(split.test, 2)
    rows = np.flatnonzero([side in place for side in sides])
    part = np.array([place[sides[row]] for row in rows.tolist()])
    groups = _units(records, rows, split, lines)
    if split.valid:
        return Folded(rows, part, groups, Rounds((2,), {2: (1,)}))
    folds = np.full(len(rows), _INNER_FOLDS)
    inside = np.flatnonzero(part == 0)
    own = _units(records, rows[inside], split, [])
    if len(own.names) >= _INNER_FOLDS:
        folds[inside] = assign_folds(own, [1 / _INNER_FOLDS] * _INNER_FOLDS, seed=seed)
        return Folded(rows, folds, groups, Rounds((_INNER_FOLDS,), {_INNER_FOLDS: (0, 1, 2)}))
    return Folded(
        rows, np.where(part == 0, 0, _INNER_FOLDS), groups, Rounds((_INNER_FOLDS,), {_INNER_FOLDS: ()})
    )


def _units(records: Sequence[Record], rows: np.ndarray, split: Split, lines: list[str]) -> Groups:
    own = [records[row] for row in rows.tolist()]
    return key_groups(own, split, lines) if split.by else random_groups([record.id for record in own])


def _apart(records: Sequence[Record], split: Split, seed: int, lines: list[str]) -> Folded:
    """Hold out a third of the clusters; pairs of which one protein alone is held out are left out.

    The unit of resampling is the cluster of the first protein by name: two pairs can still share their other
    one.
    """
    keys = cluster_keys(records, split)
    clusters = sorted({key for own in keys for key in own})
    third = assign_folds(random_groups(clusters), [1 / 3] * 3, seed=seed)
    is_out = dict(zip(clusters, (third == 0).tolist(), strict=True))
    held = np.array([[is_out[key] for key in own] for own in keys])
    straddling = held.any(axis=1) & ~held.all(axis=1)
    rows = np.flatnonzero(~straddling)
    lines.append(
        f"split '{split.name}', seed {seed}: {int(straddling.sum()):,} of {len(records):,} pairs straddle "
        f"the held-out third of {len(clusters):,} clusters and are left out"
    )
    names = [records[row].id for row in rows.tolist()]
    groups = connected_groups([(min(keys[row]),) for row in rows.tolist()], names=names)
    folds = np.full(len(rows), _INNER_FOLDS)
    inside = np.flatnonzero(~held[rows].all(axis=1))
    # inner folds by the first protein: rows of one unit are chosen by together
    folds[inside] = np.array([_mark(min(keys[rows[row]]), seed) for row in inside.tolist()])
    return Folded(rows, folds, groups, Rounds((_INNER_FOLDS,), {_INNER_FOLDS: (0, 1, 2)}))


def _mark(text: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}\x1f{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _INNER_FOLDS
