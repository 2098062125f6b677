"""The backbone of a wild type: a chain of a structure laid along it, residue by residue."""

import numpy as np

from protlm.data.readers.structure import Structure, StructureChain, fit_on_chain, place_on_chain
from protlm.errors import DataError, did_you_mean
from protlm.types.structure import Backbone


def lay_along(
    structure: Structure, wild_type: str, chain_id: str | None = None, *, is_alone: bool = False
) -> tuple[Backbone, list[str]]:
    """Give the backbone of a wild type, residue by residue, with the other chains behind it.

    Its letters are those of the wild type. Residues without a counterpart in the chain have no coordinates;
    residues of the chain without one in the wild type are left out.

    Parameters
    ----------
    structure
        From `read_structure`.
    wild_type
        The chain that varies.
    chain_id
        The author's; the chain that fits best if `None`.
    is_alone
        Whether further chains are left out.

    Returns
    -------
    backbone, lines
        And what was done, to be said.

    Raises
    ------
    DataError
        If there is no such chain, or it is of another protein.
    """
    chain = _chosen(structure, wild_type, chain_id)
    places = place_on_chain(chain, wild_type)
    others = [] if is_alone else [each for each in structure.chains if each is not chain]
    has_place = places >= 0
    coordinates = np.full((len(wild_type), 4, 3), np.nan, dtype=np.float32)
    coordinates[has_place] = chain.backbone[places[has_place]]
    ids = [chain.residue_ids[place] if place >= 0 else "" for place in places]
    sizes = [len(wild_type), *(len(each) for each in others)]
    backbone = Backbone(
        structure.name,
        wild_type + "".join(each.residues for each in others),
        np.concatenate([coordinates, *(each.backbone for each in others)]),
        np.repeat(np.arange(len(sizes)), sizes),
        (chain.chain_id, *(each.chain_id for each in others)),
        (*ids, *(name for each in others for name in each.residue_ids)),
    )
    return backbone, _lines(structure, chain, wild_type, places, backbone)


def _chosen(structure: Structure, wild_type: str, chain_id: str | None) -> StructureChain:
    if chain_id is None:
        return max(structure.chains, key=lambda each: fit_on_chain(each, wild_type).num_equal)
    for chain in structure.chains:
        if chain.chain_id == chain_id:
            return chain
    raise DataError(
        f"structure '{structure.name}' has no protein chain '{chain_id}'",
        hint=did_you_mean(chain_id, [each.chain_id for each in structure.chains]),
    )


def _lines(
    structure: Structure, chain: StructureChain, wild_type: str, places: np.ndarray, backbone: Backbone
) -> list[str]:
    """Say how many residues have a place, coordinates and the same letter."""
    has_place = places >= 0
    other = [
        index for index in np.flatnonzero(has_place) if chain.residues[places[index]] != wild_type[index]
    ]
    resolved = int(backbone.is_resolved[: len(wild_type)].sum())
    left_out = len(chain) - int(has_place.sum())
    of = f"{structure.name}, chain '{chain.chain_id}'"
    placed = (
        f"{of}: {int(has_place.sum()):,} of {len(wild_type):,} residues of the wild type have a place in it, "
        f"{resolved:,} are resolved; its other {left_out:,} residues are left out"
    )
    lines = [placed]
    if other:
        index = int(other[0])
        shown = f"{wild_type[index]} for {chain.residues[places[index]]} at position {index + 1}"
        lines.append(f"{of}: letters of the wild type are taken where they differ: {len(other):,} ({shown})")
    if len(backbone.chain_ids) > 1:
        lines.append(f"{of}: further chains are context: {', '.join(backbone.chain_ids[1:])}")
    return lines + [f"{structure.name}: {note}" for note in structure.notes]
