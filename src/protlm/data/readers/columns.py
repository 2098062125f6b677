"""Which columns of a table hold what: as the user says, or by their usual names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protlm.data.readers.policy import ColumnNames
from protlm.errors import DataError, did_you_mean
from protlm.types.record import Role

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "heavy": (
        *("heavy", "vh", "heavy_sequence", "sequence_heavy", "heavy_seq"),
        *("sequence_aa_heavy", "sequence_aa:0", "hc"),
    ),
    "light": (
        *("light", "vl", "light_sequence", "sequence_light", "light_seq"),
        *("sequence_aa_light", "sequence_aa:1", "lc"),
    ),
    # AIRR keeps nucleotides in "sequence" and residues in "sequence_aa"
    "sequence": ("sequence_aa", "sequence", "seq", "protein", "protein_sequence", "residues"),
    "id": ("id", "sequence_id", "name", "record_id", "pair_id"),
    "group": ("group",),
}
"""Column names looked for, in this order, in any letter case."""


@dataclass(frozen=True)
class ChainColumns:
    """Columns of one chain; `None` where the table has none."""

    residues: str
    role: Role
    v_call: str | None
    j_call: str | None
    segment: str | None
    nongermline: str | None

    def more(self) -> list[str]:
        """The columns beside the residues."""
        return [name for name in (self.v_call, self.j_call, self.segment, self.nongermline) if name]


@dataclass(frozen=True)
class TableColumns:
    """Columns of a record, as found in a table's header."""

    chains: tuple[ChainColumns, ...]
    id: str | None
    group: tuple[str, ...]
    labels: tuple[str, ...]

    def names(self) -> list[str]:
        """List the columns to read, each once."""
        chains = [name for chain in self.chains for name in (chain.residues, *chain.more())]
        return list(dict.fromkeys([*chains, *([self.id] if self.id else []), *self.group, *self.labels]))

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
            more = f" (with {', '.join(chain.more())})" if chain.more() else ""
            parts.append(f"{kind} '{chain.residues}'{more}")
        parts.append(f"id '{self.id}'" if self.id else "id: file name and row number")
        parts += [f"group '{'|'.join(self.group)}'"] if self.group else []
        usual = {name for kind in ("heavy", "light", "sequence") for name in USUAL_NAMES[kind]}
        others = [name for name in header if name.lower() in usual and name not in self.names()]
        parts += [f"not read: {', '.join(others)}"] if others else []
        return ["columns: " + "; ".join(parts)]


def resolve_columns(header: Sequence[str], columns: ColumnNames, path: Path) -> TableColumns:
    """Find which columns hold what.

    Parameters
    ----------
    header
        Column names of the table.
    columns
        What the user said.
    path
        For messages.

    Raises
    ------
    DataError
        If a named column is not there, no column holds a sequence, or the names contradict.
    """
    asked = [columns.heavy, columns.light, columns.sequence, columns.id, *columns.group, *columns.labels]
    for name in asked:
        if name is not None and name not in header:
            raise DataError(f"{path}: there is no column '{name}'", hint=did_you_mean(name, header))
    found = _chains_asked(columns, path) or _chains_guessed(header, path)
    usual_group = _usual("group", header)
    return TableColumns(
        chains=tuple(_chain_columns(name, role, header, is_pair=len(found) > 1) for name, role in found),
        id=columns.id or _usual("id", header),
        group=columns.group or ((usual_group,) if usual_group else ()),
        labels=columns.labels,
    )


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
    return [(name, role) for name, role in named if name]


def _chains_guessed(header: Sequence[str], path: Path) -> list[tuple[str, Role]]:
    heavy, light = _usual("heavy", header), _usual("light", header)
    if light and not heavy:
        raise DataError(
            f"{path}: column '{light}' looks like a light chain, but none looks like the heavy one "
            f"(found: {_shown(header)})",
            hint=f"say which with --heavy COL --light {light}, or pass --light {light} to read it alone",
        )
    if heavy:
        return [(heavy, Role.HEAVY), *([(light, Role.LIGHT)] if light else [])]
    sequence = _usual("sequence", header)
    if not sequence:
        raise DataError(
            f"{path}: no column looks like a sequence (found: {_shown(header)})",
            hint="say which with --sequence COL, or --heavy COL and --light COL",
        )
    return [(sequence, Role.OTHER)]


def _shown(header: Sequence[str]) -> str:
    names = [name if len(name) <= 30 else name[:30] + "…" for name in header]
    return ", ".join(names[:30]) + (f", and {len(names) - 30} more" if len(names) > 30 else "")


def _usual(kind: str, header: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(header)}
    return next((by_lower[name] for name in USUAL_NAMES[kind] if name in by_lower), None)


def _chain_columns(name: str, role: Role, header: Sequence[str], *, is_pair: bool) -> ChainColumns:
    ends = {Role.HEAVY: ["_heavy", ":0"], Role.LIGHT: ["_light", ":1"], Role.OTHER: []}[role]
    ends += [] if is_pair else [""]

    def find(*stems: str) -> str | None:
        return next((stem + end for stem in stems for end in ends if stem + end in header), None)

    return ChainColumns(
        residues=name,
        role=role,
        v_call=find("v_call", "v_gene"),
        j_call=find("j_call", "j_gene"),
        segment=find("gene_segment_mask_aa"),
        nongermline=find("nongermline_mask_aa"),
    )
