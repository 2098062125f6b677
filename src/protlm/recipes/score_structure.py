"""Inverse-folding scores beside, or instead of, those of language models."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.backbones import backbone_digest
from protlm.data.readers.structure import read_structure
from protlm.errors import ConfigError, DataError
from protlm.models.structure_encoder import StructureEncoder, load_structure_encoder
from protlm.progress import Progress
from protlm.recipes.laid_backbone import lay_along
from protlm.recipes.score_run import run_chunks
from protlm.recipes.table_parts import TableParts
from protlm.runs import file_hash
from protlm.scoring.inverse_folding import ORDERED, PLANS, InverseFolding, open_inverse_folding
from protlm.scoring.variants import VariantScores
from protlm.types.structure import Backbone
from protlm.types.variant import Variant

Say = Callable[[str], None]

_CHUNK = 512
"""Variants of a chunk, which is scored and kept as a whole."""


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

    def scores(self, name: str, variants: Sequence[Variant], *, folder: Path | None = None) -> VariantScores:
        """Score variants under one plan; the backbone is encoded once.

        Parameters
        ----------
        name
            Of the plan.
        variants
            Of the wild type.
        folder
            Where finished chunks are kept, if there are several.

        Raises
        ------
        DataError
            If one has insertions or deletions.
        Interrupted
            On Ctrl-C, where finished chunks are kept.
        """
        if indels := sum(variant.is_indel for variant in variants):
            raise DataError(
                f"{indels:,} of {len(variants):,} variants have insertions or deletions, and a backbone has "
                "one place for each residue",
                hint="leave them out, or score them with a language model",
            )
        folding = open_inverse_folding(self.encoder, self.backbone, name, max_tokens=self.max_tokens)
        self._tell_unresolved(folding, variants)
        rows = _cut(variants) if name == ORDERED else [np.arange(len(variants))]
        kept = None
        if folder is not None and len(rows) > 1:
            kept = TableParts(folder / self._digest(name, variants))
        done = sum(len(own) for number, own in enumerate(rows) if kept is not None and kept.has(number))
        if done:
            self.say(f"{name}: resuming after {done:,} of {len(variants):,} variants")
        with Progress(name, len(variants), unit="variant", start=done) as progress:

            def run(chunk: Sequence[Variant]) -> pl.DataFrame:
                found = folding.scores(chunk, on_batch=lambda done: progress.advance(units=done))
                return pl.DataFrame({"score": found})

            chunks = [[variants[row] for row in own.tolist()] for own in rows]
            parts = [part["score"].to_numpy() for part in run_chunks(run, chunks, kept)]
        scores = np.empty(len(variants))
        scores[np.concatenate(rows)] = np.concatenate(parts)
        return VariantScores(name, scores, np.zeros(len(variants), dtype=np.int64), len(variants), 0)

    def _digest(self, name: str, variants: Sequence[Variant]) -> str:
        """Name all that chunks of scores depend on."""
        facts = [name, self.encoder.identity, backbone_digest(self.backbone)]
        digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=12)
        for variant in variants:
            digest.update(f"{variant.label()};".encode())
        return digest.hexdigest()

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


def _cut(variants: Sequence[Variant]) -> list[np.ndarray]:
    """Cut into chunks of like first mutated sites, the last ones first, by which letters are shared."""
    firsts = [min((each.index for each in variant.mutations), default=0) for variant in variants]
    order = np.argsort(-np.array(firsts, dtype=np.int64), kind="stable")
    return np.split(order, np.arange(_CHUNK, len(order), _CHUNK))


def _parse(text: str) -> tuple[Path, str | None]:
    """Read ``FILE[:CHAIN]``; what is the name of a file as a whole is that file."""
    path, colon, chain = text.rpartition(":")
    if Path(text).exists() or not colon:
        return Path(text), None
    return Path(path), chain
