"""evaluate regions: models and baselines on held-out antibodies, residue by residue."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl

from protlm.evaluation.baselines import Baseline
from protlm.evaluation.by_sequence import compare_sequences, sequence_values, summarise_sequences
from protlm.evaluation.calibration import calibrate
from protlm.evaluation.germline_bias import germline_bias
from protlm.evaluation.regions import (
    antibody_status,
    compare,
    region_cells,
    summarise,
    summarise_segments,
)
from protlm.evaluation.residues import predict_baseline, predict_residues
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.residue_level import require_residue_level
from protlm.recipes.evaluate_baselines import choose_baselines
from protlm.recipes.evaluated import (
    RECORDS_PER_PART,
    ChosenRecords,
    Say,
    choose_rows,
    evaluate_in_parts,
    known_leakage,
    load_models,
    open_evaluation,
    refuse_too_long,
)
from protlm.recipes.table_parts import TableParts, discard, join_parts
from protlm.runs import Run


def evaluate_regions(
    models: Sequence[str],
    source: Path | str,
    out: Path | str,
    *,
    max_records: int | None = None,
    baselines_from: Path | str | None = None,
    by_sequence: bool = False,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    force: bool = False,
    say: Say = print,
) -> Run:
    """Mask every residue once under each model and compare regions, baselines and models.

    An interrupted evaluation goes on where it was when it is called again: finished records are in the
    Run folder, and only one part of `RECORDS_PER_PART` records is held in memory.

    Parameters
    ----------
    models
        Runs, folders or names of models. The baselines are those of the training chains of the first Run
        among them, unless `baselines_from` says otherwise.
    source
        A corpus or any file that `prepare` reads; held out from training.
    out
        The Run folder. Tables ``regions`` (every residue), ``regions_summary``, ``segments``,
        ``calibration``, ``calibration_bins``, ``germline_bias`` and ``comparisons``; those of which
        nothing is known are not there.
    max_records
        Take at most this many, chosen by their content keys; all by default.
    baselines_from
        A corpus or file to fit the baselines on.
    by_sequence
        Also aggregate and test as Ng & Briney do, to tables ``sequences_summary`` and
        ``sequences_comparisons``.
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
    loaded = load_models(models, device, precision)
    for model in loaded:
        require_residue_level(model, "evaluate regions")
    settings = {
        "kind": "regions",
        "models": list(map(str, models)),
        "max_records": max_records,
        "baselines_from": str(baselines_from) if baselines_from is not None else None,
        "by_sequence": by_sequence,
        "precision": precision,
    }
    run, corpus = open_evaluation(out, source, settings, force=force, say=say)
    records = ChosenRecords(corpus, choose_rows(corpus, np.arange(len(corpus)), max_records))
    refuse_too_long(records, loaded, where=f"{corpus.name}: ")
    leakage = known_leakage(models, records, say)
    run.write_json(
        "data_manifest.json", {"num_records": len(records), "corpus": corpus.manifest, "leakage": leakage}
    )
    folder = run.checkpoints_path / "regions"
    parts = [_predict(model, records, folder, max_tokens, say) for model in loaded]
    baselines = choose_baselines(
        models, records, fit_on=baselines_from, folder=run.checkpoints_path / "baselines", say=say
    )
    parts += [_predict_baseline(baseline, records, folder) for baseline in baselines]
    join_parts(parts, run.table_path("regions"))
    discard(folder)
    names = [model.name for model in loaded]
    families = [list(combinations(names, 2))]
    families.append([(name, baseline.name) for name in names for baseline in baselines])
    _summarise(run, [family for family in families if family], by_sequence=by_sequence, say=say)
    run.note(device=str(loaded[0].device), computation=loaded[0].path)
    run.finish()
    return run


def _summarise(run: Run, families: list[list[tuple[str, str]]], *, by_sequence: bool, say: Say) -> None:
    """Write every table that follows from the one of residues, without holding that."""
    table = pl.scan_parquet(run.table_path("regions"))
    cells = region_cells(table)
    errors, bins = calibrate(table)
    tables = {
        "regions_summary": summarise(cells),
        "segments": summarise_segments(cells),
        "calibration": errors,
        "calibration_bins": bins,
        "germline_bias": germline_bias(table),
        "comparisons": _concat([compare(cells, family) for family in families]),
    }
    if by_sequence:
        values = sequence_values(table, antibody_status(cells))
        tables["sequences_summary"] = summarise_sequences(values)
        tables["sequences_comparisons"] = _concat([compare_sequences(values, pairs) for pairs in families])
    for name, frame in tables.items():
        if not frame.is_empty():
            frame.write_parquet(run.table_path(name))
    missing = {
        "segments": "no V, D or J segments: the input's chains have none",
        "germline_bias": "no germline bias: no mutated residue with a known germline residue in the input",
    }
    for name, reason in missing.items():
        if tables[name].is_empty():
            say(reason)


def _concat(frames: list[pl.DataFrame]) -> pl.DataFrame:
    filled = [frame for frame in frames if not frame.is_empty()]
    return pl.concat(filled) if filled else pl.DataFrame()


def _predict(
    model: LanguageModel, records: ChosenRecords, folder: Path, max_tokens: int | None, say: Say
) -> TableParts:
    return evaluate_in_parts(
        model,
        records,
        folder,
        contexts_per_residue=1,
        predict=lambda some, on_contexts: predict_residues(
            model, records[some], max_tokens=max_tokens or model.token_budget, on_contexts=on_contexts
        ),
        what="regions",
        say=say,
    )


def _predict_baseline(baseline: Baseline, records: ChosenRecords, folder: Path) -> TableParts:
    """Table what a baseline says; always anew, so nothing of an interrupted call is left among the parts."""
    parts = TableParts(folder / f"baseline-{baseline.name}")
    discard(parts.folder)
    for number, start in enumerate(range(0, len(records), RECORDS_PER_PART)):
        parts.write(number, predict_baseline(baseline, records[start : start + RECORDS_PER_PART]))
    return parts
