"""Which columns of a table hold what: as the user says, or by its layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protlm.data.readers.layouts import (
    CHAIN_NAMES,
    LAYOUTS,
    ONE_CHAIN_NAMES,
    REGION_KINDS,
    ChainNames,
    Layout,
    Names,
    find_column,
    recognise,
)
from protlm.data.readers.policy import ColumnNames
from protlm.errors import DataError, did_you_mean
from protlm.types.record import Role


@dataclass(frozen=True)
class ChainColumns:
    """Columns of one chain."""

    residues: Names
    """Where a cell of the first is empty, the next one is read."""
    role: Role
    others: Mapping[str, str] = field(default_factory=dict)
    """Further columns by what they hold, a key of a layout's `stems`."""

    @property
    def has_regions(self) -> bool:
        """Whether some column tells regions."""
        return any(kind in self.others for kind in (*REGION_KINDS, "cdr_mask", "junction"))


@dataclass(frozen=True)
class TableColumns:
    """Columns of a record, as found in a table's header."""

    layout: Layout
    chains: tuple[ChainColumns, ...]
    id: Names
    group: Names
    labels: Names
    second: tuple[ChainColumns, ...] = ()
    """Chains of a second record in the same row."""
    single: tuple[str, str] | None = None
    """A column and the value in it that says that there is but one chain."""
    productive: str | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Labels that are the same for every record."""

    def names(self) -> list[str]:
        """List the columns to read, each once."""
        chains = [
            name for each in (*self.chains, *self.second) for name in (*each.residues, *each.others.values())
        ]
        singles = [self.single[0]] if self.single else []
        productive = [self.productive] if self.productive else []
        return list(dict.fromkeys([*chains, *self.id, *self.group, *self.labels, *singles, *productive]))

    def lines(self, header: Sequence[str]) -> list[str]:
        """Say what was taken for what.

        Parameters
        ----------
        header
            All columns of the table.
        """
        parts = []
        for chain in self.chains:
            kind = chain.role.name.lower() if chain.role else "sequence"
            others = [name for name in dict.fromkeys(chain.others.values()) if name not in chain.residues]
            more = f" (with {', '.join(others)})" if others else ""
            parts.append(f"{kind} '{chain.residues[0]}'{more}")
        parts.append(f"id '{':'.join(self.id)}'" if self.id else "id: file name and row number")
        parts += [f"group '{'|'.join(self.group)}'"] if self.group else []
        read = self.names()
        known = CHAIN_NAMES | ONE_CHAIN_NAMES if self.layout.is_joined else CHAIN_NAMES
        others = [name for name in header if name.lower() in known and name not in read]
        parts += [f"not read: {', '.join(others)}"] if others else []
        return [f"layout: {self.layout.title}", "columns: " + "; ".join(parts)]


def resolve_columns(
    header: Sequence[str], columns: ColumnNames, path: Path, metadata: Mapping[str, Any] | None = None
) -> TableColumns:
    """Find which columns hold what.

    Parameters
    ----------
    header
        Column names of the table.
    columns
        What the user said.
    path
        For messages.
    metadata
        Facts about the whole file, which labels may name.

    Raises
    ------
    DataError
        If a named column is not there, no column holds a sequence, or the names contradict.
    """
    metadata = metadata or {}
    asked = [columns.heavy, columns.light, columns.sequence, columns.id, *columns.group]
    for name in asked:
        if name is not None and name not in header:
            raise DataError(f"{path}: there is no column '{name}'", hint=did_you_mean(name, header))
    labels = _label_names(columns.labels, header)
    for name in labels:
        if name not in header and name not in metadata:
            raise DataError(
                f"{path}: there is no column '{name}'", hint=did_you_mean(name, [*header, *metadata])
            )
    named = _chains_asked(columns, path)
    layout = _layout_of_named(named) if named else recognise(header, columns.layout, path)
    chains = [each for each in layout.chains if find_column(each.residues, header)]
    group = find_column(("group",), header)
    is_there = layout.single is not None and find_column((layout.single[0],), header)
    return TableColumns(
        layout=layout,
        chains=tuple(_chain_columns(each, layout, header, is_only=len(chains) == 1) for each in chains),
        id=_id_columns(layout, header, columns),
        group=columns.group or ((group,) if group else ()),
        labels=tuple(name for name in labels if name in header),
        second=tuple(
            _chain_columns(each, layout, header, is_only=False)
            for each in layout.second
            if find_column(each.residues, header)
        ),
        single=layout.single if is_there else None,
        productive=None if named else find_column(("productive",), header),
        constants={name: metadata[name] for name in labels if name not in header},
    )


def _label_names(labels: Names, header: Sequence[str]) -> Names:
    """Part names at commas, unless there is a column of the whole name."""
    parts = (part.strip() for each in labels for part in ([each] if each in header else each.split(",")))
    return tuple(dict.fromkeys(parts))


def _chains_asked(columns: ColumnNames, path: Path) -> list[tuple[str, Role]]:
    if columns.sequence and (columns.heavy or columns.light):
        raise DataError(
            f"{path}: --sequence is for tables of single chains",
            hint="give either --sequence COL, or --heavy COL and --light COL",
        )
    if columns.heavy and columns.heavy == columns.light:
        raise DataError(
            f"{path}: --heavy and --light name the same column '{columns.heavy}'",
            hint="name two, or pass --sequence COL for a table of single chains",
        )
    named = [(columns.heavy, Role.HEAVY), (columns.light, Role.LIGHT), (columns.sequence, Role.OTHER)]
    chains = [(name, role) for name, role in named if name]
    if chains and columns.layout != "auto":
        raise DataError(
            f"{path}: --layout {columns.layout} says which columns hold chains, and so do --heavy, --light "
            "and --sequence",
            hint="leave one of them out",
        )
    return chains


def _layout_of_named(named: Sequence[tuple[str, Role]]) -> Layout:
    """Make a layout of the columns that the user named, with the usual names for what goes with them."""
    usual = {chain.role: chain for name in ("plain", "pairs") for chain in LAYOUTS[name].chains}
    chains = (ChainNames(role, (name,), usual[role].ends, usual[role].special) for name, role in named)
    return Layout("named", "columns named by the user", tuple(chains))


def _chain_columns(each: ChainNames, layout: Layout, header: Sequence[str], *, is_only: bool) -> ChainColumns:
    ends = (*each.ends, "") if is_only else each.ends
    found = [column for name in each.residues if (column := find_column((name,), header))]
    others: dict[str, str] = {}
    for kind, stems in layout.stems.items():
        names = (*each.special.get(kind, ()), *(stem + end for stem in stems for end in ends))
        if column := find_column(names, header):
            others[kind] = column
    return ChainColumns(tuple(found if layout.falls_back else found[:1]), each.role, others)


def _id_columns(layout: Layout, header: Sequence[str], columns: ColumnNames) -> Names:
    if columns.id:
        return (columns.id,)
    parts = [find_column((name,), header) for name in layout.id_parts]
    if parts and all(parts):
        return tuple(part for part in parts if part)
    found = find_column(layout.id, header)
    return (found,) if found else ()
