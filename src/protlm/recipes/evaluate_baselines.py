"""The baselines beside models: fitted on a corpus that is named, or on the training data of a Run."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from protlm.evaluation.baselines import (
    TABLES,
    Baseline,
    fit_baselines,
    fit_together,
    load_baselines,
    read_tables,
)
from protlm.recipes.evaluated import ChosenRecords, Say, corpora_of
from protlm.recipes.prepare import open_source
from protlm.runs import Run

_BY_CALL = {"v_gene_majority": "V calls", "genes": "V or J calls"}
"""Baselines that need calls, in training and in the input."""


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
    has_calls = _has_calls(records)
    for name, what in _BY_CALL.items():
        if name not in present:
            say(f"no baseline '{name}': the training data had no {what}")
        elif not has_calls:
            say(f"no baseline '{name}': the input has no {what}; protlm prepare assigns them")
    return [each for each in baselines if has_calls or each.name not in _BY_CALL]


def _fitted(source: Path | str, folder: Path, say: Say) -> dict[str, pl.DataFrame]:
    corpus = open_source(source, folder, say=say)
    say(f"baselines are fitted on {corpus.name}: {len(corpus):,} records")
    return fit_baselines(corpus)


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
            return fit_together([(corpus, None) for corpus in corpora])
        say(f"{name} does not keep all baselines (no {', '.join(missing)}); --baselines CORPUS fits them")
        return tables
    say("no baselines: none of the models is a Run that kept them; --baselines CORPUS fits them")
    return {}


def _has_calls(records: ChosenRecords) -> bool:
    rows = records.corpus.chain_rows(records.rows)
    calls = (pl.from_arrow(records.corpus.chain_column(name).take(rows)) for name in ("v_call", "j_call"))
    return any(bool((pl.Series(values=column) != "").any()) for column in calls)
