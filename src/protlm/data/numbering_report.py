"""How numbering went: counts with the first places of each."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

NUM_EXAMPLES = 3


@dataclass
class NumberingReport:
    """How numbering went."""

    numbered: Counter[str] = field(default_factory=Counter)
    """Chains by locus letter."""
    partial: Counter[str] = field(default_factory=Counter)
    """Numbered chains that lack whole regions, by the regions. A CDR3 over about 50 residues is one cause:
    immunum then stops before it."""
    unnumbered: Counter[str] = field(default_factory=Counter)
    """Chains that could not be numbered, by immunum's reason."""
    put_right: int = 0
    """Pairs whose heavy and light chain were named the wrong way round, and are now heavy first."""
    contradicted: Counter[str] = field(default_factory=Counter)
    """Other chains that are not what their column says, by what they are."""
    domains: Counter[str] = field(default_factory=Counter)
    """Chains with more than one variable domain, by their locus letters, such as ``H+K``."""
    num_linker_residues: int = 0
    """Residues outside of the domains of chains that were split, left out."""
    regions_given: int = 0
    """Chains whose regions came with the input."""
    regions_differ: int = 0
    """Of those, chains of which the numbering says otherwise; the input's regions count."""
    num_dropped: int = 0
    """Records dropped because one of their chains could not be numbered."""
    num_dropped_for_domains: int = 0
    """Records dropped because one of their chains has more than one variable domain."""
    is_off: bool = False
    """Whether numbering was left out because the input does not look like antibodies."""
    num_probed: int = 0
    """Records that were looked at to tell."""
    num_probed_receptors: int = 0
    """Their chains that are receptors."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first few record ids by what is counted."""

    def remember(self, what: str, record_id: str) -> None:
        """Keep a record's id as an example.

        Parameters
        ----------
        what
            What is counted.
        record_id
            Of the record.
        """
        ids = self.examples.setdefault(what, [])
        if len(ids) < NUM_EXAMPLES:
            ids.append(record_id)

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        if self.is_off:
            remedy = "protlm prepare --receptor antibody or tcr numbers all the same"
            kinds = "no antibody variable domain, nor one of a T-cell receptor,"
            if few := self.num_probed_receptors:
                kinds = f"only {few} × a variable domain of an antibody or a T-cell receptor"
            return [f"numbering left out: {kinds} in the first {self.num_probed:,} records; {remedy}"]
        lines = [
            f"numbered by IMGT: {n:,} chains of locus {locus}" for locus, n in sorted(self.numbered.items())
        ]
        if self.regions_given:
            lines.append(
                f"regions from the input's columns: {self.regions_given:,} chains, of which the numbering "
                f"differs in {self.regions_differ:,}; the columns' regions count{self._first('regions')}"
            )
        lines += [
            f"numbered in part: {n:,} chains have no {names}{self._first(names)}"
            for names, n in self.partial.most_common()
        ]
        lines += [
            f"not numbered: {n:,} chains ({reason}){self._first(reason)}"
            for reason, n in self.unnumbered.most_common()
        ]
        lines += [
            f"more than one variable domain: {n:,} chains with {loci}{self._first(loci)}"
            for loci, n in self.domains.most_common()
        ]
        if self.num_linker_residues:
            lines.append(f"split into domains; {self.num_linker_residues:,} residues beside them left out")
        if self.put_right:
            first = self._first("put right")
            lines.append(
                f"heavy and light were the wrong way round in {self.put_right:,} pairs; put right{first}"
            )
        lines += [
            f"not as expected: {n:,} × {kind}{self._first(kind)}" for kind, n in self.contradicted.items()
        ]
        if self.num_dropped:
            lines.append(f"{self.num_dropped:,} records dropped because a chain is not numbered")
        if self.num_dropped_for_domains:
            lines.append(
                f"{self.num_dropped_for_domains:,} records dropped because of more than one variable domain"
            )
        return lines

    def facts(self) -> dict[str, Any]:
        """Give the counts for a manifest."""
        return {
            "numbered": dict(self.numbered),
            "partial": dict(self.partial),
            "unnumbered": dict(self.unnumbered),
            "put_right": self.put_right,
            "contradicted": dict(self.contradicted),
            "domains": dict(self.domains),
            "num_linker_residues": self.num_linker_residues,
            "regions_given": self.regions_given,
            "regions_differ": self.regions_differ,
            "num_dropped": self.num_dropped,
            "num_dropped_for_domains": self.num_dropped_for_domains,
            "is_off": self.is_off,
            "examples": {what: list(ids) for what, ids in self.examples.items()},
        }

    def _first(self, what: str) -> str:
        ids = self.examples.get(what)
        return f" (first: {', '.join(repr(each) for each in ids)})" if ids else ""
