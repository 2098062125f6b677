"""evaluate regions: models and baselines on held-out antibodies, residue by residue."""

import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from protlm.data.corpus import Corpus
from protlm.errors import DataError, ModelError
from protlm.evaluation.frequencies import FrequencyBaseline, load_counts
from protlm.evaluation.regions import compare, predict_baseline, predict_residues, summarise
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.progress import Progress, duration
from protlm.recipes.prepare import open_source
from protlm.runs import Run
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET
from protlm.types.record import Record

Say = Callable[[str], None]


def evaluate_regions(
    models: Sequence[str],
    source: Path | str,
    out: Path | str,
    *,
    max_records: int | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    force: bool = False,
    say: Say = print,
) -> Run:
    """Mask every residue once under each model and compare regions, baselines and models.

    Parameters
    ----------
    models
        Runs, folders or names of models. The baselines are fitted on the training chains of the
        first Run among them.
    source
        A corpus or any file that `prepare` reads; held out from training.
    out
        The Run folder; tables ``regions``, ``regions_summary`` and ``comparisons``.
    max_records
        Take at most this many, chosen by their content keys; all by default.
    device, precision, max_tokens
        How to run the models.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.
    """
    run = Run.create(out, verb="evaluate", force=force)
    settings = {"models": list(map(str, models)), "input": str(source), "max_records": max_records}
    run.write_config(yaml.safe_dump({**settings, "precision": precision}))
    corpus = open_source(source, run.path / "data", say=say)
    records = _sample(corpus, max_records)
    loaded = _load(models, device, precision)
    counts = _train_counts(models)
    run.write_json("data_manifest.json", _manifest(corpus, records, models, say))
    tables = [_predict(model, records, max_tokens, say) for model in loaded]
    if counts is not None:
        baselines = [FrequencyBaseline(counts, use_v_gene=use_v_gene) for use_v_gene in (False, True)]
        tables += [predict_baseline(baseline, records) for baseline in baselines]
    else:
        say("no baselines: none of the models is a Run that kept its training frequencies")
    table = pl.concat(tables)
    table.write_parquet(run.table_path("regions"))
    summarise(table).write_parquet(run.table_path("regions_summary"))
    pairs = [compare(table, one.name, two.name) for one, two in combinations(loaded, 2)]
    pairs = [pair for pair in pairs if not pair.is_empty()]
    if pairs:
        pl.concat(pairs).write_parquet(run.table_path("comparisons"))
    run.finish()
    return run


def _sample(corpus: Corpus, max_records: int | None) -> list[Record]:
    if not len(corpus):
        raise DataError(f"{corpus.name} has no records", hint="look at what prepare reported as dropped")
    order = np.argsort(corpus.keys, kind="stable")[:max_records]
    return [corpus.record(int(row)) for row in np.sort(order)]


def _load(models: Sequence[str], device: str, precision: Precision) -> list[LanguageModel]:
    loaded = [load_model(name, device=device, precision=precision) for name in models]
    names = [model.name for model in loaded]
    for model, name in zip(loaded, names, strict=True):
        if names.count(name) > 1:
            raise ModelError(
                f"two models are called '{name}'", hint="rename one of the folders; tables go by name"
            )
        del model
    return loaded


def _train_counts(models: Sequence[str]) -> pl.DataFrame | None:
    for name in models:
        path = Path(name) / "tables" / "train_frequencies.parquet"
        if path.exists():
            counts = load_counts(path)
            return None if counts.is_empty() else counts
    return None


def _predict(model: LanguageModel, records: Sequence[Record], max_tokens: int, say: Say) -> pl.DataFrame:
    total = sum(len(record) for record in records)
    say(f"{model.name}: {total:,} masked contexts over {len(records):,} records; {model.path}")
    begin = time.perf_counter()
    with Progress(model.name, total, unit="context") as progress:
        table = predict_residues(
            model, records, max_tokens=max_tokens, on_contexts=lambda done: progress.advance(units=done)
        )
    say(f"{model.name}: done in {duration(time.perf_counter() - begin)}")
    return table


def _manifest(
    corpus: Corpus, records: Sequence[Record], models: Sequence[str], say: Say
) -> dict[str, object]:
    """Describe the data, and how much of it each model saw in training (the leakage report)."""
    sequences = {chain.residues for record in records for chain in record.chains}
    groups = {record.group for record in records if record.group}
    leakage = {}
    for name in models:
        seen = _trained_on(name)
        if seen is None:
            continue
        train_sequences, train_groups = seen
        leakage[name] = {
            "shared_chains": len(sequences & train_sequences),
            "shared_groups": len(groups & train_groups),
            "chains": len(sequences),
            "groups": len(groups),
        }
        say(
            f"leakage, {name}: {leakage[name]['shared_chains']:,} of {len(sequences):,} chains and "
            f"{leakage[name]['shared_groups']:,} of {len(groups):,} groups were in its training data"
        )
    return {"num_records": len(records), "corpus": corpus.manifest, "leakage": leakage}


def _trained_on(name: str) -> tuple[set[str], set[str]] | None:
    if not Run.is_run(name):
        return None
    source = Run.open(name).read_json("data_manifest.json").get("train", {}).get("source")
    folder = Path(name) / "data" / "train"
    try:
        corpus = Corpus(folder if folder.exists() else source)
    except DataError:
        return None
    rows = np.arange(len(corpus))
    chains = corpus.chain_column("residues").take(np.unique(corpus.chain_rows(rows))).to_pylist()
    return set(chains), set(corpus.column("group")) - {""}
