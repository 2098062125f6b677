"""evaluate regions: models and baselines on held-out antibodies, residue by residue."""

import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from protlm.data.corpus import Corpus, names_corpus
from protlm.data.readers import check_file
from protlm.errors import DataError, ModelError
from protlm.evaluation.frequencies import FrequencyBaseline, load_counts
from protlm.evaluation.leakage import overlap
from protlm.evaluation.regions import compare, predict_baseline, predict_residues, summarise
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.progress import Progress, duration
from protlm.recipes.prepare import open_source
from protlm.runs import Run
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
    max_tokens: int | None = None,
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
    device, precision
        Where and in what precision to run the models.
    max_tokens
        Token budget of a batch; by the device if not said.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If a record is over a model's limit, or the input is wrong.
    """
    loaded = _load(models, device, precision)
    if not names_corpus(source) and not Path(source).is_dir():
        check_file(source)
    run = Run.create(out, verb="evaluate", force=force)
    settings = {"models": list(map(str, models)), "input": str(source), "max_records": max_records}
    run.write_config(yaml.safe_dump({**settings, "precision": precision}))
    corpus = open_source(source, run.path / "data", say=say)
    records = _sample(corpus, max_records, loaded)
    leakage = {name: _leakage(name, records, say) for name in map(str, models)}
    known = {name: facts for name, facts in leakage.items() if facts is not None}
    run.write_json(
        "data_manifest.json", {"num_records": len(records), "corpus": corpus.manifest, "leakage": known}
    )
    baselines = _baselines(models, records, say)
    tables = [_predict(model, records, max_tokens, say) for model in loaded]
    table = pl.concat([*tables, *(predict_baseline(baseline, records) for baseline in baselines)])
    table.write_parquet(run.table_path("regions"))
    summarise(table).write_parquet(run.table_path("regions_summary"))
    names = [model.name for model in loaded]
    families = [list(combinations(names, 2))]
    if baselines:  # beside the strongest one
        families.append([(name, baselines[-1].name) for name in names])
    compared = [compare(table, pairs) for pairs in families if pairs]
    if compared := [each for each in compared if not each.is_empty()]:
        pl.concat(compared).write_parquet(run.table_path("comparisons"))
    run.note(device=str(loaded[0].device), computation=loaded[0].path)
    run.finish()
    return run


def _sample(corpus: Corpus, max_records: int | None, models: Sequence[LanguageModel]) -> list[Record]:
    if not len(corpus):
        raise DataError(f"{corpus.name} has no records", hint="look at what prepare reported as dropped")
    order = np.sort(np.argsort(corpus.keys, kind="stable")[:max_records])
    for model in models:
        limit = model.layout.max_tokens
        needed = model.layout.num_positions(corpus.lengths[order], corpus.num_chains_per_record[order])
        if limit is not None and needed.max() > limit:
            worst = corpus.record(int(order[needed.argmax()]))
            raise DataError(
                f"{corpus.name}: record '{worst.id}' has {len(worst):,} residues and needs {needed.max():,} "
                f"tokens, but model '{model.name}' takes at most {limit:,} "
                f"({int((needed > limit).sum()):,} of {len(order):,} records are over it)",
                hint="leave such records out of the input, or use a model without a limit",
            )
    return [corpus.record(int(row)) for row in order]


def _load(models: Sequence[str], device: str, precision: Precision) -> list[LanguageModel]:
    loaded = [load_model(name, device=device, precision=precision) for name in models]
    names = [model.name for model in loaded]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ModelError(
            f"two models are called '{repeated[0]}'", hint="rename one of the folders; tables go by name"
        )
    return loaded


def _baselines(models: Sequence[str], records: Sequence[Record], say: Say) -> list[FrequencyBaseline]:
    """Fit the baselines that the training data of the first Run, and the input, allow."""
    paths = [Path(name) / "tables" / "train_frequencies.parquet" for name in models]
    counts = next((load_counts(path) for path in paths if path.exists()), None)
    if counts is None:
        say("no baselines: none of the models is a Run that kept its training frequencies")
        return []
    if counts.is_empty():
        say("no baselines: the training chains were not numbered, so there are no positions to count at")
        return []
    baselines = [FrequencyBaseline(counts, use_v_gene=False)]
    has_calls = any(chain.v_call for record in records for chain in record.chains)
    if has_calls and (counts["v_gene"] != "").any():
        baselines.append(FrequencyBaseline(counts, use_v_gene=True))
    else:
        say("no V-gene baseline: V calls are missing in the input or in the training data")
    return baselines


def _predict(
    model: LanguageModel, records: Sequence[Record], max_tokens: int | None, say: Say
) -> pl.DataFrame:
    total = sum(len(record) for record in records)
    say(f"{model.name}: {total:,} masked contexts over {len(records):,} records; {model.path}")
    begin = time.perf_counter()
    with Progress(model.name, total, unit="context") as progress:
        table = predict_residues(
            model,
            records,
            max_tokens=max_tokens or model.token_budget,
            on_contexts=lambda done: progress.advance(units=done),
        )
    say(f"{model.name}: done in {duration(time.perf_counter() - begin)}")
    return table


def _leakage(name: str, records: Sequence[Record], say: Say) -> dict[str, Any] | None:
    """Count what a model saw of the records, in training and in choosing its best weights."""
    if not Run.is_run(name):
        say(f"leakage, {name}: not known, because it is no Run of protlm")
        return None
    run = Run.open(name)
    manifest = run.read_json("data_manifest.json")
    facts: dict[str, Any] = {}
    for part, purpose in (("train", "training"), ("eval", "evaluation")):
        corpus = _corpus_of(run, manifest.get(part))
        if corpus is None:
            if manifest.get(part):
                say(f"leakage, {name}: its {purpose} data are not where they were, or have changed")
            continue
        counts = overlap(records, corpus)
        if part == "train":
            facts |= counts
        else:
            facts |= {f"eval_{key}": value for key, value in counts.items() if key.startswith("shared")}
        say(
            f"leakage, {name}: {counts['shared_chains']:,} of {counts['chains']:,} chains and "
            f"{_groups(counts)} were in its {purpose} data"
        )
    return facts if "shared_chains" in facts else None


def _groups(counts: dict[str, int]) -> str:
    if not counts["groups"]:
        return "an unknown number of groups (the input has none)"
    return f"{counts['shared_groups']:,} of {counts['groups']:,} groups"


def _corpus_of(run: Run, facts: dict[str, Any] | None) -> Corpus | None:
    if not facts:
        return None
    try:
        corpus = Corpus(run.path / facts["path"])
    except DataError:
        return None
    return corpus if corpus.digest == facts["digest"] else None
