"""Variable domains found by immunum: many sequences at once, each distinct one once."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

import immunum
import immunum.polars
import numpy as np
import polars as pl

from protlm.errors import DataError
from protlm.types.regions import encode_position, imgt_regions

ANTIBODY_TYPES, TCR_TYPES = "HKL", "ABGD"
"""Locus letters of antibody and of T-cell receptor chains."""
ALL_TYPES = ANTIBODY_TYPES + TCR_TYPES

MIN_NUMBERED = 50
"""Fewest numbered residues of a variable domain. immunum calls one protein in eight of a yeast proteome an
antibody, by 1 to 10 residues; variable domains have 85 or more."""
MIN_REST = 70
"""Fewest residues beside a domain among which another one is looked for."""
SURE = 0.7
"""Confidence below which a chain that was tried as one of `ALIKE` only is tried as the others too. Of 21,539
distinct chains of OAS, an SRR run and SAbDab, no light chain passes as a heavy one or the reverse; kappa
chains pass as lambda and lambda as kappa with at most 0.67."""
ALIKE = ("KL", TCR_TYPES)
"""Types that immunum may take for each other."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One variable domain in a sequence."""

    locus: str
    """Its type: H K L A B G or D."""
    start: int
    """Index of its first numbered residue."""
    positions: np.ndarray
    """Packed IMGT positions of its residues, uint16; see `protlm.types.regions.encode_position`."""
    regions: np.ndarray
    """`Region` codes of its residues, uint8."""
    confidence: float
    """immunum's, in [0, 1]."""

    @property
    def stop(self) -> int:
        """Index behind its last residue."""
        return self.start + len(self.positions)


Outcome = Domain | str
"""A domain, or a word for why there is none."""


_HEAVY_END = re.compile("WG.GT")
_LIGHT_END = re.compile("FG.GT")
_KAPPA_END = re.compile("FG.GT.[LVM][DEN][IFLV]")
_LAMBDA_END = re.compile("FG.GT.[LV]T[VI]")


def likely_types(residues: str, allowed: str) -> str:
    """Give the types to try first, judged by the J gene's motif; all where it does not tell.

    Parameters
    ----------
    residues
        Of a chain.
    allowed
        Locus letters that may be there at all.

    Examples
    --------
    >>> [likely_types(end, "HKL") for end in ("WGQGTLVTVSS", "FGQGTKVEIK", "FGGGTKLTVL", "FGGGT", "MKT")]
    ['H', 'K', 'L', 'KL', 'HKL']
    """
    is_heavy, is_light = bool(_HEAVY_END.search(residues)), bool(_LIGHT_END.search(residues))
    if is_heavy == is_light:
        return allowed
    types = "H"
    if is_light:  # T-cell receptors end so too
        types = TCR_TYPES + "KL"
        types = "K" if _KAPPA_END.search(residues) else "L" if _LAMBDA_END.search(residues) else types
        if any(locus in allowed for locus in TCR_TYPES):
            types = TCR_TYPES + "KL"
    return "".join(locus for locus in allowed if locus in types) or allowed


class DomainFinder:
    """Finds domains; remembers the latest sequences, so that repeats cost nothing.

    Parameters
    ----------
    types
        Locus letters of the chain types that may be there at all.
    num_remembered
        How many sequences.
    """

    def __init__(self, types: str = ANTIBODY_TYPES, *, num_remembered: int = 1 << 16) -> None:
        self.types = types
        self._num_remembered = num_remembered
        self._best: dict[tuple[str, str], Outcome] = {}
        self._all: dict[str, list[Domain]] = {}

    def best(self, sequences: Sequence[str], types: Sequence[str]) -> list[Outcome]:
        """Give the best domain of each sequence.

        Parameters
        ----------
        sequences
            Residues.
        types
            For each the locus letters to try first; the others of the finder are tried where these give no
            sure domain. All of the finder's letters leave the choice to `likely_types`.
        """
        asked = list(zip(types, sequences, strict=True))
        missing: dict[str, dict[str, None]] = {}
        for each_types, residues in asked:
            if (each_types, residues) not in self._best:
                missing.setdefault(each_types, {})[residues] = None
        for each_types, distinct in missing.items():
            for residues, outcome in zip(
                distinct, self._number_likely(list(distinct), each_types), strict=True
            ):
                self._best[each_types, residues] = outcome
        answers = [self._best[each] for each in asked]
        _forget(self._best, self._num_remembered)
        return answers

    def all_domains(self, sequences: Sequence[str]) -> list[list[Domain]]:
        """Give every domain of each sequence, in order.

        Parameters
        ----------
        sequences
            Residues.
        """
        distinct = list(dict.fromkeys(each for each in sequences if each not in self._all))
        self._all.update(zip(distinct, number_domains(distinct, self.types), strict=True))
        answers = [self._all[each] for each in sequences]
        _forget(self._all, self._num_remembered)
        return answers

    def _number_likely(self, sequences: list[str], types: str) -> list[Outcome]:
        """Try likely types first where any of the finder's is possible."""
        if types != self.types or len(types) == 1:
            return self._number(sequences, types)
        likely: dict[str, list[str]] = {}
        for residues in sequences:
            likely.setdefault(likely_types(residues, types), []).append(residues)
        outcomes: dict[str, Outcome] = {}
        for each_types, some in likely.items():
            outcomes.update(zip(some, self._number(some, each_types), strict=True))
        return [outcomes[residues] for residues in sequences]

    def _number(self, sequences: list[str], types: str) -> list[Outcome]:
        outcomes = number(sequences, types)
        if types == self.types:
            return outcomes
        doubtful = [index for index, each in enumerate(outcomes) if _is_doubtful(each, types, self.types)]
        again = number([sequences[index] for index in doubtful], self.types)
        for index, outcome in zip(doubtful, again, strict=True):
            if isinstance(outcome, Domain) or isinstance(outcomes[index], str):
                outcomes[index] = outcome
        return outcomes


def _is_doubtful(outcome: Outcome, tried: str, allowed: str) -> bool:
    if isinstance(outcome, str):
        return True
    if outcome.confidence >= SURE:
        return False
    alike = next((types for types in ALIKE if outcome.locus in types), "")
    return any(locus in allowed and locus not in tried for locus in alike)


def number(sequences: Sequence[str], types: str) -> list[Outcome]:
    """Number the best domain of each sequence by IMGT, or say why there is none.

    Parameters
    ----------
    sequences
        Residues.
    types
        Locus letters to try.

    Returns
    -------
    list
        A `Domain`, or a word: immunum's own, or ``too_short_a_match`` below `MIN_NUMBERED` residues.
    """
    if not sequences:
        return []
    answer = _ask(immunum.polars.number, sequences, types)
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    return _outcomes(answer.struct.unnest(), lengths)


def number_domains(sequences: Sequence[str], types: str) -> list[list[Domain]]:
    """Number every domain of each sequence.

    Parameters
    ----------
    sequences
        Residues.
    types
        Locus letters to try.

    Examples
    --------
    >>> vh = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAY"
    >>> vh += "LQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
    >>> [(each.locus, each.start) for each in number_domains([vh + "GGGGS" * 3 + vh], "HKL")[0]]
    [('H', 0), ('H', 135)]
    """
    if not sequences:
        return []
    answer = _ask(immunum.polars.number_domains, sequences, types)
    counts = answer.list.len().to_numpy()
    lengths = np.repeat(np.fromiter(map(len, sequences), np.int64, len(sequences)), counts)
    outcomes = iter(_outcomes(answer.explode().struct.unnest(), lengths))
    return [[each for each in islice(outcomes, count) if isinstance(each, Domain)] for count in counts]


@cache
def _annotator(types: str) -> immunum.Annotator:
    return immunum.Annotator(chains=list(types), scheme="imgt")


def _ask(function: Callable[..., pl.Expr], sequences: Sequence[str], types: str) -> pl.Series:
    """Run immunum in polars' threads, outside of Python's lock."""
    frame = pl.DataFrame({"residues": sequences}, schema={"residues": pl.String})
    return frame.select(function(pl.col("residues"), annotator=_annotator(types)).alias("n"))["n"]


def _outcomes(table: pl.DataFrame, lengths: np.ndarray) -> list[Outcome]:
    counts = table["numbering"].list.len().fill_null(0).to_numpy().astype(np.int64)
    codes = _codes(table["numbering"].filter(pl.Series(counts > 0)))
    regions = imgt_regions(codes)
    stops = np.cumsum(counts)
    has_unstorable = not codes.all()
    outcomes: list[Outcome] = []
    for error, locus, start, confidence, count, stop, length in zip(
        table["error_kind"].to_list(),
        table["chain"].to_list(),
        table["query_start"].to_list(),
        table["confidence"].to_list(),
        counts.tolist(),
        stops.tolist(),
        lengths.tolist(),
        strict=True,
    ):
        positions = codes[stop - count : stop]
        if error is not None:
            outcomes.append(error)
        elif count < MIN_NUMBERED:
            outcomes.append("too_short_a_match")
        elif start + count > length:
            outcomes.append("inconsistent_numbering")
        elif has_unstorable and not positions.all():
            outcomes.append("too_many_insertions")
        else:
            outcomes.append(Domain(locus, start, positions, regions[stop - count : stop], confidence))
    return outcomes


def _codes(numberings: pl.Series) -> np.ndarray:
    """Pack the labels of many domains, laid end to end; 0 for one that cannot be stored."""
    if not len(numberings):
        return np.zeros(0, dtype=np.uint16)
    labels = numberings.explode().struct.field("position")
    names = labels.unique().sort()
    numbers = labels.cast(pl.Enum(names)).to_physical().to_numpy()
    return np.array([_code(name) for name in names], dtype=np.uint16)[numbers]


@cache
def _code(label: str) -> int:
    try:
        return encode_position(label)
    except DataError:  # more insertions at one position than 8 bits can count
        return 0


def _forget(remembered: dict, limit: int) -> None:
    """Drop the oldest."""
    surplus: Iterable = list(islice(remembered, max(0, len(remembered) - limit)))
    for key in surplus:
        del remembered[key]
