"""The masked-inference engine: run each distinct context once, read only what is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from protlm.data.collate import collate
from protlm.data.flat import FlatRecords, expand_slices, flatten_records
from protlm.data.layout import TokenLayout
from protlm.data.roles import with_roles
from protlm.data.sampling import budget_batches
from protlm.models.language_model import MaskedModel
from protlm.models.residue_level import require_residue_level
from protlm.scoring.contexts import MASK, ContextList, Runs
from protlm.types.batch import NOT_A_RESIDUE, Batch

DEFAULT_TOKEN_BUDGET = 4096
"""Tokens per batch; on a CPU more than this leaves the cache and is slower (`benchmarks/`)."""


def run_contexts(
    model: MaskedModel,
    contexts: ContextList,
    *,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run all contexts and give the log-probabilities of every read.

    Where a record is cut into pieces, those of a read are averaged over its pieces with their weights; the
    probabilities of a residue then sum to a little less than 1.

    Parameters
    ----------
    model
        Any masked model.
    contexts
        What to run and read.
    max_tokens
        Token budget of a batch. It bounds memory and does not change results beyond rounding.
    on_batch
        Called with the number of contexts finished in each batch.

    Returns
    -------
    numpy.ndarray
        Natural-log probabilities over the whole vocabulary, float32 ``[reads, v]``.

    Raises
    ------
    DataError
        If a base record, or a piece of one, is longer than the model allows.
    ModelError
        If the model has sub-words.
    """
    require_residue_level(model, "hiding and reading single residues")
    runs = contexts.runs()
    results = np.zeros((len(runs.slots), len(model.layout.tokens)), dtype=np.float32)
    if not contexts.num_reads:
        return results
    table = _Table.build(model.layout, contexts)
    for chosen in budget_batches(table.lengths, max_tokens):
        batch, rows, slots = table.batch(chosen)
        with torch.inference_mode():
            logprobs = torch.log_softmax(model.logits(batch, rows).float(), dim=-1)
        results[slots] = logprobs.cpu().numpy()
        if on_batch is not None:
            on_batch(len(chosen))
    return runs.answers(results, contexts.num_reads)


@dataclass(frozen=True)
class _Table:
    """The runs as slices of the residues of the base records; changes and slots are sorted by run."""

    layout: TokenLayout
    bases: FlatRecords
    runs: Runs
    lengths: np.ndarray
    """Tokens per run."""
    changes: "_Places"
    slots: "_Places"

    @classmethod
    def build(cls, layout: TokenLayout, contexts: ContextList) -> "_Table":
        bases, runs = flatten_records(with_roles(contexts.bases, layout)), contexts.runs()
        if runs.is_cut:
            bases = replace(bases, tracks={})
        before = _residues_before(bases)
        run, chain, index, letter = runs.changes.T
        token = np.where(letter == MASK, layout.mask_id, layout.residue_ids[letter]).astype(np.int64)
        changes = _Places.build(run, before(runs, run, chain) + index, token, len(runs.base))
        run, chain, index = runs.slots.T
        slots = _Places.build(run, before(runs, run, chain) + index, np.arange(len(run)), len(runs.base))
        specials = layout.num_specials(bases.chains_per_record)
        return cls(layout, bases, runs, runs.length + specials[runs.base], changes, slots)

    def batch(self, chosen: np.ndarray) -> tuple[Batch, torch.Tensor, np.ndarray]:
        """Give the batch of some runs, the rows to read in it, and the slots they belong to."""
        lengths = self.runs.length[chosen]
        batch = collate(self._slices(chosen), self.layout)
        token_of = np.flatnonzero(batch.chain_index.numpy() != NOT_A_RESIDUE)
        starts = np.cumsum(lengths) - lengths
        place, residue, token = self.changes.of(chosen)
        batch.tokens[torch.from_numpy(token_of[starts[place] + residue])] = torch.from_numpy(token)
        place, residue, slots = self.slots.of(chosen)
        return batch, torch.from_numpy(token_of[starts[place] + residue]), slots

    def _slices(self, chosen: np.ndarray) -> FlatRecords:
        """Lay the residues of some runs end to end; a run that is cut is of a record of one chain."""
        bases, base = self.bases, self.runs.base[chosen]
        num_chains = bases.chains_per_record
        chains = expand_slices((np.cumsum(num_chains) - num_chains)[base], num_chains[base])
        is_alone = np.repeat(num_chains[base] == 1, num_chains[base])
        run = np.repeat(chosen, num_chains[base])
        lengths = np.where(is_alone, self.runs.length[run], bases.chain_lengths[chains])
        starts = (np.cumsum(bases.chain_lengths) - bases.chain_lengths)[chains] + self.runs.start[run]
        source = expand_slices(starts, lengths)
        return FlatRecords(
            residues=bases.residues[source],
            chain_lengths=lengths,
            chains_per_record=num_chains[base],
            keys=bases.keys[base],
            tracks={name: values[source] for name, values in bases.tracks.items()},
            roles=bases.roles[chains],
        )


@dataclass(frozen=True)
class _Places:
    """Residues of runs with a value each: ``starts[r] : starts[r + 1]`` are run r's, in ascending order."""

    starts: np.ndarray
    residues: np.ndarray
    """Counted from the first residue of the run, over its chains."""
    values: np.ndarray

    @classmethod
    def build(cls, run: np.ndarray, residue: np.ndarray, value: np.ndarray, num_runs: int) -> "_Places":
        order = np.lexsort((residue, run))
        counts = np.bincount(run, minlength=num_runs)
        return cls(np.concatenate([[0], np.cumsum(counts)]), residue[order], value[order])

    def of(self, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = self.starts[runs + 1] - self.starts[runs]
        source = expand_slices(self.starts[runs], counts)
        return np.repeat(np.arange(len(runs)), counts), self.residues[source], self.values[source]


def _residues_before(bases: FlatRecords) -> Callable[[Runs, np.ndarray, np.ndarray], np.ndarray]:
    """Count the residues between the start of a run and the first of a chain; negative in a piece."""
    first_chain = np.cumsum(bases.chains_per_record) - bases.chains_per_record
    first_residue = np.cumsum(bases.chain_lengths) - bases.chain_lengths

    def before(runs: Runs, run: np.ndarray, chain: np.ndarray) -> np.ndarray:
        first = first_chain[runs.base[run]]
        return first_residue[first + chain] - first_residue[first] - runs.start[run]

    return before
