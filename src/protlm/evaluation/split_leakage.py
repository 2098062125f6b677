"""The leakage report of a split: sides, what they share, labels on each, how near test is to training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.fold_identity import FoldNeighbours, fold_neighbours
from protlm.data.split_report import SplitReport
from protlm.evaluation.task_examples import TaskData, Trial
from protlm.types.target import Kind, Target

_MOST_NAMES = 10
"""Classes that the line of labels names, the commonest first."""
_LOUD = ("EMPTY", "UNBALANCED")
Balance = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SplitLeakage:
    """What one split has on both of its sides."""

    report: SplitReport
    balance: Balance
    """By side (``training`` and ``test``, or each fold): the share of examples of each class or label, in
    [0, 1], or the ``low``, ``median`` and ``high`` quartile of values."""
    kind: Kind
    nearest: FoldNeighbours

    @property
    def table(self) -> pl.DataFrame:
        """The nearest sequence outside the fold of each test sequence; see `FoldNeighbours.table`."""
        return self.nearest.table

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        loud = [line for line in self.report.lines() if line.startswith(_LOUD)]
        balance = balance_line(self.kind, self.balance)
        return [self._sides(), *loud, *([balance] if balance else []), *self.nearest.lines()]

    def facts(self) -> dict[str, Any]:
        """Give the same as plain values, for a manifest; without the table."""
        own = {"kind": self.kind, "balance": self.balance, "nearest": self.nearest.facts()}
        return self.report.facts() | own | {"nearest_notes": self.nearest.notes}

    def _sides(self) -> str:
        report = self.report
        if report.sizes.keys() == {"train", "test"}:
            text = f"{report.sizes['test']:,} test and {report.sizes['train']:,} training records"
        else:
            sizes = report.sizes.values()
            text = f"{len(sizes)} folds of {min(sizes):,} to {max(sizes):,} records"
        shared = [
            f"{report.shared_groups:,} of {report.num_groups:,} groups",
            f"{report.shared_chains:,} of {report.num_chains:,} distinct chains",
            *(
                f"{own['shared']:,} of {own['distinct']:,} values of '{name}'"
                for name, own in report.shared_values.items()
            ),
        ]
        largest = (
            f"; the largest group has {report.largest_group:,} records" if report.largest_group > 1 else ""
        )
        return f"{text}{largest}; leakage, on more than one side: {', '.join(shared)}"


def split_leakage(
    data: TaskData, trial: Trial, *, is_ordered: bool | None = None, folder: Path | None = None
) -> SplitLeakage:
    """Look at a split of a task from outside.

    Parameters
    ----------
    data
        The task.
    trial
        The first of the split: other seeds fold anew, and are not looked at.
    is_ordered
        Whether the chains of a pair have roles; see `fold_neighbours`.
    folder
        Where searches are kept; see `fold_neighbours`.
    """
    rows, folds = _records_of(data, trial)
    records = [data.records[row] for row in rows.tolist()]
    return SplitLeakage(
        data.reports[trial.split],
        label_balance(data.target, trial.labels, trial.folds, trial.rounds.tested),
        data.target.kind,
        fold_neighbours(records, folds, tested=trial.rounds.tested, is_ordered=is_ordered, folder=folder),
    )


def label_balance(
    target: Target, labels: np.ndarray, folds: np.ndarray, tested: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Give the shares of classes or labels, or the quartiles of values, on each side.

    Parameters
    ----------
    target
        What is predicted.
    labels
        Of each example, as `Trial.labels`.
    folds
        Of each example.
    tested
        If one fold is tested, the sides are ``training`` and ``test``; else the folds.
    """
    is_tested = np.isin(folds, tested)
    if len(tested) == 1:
        sides = {"training": ~is_tested, "test": is_tested}
    else:
        sides = {str(fold): folds == fold for fold in tested}
    return {name: _shares(target, labels[rows]) for name, rows in sides.items() if rows.any()}


def balance_line(kind: Kind, balance: Balance) -> str:
    """Say in a line how labels differ between the sides; empty where nothing is known.

    Parameters
    ----------
    kind
        Of the target.
    balance
        From `label_balance`.

    Examples
    --------
    >>> balance_line("classes", {"training": {"H": 0.5, "E": 0.5}, "test": {"H": 0.2, "E": 0.8}})
    'labels, training/test: E 50/80 %, H 50/20 %'
    """
    if not balance:
        return ""
    if kind == "value":
        if balance.keys() == {"training", "test"}:
            return "labels: " + "; ".join(f"{side} {_quartiles(own)}" for side, own in balance.items())
        middle = [own["median"] for own in balance.values()]
        return f"labels: median by fold {min(middle):.3g} to {max(middle):.3g}"
    names = sorted(
        {name for own in balance.values() for name in own},
        key=lambda name: (-sum(own.get(name, 0.0) for own in balance.values()), name),
    )
    shares = {name: [own.get(name, 0.0) for own in balance.values()] for name in names[:_MOST_NAMES]}
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    if balance.keys() == {"training", "test"}:
        texts = (f"{name} {own[0] * 100:.0f}/{own[1] * 100:.0f} %" for name, own in shares.items())
        return f"labels, training/test: {', '.join(texts)}{more}"
    texts = (f"{name} {min(own) * 100:.0f} to {max(own) * 100:.0f} %" for name, own in shares.items())
    return f"labels by fold: {', '.join(texts)}{more}"


def _records_of(data: TaskData, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Give the records of a trial and their folds; of residues, the records that they are in."""
    if data.target.level != "residue":
        return trial.rows, trial.folds
    starts = np.cumsum([0, *map(len, data.records)])
    rows, first = np.unique(np.searchsorted(starts, trial.rows, side="right") - 1, return_index=True)
    return rows, trial.folds[first]


def _shares(target: Target, labels: np.ndarray) -> dict[str, float]:
    if target.kind == "value":
        low, median, high = np.nanquantile(labels.astype(np.float64), (0.25, 0.5, 0.75)).tolist()
        return {"low": low, "median": median, "high": high}
    if target.kind == "labels":
        return dict(zip(target.classes, labels.mean(axis=0).tolist(), strict=True))
    if target.kind == "binary":
        return {"positive": float(labels.mean())}
    counts = np.bincount(labels.astype(np.int64), minlength=len(target.classes))
    return dict(zip(target.classes, (counts / counts.sum()).tolist(), strict=False))


def _quartiles(own: Mapping[str, float]) -> str:
    return f"median {own['median']:.3g}, quartiles {own['low']:.3g} to {own['high']:.3g}"
