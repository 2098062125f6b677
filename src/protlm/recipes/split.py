"""split: a table that gives each record a fold, with groups kept together and the leakage counted."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from protlm.data.clusters import check_clustering
from protlm.data.corpus import names_corpus
from protlm.data.numbering import Receptor
from protlm.data.pair_splits import NO_SIDE
from protlm.data.readers import ColumnNames, InputPolicy
from protlm.data.split_report import report_split
from protlm.data.splits import Groups, assign_folds, connected_groups, random_groups
from protlm.errors import ConfigError
from protlm.evaluation.task_files import text_of
from protlm.recipes.outputs import claim_file
from protlm.recipes.split_input import (
    Clustering,
    Say,
    cluster_values,
    key_values,
    read_to_split,
    refuse_reading,
    watched_clonotypes,
)
from protlm.recipes.split_sides import SideSettings
from protlm.runs import file_hash

SUFFIXES = (".parquet", ".tsv", ".csv")


def split_file(
    source: Path | str,
    out: Path | str,
    *,
    by: Sequence[str] = (),
    clusters: Clustering | None = None,
    sides: SideSettings | None = None,
    folds: int | None = None,
    holdout: float | None = None,
    at_random: bool = False,
    cdr3_identity: float = 0.8,
    stratify: str | None = None,
    identity: bool = False,
    seed: int = 0,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    receptor: Receptor = "auto",
    force: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Split the records of a file or corpus and write ``id, fold, group``.

    Parameters
    ----------
    source
        A corpus, or any file that `prepare` reads.
    out
        ``.parquet`` (the manifest is in its metadata), ``.tsv`` or ``.csv`` (the manifest is beside it, in
        ``OUT.meta.json``).
    by
        Keys, joined to connected components: ``clonotype`` (V gene, J gene and CDR3), ``chain`` (identical
        residues of any chain), ``group`` (that of the record), or columns of the file.
    clusters
        A further key: clusters of alike sequences.
    sides
        Pairs by what is seen of them in training, values that are unseen, or time; the table then has the
        folds ``train`` and ``holdout`` and lacks the records that are in neither, and of pairs it has the
        column ``class``.
    folds, holdout
        Number of folds, named 0, 1 …; or the share of the fold ``holdout``, the rest being ``train``.
    at_random
        Split single records; must be asked for.
    cdr3_identity
        Of the key ``clonotype``.
    stratify
        A column whose values should have alike shares in all folds.
    identity
        Also look for the nearest main chain of another fold; takes time with the square of the records.
    seed
        Another seed gives another split; the order of the records does not matter.
    columns, policy, receptor
        How to read and number a file; of a corpus, which is read and numbered already, not to be given.
    force
        Replace a file that is there.
    say
        Tells the user what happens, the leakage report included.

    Raises
    ------
    ConfigError
        If the settings contradict each other.
    DataError
        If the input is wrong, or its groups cannot fill the folds.
    """
    out = Path(out)
    sides = sides or SideSettings()
    has_clusters = clusters is not None
    sides.check(by, at_random=at_random, has_clusters=has_clusters, folds=folds, holdout=holdout)
    if len(sides.unseen) == 1:
        by = [*by, *sides.unseen]
    shares, names = _shares(folds, 0.5 if sides.after else holdout)
    has_key = bool(by) or clusters is not None or sides.is_asked
    if has_key == at_random:
        raise ConfigError(
            "a split is either by keys or at random" if has_key else "say what to split by",
            hint="--by clonotype, chain or a column (several separated by commas), --cluster-identity, or "
            "--random",
        )
    if clusters is not None:
        check_clustering(clusters.identity, clusters.coverage)
    if names_corpus(source):
        refuse_reading(source, columns, policy, receptor)
    claim_file(out, SUFFIXES, force=force)
    wanted = [*by, *sides.unseen, *([sides.time] if sides.time else []), *([stratify] if stratify else [])]
    wanted += clusters.columns() if clusters else []
    records = read_to_split(source, wanted, columns=columns, policy=policy, receptor=receptor, say=say)
    ids = [record.id for record in records]
    counts: Counter[str] = Counter()
    keys = {name: key_values(name, records, cdr3_identity, counts) for name in by}
    strata = None if stratify is None else [text_of(record, stratify) for record in records]
    classes: list[str] = []
    if sides.is_asked:
        found, keys = sides.divide(records, holdout, clusters=clusters, labels=strata, seed=seed, say=say)
        counts.update({f"left out: {reason}": count for reason, count in found.left_out.items()})
        rows = np.flatnonzero(found.part != NO_SIDE)
        assigned, chosen = found.part[rows], rows.tolist()
        records, ids = [records[row] for row in chosen], [ids[row] for row in chosen]
        strata = strata and [strata[row] for row in chosen]
        keys = {name: [values[row] for row in chosen] for name, values in keys.items()}
        classes = [found.classes[row] for row in chosen] if found.classes else []
        groups = random_groups(ids)
    else:
        if clusters is not None:
            keys["cluster"] = cluster_values(records, clusters, say)
        groups = random_groups(ids) if at_random else connected_groups(*keys.values(), names=ids)
        assigned = assign_folds(groups, shares, strata=strata, seed=seed)
    fold = [names[place] for place in assigned.tolist()]
    for reason, count in counts.items():
        if count:
            say(f"{count:,} × {reason}")
    watched = keys | ({} if "clonotype" in keys else watched_clonotypes(records, cdr3_identity))
    report = report_split(records, fold, groups, names=names, labels=strata, keys=watched, identity=identity)
    for line in report.lines():
        say(line)
    table = _table(ids, fold, groups, strata)
    if classes:
        table = table.with_columns(pl.Series("class", classes))
        say("test pairs by class: " + ", ".join(f"{name} {count:,}" for name, count in _counted(classes)))
    manifest = {
        "format_version": 1,
        "verb": "split",
        "input": str(source),
        "input_sha256": None if names_corpus(source) else file_hash(Path(source)),
        "by": "random" if at_random else list(by),
        "clusters": None if clusters is None else asdict(clusters),
        "sides": asdict(sides) if sides.is_asked else None,
        "folds": dict(zip(names, shares, strict=True)),
        "cdr3_identity": cdr3_identity if "clonotype" in by else None,
        "stratify": stratify,
        "seed": seed,
        "counts": {reason: count for reason, count in counts.items() if count},
        "report": report.facts(),
    }
    _write(table, out, manifest)
    return table


def _shares(folds: int | None, holdout: float | None) -> tuple[list[float], list[str]]:
    if (folds is None) == (holdout is None):
        raise ConfigError("say how to split", hint="either --folds K, or --holdout SHARE")
    if folds is not None:
        if folds < 2:
            raise ConfigError(f"--folds {folds} is too few", hint="expected at least 2")
        return [1 / folds] * folds, [str(number) for number in range(folds)]
    assert holdout is not None
    if not 0 < holdout < 1:
        raise ConfigError(f"--holdout {holdout} is not a share", hint="expected a number between 0 and 1")
    return [1 - holdout, holdout], ["train", "holdout"]


def _counted(classes: Sequence[str]) -> list[tuple[str, int]]:
    return sorted((name, count) for name, count in Counter(classes).items() if name)


def _table(
    ids: Sequence[str], fold: Sequence[str], groups: Groups, strata: Sequence[str] | None
) -> pl.DataFrame:
    names = np.array(groups.names, dtype=object)
    table = pl.DataFrame({"id": ids, "fold": fold, "group": names[groups.codes].tolist()})
    return table if strata is None else table.with_columns(stratum=pl.Series(list(strata)))


def _write(table: pl.DataFrame, out: Path, manifest: dict[str, Any]) -> None:
    part = out.with_name(out.name + ".part")
    if out.suffix == ".parquet":
        noted = table.to_arrow().replace_schema_metadata({b"protlm": json.dumps(manifest).encode()})
        pq.write_table(noted, part)
    else:
        table.write_csv(part, separator="\t" if out.suffix == ".tsv" else ",")
        beside = out.with_name(out.name + ".meta.json")
        beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    part.replace(out)
