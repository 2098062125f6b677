"""Germline assignment: nearest V and J genes, and the tracks `germline`, `segment` and `mutated`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain as chain_of
from itertools import islice

import numpy as np

from protlm.data.germline_alignment import Block, Junctions
from protlm.data.germline_genes import find_j, find_v, framework_residues, named_genes
from protlm.data.germline_report import (
    ASSIGNED,
    GIVEN_D,
    NO_MATCH,
    NOT_IN_SET,
    NOT_KNOWN_LOCUS,
    SAME_SPECIES,
    GermlineReport,
)
from protlm.data.germline_set import ABSENT, GermlineGene, GermlineSet
from protlm.data.junctions import Segmented, segment_junctions
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import Mutated, Region, Segment

CHUNK = 4096
MIN_IDENTITY = 0.5
"""Share of equal residues, of V from 1 to 104 and of J from 118 on, below which no gene is assigned."""

_BYTES = np.zeros(256, dtype=np.uint8)
_BYTES[: len(STANDARD)] = np.frombuffer(STANDARD.encode(), dtype=np.uint8)
_V_REGIONS = (Region.FR1, Region.CDR1, Region.FR2, Region.CDR2, Region.FR3)
_TRACKS = ("segment", "germline", "mutated")


def assign_germline(
    records: Iterable[Record],
    germline: GermlineSet,
    *,
    min_identity: float = MIN_IDENTITY,
    min_median: float = 0.0,
    report: GermlineReport | None = None,
) -> Iterator[Record]:
    """Stream records whose numbered chains have germline genes and the tracks that follow from them.

    V and J gene: the allele that `v_call` and `j_call` name, if the set has it; the nearest allele of the
    gene that they name; else the nearest one of the chain's locus, see `nearest_v` and `nearest_j`. A chain
    without a call gets the name found. Then, for residues of the variable domain,

    `segment`
        V up to position 104 and J from 118 on; in the CDR3 V, N, D and J, see `segment_junctions`. Where only
        V or only J is assigned, the residues of the other one and of the CDR3 between are not known.
    `germline`
        The germline residue, where there is one.
    `mutated`
        `GERMLINE` where the residue is the germline's, else `MUTATED`, as is a residue that the germline gene
        lacks (an insertion); `NONE` where the segment is N, or the residue none of the twenty.

    Tracks that a chain has already are kept, and what is added agrees with them.

    Parameters
    ----------
    records
        Numbered records, with locus and `position` track; others pass through.
    germline
        From `open_germline`.
    min_identity
        In [0, 1]; below it a chain gets no gene and no tracks. It does not tell species apart: mouse chains
        have 0.55 to 0.8 with their nearest human V gene, human ones against HIV 0.4 to 0.95.
    min_median
        In [0, 1]; where the median identity of V over the first `CHUNK` records is below it, all records pass
        as they are. `SAME_SPECIES` tells chains of the set's species from others, if most are.
    report
        Filled with counts.

    Raises
    ------
    DataError
        If `min_identity` is no share.

    Notes
    -----
    An allele that the set lacks looks like mutations; so does what a primer put there.
    """
    if not 0 <= min_identity <= 1:
        raise DataError(f"minimal identity {min_identity} is not a share", hint="expected 0 to 1")
    report = report if report is not None else GermlineReport()
    report.set_lines, report.min_identity = germline.lines(), min_identity
    report.is_asked = not min_median
    stream = iter(records)
    head = list(islice(stream, CHUNK))
    if min_median and not _is_near(head, germline, min_median, report):
        yield from chain_of(head, stream)
        return
    stream = chain_of(head, stream)
    while chunk := list(islice(stream, CHUNK)):
        chains = [chain for record in chunk for chain in record.chains]
        ids = [record.id for record in chunk for _ in record.chains]
        made = iter(_assign(chains, ids, germline, min_identity, report))
        for record in chunk:
            own = tuple(islice(made, len(record.chains)))
            yield Record(record.id, own, record.labels, record.group)


def _is_near(
    records: Sequence[Record], germline: GermlineSet, min_median: float, report: GermlineReport
) -> bool:
    """Whether the median identity of V is high enough; if not, say so in the report."""
    trial = GermlineReport()
    chains = [chain for record in records for chain in record.chains]
    _assign(chains, [""] * len(chains), germline, 0.0, trial)
    report.num_probed, report.probed_median = trial.num_compared, trial.median_identity
    report.num_unnumbered, report.other_loci = trial.num_unnumbered, trial.other_loci
    report.is_off = trial.median_identity < min_median
    if not report.is_off:  # then all chains are counted as they are assigned
        report.num_unnumbered, report.other_loci = 0, Counter()
    return not report.is_off


def num_mutations(chain: Chain) -> int | None:
    """Count the residues of V that differ from its germline; `None` where that is not known.

    Parameters
    ----------
    chain
        With the track `mutated`. V is where `segment` says so; without that track, regions FR1 to FR3.

    Examples
    --------
    >>> tracks = {"segment": np.array([1, 1, 2, 4]), "mutated": np.array([1, 2, 0, 2])}
    >>> num_mutations(Chain("EVQL", tracks=tracks)), num_mutations(Chain("EVQL"))
    (1, None)
    """
    mutated, tracks = chain.tracks.get("mutated"), chain.tracks
    if mutated is None or not ("segment" in tracks or "region" in tracks):
        return None
    in_v = tracks["segment"] == Segment.V if "segment" in tracks else np.isin(tracks["region"], _V_REGIONS)
    if not (mutated[in_v] != Mutated.NONE).any():
        return None
    return int((mutated[in_v] == Mutated.MUTATED).sum())


def _assign(
    chains: Sequence[Chain],
    ids: Sequence[str],
    germline: GermlineSet,
    min_identity: float,
    report: GermlineReport,
) -> list[Chain]:
    made = list(chains)
    by_locus: dict[str, list[int]] = {}
    others: list[str] = []
    for index, chain in enumerate(chains):
        if "position" in chain.tracks and germline.table(chain.locus, "V") is not None:
            by_locus.setdefault(chain.locus, []).append(index)
            continue
        others.append(ids[index])
        if "position" in chain.tracks:
            report.other_loci[chain.locus] += 1
        else:
            report.num_unnumbered += 1
    report.count("V", [NOT_KNOWN_LOCUS] * len(others), others)
    for locus, indices in by_locus.items():
        some = [chains[index] for index in indices]
        found = _Assignment(some, [ids[index] for index in indices], locus, germline, min_identity, report)
        for index, chain in zip(indices, found.chains(), strict=True):
            made[index] = chain
    return made


class _Assignment:
    """Germline genes of the chains of one locus."""

    def __init__(
        self,
        chains: Sequence[Chain],
        ids: Sequence[str],
        locus: str,
        germline: GermlineSet,
        min_identity: float,
        report: GermlineReport,
    ) -> None:
        self._chains, self._ids, self._report = chains, ids, report
        self._all_d = germline.d_genes(locus)
        self._block = Block.of(
            np.frombuffer("".join(chain.residues for chain in chains).encode(), dtype=np.uint8),
            np.concatenate([chain.tracks["position"] for chain in chains]),
            np.array([len(chain) for chain in chains], dtype=np.int64),
        )
        self._junctions = Junctions.of(self._block)
        v_table, j_table = (germline.table(locus, kind) for kind in "VJ")
        assert v_table is not None
        calls = [chain.v_call for chain in chains]
        self._v = find_v(self._block, self._junctions, v_table, calls, min_identity)
        report.count("V", self._v.how, ids)
        report.add_identities(locus, self._v.nearest.identity[self._v.is_assigned])
        self._j = None
        if j_table is not None:
            calls = [chain.j_call for chain in chains]
            self._j = find_j(self._block, self._junctions, j_table, calls, min_identity, self._v)
            report.count("J", self._j.how, ids)

    def chains(self) -> list[Chain]:
        """Give the chains with their calls and tracks."""
        junctions = self._segment_junctions()
        segment, letters = self._tracks(junctions)
        mutated = _mutated(self._block.letters, segment, letters)
        stops = np.cumsum(self._block.lengths).tolist()
        has_any = self._v.is_assigned.copy()
        if self._j is not None:
            has_any |= self._j.is_assigned
        made, start = [], 0
        for index, (chain, stop, some) in enumerate(zip(self._chains, stops, has_any.tolist(), strict=True)):
            found = {
                "segment": segment[start:stop],
                "germline": letters[start:stop],
                "mutated": mutated[start:stop],
            }
            start = stop
            d_call = junctions.d_gene[index]
            if any(name in chain.tracks for name in _TRACKS):
                has_d = found["segment"] == Segment.D
                found = self._merged(chain, found["segment"], found["germline"])
                if not (has_d & (found["segment"] == Segment.D)).any():
                    d_call = ""  # the input's segments have no D there
            elif not some:
                made.append(chain)
                continue
            calls = {
                "v_call": chain.v_call or self._v.name(index),
                "d_call": chain.d_call or d_call,
                "j_call": chain.j_call or ("" if self._j is None else self._j.name(index)),
            }
            tracks = {**chain.tracks, **found}
            made.append(Chain(chain.residues, chain.role, chain.locus, tracks=tracks, **calls))
        self._count_segments(made)
        return made

    def _segment_junctions(self) -> Segmented:
        """Part the CDR3s of chains that have both genes; of others, only what one of them reaches."""
        has_both = np.zeros(len(self._block), dtype=bool)
        j_cdr3 = np.full((len(self._block), 1), ABSENT, dtype=np.int8)
        if self._j is not None:
            has_both = self._v.is_assigned & self._j.is_assigned
            j_cdr3 = self._j.cdr3
        genes = self._d_candidates(has_both)
        parts = segment_junctions(self._junctions, self._v.cdr3, j_cdr3, self._v.rates, genes)
        self._count_d(parts, genes)
        segment = np.where(
            (parts.segment == Segment.N) & ~has_both[:, None], np.uint8(Segment.NONE), parts.segment
        )
        return replace(parts, segment=segment)

    def _count_d(self, parts: Segmented, genes: Sequence[Sequence[GermlineGene]]) -> None:
        words, ids = [], []
        for chain, record_id, own, name in zip(self._chains, self._ids, genes, parts.d_gene, strict=True):
            if own:
                by_call = GIVEN_D if len(own) < len(self._all_d) else NOT_IN_SET
                words.append(NO_MATCH if not name else by_call if chain.d_call else ASSIGNED)
                ids.append(record_id)
        self._report.count("D", words, ids)

    def _d_candidates(self, has_both: np.ndarray) -> list[Sequence[GermlineGene]]:
        """Give the D genes that a chain may have: those that its call names, if the set has them, or all."""
        everything = self._all_d
        of_call: dict[str, Sequence[GermlineGene]] = {"": everything}
        candidates: list[Sequence[GermlineGene]] = []
        for chain, both in zip(self._chains, has_both, strict=True):
            if chain.d_call not in of_call:
                names = named_genes(chain.d_call, [gene.name for gene in everything])
                of_call[chain.d_call] = tuple(everything[index] for index in names) or everything
            candidates.append(of_call[chain.d_call] if both else ())
        return candidates

    def _tracks(self, parts: Segmented) -> tuple[np.ndarray, np.ndarray]:
        """Give segment codes and germline letters of all residues."""
        block, inside = self._block, self._junctions
        segment = np.zeros(len(block.letters), dtype=np.uint8)
        codes = np.full(len(block.letters), ABSENT, dtype=np.int8)
        segment[inside.residue] = parts.segment[inside.chain, inside.offset]
        codes[inside.residue] = parts.germline[inside.chain, inside.offset]
        for genes, kind in ((self._v, Segment.V), (self._j, Segment.J)):
            if genes is not None:
                residue, of_gene = framework_residues(block, genes, is_v=kind == Segment.V)
                segment[residue], codes[residue] = kind, of_gene
        return segment, np.where(codes >= 0, _BYTES[codes], np.uint8(0))

    def _merged(self, chain: Chain, segment: np.ndarray, letters: np.ndarray) -> dict[str, np.ndarray]:
        """Give the tracks of a chain that has some already: those before the ones that were found.

        A germline residue is added only where the input's segment is the one that it was found for.
        """
        for name in _TRACKS:
            self._report.kept[name] += name in chain.tracks
        found, segment = segment, chain.tracks.get("segment", segment)
        letters = chain.tracks.get("germline", np.where(segment == found, letters, np.uint8(0)))
        mutated = chain.tracks.get("mutated")
        if mutated is None:
            own = np.frombuffer(chain.residues.encode(), dtype=np.uint8)
            mutated = _mutated(own, segment, letters)
            mutated[letters == 0] = Mutated.NONE  # another's segments do not say what an insertion is
        return {"segment": segment, "germline": letters, "mutated": mutated}

    def _count_segments(self, chains: Sequence[Chain]) -> None:
        tracks = [chain.tracks["segment"] for chain in chains if "segment" in chain.tracks]
        if tracks:
            counts = np.bincount(np.concatenate(tracks), minlength=len(Segment))
            self._report.residues.update({each.name: int(counts[each]) for each in Segment if each})


_IS_STANDARD = np.zeros(256, dtype=bool)
_IS_STANDARD[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = True


def _mutated(letters: np.ndarray, segment: np.ndarray, germline: np.ndarray) -> np.ndarray:
    """Give `Mutated` codes of residues; one of V, D or J without a germline residue is an insertion."""
    templated = np.isin(segment, (Segment.V, Segment.D, Segment.J)) & _IS_STANDARD[letters]
    codes = np.where(letters == germline, np.uint8(Mutated.GERMLINE), np.uint8(Mutated.MUTATED))
    return np.where(templated, codes, np.uint8(Mutated.NONE))


__all__ = ["CHUNK", "MIN_IDENTITY", "SAME_SPECIES", "assign_germline", "num_mutations"]
