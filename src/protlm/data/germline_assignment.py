"""Germline assignment: nearest V and J genes, and the tracks `germline`, `segment` and `mutated`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain as chain_of
from itertools import islice

import numpy as np

from protlm.data.germline_alignment import (
    MIN_J_RESIDUES,
    MIN_V_RESIDUES,
    Block,
    Junctions,
    Nearest,
    mutation_rates,
    nearest_j,
    nearest_v,
)
from protlm.data.germline_report import (
    ASSIGNED,
    GIVEN,
    GIVEN_D,
    GIVEN_GENE,
    NO_MATCH,
    NOT_IN_SET,
    NOT_KNOWN_LOCUS,
    TOO_FAR,
    TOO_SHORT,
    GermlineReport,
)
from protlm.data.germline_set import (
    ABSENT,
    FIRST_OF_J,
    J_LENGTH,
    LAST_OF_V,
    GermlineGene,
    GermlineSet,
    GermlineTable,
    call_name,
)
from protlm.data.junctions import Segmented, segment_junctions
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import Mutated, Region, Segment

CHUNK = 4096
MIN_IDENTITY = 0.5
"""Share of equal residues, of V from 1 to 104 and of J from 118 on, below which no gene is assigned."""

SAME_SPECIES = 0.73
"""Median identity of V from which on chains are taken to be of the set's species. Against human genes it is
0.67 (heavy), 0.71 (kappa) and 0.63 (lambda) for 1,105 mouse chains of SAbDab, 0.89 to 0.93 for 2,448 human
ones, and 0.76 (heavy) for antibodies against HIV, the most mutated that there are."""

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
    report.is_off = trial.median_identity < min_median
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
        else:
            others.append(ids[index])
    report.count("V", [NOT_KNOWN_LOCUS] * len(others), others)
    for locus, indices in by_locus.items():
        some = [chains[index] for index in indices]
        found = _Assignment(some, [ids[index] for index in indices], locus, germline, min_identity, report)
        for index, chain in zip(indices, found.chains(), strict=True):
            made[index] = chain
    return made


@dataclass(frozen=True)
class _Gene:
    """The V or J gene of each chain of a block."""

    table: GermlineTable
    nearest: Nearest
    is_assigned: np.ndarray
    """Whether it counts, bool ``[n]``."""

    def framework(self) -> np.ndarray:
        """Codes by chain and position."""
        return self.table.framework[self.nearest.gene]

    def cdr3(self) -> np.ndarray:
        """Codes inside the CDR3."""
        return self.table.cdr3[self.nearest.gene]

    def name(self, chain: int) -> str:
        """Allele of a chain; empty where none counts."""
        return self.table.names[self.nearest.gene[chain]] if self.is_assigned[chain] else ""


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
        self._germline, self._locus, self._min_identity = germline, locus, min_identity
        self._block = Block.of(
            np.frombuffer("".join(chain.residues for chain in chains).encode(), dtype=np.uint8),
            np.concatenate([chain.tracks["position"] for chain in chains]),
            np.array([len(chain) for chain in chains], dtype=np.int64),
        )
        self._junctions = Junctions.of(self._block)
        self._v = self._v_genes()
        self._rates = mutation_rates(self._v.nearest)
        self._j = self._j_genes()

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
            if any(name in chain.tracks for name in _TRACKS):
                found = self._merged(chain, found["segment"], found["germline"])
            elif not some:
                made.append(chain)
                continue
            calls = {
                "v_call": chain.v_call or self._v.name(index),
                "d_call": chain.d_call or junctions.d_gene[index],
                "j_call": chain.j_call or ("" if self._j is None else self._j.name(index)),
            }
            tracks = {**chain.tracks, **found}
            made.append(Chain(chain.residues, chain.role, chain.locus, tracks=tracks, **calls))
        self._count_segments(made)
        return made

    def _v_genes(self) -> _Gene:
        table = self._germline.table(self._locus, "V")
        assert table is not None
        allowed, how = _allowed([chain.v_call for chain in self._chains], table)
        nearest = nearest_v(self._block, self._junctions, table, allowed)
        own = np.bincount(
            self._block.chain,
            weights=(self._block.numbers > 0) & (self._block.numbers <= LAST_OF_V) & (self._block.codes >= 0),
            minlength=len(self._block),
        )
        is_assigned = self._count("V", how, nearest, own >= MIN_V_RESIDUES)
        self._report.add_identities(self._locus, nearest.identity[is_assigned])
        return _Gene(table, nearest, is_assigned)

    def _j_genes(self) -> _Gene | None:
        table = self._germline.table(self._locus, "J")
        if table is None:
            return None
        allowed, how = _allowed([chain.j_call for chain in self._chains], table)
        rates = np.where(self._v.is_assigned, self._rates, self._rates.mean())
        nearest = nearest_j(self._block, self._junctions, table, rates, allowed)
        is_assigned = self._count("J", how, nearest, nearest.compared >= MIN_J_RESIDUES)
        return _Gene(table, nearest, is_assigned)

    def _count(self, kind: str, how: list[str], nearest: Nearest, is_long: np.ndarray) -> np.ndarray:
        """Count how chains came to their genes; give those that did."""
        is_near = nearest.identity >= self._min_identity
        is_assigned = is_long & is_near
        words = list(how)
        for index in np.flatnonzero(~is_assigned).tolist():
            words[index] = TOO_FAR if is_long[index] else TOO_SHORT
        self._report.count(kind, words, self._ids)
        return is_assigned

    def _segment_junctions(self) -> Segmented:
        """Part the CDR3s of chains that have both genes; of others, only what one of them reaches."""
        none = np.full((len(self._block), 1), ABSENT, dtype=np.int8)
        v_cdr3 = np.where(self._v.is_assigned[:, None], self._v.cdr3(), np.int8(ABSENT))
        j_cdr3, has_j = none, np.zeros(len(self._block), dtype=bool)
        if self._j is not None:
            has_j = self._j.is_assigned
            j_cdr3 = np.where(has_j[:, None], self._j.cdr3(), np.int8(ABSENT))
        has_both = self._v.is_assigned & has_j
        genes = self._d_candidates(has_both)
        parts = segment_junctions(self._junctions, v_cdr3, j_cdr3, self._rates, genes)
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

    @cached_property
    def _all_d(self) -> tuple[GermlineGene, ...]:
        return self._germline.d_genes(self._locus)

    def _d_candidates(self, has_both: np.ndarray) -> list[Sequence[GermlineGene]]:
        """Give the D genes that a chain may have: those that its call names, if the set has them, or all."""
        everything = self._all_d
        of_call: dict[str, Sequence[GermlineGene]] = {"": everything}
        candidates: list[Sequence[GermlineGene]] = []
        for chain, both in zip(self._chains, has_both, strict=True):
            if chain.d_call not in of_call:
                names = _named(call_name(chain.d_call), tuple(gene.name for gene in everything))
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
        _fill(segment, codes, block, self._v, 1, LAST_OF_V, Segment.V)
        if self._j is not None:
            _fill(segment, codes, block, self._j, FIRST_OF_J, FIRST_OF_J + J_LENGTH - 1, Segment.J)
        return segment, np.where(codes >= 0, _BYTES[codes], np.uint8(0))

    def _merged(self, chain: Chain, segment: np.ndarray, letters: np.ndarray) -> dict[str, np.ndarray]:
        """Give the tracks of a chain that has some already: those before the ones that were found."""
        for name in _TRACKS:
            self._report.kept[name] += name in chain.tracks
        segment = chain.tracks.get("segment", segment)
        is_templated = (segment != Segment.N) & (segment != Segment.NONE)
        letters = chain.tracks.get("germline", np.where(is_templated, letters, np.uint8(0)))
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


def _fill(
    segment: np.ndarray,
    codes: np.ndarray,
    block: Block,
    genes: _Gene,
    first: int,
    last: int,
    kind: Segment,
) -> None:
    """Write segment and germline of the residues from position `first` to `last`.

    Residues behind the last one of the germline gene, such as the first of a constant domain, are of no
    segment.
    """
    framework = genes.framework()
    last_of_gene = first + framework.shape[1] - 1 - (framework[:, ::-1] != ABSENT).argmax(axis=1)
    numbers, chain = block.numbers, block.chain
    inside = (numbers >= first) & (numbers <= np.minimum(last, last_of_gene)[chain])
    inside &= genes.is_assigned[chain]
    segment[inside] = kind
    inside &= block.positions & 255 == 0
    codes[inside] = framework[chain[inside], numbers[inside] - first]


def _allowed(calls: Sequence[str], table: GermlineTable) -> tuple[np.ndarray | None, list[str]]:
    """Give the genes that each chain's call allows, and how it comes to its gene."""
    how: list[str] = []
    masks: dict[str, tuple[np.ndarray, str]] = {"": (np.ones(len(table.names), dtype=bool), ASSIGNED)}
    for call in calls:
        if call not in masks:
            named = _named(call_name(call), table.names)
            mask = np.ones(len(table.names), dtype=bool)
            if named:
                mask = np.isin(np.arange(len(table.names)), named)
            exact = len(named) == 1 and table.names[named[0]].upper() == call_name(call).upper()
            masks[call] = mask, (GIVEN if exact else GIVEN_GENE) if named else NOT_IN_SET
        how.append(masks[call][1])
    if len(masks) == 1:
        return None, how
    return np.stack([masks[call][0] for call in calls]), how


def _named(name: str, names: Sequence[str]) -> list[int]:
    """Give the places of the allele of this name, or, if there is none, of all alleles of its gene."""
    if not name:
        return []
    wanted = name.upper()
    exact = [place for place, each in enumerate(names) if each.upper() == wanted]
    gene = wanted.partition("*")[0]
    return exact or [place for place, each in enumerate(names) if each.upper().partition("*")[0] == gene]
