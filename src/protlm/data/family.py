"""A family of homologues as records: aligned to a wild type, or whole, with weights and a held-out part."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from protlm.data.alignment import Alignment, read_alignment, runs_of
from protlm.data.alignment_rows import read_rows
from protlm.data.flat import record_key
from protlm.data.hashing import combine, uniform
from protlm.data.sequence_weights import GAP
from protlm.errors import DataError, ModelError
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.variant import Variant

FILE_NAME = "family.json"
RowsAs = Literal["aligned", "sequences"]
_HOLDOUT_STREAM = 104
_LETTERS = np.frombuffer(STANDARD.encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Family:
    """Where a model learned what stands at each residue of a wild type."""

    wild_type: str
    """The sequence that the homologues were aligned to."""
    covered: tuple[int, ...]
    """0-based residues that the alignment covers, ascending."""

    @cached_property
    def is_covered(self) -> np.ndarray:
        """Whether each residue of the wild type is covered, bool ``[residues]``."""
        flags = np.zeros(len(self.wild_type), dtype=bool)
        flags[list(self.covered)] = True
        return flags

    def facts(self) -> dict[str, Any]:
        """Give plain values; positions are 1-based there, as first and last of each covered run."""
        runs = [[first + 1, last + 1] for first, last in runs_of(np.array(self.covered))]
        return {"format_version": 1, "wild_type": self.wild_type, "covered": runs}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Take plain values back.

        Parameters
        ----------
        facts
            From `facts`, with or without others.
        """
        covered = [index for first, last in facts["covered"] for index in range(first - 1, last)]
        return cls(facts["wild_type"], tuple(covered))

    def save(self, folder: Path) -> None:
        """Write ``family.json``.

        Parameters
        ----------
        folder
            Where the model's files are.
        """
        (folder / FILE_NAME).write_text(json.dumps(self.facts()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read ``family.json``; `None` where there is none.

        Parameters
        ----------
        folder
            Where the model's files are.

        Raises
        ------
        ModelError
            If it is damaged.
        """
        path = folder / FILE_NAME
        if not path.exists():
            return None
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is damaged ({type(error).__name__}: {error})",
                hint="copy it again from where the model came from",
            ) from None

    def place(self, residues: str) -> int:
        """Find a sequence in the wild type and give the 0-based residue of its first.

        Parameters
        ----------
        residues
            The whole wild type, or a part of it.

        Raises
        ------
        DataError
            If it is no part of it.
        """
        start = self.wild_type.find(residues)
        if start < 0:
            raise DataError(
                f"the model learned a family along a wild type of {len(self.wild_type)} residues, and the "
                f"one to score, of {len(residues)}, is no part of it",
                hint="score that wild type or a part of it, or prepare the alignment with this one "
                "(protlm prepare ALIGNMENT --wild-type FILE)",
            )
        return start

    def locate(self, record: Record) -> Record:
        """Give a record whose residues stand where the model learned them.

        Parameters
        ----------
        record
            Of one chain: the wild type, or a part of it.

        Raises
        ------
        DataError
            If it has several chains, or is no part of the wild type.
        """
        if len(record.chains) != 1:
            raise DataError(
                f"the model learned one family, and '{record.id}' has {len(record.chains)} chains",
                hint="score the chain of that family alone",
            )
        (chain,) = record.chains
        column = np.arange(len(chain), dtype=np.uint16) + self.place(chain.residues) + 1
        return replace(record, chains=(replace(chain, tracks={**chain.tracks, "column": column}),))

    def covers(self, residues: str, variants: Sequence[Variant]) -> np.ndarray:
        """Tell whether all sites of each variant are covered, bool ``[n]``.

        Parameters
        ----------
        residues
            The wild type of the variants.
        variants
            Checked against it.

        Raises
        ------
        DataError
            If one has an insertion or deletion, which has no place in the alignment.
        """
        if any(variant.is_indel for variant in variants):
            raise DataError(
                "insertions and deletions have no place in the alignment that the model learned",
                hint="train on the homologues with: protlm prepare ALIGNMENT --as sequences",
            )
        own = self.is_covered[self.place(residues) :]
        return np.array([all(own[each.index] for each in variant.mutations) for variant in variants], bool)


@dataclass(frozen=True)
class FamilyRecords:
    """Homologues to train on."""

    alignment: Alignment
    rows_as: RowsAs
    texts: tuple[str, ...]
    """Whole sequence of each row, insertions included."""
    is_held_out: np.ndarray
    """bool ``[n]``."""

    @property
    def num_free(self) -> int:
        """Rows with no other as similar, from which held-out ones are drawn."""
        return int(_is_free(self.alignment).sum())

    def lines(self) -> list[str]:
        """Say what was read, a line each."""
        alignment = self.alignment
        counts = [f"{count:,} {label}" for label, count in alignment.counts.items() if count]
        lines = [*counts, *alignment.notes]
        lines.append(f"{alignment.effective_size:,.1f} effective sequences (sum of the weights)")
        if self.is_held_out.any():
            lines.append(
                f"{int(self.is_held_out.sum()):,} rows held out, of {self.num_free:,} that have no other row "
                "so similar"
            )
        return lines

    def facts(self) -> dict[str, Any]:
        """Give what a manifest keeps."""
        alignment = self.alignment
        covered = tuple(alignment.index.tolist())
        return {
            **Family(alignment.wild_type, covered).facts(),
            "as": self.rows_as,
            "counts": alignment.counts,
            "notes": list(alignment.notes),
            "effective_size": round(alignment.effective_size, 3),
            "held_out": int(self.is_held_out.sum()),
        }

    def __iter__(self) -> Iterator[tuple[Record, bool]]:
        """Give each record, the wild type's first, and whether it is held out."""
        seen = Counter(self.alignment.names)
        for row, name in enumerate(self.alignment.names):
            record_id = name if seen[name] == 1 else f"{name}#{row + 1}"
            weight = float(self.alignment.weights[row])
            yield Record(record_id, (self._chain(row),), sample_weight=weight), bool(self.is_held_out[row])

    def _chain(self, row: int) -> Chain:
        alignment = self.alignment
        if self.rows_as == "sequences":
            return Chain(self.texts[row])
        if row == 0:  # what the alignment does not cover is at least known of the wild type
            columns = np.arange(len(alignment.wild_type))
            return Chain(alignment.wild_type, tracks={"column": (columns + 1).astype(np.uint16)})
        states = alignment.rows[row]
        present = states != GAP
        residues = _LETTERS[states[present]].tobytes().decode()
        return Chain(residues, tracks={"column": (alignment.index[present] + 1).astype(np.uint16)})


def read_family(
    path: Path,
    *,
    wild_type: str,
    rows_as: RowsAs = "aligned",
    query: str | None = None,
    offset: int | None = None,
    min_coverage: float = 0.5,
    identity: float | None = 0.8,
    holdout: float = 0.0,
    seed: int = 0,
) -> FamilyRecords:
    """Read an alignment as records to train on.

    As ``"aligned"``, a record has the residues in the columns of the wild type, each with that residue's
    position; gaps are left out, insertions too. As ``"sequences"`` it has the whole sequence. Each weighs
    1 / the number of rows so similar. Held-out rows are drawn from those that have no other row so similar.

    Parameters
    ----------
    path, query, offset, min_coverage, identity
        As for `protlm.data.alignment.read_alignment`.
    wild_type
        The sequence whose variants will be scored.
    rows_as
        What a record is.
    holdout
        Share of the effective sequences, in [0, 0.5].
    seed
        Of the draw.

    Raises
    ------
    DataError
        If the alignment cannot be read, or its query is not the wild type.
    """
    alignment = read_alignment(
        path,
        wild_type=wild_type,
        query=query,
        offset=offset,
        min_coverage=min_coverage,
        min_column_occupancy=0.0,
        identity=identity,
    )
    read = read_rows(path, query=query)
    texts = tuple(read.residues(int(place)) for place in alignment.places)
    family = FamilyRecords(alignment, rows_as, texts, np.zeros(len(texts), dtype=bool))
    if not holdout:
        return family
    return replace(family, is_held_out=_draw(family, holdout, seed))


def _is_free(alignment: Alignment) -> np.ndarray:
    is_free = alignment.weights == 1
    is_free[0] = False
    return is_free


def _draw(family: FamilyRecords, holdout: float, seed: int) -> np.ndarray:
    free = np.flatnonzero(_is_free(family.alignment))
    keys = np.array([record_key(record) for record, _ in family], dtype=np.uint64)
    order = free[np.argsort(uniform(combine(seed, _HOLDOUT_STREAM, keys[free])), kind="stable")]
    wanted = max(1, round(holdout * family.alignment.effective_size))
    is_held_out = np.zeros(len(keys), dtype=bool)
    is_held_out[order[: min(wanted, len(free) // 2)]] = True
    return is_held_out
