"""Run a plan over any number of variants: said beforehand what it costs, resumed where it stopped."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from protlm.errors import ConfigError, Interrupted
from protlm.models.digest import model_digest
from protlm.models.language_model import LanguageModel
from protlm.progress import Progress, duration
from protlm.recipes.table_parts import TableParts
from protlm.scoring.chunks import cut
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.engine import run_contexts
from protlm.scoring.plans import Plan, Terms
from protlm.scoring.variants import WHOLE, VariantScores, plan_contexts, windows_of
from protlm.scoring.windows import LengthPolicy, Windows, tile_starts
from protlm.types.record import Record
from protlm.types.variant import Variant

Say = Callable[[str], None]

ASK_ABOVE = 3600.0
"""Seconds above which a job must be asked for with ``--yes``."""
_WORTH_A_PROBE = 200
"""Batches above which the time is estimated before the start."""


def run_plan(
    model: LanguageModel,
    plan: Plan,
    name: str,
    wild_type: Record,
    variants: Sequence[Variant],
    *,
    chain: int = 0,
    length: LengthPolicy = WHOLE,
    max_tokens: int | None = None,
    folder: Path | None = None,
    keeps_all: bool = False,
    is_agreed: bool = True,
    say: Say,
) -> VariantScores:
    """Score variants under one model, chunk by chunk.

    Parameters
    ----------
    model, plan, wild_type, variants, chain, length
        As for `protlm.scoring.variants.score_variants`.
    name
        Of the plan, for messages.
    max_tokens
        Token budget of a batch; by the device if `None`.
    folder
        Where finished chunks are kept until all are done; nowhere if `None`.
    keeps_all
        Whether the scores of a plan of one chunk are kept there too, for a job of several plans or models.
    is_agreed
        Whether it may take longer than `ASK_ABOVE`.
    say
        Tells the user how many contexts there are and how long they took.

    Raises
    ------
    ConfigError
        If it would take longer than `ASK_ABOVE` and that is not agreed to.
    Interrupted
        On Ctrl-C, where finished chunks are kept.
    """
    job = _Job(model, plan, wild_type, chain, length, max_tokens or model.token_budget)
    settings = {"folder": folder, "keeps_all": keeps_all, "is_agreed": is_agreed, "say": say}
    if model.family is None:
        return _run(job, name, variants, **settings)
    _refuse_pieces_of_a_family(job)
    is_covered = model.family.covers(wild_type.chains[chain].residues, variants)
    job = replace(job, wild_type=model.family.locate(wild_type))
    covered = [variant for variant, is_in in zip(variants, is_covered, strict=True) if is_in]
    if len(covered) < len(variants):
        say(
            f"{model.name}: {len(variants) - len(covered):,} of {len(variants):,} variants get no score: the "
            "alignment that it was trained on does not cover their sites"
        )
    return _spread(_run(job, name, covered, **settings), is_covered)


def _refuse_pieces_of_a_family(job: "_Job") -> None:
    if job.windows is not None:
        raise ConfigError(
            f"model '{job.model.name}' learned a family along its whole wild type, which cannot be cut",
            hint="leave --window and --long out",
        )


def _spread(found: VariantScores, is_covered: np.ndarray) -> VariantScores:
    """Put NaN where there is no score."""
    scores, own = np.full(len(is_covered), np.nan), np.zeros(len(is_covered), dtype=np.int64)
    scores[is_covered], own[is_covered] = found.scores, found.own_masked_contexts
    return replace(found, scores=scores, own_masked_contexts=own)


def _run(
    job: "_Job",
    name: str,
    variants: Sequence[Variant],
    *,
    folder: Path | None,
    keeps_all: bool,
    is_agreed: bool,
    say: Say,
) -> VariantScores:
    model, wild_type = job.model, job.wild_type
    rows = cut(job.plan, variants, len(wild_type))
    chunks = [[variants[row] for row in own] for own in rows]
    kept = _kept(folder, job, name, variants) if len(chunks) > 1 or keeps_all else None
    sizes = [job.size(chunk) for chunk in chunks]
    total, masked = (sum(size[place] for size in sizes) for place in (0, 1))
    say(
        f"{model.name}: {name}, {masked:,} masked contexts ({total:,} in all) "
        f"for {len(variants):,} variants; {getattr(model, 'path', '')}"
    )
    if job.windows is not None:
        say(_how_it_is_cut(job.windows, wild_type))
    todo = [size for number, (size, _) in enumerate(sizes) if kept is None or not kept.has(number)]
    if len(todo) < len(sizes):
        say(f"{model.name}: resuming after {len(sizes) - len(todo):,} of {len(sizes):,} finished chunks")
    _ask(job, sum(todo), is_agreed=is_agreed, say=say)
    begin = time.perf_counter()
    with Progress(model.name, sum(todo), unit="context") as progress:
        made = run_chunks(lambda chunk: job.run(chunk, progress), chunks, kept)
        found = pl.concat(made) if chunks else _NOTHING
    say(f"{model.name}: took {duration(time.perf_counter() - begin)}")
    if padding := getattr(model, "padding_note", ""):
        say(f"{model.name}: {padding}")
    back = np.argsort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)
    scores, own = (found[column].to_numpy()[back] for column in ("score", "own"))
    cut_to = None if job.windows is None else job.windows.size
    return VariantScores(model.name, scores, own, total, masked, cut_to)


_NOTHING = pl.DataFrame(schema={"score": pl.Float64, "own": pl.Int64})


@dataclass
class _Job:
    """A plan under one model; the chunk that was planned last is not planned again."""

    model: LanguageModel
    plan: Plan
    wild_type: Record
    chain: int
    length: LengthPolicy
    max_tokens: int
    _last: tuple[Sequence[Variant], ContextList, Terms] | None = None

    def contexts(self, chunk: Sequence[Variant]) -> tuple[ContextList, Terms]:
        """Plan a chunk."""
        if self._last is None or self._last[0] is not chunk:
            found = plan_contexts(
                self.model, self.plan, self.wild_type, chunk, chain=self.chain, length=self.length
            )
            self._last = chunk, *found
        return self._last[1:]

    @property
    def windows(self) -> Windows | None:
        """How the wild type is cut; `None` where it is not."""
        return windows_of(self.model, self.wild_type, self.length)

    def size(self, chunk: Sequence[Variant]) -> tuple[int, int]:
        """Count the contexts of a chunk, and those that are masked."""
        contexts, _ = self.contexts(chunk)
        return contexts.num_contexts, contexts.num_masked_contexts

    def run(self, chunk: Sequence[Variant], progress: Progress) -> pl.DataFrame:
        """Score a chunk."""
        contexts, terms = self.contexts(chunk)
        reads = run_contexts(
            self.model,
            contexts,
            max_tokens=self.max_tokens,
            on_batch=lambda done: progress.advance(units=done),
        )
        return pl.DataFrame({"score": terms.scores(reads), "own": terms.num_masked_contexts(contexts.runs())})


def _kept(folder: Path | None, job: _Job, name: str, variants: Sequence[Variant]) -> TableParts | None:
    """Give the place of finished chunks, named after all that they depend on."""
    return None if folder is None else TableParts(folder / _digest(job, name, variants))


def run_chunks(
    run: Callable[[Sequence[Variant]], pl.DataFrame],
    chunks: Sequence[Sequence[Variant]],
    kept: TableParts | None,
) -> Iterator[pl.DataFrame]:
    """Score chunks of variants; those that are finished are read.

    Parameters
    ----------
    run
        Gives the rows of a chunk.
    chunks
        In order.
    kept
        Where finished ones are; `None` keeps none.

    Raises
    ------
    Interrupted
        On Ctrl-C, where finished chunks are kept.
    """
    for number, chunk in enumerate(chunks):
        if kept is None:
            yield run(chunk)
            continue
        if not kept.has(number):
            try:
                kept.write(number, run(chunk))
            except KeyboardInterrupt:
                where = f"finished chunks are in {kept.folder.parent}"
                raise Interrupted(f"interrupted: {where}; the same command resumes") from None
        yield kept.read(number)


def _how_it_is_cut(windows: Windows, wild_type: Record) -> str:
    of = f"'{wild_type.id}' has {len(wild_type):,} residues: read"
    if windows.kind == "window":
        return f"{of} in windows of {windows.size:,} around each"
    starts = tile_starts(len(wild_type), windows.size)
    overlap = windows.size - int(np.diff(starts).max())
    return f"{of} in {len(starts)} tiles of {windows.size:,} that overlap by {overlap:,} or more"


def _ask(job: _Job, num_contexts: int, *, is_agreed: bool, say: Say) -> None:
    """Say how long it will take; refuse long work that is not agreed to."""
    residues = len(job.wild_type) if job.windows is None else job.windows.size
    tokens = job.model.layout.num_positions(residues, len(job.wild_type.chains))
    in_a_batch = max(1, job.max_tokens // tokens)
    if num_contexts / in_a_batch < _WORTH_A_PROBE:
        return
    seconds = _seconds_of_a_batch(job, in_a_batch) * num_contexts / in_a_batch
    say(f"{job.model.name}: about {duration(seconds)} at the speed of a first batch")
    if seconds > ASK_ABOVE and not is_agreed:
        raise ConfigError(
            f"{num_contexts:,} contexts of about {tokens:,} tokens would take {duration(seconds)} on "
            f"{job.model.device}",
            hint="pass --yes to start; wildtype_marginal needs one context, one_fell_swoop one per variant",
        )


def _seconds_of_a_batch(job: _Job, num_contexts: int) -> float:
    """Time the second of two batches; the first one also warms up."""
    contexts = ContextList([job.wild_type], job.windows)
    for index in range(min(num_contexts, len(job.wild_type.chains[0]))):
        contexts.read(contexts.context(0, [(0, index, MASK)]), 0, index)
    seconds = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        run_contexts(job.model, contexts, max_tokens=job.max_tokens)
        seconds = time.perf_counter() - begin
    return seconds * num_contexts / contexts.num_contexts


def _digest(job: _Job, name: str, variants: Sequence[Variant]) -> str:
    """Name all that chunks of scores depend on."""
    facts = {
        "weights": model_digest(job.model),
        "precision": str(next(job.model.module.parameters()).dtype),
        "plan": name,
        "wild_type": [(chain.residues, int(chain.role)) for chain in job.wild_type.chains],
        "chain": job.chain,
        "length": job.length.facts(),
    }
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=12)
    for variant in variants:
        digest.update(f"{variant.label()};".encode())
    return digest.hexdigest()
