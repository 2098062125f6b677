"""Rows in which one column holds both chains of a pair, with marks between them."""

import re
from collections.abc import Mapping
from typing import Any

from protlm.data.readers.columns import ChainColumns
from protlm.types.alphabet import ResidueError
from protlm.types.record import Role

_MARKS = re.compile(r"(?:<[^<>]{1,10}>)+")
_ONE_MARK = re.compile(r"<[^<>]*>")
_ROLES = (Role.HEAVY, Role.LIGHT)


def split_joined(
    row: Mapping[str, Any], columns: ChainColumns
) -> tuple[dict[str, Any], tuple[ChainColumns, ...]]:
    """Part a row such as ``EVQ<cls><cls>DIQ`` into the cells of two chains.

    A per-residue column has one letter for each mark, which must be 0. Columns of another kind, such as gene
    calls, would not say of which chain they are; the layout does not read them.

    Parameters
    ----------
    row
        Cells by column.
    columns
        The column with the chains, and those that go with it.

    Returns
    -------
    dict
        The row with the columns' parts, named such as ``text (heavy)``.
    tuple of ChainColumns
        Of the chains; one, of no role, where there are no marks.

    Raises
    ------
    ResidueError
        If there are more than two chains, or a mask does not go with them.

    Examples
    --------
    >>> columns = ChainColumns(("text",), Role.OTHER, {"cdr_mask": "cdr_mask"})
    >>> row, chains = split_joined({"text": "EVQ<cls><cls>DI", "cdr_mask": "0100020"}, columns)
    >>> [row[name] for each in chains for name in (*each.residues, each.others["cdr_mask"])]
    ['EVQ', '010', 'DI', '20']
    """
    column = columns.residues[0]
    text = str(row[column] or "").strip()
    marks = list(_MARKS.finditer(text))
    if not marks:
        return dict(row), (columns,)
    if len(marks) > 1:
        raise ResidueError(
            f"column '{column}' has {len(marks) + 1} chains, parted by {marks[0][0]} and {marks[1][0]}",
            hint="expected two; mend the row, or pass --invalid drop",
            reason=f"more than two chains in column '{column}'",
        )
    places = (slice(0, marks[0].start()), slice(marks[0].end(), None))
    num_marks = len(_ONE_MARK.findall(marks[0][0]))
    parts, chains = dict(row), []
    for role, place in zip(_ROLES, places, strict=True):
        named = {}
        for kind, name in {"": column, **columns.others}.items():
            named[kind] = f"{name} ({role.name.lower()})"
            parts[named[kind]] = text[place] if kind == "" else ""
        chains.append(ChainColumns((named.pop(""),), role, named))
    for name in columns.others.values():
        mask = str(row[name] or "").strip()
        if mask:
            for each, part in zip(chains, _split_mask(mask, text, places, num_marks, name), strict=True):
                parts[f"{name} ({each.role.name.lower()})"] = part
    return parts, tuple(chains)


def _split_mask(
    mask: str, text: str, places: tuple[slice, slice], num_marks: int, column: str
) -> tuple[str, str]:
    first, second = (len(text[place]) for place in places)
    marks = mask[first : first + num_marks]
    if len(mask) != first + num_marks + second or set(marks) - {"0"}:
        raise ResidueError(
            f"column '{column}' has {len(mask)} letters, {marks!r} at the {num_marks} marks between "
            f"chains of {first} and {second} residues",
            hint="it needs one letter per residue and a 0 per mark; mend it, or pass --invalid drop",
            reason=f"column '{column}' does not have one letter per residue and mark",
        )
    return mask[:first], mask[first + num_marks :]
