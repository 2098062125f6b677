"""explain attention: whether heads see which residues of an antibody and its antigen touch."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import yaml

from protlm.data.token_counts import record_counts
from protlm.errors import DataError
from protlm.explain.case_files import Case, find_cases
from protlm.explain.complexes import (
    CONTACT_DISTANCE,
    Complex,
    antigen_groups,
    crop_antigen,
    with_shuffled_antigen,
)
from protlm.explain.contact_metrics import METRICS, PAIRS
from protlm.explain.head_analysis import (
    BEST_HEAD,
    TRUE,
    HeadReadings,
    ModelJudged,
    attention_block,
    judge_baselines,
    judge_model,
    num_passes,
    read_heads,
)
from protlm.explain.head_methods import draw_partners, head_splits
from protlm.explain.head_tables import (
    BASELINE,
    case_table,
    complex_table,
    difference_table,
    head_table,
    summary_table,
)
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.residue_level import require_residue_level
from protlm.progress import Progress
from protlm.recipes.archives import is_archive, unpack
from protlm.recipes.evaluated import Say, load_models
from protlm.runs import Run, file_hash

SHOTS = 20
"""As Rao et al. fit on."""
LongComplexes = Literal["error", "drop", "crop"]


def explain_attention(
    models: Sequence[str],
    structures: Path | str,
    out: Path | str,
    *,
    cases: Path | str | None = None,
    shots: int | None = None,
    repeats: int = 5,
    whole_antibody: bool = False,
    long: LongComplexes = "drop",
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "float32",
    force: bool = False,
    say: Say = print,
) -> Run:
    """Judge the attention between antibody and antigen against the contacts of their complexes.

    Parameters
    ----------
    models
        Runs, folders or names.
    structures
        A folder, tar or zip of complexes, see `find_cases`.
    out
        The Run folder. Tables ``attention_heads``, ``attention_cases``, ``attention_summary``,
        ``attention_differences``, ``attention_complexes``, ``attention_chosen`` and ``attention_example``.
    cases
        Table that names complexes and their chains.
    shots
        Complexes that a head is chosen on, and regression and baselines are fitted on; by default 20, or
        three in five where that is less.
    repeats
        How often those are drawn; each draw is used both ways.
    whole_antibody
        Keep constant domains.
    long
        What to do with a complex over a model's limit: stop, leave it out, or cut the antigen.
    seed
        Of partners, shuffles, splits and windows.
    device, precision
        Where and in what precision to run the models; attention itself is always in float32.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If there are no complexes, or one cannot be read.
    ModelError
        If a model takes no pairs of chains, or gives no attention.
    """
    loaded = load_models(models, device, precision)
    for model in loaded:
        require_residue_level(model, "explain attention")
        _ = model.layout.separator_ids  # refuses a model of single chains before anything is read
    complexes, facts = _read(Path(structures), None if cases is None else Path(cases), whole_antibody, say)
    complexes, facts["left_out"] = _fitting(complexes, loaded, long, seed, say)
    groups = antigen_groups(complexes)
    partners = draw_partners(complexes, groups, _fits(complexes, loaded, seed), seed=seed)
    num_training = shots or max(1, min(SHOTS, len(complexes) * 3 // 5))
    splits = head_splits(complexes, groups, num_training=num_training, num_repeats=repeats, seed=seed)
    _say_data(complexes, groups, partners, num_training, len(splits), say)

    run = Run.create(out, verb="explain", force=force)
    settings = {
        "kind": "attention",
        "models": list(map(str, models)),
        "input": str(structures),
        "cases": None if cases is None else str(cases),
        "contact_distance": CONTACT_DISTANCE,
        "shots": num_training,
        "repeats": repeats,
        "whole_antibody": whole_antibody,
        "long": long,
        "seed": seed,
        "precision": precision,
    }
    run.write_config(yaml.safe_dump(settings))
    run.write_json("data_manifest.json", {"num_records": len(complexes), **facts})
    values = {BASELINE: judge_baselines(complexes, splits, seed=seed)}
    heads, chosen, examples = [], [], []
    for model in loaded:
        say(f"{model.name}: {model.path}")
        with Progress(model.name, num_passes(partners), unit="run") as progress:
            readings = read_heads(model, complexes, partners, seed=seed, on_pass=progress.advance)
            judged = judge_model(model, complexes, readings, splits, seed=seed, on_pass=progress.advance)
        values[model.name] = judged.values
        heads.append(head_table(model.name, readings, groups))
        chosen.append(_chosen_table(model.name, readings, judged))
        examples.append(_example(model, complexes, readings, judged))
    tables = {
        "attention_heads": pl.concat(heads),
        "attention_chosen": pl.concat(chosen),
        "attention_example": pl.concat(examples),
        "attention_complexes": complex_table(complexes, groups, partners),
        "attention_cases": case_table(values, complexes, groups),
        "attention_summary": summary_table(values, groups),
        "attention_differences": difference_table(values, groups),
    }
    for name, table in tables.items():
        table.write_parquet(run.table_path(name))
    run.note(device=str(loaded[0].device), computation=loaded[0].path)
    run.finish()
    return run


def _read(
    structures: Path, table: Path | None, whole_antibody: bool, say: Say
) -> tuple[list[Complex], dict[str, object]]:
    """Read the complexes, from an archive in a folder that is gone afterwards."""
    if not structures.exists():
        raise DataError(f"no such folder or archive: {structures}", hint="check --structures")
    if structures.is_dir():
        cases, missing = find_cases(structures, table)
        complexes = _complexes(cases, whole_antibody)
        facts: dict[str, object] = {}
    elif is_archive(structures):
        with tempfile.TemporaryDirectory() as folder:
            unpack(structures, Path(folder))
            cases, missing = find_cases(Path(folder), table)
            complexes = _complexes(cases, whole_antibody)
        facts = {"sha256": file_hash(structures)}
    else:
        raise DataError(
            f"{structures} is neither a folder nor a tar or zip archive",
            hint="give --structures one of these",
        )
    if missing:
        num_listed = len(missing) + len(cases)
        say(f"{len(missing):,} of {num_listed:,} listed complexes have no files: {_some(missing)}")
    for one in complexes:
        for note in one.notes:
            say(f"{one.record.id}: {note}")
    return complexes, {**facts, "without_files": missing}


def _complexes(cases: Sequence[Case], whole_antibody: bool) -> list[Complex]:
    found = []
    with Progress("structures", len(cases), unit="complex") as progress:
        for case in cases:
            found.append(case.read(whole_antibody=whole_antibody))
            progress.advance()
    return found


def _fitting(
    complexes: list[Complex], models: Sequence[LanguageModel], long: LongComplexes, seed: int, say: Say
) -> tuple[list[Complex], list[str]]:
    """Leave out or cut what is over the limit of any model, so that all are judged on the same."""
    over = np.flatnonzero(~np.diag(_fits(complexes, models, seed))).tolist()
    if not over:
        return complexes, []
    names = [complexes[index].record.id for index in over]
    what = f"{len(over):,} of {len(complexes):,} complexes are over the limit of a model: {_some(names)}"
    if long == "error" or (long == "drop" and len(over) == len(complexes)):
        worst = max((complexes[index] for index in over), key=lambda one: len(one.record))
        others = "crop" if long == "drop" else "drop or crop"
        raise DataError(
            f"{what}; the longest, '{worst.record.id}', has {len(worst.record):,} residues",
            hint=f"pass --long {others}, or use models without a limit",
        )
    if long == "drop":
        say(f"{what}; left out")
        return [one for index, one in enumerate(complexes) if index not in over], names
    say(f"{what}; their antigens are cut")
    cut = [crop_antigen(one, _room(complexes, one, models), seed=seed) for one in complexes]
    return [cut[index] if index in over else one for index, one in enumerate(complexes)], []


def _room(complexes: Sequence[Complex], one: Complex, models: Sequence[LanguageModel]) -> int:
    """Give how many residues of an antigen fit beside the longest antibody, so that a control fits too."""
    antibody = max(each.contacts.shape[0] for each in complexes)
    num_chains = max(each.num_antibody_chains for each in complexes) + len(one.antigen)
    return min(
        model.layout.max_tokens - int(model.layout.num_positions(antibody, num_chains))
        for model in models
        if model.layout.max_tokens is not None
    )


def _fits(complexes: Sequence[Complex], models: Sequence[LanguageModel], seed: int) -> np.ndarray:
    """Tell which antibodies, in rows, are short enough to be shown with which antigens, in columns."""
    antibodies = [replace(one.record, chains=one.antibody) for one in complexes]
    antigens = [replace(one.record, chains=one.antigen) for one in complexes]
    shuffled = [
        replace(one.record, chains=with_shuffled_antigen(one, seed=seed)[0].chains[one.num_antibody_chains :])
        for one in complexes
    ]
    chains = [np.array([len(each.chains) for each in some]) for some in (antibodies, antigens)]
    fits = np.ones((len(complexes), len(complexes)), dtype=bool)
    for layout in (model.layout for model in models):
        if layout.max_tokens is not None:
            # sub-words of a shuffled antigen may be more than those of the true one
            columns = np.maximum(record_counts(antigens, layout), record_counts(shuffled, layout))
            tokens = record_counts(antibodies, layout)[:, None] + columns
            fits &= layout.num_positions(tokens, chains[0][:, None] + chains[1]) <= layout.max_tokens
    return fits


def _say_data(
    complexes: Sequence[Complex],
    groups: np.ndarray,
    partners: np.ndarray,
    num_training: int,
    num_splits: int,
    say: Say,
) -> None:
    contacts = sum(int(one.contacts.sum()) for one in complexes)
    say(
        f"{len(complexes):,} complexes of {len(np.unique(groups)):,} groups of alike antigens, {contacts:,} "
        f"residue pairs within {CONTACT_DISTANCE:g} Å"
    )
    if lacking := int((partners < 0).sum()):
        say(f"{lacking:,} antibodies have no antigen of another group to be shown with")
    say(
        f"chosen and fitted on {num_training} complexes or a few more, judged on the others, "
        f"{num_splits} times"
    )


def _chosen_table(name: str, readings: HeadReadings, judged: ModelJudged) -> pl.DataFrame:
    """Give how many splits chose each head, 1-based."""
    rows = [
        {
            "model": name,
            "level": level,
            "layer": head // readings.num_heads + 1,
            "head": head % readings.num_heads + 1,
            "n_splits": count,
        }
        for level, counts in judged.heads.items()
        for head, count in counts.most_common()
    ]
    return pl.DataFrame(rows)


def _example(
    model: LanguageModel, complexes: Sequence[Complex], readings: HeadReadings, judged: ModelJudged
) -> pl.DataFrame:
    """Give the map of the head chosen most often for pairs, on the complex where it does middling."""
    areas = judged.values[BEST_HEAD, TRUE, PAIRS][:, METRICS.index("auroc")]
    order = np.argsort(np.where(np.isnan(areas), np.inf, areas), kind="stable")
    one = complexes[int(order[(np.count_nonzero(~np.isnan(areas)) - 1) // 2])]
    head = judged.heads[PAIRS].most_common(1)[0][0]
    layer, place = divmod(head, readings.num_heads)
    block = attention_block(model, one.record, one.num_antibody_chains)[layer, place]
    rows, columns = (_places(one, of_antibody=each) for each in (True, False))
    table = rows.join(columns, how="cross").with_columns(
        attention=pl.Series(block.ravel()), contact=pl.Series(one.contacts.ravel())
    )
    keys = {"model": model.name, "case": one.record.id, "layer": layer + 1, "head": place + 1}
    return table.select(*(pl.lit(value).alias(name) for name, value in keys.items()), pl.all())


def _places(one: Complex, *, of_antibody: bool) -> pl.DataFrame:
    """Give chain, 1-based position in what was shown, and letter of each residue of a side."""
    side = "antibody" if of_antibody else "antigen"
    shown = slice(None, one.num_antibody_chains) if of_antibody else slice(one.num_antibody_chains, None)
    rows = [
        {f"{side}_chain": name, f"{side}_position": index + 1, f"{side}_residue": letter}
        for name, chain in zip(one.record.chain_names[shown], one.record.chains[shown], strict=True)
        for index, letter in enumerate(chain.residues)
    ]
    return pl.DataFrame(rows)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
