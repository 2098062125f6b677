"""Structures with their sequences, divided so that what is alike is on one side."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from protlm.data.backbones import BackboneSet, open_backbones
from protlm.data.clusters import cluster_sequences
from protlm.data.corpus import Corpus, names_corpus
from protlm.data.flat import record_key
from protlm.data.splits import Groups, assign_folds, connected_groups, group_names
from protlm.data.structure_pairs import (
    DIGEST,
    StructurePairs,
    record_of,
    sequence_digest,
    window_starts,
)
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.recipes.contrast_config import PairData
from protlm.types.record import Record

SIDES = ("train", "valid", "test")


@dataclass(frozen=True)
class DividedPairs:
    """All pairs that are used, and on which side each is."""

    pairs: StructurePairs
    side: np.ndarray
    """0-based place in `SIDES`."""
    left_out: dict[str, int]
    """Items by reason."""
    source: str
    digest: str
    """Of the backbones used."""
    notes: tuple[str, ...] = ()
    """What is to be said of the groups."""

    def rows(self, side: str) -> np.ndarray:
        """Give the rows of a side, 0-based.

        Parameters
        ----------
        side
            In `SIDES`.
        """
        return np.flatnonzero(self.side == SIDES.index(side))

    def table(self) -> pl.DataFrame:
        """List the pairs: ``id, residues, sequence_digest, cluster, side``."""
        records = self.pairs.records
        return pl.DataFrame(
            {
                "id": [record.id for record in records],
                "residues": [sum(len(chain) for chain in record.chains) for record in records],
                DIGEST: [sequence_digest(_joined(record)) for record in records],
                "cluster": self.pairs.clusters,
                "side": [SIDES[number] for number in self.side.tolist()],
            }
        )

    def facts(self) -> dict[str, Any]:
        """Give what the manifest keeps."""
        counts = {side: len(self.rows(side)) for side in SIDES}
        clusters = {side: len(np.unique(self.pairs.clusters[self.rows(side)])) for side in SIDES}
        return {
            "source": self.source,
            "digest": self.digest,
            "pairs": counts,
            "clusters": clusters,
            "left_out": self.left_out,
        }

    def lines(self) -> list[str]:
        """Say it in words."""
        facts = self.facts()
        lines = [
            f"{side}: {facts['pairs'][side]:,} pairs in {facts['clusters'][side]:,} groups" for side in SIDES
        ]
        left_out = [f"left out: {count:,} {reason}" for reason, count in self.left_out.items() if count]
        return [*lines, *left_out, *self.notes]


def read_pairs(settings: PairData) -> DividedPairs:
    """Read structures, leave out what does not fit, and divide the rest by groups.

    Parameters
    ----------
    settings
        Of the data.

    Raises
    ------
    ConfigError
        If there is no such column.
    DataError
        If nothing is left, or a side that is asked for is empty.
    """
    backbones = open_backbones(settings.structures)
    kept, left_out = _fitting(backbones, settings)
    if not kept.size:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
        raise DataError(
            f"{settings.structures}: none of {len(backbones):,} structures is left ({reasons})",
            hint="lower data.min_residues or data.crop_residues",
        )
    used = backbones.take(kept)
    records = _records(settings.structures, used, kept)
    groups, notes = _groups(used, records, settings)
    shares = [1 - settings.tested - settings.validation, settings.validation, settings.tested]
    asked = [number for number, share in enumerate(shares) if share > 0]
    if len(groups.names) < len(asked):
        raise DataError(
            f"{settings.structures}: {len(records):,} pairs make {len(groups.names):,} groups by "
            f"{_alike_by(settings)}, too few for the sides {', '.join(SIDES[each] for each in asked)}",
            hint="group more finely, or set data.validation or data.tested to 0",
        )
    folds = assign_folds(groups, [shares[number] for number in asked], seed=settings.split_seed)
    side = np.array(asked)[folds]
    keys = np.array([record_key(record) for record in records], dtype=np.uint64)
    pairs = StructurePairs(records, list(used), groups.codes.astype(np.int64), keys)
    return DividedPairs(pairs, side, left_out, settings.structures, used.digest, notes)


def _fitting(backbones: BackboneSet, settings: PairData) -> tuple[np.ndarray, dict[str, int]]:
    """Choose the rows that are used; count the others by reason."""
    lengths = backbones.lengths
    shortest = max(settings.min_residues, settings.crop_residues or 0)
    longest = settings.max_residues if settings.crop_residues is None else None
    is_short = lengths < shortest
    is_long = lengths > longest if longest is not None else np.zeros(len(lengths), dtype=bool)
    candidates = np.flatnonzero(~is_short & ~is_long)
    crop = settings.crop_residues
    is_bare, is_patchy = np.zeros(len(candidates), dtype=bool), np.zeros(len(candidates), dtype=bool)
    for place, row in enumerate(candidates.tolist()):
        backbone = backbones[row]
        is_bare[place] = backbone.is_resolved.sum() < settings.min_residues
        is_patchy[place] = crop is not None and not len(window_starts(backbone, crop))
    left_out = {
        f"of fewer than {shortest} residues": int(is_short.sum()),
        f"of more than {longest} residues": int(is_long.sum()),
        f"with fewer than {settings.min_residues} resolved residues": int(is_bare.sum()),
        f"without a window of {crop} residues that is half resolved": int((is_patchy & ~is_bare).sum()),
    }
    return candidates[~is_bare & ~is_patchy], left_out


def _records(source: str, used: BackboneSet, rows: np.ndarray) -> list[Record]:
    """Take the records of a corpus with their roles, or make them of the chains."""
    if names_corpus(source):
        corpus = Corpus(source)
        return [corpus.record(row) for row in rows.tolist()]
    return [record_of(backbone) for backbone in used]


def _joined(record: Record) -> str:
    return "/".join(chain.residues for chain in record.chains)


def _alike_by(settings: PairData) -> str:
    if settings.group is not None:
        return f"data.group '{settings.group}'"
    if settings.cluster_identity is not None:
        return f"data.cluster_identity {settings.cluster_identity:g}"
    return "equal sequences"


def _groups(used: BackboneSet, records: list[Record], settings: PairData) -> tuple[Groups, tuple[str, ...]]:
    """Join what has one value of the column, or sequences of one cluster, and always equal sequences."""
    seen: Counter[str] = Counter()
    names = []
    for record in records:
        names.append(f"{record.id} {seen[record.id]}")
        seen[record.id] += 1
    same = [[_joined(record)] for record in records]
    if settings.group is not None:
        labels = used.labels
        if settings.group not in labels.columns:
            raise ConfigError(
                f"data.group: {settings.structures} has no column '{settings.group}'",
                hint=did_you_mean(settings.group, labels.columns),
            )
        values = group_names(labels[settings.group].to_list())
        keys = [[] if value is None else [value] for value in values]
        count = values.count(None)
        note = f"{count:,} of {len(values):,} pairs have no value in '{settings.group}': each is alone"
        return connected_groups(same, keys, names=names), (note,) if count else ()
    if settings.cluster_identity is not None:
        chains = [chain.residues for record in records for chain in record.chains]
        codes = cluster_sequences(chains, identity=settings.cluster_identity)
        begins = np.cumsum([0, *(len(record.chains) for record in records)])
        own = [[str(code) for code in codes[a:b]] for a, b in pairwise(begins)]
        return connected_groups(same, own, names=names), ()
    return connected_groups(same, names=names), ()
