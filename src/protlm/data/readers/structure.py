"""PDB, mmCIF and BinaryCIF files: protein chains, their construct, backbone, and what is not resolved."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from protlm.data.readers.structure_files import (
    Construct,
    ParsedFile,
    parse_binary_cif,
    parse_mmcif,
    parse_pdb,
)
from protlm.data.readers.structure_residues import (
    BACKBONE,
    Letters,
    Residue,
    make_residues,
    place_by_number,
    place_by_walk,
    sort_residues,
)
from protlm.data.readers.text import read_bytes, read_lines
from protlm.errors import DataError, did_you_mean
from protlm.types.alphabet import clean_residues

MIN_IDENTITY = 0.5
"""Least share of equal residues for which `place_on_chain` takes two sequences for one protein."""
MIN_ALIGNED = 25
"""Residues that must be aligned, or half of the shorter sequence where that is less."""

_PARSERS = {".pdb": parse_pdb, ".ent": parse_pdb, ".cif": parse_mmcif, ".mmcif": parse_mmcif}
_BINARY = ".bcif"
SUFFIXES = (*_PARSERS, _BINARY)
"""Of structure files; .gz behind them is allowed."""
_GAP = (-11, -1)


@dataclass(frozen=True)
class StructureChain:
    """One protein chain. All that is per residue is so for the construct, resolved or not."""

    chain_id: str
    """The author's, such as H; empty where a PDB file leaves it blank."""
    label_id: str
    """mmCIF's own; the same as `chain_id` in a PDB file."""
    residues: str
    """One letter each, of the construct (SEQRES, entity_poly_seq) where the file has it, else as resolved."""
    residue_ids: tuple[str, ...]
    """Author number and insertion code, such as 100A; empty where not resolved."""
    backbone: np.ndarray = field(compare=False, repr=False)
    """N, CA, C and O in Å, float32 [residues, 4, 3]; NaN where not resolved."""
    b_factor: np.ndarray = field(compare=False, repr=False)
    """Of CA, float32 [residues], or what the file has in its place, such as pLDDT; NaN where not resolved."""
    is_resolved: np.ndarray = field(compare=False, repr=False)
    """Whether any atom of the residue is in the file, bool [residues]."""

    def __len__(self) -> int:
        return len(self.residues)


class NoChainError(DataError):
    """A file has no protein chain of a name asked for.

    Parameters
    ----------
    message, hint
        As for every error.
    chain
        The name.
    """

    def __init__(self, message: str, *, hint: str, chain: str) -> None:
        super().__init__(message, hint=hint)
        self.chain = chain


@dataclass(frozen=True)
class Structure:
    """The protein chains of one model."""

    name: str
    """The file's name without suffixes."""
    chains: tuple[StructureChain, ...]
    num_models: int = 1
    """How many the file has."""
    notes: tuple[str, ...] = ()
    """What was left out, renamed or chosen, with counts."""


@dataclass(frozen=True)
class ChainFit:
    """How a sequence aligns to a chain."""

    places: np.ndarray = field(compare=False, repr=False)
    """For each residue of the sequence the 0-based index into the construct, or -1; int64."""
    num_aligned: int
    """Residues with a counterpart; X counts neither way."""
    num_equal: int
    num_needed: int
    """Residues that must be aligned for one protein."""

    @property
    def is_enough(self) -> bool:
        """Whether the two are taken for one protein."""
        return self.num_aligned >= self.num_needed and self.num_equal >= MIN_IDENTITY * self.num_aligned

    @property
    def share(self) -> str:
        """Equal residues among the aligned ones, in per cent."""
        return f"{self.num_equal / self.num_aligned:.0%}" if self.num_aligned else "none"


def read_structure(path: Path | str, *, model: int = 1, chains: Sequence[str] | None = None) -> Structure:
    r"""Read the protein chains of a PDB, mmCIF or BinaryCIF file, plain or gzip-compressed.

    Modified residues get the letter of their parent as the file states it, else as the PDB Chemical Component
    Dictionary does; without one they are X. Of alternate locations that of the highest mean occupancy in its
    residue is kept, the first of the file where they are equal. Waters, ligands, nucleic acids, caps of the
    chain ends (ACE, NH2) and hydrogens are left out.

    Parameters
    ----------
    path
        Ends in .pdb, .ent, .cif, .mmcif or .bcif, with .gz behind it or not.
    model
        1-based, in the order of the file.
    chains
        Author ids of the chains to read, in the order wanted; all if `None`.

    Returns
    -------
    Structure
        Its `notes` say what was changed and left out.

    Raises
    ------
    DataError
        If the file is not there, empty, cut off or of another kind, the model (`NoModelError`) or a chain
        (`NoChainError`) is not in it, or its atoms contradict its construct.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.pdb"
    >>> _ = path.write_text(
    ...     "SEQRES   1 A    3  GLY MSE ALA\n"
    ...     "HETATM    1  CA  MSE A   7      11.000   2.500  -3.125  1.00 20.00           C\n"
    ...     "ATOM      2  CA  ALA A   8      14.800   2.500  -3.125  1.00 30.00           C\n"
    ...     "TER\n"
    ... )
    >>> structure = read_structure(path)
    >>> chain = structure.chains[0]
    >>> chain.residues, chain.residue_ids, chain.backbone[1, 1].tolist()
    ('GMA', ('', '7', '8'), [11.0, 2.5, -3.125])
    >>> structure.notes[0]
    "chain 'A': 1 × MSE read as M"
    """
    path = Path(path)
    parsed, name = _parse(path, model)
    letters = Letters(parsed.parents, parsed.peptides)
    by_chain, left_out = sort_residues(make_residues(path, parsed.atoms), parsed, letters)
    notes = list(parsed.notes)
    if parsed.num_models > 1:
        notes.append(f"model {model} of {parsed.num_models} is read")
    built = []
    for chain_id in _wanted(path, chains, by_chain, left_out, letters):
        chain, said = _build(f"{path}, chain '{chain_id}'", by_chain[chain_id], parsed, letters)
        built.append(chain)
        notes += [f"chain '{chain_id}': {each}" for each in said]
    labels = set(parsed.atoms.label.tolist())
    notes += [
        f"chain '{label}': left out, no atom of its {len(construct.components)} residues ({construct.source})"
        for label, construct in parsed.constructs.items()
        if label not in labels and any(letters.letter(names[0]) for names in construct.components)
    ]
    if left_out:
        notes.append(f"left out: {_amounts(left_out)}")
    return Structure(name, tuple(built), parsed.num_models, tuple(notes))


def _parse(path: Path, model: int) -> tuple[ParsedFile, str]:
    stem = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    suffix = Path(stem).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"cannot tell what kind of structure file {path} is by its suffix '{suffix}'",
            hint=f"rename it to end in one of {', '.join(SUFFIXES)}, with .gz behind it if compressed",
        )
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file", hint="give one PDB, mmCIF or BinaryCIF file")
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to {path.readlink()}, which is not there", hint="mend the link")
    if not path.exists():
        raise DataError(f"no such file: {path}", hint="check the path and the working directory")
    if suffix == _BINARY:
        content = read_bytes(path)
        if not content:
            raise DataError(f"{path} is empty", hint="fetch it again")
        return parse_binary_cif(path, content, model), stem[: -len(suffix)]
    lines = list(read_lines(path))
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty", hint="fetch it again")
    return _PARSERS[suffix](path, lines, model), stem[: -len(suffix)]


def _amounts(counts: Counter[str]) -> str:
    kinds = ("water", "nucleotide")
    plain = [f"{counts[kind]:,} {kind}{'s' * (counts[kind] > 1)}" for kind in kinds if counts[kind]]
    return ", ".join(plain + [f"{n:,} × {name}" for name, n in counts.most_common() if name not in kinds])


def _wanted(
    path: Path,
    chains: Sequence[str] | None,
    by_chain: dict[str, list[Residue]],
    left_out: Counter[str],
    letters: Letters,
) -> list[str]:
    known = {
        chain_id: residues
        for chain_id, residues in by_chain.items()
        if any(letters.letter(each.component, hetero=each.hetero) for each in residues)
    }
    if not known:
        there = _amounts(left_out + Counter(each.component for some in by_chain.values() for each in some))
        raise DataError(
            f"{path} has no protein chain; it has {there}", hint="give a file with the atoms of a protein"
        )
    if chains is None:
        return list(known)
    asked = [chains] if isinstance(chains, str) else list(dict.fromkeys(chains))
    if not asked:
        raise DataError(f"no chain of {path} was asked for", hint="name one, or leave the choice out for all")
    for chain_id in asked:
        if chain_id not in known:
            raise NoChainError(
                f"{path} has no protein chain '{chain_id}'",
                hint=did_you_mean(chain_id, [each or "'' (blank)" for each in known]),
                chain=chain_id,
            )
    return asked


def _build(
    where: str, residues: Sequence[Residue], parsed: ParsedFile, letters: Letters
) -> tuple[StructureChain, list[str]]:
    """Lay the residues of one chain out on its construct, and say what was done to them."""
    notes: list[str] = []
    _refuse_repeats(where, residues)
    labels = list(dict.fromkeys(residue.label for residue in residues))
    construct = parsed.constructs.get(labels[0])
    if len(labels) > 1:
        if any(label in parsed.constructs for label in labels):
            raise DataError(
                f"{where}: {len(labels)} polymers have this id (label_asym_id {', '.join(labels)})",
                hint="give each a chain id of its own",
            )
        notes.append(f"made of {len(labels)} parts (label_asym_id {', '.join(labels)})")
    if construct is None:
        construct = Construct("the atoms", tuple((residue.component,) for residue in residues))
        places = np.arange(len(residues))
    elif construct.places is not None:
        places = place_by_number(where, residues, construct)
    else:
        places, num_ties = place_by_walk(where, residues, construct, letters)
        if num_ties:
            notes.append(
                f"{num_ties} break{'s' * (num_ties > 1)} where the residues could stand at several places of "
                f"{construct.source}; the first was taken"
            )
    start, stop = _without_caps(construct, letters)
    caps = Counter(names[0] for names in construct.components[:start] + construct.components[stop:])
    if caps:
        notes.append(f"caps left out: {_amounts(caps)}")
    placed = [
        (place - start, residue)
        for place, residue in zip(places.tolist(), residues, strict=True)
        if start <= place < stop
    ]
    chain, renamed = _laid_out(placed, construct.components[start:stop], letters)
    notes += [f"{count} × {name} read as {letter}" for (name, letter), count in sorted(renamed.items())]
    return chain, notes + _counted([residue for _, residue in placed])


def _refuse_repeats(where: str, residues: Sequence[Residue]) -> None:
    seen: dict[str, Residue] = {}
    for residue in residues:
        if residue.place in seen:
            raise DataError(
                f"{where}: residue {residue.place} comes twice, as {seen[residue.place]} and {residue}",
                hint="do two chains share the id? give each its own id, and each residue its own number",
            )
        seen[residue.place] = residue


def _without_caps(construct: Construct, letters: Letters) -> tuple[int, int]:
    """Give the range of a construct between what is no amino acid at its ends."""
    is_residue = [any(letters.letter(name) for name in names) for names in construct.components]
    if construct.source == "the atoms" or not any(is_residue):
        return 0, len(is_residue)
    return is_residue.index(True), len(is_residue) - is_residue[::-1].index(True)


def _laid_out(
    placed: Sequence[tuple[int, Residue]], components: Sequence[tuple[str, ...]], letters: Letters
) -> tuple[StructureChain, Counter[tuple[str, str]]]:
    size = len(components)
    names = [(names[0], True) for names in components]
    backbone = np.full((size, len(BACKBONE), 3), np.nan, dtype=np.float32)
    b_factor = np.full(size, np.nan, dtype=np.float32)
    is_resolved, residue_ids = np.zeros(size, dtype=bool), [""] * size
    for place, residue in placed:
        names[place] = (residue.component, residue.hetero)
        backbone[place], b_factor[place] = residue.backbone, residue.b_factor
        is_resolved[place], residue_ids[place] = True, residue.place
    found = [letters.letter(name, hetero=hetero) or "X" for name, hetero in names]
    renamed = Counter(
        (name, letter)
        for (name, _), letter in zip(names, found, strict=True)
        if not letters.is_standard(name)
    )
    first = placed[0][1]
    chain = StructureChain(
        first.chain, first.label, "".join(found), tuple(residue_ids), backbone, b_factor, is_resolved
    )
    return chain, renamed


def _counted(residues: Sequence[Residue]) -> list[str]:
    mixed = [residue for residue in residues if len(residue.alternatives) > 1]
    several = [residue for residue in residues if residue.num_alternates > 1]
    partial = [residue for residue in residues if np.isnan(residue.backbone).any()]
    told = (
        (several, "with alternate locations, of which that of the highest occupancy was kept"),
        (mixed, "with several amino acids in one place, of which the one kept is named"),
        (partial, "without all of N, CA, C and O"),
    )
    return [
        f"{len(some)} residue{'s' * (len(some) > 1)} {what} (first: {some[0]})" for some, what in told if some
    ]


def place_on_chain(chain: StructureChain, sequence: str) -> np.ndarray:
    """Give, for each residue of a sequence, its place in a chain: to colour a structure by a wild type.

    Global alignment to the construct by BLOSUM62, a gap of n residues costing 10 + n, gaps at the ends free.
    Ends of the alignment that do not raise its score, such as a signal peptide against a tag, are not placed.

    Parameters
    ----------
    chain
        The chain.
    sequence
        A wild type, plain residues.

    Returns
    -------
    numpy.ndarray
        0-based index into the construct, or -1 where it has no counterpart; int64 [residues of `sequence`].
        Aligned residues need not be equal, nor resolved.

    Raises
    ------
    DataError
        If fewer than `MIN_IDENTITY` of the aligned residues are equal (X counts neither way), or fewer are
        aligned than `MIN_ALIGNED` and half of the shorter sequence.

    Examples
    --------
    >>> nothing = np.full(6, np.nan, np.float32)
    >>> chain = StructureChain("A", "A", "GSMKTW", ("",) * 6, nothing, nothing, np.zeros(6, bool))
    >>> place_on_chain(chain, "MKTWA").tolist()
    [2, 3, 4, 5, -1]
    """
    fit = fit_on_chain(chain, sequence)
    if not fit.is_enough:
        raise DataError(
            f"the sequence of {len(fit.places):,} residues does not fit chain '{chain.chain_id}' of "
            f"{len(chain):,}: {fit.num_aligned:,} residues align, of which {fit.num_equal:,} ({fit.share}) "
            f"are equal; at least {fit.num_needed} must align and {MIN_IDENTITY:.0%} be equal",
            hint="is it another chain of the structure, or another protein?",
        )
    return fit.places


def fit_on_chain(chain: StructureChain, sequence: str) -> ChainFit:
    """Align a sequence to a chain as `place_on_chain` does, whether or not they are one protein.

    Parameters
    ----------
    chain
        The chain.
    sequence
        A wild type, plain residues.

    Examples
    --------
    >>> nothing = np.full(6, np.nan, np.float32)
    >>> chain = StructureChain("A", "A", "GSMKTW", ("",) * 6, nothing, nothing, np.zeros(6, bool))
    >>> fit = fit_on_chain(chain, "MKAW")
    >>> fit.num_aligned, fit.num_equal, fit.is_enough
    (4, 3, True)
    """
    from biotite.sequence import ProteinSequence
    from biotite.sequence.align import SubstitutionMatrix
    from biotite.sequence.align.pairwise import align_optimal

    sequence = clean_residues(sequence)
    known = str.maketrans(dict.fromkeys("JOU", "X"))
    one, two = (ProteinSequence(residues.translate(known)) for residues in (sequence, chain.residues))
    matrix: Any = SubstitutionMatrix.std_protein_matrix()
    trace = align_optimal(one, two, matrix, gap_penalty=_GAP, terminal_penalty=False, max_number=1)[0].trace
    aligned = _worth(trace, matrix.score_matrix(), one.code, two.code)
    pairs = [(sequence[a], chain.residues[b]) for a, b in aligned]
    told = [(a, b) for a, b in pairs if "X" not in (a, b)]
    places = np.full(len(sequence), -1, dtype=np.int64)
    places[aligned[:, 0]] = aligned[:, 1]
    needed = min(MIN_ALIGNED, -(-min(len(sequence), len(chain)) // 2))
    return ChainFit(places, len(told), sum(a == b for a, b in told), needed)


def _worth(trace: np.ndarray, matrix: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Give the aligned pairs of the run of columns with the highest score."""
    is_gap = trace.min(axis=1) < 0
    opens = is_gap & ~np.concatenate([[False], is_gap[:-1]])
    scores = np.where(is_gap, np.where(opens, *_GAP), matrix[one[trace[:, 0]], two[trace[:, 1]]])
    total = np.concatenate([[0], np.cumsum(scores)])
    gain = total - np.minimum.accumulate(total)
    stop = int(gain.argmax())
    start = stop - int(total[stop::-1].argmin()) if stop else 0
    kept = trace[start:stop]
    return kept[kept.min(axis=1) >= 0]
