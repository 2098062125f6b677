"""Which contexts to run and which residues to read in them, each distinct one kept once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from protlm.data.flat import expand_slices
from protlm.errors import DataError
from protlm.scoring.windows import Windows
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.record import Record

MASK = -1
"""Stands for the mask token in the replacements of a context."""

Change = tuple[int, int, str | int]
"""``(chain, index, letter)``; `MASK` as letter masks the residue."""


@dataclass
class ContextList:
    """Contexts to run over some base records, each distinct one kept once.

    A context is a base record with some residues masked or replaced. A read asks for the
    log-probabilities at one residue of one context. Where `windows` cuts a base record, the pieces that
    the reads need are run instead.
    """

    bases: Sequence[Record]
    windows: Windows | None = None
    _contexts: dict[tuple, int] = field(default_factory=dict)
    _reads: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _numbers: dict[tuple[str, ...], int] = field(default_factory=dict)
    _runs: "tuple[int, Runs] | None" = None

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

    def context(self, base: int, changes: Sequence[Change] = ()) -> int:
        """Ask for a context and give its number.

        Parameters
        ----------
        base
            Index into `bases`.
        changes
            What differs from it, a residue each.
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
    def num_reads(self) -> int:
        """Result rows."""
        return len(self._reads)

    @property
    def num_contexts(self) -> int:
        """Distinct contexts to run; where a record is cut, distinct pieces."""
        return len(self.runs().base)

    @property
    def num_masked_contexts(self) -> int:
        """Those with at least one mask."""
        return int(self.runs().is_masked.sum())

    def runs(self) -> "Runs":
        """Work out what is run, as arrays."""
        if self._runs is None or self._runs[0] != self.num_reads:
            self._runs = self.num_reads, _expand(self)
        return self._runs[1]


@dataclass(frozen=True)
class Runs:
    """What a model is given, and how reads are answered from it.

    A run is a context, or a piece of one. A slot is a residue that is read in a run. Where nothing is cut,
    slot and read are the same.
    """

    base: np.ndarray
    """Base record per run, int64."""
    start: np.ndarray
    """First residue of the record that a run has, 0-based."""
    length: np.ndarray
    """Residues of a run."""
    is_masked: np.ndarray
    """Whether a run has a mask."""
    changes: np.ndarray
    """``(run, chain, index, letter code)`` by run, int64 ``[c, 4]``; `MASK` or the code of a letter."""
    slots: np.ndarray
    """``(run, chain, index)``, int64 ``[s, 3]``."""
    read: np.ndarray
    """Which read an answer belongs to, int64 ``[a]``."""
    slot: np.ndarray
    """Which slot it takes."""
    weight: np.ndarray
    """With which weight, float64; those of a read sum to 1."""
    is_cut: bool

    def runs_of(self, reads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the runs that some reads are answered from, one after another, and how many each has.

        Parameters
        ----------
        reads
            Numbers of reads, int64 ``[n]``.
        """
        counts = np.bincount(self.read)
        starts = np.cumsum(counts) - counts
        answers = expand_slices(starts[reads], counts[reads])
        return self.slots[self.slot[answers], 0], counts[reads]

    def answers(self, logprobs: np.ndarray, num_reads: int) -> np.ndarray:
        """Average the log-probabilities of the slots over the pieces of each read.

        Parameters
        ----------
        logprobs
            Of the slots, ``[s, v]``.
        num_reads
            Result rows.
        """
        if not self.is_cut:
            return logprobs
        answers = np.zeros((num_reads, logprobs.shape[1]), dtype=logprobs.dtype)
        np.add.at(answers, self.read, logprobs[self.slot] * self.weight[:, None].astype(logprobs.dtype))
        return answers


def _expand(contexts: ContextList) -> Runs:
    asked = list(contexts._contexts)
    reads = list(contexts._reads)
    _check_places(contexts.bases, [(asked[context][0], chain, index) for context, chain, index in reads])
    _check_places(contexts.bases, [(base, *site[:2]) for base, changes in asked for site in changes])
    lengths = [len(record) for record in contexts.bases]
    windows = contexts.windows
    places = [
        windows.places(length) if windows is not None and length > windows.size else None
        for length in lengths
    ]
    runs: dict[tuple, int] = {}
    slots: dict[tuple[int, int, int], int] = {}
    answers = []
    for read, (context, chain, index) in enumerate(reads):
        base, changes = asked[context]
        pieces = places[base]
        if windows is None or pieces is None:
            run = runs.setdefault((base, 0, lengths[base], changes), len(runs))
            answers.append((read, slots.setdefault((run, chain, index), len(slots)), 1.0))
            continue
        for start, weight in pieces[index]:
            inside = tuple(change for change in changes if start <= change[1] < start + windows.size)
            run = runs.setdefault((base, start, windows.size, inside), len(runs))
            answers.append((read, slots.setdefault((run, chain, index), len(slots)), weight))
    facts = np.array([key[:3] for key in runs], dtype=np.int64).reshape(-1, 3)
    changed = [
        (run, chain, index, letter if isinstance(letter, int) else _code(letter))
        for run, (_, _, _, changes) in enumerate(runs)
        for chain, index, letter in changes
    ]
    return Runs(
        *facts.T,
        is_masked=np.array([any(letter == MASK for *_, letter in key[3]) for key in runs], dtype=bool),
        changes=np.array(changed, dtype=np.int64).reshape(-1, 4),
        slots=np.array(list(slots), dtype=np.int64).reshape(-1, 3),
        read=np.array([read for read, _, _ in answers], dtype=np.int64),
        slot=np.array([slot for _, slot, _ in answers], dtype=np.int64),
        weight=np.array([weight for *_, weight in answers], dtype=np.float64),
        is_cut=any(each is not None for each in places),
    )


def _check_places(bases: Sequence[Record], places: list[tuple[int, int, int]]) -> None:
    """Refuse residues that are not there; `places` are ``(base, chain, index)``."""
    base, chain, index = np.array(places, dtype=np.int64).reshape(-1, 3).T
    num_chains = np.array([len(record.chains) for record in bases], dtype=np.int64)
    lengths = np.array([len(each) for record in bases for each in record.chains], dtype=np.int64)
    is_chain = (chain >= 0) & (chain < num_chains[base])
    first = np.cumsum(num_chains) - num_chains
    length = np.where(is_chain, lengths[first[base] + np.where(is_chain, chain, 0)], 0)
    wrong = np.flatnonzero((index < 0) | (index >= length))
    if len(wrong):
        place = wrong[0]
        raise DataError(f"record {base[place]} has no residue {index[place]} in chain {chain[place]}")


def _code(letter: str) -> int:
    if len(letter) != 1 or letter not in STANDARD + UNUSUAL:
        raise DataError(f"{letter!r} is not a residue letter", hint=f"expected one of {STANDARD + UNUSUAL}")
    return ord(letter)
