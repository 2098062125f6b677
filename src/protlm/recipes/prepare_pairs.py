"""prepare with links: pairs of proteins that bind, and pairs that are not known to, as a corpus."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from protlm.data.clusters import cluster_sequences, read_clusters
from protlm.data.corpus import Corpus, CorpusWriter
from protlm.data.links import (
    BINDS,
    Buckets,
    LinkCounts,
    bucket_count,
    hold_out,
    one_per_cluster_pair,
    part_links,
    settle,
)
from protlm.data.negatives import Sampler
from protlm.data.pair_tables import PairTables
from protlm.data.proteins import Proteins
from protlm.data.readers import InputPolicy, check_file
from protlm.data.readers.links import STRING_SCORE, LinkColumns
from protlm.errors import ConfigError, DataError
from protlm.recipes.link_input import LinkInput, OnCount, read_link_input
from protlm.recipes.outputs import claim_folder
from protlm.recipes.pair_parts import KEY, PairParts
from protlm.recipes.prepare import HELD_OUT as HELD_OUT_NAME
from protlm.recipes.prepare import TRAIN
from protlm.runs import file_hash

_SINGLES = 1 << 18


@dataclass(frozen=True)
class PairSettings:
    """How links become pairs."""

    min_score: float | None = None
    """Least score; where it is `None`, 700 for STRING files and none for others."""
    negatives: Sampler | None = None
    """`None` keeps those that the file labels 0, and draws none."""
    positive_fraction: float = 0.5
    """Share of binding pairs where negatives are drawn."""
    sides: Literal["auto", "one", "two"] = "auto"
    """Whether first and second proteins are of two kinds, such as receptors and epitopes."""
    cluster_identity: float | None = None
    cluster_coverage: float = 0.8
    clusters: Path | None = None
    """A file of clusters in place of MMseqs2."""
    one_per_cluster_pair: bool = False
    holdout: float = 0.0
    """Share of clusters that are held out."""
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        if not 0 < self.positive_fraction <= 1:
            raise ConfigError(
                f"--positive-fraction {self.positive_fraction} is not a share",
                hint="expected above 0 and at most 1",
            )
        if not 0 <= self.holdout < 1:
            raise ConfigError(
                f"--holdout {self.holdout} is not a share", hint="expected a number from 0 up to below 1"
            )
        if self.clusters is not None and self.cluster_identity is not None:
            raise ConfigError(
                "--clusters gives the clusters, and --cluster-identity would make them", hint="leave one out"
            )
        if self.one_per_cluster_pair and self.clusters is None and self.cluster_identity is None:
            raise ConfigError(
                "--one-per-cluster-pair needs clusters", hint="add --cluster-identity 0.5, or --clusters FILE"
            )


@dataclass
class PreparedPairs:
    """A corpus of pairs and what happened on the way."""

    corpus: Corpus
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        return self.notes


def prepare_pairs(
    source: Path | str,
    out: Path | str,
    *,
    sequences: Sequence[str] = (),
    columns: LinkColumns | None = None,
    id_column: str | None = None,
    sequence_column: str | None = None,
    species: Sequence[str] = (),
    settings: PairSettings | None = None,
    policy: InputPolicy | None = None,
    force: bool = False,
    on_count: OnCount = lambda _unit, _count: None,
) -> PreparedPairs:
    """Read links and the sequences of their proteins, and write a corpus of pairs.

    The main table has all pairs; the subsets ``binding`` and ``random`` part them by label, ``single`` lists
    each of their proteins as a record of its own. With a held-out share there are ``train`` and ``holdout``
    and the same three subsets of each, such as ``train-binding``. The chance of a draw hangs on contents and
    the seed alone, so the order of the input changes nothing but the order of the `chains` table.

    Parameters
    ----------
    source
        A file of links: see `protlm.data.readers.links.open_links`.
    out
        Corpus folder to make.
    sequences
        Files with the sequence of each id, ``FILE`` or ``COLUMN=FILE`` where the two columns of the links
        have ids of their own; none where the links hold sequences themselves.
    columns
        Columns of the links.
    id_column, sequence_column
        Columns of the sequences files.
    species
        Keep links whose two ids begin with one of these and a dot, such as ``4932``.
    settings
        What to do with the links.
    policy
        What to do with unknown ids, labels that are not 0 or 1, scores that are no numbers, and sequences
        that are not plain residues.
    force
        Replace a corpus that is there.
    on_count
        Called with a unit, ``"proteins"``, ``"rows"`` or ``"pairs"``, and how many more are done.

    Raises
    ------
    DataError
        If the input is wrong or the folder is taken.
    ConfigError
        If the settings contradict each other.
    """
    settings, policy = settings or PairSettings(), policy or InputPolicy()
    settings.check()
    source, out = check_file(source), Path(out)
    claim_folder(out)
    with (
        CorpusWriter(out, force=force) as writer,
        tempfile.TemporaryDirectory(prefix=f".{out.name}-links-", dir=out.parent) as temporary,
    ):
        folder = Path(temporary)
        counts = LinkCounts()
        rows = Buckets(folder / "rows", _num_buckets(source))
        read = read_link_input(
            source,
            rows,
            folder=folder,
            sequences=sequences,
            columns=columns or LinkColumns(),
            id_column=id_column,
            sequence_column=sequence_column,
            species=species,
            policy=policy,
            sides=settings.sides,
            counts=counts,
            on_count=on_count,
        )
        making = _Making(read, settings, folder, counts)
        making.settle(rows)
        making.part()
        making.draw()
        making.write(writer, on_count)
        files = dict.fromkeys([source, *(each.path for each in read.files)])
        manifest = {
            "inputs": [
                {"name": each.name, "sha256": file_hash(each), "bytes": each.stat().st_size} for each in files
            ],
            "columns": read.columns,
            "changed": dict(read.report.changed),
            "dropped": {**read.report.dropped, **counts.dropped},
            "examples": {**read.report.examples, **counts.examples},
            "pairs": making.facts,
        }
        if settings.holdout:
            manifest["split"] = {"by": "clusters", "holdout": settings.holdout, "seed": settings.seed}
        corpus = writer.close(manifest)
    return PreparedPairs(corpus, [*read.lines(), *counts.lines(), *making.lines()])


class _Making:
    """The steps from links on disk to a corpus."""

    def __init__(self, read: LinkInput, settings: PairSettings, folder: Path, counts: LinkCounts) -> None:
        self.read, self.settings, self.counts, self.folder = read, settings, counts, folder
        self.proteins: Proteins = read.proteins
        self.facts: dict[str, Any] = {"proteins_with_a_sequence": len(self.proteins)}
        self._notes: list[str] = []

    def settle(self, rows: Buckets) -> None:
        """Make each link one, and keep those with the score."""
        settings, file = self.settings, self.read.file
        min_score = settings.min_score
        if min_score is None and file.is_string:
            min_score = STRING_SCORE
        if min_score is not None and file.score is None:
            raise ConfigError(
                f"--min-score {min_score:g}, but {file.path} has no column with a score",
                hint=f"name it: --score-column COL; columns: {', '.join(file.header)}",
            )
        known, kept = (
            Buckets(self.folder / "known", rows.count, KEY),
            Buckets(self.folder / "kept", rows.count),
        )
        self.sampler: Sampler = settings.negatives or "none"
        settle(
            rows,
            known,
            kept,
            min_score=min_score,
            keeps_others=self.sampler == "none",
            counts=self.counts,
        )
        self.facts |= {"min_score": min_score, "sides": 2 if self.read.is_sided else 1}
        is_first = self.read.is_first if self.read.is_sided else None
        parts = [TRAIN, HELD_OUT_NAME] if settings.holdout else [""]
        self.pairs = PairParts(kept, known, self.read.names, is_first, parts)

    def part(self) -> None:
        """Cluster the proteins, keep one link per pair of clusters, and hold clusters out."""
        settings, kept = self.settings, self.pairs.kept
        used = np.flatnonzero(self.pairs.degrees(None))
        if not len(used):
            raise self._nothing_left()
        self.clusters = self._cluster(used)
        has_clusters = settings.clusters is not None or settings.cluster_identity is not None
        if has_clusters:
            self.facts["clusters"] = len(np.unique(self.clusters[used]))
            self._notes.append(
                f"{self.facts['clusters']:,} clusters of {len(used):,} proteins with a kept link"
            )
        if settings.one_per_cluster_pair:
            one_per_cluster_pair(kept, self.clusters, self.counts)
        if settings.holdout:
            contents = self.proteins.contents
            is_held_out = hold_out(self.clusters, contents, settings.holdout, seed=settings.seed)
            part_links(kept, is_held_out, self.counts)
            self.facts["held_out_clusters"] = len(np.unique(self.clusters[used[is_held_out[used]]]))
            what = "clusters" if has_clusters else "proteins (no clusters were asked for)"
            self._notes.append(f"{self.facts['held_out_clusters']:,} {what} held out")

    def draw(self) -> None:
        """Draw the negatives of each part."""
        settings = self.settings
        share = settings.positive_fraction
        self.pairs.draw(self.sampler, share, seed=settings.seed, folder=self.folder)
        self.facts |= self.pairs.facts

    def write(self, writer: CorpusWriter, on_count: OnCount) -> None:
        """Write proteins and pairs."""
        pairs, proteins = self.pairs, self.proteins
        used = pairs.used()
        if not used.any():
            raise self._nothing_left()
        is_used = np.logical_or.reduce(used)
        for batch in proteins.chain_batches(is_used):
            writer.add_chains(batch)
        tables = PairTables(pairs.names, proteins.contents, proteins.chain_rows(is_used), self.clusters)
        for number in range(pairs.kept.count):
            keys, flags, scores, part = pairs.bucket(number)
            a, b = pairs.ordered(keys)
            binds = (flags & BINDS) > 0
            batch = tables.pairs(a, b, binds, scores if self.read.file.score else None)
            num_residues = int(proteins.lengths[a].sum() + proteins.lengths[b].sum())
            writer.add_records(batch, subsets=[""], num_residues=num_residues)
            on_count("pairs", len(batch))
            for name, chosen in pairs.subsets(binds, part):
                if chosen.any():
                    writer.add_records(batch.filter(pa.array(chosen)), subsets=[name])
        for name, codes in pairs.singles(used):
            for start in range(0, len(codes), _SINGLES):
                writer.add_records(tables.singles(codes[start : start + _SINGLES]), subsets=[name])
        self.facts["proteins"] = int(is_used.sum())

    def lines(self) -> list[str]:
        """Say how it went."""
        return [*self._notes, *self.pairs.notes]

    def _cluster(self, used: np.ndarray) -> np.ndarray:
        """Give the representative of each protein; itself where there are no clusters."""
        settings = self.settings
        clusters = np.arange(len(self.proteins))
        if settings.cluster_identity is not None:
            found = cluster_sequences(
                self.proteins.each_residues(used),
                identity=settings.cluster_identity,
                coverage=settings.cluster_coverage,
            )
            clusters[used] = used[found]
            self.facts["cluster_identity"] = settings.cluster_identity
            self.facts["cluster_coverage"] = settings.cluster_coverage
        elif settings.clusters is not None:
            clusters = self._clusters_of_file(check_file(settings.clusters), used)
        return clusters

    def _clusters_of_file(self, path: Path, used: np.ndarray) -> np.ndarray:
        table = pl.DataFrame(list(read_clusters(path)), schema=["cluster", "member"], orient="row")
        one, other = (lookup.find(table["member"]) for lookup in self.proteins.lookups)
        table = table.with_columns(code=pl.Series(np.where(one >= 0, one, other))).filter(pl.col("code") >= 0)
        repeated = table.group_by("code").agg(pl.col("cluster").n_unique(), pl.col("member").first())
        repeated = repeated.filter(pl.col("cluster") > 1).sort("member")
        if len(repeated):
            raise DataError(
                f"{path}: '{repeated['member'][0]}' is in {repeated['cluster'][0]} clusters",
                hint="list each protein, or all ids of one sequence, in one",
            )
        table = table.with_columns(first=pl.col("code").min().over("cluster"))
        clusters = np.arange(len(self.proteins))
        clusters[table["code"].to_numpy()] = table["first"].to_numpy()
        num_missing = int((~np.isin(used, table["code"].to_numpy())).sum())
        if num_missing:
            self._notes.append(
                f"{num_missing:,} proteins are not in {path.name}; each is a cluster of its own"
            )
        self.facts["clusters_file"] = {"name": path.name, "sha256": file_hash(path)}
        return clusters

    def _nothing_left(self) -> DataError:
        counts = {**self.read.report.dropped, **self.counts.dropped}
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
        return DataError(
            f"{self.read.file.path}: no pair is left; {reasons or 'the file has no link'}",
            hint="look at the counts; --invalid error stops at the first wrong row",
        )


def _num_buckets(source: Path) -> int:
    size = source.stat().st_size
    return bucket_count(size * 6 if source.suffix == ".gz" else size)
