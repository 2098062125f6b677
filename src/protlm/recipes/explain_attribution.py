"""explain attribution: which residues the output of a fine-tuned model comes from, beside controls."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from protlm.data.corpus import Corpus, names_corpus
from protlm.data.domains import ALL_TYPES
from protlm.data.flat import record_key
from protlm.data.groups import with_default_group
from protlm.data.numbering import number_chains
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.sampling import budget_batches
from protlm.errors import ConfigError, DataError, ModelError, did_you_mean
from protlm.explain.attribution import METHODS, STEPS, Attributed, Method, attribute
from protlm.explain.attribution_curves import record_curves
from protlm.explain.attribution_tables import control_table, curve_tables, residue_table, share_table
from protlm.models.heads import views
from protlm.models.predictor import Predictor, load_predictor, predictor_folders
from protlm.progress import Progress
from protlm.recipes.evaluated import refuse_too_long
from protlm.runs import Run, file_hash
from protlm.types.record import Chain, Record, Role

Say = Callable[[str], None]
PREDICTED = "predicted"
MAX_GAP = 0.05
"""Integrated gradients that miss their sum by more are counted."""


def explain_attribution(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    methods: Sequence[Method] = METHODS,
    of_class: str = PREDICTED,
    label_column: str | None = None,
    control: str | Path | None = None,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    is_plain: bool = False,
    max_records: int | None = None,
    steps: int = STEPS,
    curves: bool = True,
    max_tokens: int | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    say: Say = print,
) -> Run:
    """Attribute the output of one class of each record to its residues.

    Parameters
    ----------
    model
        A Run of `protlm finetune`, or one of several models in it.
    source
        FASTA, CSV, TSV, Parquet, or a corpus; records as the model was trained on.
    out
        The Run folder. Tables ``attribution`` (every residue), ``attribution_records``,
        ``attribution_shares``, ``attribution_curves`` and ``attribution_areas``; with a control also
        ``attribution_control`` and ``attribution_correlation``.
    methods
        Of `METHODS`.
    of_class
        Name of the class to explain, or ``predicted``: the most likely one of each record.
    label_column
        Column with the true class of each record, which is explained in its place.
    control
        Another such Run, with ``--shuffle-labels`` say, whose attributions of the same classes stand beside.
    columns, policy, is_plain
        As for `predict_file`.
    max_records
        Take at most this many, chosen by their content.
    steps
        Of integrated gradients.
    curves
        Whether to mask residues, and bring them back, in order of their attributions.
    max_tokens
        Token budget of a batch; by the device if not said.
    seed
        Of random orders.
    device
        Where to run.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    ConfigError
        If a class or method is not known.
    DataError
        If the input is wrong.
    ModelError
        If the Run is not fine-tuned, predicts residues, or a method cannot explain its model.
    """
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"'{name}' is no method of attribution", hint=did_you_mean(name, METHODS))
    predictor = _load(model, device)
    other = None if control is None else _load(control, device)
    if other is not None and other.target.classes != predictor.target.classes:
        raise ModelError(
            f"the control predicts {_classes(other)}, and the model {_classes(predictor)}",
            hint="the control must be of the same target",
        )
    labels = (label_column,) if label_column else ()
    records = _read(source, replace(columns or ColumnNames(), labels=labels), policy, is_plain, say)
    chosen = np.argsort([record_key(record) for record in records], kind="stable")[:max_records]
    records = [records[index] for index in np.sort(chosen).tolist()]
    for each in (predictor, *([other] if other else [])):
        refuse_too_long(views(records, each.head.facts), [each.encoder])

    outputs = np.stack(predictor.predict(records, max_tokens=max_tokens))
    classes = _wanted(predictor, outputs, records, of_class, label_column)
    run = Run.create(out, verb="explain", force=force)
    settings = {
        "kind": "attribution",
        "model": str(model),
        "input": str(source),
        "methods": list(methods),
        "of_class": label_column or of_class,
        "control": None if control is None else str(control),
        "max_records": max_records,
        "steps": steps,
        "seed": seed,
    }
    run.write_config(yaml.safe_dump(settings))
    digest = Corpus(source).digest if names_corpus(source) else file_hash(Path(source))
    facts = {"num_records": len(records), "target": predictor.target.name, "input_sha256": digest}
    run.write_json("data_manifest.json", facts)
    say(f"{len(records):,} records, {', '.join(methods)}; {predictor.encoder.path}")

    numbered = _numbered(records, say)
    groups = {record.id: with_default_group(record).group or record.id for record in numbered}
    found = _attribute_all(predictor, records, methods, classes, steps, max_tokens, predictor.name)
    _say_gaps(found, steps, say)
    residues = residue_table(numbered, {method: each.values for method, each in found.items()})
    tables = {
        "attribution": residues,
        "attribution_records": _record_table(predictor, records, outputs, classes, found, groups),
        "attribution_shares": share_table(residues, groups),
    }
    if other is not None:
        beside = _attribute_all(other, records, methods, classes, steps, max_tokens, "control")
        controls = residue_table(numbered, {method: each.values for method, each in beside.items()})
        made = control_table(residues, controls, groups)
        tables |= dict(zip(("attribution_control", "attribution_correlation"), made, strict=True))
    if curves:
        with Progress("masking", len(records), unit="record") as progress:
            drawn = []
            for row, record in enumerate(records):
                sites = {method: each.sites[row] for method, each in found.items()}
                drawn.append(
                    record_curves(
                        predictor, record, sites, int(classes[row]), seed=seed, max_tokens=max_tokens
                    )
                )
                progress.advance()
        units = [groups[record.id] for record in records]
        made = curve_tables(drawn, units)
        tables |= dict(zip(("attribution_curves", "attribution_areas"), made, strict=True))
    for name, table in tables.items():
        table.write_parquet(run.table_path(name))
    run.note(device=str(predictor.encoder.device), computation=predictor.encoder.path)
    run.finish()
    return run


def _load(name: str | Path, device: str) -> Predictor:
    """Load a fine-tuned model and name it by its Run."""
    predictor = load_predictor(name, device=device)
    (folder,) = predictor_folders(name)
    path = folder.resolve()
    is_member = not Run.is_run(path) or Run.is_run(path.parent)
    predictor.encoder.name = f"{path.parent.name}/{path.name}" if is_member else path.name
    if predictor.target.level == "residue":
        raise ModelError(
            f"'{name}' predicts '{predictor.target.name}' of each residue, and attribution explains one "
            "output of a whole record",
            hint="name a Run of --level sequence or pair",
        )
    return predictor


def _classes(predictor: Predictor) -> str:
    return ", ".join(predictor.target.classes) or "a number"


def _read(
    source: str | Path, columns: ColumnNames, policy: InputPolicy | None, is_plain: bool, say: Say
) -> list[Record]:
    if names_corpus(source):
        corpus = Corpus(source)
        records = [corpus.record(row) for row in range(len(corpus))]
    else:
        report = ReadReport()
        records = list(iterate_records(check_file(source), columns=columns, policy=policy, report=report))
        for line in report.lines():
            say(line)
    if not records:
        raise DataError(f"{source}: there is nothing to explain", hint="give at least one record")
    if not is_plain:
        return records
    return [
        replace(each, chains=tuple(replace(chain, role=Role.OTHER) for chain in each.chains))
        for each in records
    ]


def _wanted(
    predictor: Predictor,
    outputs: np.ndarray,
    records: Sequence[Record],
    of_class: str,
    label_column: str | None,
) -> np.ndarray:
    """Give the number of the class to explain of each record."""
    known = predictor.target.classes
    if predictor.target.kind == "value":
        if of_class != PREDICTED or label_column:
            raise ConfigError(
                f"'{predictor.target.name}' is a number and has no classes",
                hint="leave out --class and --labels",
            )
        return np.zeros(len(records), dtype=np.int64)
    if label_column is None and of_class == PREDICTED:
        return outputs.argmax(axis=1)
    if label_column is None:
        names = [of_class] * len(records)
    else:
        names = [str(record.labels.get(label_column)) for record in records]
    for record, name in zip(records, names, strict=True):
        if name not in known:
            where = (
                f"record '{record.id}' has '{name}' in '{label_column}', which"
                if label_column
                else f"'{name}'"
            )
            raise ConfigError(
                f"{where} is no class of '{predictor.target.name}': {', '.join(known)}",
                hint=did_you_mean(name, [*known, PREDICTED]),
            )
    return np.array([known.index(name) for name in names])


def _numbered(records: Sequence[Record], say: Say) -> list[Record]:
    """Give the records with regions and positions where they are antibodies or T-cell receptors."""
    asked = [
        (row, place)
        for row, record in enumerate(records)
        for place, chain in enumerate(record.chains)
        if "region" not in chain.tracks or not chain.tracks["region"].any()
    ]
    found = (
        number_chains([records[row].chains[place] for row, place in asked], types=ALL_TYPES) if asked else []
    )
    chains = [list(record.chains) for record in records]
    failed = 0
    for (row, place), chain in zip(asked, found, strict=True):
        if isinstance(chain, Chain):
            chains[row][place] = chain
        else:
            failed += 1
    if failed:
        say(f"{failed:,} of {sum(map(len, chains)):,} chains are not numbered and have no regions")
    return [replace(record, chains=tuple(own)) for record, own in zip(records, chains, strict=True)]


def _attribute_all(
    predictor: Predictor,
    records: Sequence[Record],
    methods: Sequence[Method],
    classes: np.ndarray,
    steps: int,
    max_tokens: int | None,
    title: str,
) -> dict[Method, Attributed]:
    """Attribute batch by batch; the records stay in order."""
    budget = max_tokens or predictor.encoder.token_budget
    batches = [own.tolist() for own in budget_batches(predictor.lengths(records), budget)]
    found: dict[Method, Attributed] = {}
    with Progress(title, len(records) * len(methods), unit="record") as progress:
        for method in methods:
            of_record: dict[int, tuple[Any, ...]] = {}
            for rows in batches:
                own = attribute(
                    predictor,
                    [records[row] for row in rows],
                    method,
                    classes[rows],
                    steps=steps,
                    max_tokens=max_tokens,
                )
                of_record |= dict(zip(rows, zip(own.values, own.sites, own.gap, strict=True), strict=True))
                progress.advance(units=len(rows))
            values, sites, gap = zip(*(of_record[row] for row in range(len(records))), strict=True)
            found[method] = Attributed(list(values), list(sites), list(gap))
    return found


def _say_gaps(found: dict[Method, Attributed], steps: int, say: Say) -> None:
    if "integrated-gradients" not in found:
        return
    gap = np.array(found["integrated-gradients"].gap)
    count = int((gap > MAX_GAP).sum())
    if count:
        say(
            f"integrated gradients: of {count:,} of {len(gap):,} records the sum misses the output's "
            f"difference to the baseline by more than {MAX_GAP:.0%} (the worst by {np.nanmax(gap):.0%}); "
            f"more --steps than {steps} bring it closer"
        )


def _record_table(
    predictor: Predictor,
    records: Sequence[Record],
    outputs: np.ndarray,
    classes: np.ndarray,
    found: dict[Method, Attributed],
    groups: dict[str, str],
) -> pl.DataFrame:
    """Give of each record and method what was explained."""
    is_number = predictor.target.kind == "value"
    names = [predictor.target.name if is_number else predictor.target.classes[each] for each in classes]
    column = outputs[np.arange(len(records)), classes]
    return pl.concat(
        [
            pl.DataFrame(
                {
                    "model": [predictor.name] * len(records),
                    "method": [method] * len(records),
                    "id": [record.id for record in records],
                    "group": [groups[record.id] for record in records],
                    "class": names,
                    "predicted": column,
                    "sum": [float(values.sum()) for values in each.values],
                    "gap": each.gap,
                }
            )
            for method, each in found.items()
        ]
    )
