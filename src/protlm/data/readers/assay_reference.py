"""Which assays there are: reference tables, folders of assays, and what an alignment covers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protlm.data.readers.rows import open_table
from protlm.data.readers.text import read_lines
from protlm.errors import DataError, did_you_mean
from protlm.types.alphabet import clean_residues

SEQUENCE_COLUMN = "mutated_sequence"

_TABLES = (".csv", ".tsv", ".txt", ".parquet")
_REFERENCE_COLUMNS = {
    "id": ("DMS_id", "assay"),
    "file": ("DMS_filename", "file"),
    "wild_type": ("target_seq", "wt_sequence"),
    "uniprot": ("UniProt_ID", "uniprot"),
    "function": ("coarse_selection_type",),
    "taxon": ("taxon",),
    "msa_depth": ("MSA_Neff_L_category",),
    "msa_start": ("MSA_start",),
    "msa_stop": ("MSA_end",),
    "cutoff": ("DMS_binarization_cutoff",),
    "value_column": ("score_column",),
}
_NEEDED = ("id", "wild_type")
_UNREADABLE = "cannot be read"
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True)
class AssayFacts:
    """What a reference table says of an assay; `None` where it says nothing."""

    id: str
    wild_type: str
    file: str | None = None
    uniprot: str | None = None
    """The protein; assays of one are averaged first."""
    function: str | None = None
    """What was selected for: Activity, Binding, Expression, OrganismalFitness or Stability."""
    taxon: str | None = None
    msa_depth: str | None = None
    """Low, Medium or High."""
    msa_start: int | None = None
    """First index, 0-based, of the sites that the alignment covers."""
    msa_stop: int | None = None
    """Index behind the last of them."""
    cutoff: float | None = None
    """Values at or above it are fit."""
    value_column: str | None = None


@dataclass(frozen=True)
class AssayFolder:
    """What a folder holds: every file is in `assays` or in `left_out`."""

    assays: list[tuple[Path, AssayFacts | None]]
    """Tables of variants; facts are `None` for one that the reference does not name."""
    left_out: dict[str, str]
    """Name of each other entry of the folder, and why it is none."""
    absent: list[str]
    """Assays of the reference that have no file in the folder."""


def read_reference(path: Path | str) -> dict[str, AssayFacts]:
    """Read a reference table: ProteinGym's ``DMS_substitutions.csv``, or one with the same facts.

    Parameters
    ----------
    path
        CSV, TSV or Parquet with an id (``DMS_id`` or ``assay``) and the wild type (``target_seq`` or
        ``wt_sequence``); what else `AssayFacts` has is read where it is there. Of a protein given with
        remarks (``BLAT_ECOLX 24-286``) the UniProt name counts.

    Returns
    -------
    dict of str to AssayFacts
        By id, in the order of the file.

    Raises
    ------
    DataError
        If a needed column is missing, an id stands twice, or a value cannot be read.
    """
    path = Path(path)
    table = open_table(path)
    columns = {
        name: next((each for each in known if each in table.header), None)
        for name, known in _REFERENCE_COLUMNS.items()
    }
    for name in _NEEDED:
        if columns[name] is None:
            expected = " or ".join(_REFERENCE_COLUMNS[name])
            raise DataError(
                f"{path}: no column is called {expected}",
                hint=did_you_mean(_REFERENCE_COLUMNS[name][0], table.header),
            )
    present = {name: column for name, column in columns.items() if column is not None}
    found: dict[str, AssayFacts] = {}
    for number, row in enumerate(table.rows(list(present.values())), start=1):
        where = f"{path}, row {number}"
        facts = _facts({name: row[column] for name, column in present.items()}, where)
        if facts.id in found:
            raise DataError(f"{where}: the assay '{facts.id}' was named before", hint="keep one row of it")
        found[facts.id] = facts
    return found


def find_assays(
    folder: Path | str, reference: Mapping[str, AssayFacts] | None = None
) -> tuple[AssayFolder, dict[str, AssayFacts]]:
    """Find the assays of a folder and match them to a reference by file name or id.

    Parameters
    ----------
    folder
        Its files are looked at, not those of folders inside.
    reference
        From `read_reference`. Without it, a reference table in the folder itself is used.

    Returns
    -------
    AssayFolder
        An assay that the reference does not name is kept where its own column ``mutated_sequence``
        tells the wild type.
    dict of str to AssayFacts
        The reference that was used; empty if there is none.

    Raises
    ------
    DataError
        If there is no such folder, it has no assay, two reference tables, two files of one assay, or a file
        that the reference names and that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}", hint="give a folder with one table per assay")
    headers: dict[Path, Sequence[str]] = {}
    left_out: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        header = _header(path)
        if isinstance(header, str):
            left_out[path.name] = header
        else:
            headers[path] = header
    tables = [path for path, header in headers.items() if _is_reference(header)]
    left_out |= {path.name: "a reference table" for path in tables}
    if reference is None and len(tables) > 1:
        listing = ", ".join(path.name for path in tables)
        raise DataError(
            f"{folder} has {len(tables)} reference tables: {listing}", hint="say which one with --reference"
        )
    known = dict(reference) if reference is not None else read_reference(tables[0]) if tables else {}
    for name, why in left_out.items():
        facts = _match(Path(name), known) if why.startswith(_UNREADABLE) else None
        if facts is not None:
            raise DataError(
                f"the assay '{facts.id}' {why}", hint="mend the file, or take it out of the folder"
            )
    assays: list[tuple[Path, AssayFacts | None]] = []
    files: dict[str, Path] = {}
    for path, header in headers.items():
        if path in tables:
            continue
        facts = _match(path, known)
        if facts is None and SEQUENCE_COLUMN not in header:
            left_out[path.name] = f"not in the reference, and no column {SEQUENCE_COLUMN} tells its wild type"
            continue
        name = facts.id if facts else stem_of(path.name)
        if name in files:
            raise DataError(
                f"{folder}: {files[name].name} and {path.name} are both of the assay '{name}'",
                hint="keep one of them in the folder",
            )
        files[name] = path
        assays.append((path, facts))
    if not assays:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
        raise DataError(
            f"{folder} has no assay" + (f" ({reasons})" if reasons else ""),
            hint="expected tables with a column mutant, and a reference table with their wild types",
        )
    return AssayFolder(assays, left_out, [name for name in known if name not in files]), known


def alignment_coverage(path: Path | str, wild_type: str) -> npt.NDArray[np.bool_]:
    """Tell which sites of a wild type an alignment covers.

    Parameters
    ----------
    path
        A2M or A3M whose first record is the wild type or a part of it. Its columns in capitals are the
        ones that alignment methods model.
    wild_type
        The whole wild type.

    Returns
    -------
    numpy.ndarray
        One per residue; False also outside the aligned part.

    Raises
    ------
    DataError
        If the file has no record, or the first is not a part of the wild type, once.
    """
    path = Path(path)
    letters: list[str] = []
    num_records = 0
    for line in read_lines(path):
        if line.startswith(">"):
            num_records += 1
            if num_records > 1:
                break
        elif num_records:
            letters += line.strip().replace("-", "").replace(".", "")
    query = "".join(letters)
    count = wild_type.count(query.upper()) if query else 0
    if count != 1:
        what = "is empty" if not query else f"({len(query)} residues) is in the wild type {count} times"
        raise DataError(
            f"{path}: the first record {what}, expected once",
            hint="give an alignment whose first record is the wild type or a part of it",
        )
    start = wild_type.index(query.upper())
    covered = np.zeros(len(wild_type), dtype=bool)
    covered[start : start + len(query)] = [letter.isupper() for letter in query]
    return covered


def read_number(value: object, what: str) -> float | None:
    """Read a finite number.

    Parameters
    ----------
    value
        As found in a table.
    what
        Place and column, for the message.

    Returns
    -------
    float or None
        `None` where the cell is empty, or says that there is no number.

    Raises
    ------
    DataError
        For anything else.
    """
    text = "" if value is None else str(value).strip()
    if text.lower() in _MISSING:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{what}: expected a number, found {text!r}",
            hint="leave it empty if there is none; decimals need a point",
        )
    return number


def stem_of(name: str) -> str:
    """Give a file's name without the endings of a table.

    Parameters
    ----------
    name
        Such as ``BLAT_ECOLX_Stiffler_2015.csv.gz``.
    """
    stem = name.removesuffix(".gz")
    return next((stem[: -len(end)] for end in _TABLES if stem.lower().endswith(end)), stem)


def _facts(row: Mapping[str, Any], where: str) -> AssayFacts:
    texts = {name: str(value if value is not None else "").strip() for name, value in row.items()}
    given = {name: text for name, text in texts.items() if text.lower() not in _MISSING}
    for name in _NEEDED:
        if name not in given:
            raise DataError(f"{where}: no {name.replace('_', ' ')}", hint="fill it in, or delete the row")
    try:
        wild_type = clean_residues(given["wild_type"])
    except DataError as error:
        raise DataError(f"{where}: the wild type: {error.message}", hint="correct it") from None
    first_word = given.get("uniprot", "").partition(" ")[0]
    uniprot = first_word if "_" in first_word else given.get("uniprot")
    numbers = {
        name: read_number(given.get(name), f"{where}: {_REFERENCE_COLUMNS[name][0]}")
        for name in ("msa_start", "msa_stop", "cutoff")
    }
    start, stop = numbers["msa_start"], numbers["msa_stop"]
    depth = given.get("msa_depth")
    return AssayFacts(
        id=given["id"],
        wild_type=wild_type,
        file=given.get("file"),
        uniprot=uniprot,
        function=given.get("function"),
        taxon=given.get("taxon"),
        msa_depth=depth[0].upper() + depth[1:] if depth else None,
        msa_start=None if start is None else int(start) - 1,
        msa_stop=None if stop is None else int(stop),
        cutoff=numbers["cutoff"],
        value_column=given.get("value_column"),
    )


def _header(path: Path) -> Sequence[str] | str:
    """Give the column names of a table of variants or a reference, or say why it is neither."""
    if path.is_dir():
        return "a folder"
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if not suffixes or suffixes[-1] not in _TABLES:
        return f"no table ({', '.join(_TABLES)})"
    try:
        header = open_table(path).header
    except DataError as error:
        return f"{_UNREADABLE}: {error.message}"
    return header if "mutant" in header or _is_reference(header) else "no column mutant"


def _is_reference(header: Sequence[str]) -> bool:
    return all(any(column in header for column in _REFERENCE_COLUMNS[name]) for name in _NEEDED)


def _match(path: Path, known: Mapping[str, AssayFacts]) -> AssayFacts | None:
    named = [facts for facts in known.values() if facts.file and stem_of(facts.file) == stem_of(path.name)]
    return named[0] if named else known.get(stem_of(path.name))
