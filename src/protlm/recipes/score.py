"""score: variants of a wild type to a table of zero-shot scores."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from protlm.data.readers import ReadReport
from protlm.models.default import default_model
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_members
from protlm.models.members import expand
from protlm.recipes.outputs import claim_file
from protlm.recipes.score_family import FamilyScorer, split_names
from protlm.recipes.score_output import provenance, write_scores
from protlm.recipes.score_structure import NO_STRUCTURE, StructureInput, StructureScorer, split_plans
from protlm.recipes.score_table import check_ensemble, score_table
from protlm.recipes.table_parts import discard
from protlm.scoring.inputs import VariantTable, read_variants
from protlm.scoring.inverse_folding import PLANS
from protlm.scoring.libraries import combinations, single_substitutions
from protlm.scoring.plans import make_plan, plans
from protlm.scoring.wild_type import WildType, read_wild_type
from protlm.scoring.windows import LengthPolicy, Long
from protlm.types.record import Record
from protlm.types.variant import parse_variant

Say = Callable[[str], None]

SUFFIXES = (".csv", ".tsv", ".parquet")
"""Of files that scores are written to."""


def score_file(
    models: Sequence[str],
    wild_type: str,
    out: Path,
    *,
    chain: str | None = None,
    variants: Path | None = None,
    sites: str | None = None,
    library: str | None = None,
    plan: str = "masked_marginal",
    fill: str | None = None,
    long: Long = "error",
    window: int | None = None,
    ensemble: str | None = None,
    alignment: Path | None = None,
    structure: StructureInput = NO_STRUCTURE,
    offset: int = 0,
    mutant_column: str | None = None,
    invalid: Literal["error", "drop"] = "error",
    gaps: Literal["error", "remove"] = "error",
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    is_agreed: bool = False,
    force: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Score a file of variants, or all single substitutions, and write the table with its provenance.

    Everything that can be wrong with the input and the place is found before a model is loaded.

    Parameters
    ----------
    models
        Names or folders; several make an ensemble, and so does one that stands for several. Names in
        `protlm.scoring.family_models.family_models` are models of `alignment`. None takes the packaged
        antibody model.
    wild_type
        A file with one record, a sequence, or a FASTA file with the chains of a complex.
    chain
        Which chain varies; see `protlm.scoring.wild_type.read_wild_type`.
    out
        ``.csv``, ``.tsv`` or ``.parquet``.
    variants
        A CSV, TSV, Parquet or FASTA file; `None` for all single substitutions.
    sites
        Only the single substitutions at these positions, as in ``24-30,45:AVL``.
    library
        All combinations of letters at these positions.
    plan
        A name in the registry `protlm.scoring.plans.plans`, or ``"package.module:Name"``; or a model of the
        alignment, which needs no language model.
    fill
        What stands at the other mutated sites under ``masked_marginal``: ``"wildtype"`` (default),
        ``"joint"`` or ``"mutant"``.
    long
        What is done with a chain that a model does not take: ``"error"``, ``"window"`` (a piece around each
        residue that is read) or ``"tile"`` (fixed overlapping pieces).
    window
        Residues of a piece; what the model takes if `None`.
    ensemble
        How the scores of several models become one, a name in `protlm.scoring.ensembles.WAYS`; ``"mean"`` by
        default.
    alignment
        Of the wild type's family; its site-independent models then stand beside the scores.
    structure
        For inverse-folding plans, which may be the plan or named as models.
    offset
        Subtracted from each printed position.
    mutant_column
        Column with the variants, where it has no usual name.
    invalid
        Wrong rows: stop, or leave them without a score.
    gaps
        What to do with ``-`` and ``.`` in the wild type.
    device, precision
        Of the models.
    max_tokens
        Token budget of a batch; by the device if `None`.
    is_agreed
        Whether a job of over an hour may start.
    force
        Replace a table that is there.
    say
        Tells the user what happens.

    Returns
    -------
    polars.DataFrame
        What was written; see `score_table`.
    """
    claim_file(out, SUFFIXES, force=force)
    plan = plan_name(plan)
    models, of_structure = split_plans([plan_name(each) for each in models], plan, fill=fill)
    models, of_family = split_names(models, plan, fill=fill)
    if plan not in (*of_family, *of_structure):
        make_plan(plan, fill=fill)
    length = LengthPolicy(long, window)
    check_ensemble(ensemble, len(expand(models)) + len(of_family) + len(of_structure))
    reading = ReadReport()
    reference = read_wild_type(wild_type, chain=chain, gaps=gaps, report=reading)
    for line in [reference.describe(), *reading.lines()]:
        say(line)
    family = FamilyScorer.open(alignment, reference.residues, of_family, say=say)
    scorer = StructureScorer.open(
        structure, reference.residues, of_structure, device=device, max_tokens=max_tokens, say=say
    )
    if not (models or of_family or of_structure):
        models = [default_model([reference.record], say=say)]
    if library is not None:
        table = combinations(reference, library, offset=offset)
    elif variants is None:
        table = single_substitutions(reference, sites=sites, offset=offset)
    else:
        table = read_variants(
            variants,
            reference,
            column=mutant_column,
            offset=offset,
            invalid=invalid,
            gaps=gaps,
            as_text=out.suffix != ".parquet",
        )
    for line in table.said:
        say(line)
    for old, new in table.renamed.items():
        say(f"input column '{old}' is written as '{new}'")
    without = sum(variant is None for variant in table.variants)
    if without:
        say(f"{without:,} of {len(table.variants):,} rows get no score; the column note says why")
    loaded = load_members(models, device=device, precision=precision)
    folder = out.with_name(out.name + ".parts")
    frame, results = score_table(
        loaded,
        table,
        reference,
        plan=plan,
        fill=fill,
        length=length,
        ensemble=ensemble,
        family=family,
        structure=scorer,
        max_tokens=max_tokens,
        folder=folder,
        is_agreed=is_agreed,
        say=say,
    )
    facts = provenance(
        loaded,
        results,
        reference,
        plan=plan,
        fill=fill,
        length=length,
        ensemble=ensemble,
        offset=offset,
        precision=precision,
        mutant_column=table.column,
        family=family,
        structure=scorer,
    )
    write_scores(frame, out, facts)
    if folder.exists():
        discard(folder)
    return frame


def plan_name(name: str) -> str:
    """Give the name of a plan that was written with hyphens.

    Parameters
    ----------
    name
        As typed.
    """
    plain = name.replace("-", "_")
    return plain if plain in (*plans.names(), *PLANS) else name


def score(
    model: str | LanguageModel | Sequence[str | LanguageModel] | None,
    wild_type: str | Record,
    variants: Path | str | Sequence[str] | None = None,
    *,
    chain: str | None = None,
    plan: str = "masked_marginal",
    fill: str | None = None,
    long: Long = "error",
    window: int | None = None,
    ensemble: str | None = None,
    alignment: Path | str | None = None,
    structure: Path | str | None = None,
    structure_model: Path | str | None = None,
    offset: int = 0,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
) -> pl.DataFrame:
    """Score variants without any assay data; higher means fitter.

    Parameters
    ----------
    model
        A name, a folder, a loaded model, or several for an ensemble; a name may stand for several, as
        ``"esm1v"`` does. `None` takes the packaged antibody model, ``protlm-ab-mini``.
    wild_type
        A file, a sequence, or a record.
    variants
        A file, a list such as ``["A42G", "A42G:K50R"]``, or `None` for all single substitutions.
    chain
        Which chain varies, such as ``"light"``; the first by default.
    plan
        ``"masked_marginal"`` (default), ``"wildtype_marginal"``, ``"mutant_marginal"``,
        ``"pseudo_log_likelihood"`` or ``"one_fell_swoop"``.
    fill
        What stands at the other mutated sites under ``masked_marginal``: ``"wildtype"`` (default),
        ``"joint"`` or ``"mutant"``.
    long
        What is done with a chain that a model does not take: ``"error"``, ``"window"`` (a piece around each
        residue that is read) or ``"tile"`` (fixed overlapping pieces).
    window
        Residues of a piece; what the model takes if `None`.
    ensemble
        How the scores of several models become one: ``"mean"`` (default), ``"z"`` or ``"rank"``.
    alignment
        A file with the family of the wild type. Its site-independent models then stand beside; ``"potts"``,
        ``"site_independent"`` and ``"site_independent_blosum62"`` are models, or the plan, too.
    structure, structure_model
        ``FILE`` or ``FILE:CHAIN``, and a folder that ``protlm convert`` made of ESM-IF1 or ProteinMPNN, for
        ``"inverse_folding"`` and ``"inverse_folding_marginal"``, which are models, or the plan, too.
    offset
        Subtracted from each printed position.
    device, precision
        For models given by name.
    max_tokens
        Token budget of a batch; by the device if `None`.

    Returns
    -------
    polars.DataFrame
        Input columns, then ``score``, ``score_<model>``, ``num_masked_contexts``, ``note``.
    """
    if isinstance(wild_type, Record):
        reference = WildType.of(wild_type, chain)
    else:
        reference = read_wild_type(wild_type, chain=chain)
    several = [model] if isinstance(model, str | LanguageModel) else list(model or [])
    given = [each for each in several if isinstance(each, LanguageModel)]
    plan = plan_name(plan)
    for split in (split_names, split_plans):
        split([each.name for each in given], plan)  # refuses a plan that takes no language model
    named = [plan_name(each) for each in several if isinstance(each, str)]
    names, of_structure = split_plans(named, plan, fill=fill)
    names, of_family = split_names(names, plan, fill=fill)
    if not (given or names or of_family or of_structure):
        names = [default_model([reference.record], say=_silent)]
    loaded = [*given, *load_members(names, device=device, precision=precision)]
    path = None if alignment is None else Path(alignment)
    family = FamilyScorer.open(path, reference.residues, of_family, say=_silent)
    scorer = StructureScorer.open(
        StructureInput(structure, structure_model),
        reference.residues,
        of_structure,
        device=device,
        max_tokens=max_tokens,
        say=_silent,
    )
    if variants is None:
        table = single_substitutions(reference, offset=offset)
    elif isinstance(variants, str | Path):
        table = read_variants(variants, reference, offset=offset)
    else:
        parsed = [parse_variant(text, reference.residues, offset=offset) for text in variants]
        notes = ["" if variant.mutations else "wild type" for variant in parsed]
        table = VariantTable(pl.DataFrame({"mutant": list(variants)}), list(parsed), notes)
    length = LengthPolicy(long, window)
    return score_table(
        loaded,
        table,
        reference,
        plan=plan,
        fill=fill,
        length=length,
        ensemble=ensemble,
        family=family,
        structure=scorer,
        max_tokens=max_tokens,
    )[0]


def _silent(_: str) -> None:
    """Say nothing: who calls from Python reads the table."""
