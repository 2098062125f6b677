"""Scores of models of an alignment beside, or instead of, those of language models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protlm.data.alignment import Alignment, read_alignment
from protlm.errors import ConfigError, DataError
from protlm.runs import file_hash
from protlm.scoring.family_models import QUICK, FittedModels, family_models
from protlm.scoring.variants import VariantScores
from protlm.types.variant import Variant

Say = Callable[[str], None]


def split_names(names: Sequence[str], plan: str, *, fill: str | None = None) -> tuple[list[str], list[str]]:
    """Part the names of language models from those of models of an alignment.

    Parameters
    ----------
    names
        As ``--model`` gave them.
    plan
        As ``--plan`` gave it; a model of an alignment there needs no other.
    fill
        As ``--fill`` gave it.

    Raises
    ------
    ConfigError
        If the plan is a model of an alignment, and there are others or a fill.
    """
    known = family_models.names()
    if plan in known and names:
        raise ConfigError(
            f"--plan {plan} is a model of the alignment itself, and --model names {names[0]}",
            hint=f"leave --model out, or pass --model {plan} beside it with a plan of language models",
        )
    if plan in known and fill is not None:
        raise ConfigError(
            f"--fill {fill} goes with masked_marginal, not with {plan}", hint="leave --fill out"
        )
    if plan in known:
        return [], [plan]
    return [name for name in names if name not in known], [name for name in names if name in known]


@dataclass(frozen=True)
class FamilyScorer:
    """The alignment of a family, and which of its models are scores and which stand beside."""

    alignment: Alignment
    path: Path
    members: tuple[str, ...]
    """Those that the user named: they enter the ensemble."""
    fitted: FittedModels

    @classmethod
    def open(
        cls, path: Path | None, wild_type: str, members: Sequence[str], *, say: Say
    ) -> "FamilyScorer | None":
        """Read the alignment, if there is one.

        Parameters
        ----------
        path
            A2M, A3M, aligned FASTA or Stockholm.
        wild_type
            The chain that varies.
        members
            Names in `protlm.scoring.family_models.family_models`.
        say
            Tells the user what was read.

        Raises
        ------
        ConfigError
            If a model is named and there is no alignment.
        DataError
            If the alignment's query is not the wild type.
        """
        if path is None:
            if members:
                raise ConfigError(
                    f"{members[0]} is a model of an alignment, and none is given",
                    hint="pass --alignment FILE",
                )
            return None
        alignment = open_alignment(path, wild_type, say=say)
        return cls(alignment, path, tuple(members), FittedModels(say))

    @property
    def baselines(self) -> tuple[str, ...]:
        """Models that stand beside: the quick ones, where they are not members."""
        return tuple(name for name in QUICK if name not in self.members)

    def scores(self, name: str, variants: Sequence[Variant]) -> VariantScores:
        """Score variants under one model of the alignment.

        Parameters
        ----------
        name
            Of the model.
        variants
            Of the wild type.
        """
        found = self.fitted.scores(name, self.alignment, variants)
        return VariantScores(name, found, np.zeros(len(variants), dtype=np.int64), 0, 0)

    def facts(self) -> dict[str, Any]:
        """Give what the provenance keeps."""
        return {
            "file": self.path.name,
            "sha256": file_hash(self.path),
            "num_rows": len(self.alignment.rows),
            "effective_size": round(self.alignment.effective_size, 3),
            "members": list(self.members),
            "beside": list(self.baselines),
        }


def open_alignment(path: Path, wild_type: str, *, say: Say) -> Alignment:
    """Read an alignment with a column for every residue that the query has in capitals.

    Parameters
    ----------
    path
        The file.
    wild_type
        The chain that varies.
    say
        Told how the query was placed, and what is not covered.

    Raises
    ------
    DataError
        If it cannot be read, or its query is not the wild type; with what can be done from the command line.
    """
    try:
        alignment = read_alignment(path, wild_type=wild_type, min_column_occupancy=0.0)
    except DataError as error:
        place = "" if str(path) in error.message else f"{path}: "
        hint = error.hint or ""
        if "query=" in hint or "max_differences=" in hint:  # which only Python has
            hint = "give an alignment whose first row is this wild type or a part of it, or correct that row"
        elif "min_coverage" in hint:
            hint = "find more sequences of the family"
        raise DataError(f"{place}{error.message}", hint=hint) from None
    say(f"{path.name}: {len(alignment.rows):,} rows, {alignment.effective_size:,.1f} effective sequences")
    for line in alignment.notes:
        say(f"{path.name}: {line}")
    return alignment
