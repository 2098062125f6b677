"""What is taken of a structure: variable domains, Fab, complex or CDRs, as chains with their coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from protlm.data.readers.structure import StructureChain
from protlm.data.structure_antibodies import Antibody, FoundDomain
from protlm.types.record import ROLE_OF_LOCUS, Chain, Role
from protlm.types.regions import Region
from protlm.types.structure import Backbone

REGIONS = ("complex", "fv", "vh", "vl", "fab", "cdrs")
FAB_TAIL = 120
"""Residues behind a variable domain that belong to the Fab at most: CH1 with the upper hinge, or CL."""
_CDRS = (Region.CDR1, Region.CDR2, Region.CDR3)


@dataclass(frozen=True)
class Part:
    """A chain of a record, with its coordinates."""

    name: str
    """Unlike in its record: the author's chain id, with the domain or CDR behind it where it is cut."""
    chain: Chain
    backbone: np.ndarray
    """Å, float32 [residues, 4, 3]."""
    residue_ids: tuple[str, ...]

    def take(self, name: str, place: slice) -> "Part":
        """Cut out some residues.

        Parameters
        ----------
        name
            Of the new part.
        place
            0-based.
        """
        tracks = {track: values[place] for track, values in self.chain.tracks.items()}
        chain = replace(self.chain, residues=self.chain.residues[place], tracks=tracks)
        return Part(name, chain, self.backbone[place], self.residue_ids[place])


def whole_part(chain: StructureChain) -> Part:
    """Give a chain as it is.

    Parameters
    ----------
    chain
        Of a structure.
    """
    return Part(chain.chain_id, Chain(chain.residues), chain.backbone, chain.residue_ids)


def domain_part(found: FoundDomain, region: str) -> Part:
    """Give what a region takes of the chain of a variable domain, numbered by IMGT.

    Parameters
    ----------
    found
        The domain.
    region
        ``complex``: the whole chain, ``fab``: the domain and up to `FAB_TAIL` residues behind it, any other:
        the domain. Of a chain with several variable domains, such as an scFv, the domain alone.
    """
    chain, domain = found.chain, found.domain
    size = len(chain)
    position, codes = np.zeros(size, np.uint16), np.zeros(size, np.uint8)
    position[domain.start : domain.stop] = domain.positions
    codes[domain.start : domain.stop] = domain.regions
    role = ROLE_OF_LOCUS.get(domain.locus, Role.OTHER)
    tracks = {"position": position, "region": codes}
    whole = Part(
        chain.chain_id,
        Chain(chain.residues, role=role, locus=domain.locus, tracks=tracks),
        chain.backbone,
        chain.residue_ids,
    )
    if not found.is_alone:
        return whole.take(f"{chain.chain_id}:{role.name.lower()}", slice(domain.start, domain.stop))
    if region == "complex":
        return whole
    stop = min(size, domain.stop + FAB_TAIL) if region == "fab" else domain.stop
    return whole.take(chain.chain_id, slice(domain.start, stop))


def take_region(antibody: Antibody, antigens: Sequence[StructureChain], region: str) -> list[Part] | str:
    """Give the parts of a record, heavy first, antigens last, or say why there are none.

    Parameters
    ----------
    antibody
        One or two domains.
    antigens
        Taken by ``complex`` alone.
    region
        Of `REGIONS`; for ``cdrs`` the domains, which `cut_to_cdrs` cuts.
    """
    if region in ("vh", "vl"):
        wanted = antibody.heavy if region == "vh" else antibody.light
        if wanted is None:
            return f"no {'heavy' if region == 'vh' else 'light'} domain"
        return [domain_part(wanted, region)]
    parts = [domain_part(each, region) for each in antibody.domains]
    return parts + ([whole_part(each) for each in antigens] if region == "complex" else [])


def cut_to_cdrs(parts: Sequence[Part]) -> list[Part]:
    """Give each CDR as a part of its own, so that nothing takes two of them for bonded.

    Parameters
    ----------
    parts
        Numbered.
    """
    cut = []
    for part in parts:
        codes = part.chain.tracks.get("region", np.zeros(0, np.uint8))
        for region in _CDRS:
            found = np.flatnonzero(codes == region)
            if len(found):
                place = slice(int(found[0]), int(found[-1]) + 1)
                cut.append(part.take(f"{part.name}:{region.name}", place))
    return cut


def join_parts(name: str, parts: Sequence[Part]) -> Backbone:
    """Lay the parts of a record one behind the other.

    Parameters
    ----------
    name
        Of the record.
    parts
        At least one.
    """
    return Backbone(
        name,
        "".join(part.chain.residues for part in parts),
        np.concatenate([part.backbone for part in parts]),
        np.repeat(np.arange(len(parts)), [len(part.chain) for part in parts]),
        tuple(part.name for part in parts),
        tuple(each for part in parts for each in part.residue_ids),
    )


def why_without_backbone(parts: Sequence[Part]) -> tuple[str, str] | None:
    """Say which chain has no residue with N, CA and C, and what it has; nothing if all have one.

    Parameters
    ----------
    parts
        Of a record.

    Returns
    -------
    tuple or None
        The chain's name, and the reason.
    """
    for part in parts:
        known = np.asarray(np.isfinite(part.backbone).all(axis=2))
        if known[:, :3].all(axis=1).any():
            continue
        if known[:, 1].any():
            return part.name, "a chain with Cα only: no residue has N, CA and C"
        return part.name, "a chain without backbone: no atom, or no number, where N, CA and C should be"
    return None
