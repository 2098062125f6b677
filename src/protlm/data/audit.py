"""What the records that a model is judged on share with those that it learned from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from protlm.data.identity import LEAST_COVERAGE, SENSITIVITY, nearest_by_alignment
from protlm.data.identity_facts import identity_facts, identity_line
from protlm.data.peptides import SHORT
from protlm.data.splits import Values
from protlm.errors import DataError
from protlm.types.record import Record

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class LeakageReport:
    """Facts of two sides, for the terminal, a manifest and a table."""

    sizes: dict[str, int]
    """Records of ``train`` and ``test``."""
    copies: dict[str, int]
    """``records``: test records all of whose chains are one training record's. ``chains``: distinct test
    chains that are in training to the letter; ``distinct``: of so many."""
    shared_values: dict[str, dict[str, int]] = field(default_factory=dict)
    """By key: distinct values of the test side, those in training too (``shared``), and the test records that
    have one of these (``records``)."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Records by side and label."""
    lengths: dict[str, list[float]] = field(default_factory=dict)
    """Residues of a record by side: minimum, quartiles, maximum."""
    identities: dict[str, dict[str, float]] = field(default_factory=dict)
    """By chain, how near test sequences are to training: ``median``, ``maximum``, ``none`` (sequences without
    an alignment) and the share from each of
    `protlm.data.identity_facts.IDENTITIES` on, such as ``from_0.3``."""
    num_short: int = 0
    """Test sequences of fewer residues than MMseqs2 needs, compared by edits."""
    nearest: pl.DataFrame | None = None
    """A row per test sequence: see `nearest_table`; `None` where it was not asked for."""

    def lines(self) -> list[str]:
        """Say it in words, a line each."""
        sides = f"{self.sizes['test']:,} test records against {self.sizes['train']:,} training records"
        chains = f"{self.copies['chains']:,} of {self.copies['distinct']:,} distinct chains"
        copies = f"{self.copies['records']:,} are copies, and {chains} are in training to the letter"
        lines = [f"leakage: {sides}: {copies}"]
        lines += [
            f"leakage: {facts['shared']:,} of {facts['distinct']:,} test values of '{name}' are in training, "
            f"in {facts['records']:,} test records"
            for name, facts in self.shared_values.items()
        ]
        lines += [identity_line(name, facts) for name, facts in self.identities.items()]
        if self.num_short:
            lines.append(
                f"{self.num_short:,} test sequences have fewer than {SHORT} residues and were compared by "
                "edits, where 20 to 40 % identity is chance"
            )
        for name, counts in self.labels.items():
            total = max(1, sum(counts.values()))
            texts = (f"{label} {count:,} ({count / total:.0%})" for label, count in counts.items())
            lines.append(f"labels in {name}: {', '.join(texts)}")
        for name, numbers in self.lengths.items():
            low, first, median, third, high = (f"{number:,.0f}" for number in numbers)
            lines.append(f"residues in {name}: {low} to {high}, quartiles {first}, {median}, {third}")
        return lines

    def facts(self) -> dict[str, Any]:
        """Give the same as plain values, for a manifest; without the table."""
        names = ("sizes", "copies", "shared_values", "labels", "lengths", "identities", "num_short")
        return {name: getattr(self, name) for name in names}


def leakage_report(
    train: Sequence[Record],
    test: Sequence[Record],
    *,
    keys: Mapping[str, tuple[Values, Values]] | None = None,
    labels: tuple[Sequence[str], Sequence[str]] | None = None,
    identity: bool = True,
    min_coverage: float = LEAST_COVERAGE,
    sensitivity: float = SENSITIVITY,
    threads: int = 1,
) -> LeakageReport:
    """Look at two sides from outside: nothing is taken from how they were made.

    Parameters
    ----------
    train, test
        Records of each side.
    keys
        By name, the values that each training and each test record has.
    labels
        Of the training and of the test records.
    identity
        Whether to align test sequences with training, which takes time.
    min_coverage, sensitivity, threads
        See `protlm.data.identity.nearest_by_alignment`.

    Raises
    ------
    DataError
        If a side is empty.
    """
    for name, side in (("training", train), ("test", test)):
        if not side:
            raise DataError(
                f"the {name} side has no records, so there is nothing to compare", hint="give two sides"
            )
    nearest = None
    if identity:
        nearest = nearest_table(
            train, test, min_coverage=min_coverage, sensitivity=sensitivity, threads=threads
        )
    return LeakageReport(
        sizes={"train": len(train), "test": len(test)},
        copies=_copies(train, test),
        shared_values={name: _shared(*sides) for name, sides in (keys or {}).items()},
        labels={} if labels is None else _by_side(*labels),
        lengths={name: _lengths(side) for name, side in (("train", train), ("test", test))},
        identities={} if nearest is None else identity_facts(nearest),
        num_short=0 if nearest is None else int((nearest["residues"] < SHORT).sum()),
        nearest=nearest,
    )


def nearest_table(
    train: Sequence[Record],
    test: Sequence[Record],
    *,
    min_coverage: float = LEAST_COVERAGE,
    sensitivity: float = SENSITIVITY,
    threads: int = 1,
) -> pl.DataFrame:
    """Give for each chain of each test record the most identical training chain.

    Parameters
    ----------
    train, test
        Records of each side.
    min_coverage, sensitivity, threads
        See `protlm.data.identity.nearest_by_alignment`.

    Returns
    -------
    polars.DataFrame
        ``id, chain, residues, identity, coverage, train_coverage, train_id, train_chain``; identity 0 and no
        training record where none was found. Shares are in [0, 1].
    """
    asked = [(record.id, *each) for record in test for each in _chains(record)]
    known = [(record.id, *each) for record in train for each in _chains(record)]
    found = nearest_by_alignment(
        [text for _, _, text in asked],
        [text for _, _, text in known],
        min_coverage=min_coverage,
        sensitivity=sensitivity,
        threads=threads,
    )
    targets = found.target.tolist()
    return pl.DataFrame(
        {
            "id": [name for name, _, _ in asked],
            "chain": [chain for _, chain, _ in asked],
            "residues": [len(text) for _, _, text in asked],
            "identity": found.identity,
            "coverage": found.coverage,
            "train_coverage": found.target_coverage,
            "train_id": [known[row][0] if row >= 0 else None for row in targets],
            "train_chain": [known[row][1] if row >= 0 else None for row in targets],
        },
        schema_overrides={"train_id": pl.String, "train_chain": pl.String},
    )


def _chains(record: Record) -> list[tuple[str, str]]:
    names = record.chain_names
    return [(name, chain.residues) for name, chain in zip(names, record.chains, strict=True)]


def _copies(train: Sequence[Record], test: Sequence[Record]) -> dict[str, int]:
    known = {tuple(sorted(chain.residues for chain in record.chains)) for record in train}
    chains = {chain.residues for record in train for chain in record.chains}
    own = {chain.residues for record in test for chain in record.chains}
    records = sum(tuple(sorted(chain.residues for chain in record.chains)) in known for record in test)
    return {"records": records, "chains": len(own & chains), "distinct": len(own)}


def _shared(train: Values, test: Values) -> dict[str, int]:
    known = {value for own in train for value in own if value}
    values = {value for own in test for value in own if value}
    records = sum(any(value in known for value in own) for own in test)
    return {"shared": len(known & values), "distinct": len(values), "records": records}


def _by_side(train: Sequence[str], test: Sequence[str]) -> dict[str, dict[str, int]]:
    names = sorted({*train, *test})
    counts = {"train": Counter(train), "test": Counter(test)}
    return {side: {name: count[name] for name in names} for side, count in counts.items()}


def _lengths(records: Sequence[Record]) -> list[float]:
    return np.quantile([len(record) for record in records], _QUANTILES).tolist()
