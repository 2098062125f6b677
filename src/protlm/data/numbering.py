"""Numbering of antibody chains by immunum: positions and regions as per-residue tracks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import immunum
import immunum.polars
import numpy as np
import polars as pl

from protlm.errors import DataError
from protlm.types.record import ROLE_OF_LOCUS, Chain, Record, Role
from protlm.types.regions import REGIONS, Region, encode_position, imgt_regions

Unnumbered = Literal["keep", "drop"]
Receptor = Literal["auto", "antibody", "none"]

CHUNK = 4096
_PROBE = 200

MIN_NUMBERED = 50
"""Fewest numbered residues of a variable domain. immunum calls one protein in eight of a yeast proteome an
antibody, by 1 to 10 residues; variable domains have 85 or more."""


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
    num_dropped: int = 0
    """Records dropped because one of their chains could not be numbered."""
    is_off: bool = False
    """Whether numbering was left out because the input does not look like antibodies."""

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        if self.is_off:
            remedy = "protlm prepare --receptor antibody numbers all the same"
            return [
                f"numbering left out: no antibody variable domain in the first {_PROBE} records; {remedy}"
            ]
        lines = [
            f"numbered by IMGT: {n:,} chains of locus {locus}" for locus, n in sorted(self.numbered.items())
        ]
        lines += [
            f"numbered in part: {n:,} chains have no {names}" for names, n in self.partial.most_common()
        ]
        lines += [f"not numbered: {n:,} chains ({reason})" for reason, n in self.unnumbered.most_common()]
        if self.put_right:
            lines.append(f"heavy and light were the wrong way round in {self.put_right:,} pairs; put right")
        lines += [f"not as its column says: {n:,} chains are {kind}" for kind, n in self.contradicted.items()]
        return lines + ([f"{self.num_dropped:,} records dropped for that"] if self.num_dropped else [])


def number_records(
    records: Iterable[Record],
    *,
    receptor: Receptor = "auto",
    unnumbered: Unnumbered = "keep",
    report: NumberingReport | None = None,
) -> Iterator[Record]:
    """Stream records with `position` and `region` tracks, locus and role filled in.

    Residues outside the variable domain keep region `NONE`. Records without a group get one from
    `default_group`.

    Parameters
    ----------
    records
        Any records.
    receptor
        ``"antibody"`` numbers every chain; ``"auto"`` does so if at least one of the first 200
        records has an antibody variable domain; ``"none"`` passes records through.
    unnumbered
        What to do with a record of which a chain cannot be numbered.
    report
        Filled with counts.

    Notes
    -----
    Cost: about 8,000 chains per second on two cores, threads inside immunum.

    References
    ----------
    Lefranc et al. 2003, doi:10.1016/S0145-305X(02)00039-3, for the IMGT numbering.
    """
    report = report if report is not None else NumberingReport()
    stream = iter(records)
    head = list(islice(stream, _PROBE))
    if receptor == "none" or (receptor == "auto" and not _any_antibody(head)):
        report.is_off = receptor == "auto"
        yield from head
        yield from stream
        return
    yield from _number_chunk(head, unnumbered, report)
    while chunk := list(islice(stream, CHUNK)):
        yield from _number_chunk(chunk, unnumbered, report)


def number_chains(chains: Sequence[Chain]) -> list[Chain | str]:
    """Number each chain, or say why it could not be.

    Parameters
    ----------
    chains
        Any chains.

    Returns
    -------
    list
        For each chain the chain with its tracks, or a word that says why not: immunum's own, or
        ``too_short_a_match`` below `MIN_NUMBERED` residues.

    Examples
    --------
    >>> vh = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAY"
    >>> vh += "LQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
    >>> chain, failure = number_chains([Chain(vh), Chain("M" * 50)])
    >>> chain.locus, int((chain.tracks["region"] == Region.CDR3).sum()), failure
    ('H', 13, 'low_confidence')
    """
    numbered = _run_immunum([chain.residues for chain in chains])
    return [_apply(chain, row) for chain, row in zip(chains, numbered, strict=True)]


def default_group(record: Record) -> str:
    """Give V gene and CDR3 of the first chain that has both, such as ``IGHV3-66|SRWGGDGFYAMDY``.

    Without a V gene, as in every FASTA file, the locus stands for it, ``H|SRWGGDGFYAMDY``, of the first
    heavy chain with a CDR3, else of the first chain with one; without a CDR3 it is the empty string.

    Parameters
    ----------
    record
        A numbered record.
    """
    found = [(chain, cdr3) for chain in record.chains if (cdr3 := _cdr3(chain))]
    for chain, cdr3 in found:
        if chain.v_call:
            return f"{gene_of(chain.v_call)}|{cdr3}"
    found.sort(key=lambda each: each[0].role != Role.HEAVY)  # stable
    return f"{found[0][0].locus}|{found[0][1]}" if found else ""


def gene_of(call: str) -> str:
    """Give the gene of an allele: ``IGHV3-23*01`` is of ``IGHV3-23``.

    Parameters
    ----------
    call
        A gene or allele name.
    """
    return call.partition("*")[0]


def _cdr3(chain: Chain) -> str:
    regions = chain.tracks.get("region")
    if regions is None:
        return ""
    return "".join(chain.residues[index] for index in np.flatnonzero(regions == Region.CDR3))


def _any_antibody(records: Sequence[Record]) -> bool:
    chains = [chain for record in records for chain in record.chains]
    return any(not isinstance(outcome, str) for outcome in number_chains(chains)) if chains else False


def _number_chunk(
    records: Sequence[Record], unnumbered: Unnumbered, report: NumberingReport
) -> Iterator[Record]:
    outcomes = iter(number_chains([chain for record in records for chain in record.chains]))
    for record in records:
        chains, failed = [], False
        for chain in record.chains:
            outcome = next(outcomes)
            if isinstance(outcome, str):
                report.unnumbered[outcome] += 1
                failed = True
                chains.append(chain)
            else:
                report.numbered[outcome.locus] += 1
                if lacking := _lacking(outcome):
                    report.partial[lacking] += 1
                chains.append(outcome)
        chains = _as_named(record, chains, report)
        if failed and unnumbered == "drop":
            report.num_dropped += 1
            continue
        numbered = replace(record, chains=tuple(chains))
        yield numbered if numbered.group else replace(numbered, group=default_group(numbered))


def _lacking(chain: Chain) -> str:
    present = np.bincount(chain.tracks["region"], minlength=len(Region)) > 0
    return ", ".join(region.name for region in REGIONS if not present[region])


def _as_named(record: Record, chains: list[Chain], report: NumberingReport) -> list[Chain]:
    """Compare with the roles that the columns gave; a swapped pair is put heavy first."""
    named = [chain.role for chain in record.chains]
    found = [chain.role for chain in chains]
    if named == [Role.HEAVY, Role.LIGHT] and found == [Role.LIGHT, Role.HEAVY]:
        report.put_right += 1
        return chains[::-1]
    for before, after in zip(named, found, strict=True):
        if before != Role.OTHER and after != before:
            kinds = f"{after.name.lower()}, named {before.name.lower()}"
            report.contradicted[kinds] += 1
    return chains


def _run_immunum(sequences: Sequence[str]) -> list[tuple[str, int, list[str]] | str]:
    annotator = immunum.Annotator(chains=["ig"], scheme="imgt")
    frame = pl.DataFrame({"residues": sequences}, schema={"residues": pl.String})
    answer = frame.select(immunum.polars.number(pl.col("residues"), annotator=annotator).alias("n"))
    table = answer["n"].struct.unnest()
    labels = table["numbering"].list.eval(pl.element().struct.field("position"))
    columns = zip(table["error_kind"], table["chain"], table["query_start"], labels, strict=True)
    return [
        error if error is not None else (locus, start, positions.to_list())
        for error, locus, start, positions in columns
    ]


def _apply(chain: Chain, outcome: tuple[str, int, list[str]] | str) -> Chain | str:
    if isinstance(outcome, str):
        return outcome
    locus, start, labels = outcome
    if len(labels) < MIN_NUMBERED:
        return "too_short_a_match"
    if start + len(labels) > len(chain):
        return "inconsistent_numbering"
    positions = np.zeros(len(chain), dtype=np.uint16)
    try:
        positions[start : start + len(labels)] = [_code(label) for label in labels]
    except DataError:  # more insertions at one position than 8 bits can count
        return "too_many_insertions"
    tracks = {**chain.tracks, "position": positions, "region": imgt_regions(positions)}
    role = ROLE_OF_LOCUS.get(locus, Role.OTHER)
    return replace(chain, locus=locus, role=role, tracks=tracks)


_CODES: dict[str, int] = {}


def _code(label: str) -> int:
    if label not in _CODES:
        _CODES[label] = encode_position(label)
    return _CODES[label]
