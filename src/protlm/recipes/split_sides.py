"""Splits with two sides and records on none: pairs by what was seen of them, and time."""

from collections.abc import Sequence
from dataclasses import dataclass

from protlm.data.pair_splits import Sides, split_by_time, split_pairs
from protlm.data.splits import Values
from protlm.errors import ConfigError, DataError
from protlm.evaluation.task_files import text_of
from protlm.recipes.split_input import Clustering, Say, cluster_values
from protlm.types.record import Record


@dataclass(frozen=True)
class SideSettings:
    """How the two sides are told apart."""

    pairs: tuple[str, ...] = ()
    """Classes of test pairs that are wanted: ``c1``, ``c2``, ``c3``."""
    unseen: tuple[str, ...] = ()
    """Columns whose values are held out, each of its own; one alone is a key like any other."""
    time: str | None = None
    """A column with dates."""
    after: str | None = None
    """Test records are later."""

    @property
    def is_asked(self) -> bool:
        """Whether the split is one of these."""
        return bool(self.pairs or len(self.unseen) > 1 or self.time)

    def check(
        self,
        by: Sequence[str],
        *,
        at_random: bool,
        has_clusters: bool,
        folds: int | None,
        holdout: float | None,
    ) -> None:
        """Refuse what does not go together.

        Parameters
        ----------
        by, at_random, has_clusters, folds, holdout
            The other settings of the split.
        """
        if self.after is not None and self.time is None:
            raise ConfigError("--after needs the column with the dates", hint="--time COLUMN --after DATE")
        if not self.is_asked:
            return
        asked = "--time" if self.time else "--pairs" if self.pairs else "--unseen with several columns"
        if self.time and (self.pairs or self.unseen):
            raise ConfigError("--time does not go with --pairs or --unseen", hint="make two splits")
        if by or at_random:
            other = "--random" if at_random else "--by"
            raise ConfigError(
                f"{asked} and {other} are two ways to split",
                hint="leave one out; protlm audit --by tells more",
            )
        if has_clusters and (self.time or self.unseen):
            raise ConfigError(
                f"{asked} does not use clusters", hint="leave out --cluster-identity, or take --pairs alone"
            )
        if folds is not None:
            raise ConfigError(
                f"{asked} makes two sides, not {folds} folds",
                hint="--holdout SHARE; another --seed gives another split of pairs",
            )
        if (holdout is None) == (self.after is None):
            raise ConfigError(
                f"{asked} needs to know how much is held out", hint="--holdout SHARE, or --after DATE"
            )

    def divide(
        self,
        records: Sequence[Record],
        share: float | None,
        *,
        clusters: Clustering | None,
        labels: Sequence[str] | None,
        seed: int,
        say: Say,
    ) -> tuple[Sides, dict[str, Values]]:
        """Put each record on a side, or on none.

        Parameters
        ----------
        records
            All of them.
        share
            That is held out; `None` where `after` says it.
        clusters
            Of proteins, which then stand for them.
        labels
            Of each record, to be alike on both sides.
        seed
            Another seed gives another split of pairs.
        say
            Tells the user what came out.

        Returns
        -------
        sides
            Of each record.
        keys
            What was kept apart, to be reported.
        """
        if self.time:
            dates = [text_of(record, self.time) for record in records]
            return split_by_time(dates, after=self.after, share=share), {}
        assert share is not None
        if self.unseen:
            nodes = [
                tuple(f"{column}={text_of(record, column)}" for column in self.unseen) for record in records
            ]
            _refuse_missing(records, self.unseen)
        else:
            _refuse_others(records)
            nodes = (
                cluster_values(records, clusters, say)
                if clusters is not None
                else [tuple(chain.residues for chain in record.chains) for record in records]
            )
        classes = self.pairs or ("c3",)
        names = [record.id for record in records]
        sides = split_pairs(nodes, share, classes=classes, names=names, labels=labels, seed=seed)
        return sides, {"cluster" if clusters else "protein" if not self.unseen else "value": nodes}


def _refuse_missing(records: Sequence[Record], columns: Sequence[str]) -> None:
    for column in columns:
        missing = [record.id for record in records if not text_of(record, column)]
        if missing:
            raise DataError(
                f"{len(missing):,} records have no value of '{column}', such as '{missing[0]}'",
                hint="leave them out of the input; it cannot be known whether theirs was seen",
            )


def _refuse_others(records: Sequence[Record]) -> None:
    for record in records:
        if len(record.chains) != 2:
            raise DataError(
                f"record '{record.id}' has {len(record.chains)} chain{'s' * (len(record.chains) != 1)}, and "
                "--pairs is for pairs",
                hint="two are expected; protlm prepare --sequences makes pairs of two ids",
            )
