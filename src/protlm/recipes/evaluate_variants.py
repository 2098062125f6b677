"""evaluate variants: a folder of deep mutational scans to a ProteinGym-style table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import yaml

from protlm.data.readers.assay_reference import AssayFacts, find_assays, read_reference
from protlm.data.readers.assays import Assay, check_spread, read_assay
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.evaluation.variant_averages import average_assays, bootstrap_averages, missing_cells
from protlm.evaluation.variants import ALL, COVERED, METRICS, assay_rows
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.members import find_ensemble
from protlm.models.residue_level import require_residue_level
from protlm.recipes.evaluated import Say, known_leakage, load_models
from protlm.recipes.score_family import open_alignment, split_names
from protlm.recipes.score_run import run_plan
from protlm.recipes.table_parts import discard
from protlm.runs import Run
from protlm.scoring.ensembles import Way, check_way, combine
from protlm.scoring.family_models import QUICK, SITES, FittedModels
from protlm.scoring.plans import make_plan
from protlm.scoring.site_independent import BLOSUM62
from protlm.scoring.windows import LengthPolicy, Long
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record

BLOSUM = "blosum62"
BASELINES = (BLOSUM, *QUICK)


def evaluate_variants(
    models: Sequence[str],
    folder: Path | str,
    out: Path | str,
    *,
    reference: Path | str | None = None,
    assays: Sequence[str] = (),
    alignments: Mapping[str, Path] | None = None,
    plan: str = "masked_marginal",
    fill: str | None = None,
    long: Long = "error",
    window: int | None = None,
    ensemble: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    invalid: Literal["error", "drop"] = "error",
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    is_agreed: bool = False,
    force: bool = False,
    say: Say = print,
) -> Run:
    """Score every assay of a folder and average as ProteinGym does, beside baselines.

    Baselines: the sum of BLOSUM62 scores of the substitutions, for every assay; the site-independent models
    of an alignment, where one is given.

    Parameters
    ----------
    models
        Runs, folders or names; a name that stands for several, such as a folder that ``pretrain --seeds``
        made, is its members and an ensemble of them.
    folder
        Assays, and the reference table unless `reference` is given.
    out
        The Run folder. Tables ``assays`` (metrics by assay, model, subset and mutation depth), ``averages``,
        ``intervals`` and ``missing``; scores by assay in ``scores``.
    reference
        ProteinGym's table of assays, or one with the same facts.
    assays
        Only these, by id; all by default.
    alignments
        A file by assay id.
    plan, fill, long, window
        As for `protlm.recipes.score.score_file`.
    ensemble
        How ensembles are made, a name in `protlm.scoring.ensembles.WAYS` (``"mean"`` where not said). If it
        is said and no name stands for several, all the models are one ensemble.
    sample
        At most this many variants of an assay, drawn in proportion to their numbers of mutations.
    seed
        Of the sample.
    invalid
        Variants that do not fit: stop, or leave out and count.
    device, precision, max_tokens
        Of the models.
    is_agreed
        Whether an assay may take over an hour.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If the folder or an assay is wrong.
    """
    names, of_family = split_names(models, plan, fill=fill)
    if plan not in of_family:
        make_plan(plan, fill=fill)
    length = LengthPolicy(long, window)
    found, _ = find_assays(folder, None if reference is None else read_reference(reference))
    for name, reason in found.left_out.items():
        say(f"left out: {name} ({reason})")
    if found.absent:
        say(f"{len(found.absent):,} assays of the reference have no file here (first: {found.absent[0]})")
    wanted = _wanted(found.assays, assays)
    alignments = alignments or {}
    _check_alignments(alignments, wanted, of_family)
    together = _ensembles([*names, *of_family], ensemble)
    loaded = load_models(names, device, precision, members=True)
    for model in loaded:
        require_residue_level(model, "evaluate variants")
    if taken := {each.name for each in together} & {model.name for model in loaded}:
        raise ConfigError(
            f"a model is called '{taken.pop()}', as an ensemble is",
            hint="rename its folder; tables go by name",
        )
    run = Run.create(out, verb="evaluate", force=force)
    settings = {
        "kind": "variants",
        "models": list(models),
        "folder": str(folder),
        "plan": plan,
        "fill": fill,
        **length.facts(),
        "ensemble": ensemble,
        "sample": sample,
        "seed": seed,
        "precision": precision,
        "alignments": {name: str(path) for name, path in alignments.items()},
    }
    run.write_config(yaml.safe_dump(settings, sort_keys=False))
    scorers = _Scorers(
        loaded,
        plan,
        fill,
        length,
        tuple(of_family),
        alignments,
        together,
        max_tokens,
        is_agreed,
        run.checkpoints_path,
        say,
        FittedModels(say),
    )
    rows, wild_types = [], []
    for number, (path, facts) in enumerate(wanted, start=1):
        assay = read_assay(path, facts, invalid=invalid)
        check_spread(assay, path)
        assay = assay if sample is None else thin(assay, sample, seed=seed)
        say(f"assay {number} of {len(wanted)}: {assay.facts.id}, {len(assay.variants):,} variants")
        for line in assay.report.lines():
            say(f"  {line}")
        wild_types.append(Record(assay.facts.id, (Chain(assay.facts.wild_type),)))
        scores = scorers.scores(assay)
        _write_scores(run, assay, scores)
        covered = np.isfinite(scores[SITES]) if SITES in scores else None
        rows.append(assay_rows(assay, scores, covered=covered, missing="skip"))
    table = pl.concat(rows)
    _write_tables(run, table)
    if run.checkpoints_path.exists():
        discard(run.checkpoints_path)
    facts = {
        "assays": len(wanted),
        "left_out": found.left_out,
        "leakage": known_leakage(names, wild_types, say),
    }
    run.write_json("data_manifest.json", facts)
    run.note(device=str(loaded[0].device) if loaded else "", computation=loaded[0].path if loaded else "")
    run.finish()
    return run


def _check_alignments(
    alignments: Mapping[str, Path],
    wanted: Sequence[tuple[Path, AssayFacts | None]],
    of_family: Sequence[str],
) -> None:
    names = [_name(path, facts) for path, facts in wanted]
    if unknown := sorted(set(alignments) - set(names)):
        raise ConfigError(
            f"--alignment {unknown[0]}: there is no such assay", hint=did_you_mean(unknown[0], names)
        )
    without = [name for name in names if name not in alignments]
    if of_family and without:
        raise ConfigError(
            f"{of_family[0]} is a model of an alignment, and {len(without):,} of {len(names):,} assays have "
            f"none (first: {without[0]})",
            hint=f"pass --alignment {without[0]}=FILE, or choose assays with --assay",
        )


@dataclass(frozen=True)
class _Scorers:
    """All that scores the variants of an assay."""

    models: Sequence[LanguageModel]
    plan: str
    fill: str | None
    length: LengthPolicy
    of_family: tuple[str, ...]
    """Models of an alignment that were named."""
    alignments: Mapping[str, Path]
    together: Sequence["_Ensemble"]
    max_tokens: int | None
    is_agreed: bool
    folder: Path
    """Where finished scores are kept until all are done."""
    say: Say
    fitted: FittedModels

    def scores(self, assay: Assay) -> dict[str, np.ndarray]:
        """Score under every model, ensemble and baseline, by name, in this order."""
        of_alignment = self._of_alignment(assay)  # first: a wrong alignment should not cost a long run
        scores = {model.name: self._under(model, assay) for model in self.models}
        scores |= {name: of_alignment[name] for name in self.of_family}
        for each in self.together:
            scores[each.name] = _combined(each, scores, self.say)
        return {**scores, BLOSUM: blosum62_scores(assay), **of_alignment}

    def _under(self, model: LanguageModel, assay: Assay) -> np.ndarray:
        return run_plan(
            model,
            make_plan(self.plan, fill=self.fill),
            self.plan if self.fill is None else f"{self.plan} with fill {self.fill}",
            Record(assay.facts.id, (Chain(assay.facts.wild_type),)),
            assay.variants,
            length=self.length,
            max_tokens=self.max_tokens,
            folder=self.folder / assay.facts.id,
            keeps_all=True,
            is_agreed=self.is_agreed,
            say=self.say,
        ).scores

    def _of_alignment(self, assay: Assay) -> dict[str, np.ndarray]:
        """Score by the models of the assay's alignment: those named, and those that stand beside."""
        path = self.alignments.get(assay.facts.id)
        if path is None:
            return {}
        alignment = open_alignment(path, assay.facts.wild_type, say=lambda line: self.say(f"  {line}"))
        names = [*self.of_family, *(name for name in QUICK if name not in self.of_family)]
        return {name: self.fitted.scores(name, alignment, assay.variants) for name in names}


@dataclass(frozen=True)
class _Ensemble:
    """A column that is made of others."""

    name: str
    way: Way
    members: tuple[str, ...] | None
    """Columns; `None` is all models."""


def _ensembles(models: Sequence[str], way: str | None) -> list[_Ensemble]:
    """Give one ensemble for each name that stands for several models, or the one of all models."""
    checked = check_way(way or "mean")
    families = [family for family in map(find_ensemble, models) if family is not None]
    found = [
        _Ensemble(f"{family.name}-{checked}", checked, family.shown)
        for family in families
        if len(family.members) > 1
    ]
    if way is not None and not found:
        if len(models) < 2:
            raise ConfigError(
                f"--ensemble {way} puts several models together, and there is "
                + ("one" if models else "none"),
                hint="repeat --model, or name a folder that pretrain --seeds made, or esm1v",
            )
        found = [_Ensemble(f"ensemble-{checked}", checked, None)]
    return found


def _combined(ensemble: _Ensemble, scores: Mapping[str, np.ndarray], say: Say) -> np.ndarray:
    members = ensemble.members or tuple(scores)
    combined = combine([scores[name] for name in members], ensemble.way, names=members)
    for note in combined.notes:
        say(f"  {ensemble.name}: {note}")
    return combined.scores


def thin(assay: Assay, size: int, *, seed: int = 0) -> Assay:
    """Draw variants without replacement, each number of mutations in proportion to its share.

    Parameters
    ----------
    assay
        Any.
    size
        At most this many.
    seed
        Of the draw.
    """
    if len(assay.variants) <= size:
        return assay
    shuffled = np.random.default_rng(seed).permutation(len(assay.variants))
    in_order = shuffled[np.argsort(assay.depths[shuffled], kind="stable")]
    places = np.floor((np.arange(size) + 0.5) * len(in_order) / size).astype(int)
    kept = np.sort(in_order[places])
    return replace(
        assay,
        mutants=[assay.mutants[row] for row in kept],
        variants=[assay.variants[row] for row in kept],
        values=assay.values[kept],
        is_fit=assay.is_fit[kept],
    )


def blosum62_scores(assay: Assay) -> np.ndarray:
    """Sum the change of the BLOSUM62 score over the substitutions of each variant, float64 ``[n]``.

    Parameters
    ----------
    assay
        What to score.
    """
    letters = {letter: place for place, letter in enumerate(STANDARD)}
    change = BLOSUM62 - np.diag(BLOSUM62)[:, None]
    sums = [
        sum(float(change[letters[each.wild_type], letters[each.mutant]]) for each in variant.mutations)
        for variant in assay.variants
    ]
    return np.array(sums)


def _wanted(
    found: Sequence[tuple[Path, AssayFacts | None]], names: Sequence[str]
) -> list[tuple[Path, AssayFacts | None]]:
    known = [_name(path, facts) for path, facts in found]
    for name in names:
        if name not in known:
            raise DataError(f"there is no assay '{name}'", hint=did_you_mean(name, known))
    return [each for each, name in zip(found, known, strict=True) if not names or name in names]


def _name(path: Path, facts: AssayFacts | None) -> str:
    return path.name.split(".")[0] if facts is None else facts.id


def _write_scores(run: Run, assay: Assay, scores: Mapping[str, np.ndarray]) -> None:
    columns = {"mutant": assay.mutants, "value": assay.values, "is_fit": assay.is_fit, **scores}
    folder = run.path / "scores"
    folder.mkdir(exist_ok=True)
    pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None)).write_parquet(
        folder / f"{assay.facts.id}.parquet"
    )


def _write_tables(run: Run, table: pl.DataFrame) -> None:
    intervals = [
        bootstrap_averages(table, metric, subset=subset).select(
            pl.lit(subset).alias("subset"), pl.lit(metric).alias("metric"), pl.all()
        )
        for subset in (ALL, COVERED)
        if subset in table["subset"]
        for metric in METRICS
    ]
    tables = {
        "assays": table,
        "averages": average_assays(table),
        "intervals": pl.concat(intervals),
        "missing": missing_cells(table),
    }
    for name, frame in tables.items():
        frame.write_parquet(run.table_path(name))
