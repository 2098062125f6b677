"""Plain-text tables for the terminal, within a width."""

from collections.abc import Mapping, Sequence

WIDTH = 100
"""Columns of a terminal that a table may fill."""


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Lay out cells in columns, text to the left and numbers to the right.

    Parameters
    ----------
    header
        Column names.
    rows
        Cells as text.

    Examples
    --------
    >>> print("\n".join(format_table(["region", "n"], [["CDR3", "12"], ["FR1", "7"]])))
    region   n
    CDR3    12
    FR1      7
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    is_text = [all(not _is_number(row[i]) for row in rows) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        laid = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(cells, widths, is_text, strict=True)
        ]
        return "  ".join(laid).rstrip()

    return [line(header), *(line(row) for row in rows)]


def wide_table(
    labels: Mapping[str, Sequence[str]], columns: Mapping[str, Sequence[str]], *, width: int = WIDTH
) -> list[str]:
    r"""Lay out many columns in as many tables below each other as the width asks for.

    Parameters
    ----------
    labels
        Cells by column name; these columns are repeated in every table.
    columns
        Cells by column name; each is in one table.
    width
        In characters. A single column that does not fit goes over it.

    Examples
    --------
    >>> print("\n".join(wide_table({"a": ["x"]}, {"one": ["1"], "two": ["2"]}, width=8)))
    a  one
    x    1
    <BLANKLINE>
    a  two
    x    2
    """
    lines: list[str] = []
    waiting = list(columns)
    while waiting:
        taken = waiting[:1]
        while len(taken) < len(waiting):
            more = _laid(labels, columns, [*taken, waiting[len(taken)]])
            if max(map(len, more)) > width:
                break
            taken = waiting[: len(taken) + 1]
        lines += ([""] if lines else []) + _laid(labels, columns, taken)
        waiting = waiting[len(taken) :]
    return lines


def with_interval(row: Mapping[str, float] | None, metric: str, *, digits: int = 3, sign: str = "") -> str:
    """Write a value with its interval; a dash where there is none.

    Parameters
    ----------
    row
        With `metric` and the same with ``_low`` and ``_high``.
    metric
        Name of the value.
    digits
        Behind the point.
    sign
        ``"+"`` writes the sign of positive values too.

    Examples
    --------
    >>> with_interval({"gain": 0.5, "gain_low": 0.25, "gain_high": 0.75}, "gain", digits=2, sign="+")
    '+0.50 [+0.25, +0.75]'
    """
    if row is None or row[metric] is None or row[metric] != row[metric]:
        return "–"
    value, low, high = (f"{row[metric + end]:{sign}.{digits}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def _laid(
    labels: Mapping[str, Sequence[str]], columns: Mapping[str, Sequence[str]], taken: Sequence[str]
) -> list[str]:
    cells = [*labels.values(), *(columns[name] for name in taken)]
    return format_table([*labels, *taken], list(zip(*cells, strict=True)))


def _is_number(cell: str) -> bool:
    return cell[:1] in "+-−[0123456789" and bool(cell)
