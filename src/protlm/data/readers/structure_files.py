"""PDB, mmCIF and BinaryCIF files to one table of atoms, and what the file says about its chains."""

import itertools
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from protlm.errors import DataError

_COORDINATES_END = 54
_CUT = "it was probably cut short while copying; fetch it again"
_WHOLE = "fetch it again, or, if nothing is missing, add {} as its last line"


class NoModelError(DataError):
    """A file has no model of the number asked for."""


@dataclass(frozen=True)
class Atoms:
    """Columns of one model, a value per atom, in the order of the file."""

    chain: np.ndarray
    """Author's chain id."""
    label: np.ndarray
    """mmCIF's own chain id; the author's in a PDB file."""
    sequence_id: np.ndarray
    """Number in the construct as text; empty in a PDB file and for what is no polymer."""
    number: np.ndarray
    """Author's residue number, as text."""
    insertion: np.ndarray
    component: np.ndarray
    """Name of the residue, such as ALA."""
    atom: np.ndarray
    altloc: np.ndarray
    hetero: np.ndarray
    occupancy: np.ndarray
    b_factor: np.ndarray
    xyz: np.ndarray
    """In Å, shape [atoms, 3]."""
    before_ter: np.ndarray
    """A TER of its chain follows."""
    after_ter: np.ndarray
    """All TER of its chain came before."""

    def __len__(self) -> int:
        return len(self.chain)

    def take(self, which: np.ndarray) -> Self:
        """Keep some atoms.

        Parameters
        ----------
        which
            A mask, or 0-based indices.
        """
        return type(self)(**{each.name: getattr(self, each.name)[which] for each in fields(self)})


@dataclass(frozen=True)
class Construct:
    """The residues that were in the experiment, resolved or not."""

    source: str
    """The record or category it was read from."""
    components: tuple[tuple[str, ...], ...]
    """For each residue its component, or the alternatives."""
    places: Mapping[int, int] | None = None
    """0-based place by `sequence_id`; `None` where the file has no such numbers (PDB)."""


@dataclass(frozen=True)
class ParsedFile:
    """A structure file before its residues are sorted and named."""

    atoms: Atoms
    num_models: int
    constructs: Mapping[str, Construct] = field(default_factory=dict)
    """By the chain's label."""
    is_protein: Mapping[str, bool] = field(default_factory=dict)
    """By label, for the polymers of an mmCIF file that says what they are."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Standard component of each modified one, as the file states it."""
    peptides: frozenset[str] = frozenset()
    """Components that the file states to be amino acids."""
    notes: tuple[str, ...] = ()


def parse_pdb(path: Path, lines: Sequence[str], model: int) -> ParsedFile:
    """Read the records of a PDB file.

    Parameters
    ----------
    path
        For messages.
    lines
        The file.
    model
        1-based.

    Raises
    ------
    DataError
        If it is no PDB file, is cut off, a number in it is none, or the model is not there.
    """
    from biotite.structure.io.pdb import PDBFile

    if next(line for line in lines if line.strip()).startswith("data_"):
        raise DataError(f"{path} is mmCIF by its content, PDB by its name", hint="rename it to end in .cif")
    numbers = [at for at, line in enumerate(lines) if _is_atom(line)]
    if not numbers:
        raise DataError(
            f"{path} has no ATOM records among its {len(lines):,} lines",
            hint="is it a PDB file, and is it whole?",
        )
    _refuse_cut_pdb(path, lines, numbers)
    starts = [at for at, line in enumerate(lines) if line.split()[:1] == ["MODEL"]] or [0]
    _refuse_model(path, model, len(starts))
    stop = starts[model] if model < len(starts) else len(lines)
    block = range(starts[model - 1], stop)
    numbers = [at for at in block if _is_atom(lines[at])]
    if not numbers:
        raise DataError(f"{path}: model {model} has no atoms", hint="ask for another model")
    records = [_filled(lines[at]) for at in numbers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that elements are guessed; they are not used
            array: Any = PDBFile.read(StringIO("\n".join(records))).get_structure(
                model=1, altloc="all", extra_fields=["b_factor", "occupancy"]
            )
    except (ValueError, IndexError) as error:
        raise _bad_record(path, lines, numbers, error) from None
    before, after, notes = _around_ter(lines, block)
    chain = array.chain_id.astype(str)
    atoms = Atoms(
        chain=chain,
        label=chain,
        sequence_id=np.full(len(chain), ""),
        number=array.res_id.astype(str),
        insertion=array.ins_code.astype(str),
        component=array.res_name.astype(str),
        atom=array.atom_name.astype(str),
        altloc=np.char.strip(array.altloc_id.astype(str)),
        hetero=array.hetero,
        occupancy=array.occupancy,
        b_factor=array.b_factor.astype(np.float32),
        xyz=array.coord.astype(np.float32),
        before_ter=before,
        after_ter=after,
    )
    return ParsedFile(atoms, len(starts), _seqres(lines), parents=_modres(lines), notes=notes)


def _is_atom(line: str) -> bool:
    return line.startswith(("ATOM", "HETATM"))


def _filled(line: str) -> str:
    """Give the line with a value in the columns that some programs leave out."""
    line = line.ljust(80)
    occupancy = line[54:60] if line[54:60].strip() else "  1.00"
    b_factor = line[60:66] if line[60:66].strip() else "   nan"
    return line[:54] + occupancy + b_factor + line[66:]


def _refuse_cut_pdb(path: Path, lines: Sequence[str], numbers: Sequence[int]) -> None:
    last = max(at for at, line in enumerate(lines) if line.strip())
    where = f"{path}, line {last + 1:,}"
    if last == numbers[-1]:
        lengths = [len(lines[at].rstrip()) for at in numbers]
        if lengths[-1] < _COORDINATES_END or lengths[-1] < min(lengths[:-1], default=0):
            raise DataError(f"{where}: the file ends within a record ({lines[last]!r})", hint=_CUT)
    stub = lines[last].rstrip()
    if any(name.startswith(stub) and name != stub for name in ("ATOM", "HETATM", "ANISOU", "TER", "END")):
        raise DataError(f"{where}: the file ends within the name of a record ({stub!r})", hint=_CUT)
    has_end = any(line.rstrip() == "END" for line in lines)
    num_models = sum(line.startswith("MODEL ") for line in lines)
    num_closed = sum(line.startswith("ENDMDL") for line in lines)
    if num_models == num_closed + 1 and not has_end:
        raise DataError(f"{where}: the file ends within model {num_models}", hint=_WHOLE.format("ENDMDL"))
    if has_end:
        return
    named = {line[11:12] for line in lines if line.startswith("SEQRES")}
    lacking = sorted(named - {lines[at][21:22] for at in numbers})
    is_deposited = bool(named) or any(line.startswith("HEADER") for line in lines)
    if lacking or (is_deposited and lines[last].startswith(("ATOM", "HETATM", "ANISOU"))):
        without = f", and has no atoms of chain '{lacking[0]}', which SEQRES names" if lacking else ""
        raise DataError(
            f"{where}: the file ends without END, after {lines[last][:27].rstrip()!r}{without}",
            hint=_WHOLE.format("END"),
        )


def _refuse_model(path: Path, model: int, num_models: int) -> None:
    if not 1 <= model <= num_models:
        there = "has one model" if num_models == 1 else f"has {num_models} models"
        raise NoModelError(f"no model {model}: {path} {there}", hint="models are counted from 1")


def _bad_record(path: Path, lines: Sequence[str], numbers: Sequence[int], error: Exception) -> DataError:
    columns = {"x": (30, 38), "y": (38, 46), "z": (46, 54), "occupancy": (54, 60), "B-factor": (60, 66)}
    for at in numbers:
        line = _filled(lines[at])
        for name, (start, stop) in columns.items():
            try:
                float(line[start:stop])
            except ValueError:
                return DataError(
                    f"{path}, line {at + 1:,}: {name} in columns {start + 1} to {stop} is "
                    f"{line[start:stop]!r}, not a number",
                    hint="the columns of a PDB file are fixed; was a field widened or a space removed?",
                )
    return DataError(f"{path}: no PDB file can be read from it ({error})", hint="are its columns in place?")


def _around_ter(lines: Sequence[str], block: range) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Tell for each atom of a model whether a TER of its chain follows, or all came before."""
    chains: list[str] = []
    ends: dict[str, int] = {}
    resumed: dict[str, None] = {}
    for at in block:
        if _is_atom(lines[at]):
            chains.append(lines[at][21:22].strip())
            if chains[-1] in ends and lines[at].startswith("ATOM"):
                resumed[chains[-1]] = None
        elif lines[at].startswith("TER") and chains:
            ends[chains[-1]] = len(chains)
    last = np.array([ends.get(chain, -1) for chain in chains])
    index = np.arange(len(chains))
    notes = tuple(
        f"chain '{chain}' goes on after a TER; its parts are read as one chain" for chain in resumed
    )
    return index < last, (last >= 0) & (index >= last), notes


def _seqres(lines: Sequence[str]) -> dict[str, Construct]:
    names: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("SEQRES"):
            names.setdefault(line[11:12].strip(), []).extend(line[19:].split()[:13])
    return {chain: Construct("SEQRES", tuple((name,) for name in each)) for chain, each in names.items()}


def _modres(lines: Sequence[str]) -> dict[str, str]:
    records = [(line[12:15].strip(), line[24:27].strip()) for line in lines if line.startswith("MODRES")]
    return {name: parent for name, parent in records if parent}


def parse_mmcif(path: Path, lines: Sequence[str], model: int) -> ParsedFile:
    """Read the categories of an mmCIF file.

    Parameters
    ----------
    path
        For messages.
    lines
        The file.
    model
        1-based.

    Raises
    ------
    DataError
        If it is no mmCIF file, is cut off, lacks a column, or the model is not there.
    """
    from biotite.file import DeserializationError, InvalidFileError
    from biotite.structure.io.pdbx import CIFFile

    if not any(line.startswith("data_") for line in lines):
        raise DataError(
            f"{path} is not mmCIF: no line starts with 'data_'",
            hint="if it is a PDB file, rename it to end in .pdb",
        )
    try:
        file = CIFFile.deserialize("\n".join(lines) + "\n")
        return _blocks(path, file, model, lambda block: _refuse_cut_mmcif(path, lines, block))
    except (DeserializationError, InvalidFileError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"{path}: the mmCIF is cut off or damaged ({error})", hint="fetch it again") from None


def parse_binary_cif(path: Path, content: bytes, model: int) -> ParsedFile:
    """Read the categories of a BinaryCIF file, which are those of mmCIF.

    Parameters
    ----------
    path
        For messages.
    content
        The file, unpacked.
    model
        1-based.

    Raises
    ------
    DataError
        If it is no BinaryCIF file, is cut off, lacks a column, or the model is not there.
    """
    from biotite.file import DeserializationError, InvalidFileError
    from biotite.structure.io.pdbx import BinaryCIFFile

    damage = (DeserializationError, InvalidFileError, ValueError, IndexError, KeyError, TypeError)
    damage += (AttributeError, struct.error)
    try:
        return _blocks(path, BinaryCIFFile.read(BytesIO(content)), model)
    except damage as error:
        raise DataError(
            f"{path}: the BinaryCIF is cut off or damaged ({type(error).__name__}: {error})",
            hint="fetch it again; a text file should end in .cif",
        ) from None


def _blocks(path: Path, file: Any, model: int, check: Callable[[Any], None] | None = None) -> ParsedFile:
    """Read the first data block with atoms."""
    blocks = [name for name in file if "atom_site" in file[name]]
    if not blocks:
        raise DataError(
            f"{path} has no category _atom_site, which holds the atoms",
            hint=f"is it whole? if not, {_CUT}",
        )
    block: Any = file[blocks[0]]
    if check is not None:
        check(block)
    atoms, num_models = _atom_site(path, block["atom_site"], model)
    constructs, is_protein = _polymers(block, atoms)
    parents, peptides = _modified(block)
    notes = [f"{len(blocks)} data blocks have atoms; block '{blocks[0]}' is read"] if len(blocks) > 1 else []
    return ParsedFile(atoms, num_models, constructs, is_protein, parents, peptides, tuple(notes))


def _refuse_cut_mmcif(path: Path, lines: Sequence[str], block: Any) -> None:
    """Refuse a table of atoms that is not closed as the file's other tables are.

    Where the construct is known, residues that were cut off would pass for unresolved ones.
    """
    last = max(at for at, line in enumerate(lines) if line.strip())
    closes = any(line.rstrip() == "#" for line in lines[:last])
    if (
        list(block)[-1] == "atom_site"
        and "entity_poly_seq" in block
        and closes
        and lines[last].strip() != "#"
    ):
        raise DataError(
            f"{path}, line {last + 1:,}: the file ends within the atoms, which no '#' closes "
            f"({lines[last][:40].rstrip()!r})",
            hint=_WHOLE.format("#"),
        )


def _texts(category: Any, *names: str, size: int, default: str = "") -> np.ndarray:
    """Give the first of these columns that is there, with `default` for ``.`` and ``?``."""
    for name in names:
        if name in category:
            return category[name].as_array(str, default)
    return np.full(size, default)


def _atom_site(path: Path, table: Any, model: int) -> tuple[Atoms, int]:
    needed = ["Cartn_x", "Cartn_y", "Cartn_z"]
    either = [("label_atom_id", "auth_atom_id"), ("label_comp_id", "auth_comp_id")]
    absent = [name for name in needed if name not in table]
    absent += [" or ".join(names) for names in either if not any(name in table for name in names)]
    if absent:
        raise DataError(
            f"{path}: _atom_site has no column {', '.join(absent)}",
            hint=f"its columns are {', '.join(table)}",
        )
    size = table.row_count
    labels = _texts(table, "label_asym_id", "auth_asym_id", size=size)
    sequence_id = _texts(table, "label_seq_id", size=size)
    models = _texts(table, "pdbx_PDB_model_num", size=size, default="1")
    for text in set(sequence_id.tolist()) - {""}:
        int(text)  # raises here, where the message names the file
    order = list(dict.fromkeys(models.tolist()))
    _refuse_model(path, model, len(order))
    no = np.zeros(size, dtype=bool)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is no place
        xyz = np.stack([table[name].as_array(np.float32, np.nan) for name in needed], axis=-1)
    atoms = Atoms(
        chain=_texts(table, "auth_asym_id", "label_asym_id", size=size),
        label=labels,
        sequence_id=sequence_id,
        number=_texts(table, "auth_seq_id", "label_seq_id", size=size),
        insertion=_texts(table, "pdbx_PDB_ins_code", size=size),
        component=_texts(table, "label_comp_id", "auth_comp_id", size=size),
        atom=_texts(table, "label_atom_id", "auth_atom_id", size=size),
        altloc=_texts(table, "label_alt_id", size=size),
        hetero=_texts(table, "group_PDB", size=size, default="ATOM") == "HETATM",
        occupancy=_texts(table, "occupancy", size=size, default="1").astype(float),
        b_factor=_texts(table, "B_iso_or_equiv", size=size, default="nan").astype(np.float32),
        xyz=xyz,
        before_ter=no,
        after_ter=no,
    )
    return atoms.take(models == order[model - 1]), len(order)


def _rows(block: Any, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """Give some columns of a category row by row; nothing where one is absent."""
    if name not in block or any(column not in block[name] for column in columns):
        return []
    return list(zip(*(block[name][column].as_array(str, "").tolist() for column in columns), strict=True))


def _polymers(block: Any, atoms: Atoms) -> tuple[dict[str, Construct], dict[str, bool]]:
    types = dict(_rows(block, "entity_poly", "entity_id", "type"))
    entities = dict(_rows(block, "struct_asym", "id", "entity_id"))
    entities |= dict(_rows(block, "atom_site", "label_asym_id", "label_entity_id"))
    monomers = [
        (entity, int(number), name)
        for entity, number, name in _rows(block, "entity_poly_seq", "entity_id", "num", "mon_id")
    ]
    by_entity: dict[str, Construct] = {}
    for entity, rows in itertools.groupby(sorted(monomers, key=lambda row: row[:2]), key=lambda row: row[0]):
        names: dict[int, list[str]] = {}
        for _, number, name in rows:
            names.setdefault(number, []).append(name)
        places = {number: place for place, number in enumerate(names)}
        by_entity[entity] = Construct("entity_poly_seq", tuple(map(tuple, names.values())), places)
    has_numbers = bool((atoms.sequence_id != "").any())
    constructs = {
        label: by_entity[entity] for label, entity in entities.items() if has_numbers and entity in by_entity
    }
    is_protein = {
        label: types[entity].startswith("polypeptide")
        for label, entity in entities.items()
        if entity in types
    }
    return constructs, is_protein


def _modified(block: Any) -> tuple[dict[str, str], frozenset[str]]:
    parents = dict(_rows(block, "pdbx_struct_mod_residue", "label_comp_id", "parent_comp_id"))
    parents |= dict(_rows(block, "chem_comp", "id", "mon_nstd_parent_comp_id"))
    kinds = _rows(block, "chem_comp", "id", "type")
    peptides = frozenset(name for name, kind in kinds if "peptide" in kind.lower())
    return {name: parent for name, parent in parents.items() if parent}, peptides
