"""Inverse-folding scores beside, or instead of, those of language models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from protlm.data.readers.structure import (
    Structure,
    StructureChain,
    fit_on_chain,
    place_on_chain,
    read_structure,
)
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.models.structure_encoder import StructureEncoder, load_structure_encoder
from protlm.progress import Progress
from protlm.runs import file_hash
from protlm.scoring.inverse_folding import PLANS, InverseFolding, open_inverse_folding
from protlm.scoring.variants import VariantScores
from protlm.types.structure import Backbone
from protlm.types.variant import Variant

Say = Callable[[str], None]


@dataclass(frozen=True)
class StructureInput:
    """What the command line says about a structure."""

    source: str | Path | None = None
    """``FILE`` or ``FILE:CHAIN``."""
    model: str | Path | None = None
    """A folder that ``protlm convert`` made."""
    is_alone: bool = False
    """Whether further chains are left out."""


NO_STRUCTURE = StructureInput()


def split_plans(names: Sequence[str], plan: str, *, fill: str | None = None) -> tuple[list[str], list[str]]:
    """Part inverse-folding plans, which are named as models or as the plan, from the names of other models.

    Parameters
    ----------
    names
        As ``--model`` gave them.
    plan
        As ``--plan`` gave it; one in `PLANS` needs no other model.
    fill
        As ``--fill`` gave it.

    Raises
    ------
    ConfigError
        If the plan is one of them, and there are models or a fill.
    """
    if plan not in PLANS:
        return [name for name in names if name not in PLANS], [name for name in names if name in PLANS]
    if names:
        raise ConfigError(
            f"--plan {plan} takes its model from --structure-model, and --model names {names[0]}",
            hint=f"leave --model out, or pass --model {plan} beside it with a plan of language models",
        )
    if fill is not None:
        raise ConfigError(
            f"--fill {fill} goes with masked_marginal, not with {plan}", hint="leave --fill out"
        )
    return [], [plan]


@dataclass(frozen=True)
class StructureScorer:
    """A structure laid along the wild type, and what scores variants on it."""

    members: tuple[str, ...]
    """Plans that the user named."""
    backbone: Backbone
    path: Path
    model: str
    device: str
    said: tuple[str, ...]
    max_tokens: int | None
    say: Say

    @classmethod
    def open(
        cls,
        given: StructureInput,
        wild_type: str,
        members: Sequence[str],
        *,
        device: str,
        max_tokens: int | None,
        say: Say,
    ) -> "StructureScorer | None":
        """Read structure and model, if they are asked for.

        Parameters
        ----------
        given
            From the command line.
        wild_type
            The chain that varies.
        members
            Plans that the user named.
        device, max_tokens
            Of the model.
        say
            Told how the wild type was placed.

        Raises
        ------
        ConfigError
            If one of plan, structure and model is missing.
        DataError
            If the structure cannot be read or is of another protein.
        """
        if not members:
            if given.source is not None or given.model is not None:
                raise ConfigError(
                    "--structure and --structure-model go with an inverse-folding plan, and none is named",
                    hint=f"pass --plan {PLANS[0]}, or --model {PLANS[0]} beside other models",
                )
            return None
        for value, flag in ((given.source, "--structure FILE"), (given.model, "--structure-model FOLDER")):
            if value is None:
                raise ConfigError(f"{members[0]} needs a structure and a model", hint=f"pass {flag}")
        path, chain_id = _parse(str(given.source))
        backbone, lines = lay_along(read_structure(path), wild_type, chain_id, is_alone=given.is_alone)
        for line in lines:
            say(line)
        model = str(given.model)
        return cls(tuple(members), backbone, path, model, device, tuple(lines), max_tokens, say)

    @cached_property
    def encoder(self) -> StructureEncoder:
        """The model, loaded when all of the input was read."""
        return load_structure_encoder(self.model, device=self.device)

    def scores(self, name: str, variants: Sequence[Variant]) -> VariantScores:
        """Score variants under one plan; the backbone is encoded once.

        Parameters
        ----------
        name
            Of the plan.
        variants
            Of the wild type.

        Raises
        ------
        DataError
            If one has insertions or deletions.
        """
        if indels := sum(variant.is_indel for variant in variants):
            raise DataError(
                f"{indels:,} of {len(variants):,} variants have insertions or deletions, and a backbone has "
                "one place for each residue",
                hint="leave them out, or score them with a language model",
            )
        folding = open_inverse_folding(self.encoder, self.backbone, name, max_tokens=self.max_tokens)
        self._tell_unresolved(folding, variants)
        with Progress(name, len(variants), unit="variant") as progress:
            found = folding.scores(variants, on_batch=lambda done: progress.advance(units=done))
        return VariantScores(name, found, np.zeros(len(variants), dtype=np.int64), len(variants), 0)

    def _tell_unresolved(self, folding: InverseFolding, variants: Sequence[Variant]) -> None:
        count = sum(not all(folding.is_resolved[each.index] for each in one.mutations) for one in variants)
        if count:
            what = "are scored by what is around" if folding.scores_unresolved else "get no score"
            self.say(
                f"{count:,} of {len(variants):,} variants mutate a residue that is not resolved: they {what}"
            )

    def facts(self) -> dict[str, Any]:
        """Give what the provenance keeps."""
        return {
            "file": self.path.name,
            "sha256": file_hash(self.path),
            "chains": list(self.backbone.chain_ids),
            "model": self.encoder.name,
            "model_digest": self.encoder.identity,
            "plans": list(self.members),
            "notes": list(self.said),
        }


def _parse(text: str) -> tuple[Path, str | None]:
    """Read ``FILE[:CHAIN]``; what is the name of a file as a whole is that file."""
    path, colon, chain = text.rpartition(":")
    if Path(text).exists() or not colon:
        return Path(text), None
    return Path(path), chain


def lay_along(
    structure: Structure, wild_type: str, chain_id: str | None = None, *, is_alone: bool = False
) -> tuple[Backbone, list[str]]:
    """Give the backbone of a wild type, residue by residue, with the other chains behind it.

    Its letters are those of the wild type. Residues without a counterpart in the chain have no coordinates;
    residues of the chain without one in the wild type are left out.

    Parameters
    ----------
    structure
        From `read_structure`.
    wild_type
        The chain that varies.
    chain_id
        The author's; the chain that fits best if `None`.
    is_alone
        Whether further chains are left out.

    Returns
    -------
    backbone, lines
        And what was done, to be said.

    Raises
    ------
    DataError
        If there is no such chain, or it is of another protein.
    """
    chain = _chosen(structure, wild_type, chain_id)
    places = place_on_chain(chain, wild_type)
    others = [] if is_alone else [each for each in structure.chains if each is not chain]
    has_place = places >= 0
    coordinates = np.full((len(wild_type), 4, 3), np.nan, dtype=np.float32)
    coordinates[has_place] = chain.backbone[places[has_place]]
    ids = [chain.residue_ids[place] if place >= 0 else "" for place in places]
    sizes = [len(wild_type), *(len(each) for each in others)]
    backbone = Backbone(
        structure.name,
        wild_type + "".join(each.residues for each in others),
        np.concatenate([coordinates, *(each.backbone for each in others)]),
        np.repeat(np.arange(len(sizes)), sizes),
        (chain.chain_id, *(each.chain_id for each in others)),
        (*ids, *(name for each in others for name in each.residue_ids)),
    )
    return backbone, _lines(structure, chain, wild_type, places, backbone)


def _chosen(structure: Structure, wild_type: str, chain_id: str | None) -> StructureChain:
    if chain_id is None:
        return max(structure.chains, key=lambda each: fit_on_chain(each, wild_type).num_equal)
    for chain in structure.chains:
        if chain.chain_id == chain_id:
            return chain
    raise DataError(
        f"structure '{structure.name}' has no protein chain '{chain_id}'",
        hint=did_you_mean(chain_id, [each.chain_id for each in structure.chains]),
    )


def _lines(
    structure: Structure, chain: StructureChain, wild_type: str, places: np.ndarray, backbone: Backbone
) -> list[str]:
    """Say how many residues have a place, coordinates and the same letter."""
    has_place = places >= 0
    other = [
        index for index in np.flatnonzero(has_place) if chain.residues[places[index]] != wild_type[index]
    ]
    resolved = int(backbone.is_resolved[: len(wild_type)].sum())
    left_out = len(chain) - int(has_place.sum())
    of = f"{structure.name}, chain '{chain.chain_id}'"
    placed = (
        f"{of}: {int(has_place.sum()):,} of {len(wild_type):,} residues of the wild type have a place in it, "
        f"{resolved:,} are resolved; its other {left_out:,} residues are left out"
    )
    lines = [placed]
    if other:
        index = int(other[0])
        shown = f"{wild_type[index]} for {chain.residues[places[index]]} at position {index + 1}"
        lines.append(f"{of}: letters of the wild type are taken where they differ: {len(other):,} ({shown})")
    if len(backbone.chain_ids) > 1:
        lines.append(f"{of}: further chains are context: {', '.join(backbone.chain_ids[1:])}")
    return lines + [f"{structure.name}: {note}" for note in structure.notes]
