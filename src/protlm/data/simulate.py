"""A simulated human antibody repertoire that knows where each residue comes from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
import polars as pl

from protlm.data.germline import GENETIC_CODE, NUCLEOTIDES, GermlineSegment, germline_segments
from protlm.errors import DataError
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Mutated, Segment

COUPLED_FAMILY: Mapping[str, str] = MappingProxyType(
    {
        "IGHV1": "IGKV3",
        "IGHV2": "IGLV3",
        "IGHV3": "IGKV1",
        "IGHV4": "IGLV2",
        "IGHV5": "IGKV4",
        "IGHV6": "IGLV1",
        "IGHV7": "IGKV2",
    }
)
"""Light V family that a heavy V family takes where pairing is coupled; invented, one to one."""

NAIVE_SHARE = 0.4
"""Share of records without somatic mutation."""
MAXIMAL_MUTATION_RATE = 0.3
"""Highest rate of substitutions per nucleotide, as the mean to ask for and as what any record gets."""

_MEMORY_SHAPE = 2.0  # of the gamma distribution of mutation rates over memory records
_HOTSPOT = 3.0  # mutability of the C in WRC and the G in GYW, relative to other nucleotides
_TRANSITION = 0.6  # share of substitutions that are transitions
_ATTEMPTS = 48  # junctions drawn at once; about one in four is productive
_RESIDUES = np.frombuffer(GENETIC_CODE.encode(), dtype=np.uint8)
_STOP = ord("*")
_N_COMPOSITION = np.cumsum([0.19, 0.31, 0.19, 0.31])[:-1]  # of T, C, A, G in N additions: GC-rich
_ORDER = np.array([Segment.V, Segment.N, Segment.D, Segment.N, Segment.J], dtype=np.uint8)
_NO_BASES = np.zeros(0, dtype=np.uint8)
_LETTER_OF_SEGMENT = np.frombuffer(b"?VNDJ", dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class _Junction:
    """Mean nucleotides lost and added where segments join, and the CDR3 lengths in residues that are kept."""

    shape: int
    """Shape of the negative binomial lengths; the higher, the nearer to Poisson."""

    v_trimming: float
    d_trimming: float
    j_trimming: float
    additions: float
    shortest: int
    longest: int


_HEAVY = _Junction(3, 2.0, 5.0, 5.5, 6.0, 5, 30)
_LIGHT = _Junction(12, 2.0, 0.0, 2.0, 0.8, 5, 14)


@dataclass(frozen=True, slots=True)
class _Rearrangement:
    """An unmutated productive V(D)J join."""

    bases: np.ndarray
    """Indices into `NUCLEOTIDES`, whole codons only."""
    origins: np.ndarray
    """`Segment` of each nucleotide."""
    anchors: tuple[int, int]
    """Index of the codons on both sides of the CDR3: the cysteine at 104 and W or F at 118."""


@cache
def _bases(segment: GermlineSegment) -> np.ndarray:
    return np.array([NUCLEOTIDES.index(letter) for letter in segment.sequence], dtype=np.uint8)


@cache
def _anchor(segment: GermlineSegment) -> int:
    return segment.anchor


@cache
def _choices(gene_types: tuple[str, ...], family: str) -> tuple[tuple[GermlineSegment, ...], np.ndarray]:
    segments = tuple(
        s for kind in gene_types for s in germline_segments(kind) if not family or s.family == family
    )
    return segments, np.cumsum([s.weight for s in segments])


def _choose(rng: np.random.Generator, *gene_types: str, family: str = "") -> GermlineSegment:
    segments, cumulative = _choices(gene_types, family)
    return segments[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


def _trials(
    rng: np.random.Generator, v_length: int, d_length: int, j_length: int, model: _Junction
) -> Iterator[list[int]]:
    """Give junctions without end: V lost, N1, D start, D stop, N2, J lost; in frame and of a fit length.

    The lengths of V and J are those inside the CDR3, all that trimming can take.
    """

    def lengths(mean: float, longest: int) -> np.ndarray:
        drawn = rng.negative_binomial(model.shape, model.shape / (model.shape + mean), _ATTEMPTS)
        return np.minimum(drawn, longest)

    most_added = 3 * model.longest
    while True:
        v_lost = lengths(model.v_trimming, v_length)
        d_start = lengths(model.d_trimming, d_length)
        d_stop = np.maximum(d_length - lengths(model.d_trimming, d_length), d_start)
        j_lost = lengths(model.j_trimming, j_length)
        n1, n2 = lengths(model.additions, most_added), lengths(model.additions, most_added if d_length else 0)
        total = v_length - v_lost + n1 + d_stop - d_start + n2 + j_length - j_lost
        fit = (total % 3 == 0) & (total >= 3 * model.shortest) & (total <= 3 * model.longest)
        yield from np.stack([v_lost, n1, d_start, d_stop, n2, j_lost], axis=1)[fit].tolist()


def _join(
    rng: np.random.Generator,
    v: GermlineSegment,
    d: GermlineSegment | None,
    j: GermlineSegment,
    trial: list[int],
) -> _Rearrangement:
    """Join segments as a trial of `_trials` says; the last, incomplete codon is left out."""
    v_lost, n1, d_start, d_stop, n2, j_lost = trial
    v_bases, d_bases, j_bases = _bases(v), _NO_BASES if d is None else _bases(d), _bases(j)
    added = np.searchsorted(_N_COMPOSITION, rng.random(n1 + n2)).astype(np.uint8)
    parts = [v_bases[: len(v_bases) - v_lost], added[:n1], d_bases[d_start:d_stop], added[n1:]]
    end = sum(map(len, parts)) + _anchor(j) - j_lost
    parts.append(j_bases[j_lost:])
    bases, origins = np.concatenate(parts), np.repeat(_ORDER, [len(part) for part in parts])
    coding = len(bases) // 3 * 3
    return _Rearrangement(bases[:coding], origins[:coding], (_anchor(v) // 3, end // 3))


def _rearrange(
    rng: np.random.Generator, v: GermlineSegment, d: GermlineSegment | None, j: GermlineSegment
) -> _Rearrangement:
    """Redraw the junction of given segments until it is productive."""
    inside_v, d_length = len(v.sequence) - _anchor(v) - 3, 0 if d is None else len(d.sequence)
    trials = _trials(rng, inside_v, d_length, _anchor(j), _LIGHT if d is None else _HEAVY)
    joins = (_join(rng, v, d, j, trial) for trial in trials)
    return next(join for join in joins if _STOP not in _residues(join.bases))


def _residues(bases: np.ndarray) -> np.ndarray:
    """Translate whole codons to ASCII letters."""
    return _RESIDUES[bases[0::3] * 16 + bases[1::3] * 4 + bases[2::3]]


def _segments(origins: np.ndarray) -> np.ndarray:
    """Give each codon the segment of most of its nucleotides; of three, N, or else the middle one."""
    first, second, third = origins[0::3], origins[1::3], origins[2::3]
    has_n = (first == Segment.N) | (second == Segment.N) | (third == Segment.N)
    tied = np.where(has_n, np.uint8(Segment.N), second)
    return np.where((first == second) | (first == third), first, np.where(second == third, second, tied))


def _mutability(rearrangement: _Rearrangement) -> np.ndarray:
    """Relative chance of a substitution at each nucleotide, mean 1; 0 in the codons that fold the domain."""
    bases = rearrangement.bases
    weak, purine = bases % 2 == 0, bases >= 2
    hot = np.zeros(len(bases), dtype=bool)
    hot[2:] |= (bases[2:] == NUCLEOTIDES.index("C")) & purine[1:-1] & weak[:-2]
    hot[:-2] |= (bases[:-2] == NUCLEOTIDES.index("G")) & ~purine[1:-1] & weak[2:]
    values = np.where(hot, _HOTSPOT, 1.0)
    first_cysteine = int(np.flatnonzero(_residues(bases) == ord("C"))[0])
    for codon in (first_cysteine, *rearrangement.anchors):
        values[3 * codon : 3 * codon + 3] = 0.0
    return values / values.mean()


def _mutate(rng: np.random.Generator, rearrangement: _Rearrangement, rate: float) -> np.ndarray:
    """Give the residues after somatic hypermutation; a codon that became a stop is put back."""
    germline = _residues(rearrangement.bases)
    if rate == 0.0:
        return germline
    hits = np.flatnonzero(rng.random(len(rearrangement.bases)) < rate * _mutability(rearrangement))
    # In the order TCAG, 1 flips a nucleotide to its transition, 2 and 3 to the two transversions.
    flips = np.searchsorted([_TRANSITION, (1 + _TRANSITION) / 2], rng.random(len(hits))) + 1
    bases = rearrangement.bases.copy()
    bases[hits] ^= flips.astype(np.uint8)
    residues = _residues(bases)
    return np.where(residues == _STOP, germline, residues)


def _chain(
    rng: np.random.Generator,
    segments: tuple[GermlineSegment, GermlineSegment | None, GermlineSegment],
    rate: float,
) -> tuple[Chain, str]:
    """Give a chain with its tracks, and its CDR3."""
    v, d, j = segments
    locus = v.gene_type[2]
    rearrangement = _rearrange(rng, v, d, j)
    residues = _mutate(rng, rearrangement, rate)
    unmutated = _residues(rearrangement.bases)
    changed = residues != unmutated
    origin = _segments(rearrangement.origins)
    mutated = np.where(changed, Mutated.MUTATED, Mutated.GERMLINE).astype(np.uint8)
    mutated[origin == Segment.N] = Mutated.NONE  # a non-templated residue has no germline to differ from
    germline = np.where(origin == Segment.N, np.uint8(0), unmutated)
    tracks = {"segment": origin.astype(np.uint8), "mutated": mutated, "germline": germline}
    letters = residues.tobytes().decode()
    role = Role.HEAVY if locus == "H" else Role.LIGHT
    cysteine, end = rearrangement.anchors
    calls = {"v_call": v.allele, "d_call": "" if d is None else d.allele, "j_call": j.allele}
    return Chain(letters, role, locus, **calls, tracks=tracks), letters[cysteine + 1 : end]


def _mutation_rate(rng: np.random.Generator, mean: float) -> float:
    naive, rate = rng.random() < NAIVE_SHARE, rng.gamma(_MEMORY_SHAPE, mean / _MEMORY_SHAPE)
    return 0.0 if naive else min(rate, MAXIMAL_MUTATION_RATE)


def _light_segments(
    rng: np.random.Generator, heavy_family: str, pairing_strength: float
) -> tuple[GermlineSegment, None, GermlineSegment]:
    coupled = rng.random() < pairing_strength
    v = _choose(rng, "IGKV", "IGLV", family=COUPLED_FAMILY[heavy_family] if coupled else "")
    return v, None, _choose(rng, v.gene_type[:3] + "J")


def _record(index: int, paired: bool, pairing_strength: float, mutation_rate: float, seed: int) -> Record:
    rng = np.random.default_rng([seed, index])
    rate = _mutation_rate(rng, mutation_rate)
    v, d, j = _choose(rng, "IGHV"), _choose(rng, "IGHD"), _choose(rng, "IGHJ")
    heavy, cdr3 = _chain(rng, (v, d, j), rate)
    chains, labels = [heavy], {"d_call": d.allele, "v_family_heavy": v.family}
    if paired:
        light_segments = _light_segments(rng, v.family, pairing_strength)
        chains.append(_chain(rng, light_segments, rate)[0])
        labels["v_family_light"] = light_segments[0].family
    mutations = sum(int((chain.tracks["mutated"] == Mutated.MUTATED).sum()) for chain in chains)
    labels = MappingProxyType({**labels, "num_mutations": mutations})
    return Record(f"sim-{index:06d}", tuple(chains), labels, f"{v.gene}|{cdr3}")


def simulate_repertoire(
    num_records: int,
    *,
    paired: bool = True,
    pairing_strength: float = 0.0,
    mutation_rate: float = 0.05,
    seed: int = 0,
) -> Iterator[Record]:
    """Give simulated human antibodies whose residues' origins and mutations are known.

    V, D and J are chosen by usage; the junction is trimmed, filled with N additions and redrawn until
    it is productive (so usage stays that of the table); then nucleotides are substituted, three times
    as often at the hotspots WRC and GYW (the C and the G). 40 % of the records are naive. The codons of
    the two conserved cysteines and of W or F at IMGT position 118 are never mutated, and no stop arises.

    Tracks: `segment` is the segment of most of the codon's nucleotides (of three segments N, or else the
    middle one); `mutated` is NONE where that is N, as an N has no germline, else MUTATED where the residue
    differs from the unmutated join, and GERMLINE where not; `germline` is the residue of the unmutated join,
    0 where `segment` is N. Regions and positions are left to numbering.

    Parameters
    ----------
    num_records
        At least 1. Record i is the same whatever this number is.
    paired
        Whether each record has a light chain after its heavy chain; the heavy chain is the same without.
    pairing_strength
        In [0, 1]: probability that the light V family is the one `COUPLED_FAMILY` gives to the heavy V
        family, instead of one drawn on its own.
    mutation_rate
        Mean substitutions per nucleotide of the records that are not naive, in [0, 0.3].
    seed
        At least 0.

    Returns
    -------
    Iterator of Record
        Labels d_call, v_family_heavy, v_family_light (if paired) and num_mutations (residues that are
        MUTATED); `group` is the heavy V gene and CDR3 (IMGT 105–117).

    Raises
    ------
    DataError
        If a value is out of its range, or pairing is asked for without pairs.

    References
    ----------
    Germline: Lees et al. 2020, Nucleic Acids Research 48:D964. Hotspots: Rogozin and Kolchanov 1992,
    Biochimica et Biophysica Acta 1171:11 (RGYW); WRC: Pham et al. 2003, Nature 424:103.

    Examples
    --------
    >>> record = next(simulate_repertoire(1, seed=7))
    >>> record.id, [chain.role.name for chain in record.chains]
    ('sim-000000', ['HEAVY', 'LIGHT'])
    """
    for name, value, lowest in (("num_records", num_records, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise DataError(f"{name} is {value!r}", hint=f"expected a whole number of at least {lowest}")
    if not 0.0 <= pairing_strength <= 1.0:
        raise DataError(f"pairing_strength is {pairing_strength!r}", hint="expected a value in [0, 1]")
    if not 0.0 <= mutation_rate <= MAXIMAL_MUTATION_RATE:
        raise DataError(
            f"mutation_rate is {mutation_rate!r}", hint=f"expected a value in [0, {MAXIMAL_MUTATION_RATE}]"
        )
    if pairing_strength > 0.0 and not paired:
        raise DataError(
            f"pairing_strength is {pairing_strength!r} for unpaired records",
            hint="expected 0, or paired=True",
        )
    return (_record(i, paired, pairing_strength, mutation_rate, seed) for i in range(num_records))


def _chain_columns(chain: Chain, suffix: str) -> dict[str, str]:
    segment, mutated = chain.tracks["segment"], chain.tracks["mutated"]
    nongermline = (segment == Segment.N) | (mutated == Mutated.MUTATED)
    return {
        f"v_call{suffix}": chain.v_call,
        f"j_call{suffix}": chain.j_call,
        f"gene_segment_mask_aa{suffix}": _LETTER_OF_SEGMENT[segment].tobytes().decode(),
        f"nongermline_mask_aa{suffix}": (nongermline + np.uint8(ord("0"))).tobytes().decode(),
    }


def _row(record: Record) -> dict[str, str | int]:
    heavy, labels = record.chains[0], record.labels
    row: dict[str, str | int] = {"sequence_id": record.id}
    if len(record.chains) == 1:
        row |= {"sequence": heavy.residues, "d_call": labels["d_call"], **_chain_columns(heavy, "")}
        row["v_family"] = labels["v_family_heavy"]
    else:
        light = record.chains[1]
        row |= {"heavy": heavy.residues, "light": light.residues, "d_call_heavy": labels["d_call"]}
        row |= _chain_columns(heavy, "_heavy") | _chain_columns(light, "_light")
        row |= {name: labels[name] for name in ("v_family_heavy", "v_family_light")}
    return row | {"num_mutations": labels["num_mutations"], "group": record.group}


def repertoire_frame(records: Iterable[Record]) -> pl.DataFrame:
    """Give simulated records as a table with the column names of abstar and AIRR, one row per record.

    Parameters
    ----------
    records
        What `simulate_repertoire` gave: all paired or all unpaired.

    Returns
    -------
    polars.DataFrame
        sequence_id, heavy and light (or sequence), calls, and two strings with one letter per residue:
        gene_segment_mask_aa (V, N, D, J) and nongermline_mask_aa (1 where N-encoded or mutated, else 0).
        Per-chain columns end in _heavy or _light where the records are paired.

    Raises
    ------
    DataError
        If there is no record, or paired and unpaired ones are mixed.

    Examples
    --------
    >>> frame = repertoire_frame(simulate_repertoire(2, paired=False))
    >>> frame.columns[:5]
    ['sequence_id', 'sequence', 'd_call', 'v_call', 'j_call']
    """
    rows = [_row(record) for record in records]
    widths = sorted({len(row) for row in rows})
    if len(widths) != 1:
        problem = "no records" if not rows else "paired and unpaired records in one table"
        raise DataError(f"{problem}: a table needs one kind", hint="expected the output of one simulation")
    return pl.DataFrame(rows)
