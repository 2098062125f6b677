"""What retrieval is judged on: held-out pairs, pairs to fit a baseline on, and what models have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.backbones import BackboneSet, open_backbones
from protlm.data.corpus import Corpus, names_corpus
from protlm.data.splits import group_names
from protlm.data.structure_pairs import DIGEST, sequence_digest
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.evaluation.retrieval_pairs import Pairs, pairs_of
from protlm.runs import Run

SIDES = ("test", "valid", "all")
_TRAINED = "train"


@dataclass(frozen=True)
class SeenPairs:
    """What a Run of contrast was trained on, from its table ``pairs``."""

    table: pl.DataFrame
    source: str

    @property
    def trained(self) -> pl.DataFrame:
        """Rows that its weights come from."""
        return self.table.filter(pl.col("side") == _TRAINED)


@dataclass(frozen=True)
class RetrievalInput:
    """Pairs to judge on and to fit the baseline on."""

    judged: Pairs
    training: Pairs | None
    leakage: dict[str, Any]
    """By model, as the report reads it; `None` where not known."""
    lines: list[str]
    """What was done, to be said."""
    cluster: str | None = None
    """Column that was taken."""


def seen_pairs(run: Path | str) -> SeenPairs | None:
    """Read which pairs a Run was trained on; `None` where it does not say.

    Parameters
    ----------
    run
        Folder of a Run of contrast.
    """
    if not Run.is_run(run):
        return None
    opened = Run.open(run)
    if "pairs" not in opened.tables():
        return None
    source = opened.read_json("data_manifest.json").get("pairs", {}).get("source", "")
    return SeenPairs(pl.read_parquet(opened.table_path("pairs")), str(source))


def read_retrieval_input(
    structures: Path | str,
    seen: Mapping[str, Sequence[SeenPairs | None]],
    *,
    cluster: str | None,
    train: Path | str | None,
    side: str,
    usual: str | None = None,
) -> RetrievalInput:
    """Choose the pairs to judge on.

    Parameters
    ----------
    structures
        As `open_backbones` takes them.
    seen
        For each model what its members were trained on. Where that is known and names structures of this
        file, only those are judged that are on `side` for every member.
    cluster
        Column whose values are resampled and count as alike; if `None`, `usual` where the structures have it,
        else the groups that the first Run kept on one side, else each pair for itself.
    train
        Structures to fit the baseline on; those of the first Run otherwise.
    side
        In `SIDES`.
    usual
        Column by which the first Run grouped its pairs.

    Raises
    ------
    ConfigError
        If there is no such column.
    DataError
        If fewer than two pairs are left.
    """
    backbones = open_backbones(structures)
    if cluster is None and usual in backbones.labels.columns:
        cluster = usual
    tables = [each for members in seen.values() for each in members if each is not None]
    clusters = _clusters(backbones, cluster, structures, tables)
    rows, lines = _held_out(backbones, tables, side, structures)
    judged = _pairs(structures, backbones, _named(clusters or [None] * len(backbones)), rows)
    files = {str(structures): backbones}
    training, is_grouped, said = _training(tables, cluster, train, files)
    if clusters is None:
        lines.append("no --cluster: each pair is resampled alone; alike ones make intervals too narrow")
    leakage = {}
    for name, members in seen.items():
        own = [] if clusters is None else [_trained_groups(each, cluster, tables, files) for each in members]
        leakage[name] = _leakage(judged, members, own)
    if train is not None:
        own = _shared(judged, training, is_grouped=is_grouped)
        leakage = {name: own if facts is None else facts for name, facts in leakage.items()}
        leakage = leakage or {"--train": own}
    return RetrievalInput(judged, training, leakage, [*lines, *said, *_leakage_lines(leakage)], cluster)


def _named(clusters: Sequence[str | None]) -> list[str]:
    """Give each that is alone a name."""
    return [f"pair {row + 1}" if name is None else name for row, name in enumerate(clusters)]


def _clusters(
    backbones: BackboneSet, cluster: str | None, source: Path | str, tables: Sequence[SeenPairs]
) -> list[str | None] | None:
    """Give the cluster of each by the column, else the group that the first Run kept together, if any.

    One without is alone.
    """
    if cluster is None:
        known = dict(tables[0].table.select("id", "cluster").iter_rows()) if tables else {}
        groups = [known.get(name) for name in backbones.ids]
        if all(group is None for group in groups):
            return None
        return [None if group is None else f"group {group}" for group in groups]
    labels = backbones.labels
    if cluster not in labels.columns:
        raise ConfigError(
            f"--cluster '{cluster}': {source} has no such column", hint=did_you_mean(cluster, labels.columns)
        )
    return group_names(labels[cluster].to_list())


def _opened(source: str, files: dict[str, BackboneSet]) -> tuple[str, BackboneSet]:
    """Open structures once each; the first of `files` in place of those that are no longer there."""
    if not source or not Path(source.partition(":")[0]).exists():
        source = next(iter(files))
    if source not in files:
        files[source] = open_backbones(source)
    return source, files[source]


def _held_out(
    backbones: BackboneSet, tables: Sequence[SeenPairs], side: str, source: Path | str
) -> tuple[np.ndarray, list[str]]:
    """Give the rows that are on the side asked for in every table, and what to say of it."""
    ids = np.array(backbones.ids, dtype=str)
    everything = np.arange(len(ids))
    known = [each for each in tables if np.isin(ids, each.table["id"].to_list()).any()]
    if side == "all" or not known:
        kept, lines = everything, [f"{len(ids):,} pairs of {source}, all of them"]
    else:
        is_kept = np.ones(len(ids), dtype=bool)
        for each in known:
            is_kept &= np.isin(ids, each.table.filter(pl.col("side") == side)["id"].to_list())
        kept = np.flatnonzero(is_kept)
        lines = [f"{len(kept):,} of {len(ids):,} pairs of {source} are on the side '{side}' of training"]
    if len(kept) < 2:
        raise DataError(
            f"{len(kept):,} of {len(ids):,} pairs of {source} are left to judge on",
            hint=f"--side {' or '.join(each for each in SIDES if each != side)}, or give other --structures",
        )
    return kept, lines


def _pairs(source: Path | str, backbones: BackboneSet, clusters: list[str], rows: np.ndarray) -> Pairs:
    chosen, names = list(backbones.take(rows)), [clusters[row] for row in rows.tolist()]
    if not names_corpus(source):
        return pairs_of(chosen, names)
    corpus = Corpus(source)  # knows the roles of the chains
    return Pairs([corpus.record(row) for row in rows.tolist()], chosen, np.array(names, dtype=str))


def _training(
    tables: Sequence[SeenPairs],
    cluster: str | None,
    train: Path | str | None,
    files: dict[str, BackboneSet],
) -> tuple[Pairs | None, bool, list[str]]:
    """Find pairs to fit the baseline on, whether their clusters are known, and what to say of it."""
    if train is not None:
        backbones, rows = open_backbones(train), None
        source = train
    elif tables:
        source, backbones = _opened(tables[0].source, files)
        rows = np.flatnonzero(np.isin(np.array(backbones.ids), tables[0].trained["id"].to_list()))
    else:
        return None, False, ["no --train and no training Run: the composition baseline is left out"]
    rows = np.arange(len(backbones)) if rows is None else rows
    if not rows.size:
        missing = f"{source} has none of the training pairs: the composition baseline is left out"
        return None, False, [missing]
    lacks = cluster is not None and cluster not in backbones.labels.columns
    clusters = None if lacks else _clusters(backbones, cluster, source, tables)
    lines = [f"the composition baseline is fitted on {len(rows):,} training pairs of {source}"]
    if lacks:
        lines.append(f"{source} has no column '{cluster}': shared clusters are not counted")
    names = _named(clusters or [None] * len(backbones))
    return _pairs(source, backbones, names, rows), clusters is not None, lines


def _trained_groups(
    seen: SeenPairs | None, cluster: str | None, tables: Sequence[SeenPairs], files: dict[str, BackboneSet]
) -> set[str] | None:
    """Name the clusters of all training pairs of a Run, by its own structures; `None` where not known."""
    if seen is None:
        return None
    source, backbones = _opened(seen.source, files)
    if cluster is not None and cluster not in backbones.labels.columns:
        return None
    names = _clusters(backbones, cluster, source, tables) or []
    if source == next(iter(files)):  # one that is alone is so in its own file
        names = _named(names)
    trained = set(seen.trained["id"])
    own = zip(names, backbones.ids, strict=False)
    return {name for name, one in own if name is not None and one in trained} or None


def _leakage(
    judged: Pairs, members: Sequence[SeenPairs | None], groups: Sequence[set[str] | None]
) -> dict[str, Any] | None:
    """Count the sequences and clusters that any member was trained on; `None` where one does not say."""
    tables = [each.trained for each in members if each is not None and DIGEST in each.table.columns]
    if len(tables) < len(members) or not tables:
        return None
    sequences = sorted(set(judged.sequences))
    trained = set().union(*(table[DIGEST] for table in tables))
    known = [each for each in groups if each is not None]
    own = set(judged.clusters.tolist()) if len(known) == len(members) else set()
    return {
        "shared_chains": sum(sequence_digest(each) in trained for each in sequences),
        "chains": len(sequences),
        "shared_groups": len(own & set().union(*known)),
        "groups": len(own),
    }


def _shared(judged: Pairs, training: Pairs | None, *, is_grouped: bool) -> dict[str, Any]:
    chains, groups = set(judged.sequences), set(judged.clusters.tolist()) if is_grouped else set()
    others = (set(training.sequences), set(training.clusters.tolist())) if training else (set(), set())
    return {
        "shared_chains": len(chains & others[0]),
        "chains": len(chains),
        "shared_groups": len(groups & others[1]),
        "groups": len(groups),
    }


def _leakage_lines(leakage: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, facts in leakage.items():
        if facts is None:
            lines.append(f"{name}: leakage is not known, as it does not say what it was trained on")
        else:
            clusters = f" and {facts['shared_groups']:,} of {facts['groups']:,} clusters"
            lines.append(
                f"{name}: {facts['shared_chains']:,} of {facts['chains']:,} sequences"
                f"{clusters if facts['groups'] else ''} are in the training pairs"
            )
    return lines
