"""Numbering of immune receptor chains by immunum: positions and regions as per-residue tracks."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Literal

import numpy as np

from protlm.data.domains import (
    ALL_TYPES,
    ANTIBODY_TYPES,
    MIN_NUMBERED,
    MIN_REST,
    TCR_TYPES,
    Domain,
    DomainFinder,
    Outcome,
)
from protlm.data.groups import with_default_group
from protlm.data.numbering_report import NumberingReport
from protlm.data.region_columns import merge_regions
from protlm.errors import DataError
from protlm.types.record import ROLE_OF_LOCUS, Chain, Record, Role
from protlm.types.regions import REGIONS

Unnumbered = Literal["keep", "drop"]
Receptor = Literal["auto", "antibody", "tcr", "any", "none"]
TwoDomains = Literal["keep-first", "error", "drop", "split"]

CHUNK = 4096
_PROBE = 200
_MIN_SHARE = 0.02
"""Share of the numbered chains of the probe from which on a kind of receptor is looked for, and of all its
chains from which on any is: of general proteins 3 in 10,000 are receptors, and numbering all of them costs
ten times what the rest of `prepare` does."""

_TYPES_OF_RECEPTOR = {"antibody": ANTIBODY_TYPES, "tcr": TCR_TYPES, "any": ALL_TYPES}
_TYPES_OF_ROLE = {
    role: "".join(locus for locus, each in ROLE_OF_LOCUS.items() if each == role)
    for role in Role
    if role is not Role.OTHER
}

_REGION_CODES = frozenset(int(region) for region in REGIONS)


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found in one chain."""

    best: Outcome
    several: tuple[Domain, ...] = ()
    """All domains, in order, where there are more than one."""


def number_records(
    records: Iterable[Record],
    *,
    receptor: Receptor = "auto",
    unnumbered: Unnumbered = "keep",
    two_domains: TwoDomains = "keep-first",
    groups: bool = True,
    report: NumberingReport | None = None,
) -> Iterator[Record]:
    """Stream records with `position` and `region` tracks, locus and role filled in.

    Residues outside the variable domain keep region `NONE`. A `region` track that a record brings along
    counts where the numbering differs. Where a chain has a locus or role, that type is tried first, and
    others only where it gives no sure domain.

    Parameters
    ----------
    records
        Any records.
    receptor
        ``"antibody"``, ``"tcr"`` or ``"any"`` numbers every chain as such; ``"auto"`` does so for what is
        found among the first 200 records, if at least 2 % of their chains are receptors; ``"none"`` passes
        records through.
    unnumbered
        What to do with a record of which a chain cannot be numbered.
    two_domains
        What to do with a record of which a chain has more than one variable domain: number the first and
        leave the rest without regions, stop, drop it, or make each domain a chain, heavy first.
    groups
        Whether records without a group get one from `default_group`. Where germline genes are assigned next,
        leave that to `with_default_groups` behind it, which then knows the V genes.
    report
        Filled with counts.

    Raises
    ------
    DataError
        If a chain has two domains and that is an error.

    Notes
    -----
    Each distinct chain is numbered once, and the type that its J gene suggests is tried first; of 34,177
    real chains none came out otherwise than by trying all, in half the time. immunum runs in polars' threads,
    one chunk ahead of the caller.

    References
    ----------
    Lefranc et al. 2003, doi:10.1016/S0145-305X(02)00039-3, for the IMGT numbering.
    """
    report = report if report is not None else NumberingReport()
    stream = iter(records)
    head = list(islice(stream, _PROBE)) if receptor == "auto" else []
    types = _probe(head, report) if receptor == "auto" else _TYPES_OF_RECEPTOR.get(receptor, "")
    if not types:
        report.is_off = receptor == "auto"
        yield from head
        yield from stream
        return
    finder = DomainFinder(types)
    for chunk, found in _ahead(_chunks(head, stream), finder):
        for record, outcomes in zip(chunk, found, strict=True):
            numbered = _number_record(record, outcomes, unnumbered, two_domains, report)
            if numbered is not None:
                yield with_default_group(numbered) if groups else numbered


def number_chains(chains: Sequence[Chain], *, types: str = ANTIBODY_TYPES) -> list[Chain | str]:
    """Number the best domain of each chain, or say why it could not be.

    Parameters
    ----------
    chains
        Any chains.
    types
        Locus letters to try.

    Returns
    -------
    list
        For each chain the chain with its tracks, or a word that says why not: immunum's own, or
        ``too_short_a_match`` below `MIN_NUMBERED` residues.

    Examples
    --------
    >>> from protlm.types.regions import Region
    >>> vh = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAY"
    >>> vh += "LQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
    >>> chain, failure = number_chains([Chain(vh), Chain("M" * 50)])
    >>> chain.locus, int((chain.tracks["region"] == Region.CDR3).sum()), failure
    ('H', 13, 'low_confidence')
    """
    outcomes = DomainFinder(types).best(
        [chain.residues for chain in chains], [_types_of(chain, types) for chain in chains]
    )
    return [
        outcome if isinstance(outcome, str) else _with_domain(chain, outcome)[0]
        for chain, outcome in zip(chains, outcomes, strict=True)
    ]


def _probe(records: Sequence[Record], report: NumberingReport) -> str:
    """Give the types of the receptors among some records, or nothing where there are hardly any."""
    chains = [chain for record in records for chain in record.chains]
    outcomes = number_chains(chains, types=ALL_TYPES)
    loci = [each.locus for each in outcomes if isinstance(each, Chain)]
    loci += [chain.locus for chain in chains if "region" in chain.tracks and chain.locus]
    report.num_probed, report.num_probed_receptors = len(records), len(loci)
    if len(loci) < _MIN_SHARE * len(chains):
        return ""
    shares = {
        types: sum(locus in types for locus in loci) / max(1, len(loci))
        for types in (ANTIBODY_TYPES, TCR_TYPES)
    }
    return "".join(types for types, share in shares.items() if share >= _MIN_SHARE)


def _chunks(head: list[Record], stream: Iterator[Record]) -> Iterator[list[Record]]:
    if head:
        yield head
    while chunk := list(islice(stream, CHUNK)):
        yield chunk


def _ahead(
    chunks: Iterator[list[Record]], finder: DomainFinder
) -> Iterator[tuple[list[Record], list[list[_Found]]]]:
    """Give each chunk with what was found in it, while the next one is searched."""
    with ThreadPoolExecutor(1) as pool:
        waiting: tuple[list[Record], Future] | None = None
        for chunk in chunks:
            following = (chunk, pool.submit(_search, chunk, finder))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _search(records: Sequence[Record], finder: DomainFinder) -> list[list[_Found]]:
    chains = [chain for record in records for chain in record.chains]
    sequences = [chain.residues for chain in chains]
    best = finder.best(sequences, [_types_of(chain, finder.types) for chain in chains])
    rests = [index for index, outcome in enumerate(best) if _has_rest(outcome, len(sequences[index]))]
    several = dict(zip(rests, finder.all_domains([sequences[index] for index in rests]), strict=True))
    found = iter(
        [
            _Found(outcome, tuple(several[index]) if len(several.get(index, ())) > 1 else ())
            for index, outcome in enumerate(best)
        ]
    )
    return [[next(found) for _ in record.chains] for record in records]


def _types_of(chain: Chain, allowed: str) -> str:
    """Give the types that a chain's own locus and role allow, unless they contradict each other."""
    return _types_of_names(chain.role, chain.locus, allowed)


@cache
def _types_of_names(role: Role, named_locus: str, allowed: str) -> str:
    named = _TYPES_OF_ROLE.get(role, "")
    if named_locus:
        named = named_locus if not named or named_locus in named else ""
    return "".join(locus for locus in named if locus in allowed) or allowed


def _has_rest(outcome: Outcome, length: int) -> bool:
    return isinstance(outcome, Domain) and max(outcome.start, length - outcome.stop) >= MIN_REST


def _number_record(
    record: Record,
    found: Sequence[_Found],
    unnumbered: Unnumbered,
    two_domains: TwoDomains,
    report: NumberingReport,
) -> Record | None:
    """Give the record with numbered chains, or nothing where it is dropped."""
    _count_domains(record, found, two_domains, report)
    if two_domains == "drop" and any(each.several for each in found):
        report.num_dropped_for_domains += 1
        return None
    chains: list[Chain] = []
    failed = False
    for chain, each in zip(record.chains, found, strict=True):
        if each.several and two_domains == "split":
            chains += _split(record.id, chain, each.several, report)
        elif isinstance(outcome := each.several[0] if each.several else each.best, str):
            report.unnumbered[outcome] += 1
            report.remember(outcome, record.id)
            report.regions_given += "region" in chain.tracks
            failed = True
            chains.append(chain)
        else:
            chains.append(_number_chain(record.id, chain, outcome, report))
    if failed and unnumbered == "drop":
        report.num_dropped += 1
        return None
    if len(chains) == len(record.chains):
        chains = _as_named(record, chains, report)
    return Record(record.id, tuple(chains), record.labels, record.group)


def _count_domains(
    record: Record, found: Sequence[_Found], two_domains: TwoDomains, report: NumberingReport
) -> None:
    for number, each in enumerate(found, start=1):
        if not each.several:
            continue
        loci = "+".join(domain.locus for domain in each.several)
        report.domains[loci] += 1
        report.remember(loci, record.id)
        if two_domains == "error":
            places = ", ".join(f"{each.locus} at {each.start + 1} to {each.stop}" for each in each.several)
            raise DataError(
                f"record '{record.id}', chain {number}: more than one variable domain ({places})",
                hint="pass --two-domains split to make each a chain, keep-first or drop",
            )


def _split(record_id: str, chain: Chain, domains: Sequence[Domain], report: NumberingReport) -> list[Chain]:
    """Make each domain a chain, heavy first; gene calls go to the domain of their locus."""
    report.num_linker_residues += len(chain) - sum(len(domain.positions) for domain in domains)
    parts = []
    for domain in domains:
        place = slice(domain.start, domain.stop)
        calls = {
            name: call if call[2:3] == domain.locus else ""
            for name in ("v_call", "d_call", "j_call")
            if (call := getattr(chain, name))
        }
        part = replace(
            chain,
            residues=chain.residues[place],
            role=Role.OTHER,
            locus="",
            tracks={name: track[place] for name, track in chain.tracks.items()},
            **calls,
        )
        parts.append(_number_chain(record_id, part, replace(domain, start=0), report))
    return sorted(parts, key=lambda part: part.role != Role.HEAVY)


def _number_chain(record_id: str, chain: Chain, domain: Domain, report: NumberingReport) -> Chain:
    numbered, agrees = _with_domain(chain, domain)
    report.numbered[domain.locus] += 1
    if "region" in chain.tracks:
        report.regions_given += 1
        if not agrees:
            report.regions_differ += 1
            report.remember("regions", record_id)
    if lacking := _lacking(numbered):
        report.partial[lacking] += 1
        report.remember(lacking, record_id)
    return numbered


def _with_domain(chain: Chain, domain: Domain) -> tuple[Chain, bool]:
    """Give the chain with the tracks of a domain, and whether regions that it had agree."""
    positions, regions, agrees = domain.positions, domain.regions, True
    if len(positions) < len(chain):
        beside = (domain.start, len(chain) - domain.stop)
        positions, regions = np.pad(positions, beside), np.pad(regions, beside)
    if "region" in chain.tracks:
        regions, agrees = merge_regions(chain.tracks["region"], regions)
    tracks = {**chain.tracks, "position": positions, "region": regions}
    numbered = Chain(
        chain.residues,
        ROLE_OF_LOCUS.get(domain.locus, Role.OTHER),
        domain.locus,
        chain.v_call,
        chain.d_call,
        chain.j_call,
        tracks,
    )
    return numbered, agrees


def _lacking(chain: Chain) -> str:
    absent = _REGION_CODES.difference(chain.tracks["region"].tobytes())
    return ", ".join(region.name for region in REGIONS if region in absent) if absent else ""


def _as_named(record: Record, chains: list[Chain], report: NumberingReport) -> list[Chain]:
    """Compare with the roles and loci that the columns gave; a pair is put heavy first."""
    named = [chain.role for chain in record.chains]
    found = [chain.role for chain in chains]
    if found == [Role.LIGHT, Role.HEAVY] and named in ([Role.HEAVY, Role.LIGHT], [Role.OTHER, Role.OTHER]):
        if named[0] == Role.HEAVY:
            report.put_right += 1
            report.remember("put right", record.id)
        return chains[::-1]
    if named == [Role.OTHER, Role.OTHER] and found[0] == found[1] in (Role.HEAVY, Role.LIGHT):
        kind = f"pairs of two {found[0].name.lower()} chains"
        report.contradicted[kind] += 1
        report.remember(kind, record.id)
    for before, after in zip(record.chains, chains, strict=True):
        if before.role != Role.OTHER and after.role != before.role:
            kind = f"{after.role.name.lower()}, named {before.role.name.lower()}"
        elif before.locus and after.locus != before.locus:
            kind = f"locus {after.locus}, named {before.locus}"
        else:
            continue
        report.contradicted[kind] += 1
        report.remember(kind, record.id)
    return chains


__all__ = [
    "MIN_NUMBERED",
    "NumberingReport",
    "Receptor",
    "TwoDomains",
    "Unnumbered",
    "number_chains",
    "number_records",
]
