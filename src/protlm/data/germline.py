"""Human immunoglobulin germline segments: the project's own compact nucleotide table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from protlm.errors import DataError, did_you_mean

NUCLEOTIDES = "TCAG"
"""Nucleotides in the order of the standard genetic code's table."""
GENETIC_CODE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
"""Residue of each codon, the first nucleotide of `NUCLEOTIDES` varying slowest; ``*`` is a stop."""
GENE_TYPES = ("IGHV", "IGHD", "IGHJ", "IGKV", "IGKJ", "IGLV", "IGLJ")

_CODON = {
    first + second + third: GENETIC_CODE[16 * i + 4 * j + k]
    for i, first in enumerate(NUCLEOTIDES)
    for j, second in enumerate(NUCLEOTIDES)
    for k, third in enumerate(NUCLEOTIDES)
}
_SECOND_CYSTEINE = re.compile("[YF][YFH](C)")
_J_MOTIF = re.compile("([WF])G.G")
_V_TAIL = 20  # residues at the end of a V segment among which IMGT position 104 lies


def translate(sequence: str, *, frame: int = 0) -> str:
    """Give the residues that a nucleotide sequence encodes.

    Parameters
    ----------
    sequence
        Nucleotides A, C, G, T; an incomplete last codon is left out.
    frame
        Index of the first nucleotide of the first codon: 0, 1 or 2.

    Returns
    -------
    str
        One letter per codon; ``*`` is a stop.

    Examples
    --------
    >>> translate("TGTGCGAAAG")
    'CAK'
    """
    return "".join(_CODON[sequence[start : start + 3]] for start in range(frame, len(sequence) - 2, 3))


@dataclass(frozen=True, slots=True)
class GermlineSegment:
    """One germline allele."""

    gene_type: str
    """One of `GENE_TYPES`."""
    allele: str
    """Allele name of the OGRDB set, such as IGHV3-23*01."""
    weight: float
    """Relative usage in a human repertoire, above 0; comparable within a type, and between IGKV and IGLV."""
    sequence: str
    """Ungapped nucleotides. V starts in frame; J ends with the first nucleotide of a codon."""

    @property
    def gene(self) -> str:
        """Name without the allele, such as IGHV3-23."""
        return self.allele.partition("*")[0]

    @property
    def family(self) -> str:
        """Name of the gene family, such as IGHV3; IGKV1 for IGKV1-39 and the distal IGKV1D-39."""
        return self.gene.partition("-")[0].removesuffix("D")

    @property
    def anchor(self) -> int:
        """Index of the first nucleotide of the conserved codon beside the CDR3.

        In a V segment the second cysteine (IMGT position 104), in a J segment the tryptophan or
        phenylalanine (118) of the motif [WF]-G-X-G; -1 in a D segment.
        """
        if self.gene_type.endswith("V"):
            residues = translate(self.sequence)
            match = _SECOND_CYSTEINE.search(residues, len(residues) - _V_TAIL)
            return -1 if match is None else 3 * match.start(1)
        if self.gene_type.endswith("J"):
            frame = (len(self.sequence) - 1) % 3
            match = _J_MOTIF.search(translate(self.sequence, frame=frame))
            return -1 if match is None else frame + 3 * match.start(1)
        return -1


@cache
def _table() -> Mapping[str, tuple[GermlineSegment, ...]]:
    text = (files("protlm.data") / "human_germline.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")][1:]
    segments = [GermlineSegment(kind, allele, float(weight), bases) for kind, allele, weight, bases in rows]
    return MappingProxyType({kind: tuple(s for s in segments if s.gene_type == kind) for kind in GENE_TYPES})


def germline_segments(gene_type: str) -> tuple[GermlineSegment, ...]:
    """Give the human germline segments of a type.

    Parameters
    ----------
    gene_type
        One of `GENE_TYPES`.

    Returns
    -------
    tuple of GermlineSegment
        In the order of the table, which is read once.

    Raises
    ------
    DataError
        If the type is not known.

    References
    ----------
    Lees et al. 2020, OGRDB: a reference database of inferred immune receptor genes,
    Nucleic Acids Research 48:D964, doi:10.1093/nar/gkz822.

    Examples
    --------
    >>> segment = germline_segments("IGHJ")[3]
    >>> segment.gene, translate(segment.sequence[segment.anchor :])
    ('IGHJ4', 'WGQGTLVTVSS')
    """
    if gene_type not in GENE_TYPES:
        raise DataError(
            f"no germline segments of type {gene_type!r}", hint=did_you_mean(gene_type, GENE_TYPES)
        )
    return _table()[gene_type]
