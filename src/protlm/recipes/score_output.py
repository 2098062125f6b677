"""What `score` writes: the table, and how its scores were made."""

import importlib.metadata
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from protlm.models.language_model import LanguageModel
from protlm.recipes.score_family import FamilyScorer
from protlm.recipes.score_structure import StructureScorer
from protlm.scoring.variants import VariantScores
from protlm.scoring.wild_type import WildType
from protlm.scoring.windows import LengthPolicy


def write_scores(frame: pl.DataFrame, out: Path, provenance: dict[str, Any]) -> None:
    """Write a score table with its provenance, whole or not at all.

    Parameters
    ----------
    frame
        From `score_table`.
    out
        ``.parquet`` holds the provenance in its metadata; ``.csv`` and ``.tsv`` get
        ``FILE.meta.json`` beside them.
    provenance
        Plain values.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    if out.suffix == ".parquet":
        arrow = frame.to_arrow()
        metadata = {**(arrow.schema.metadata or {}), b"protlm": json.dumps(provenance).encode()}
        pq.write_table(arrow.replace_schema_metadata(metadata), part)
    else:
        blank = frame.with_columns(pl.col("note").replace("", None))  # written as nothing, not as ""
        blank.write_csv(part, separator="\t" if out.suffix == ".tsv" else ",")
        Path(f"{out}.meta.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    part.replace(out)


def provenance(
    models: Sequence[LanguageModel],
    results: Sequence[VariantScores],
    wild_type: WildType,
    *,
    plan: str,
    fill: str | None,
    length: LengthPolicy,
    ensemble: str | None = None,
    offset: int,
    precision: str,
    mutant_column: str = "mutant",
    family: FamilyScorer | None = None,
    structure: StructureScorer | None = None,
) -> dict[str, Any]:
    """Describe how scores were made.

    Parameters
    ----------
    models, results
        What ran and what it gave.
    wild_type, plan, fill, length, ensemble, offset, precision
        As asked for.
    mutant_column
        Which column of the result has the variants.
    family
        Models of an alignment.
    structure
        Inverse-folding plans.
    """
    num_members = len(models) + sum(len(each.members) for each in (family, structure) if each is not None)
    return {
        "format_version": 1,
        "verb": "score",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": plan,
        "fill": fill or ("wildtype" if plan == "masked_marginal" else None),
        **length.facts(),
        "offset": offset,
        "mutant_column": mutant_column,
        "precision": precision,
        "wild_type": {
            "id": wild_type.record.id,
            "residues": wild_type.residues,
            "chain": wild_type.record.chain_names[wild_type.chain],
            "context": [
                each.residues
                for place, each in enumerate(wild_type.record.chains)
                if place != wild_type.chain
            ],
        },
        "models": [
            {
                "name": model.name,
                "parameters": model.num_parameters,
                "revision": getattr(model.module.config, "_commit_hash", None),
                "cut_to": result.cut_to,
                "num_contexts": result.num_contexts,
                "num_masked_contexts": result.num_masked_contexts,
            }
            for model, result in zip(models, results, strict=True)
        ],
        "alignment": None if family is None else family.facts(),
        "structure": None if structure is None else structure.facts(),
        "ensemble": (ensemble or "mean") if num_members > 1 else None,
        "versions": {name: _version(name) for name in ("protlm", "torch", "transformers")},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return None
