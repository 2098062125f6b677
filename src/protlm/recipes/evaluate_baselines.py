"""The baselines beside models: fitted on a corpus that is named, or on the training data of a Run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.germline_set import open_germline
from protlm.evaluation.baselines import (
    FREQUENCIES,
    SHARES,
    TABLES,
    Baseline,
    fit_together,
    load_baselines,
    read_tables,
)
from protlm.recipes.evaluated import ChosenRecords, Say, corpora_of
from protlm.recipes.prepare import open_source
from protlm.runs import Run

_BY_CALL = {"v_gene_majority": ("v_call",), "genes": ("v_call", "j_call")}
"""Baselines that need calls, in training and in the input, and which."""
_CALLS = {("v_call",): "V calls", ("v_call", "j_call"): "V or J calls"}


def choose_baselines(
    models: Sequence[str], records: ChosenRecords, *, fit_on: Path | str | None, folder: Path, say: Say
) -> list[Baseline]:
    """Give the baselines that the training data and the input allow, and say which they do not and why.

    Parameters
    ----------
    models
        As the user gave them. Without `fit_on`, the tables that the first Run among them keeps are used; a
        Run of an earlier version, which kept fewer, has them fitted on its training data where that is still
        there.
    records
        What is evaluated.
    fit_on
        A corpus, or a file that `prepare` reads, to fit on instead.
    folder
        Where a corpus that is made from such a file goes.
    say
        Tells the user.
    """
    tables = _fitted(fit_on, folder, say) if fit_on is not None else _of_first_run(models, say)
    if not tables:
        return []
    baselines = load_baselines(tables)
    if not baselines:
        say("no baselines: the training chains were not numbered, so there are no positions to count at")
        return []
    present = [baseline.name for baseline in baselines]
    if "germline" not in present and SHARES in tables:
        say("no baseline 'germline': the training chains were not compared with the package's human genes")
    without = set()
    for name, columns in _BY_CALL.items():
        if name not in present:
            say(f"no baseline '{name}': the training data had no {_CALLS[columns]}")
            continue
        num_called, num_chains = _calls(records, columns)
        share = num_called / num_chains
        if not num_called:
            without.add(name)
            say(f"no baseline '{name}': the input has no {_CALLS[columns]}; protlm prepare assigns them")
        elif num_called < num_chains:
            say(
                f"baseline '{name}': {num_called:,} of {num_chains:,} chains ({share:.0%}) have "
                f"{_CALLS[columns]}; the others are predicted by position"
            )
    return [each for each in baselines if each.name not in without]


def fit_on_sources(sources: Sequence[tuple[Corpus, np.ndarray | None]], say: Say) -> dict[str, pl.DataFrame]:
    """Count and fit the baselines; the germline one only on chains that human genes are right for.

    Parameters
    ----------
    sources
        Corpora of training, and the records of them that were used, `None` for all.
    say
        Told why the germline baseline is left out, if it is.

    Returns
    -------
    dict of polars.DataFrame
        By the names of `protlm.evaluation.baselines.TABLES`.
    """
    reasons = [f"{corpus.name} {reason}" for corpus, _ in sources if (reason := _not_as_human(corpus))]
    tables = fit_together(sources, use_germline=not reasons)
    if reasons and not tables[FREQUENCIES].is_empty():
        say(f"no baseline 'germline', which compares with the package's human genes: {reasons[0]}")
    return tables


def _not_as_human(corpus: Corpus) -> str:
    """Say why a corpus is not to be compared with the package's genes; empty where nothing speaks against."""
    facts = corpus.manifest.get("germline")
    if facts is None:
        return ""  # not made by prepare, so nothing is known
    if facts["is_off"]:
        return "does not look human"
    if not facts["set"]:
        return "was prepared without germline genes"
    return "" if facts["set"] == open_germline().lines() else "was prepared with other genes"


def _fitted(source: Path | str, folder: Path, say: Say) -> dict[str, pl.DataFrame]:
    corpus = open_source(source, folder, say=say)
    say(f"baselines are fitted on {corpus.name}: {len(corpus):,} records")
    return fit_on_sources([(corpus, None)], say)


def _of_first_run(models: Sequence[str], say: Say) -> dict[str, pl.DataFrame]:
    for name in models:
        tables = read_tables(Path(name) / "tables")
        if not tables:
            continue
        missing = [each for each in TABLES if each not in tables]
        if not missing:
            return tables
        corpora = corpora_of(Run.open(name), "train") if Run.is_run(name) else []
        if corpora:
            say(f"baselines are fitted on the training data of {name}, which does not keep all of them")
            return fit_on_sources([(corpus, None) for corpus in corpora], say)
        say(f"{name} does not keep all baselines (no {', '.join(missing)}); --baselines CORPUS fits them")
        return tables
    say("no baselines: none of the models is a Run that kept them; --baselines CORPUS fits them")
    return {}


def _calls(records: ChosenRecords, columns: Sequence[str]) -> tuple[int, int]:
    """Count the chains with a call in any of the columns, and all."""
    rows = records.corpus.chain_rows(records.rows)
    has_one = np.zeros(len(rows), dtype=np.bool_)
    for name in columns:
        called = pl.Series(values=pl.from_arrow(records.corpus.chain_column(name).take(rows))) != ""
        has_one |= called.to_numpy()
    return int(has_one.sum()), len(rows)
