"""Antibodies in a structure: variable domains by numbering, which belong together, what is antigen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from protlm.data.domains import MIN_REST, Domain, DomainFinder
from protlm.data.readers.sabdab_summary import SummaryRow
from protlm.data.readers.structure import StructureChain
from protlm.types.regions import Region, encode_position

PAIR_DISTANCE = 22.0
"""Å between Cα at IMGT 104 (the second cysteine) of heavy and light domain, below which they are a pair;
the rule of SAbDab (Dunbar et al. 2014, doi:10.1093/nar/gkt1043)."""
CONTACT_DISTANCE = 10.0
"""Å between Cα atoms, below which a chain that touches a CDR is antigen."""
_CYSTEINE = encode_position("104")
_ALPHA = 1
_CDRS = (Region.CDR1, Region.CDR2, Region.CDR3)


@dataclass(frozen=True)
class FoundDomain:
    """A variable domain in a chain of a structure."""

    chain: StructureChain
    domain: Domain
    is_alone: bool
    """Whether the chain has no other variable domain."""

    @property
    def is_heavy(self) -> bool:
        """Whether it is of a heavy chain."""
        return self.domain.locus == "H"

    @property
    def cysteine(self) -> np.ndarray:
        """Cα at IMGT 104 in Å, [3]; NaN where there is none."""
        found = np.flatnonzero(self.domain.positions == _CYSTEINE)
        if not len(found):
            return np.full(3, np.nan)
        return self.chain.backbone[self.domain.start + int(found[0]), _ALPHA]

    @property
    def cdr_atoms(self) -> np.ndarray:
        """Cα of the CDRs in Å, [n, 3]."""
        own = self.chain.backbone[self.domain.start : self.domain.stop, _ALPHA]
        return own[np.isin(self.domain.regions, _CDRS)]


@dataclass(frozen=True)
class Antibody:
    """One or two variable domains."""

    heavy: FoundDomain | None
    light: FoundDomain | None

    @property
    def domains(self) -> tuple[FoundDomain, ...]:
        """Heavy first."""
        return tuple(each for each in (self.heavy, self.light) if each is not None)

    @property
    def name(self) -> str:
        """Chain ids, such as H_L."""
        return "_".join(dict.fromkeys(each.chain.chain_id for each in self.domains))


def find_domains(chains: Sequence[StructureChain], finder: DomainFinder) -> list[list[FoundDomain]]:
    """Find all variable domains of each chain, in order.

    Parameters
    ----------
    chains
        Any.
    finder
        Of antibody types.
    """
    sequences = [chain.residues for chain in chains]
    best = finder.best(sequences, [finder.types] * len(sequences))
    long = [
        place
        for place, each in enumerate(best)
        if isinstance(each, Domain) and max(each.start, len(sequences[place]) - each.stop) >= MIN_REST
    ]
    several = dict(zip(long, finder.all_domains([sequences[place] for place in long]), strict=True))
    found = []
    for place, (chain, outcome) in enumerate(zip(chains, best, strict=True)):
        domains = [outcome] if isinstance(outcome, Domain) else []
        if len(several.get(place, ())) > 1:
            domains = several[place]
        found.append([FoundDomain(chain, each, len(domains) == 1) for each in domains])
    return found


def pair_domains(domains: Sequence[Sequence[FoundDomain]]) -> list[Antibody]:
    """Put heavy and light domains together; those without a partner stay alone.

    A heavy and a light domain of one chain that has no other are a pair, as in an scFv, unless they are over
    `PAIR_DISTANCE` apart, as in a diabody. Of others the two nearest are, then the next nearest, and so on,
    up to that distance.

    Parameters
    ----------
    domains
        Of each chain.

    Returns
    -------
    list of Antibody
        In the order of their first chain.
    """
    found: list[tuple[int, Antibody]] = []
    free: list[tuple[int, FoundDomain]] = []
    for number, own in enumerate(domains):
        if _is_single_chain(own):
            light, heavy = sorted(own, key=lambda each: each.is_heavy)
            found.append((number, Antibody(heavy, light)))
        else:
            free += [(number, each) for each in own]
    apart = [
        (_apart(one[1], other[1]), first, second)
        for first, one in enumerate(free)
        for second, other in enumerate(free)
        if one[1].is_heavy and not other[1].is_heavy
    ]
    taken: set[int] = set()
    for _, first, second in sorted(each for each in apart if each[0] <= PAIR_DISTANCE):
        if taken.isdisjoint((first, second)):
            taken |= {first, second}
            number = min(free[first][0], free[second][0])
            found.append((number, Antibody(free[first][1], free[second][1])))
    for place, (number, each) in enumerate(free):
        if place not in taken:
            found.append((number, Antibody(each, None) if each.is_heavy else Antibody(None, each)))
    return [antibody for _, antibody in sorted(found, key=lambda each: each[0])]


def _is_single_chain(domains: Sequence[FoundDomain]) -> bool:
    """Tell whether a chain has one heavy and one light domain, not known to be far apart."""
    if sorted(each.is_heavy for each in domains) != [False, True]:
        return False
    return not _apart(domains[0], domains[1]) > PAIR_DISTANCE


def _apart(one: FoundDomain, other: FoundDomain) -> float:
    """Give Å between the second cysteines; NaN where one has no place."""
    return float(np.linalg.norm(one.cysteine - other.cysteine))


def antibody_of_row(row: SummaryRow, domains: Mapping[str, Sequence[FoundDomain]]) -> Antibody | str:
    """Give the antibody that a row of a summary names, or say why there is none.

    Parameters
    ----------
    row
        Its chains are in `domains`. Where heavy and light chain are named the wrong way round, they are put
        right; of several domains of a kind in a chain, the first counts.
    domains
        Of each chain, by its id.
    """
    kinds = {
        (chain, is_heavy): next((each for each in domains[chain] if each.is_heavy is is_heavy), None)
        for chain in {row.heavy, row.light} - {""}
        for is_heavy in (True, False)
    }
    heavy, light = kinds.get((row.heavy, True)), kinds.get((row.light, False))
    if row.heavy and row.light and heavy is None and light is None:
        heavy, light = kinds[row.light, True], kinds[row.heavy, False]
    for chain, found, kind in ((row.heavy, heavy, "heavy"), (row.light, light, "light")):
        if chain and found is None:
            other = "light" if kind == "heavy" else "heavy"
            named = f"a chain named {kind} in the summary"
            is_other = kinds[chain, kind != "heavy"] is not None
            return f"{named}, with a {other} domain alone" if is_other else f"{named}, without any domain"
    return Antibody(heavy, light)


def touching_chains(antibody: Antibody, chains: Sequence[StructureChain]) -> list[StructureChain]:
    """Give the chains that come within `CONTACT_DISTANCE` of a CDR.

    Parameters
    ----------
    antibody
        With coordinates.
    chains
        Other chains of the structure.
    """
    own = np.concatenate([each.cdr_atoms for each in antibody.domains])
    own = own[np.isfinite(own).all(axis=1)]
    touching = []
    for chain in chains:
        atoms = chain.backbone[:, _ALPHA]
        atoms = atoms[np.isfinite(atoms).all(axis=1)]
        near = np.linalg.norm(own[:, None] - atoms[None], axis=-1)
        if near.size and near.min() < CONTACT_DISTANCE:
            touching.append(chain)
    return touching
