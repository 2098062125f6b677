"""Splits of pairs by what was seen of each side, and splits by time: some records are on no side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from protlm.data.splits import Groups, Values, assign_folds, text_hash
from protlm.errors import ConfigError, DataError

TRAIN, HOLDOUT, NO_SIDE = 0, 1, -1
CLASSES = ("c1", "c2", "c3")
"""Of a test pair: both of its sides are seen in training, one is, none is."""
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?(?=$|[T ])")


@dataclass(frozen=True)
class Sides:
    """On which side each record is."""

    part: np.ndarray
    """`TRAIN`, `HOLDOUT` or `NO_SIDE` of each record, int64 ``[n]``."""
    classes: tuple[str, ...] = ()
    """One of `CLASSES` for each test pair, else empty; none where records are no pairs."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Records on no side, by reason."""


def split_pairs(
    nodes: Values,
    share: float,
    *,
    classes: Sequence[str] = ("c3",),
    names: Sequence[str],
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> Sides:
    """Hold proteins out, so that of a test pair both, one or none is seen in training.

    Where `classes` has ``c2`` or ``c3``, proteins (or clusters, or values of columns) with this share of all
    ends of pairs are held out, alike by label, and on each side of its own where the two sides have no value
    in common. Training has the pairs without any of these. A share h of ends leaves about h² of the pairs
    with both held out (``c3``) and 2h(1 - h) with one (``c2``); those of a class that is not asked for are
    left out. Where it has ``c1``, this share of the remaining pairs is drawn by a hash of their names,
    too; those whose two sides are not both seen in another remaining pair stay in training.

    Parameters
    ----------
    nodes
        Of each pair, the protein, cluster or value of its sides.
    share
        In (0, 1).
    classes
        Some of `CLASSES`.
    names
        Of each pair, all different.
    labels
        Of each pair.
    seed
        Another seed gives another split; the order of the pairs changes nothing.

    Raises
    ------
    ConfigError
        If a class is not known.
    DataError
        If a side is empty.

    References
    ----------
    Park & Marcotte 2012, doi:10.1038/nmeth.2259.
    """
    if unknown := sorted(set(classes) - set(CLASSES)):
        raise ConfigError(
            f"'{unknown[0]}' is no class of pairs", hint=f"expected some of {', '.join(CLASSES)}"
        )
    count = len(nodes)
    held: set[str] = set()
    if {"c2", "c3"} & set(classes):
        held = _held_out(nodes, share, labels, seed)
    num_held = np.array([sum(node in held for node in own) for own in nodes])
    part = np.where(num_held > 0, HOLDOUT, TRAIN).astype(np.int64)
    if "c1" in classes:
        part[_drawn_seen(nodes, np.flatnonzero(part == TRAIN), names, share, seed)] = HOLDOUT
    seen = {node for own, side in zip(nodes, part.tolist(), strict=True) if side == TRAIN for node in own}
    kinds = [""] * count
    left_out: dict[str, int] = {}
    for row in np.flatnonzero(part == HOLDOUT).tolist():
        known = [node in seen for node in nodes[row]]
        kind = "c1" if all(known) else "c2" if any(known) else "c3"
        if kind in classes:
            kinds[row] = kind
        else:
            part[row] = NO_SIDE
            reason = f"pairs of class {kind}, which was not asked for"
            left_out[reason] = left_out.get(reason, 0) + 1
    for side, name in ((TRAIN, "training"), (HOLDOUT, "test")):
        if not (part == side).any():
            raise DataError(
                f"no pair is left for the {name} side of {count:,}",
                hint="take another share or seed, more classes (--pairs c2,c3), or fewer keys",
            )
    return Sides(part, tuple(kinds), left_out)


def split_by_time(dates: Sequence[str], *, after: str | None = None, share: float | None = None) -> Sides:
    """Put what is later on the test side; records of one date stay together, those without one are left out.

    Parameters
    ----------
    dates
        ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``, a time behind it or not; empty where it is not known.
    after
        Test records are later than this one; at the end of the month or year where only that is given.
    share
        Instead of `after`: at most this share of the records with a date is tested, the latest ones.

    Raises
    ------
    DataError
        If a value is no date, or a side is empty.
    """
    found = [_date(text, row) for row, text in enumerate(dates)]
    known = sorted(date for date in found if date)
    if not known:
        raise DataError("no record has a date", hint="name another column with --time")
    if after is None:
        assert share is not None
        place = min(len(known) - 1, int(np.ceil(len(known) * (1 - share))) - 1)
        limit = known[max(place, 0)]
    else:
        limit = _date(after, None)
    part = np.array([NO_SIDE if not date else HOLDOUT if _is_after(date, limit) else TRAIN for date in found])
    missing = int((part == NO_SIDE).sum())
    for side, name in ((TRAIN, "training"), (HOLDOUT, "test")):
        if not (part == side).any():
            raise DataError(
                f"the {name} side is empty: dates go from {known[0]} to {known[-1]}, and {limit} parts them",
                hint="take another date or share",
            )
    return Sides(part, (), {"records without a date": missing} if missing else {})


def _held_out(nodes: Values, share: float, labels: Sequence[str] | None, seed: int) -> set[str]:
    """Choose nodes with this share of all ends, alike by label and by side where the sides are apart."""
    sides = [{own[0] for own in nodes}, {own[-1] for own in nodes if len(own) > 1}]
    is_apart = not sides[0] & sides[1]
    ends = [(row, place, node) for row, own in enumerate(nodes) for place, node in enumerate(own)]
    names, codes = np.unique([node for _, _, node in ends], return_inverse=True)
    texts = [f"{place if is_apart else ''}|{labels[row] if labels else ''}" for row, place, _ in ends]
    strata = texts if len(set(texts)) > 1 else None
    groups = Groups(codes.reshape(-1), tuple(map(str, names)))
    fold = assign_folds(groups, [1 - share, share], strata=strata, seed=seed)
    return {node for (_, _, node), side in zip(ends, fold.tolist(), strict=True) if side == HOLDOUT}


def _drawn_seen(nodes: Values, rows: np.ndarray, names: Sequence[str], share: float, seed: int) -> list[int]:
    """Draw pairs by a hash of their names, and keep those whose sides are seen in pairs not drawn."""
    drawn = np.array([text_hash(seed, names[int(row)]) / 2**64 < share for row in rows.tolist()], dtype=bool)
    seen = {node for row in rows[~drawn].tolist() for node in nodes[row]}
    return [row for row in rows[drawn].tolist() if all(node in seen for node in nodes[row])]


def _date(text: str, row: int | None) -> str:
    if not text:
        return ""
    found = _DATE.match(text)
    if found is None:
        where = "" if row is None else f" of record {row + 1:,}"
        raise DataError(f"'{text}'{where} is no date", hint="expected YYYY, YYYY-MM or YYYY-MM-DD")
    return found.group()


def _is_after(date: str, limit: str) -> bool:
    """Compare by what both say: 2020-05 is not after 2020."""
    size = min(len(date), len(limit))
    return date[:size] > limit[:size]
