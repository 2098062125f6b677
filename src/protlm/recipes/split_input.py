"""Records to split or to audit, and the keys that they may share."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from protlm.data.clonotypes import chain_keys, clonotype_keys, main_chain
from protlm.data.clusters import check_clustering, cluster_sequences
from protlm.data.corpus import Corpus, names_corpus
from protlm.data.numbering import NumberingReport, Receptor, number_records
from protlm.data.peptides import SHORT
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.splits import Values
from protlm.errors import ConfigError, DataError
from protlm.evaluation.task_files import text_of
from protlm.types.record import Record

Say = Callable[[str], None]
KEYS = ("clonotype", "chain", "group")
"""Names of keys that are no columns."""
CHAINS, MAIN = "chains", "main"
"""What is clustered that is no column: every chain, or the heavy (else first) one."""


@dataclass(frozen=True)
class Clustering:
    """Clusters of alike proteins as a key of a split."""

    identity: float
    """In (0, 1]."""
    coverage: float = 0.8
    """Share of both sequences that is aligned, in [0, 1]."""
    of: str = CHAINS
    """``chains``: every chain. ``main``: the heavy (else first) one. Else a column with residues."""
    threads: int = 1

    def columns(self) -> list[str]:
        """Name the column that is needed, if one is."""
        return [] if self.of in (CHAINS, MAIN) else [self.of]


def read_to_split(
    source: Path | str,
    wanted: Sequence[str],
    *,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    receptor: Receptor = "auto",
    say: Say,
) -> list[Record]:
    """Read the records of a corpus or file, with the columns that are needed as labels.

    Parameters
    ----------
    source
        A corpus, or any file that `prepare` reads.
    wanted
        Columns; names of `KEYS` among them are left out.
    columns, policy, receptor
        How to read and number a file; refused of a corpus.
    say
        Tells the user what was read.

    Raises
    ------
    DataError
        If a column is not there, an id is there twice, or there is nothing.
    """
    wanted = [name for name in wanted if name not in KEYS]
    if names_corpus(source):
        refuse_reading(source, columns, policy, receptor)
        corpus = Corpus(source)
        records = [corpus.record(row) for row in range(len(corpus))]
        for name in wanted:
            if not any(name in record.labels for record in records):
                raise DataError(
                    f"{corpus.name} has no label '{name}'", hint="keep it as a label when the corpus is made"
                )
    else:
        path = check_file(source)
        reading, numbering = ReadReport(), NumberingReport()
        given = columns or ColumnNames()
        labels = tuple(dict.fromkeys([*given.labels, *wanted]))
        asked = ColumnNames(**{**vars(given), "labels": labels})
        records = list(
            number_records(
                iterate_records(path, columns=asked, policy=policy, report=reading),
                receptor=receptor,
                report=numbering,
            )
        )
        for line in [*reading.lines(), *numbering.lines()]:
            say(line)
    if not records:
        raise DataError(f"{source}: there is nothing to split", hint="look at what was dropped")
    repeated = [name for name, count in Counter(record.id for record in records).items() if count > 1]
    if repeated:
        raise DataError(
            f"{source}: {len(repeated):,} ids are there twice, such as '{repeated[0]}'",
            hint="make ids unique; the table goes by id",
        )
    return records


def refuse_reading(
    source: Path | str, columns: ColumnNames | None, policy: InputPolicy | None, receptor: Receptor
) -> None:
    """Refuse what says how to read a file where there is a corpus.

    Parameters
    ----------
    source
        The corpus.
    columns, policy, receptor
        How to read and number a file.
    """
    pairs = ((columns or ColumnNames(), ColumnNames()), (policy or InputPolicy(), InputPolicy()))
    given = [
        f"--{each.name.replace('_', '-')}"
        for own, default in pairs
        for each in fields(own)
        if getattr(own, each.name) != getattr(default, each.name)
    ]
    given += ["--receptor"] if receptor != "auto" else []
    if given:
        raise ConfigError(
            f"{source} is a corpus, and {', '.join(given)} would say how to read a file",
            hint="leave it out, or give it to protlm prepare when the corpus is made",
        )


def key_values(name: str, records: Sequence[Record], identity: float, counts: Counter[str]) -> Values:
    """Give the values of each record under a key.

    Parameters
    ----------
    name
        One of `KEYS`, or a column that is a label of the records.
    records
        All of them.
    identity
        Of the key ``clonotype``.
    counts
        Filled with how many records have no value.
    """
    if name == "clonotype":
        return clonotype_keys(records, identity=identity, counts=counts)
    if name == "chain":
        return chain_keys(records)
    values = [record.group if name == "group" else text_of(record, name) for record in records]
    counts[f"no value of '{name}', so linked to no other record by it"] += sum(not value for value in values)
    return [(value,) for value in values]


def watched_clonotypes(records: Sequence[Record], identity: float) -> dict[str, Values]:
    """Give clonotypes where the records are numbered, to be watched though the split is by something else.

    Parameters
    ----------
    records
        All of them.
    identity
        Of their CDR3s.
    """
    if not any("region" in chain.tracks for record in records for chain in record.chains):
        return {}
    return {"clonotype": clonotype_keys(records, identity=identity)}


def cluster_values(records: Sequence[Record], settings: Clustering, say: Say) -> Values:
    """Give the clusters of each record, each named by its representative; the order of records is nothing.

    Parameters
    ----------
    records
        All of them.
    settings
        What is clustered, and how.
    say
        Tells the user what came out.
    """
    check_clustering(settings.identity, settings.coverage)
    texts = [_residues(record, settings.of) for record in records]
    distinct = sorted({text for own in texts for text in own})
    found = cluster_sequences(
        distinct, identity=settings.identity, coverage=settings.coverage, threads=settings.threads
    )
    cluster_of = {text: distinct[number] for text, number in zip(distinct, found.tolist(), strict=True)}
    sizes = np.unique(found, return_counts=True)[1]
    say(
        f"{len(distinct):,} distinct sequences are {len(sizes):,} clusters at {settings.identity:.0%} "
        f"identity over {settings.coverage:.0%} of both; the largest has {sizes.max():,}, and "
        f"{(sizes == 1).sum():,} have one"
    )
    if num_short := sum(len(text) < SHORT for text in distinct):
        say(
            f"{num_short:,} of them have fewer than {SHORT} residues, too few for MMseqs2, and were "
            "compared by edits, with at least 50 % identity"
        )
    return [tuple(dict.fromkeys(cluster_of[text] for text in own)) for own in texts]


def _residues(record: Record, what: str) -> list[str]:
    if what == CHAINS:
        return [chain.residues for chain in record.chains]
    if what == MAIN:
        return [main_chain(record).residues]
    text = text_of(record, what).upper()
    if text and not text.isalpha():
        raise DataError(
            f"record '{record.id}': '{text}' in column '{what}' is no sequence",
            hint="cluster a column with residues alone, or --cluster-of chains or main",
        )
    return [text] if text else []
