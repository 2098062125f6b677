"""Germline genes as residues at IMGT positions: the package's human table, or a user's FASTA files."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.domains import Domain, number
from protlm.data.gene_names import call_name, kind_of
from protlm.data.germline import GENE_TYPES, NUCLEOTIDES, germline_segments, translate
from protlm.data.readers.text import read_lines
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD

LAST_OF_V, FIRST_OF_J = 104, 118
"""IMGT positions on both sides of the CDR3: the second cysteine, and the tryptophan or phenylalanine."""
J_LENGTH = 11
"""Positions 118 to 128."""
ABSENT = -1
"""Code of a position where there is no residue, or none of the twenty."""
PACKAGE_SET = "auto"

STOP_INSIDE = "a stop before position 104"

_J_MOTIF = re.compile("[WF]G.G")
_NUCLEOTIDES = re.compile("[ACGTUN.-]+")
_NOT_ACGT = re.compile("[^ACGT]")
_GAP = re.compile("[.-]")
_MIN_V = 60  # residues of a V gene up to position 104; all human ones have over 90
_TABLE_COLUMNS = ("name", "kind", "framework", "cdr3")
_REST_OF_DOMAIN = {
    "H": "DYFDYWGQGTLVTVSS",
    "K": "TFGQGTKVEIK",
    "L": "VFGGGTKLTVL",
    "A": "NTGKLIFGQGTTLQVKP",
    "B": "NTEAFFGQGTRLTVV",
    "G": "KKLFGSGTTLVVT",
    "D": "DKLIFGKGTRVTVEP",
}
"""Residues that make a variable domain of a V gene, so that it can be numbered; no result depends on them."""

CODE = np.full(256, ABSENT, dtype=np.int8)
CODE[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = np.arange(len(STANDARD), dtype=np.int8)
"""Place in `STANDARD` by byte."""


@dataclass(frozen=True, slots=True)
class GermlineGene:
    """One germline allele as residues."""

    name: str
    """Such as IGHV3-23*01, or IGLV4-60*03_c259t for an allele known by its differences."""
    kind: str
    """V, D or J."""
    framework: np.ndarray
    """Codes by position, int8: of a V gene 1 to 104, of a J gene 118 to 128, of a D gene none."""
    cdr3: str
    """Residues inside the CDR3: of a V gene those behind 104, of a J gene those before 118."""
    readings: tuple[str, ...] = ()
    """Of a D gene: what its reading frames encode, stops as ``*``."""

    @property
    def locus(self) -> str:
        """H K L, or A B G D."""
        return self.name[2].upper()

    @property
    def gene(self) -> str:
        """Name without the allele."""
        return self.name.partition("*")[0]


@dataclass(frozen=True)
class GermlineTable:
    """The V or J genes of one locus, stacked, in the order of their names."""

    names: tuple[str, ...]
    framework: np.ndarray
    """Codes, int8 ``[g, positions]``."""
    cdr3: np.ndarray
    """Codes of the residues inside the CDR3, int8 ``[g, longest]``, padded with `ABSENT`. Those of a V gene
    run from position 105 to the right, those of a J gene from 117 to the left."""


@dataclass
class GermlineSet:
    """Germline genes that chains are compared with."""

    source: str
    """What the user named: ``auto``, or files."""
    genes: tuple[GermlineGene, ...]
    """In the order of their names."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Sequences of the files that are no usable gene, by the reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first of each."""

    def __post_init__(self) -> None:
        self._tables: dict[tuple[str, str], GermlineTable | None] = {}

    def table(self, locus: str, kind: str) -> GermlineTable | None:
        """Give the V or J genes of a locus; nothing where there is none.

        Parameters
        ----------
        locus
            H K L, or A B G D.
        kind
            V or J.
        """
        key = (locus, kind)
        if key not in self._tables:
            genes = [gene for gene in self.genes if (gene.locus, gene.kind) == key]
            self._tables[key] = _stack(genes) if genes else None
        return self._tables[key]

    def d_genes(self, locus: str) -> tuple[GermlineGene, ...]:
        """Give the D genes of a locus.

        Parameters
        ----------
        locus
            H, B or D; others have none.
        """
        return tuple(gene for gene in self.genes if (gene.locus, gene.kind) == (locus, "D"))

    def to_table(self) -> pl.DataFrame:
        """Give V and J genes as rows ``name, kind, framework, cdr3``; ``.`` in a framework is no residue."""
        letters = np.frombuffer((STANDARD + ".").encode(), dtype=np.uint8)
        rows = [
            (gene.name, gene.kind, letters[gene.framework].tobytes().decode(), gene.cdr3)
            for gene in self.genes
            if gene.kind != "D"
        ]
        return pl.DataFrame(rows, schema=dict.fromkeys(_TABLE_COLUMNS, pl.String), orient="row")

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> "GermlineSet":
        """Make a set of the rows that `to_table` gave.

        Parameters
        ----------
        table
            In any order.
        """
        genes = [
            GermlineGene(name, kind, CODE[np.frombuffer(framework.encode(), dtype=np.uint8)], cdr3)
            for name, kind, framework, cdr3 in table.select(*_TABLE_COLUMNS).iter_rows()
        ]
        return cls("a table", tuple(sorted(genes, key=lambda gene: gene.name)))

    def lines(self) -> list[str]:
        """Say what the set holds and what was left out of it."""
        counts = Counter(f"{gene.name[:2]}{gene.locus}{gene.kind}" for gene in self.genes)
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        what = "the package's common human alleles" if self.source == PACKAGE_SET else self.source
        lines = [f"germline set: {what} ({held})"]
        return lines + [
            f"germline set: {count:,} sequences left out: {reason} (first: {self.examples[reason]!r})"
            for reason, count in self.left_out.most_common()
        ]


def open_germline(source: str | Path | Sequence[str | Path] = PACKAGE_SET) -> GermlineSet:
    """Give a germline set.

    Parameters
    ----------
    source
        ``"auto"`` for the package's common human alleles (see `protlm.data.germline`), or one or several
        FASTA files of V, D and J genes, plain or gzip-compressed. A header holds the allele's IMGT name, such
        as ``IGHV4-28*05__homo_sapiens``. Sequences are nucleotides or residues, with IMGT gaps or without;
        V genes begin at their first codon. T-cell receptor genes are read as well.

    Raises
    ------
    DataError
        If a file cannot be read, a header has no gene name, an allele has two sequences, or no V gene is
        left.

    Examples
    --------
    >>> table = open_germline().table("H", "J")
    >>> table.names[3], "".join(STANDARD[code] for code in table.framework[3])
    ('IGHJ4*02', 'WGQGTLVTVSS')
    """
    if isinstance(source, str | Path):
        return _package_set() if str(source) == PACKAGE_SET else _read_set([Path(source)])
    return _read_set([Path(each) for each in source])


@cache
def _package_set() -> GermlineSet:
    entries = [(s.allele, s.sequence) for kind in GENE_TYPES for s in germline_segments(kind)]
    return _make_set(PACKAGE_SET, entries)


def _read_set(paths: Sequence[Path]) -> GermlineSet:
    source = ", ".join(path.name for path in paths)
    germline = _make_set(source, [entry for path in paths for entry in _entries(path)])
    if not any(gene.kind == "V" for gene in germline.genes):
        remedy = "give files with V, and best also D and J genes, whose headers hold names such as IGHV1-2*01"
        raise DataError(f"{source}: no usable V gene", hint="; ".join([remedy, *germline.lines()[1:]]))
    return germline


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Give name and sequence of each record of a FASTA file."""
    name, parts = "", []
    for number_, line in enumerate(read_lines(path), start=1):
        if line.startswith(">"):
            if name:
                yield name, "".join(parts)
            name, parts = call_name(line), []
            if not name:
                raise DataError(
                    f"{path}, line {number_}: no germline gene is named in {line[:60]!r}",
                    hint="expected a name such as IGHV4-28*05 in each header",
                )
        elif name:
            parts.append(line.strip())
        elif line.strip():
            raise DataError(
                f"{path}, line {number_}: expected a FASTA header starting with '>', got {line[:40]!r}",
                hint="give FASTA files of germline genes",
            )
    if not name:
        raise DataError(f"{path}: no FASTA records", hint="is the file empty?")
    yield name, "".join(parts)


def _make_set(source: str, entries: Iterable[tuple[str, str]]) -> GermlineSet:
    sequences: dict[str, str] = {}
    for name, given in entries:
        sequence = given.upper().replace("U", "T") if _is_coding(given) else given.upper()
        if sequences.setdefault(name, sequence) != sequence:
            raise DataError(
                f"{source}: two different sequences are called '{name}'", hint="leave one of them out"
            )
    germline = GermlineSet(source, ())
    genes: list[GermlineGene] = []
    ungapped_v: list[tuple[str, str]] = []
    for name, sequence in sequences.items():
        kind = kind_of(name)
        if kind == "V" and not _GAP.search(sequence.strip(".-")):
            ungapped_v.append((name, _residues(sequence.strip(".-"))))
            continue
        make = {"V": _gapped_v, "D": _d_gene, "J": _j_gene}[kind]
        _keep(germline, genes, name, make(name, sequence))
    for (name, _), gene in zip(ungapped_v, _numbered_v(ungapped_v), strict=True):
        _keep(germline, genes, name, gene)
    germline.genes = tuple(sorted(genes, key=lambda gene: gene.name))
    return germline


def _keep(germline: GermlineSet, genes: list[GermlineGene], name: str, made: GermlineGene | str) -> None:
    if isinstance(made, str):
        germline.left_out[made] += 1
        germline.examples.setdefault(made, name)
    else:
        genes.append(made)


def _is_coding(sequence: str) -> bool:
    """Whether a sequence is of nucleotides; a run of A, C, G and T is no V, D or J gene of residues."""
    return bool(_NUCLEOTIDES.fullmatch(sequence.upper())) and bool(sequence)


def _residues(sequence: str) -> str:
    """Translate nucleotides from the first one; residues stay as they are.

    Two nucleotides at the end count where they decide the residue, as CC does: kappa genes end so.
    """
    if not _is_coding(sequence):
        return sequence
    rest = sequence[len(sequence) // 3 * 3 :]
    last = {_translate(rest + third) for third in NUCLEOTIDES} if len(rest) == 2 else set()
    return _translate(sequence) + (last.pop() if len(last) == 1 else "")


def _translate(sequence: str, frame: int = 0) -> str:
    if not _NOT_ACGT.search(sequence):
        return translate(sequence, frame=frame)
    codons = (sequence[start : start + 3] for start in range(frame, len(sequence) - 2, 3))
    return "".join("X" if _NOT_ACGT.search(codon) else translate(codon) for codon in codons)


def _gapped_v(name: str, sequence: str) -> GermlineGene | str:
    """Take the positions from the columns of an IMGT-gapped sequence."""
    if _is_coding(sequence):
        codons = [sequence[start : start + 3] for start in range(0, len(sequence), 3)]
        if any(_GAP.search(codon) and not set(codon) <= set(".-") for codon in codons[:LAST_OF_V]):
            return "IMGT gaps that are not whole codons"
        letters = ["." if _GAP.search(codon) else _residues(codon) for codon in codons]
    else:
        letters = ["." if _GAP.match(letter) else letter for letter in sequence]
    return _v_gene(name, "".join(letters[:LAST_OF_V]), "".join(letters[LAST_OF_V:]))


def _numbered_v(entries: Sequence[tuple[str, str]]) -> Iterator[GermlineGene | str]:
    """Number V genes without gaps by immunum."""
    outcomes: dict[str, Domain | str] = {}
    for locus in sorted({name[2] for name, _ in entries}):
        own = [
            (name, residues.partition("*")[0] + _REST_OF_DOMAIN[locus.upper()])
            for name, residues in entries
            if name[2] == locus
        ]
        numbered = number([residues for _, residues in own], locus.upper())
        outcomes.update(zip([name for name, _ in own], numbered, strict=True))
    for name, residues in entries:
        outcome, before_stop = outcomes[name], residues.partition("*")[0]
        made = f"a V gene that immunum does not number ({outcome})"
        if isinstance(outcome, Domain):
            made = _placed_v(name, before_stop, outcome)
        # a stop in the CDR3 takes nothing from the rest, as trimming can remove it
        yield STOP_INSIDE if isinstance(made, str) and before_stop != residues else made


def _placed_v(name: str, residues: str, domain: Domain) -> GermlineGene | str:
    numbers = domain.positions >> 8
    in_framework = np.flatnonzero(numbers <= LAST_OF_V)
    if (domain.positions[in_framework] & 255).any():
        return "a V gene with insertions before position 104"
    columns = np.full(LAST_OF_V, ord("."), dtype=np.uint8)
    letters = np.frombuffer(residues.encode(), dtype=np.uint8)
    stop = domain.start + len(in_framework)
    if stop > len(letters):
        return "a V gene that ends before position 104"
    columns[numbers[in_framework] - 1] = letters[domain.start : stop]
    return _v_gene(name, columns.tobytes().decode(), residues[stop:])


def _v_gene(name: str, columns: str, cdr3: str) -> GermlineGene | str:
    """Make a gene of the letters at positions 1 to 104, ``.`` for none, and those behind."""
    if "*" in columns:
        return STOP_INSIDE
    framework = CODE[np.frombuffer(columns.ljust(LAST_OF_V, ".").encode(), dtype=np.uint8)]
    if int((framework != ABSENT).sum()) < _MIN_V:
        return f"fewer than {_MIN_V} residues up to position 104"
    return GermlineGene(name, "V", framework, cdr3.partition("*")[0].replace(".", ""))


def _d_gene(name: str, sequence: str) -> GermlineGene | str:
    bases = _GAP.sub("", sequence)
    frames = [_translate(bases, frame) for frame in range(3)] if _is_coding(bases) else [bases]
    return GermlineGene(name, "D", np.zeros(0, dtype=np.int8), "", tuple(frames))


def _j_gene(name: str, sequence: str) -> GermlineGene | str:
    """Make a gene by the motif at 118 to 121, in the frame where it is and nothing stops."""
    bases = _GAP.sub("", sequence)
    own_frame = (len(bases) - 1) % 3  # where a J gene ends with the first nucleotide of a codon
    frames = sorted(range(3), key=lambda frame: frame != own_frame)
    readings = [_translate(bases, frame) for frame in frames] if _is_coding(bases) else [bases]
    for residues in readings:
        match = _J_MOTIF.search(residues)
        if match and "*" not in residues[match.start() :].rstrip("*"):
            rest = residues[match.start() : match.start() + J_LENGTH].rstrip("*")
            framework = CODE[np.frombuffer(rest.ljust(J_LENGTH, ".").encode(), dtype=np.uint8)]
            return GermlineGene(name, "J", framework, residues[: match.start()].rpartition("*")[2])
    return "a J gene without the motif [WF]-G-X-G"


def _stack(genes: Sequence[GermlineGene]) -> GermlineTable:
    """Lay genes of one kind over each other; J residues before 118 are turned round."""
    texts = [gene.cdr3[::-1] if gene.kind == "J" else gene.cdr3 for gene in genes]
    longest = max(1, *map(len, texts))
    cdr3 = np.frombuffer("".join(text.ljust(longest, ".") for text in texts).encode(), dtype=np.uint8)
    return GermlineTable(
        names=tuple(gene.name for gene in genes),
        framework=np.stack([gene.framework for gene in genes]),
        cdr3=CODE[cdr3].reshape(len(genes), longest),
    )
