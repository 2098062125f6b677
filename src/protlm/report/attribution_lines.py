"""Attributions by region as plain text for the terminal."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from protlm.report.tables import format_table, with_interval

METHOD_NAMES: Mapping[str, str] = {
    "attcat": "AttCAT",
    "grad-x-input": "gradient × input",
    "integrated-gradients": "integrated gradients",
    "occlusion": "occlusion",
}
SHARE_COLUMNS = (
    *("method", "chain", "region", "ratio", "n_records", "n_groups"),
    *(f"{name}{end}" for name in ("share", "length_share", "excess") for end in ("", "_low", "_high")),
)
AREA_COLUMNS = (
    *("method", "order", "kind", "is_better", "n_records", "n_groups"),
    *(f"{name}{end}" for name in ("area", "random", "difference") for end in ("", "_low", "_high")),
)
CONTROL_COLUMNS = (
    *("method", "chain", "region", "difference", "difference_low", "difference_high"),
    *("control_share", "n_records", "n_groups"),
)
CORRELATION_COLUMNS = ("method", "correlation", "correlation_low", "correlation_high", "n_records")
_SHOWN = ("CDR1", "CDR2", "CDR3", "framework", "CDRs", "all")


def attribution_lines(tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """Write the share of regions by method, and what the controls say.

    Parameters
    ----------
    tables
        Of the Run, by name.
    """
    shares = tables["attribution_shares"]
    first = shares.row(0, named=True)
    counts = f"{first['n_records']:,} records, {first['n_groups']:,} groups"
    lines = [f"share of the absolute attribution by region: {counts} [95 % interval]"]
    methods = shares["method"].unique(maintain_order=True).to_list()
    shown = shares.filter(pl.col("region").is_in(_SHOWN))
    places = shown.select("chain", "region").unique(maintain_order=True).rows()
    rows = []
    for chain, region in places:
        own = shown.filter((pl.col("chain") == chain) & (pl.col("region") == region))
        by_method = {row["method"]: row for row in own.iter_rows(named=True)}
        length = own.row(0, named=True)["length_share"]
        cells = [with_interval(by_method.get(method), "share") for method in methods]
        rows.append([chain, region, f"{length:.3f}", *cells])
    lines += format_table(["chain", "region", "of residues", *(METHOD_NAMES[each] for each in methods)], rows)
    return [*lines, "", *curve_verdicts(tables), *control_verdicts(tables)]


def curve_verdicts(tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """Say of each method whether masking in its order does more than in random order.

    Parameters
    ----------
    tables
        With ``attribution_areas``; empty without.
    """
    areas = tables.get("attribution_areas")
    if areas is None:
        return []
    lines = []
    for (method,), own in areas.filter(pl.col("order") == "signed").group_by("method", maintain_order=True):
        parts = [
            f"{row['kind']} {_signed(row, 'difference')}" + ("" if row["is_better"] else " NOT BETTER")
            for row in own.iter_rows(named=True)
        ]
        lines.append(f"{METHOD_NAMES[str(method)]}, area against random order: {'; '.join(parts)}")
    return lines


def control_verdicts(tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """Say how alike the control is, and where the share in the CDRs differs from it.

    Parameters
    ----------
    tables
        With ``attribution_control`` and ``attribution_correlation``; empty without.
    """
    control, alike = (tables.get(f"attribution_{name}") for name in ("control", "correlation"))
    if control is None or alike is None:
        return []
    lines = []
    for row in alike.iter_rows(named=True):
        method = row["method"]
        own = control.filter((pl.col("method") == method) & (pl.col("region") == "CDRs"))
        whole = own.filter(pl.col("chain") == "all") if len(own) > 1 else own
        parts = [f"rank correlation with the control {with_interval(row, 'correlation', digits=2)}"]
        parts += [
            f"share of the CDRs over it {_signed(each, 'difference')}" for each in whole.iter_rows(named=True)
        ]
        lines.append(f"{METHOD_NAMES[method]}: {'; '.join(parts)}")
    return lines


def _signed(row: Mapping[str, Any], name: str) -> str:
    return with_interval(row, name, sign="+")
