"""Plain-text tables of results for the terminal."""

from collections.abc import Sequence

import polars as pl


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


def summary_lines(summary: pl.DataFrame) -> list[str]:
    """Write accuracy with its interval per chain and region, a column for each model or baseline.

    Parameters
    ----------
    summary
        The table ``regions_summary``.
    """
    models = summary["model"].unique(maintain_order=True).to_list()
    lines: list[str] = []
    for (chain, residues), part in summary.group_by("chain", "residues", maintain_order=True):
        rows = []
        for (region,), own in part.group_by("region", maintain_order=True):
            first = own.row(0, named=True)
            by_model = {row["model"]: row for row in own.iter_rows(named=True)}
            cells = [_with_interval(by_model.get(model)) for model in models]
            rows.append([str(region), f"{first['n_residues']:,}", *cells])
        records = part["n_records"].max()
        lines += [f"accuracy, {chain} chain, {residues} residues ({records:,} records) [95 % interval]"]
        lines += [*format_table(["region", "n", *models], rows), ""]
    return lines


def entropy_lines(summary: pl.DataFrame) -> list[str]:
    """Write cross-entropy (nats) and perplexity over all residues, a column for each model or baseline.

    Parameters
    ----------
    summary
        The table ``regions_summary``.
    """
    models = summary["model"].unique(maintain_order=True).to_list()
    lines: list[str] = []
    everything = summary.filter(pl.col("residues") == "all")
    for (chain,), part in everything.group_by("chain", maintain_order=True):
        rows = []
        for (region,), own in part.group_by("region", maintain_order=True):
            by_model = {row["model"]: row for row in own.iter_rows(named=True)}
            cells = [
                f"{row['cross_entropy']:.3f} ({row['perplexity']:.2f})" if row else "–"
                for row in map(by_model.get, models)
            ]
            rows.append([str(region), *cells])
        lines += [f"cross-entropy in nats (perplexity), {chain} chain, all residues"]
        lines += [*format_table(["region", *models], rows), ""]
    return lines


def comparison_lines(comparisons: pl.DataFrame) -> list[str]:
    """Write the paired comparison of models region by region.

    Parameters
    ----------
    comparisons
        The table ``comparisons``.
    """
    lines: list[str] = []
    for (first, second, chain), part in comparisons.filter(
        (pl.col("metric") == "accuracy") & (pl.col("residues") == "all")
    ).group_by("first", "second", "chain", maintain_order=True):
        rows = [
            [
                row["region"],
                f"{row['difference']:+.4f}",
                f"[{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]",
                f"{row['p_adjusted']:.2g}{row['stars']}",
                f"{row['n_groups']:,}",
            ]
            for row in part.iter_rows(named=True)
        ]
        lines.append(f"accuracy of {first} minus {second}, {chain} chain (paired t, Bonferroni)")
        lines += [*format_table(["region", "difference", "95 % interval", "p adjusted", "groups"], rows), ""]
    return lines


def _with_interval(row: dict | None) -> str:
    if row is None:
        return "–"
    return f"{row['accuracy']:.3f} [{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}]"


def _is_number(cell: str) -> bool:
    return cell[:1] in "+-[0123456789"
