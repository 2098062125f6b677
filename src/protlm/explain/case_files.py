"""Files of complexes: which belong together, which chains are antibody and which antigen."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protlm.data.readers.structure import read_structure
from protlm.data.readers.structure_folder import find_structures, is_broken_link
from protlm.data.readers.text import read_lines
from protlm.errors import DataError
from protlm.explain.complexes import Complex, build_complex

_ANTIBODY, _ANTIGEN = "_r_b", "_l_b"
_COLUMNS = ("Complex PDB", "complex", "case")
_CASE = re.compile(r"(?P<name>[^\s:]+)_(?P<antibody>[\w,]+):(?P<antigen>[\w,]+)")


@dataclass(frozen=True)
class Case:
    """Where a complex is."""

    name: str
    antibody_file: Path
    antigen_file: Path
    """The same where one file has the whole complex."""
    antibody_chains: tuple[str, ...] = ()
    """Author ids; empty for all of a file of its own."""
    antigen_chains: tuple[str, ...] = ()

    def read(self, *, whole_antibody: bool = False) -> Complex:
        """Read the files and put the complex together.

        Parameters
        ----------
        whole_antibody
            Keep constant domains.

        Raises
        ------
        DataError
            If a file or chain cannot be read, or nothing is in contact.
        """
        antibody = read_structure(self.antibody_file, chains=self.antibody_chains or None).chains
        antigen = read_structure(self.antigen_file, chains=self.antigen_chains or None).chains
        return build_complex(self.name, antibody, antigen, whole_antibody=whole_antibody)


def find_cases(folder: Path, table: Path | None = None) -> tuple[list[Case], list[str]]:
    """Find the complexes of a folder, by name.

    Bound antibodies are in ``NAME_r_b.pdb``, their antigens in ``NAME_l_b.pdb``, as in the benchmark of
    Guest et al. With a table that names chains, one file ``NAME.pdb`` may have both. mmCIF and .gz are read
    too.

    Parameters
    ----------
    folder
        With the files, or with folders that have them.
    table
        Tab-separated with a column ``Complex PDB`` (or ``complex``, ``case``) of entries such as 1JPS_HL:T:
        name, chains of the antibody, chains of the antigen, by commas where an id has several letters. Only
        these complexes are taken. Without it all pairs of files are, with all their chains.

    Returns
    -------
    cases : list of Case
    missing : list of str
        Entries of the table without files.

    Raises
    ------
    DataError
        If there is no complex, an antibody has no antigen, or the table cannot be read.

    References
    ----------
    Guest et al. 2021, doi:10.1016/j.str.2021.01.005.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}", hint="--structures takes a folder, a tar or a zip")
    files = {name: path for name, path in find_structures(folder).items() if not is_broken_link(path)}
    cases, missing = _all(files) if table is None else _listed(files, table)
    if not cases:
        listed = "" if table is None else f" of the {len(missing)} in {table}"
        raise DataError(
            f"{folder} has no complex{listed}: no pair of files NAME{_ANTIBODY}.pdb and NAME{_ANTIGEN}.pdb",
            hint="or give --cases with entries such as 1JPS_HL:T, and files such as 1JPS.pdb",
        )
    return cases, missing


def _all(files: dict[str, Path]) -> tuple[list[Case], list[str]]:
    cases = []
    for name, path in files.items():
        if not name.endswith(_ANTIBODY):
            continue
        case = name.removesuffix(_ANTIBODY)
        if case + _ANTIGEN not in files:
            raise DataError(
                f"{path.name} has no antigen: no file {case + _ANTIGEN}.pdb beside it",
                hint="add it, or leave this antibody out",
            )
        cases.append(Case(case, path, files[case + _ANTIGEN]))
    return cases, []


def _listed(files: dict[str, Path], table: Path) -> tuple[list[Case], list[str]]:
    cases, missing, seen = [], [], set()
    for number, entry in _entries(table):
        match = _CASE.fullmatch(entry)
        if match is None:
            raise DataError(
                f"{table}, line {number}: '{entry}' names no complex",
                hint="expected such as 1JPS_HL:T (name, chains of the antibody, chains of the antigen)",
            )
        name = match["name"]
        if entry in seen:
            raise DataError(f"{table}, line {number}: complex '{entry}' comes twice", hint="keep one")
        seen.add(entry)
        chains = [_ids(match[side]) for side in ("antibody", "antigen")]
        sides = [files.get(name + _ANTIBODY, files.get(name)), files.get(name + _ANTIGEN, files.get(name))]
        if sides[0] is None or sides[1] is None:
            missing.append(entry)
        else:
            cases.append(Case(name, sides[0], sides[1], *chains))
    return cases, missing


def _entries(table: Path) -> list[tuple[int, str]]:
    """Give line numbers, 1-based, and the cells of the column with complexes."""
    if not table.is_file():
        raise DataError(f"no such file: {table}", hint="--cases takes a tab-separated table")
    lines = [line.rstrip("\r\n").split("\t") for line in read_lines(table)]
    header = [cell.strip() for cell in lines[0]] if lines else []
    column = next((header.index(name) for name in _COLUMNS if name in header), None)
    if column is None:
        raise DataError(
            f"{table} has no column of complexes; it has {', '.join(header) or 'nothing'}",
            hint=f"call it {' or '.join(map(repr, _COLUMNS))}",
        )
    cells = [(number, _cell(line, column)) for number, line in enumerate(lines[1:], start=2)]
    return [(number, cell) for number, cell in cells if cell]


def _cell(line: Sequence[str], column: int) -> str:
    return line[column].strip() if column < len(line) else ""


def _ids(text: str) -> tuple[str, ...]:
    return tuple(each for each in text.split(",") if each) if "," in text else tuple(text)
