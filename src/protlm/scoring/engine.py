"""The masked-inference engine: run each distinct context once, read only what is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from protlm.data.collate import collate
from protlm.data.flat import expand_slices, flatten_records
from protlm.data.layout import TokenLayout
from protlm.data.roles import with_roles
from protlm.data.sampling import budget_batches
from protlm.errors import DataError
from protlm.models.language_model import MaskedModel
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.batch import Batch
from protlm.types.record import Record

DEFAULT_TOKEN_BUDGET = 4096
"""Tokens per batch; on a CPU more than this leaves the cache and is slower (`benchmarks/`)."""

MASK = -1
"""Stands for the mask token in the replacements of a context."""


@dataclass
class ContextList:
    """Contexts to run over some base records, each distinct one kept once.

    A context is a base record with some residues masked or replaced. A read asks for the
    log-probabilities at one residue of one context.
    """

    bases: Sequence[Record]
    _contexts: dict[tuple, int] = field(default_factory=dict)
    _reads: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _numbers: dict[tuple[str, ...], int] = field(default_factory=dict)

    def base(self, record: Record) -> int:
        """Add a base record and give its index; one with the same residues is kept once.

        Parameters
        ----------
        record
            Another sequence than those there, such as a variant with an insertion.
        """
        key = tuple(chain.residues for chain in record.chains)
        if key not in self._numbers:
            self._numbers[key] = len(self.bases)
            self.bases = [*self.bases, record]
        return self._numbers[key]

    def context(self, base: int, changes: Sequence[tuple[int, int, str | int]] = ()) -> int:
        """Ask for a context and give its number.

        Parameters
        ----------
        base
            Index into `bases`.
        changes
            ``(chain, index, letter)`` per changed residue; `MASK` as letter masks it.
        """
        key = (base, tuple(sorted(changes, key=lambda change: change[:2])))
        return self._contexts.setdefault(key, len(self._contexts))

    def read(self, context: int, chain: int, index: int) -> int:
        """Ask for the log-probabilities at a residue and give the number of the result row.

        Parameters
        ----------
        context
            From `context`.
        chain, index
            The residue, 0-based.
        """
        return self._reads.setdefault((context, chain, index), len(self._reads))

    @property
    def num_contexts(self) -> int:
        """Distinct contexts."""
        return len(self._contexts)

    @property
    def num_masked_contexts(self) -> int:
        """Distinct contexts with at least one mask."""
        return sum(any(letter == MASK for _, _, letter in changes) for _, changes in self._contexts)

    @property
    def num_reads(self) -> int:
        """Result rows."""
        return len(self._reads)


def run_contexts(
    model: MaskedModel,
    contexts: ContextList,
    *,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Run all contexts and give the log-probabilities of every read.

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
        If a base record is longer than the model allows.
    """
    results = np.zeros((contexts.num_reads, len(model.layout.tokens)), dtype=np.float32)
    if not contexts.num_reads:
        return results
    table = _Table.build(model, contexts)
    for chosen in budget_batches(table.lengths, max_tokens):
        batch, rows, numbers = table.batch(chosen)
        with torch.inference_mode():
            logprobs = torch.log_softmax(model.logits(batch, rows).float(), dim=-1)
        results[numbers] = logprobs.cpu().numpy()
        if on_batch is not None:
            on_batch(len(chosen))
    return results


@dataclass(frozen=True)
class _Table:
    """The contexts as arrays; changes and reads are sorted by context."""

    bases: Batch
    base_of: np.ndarray
    """Base record per context."""
    lengths: np.ndarray
    """Tokens per context."""
    changes: "_Places"
    reads: "_Places"

    @classmethod
    def build(cls, model: MaskedModel, contexts: ContextList) -> "_Table":
        bases = collate(flatten_records(with_roles(contexts.bases, model.layout)), model.layout)
        place = _token_of_residue(bases)
        base_of = np.array([base for base, _ in contexts._contexts], dtype=np.int64)
        changes = [
            (number, place(base, chain, index), _token_id(letter, model.layout))
            for number, (base, sites) in enumerate(contexts._contexts)
            for chain, index, letter in sites
        ]
        reads = [
            (context, place(base_of[context], chain, index), number)
            for (context, chain, index), number in contexts._reads.items()
        ]
        num_contexts = len(base_of)
        return cls(
            bases=bases,
            base_of=base_of,
            lengths=bases.lengths.numpy()[base_of],
            changes=_Places.build(changes, num_contexts),
            reads=_Places.build(sorted(reads), num_contexts),
        )

    def batch(self, chosen: np.ndarray) -> tuple[Batch, torch.Tensor, np.ndarray]:
        """Give the batch of some contexts, the rows to read in it, and where the results go."""
        batch = self.bases.select(self.base_of[chosen])
        starts = batch.offsets.numpy()[:-1]
        slot, token, value = self.changes.of(chosen)
        batch.tokens[torch.from_numpy(starts[slot] + token)] = torch.from_numpy(value)
        slot, token, number = self.reads.of(chosen)
        return batch, torch.from_numpy(starts[slot] + token), number


@dataclass(frozen=True)
class _Places:
    """Token places inside contexts with a value each: ``starts[c] : starts[c + 1]`` are context c's."""

    starts: np.ndarray
    tokens: np.ndarray
    values: np.ndarray

    @classmethod
    def build(cls, entries: list[tuple[int, int, int]], num_contexts: int) -> "_Places":
        array = np.array(entries, dtype=np.int64).reshape(-1, 3)
        counts = np.bincount(array[:, 0], minlength=num_contexts)
        return cls(np.concatenate([[0], np.cumsum(counts)]), array[:, 1], array[:, 2])

    def of(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = self.starts[contexts + 1] - self.starts[contexts]
        source = expand_slices(self.starts[contexts], counts)
        return np.repeat(np.arange(len(contexts)), counts), self.tokens[source], self.values[source]


def _token_id(letter: str | int, layout: TokenLayout) -> int:
    if isinstance(letter, int):
        return layout.mask_id
    if len(letter) != 1 or letter not in STANDARD + UNUSUAL:
        raise DataError(f"{letter!r} is not a residue letter", hint=f"expected one of {STANDARD + UNUSUAL}")
    return int(layout.residue_ids[ord(letter)])


def _token_of_residue(bases: Batch) -> Callable[[int, int, int], int]:
    """Look up the token of a residue, counted from the start of its sequence."""
    index = bases.residue_index.numpy()
    chain = bases.chain_index.numpy()
    offsets = bases.offsets.numpy()
    tables: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def place(base: int, chain_number: int, residue: int) -> int:
        key = (int(base), chain_number)
        if key not in tables:
            span = slice(offsets[base], offsets[base + 1])
            columns = np.flatnonzero(chain[span] == chain_number)
            tables[key] = (index[span][columns], columns)
        residues, columns = tables[key]
        found = int(np.searchsorted(residues, residue))
        if residue < 0 or found >= len(residues) or residues[found] != residue:
            raise DataError(f"record {base} has no residue {residue} in chain {chain_number}")
        return int(columns[found])

    return place
