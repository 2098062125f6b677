"""What a split is like: sizes, labels, and how much one side knows of the other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from protlm.data.clonotypes import main_chain
from protlm.data.splits import Groups, Values
from protlm.types.record import Record

_CELLS_PER_CHUNK = 1 << 24


@dataclass(frozen=True)
class SplitReport:
    """Facts of a split, for the terminal and for its manifest."""

    sizes: dict[str, int]
    """Records by fold."""
    num_groups: int
    largest_group: int
    """Records in the largest group, which cannot be balanced away."""
    shared_groups: int
    """Groups on more than one side; 0 unless the split is wrong."""
    shared_chains: int
    """Distinct chains, identical to the letter, on more than one side."""
    num_chains: int
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Records by fold and label."""
    shared_values: dict[str, dict[str, int]] = field(default_factory=dict)
    """By key, such as ``clonotype``: its distinct values, and those on more than one side."""
    identities: dict[str, dict[str, float]] = field(default_factory=dict)
    """By fold, how near its main chains are to the nearest one of another fold: median and maximum."""

    def lines(self) -> list[str]:
        """Say it in words, a line each."""
        total = sum(self.sizes.values())
        folds = ", ".join(f"{name} {count:,}" for name, count in self.sizes.items())
        shared = f"{self.shared_groups:,} of {self.num_groups:,} groups and {self.shared_chains:,} of "
        shared += f"{self.num_chains:,} distinct chains"
        lines = [
            f"records by fold: {folds}",
            f"{self.num_groups:,} groups; the largest has {self.largest_group:,} of {total:,} records",
            f"leakage: {shared} are on more than one side",
        ]
        lines += [
            f"leakage: {facts['shared']:,} of {facts['distinct']:,} distinct values of '{name}' are on more "
            "than one side"
            for name, facts in self.shared_values.items()
        ]
        lines += [f"EMPTY: fold {name} has no records" for name, count in self.sizes.items() if not count]
        if self.largest_group > 1.1 * total / len(self.sizes):
            share = f"the largest group has {self.largest_group / total:.0%} of the records"
            lines.append(f"UNBALANCED: {share}; fewer keys, or a higher CDR3 identity, make smaller groups")
        lines += [
            f"labels in fold {name}: " + ", ".join(f"{label} {count:,}" for label, count in counts.items())
            for name, counts in self.labels.items()
        ]
        lines += [
            f"identity of fold {name} to the nearest main chain of another fold: median "
            f"{facts['median']:.2f}, maximum {facts['maximum']:.2f}"
            for name, facts in self.identities.items()
        ]
        return lines

    def facts(self) -> dict[str, Any]:
        """Give the same as plain values, for a manifest."""
        return asdict(self)


def report_split(
    records: Sequence[Record],
    folds: Sequence[str],
    groups: Groups,
    *,
    names: Sequence[str] = (),
    labels: Sequence[str] | None = None,
    keys: Mapping[str, Values] | None = None,
    identity: bool = False,
) -> SplitReport:
    """Look at a split from outside: nothing is taken from how it was made.

    Parameters
    ----------
    records
        All of them.
    folds
        Name of each record's fold.
    groups
        What must be on one side.
    names
        Of the folds that there should be; one without records is counted as empty, and said.
    labels
        Of each record, to count by fold.
    keys
        By name, what else to look for on more than one side, whether the split kept it together or not.
    identity
        Whether to look for the nearest chain of another fold, which takes time with the square of the
        number of records; see `nearest_identity`.
    """
    names = sorted({*folds, *names})
    fold = np.array([names.index(each) for each in folds])
    counted: dict[str, dict[str, int]] = {}
    if labels is not None:
        for name in names:
            own = [label for label, each in zip(labels, folds, strict=True) if each == name]
            counted[name] = {label: own.count(label) for label in sorted(set(labels))}
    chains = _sides([[chain.residues for chain in record.chains] for record in records], fold)
    pairs = np.unique(np.stack([groups.codes, fold], axis=1), axis=0)
    return SplitReport(
        sizes={name: int((fold == place).sum()) for place, name in enumerate(names)},
        num_groups=len(groups.names),
        largest_group=int(groups.sizes.max(initial=0)),
        shared_groups=int((np.bincount(pairs[:, 0]) > 1).sum()),
        shared_chains=chains["shared"],
        num_chains=chains["distinct"],
        labels=counted,
        shared_values={name: _sides(values, fold) for name, values in (keys or {}).items()},
        identities=_identities(records, fold, names) if identity and len(names) > 1 else {},
    )


def nearest_identity(first: Sequence[Record], second: Sequence[Record]) -> np.ndarray:
    """Give, for each record, the highest identity of its main chain to that of one of the others.

    The main chain is the heavy one, else the first, see `protlm.data.clonotypes.main_chain`: light chains are
    alike in unrelated antibodies, and would hide what a split does.

    Two numbered chains are compared at their IMGT positions: equal residues over the positions that either
    has. Chains that are not numbered are compared place by place where their lengths agree, and
    count as 0 where they do not: no alignment is made.

    Parameters
    ----------
    first
        Records to ask for.
    second
        Records to search.

    Returns
    -------
    numpy.ndarray
        In [0, 1], float64, one per record of `first`.
    """
    best = np.zeros(len(first))
    for own, others in _comparable(first, second):
        rows, queries = own
        _, targets = others
        if len(targets) == 0 or len(queries) == 0:
            continue
        step = max(1, _CELLS_PER_CHUNK // max(1, targets.size))
        for start in range(0, len(queries), step):
            part = queries[start : start + step, None, :]
            equal = ((part == targets[None]) & (part != 0)).sum(axis=2)
            either = ((part != 0) | (targets[None] != 0)).sum(axis=2)
            np.maximum.at(best, rows[start : start + step], (equal / either).max(axis=1))
    return best


def _sides(values: Values, fold: np.ndarray) -> dict[str, int]:
    sides: dict[str, set[int]] = {}
    for own, side in zip(values, fold.tolist(), strict=True):
        for value in own:
            if value:
                sides.setdefault(value, set()).add(side)
    return {"shared": sum(len(seen) > 1 for seen in sides.values()), "distinct": len(sides)}


def _identities(
    records: Sequence[Record], fold: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    found = {}
    for place, name in enumerate(names):
        own = [records[row] for row in np.flatnonzero(fold == place).tolist()]
        others = [records[row] for row in np.flatnonzero(fold != place).tolist()]
        if not own or not others:
            continue
        best = nearest_identity(own, others)
        found[name] = {"median": float(np.median(best)), "maximum": float(best.max())}
    return found


_Chains = tuple[np.ndarray, np.ndarray]


def _comparable(first: Sequence[Record], second: Sequence[Record]) -> list[tuple[_Chains, _Chains]]:
    """Lay out chains that can be compared as rectangles of letters: one kind is a locus, or a length."""
    kinds: dict[str, tuple[list, list]] = {}
    for side, records in enumerate((first, second)):
        for row, record in enumerate(records):
            chain = main_chain(record)
            is_numbered = bool(np.any(chain.tracks.get("position", np.zeros(1)) > 0))
            kind = f"locus {chain.locus}" if is_numbered else f"length {len(chain)}"
            kinds.setdefault(kind, ([], []))[side].append((row, chain))
    return [
        (_rectangle(sides[0], columns), _rectangle(sides[1], columns))
        for kind, sides in kinds.items()
        for columns in [_columns([*sides[0], *sides[1]], is_numbered=kind.startswith("locus"))]
    ]


def _columns(chains: Sequence[tuple[int, Any]], *, is_numbered: bool) -> Mapping[int, int] | None:
    if not is_numbered:
        return None
    codes = np.unique(np.concatenate([chain.tracks["position"] for _, chain in chains]))
    return {int(code): place for place, code in enumerate(codes[codes > 0])}


def _rectangle(chains: Sequence[tuple[int, Any]], columns: Mapping[int, int] | None) -> _Chains:
    rows = np.array([row for row, _ in chains], dtype=np.int64)
    if not chains:
        return rows, np.zeros((0, 0), dtype=np.uint8)
    letters = [np.frombuffer(chain.residues.encode(), dtype=np.uint8) for _, chain in chains]
    if columns is None:
        return rows, np.stack(letters)
    place_of = np.zeros(1 << 16, dtype=np.int64)
    for code, place in columns.items():
        place_of[code] = place
    table = np.zeros((len(chains), len(columns)), dtype=np.uint8)
    for number, ((_, chain), own) in enumerate(zip(chains, letters, strict=True)):
        positions = chain.tracks["position"]
        table[number, place_of[positions[positions > 0]]] = own[positions > 0]
    return rows, table
