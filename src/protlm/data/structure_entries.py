"""Structures one after another, from files, a set of backbones or a summary; the unreadable are counted."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from protlm.data.backbones import BackboneSet
from protlm.data.readers.policy import ReadReport
from protlm.data.readers.sabdab_summary import SummaryRow
from protlm.data.readers.structure import NoChainError, Structure, StructureChain, read_structure
from protlm.data.readers.structure_files import NoModelError
from protlm.errors import DataError
from protlm.types.structure import Backbone

UNREADABLE = "a file that cannot be read"
NO_FILE = "a row of the summary whose file is missing"
NO_CHAIN = "a row of the summary with a chain that its file lacks"
NO_ANTIGEN = "a row of the summary with an antigen chain that its file lacks"
NO_MODEL = "a row of the summary with a model that its file lacks"


@dataclass(frozen=True)
class Entry:
    """One structure, or one antibody of a summary with its structure."""

    where: str
    """File, row, line: for messages."""
    name: str
    chains: tuple[StructureChain, ...]
    row: SummaryRow | None = None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass
class LeftOut:
    """Counts what is left out, or stops there."""

    report: ReadReport
    invalid: Literal["error", "drop"] = "drop"
    unpacked: tuple[Path, Path] | None = None
    """A folder that will be gone, and the archive that messages name in its place."""

    def drop(self, reason: str, where: str) -> None:
        """Count one.

        Parameters
        ----------
        reason
            The same for all of its kind.
        where
            Which one, and what is the matter.

        Raises
        ------
        DataError
            If nothing is to be left out.
        """
        if self.invalid == "error":
            raise DataError(f"{where}: {reason}", hint="--invalid drop leaves such out, and counts them")
        self.report.drop(reason, where)

    def read(self, path: Path, *, model: int = 1, chains: Sequence[str] | None = None) -> Structure | None:
        """Read a file; nothing where it cannot be.

        Parameters
        ----------
        path, model, chains
            As for `read_structure`.

        Raises
        ------
        NoModelError, NoChainError
            If the file can be read, but has not what is asked for.
        """
        try:
            return read_structure(path, model=model, chains=chains)
        except (NoModelError, NoChainError):
            raise
        except DataError as error:
            if self.invalid == "error":
                raise self.named(error) from None
            self.report.drop(UNREADABLE, self.named(error).message)
            return None

    def named(self, error: DataError) -> DataError:
        """Give an error that names the archive that a file came from.

        Parameters
        ----------
        error
            Names where the file lies now.
        """
        if self.unpacked is None:
            return error
        folder, archive = map(str, self.unpacked)
        message = error.message.replace(f"{folder}/", f"{archive}: ").replace(folder, archive)
        return DataError(message, hint=error.hint)


def file_entries(files: dict[str, Path], left_out: LeftOut, remarks: dict[str, list[str]]) -> Iterator[Entry]:
    """Give the first model of each file, with all its protein chains.

    Parameters
    ----------
    files
        By name.
    left_out
        Counts files that cannot be read.
    remarks
        Filled, by name, with what the reader says was changed or chosen.
    """
    for name, path in files.items():
        structure = left_out.read(path)
        if structure is None:
            continue
        if structure.notes:
            remarks[name] = list(structure.notes)
        yield Entry(path.name, name, structure.chains)


def summary_entries(
    files: dict[str, Path], rows: Sequence[SummaryRow], left_out: LeftOut, remarks: dict[str, list[str]]
) -> Iterator[Entry]:
    """Give the antibodies of a summary, in its order but structure by structure; each file is read once.

    Parameters
    ----------
    files
        By name, which is compared with the column pdb without regard to case.
    rows
        Of the summary.
    left_out
        Counts rows without file, with chains that are not there, and those that cannot be read.
    remarks
        As for `file_entries`.

    Raises
    ------
    DataError
        If two files differ by case alone.
    """
    by_name: dict[str, Path] = {}
    for name, path in files.items():
        if name.lower() in by_name:
            raise DataError(
                f"{by_name[name.lower()]} and {path} have one name but for upper and lower case",
                hint="keep one of them",
            )
        by_name[name.lower()] = path
    groups: dict[tuple[str, int], list[SummaryRow]] = defaultdict(list)
    for row in rows:
        groups[row.pdb.lower(), row.model].append(row)
    for (name, model), own in groups.items():
        path = by_name.get(name)
        if path is None:
            for row in own:
                left_out.drop(NO_FILE, f"line {row.line}, {row.pdb}")
            continue
        yield from _rows_of_file(path, model, own, left_out, remarks)
    if others := by_name.keys() - {name for name, _ in groups}:
        left_out.report.notes.append(
            f"{len(others):,} files are not in the summary (first: {by_name[min(others)].name})"
        )


def _rows_of_file(
    path: Path, model: int, rows: Sequence[SummaryRow], left_out: LeftOut, remarks: dict[str, list[str]]
) -> Iterator[Entry]:
    try:
        whole = read_structure(path, model=model)
    except DataError:
        whole = None  # then each row is tried with its own chains: the others may be what is wrong
    for row in rows:
        named = [each for each in dict.fromkeys((row.heavy, row.light)) if each]
        where = f"line {row.line}, {path.name}"
        try:
            structure = whole or _of_row(path, row, named, left_out)
        except NoModelError as error:
            left_out.drop(NO_MODEL, f"{where}: {left_out.named(error).message}")
            continue
        except NoChainError as error:
            left_out.drop(NO_CHAIN, f"{where}: {left_out.named(error).message}")
            continue
        if structure is None:
            continue
        if structure.notes:
            remarks[structure.name] = list(structure.notes)
        there = [chain.chain_id for chain in structure.chains]
        if absent := [each for each in named if each not in there]:
            left_out.drop(NO_CHAIN, f"{where}: no protein chain '{absent[0]}' among {', '.join(there)}")
            continue
        name = "_".join([row.pdb, *named]) + (f"_m{model}" if model > 1 else "")
        yield Entry(where, name, structure.chains, row, dict(row.labels))


def _of_row(path: Path, row: SummaryRow, named: Sequence[str], left_out: LeftOut) -> Structure | None:
    """Read the chains of a row alone; antigens that are not there are left to what makes the record."""
    antigens = list(row.antigens)
    while True:
        try:
            return left_out.read(path, model=row.model, chains=[*named, *antigens])
        except NoChainError as error:
            if error.chain not in antigens or error.chain in named:
                raise
            antigens.remove(error.chain)


def set_entries(backbones: BackboneSet, where: str) -> Iterator[Entry]:
    """Give the backbones of a set.

    Parameters
    ----------
    backbones
        Any.
    where
        The file, for messages.
    """
    labels = backbones.labels.to_dicts() if backbones.labels.width else [{}] * len(backbones)
    for number, (backbone, own) in enumerate(zip(backbones, labels, strict=True), 1):
        yield Entry(f"{where}, row {number}, '{backbone.id}'", backbone.id, chains_of(backbone), None, own)


def chains_of(backbone: Backbone) -> tuple[StructureChain, ...]:
    """Give the chains of a backbone as a structure file's are.

    Parameters
    ----------
    backbone
        Any.
    """
    bounds = np.searchsorted(backbone.chain_index, np.arange(len(backbone.chain_ids) + 1))
    chains = []
    for name, start, stop in zip(backbone.chain_ids, bounds, bounds[1:], strict=False):
        place = slice(int(start), int(stop))
        size = int(stop - start)
        atoms = backbone.coordinates[place]
        ids = backbone.residue_ids[place] if backbone.residue_ids else ("",) * size
        is_there = np.asarray(np.isfinite(atoms).any(axis=(1, 2)))
        nothing = np.full(size, np.nan, np.float32)
        chains.append(StructureChain(name, name, backbone.residues[place], ids, atoms, nothing, is_there))
    return tuple(chains)
