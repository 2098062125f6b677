"""How the assignment of germline genes went: counts with the first places of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

NUM_EXAMPLES = 3

SAME_SPECIES = 0.73
"""Median identity of V from which on chains are taken to be of the set's species. Against human genes it is
0.67 (heavy), 0.71 (kappa) and 0.63 (lambda) for 1,105 mouse chains of SAbDab, 0.89 to 0.93 for 2,448 human
ones, and 0.76 (heavy) for antibodies against HIV, the most mutated that there are."""


@dataclass
class GermlineReport:
    """How the assignment of germline genes went."""

    set_lines: list[str] = field(default_factory=list)
    """What was compared with."""
    min_identity: float = 0.0
    """Identity below which nothing was assigned."""
    calls: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in "VDJ"})
    """By V, D and J: chains by how they came to their gene."""
    identities: dict[str, np.ndarray] = field(default_factory=dict)
    """By locus: chains by the per cent of V positions that match, int64 ``[101]``, rounded down."""
    without_mutations: Counter[str] = field(default_factory=Counter)
    """By locus: chains whose V residues all match."""
    residues: Counter[str] = field(default_factory=Counter)
    """Residues by segment."""
    kept: Counter[str] = field(default_factory=Counter)
    """Chains by the track that the input had and that was kept."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first few record ids by what is counted."""
    is_off: bool = False
    """Whether assignment was left out because the chains do not look like the set's species."""
    num_probed: int = 0
    """Chains that were looked at to tell."""
    probed_median: float = 0.0
    """Their median identity of V."""
    is_asked: bool = False
    """Whether chains were to be compared whatever they look like."""
    num_unnumbered: int = 0
    """Chains that are not numbered, so not compared."""
    other_loci: Counter[str] = field(default_factory=Counter)
    """By locus: numbered chains of which the set has no V genes."""

    def count(self, kind: str, how: Sequence[str], record_ids: Sequence[str]) -> None:
        """Count how chains came to their V, D or J gene.

        Parameters
        ----------
        kind
            V, D or J.
        how
            A few words for each chain.
        record_ids
            Of the chains' records; the first ones are kept as examples.
        """
        for words, number in Counter(how).items():
            ids = self.examples.setdefault(f"{kind} {words}", [])
            if words not in _USUAL and len(ids) < NUM_EXAMPLES:
                places = (place for place, each in enumerate(how) if each == words)
                ids += [record_ids[place] for place in islice(places, NUM_EXAMPLES - len(ids))]
            self.calls[kind][words] += number

    def add_identities(self, locus: str, identity: np.ndarray) -> None:
        """Count chains by their identity with their V gene.

        Parameters
        ----------
        locus
            Of the chains.
        identity
            In [0, 1], ``[n]``.
        """
        per_cent = np.floor(100 * identity + 1e-9).astype(np.int64)
        known = self.identities.setdefault(locus, np.zeros(101, dtype=np.int64))
        known += np.bincount(per_cent, minlength=101)
        self.without_mutations[locus] += int((per_cent == 100).sum())

    @property
    def num_compared(self) -> int:
        """Chains with a V gene."""
        return sum(int(counts.sum()) for counts in self.identities.values())

    @property
    def median_identity(self) -> float:
        """Median over the chains with a V gene, in [0, 1], in whole per cents; 0 without any."""
        return _median(sum(self.identities.values(), np.zeros(101, dtype=np.int64))) / 100

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        if not self._has_tried():
            return self._nothing_compared()
        if self.is_off:
            found = f"the first {self.num_probed:,} chains have {self.probed_median:.0%} of V (median)"
            remedy = "protlm prepare --germline takes FASTA files of its genes, or human all the same"
            return [
                f"germline genes left out: {found} in common with human genes, like another species; {remedy}"
            ]
        lines = list(self.set_lines)
        for kind, counts in self.calls.items():
            lines += [
                f"germline {kind}: {n:,} chains {how}{self._first(kind, how)}"
                for how, n in counts.most_common()
            ]
        for locus, counts in sorted(self.identities.items()):
            lines.append(
                f"germline identity of V, locus {locus}: median {_median(counts)} %; "
                f"{self.without_mutations[locus]:,} of {counts.sum():,} chains without a difference"
            )
            far = int(counts[: round(100 * SAME_SPECIES)].sum())
            if far:
                lines.append(
                    f"germline identity of V, locus {locus}: {far:,} of {counts.sum():,} chains are below "
                    f"{SAME_SPECIES:.0%}: of another species, or highly mutated; if the former, their "
                    "germline residues and mutations are wrong"
                )
        if self.residues:
            shares = ", ".join(f"{name} {count:,}" for name, count in self.residues.items())
            lines.append(f"residues by segment: {shares}")
        lines += [f"track '{name}' of the input kept: {n:,} chains" for name, n in self.kept.items() if n]
        return lines

    def _has_tried(self) -> bool:
        """Whether any chain was held against the set, be it to no gene."""
        return self.num_probed > 0 or any(how != NOT_KNOWN_LOCUS for how in self.calls["V"])

    def _nothing_compared(self) -> list[str]:
        loci = ", ".join(f"{count:,} of locus {locus}" for locus, count in sorted(self.other_loci.items()))
        if loci:
            remedy = "protlm prepare --germline takes FASTA files of such genes"
            among = " among the first records" if self.is_off else ""
            return [
                f"germline genes compared with no chain: the set has no V gene for {loci}{among}; {remedy}"
            ]
        if self.is_asked:
            return [f"germline genes compared with no chain: none of {self.num_unnumbered:,} is numbered"]
        return []  # nothing was asked for, and numbering says that there was nothing to compare

    def facts(self) -> dict[str, Any]:
        """Give the counts for a manifest."""
        return {
            "set": list(self.set_lines),
            "min_identity": self.min_identity,
            "calls": {kind: dict(counts) for kind, counts in self.calls.items()},
            "identities": {locus: counts.tolist() for locus, counts in self.identities.items()},
            "residues": dict(self.residues),
            "kept": dict(self.kept),
            "examples": {what: list(ids) for what, ids in self.examples.items()},
            "is_off": self.is_off,
            "num_unnumbered": self.num_unnumbered,
            "other_loci": dict(self.other_loci),
            "probed_median": self.probed_median,
        }

    def _first(self, kind: str, how: str) -> str:
        ids = self.examples.get(f"{kind} {how}", [])
        return f" (first: {', '.join(repr(each) for each in ids)})" if ids else ""


def _median(counts: np.ndarray) -> int:
    """Give the lower median of whole numbers from how often each occurs; 0 without any."""
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), (total + 1) // 2)) if total else 0


GIVEN = "have the allele that their call names"
GIVEN_GENE = "have the nearest allele of the gene that their call names"
GIVEN_D = "have a D segment of the gene that their call names"
NOT_IN_SET = "assigned the nearest gene, as the one that their call names is not in the set"
ASSIGNED = "assigned the nearest gene, without a call in the input"
TOO_FAR = "assigned none: below the minimal identity"
TOO_SHORT = "assigned none: too few residues of it"
NO_MATCH = "with no D segment found"
NOT_KNOWN_LOCUS = "assigned none: not numbered, or of a locus that the set does not have"
_USUAL = (GIVEN, GIVEN_GENE, GIVEN_D, ASSIGNED, NO_MATCH)
