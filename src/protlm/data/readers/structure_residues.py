"""Atoms to residues: which are amino acids, what letter each is, and where each is in the construct."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from protlm.data.readers.structure_files import Atoms, Construct, ParsedFile
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL

BACKBONE = ("N", "CA", "C", "O")

_BOND = 2.0  # Å, C to N of the next residue; 1.33 where nothing is strained
_LETTERS = {
    **dict(
        zip(("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"), "ACDEFGHIKL", strict=True)
    ),
    **dict(
        zip(("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"), "MNPQRSTVWY", strict=True)
    ),
}
# names that force fields give in ATOM records; as HETATM some mean other components (HSE: homoserine)
_FORCE_FIELD = {
    **dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "H"),
    **dict.fromkeys(("CYX", "CYM"), "C"),
    "ASH": "D",
    "GLH": "E",
    "LYN": "K",
}
_WATERS = frozenset({"HOH", "DOD", "WAT", "H2O", "TIP", "TIP3", "TP3", "SOL"})
_CONTRADICTS = "the file contradicts itself; fetch it again, or remove that category to read the atoms alone"
_WRONG_NAME = 1_000.0
_WRONG_BOND = 1_000.0
_WRONG_NUMBER = 1.0


@dataclass(frozen=True)
class Residue:
    """One residue of a file, with one of its alternate locations."""

    chain: str
    label: str
    sequence_id: int | None
    number: str
    insertion: str
    component: str
    hetero: bool
    before_ter: bool
    after_ter: bool
    backbone: np.ndarray
    """N, CA, C and O in Å, float32 [4, 3]; NaN where there is none."""
    b_factor: float
    """Of CA; NaN where there is none."""
    num_alternates: int
    """Alternate locations; 0 where there is one place for each atom."""
    alternatives: tuple[str, ...]
    """Components of all alternate locations; more than one where they are of different amino acids."""

    @property
    def place(self) -> str:
        """Author number and insertion code."""
        return self.number + self.insertion

    @property
    def has_backbone(self) -> bool:
        """Whether N, CA and C are there."""
        return not np.isnan(self.backbone[:3]).any()

    def binds(self, other: "Residue") -> bool:
        """Tell whether C of this residue is at a bond's distance from N of the other.

        Parameters
        ----------
        other
            The next residue; `False` where either atom is absent.
        """
        return bool(np.linalg.norm(self.backbone[2] - other.backbone[0]) <= _BOND)

    def __str__(self) -> str:
        return f"{self.component} {self.place}"


class Letters:
    """One-letter codes: the standard ones, then what the file states, then the component dictionary.

    Parameters
    ----------
    parents
        Standard component of each modified one, as the file states it.
    peptides
        Components that the file states to be amino acids.
    """

    def __init__(self, parents: Mapping[str, str], peptides: frozenset[str]) -> None:
        self._parents = parents
        self._peptides = peptides

    def letter(self, component: str, *, hetero: bool = True) -> str:
        """Give the letter; X for an amino acid without one, empty for what is not known to be one.

        Parameters
        ----------
        component
            Such as MSE.
        hetero
            Whether it is in HETATM records.
        """
        if component in _LETTERS:
            return _LETTERS[component]
        if self._parents.get(component) in _LETTERS:
            return _LETTERS[self._parents[component]]
        if not hetero and component in _FORCE_FIELD:
            return _FORCE_FIELD[component]
        link, code = _dictionary(component)
        if "PEPTIDE" in link:
            return code if len(code) == 1 and code in STANDARD + UNUSUAL else "X"
        return "X" if component in self._peptides else ""

    @staticmethod
    def is_standard(component: str) -> bool:
        """Tell whether it is one of the twenty.

        Parameters
        ----------
        component
            Such as ALA.
        """
        return component in _LETTERS

    @staticmethod
    def group(component: str) -> str:
        """Give ``water``, ``nucleotide``, or an empty text for all else.

        Parameters
        ----------
        component
            Such as HOH.
        """
        if component in _WATERS:
            return "water"
        link, _ = _dictionary(component)
        return "nucleotide" if "DNA" in link or "RNA" in link else ""


@lru_cache(maxsize=4096)
def _dictionary(component: str) -> tuple[str, str]:
    """Give the type (upper case) and code of the PDB Chemical Component Dictionary; empty where unknown."""
    from biotite.structure.info import link_type, one_letter_code

    return (link_type(component) or "").upper(), one_letter_code(component) or ""


def make_residues(path: Path, atoms: Atoms) -> list[Residue]:
    """Gather atoms to residues, in the order of the file.

    Parameters
    ----------
    path
        For messages.
    atoms
        Of one model.

    Raises
    ------
    DataError
        If a residue has an atom of the backbone twice.
    """
    keys = [atoms.chain, atoms.label, atoms.sequence_id, atoms.number, atoms.insertion]
    differs = np.zeros(len(atoms) - 1, dtype=bool)
    for column in keys:
        differs |= column[1:] != column[:-1]
    is_single = atoms.altloc == ""
    differs |= (atoms.component[1:] != atoms.component[:-1]) & (is_single[1:] | is_single[:-1])
    bounds = [0, *(np.flatnonzero(differs) + 1).tolist(), len(atoms)]
    return [_residue(path, atoms, slice(start, stop)) for start, stop in pairwise(bounds)]


def _residue(path: Path, atoms: Atoms, rows: slice) -> Residue:
    altloc, occupancy, names = atoms.altloc[rows], atoms.occupancy[rows], atoms.atom[rows]
    components = atoms.component[rows]
    labels = [label for label in dict.fromkeys(altloc.tolist()) if label]
    # the first of the file where occupancies are equal
    best = max(labels, key=lambda label: occupancy[altloc == label].mean(), default="")
    first = int(np.argmax(altloc == best))
    component = str(components[first])
    at = rows.start + first
    backbone, b_factor = np.full((4, 3), np.nan, dtype=np.float32), np.nan
    for place, name in enumerate(BACKBONE):
        found = np.flatnonzero((names == name) & (components == component))
        if not len(found):
            continue
        if len(set(altloc[found].tolist())) < len(found):
            raise DataError(
                f"{path}, chain '{atoms.chain[at]}': {component} {atoms.number[at]}{atoms.insertion[at]} has "
                f"atom {name} more than once",
                hint="are there two residues of one number? give them different numbers or insertion codes",
            )
        ranked = sorted(found, key=lambda row: (altloc[row] not in (best, ""), -occupancy[row]))
        found_at = atoms.xyz[rows][ranked[0]]
        if np.isfinite(found_at).all():  # NaN and inf are no place
            backbone[place] = found_at
        if name == "CA":
            b_factor = float(atoms.b_factor[rows][ranked[0]])
    sequence_id = str(atoms.sequence_id[at])
    return Residue(
        chain=str(atoms.chain[at]),
        label=str(atoms.label[at]),
        sequence_id=int(sequence_id) if sequence_id else None,
        number=str(atoms.number[at]),
        insertion=str(atoms.insertion[at]),
        component=component,
        hetero=bool(atoms.hetero[at]),
        before_ter=bool(atoms.before_ter[at]),
        after_ter=bool(atoms.after_ter[at]),
        backbone=backbone,
        b_factor=b_factor,
        num_alternates=len(labels),
        alternatives=tuple(dict.fromkeys(components.tolist())),
    )


def sort_residues(
    residues: Sequence[Residue], parsed: ParsedFile, letters: Letters
) -> tuple[dict[str, list[Residue]], Counter[str]]:
    """Take the residues of protein chains from waters, ligands and nucleic acids.

    Where the file says which of its polymers are proteins, that is followed. Else a residue of ATOM records
    belongs to a chain if it is an amino acid or has N, CA and C; one of HETATM records only if besides a TER
    of its chain follows it or, in a chain without TER, an ATOM record of it follows, it is bonded to a
    neighbour, or SEQRES names it.

    Parameters
    ----------
    residues
        Of one model, in the order of the file.
    parsed
        What the file says.
    letters
        To tell amino acids.

    Returns
    -------
    tuple
        Residues by the author's chain id, and counts of what was left out: ``water``, ``nucleotide``, or a
        component.
    """
    named = {
        label: {name for names in construct.components for name in names}
        for label, construct in parsed.constructs.items()
    }
    last_atom = {residue.chain: index for index, residue in enumerate(residues) if not residue.hetero}
    neighbours = [None, *residues, None]
    chains: dict[str, list[Residue]] = {}
    left_out: Counter[str] = Counter()
    for index, residue in enumerate(residues):
        if residue.label in parsed.is_protein:
            belongs = parsed.is_protein[residue.label] and residue.sequence_id is not None
        else:
            is_bonded = any(
                one is not None and two is not None and one.chain == two.chain and one.binds(two)
                for one, two in pairwise(neighbours[index : index + 3])
            )
            is_inside = (
                is_bonded
                or index < last_atom.get(residue.chain, -1)
                or residue.component in named.get(residue.label, ())
            )
            belongs = _belongs(residue, letters, is_inside=is_inside)
        if belongs:
            chains.setdefault(residue.chain, []).append(residue)
        else:
            left_out[letters.group(residue.component) or residue.component] += 1
    return chains, left_out


def _belongs(residue: Residue, letters: Letters, *, is_inside: bool) -> bool:
    if letters.group(residue.component):
        return False
    if not letters.letter(residue.component, hetero=residue.hetero) and not residue.has_backbone:
        return False
    return not residue.hetero or residue.before_ter or (is_inside and not residue.after_ter)


def place_by_number(where: str, residues: Sequence[Residue], construct: Construct) -> np.ndarray:
    """Give the 0-based place of each residue in its construct by mmCIF's label_seq_id.

    Parameters
    ----------
    where
        File and chain, for messages.
    residues
        Of one chain.
    construct
        With `places`.

    Raises
    ------
    DataError
        If a number is not in the construct, comes twice, or has another component there.
    """
    places = construct.places or {}
    taken: dict[int, Residue] = {}
    for residue in residues:
        place = places.get(residue.sequence_id or 0)
        if place is None:
            raise DataError(
                f"{where}: {residue} has label_seq_id {residue.sequence_id}, which is not in "
                f"{construct.source} ({len(construct.components)} residues)",
                hint=_CONTRADICTS,
            )
        if not set(residue.alternatives) & set(construct.components[place]):
            raise DataError(
                f"{where}: label_seq_id {residue.sequence_id} is {residue.component} in the atoms, "
                f"{' or '.join(construct.components[place])} in {construct.source}",
                hint=_CONTRADICTS,
            )
        if place in taken:
            raise DataError(
                f"{where}: label_seq_id {residue.sequence_id} is both {taken[place]} and {residue}",
                hint="two chains of one id? give them different ids",
            )
        taken[place] = residue
    return np.array(list(taken), dtype=np.int64)


def place_by_walk(
    where: str, residues: Sequence[Residue], construct: Construct, letters: Letters
) -> tuple[np.ndarray, int]:
    """Give the 0-based place of each residue in its construct by names, bonds and residue numbers.

    Exact dynamic programming over all placements that keep the order. Every name must fit, residues that are
    bonded must be neighbours, and across a break the residue numbers say how many are missing; they give way
    where names and bonds contradict them, as in antibody numberings.

    Parameters
    ----------
    where
        File and chain, for messages.
    residues
        Of one chain, in order.
    construct
        Of the same chain.
    letters
        Components of one letter fit each other.

    Returns
    -------
    tuple
        The places, and at how many breaks several were equally good (the first was taken).

    Raises
    ------
    DataError
        If no placement fits.
    """
    num_places = len(construct.components)
    if len(residues) > num_places:
        raise DataError(
            f"{where}: {len(residues):,} residues have atoms, but {construct.source} has {num_places:,}",
            hint=f"correct {construct.source}, or remove it to read the residues that have atoms",
        )
    costs = _remaining_costs(residues, construct, letters)
    places, num_ties = np.empty(len(residues), dtype=np.int64), 0
    options = np.flatnonzero(costs[0] == costs[0].min())
    for index in range(len(residues)):
        num_ties += len(options) > 1
        places[index] = place = int(options[0])
        if index + 1 < len(residues):
            steps = _step_costs(residues[index], residues[index + 1], costs[index + 1], place)
            options = place + 1 + np.flatnonzero(steps == steps.min())
    if costs[0].min() >= min(_WRONG_NAME, _WRONG_BOND):
        raise _contradiction(where, residues, construct, letters, places)
    return places, num_ties


def _fits(residue: Residue, names: tuple[str, ...], letters: Letters) -> bool:
    if set(residue.alternatives) & set(names):
        return True
    found = {letters.letter(name, hetero=residue.hetero) for name in residue.alternatives} - {"", "X"}
    return bool(found & {letters.letter(name) for name in names})


def _remaining_costs(residues: Sequence[Residue], construct: Construct, letters: Letters) -> np.ndarray:
    """Give, for each residue at each place, the least cost of it and all that follow, [residues, places]."""
    kinds = {(each.alternatives, each.hetero): each for each in residues}
    names = {
        kind: np.array(
            [0.0 if _fits(each, name, letters) else _WRONG_NAME for name in construct.components], np.float32
        )
        for kind, each in kinds.items()
    }
    costs = np.full((len(residues), len(construct.components)), np.inf, dtype=np.float32)
    costs[-1] = names[residues[-1].alternatives, residues[-1].hetero]
    for index in range(len(residues) - 2, -1, -1):
        this, following = residues[index], residues[index + 1]
        step, penalty = _expected_step(this, following)
        least = np.full(costs.shape[1], np.inf, dtype=np.float32)
        least[:-1] = np.minimum.accumulate(costs[index + 1][::-1])[::-1][1:] + penalty
        if step < len(least):
            least[:-step] = np.minimum(least[:-step], costs[index + 1][step:])
        costs[index] = names[this.alternatives, this.hetero] + least
    return costs


def _step_costs(this: Residue, following: Residue, remaining: np.ndarray, place: int) -> np.ndarray:
    """Give the cost of each place behind `place` for the residue that follows."""
    step, penalty = _expected_step(this, following)
    costs = remaining[place + 1 :] + np.float32(penalty)
    if step <= len(costs):
        costs[step - 1] = remaining[place + step]
    return costs


def _expected_step(this: Residue, following: Residue) -> tuple[int, float]:
    """Give how many places further the next residue should be, and what another step costs."""
    if this.binds(following):
        return 1, _WRONG_BOND
    try:
        step = int(following.number) - int(this.number)
    except ValueError:
        return 1, 0.0
    if step < 1 or this.insertion or following.insertion:
        return 1, 0.0
    return step, _WRONG_NUMBER


def _contradiction(
    where: str, residues: Sequence[Residue], construct: Construct, letters: Letters, places: np.ndarray
) -> DataError:
    wrong = [
        (residue, place)
        for residue, place in zip(residues, places.tolist(), strict=True)
        if not _fits(residue, construct.components[place], letters)
    ]
    if wrong:
        residue, place = wrong[0]
        what = (
            f"{residue} stands where {construct.source} has {construct.components[place][0]} "
            f"(residue {place + 1}); {len(wrong)} of {len(residues)} residues contradict it"
        )
    else:
        index = next(
            index
            for index, (this, following) in enumerate(pairwise(residues))
            if this.binds(following) and places[index + 1] != places[index] + 1
        )
        missing = int(places[index + 1] - places[index] - 1)
        what = (
            f"{residues[index]} and {residues[index + 1]} are bonded, "
            f"but {construct.source} has {missing} between"
        )
    return DataError(
        f"{where}: {what}",
        hint=f"correct {construct.source}, or remove it to read the residues that have atoms",
    )
