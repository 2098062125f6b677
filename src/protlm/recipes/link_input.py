"""What prepare reads of links: proteins by number, and links between them on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.hashing import mix
from protlm.data.links import BINDS, LINK, SWAPPED, Buckets, LinkCounts, pack
from protlm.data.proteins import LEFT_OUT, UNKNOWN, Proteins, ProteinStore, id_hashes
from protlm.data.readers import InputPolicy, ReadReport
from protlm.data.readers.links import LinkBlock, LinkColumns, LinkFile, open_links
from protlm.data.readers.sequences import SequenceFile, open_sequences, read_sequences, sequence_columns
from protlm.data.remembered import NumberSet
from protlm.errors import ConfigError, DataError
from protlm.types.alphabet import ResidueError, clean_residues

OnCount = Callable[[str, int], None]

_LONGEST_NAME = 30
_ZERO, _ONE = r"^0(\.0*)?$", r"^1(\.0*)?$"


@dataclass(frozen=True)
class LinkInput:
    """Links and their proteins, read."""

    file: LinkFile
    files: tuple[SequenceFile, ...]
    proteins: Proteins
    names: pl.Series
    """Of each protein, all different."""
    is_sided: bool
    """Whether first and second proteins are of two kinds."""
    is_first: np.ndarray
    """Whether each protein stands first in some link, bool ``[n]``."""
    columns: list[str]
    report: ReadReport
    num_rows: int

    def lines(self) -> list[str]:
        """Say what was read, a line each."""
        return [*self.columns, f"{self.num_rows:,} rows", *self.report.lines()]


def read_link_input(
    source: Path,
    rows: Buckets,
    *,
    folder: Path,
    sequences: Sequence[str],
    columns: LinkColumns,
    id_column: str | None,
    sequence_column: str | None,
    species: Sequence[str],
    policy: InputPolicy,
    sides: str,
    counts: LinkCounts,
    on_count: OnCount = lambda _unit, _count: None,
) -> LinkInput:
    """Read sequences, then links, whose rows go to buckets by the hash of their key.

    Parameters
    ----------
    source
        The file of links.
    rows
        Empty; filled with each row that names two known proteins.
    folder
        For temporary files.
    sequences, columns, id_column, sequence_column, species, policy
        As for `protlm.recipes.prepare_pairs.prepare_pairs`.
    sides
        ``"one"``, ``"two"`` or ``"auto"``: two kinds of proteins, where none stands in both columns.
    counts
        Filled with what is left out.
    on_count
        Called now and then with a unit, such as ``"rows"``, and how many more were read.

    Raises
    ------
    DataError
        If the input is wrong.
    """
    report = ReadReport()
    named = [_side_and_path(each) for each in sequences]
    ids = tuple(name for name in (id_column,) if name)
    residues = tuple(name for name in (sequence_column,) if name)
    headers = [sequence_columns(path) for _, path in named]
    for option, name in (("--id", id_column), ("--sequence", sequence_column)):
        if name and not any(name in header for header in headers):
            known = sorted({column for header in headers for column in header})
            raise DataError(
                f"{option} {name}: no file of sequences has such a column",
                hint=f"their columns: {', '.join(known) or 'none'}",
            )
    file = open_links(
        source,
        columns,
        has_sequences=bool(sequences),
        headers=[each for header in headers for each in header],
    )
    files = tuple(open_sequences(path, ids=(*ids, file.a, file.b), sequences=residues) for _, path in named)
    store = ProteinStore(folder / "proteins.arrow")
    if file.kind == "ids":
        own_sides = _sides_of_files(file, files, [side for side, _ in named])
        _store_files(store, files, own_sides, species, policy, report, on_count)
    else:
        own_sides = []
        _store_rows(store, file, policy, counts)
    proteins = store.close()
    if proteins.num_aliases and file.kind == "ids":
        report.notes.append(
            f"{proteins.num_aliases:,} ids have the sequence of another id; they are one protein, named by "
            "the first of them by letters"
        )
    reading = _Rows(file, proteins, rows, species, policy, counts)
    for block in file.blocks():
        reading.add(block)
        on_count("rows", len(block.a))
    is_sided = reading.is_sided(sides)
    names = _names(file, proteins, reading.is_first)
    lines = [*file.lines(), *(each.title for each in files)]
    if any(own_sides):
        owners = ["both", f"'{file.a}'", f"'{file.b}'"]
        lines += [
            f"{each.path.name} gives the ids of {owners[side]}"
            for each, side in zip(files, own_sides, strict=True)
        ]
    if is_sided:
        lines.append(f"sides: '{file.a}' and '{file.b}' share no protein, so negatives take one of each")
    return LinkInput(
        file, files, proteins, names, is_sided, reading.is_first, lines, report, reading.num_rows
    )


def _side_and_path(text: str) -> tuple[str, Path]:
    column, mark, path = text.partition("=")
    return (column, Path(path)) if mark and not Path(text).exists() else ("", Path(text))


def _sides_of_files(file: LinkFile, files: Sequence[SequenceFile], named: Sequence[str]) -> list[int]:
    """Say of which column each file has the ids: 1, 2, or 0 for both.

    A file whose column of ids is called like one of the links is for that one, and a single other file then
    for the other.
    """
    sides = []
    for own, name in zip(files, named, strict=True):
        if name and name not in (file.a, file.b):
            raise ConfigError(
                f"--sequences {name}={own.path}: the links are between '{file.a}' and '{file.b}'",
                hint="name one of these columns",
            )
        column = name or (own.id if file.has_header else "")
        sides.append(1 if column == file.a else 2 if column == file.b else 0)
    if len(files) == 2 and sorted(sides) in ([0, 1], [0, 2]):
        sides = [side or 3 - max(sides) for side in sides]
    return sides


def _store_files(
    store: ProteinStore,
    files: Sequence[SequenceFile],
    sides: Sequence[int],
    species: Sequence[str],
    policy: InputPolicy,
    report: ReadReport,
    on_count: OnCount,
) -> None:
    found: set[str] = set()
    others: set[str] = set()
    for file, side in zip(files, sides, strict=True):
        for name, residues, _ in read_sequences(file, policy, report):
            on_count("proteins", 1)
            if species:
                taxon = name.partition(".")[0]
                if taxon not in species:
                    if len(others) < 6:
                        others.add(taxon)
                    continue
                found.add(taxon)
            store.add(name, residues, side=side)
    for taxon in species:
        if taxon not in found:
            raise DataError(
                f"--species {taxon}: no id in {', '.join(file.path.name for file in files)} begins with "
                f"'{taxon}.' (others begin with {', '.join(sorted(others | found)) or 'nothing'})",
                hint="add the species' file with --sequences, or leave the species out",
            )


def _store_rows(store: ProteinStore, file: LinkFile, policy: InputPolicy, counts: LinkCounts) -> None:
    """Remember each distinct text of the two columns as a protein that is called by its text."""
    seen = NumberSet()
    for block in file.blocks():
        for column, texts in ((file.a, block.a), (file.b, block.b)):
            distinct = texts.unique(maintain_order=True)
            for text, number in zip(distinct.to_list(), id_hashes(distinct).tolist(), strict=True):
                if not seen.add(number):
                    continue
                try:
                    store.add(text, clean_residues(text, gaps=policy.gaps))
                except ResidueError as error:
                    if policy.invalid == "error":
                        raise DataError(
                            f"{file.path}, column '{column}', '{text[:40]}': {error.message}", hint=error.hint
                        ) from None
                    store.add(text, None)
                    counts.drop(f"sequences: {error.reason}", 1, [f"{file.path}, '{text[:40]}'"])


def _names(file: LinkFile, proteins: Proteins, is_first: np.ndarray) -> pl.Series:
    """Name each protein by its first id; by its residues, or their hash, where there are no ids."""
    names = proteins.names
    if file.kind == "sequences":
        is_short = proteins.lengths <= _LONGEST_NAME
        found = [f"seq-{content:016x}" for content in proteins.contents.tolist()]
        places = np.flatnonzero(is_short)
        for place, text in zip(places.tolist(), proteins.residues(places), strict=True):
            found[place] = text
        return pl.Series("name", found)
    if names.n_unique() == len(names):
        return names
    # the two columns have ids of their own, and some id is in both
    columns = pl.Series(np.where(is_first, file.a, file.b))
    return columns + ":" + names


class _Rows:
    """Turns rows of texts into links by number."""

    def __init__(
        self,
        file: LinkFile,
        proteins: Proteins,
        rows: Buckets,
        species: Sequence[str],
        policy: InputPolicy,
        counts: LinkCounts,
    ) -> None:
        self.file, self.proteins, self.rows, self.counts = file, proteins, rows, counts
        self.starts = [f"{each}." for each in species]
        self.stops = policy.invalid == "error"
        self.is_first, self.is_second = np.zeros((2, len(proteins)), dtype=bool)
        self.num_rows = 0

    def add(self, block: LinkBlock) -> None:
        """Put the rows of a block into their buckets."""
        self.num_rows += len(block.a)
        a, b = self.proteins.lookups[0].find(block.a), self.proteins.lookups[1].find(block.b)
        is_left = np.ones(len(a), dtype=bool)
        if self.starts:
            is_other = ~(self._is_of_species(block.a) & self._is_of_species(block.b))
            self.counts.drop("rows: of other species", int(is_other.sum()))
            is_left &= ~is_other
        self._refuse(is_left, (a == UNKNOWN) | (b == UNKNOWN), "rows: an id without a sequence", block)
        self._refuse(
            is_left, (a == LEFT_OUT) | (b == LEFT_OUT), "rows: a protein whose sequence was left out", block
        )
        flags = np.full(len(a), BINDS, dtype=np.uint8)
        if block.label is not None:
            label = block.label.str.strip_chars()
            is_zero, is_one = (label.str.contains(each).to_numpy() for each in (_ZERO, _ONE))
            self._refuse(
                is_left, ~(is_zero | is_one), f"rows: label '{self.file.label}' is not 0 or 1", block
            )
            flags[is_zero] = 0
        score = np.zeros(len(a), dtype=np.float32)
        if block.score is not None:
            found = block.score.str.strip_chars().cast(pl.Float32, strict=False)
            is_number = (found.is_finite() & found.is_not_null()).fill_null(False).to_numpy()
            self._refuse(is_left, ~is_number, f"rows: score '{self.file.score}' is no number", block)
            score = found.fill_null(0.0).to_numpy()
        is_self = is_left & (a == b)
        self.counts.drop(
            "rows: a protein linked with itself", int(is_self.sum()), self._places(is_self, block)
        )
        is_left &= ~is_self
        a, b = a[is_left], b[is_left]
        self.is_first[a] = self.is_second[b] = True
        links = np.zeros(len(a), dtype=LINK)
        links["key"], links["score"] = pack(a, b), score[is_left]
        links["flags"] = flags[is_left] | np.where(a > b, SWAPPED, 0).astype(np.uint8)
        self.rows.append(links, mix(links["key"]))

    def is_sided(self, sides: str) -> bool:
        """Whether the two columns have proteins of two kinds."""
        shared = self.is_first & self.is_second
        if sides == "two" and shared.any():
            example = self.proteins.names[int(np.flatnonzero(shared)[0])]
            raise DataError(
                f"--sides two, but {int(shared.sum()):,} proteins stand in both columns, such as '{example}'",
                hint="leave --sides out",
            )
        return sides == "two" or (sides == "auto" and not self.file.is_string and not shared.any())

    def _is_of_species(self, names: pl.Series) -> np.ndarray:
        found = np.zeros(len(names), dtype=bool)
        for start in self.starts:
            found |= names.str.starts_with(start).to_numpy()
        return found

    def _refuse(self, is_left: np.ndarray, is_wrong: np.ndarray, reason: str, block: LinkBlock) -> None:
        """Count rows and take them out of what is left, in place; or stop at the first."""
        chosen = is_left & is_wrong
        if not chosen.any():
            return
        places = self._places(chosen, block)
        if self.stops:
            raise DataError(
                f"{places[0]}: {reason.removeprefix('rows: ')}",
                hint="mend the row, or pass --invalid drop to leave such rows out and count them",
            )
        self.counts.drop(reason, int(chosen.sum()), places)
        is_left &= ~chosen

    def _places(self, chosen: np.ndarray, block: LinkBlock) -> list[str]:
        places = np.flatnonzero(chosen)[:3].tolist()
        return [
            f"{self.file.path.name}, row {block.first_row + place:,}, '{block.a[place][:40]}' and "
            f"'{block.b[place][:40]}'"
            for place in places
        ]
