"""Tables of attributions: residues, shares of regions, curves and areas, and a control beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from protlm.explain.attribution_curves import FRACTIONS, KINDS, ORDERS, Curves, area
from protlm.statistics.bootstrap import Interval, bootstrap_means
from protlm.statistics.metrics import spearman
from protlm.types.record import Record
from protlm.types.regions import REGIONS, Region, decode_position

REGION_NAMES = tuple(region.name for region in REGIONS)
TOGETHER = {
    "framework": tuple(name for name in REGION_NAMES if name.startswith("FR")),
    "CDRs": tuple(name for name in REGION_NAMES if name.startswith("CDR")),
}
OUTSIDE = ""
"""Region of residues that are in none, or of chains that are not numbered."""


def residue_table(records: Sequence[Record], values: Mapping[str, Sequence[np.ndarray]]) -> pl.DataFrame:
    """Give a line for each residue and method.

    Parameters
    ----------
    records
        With their tracks, where they are known.
    values
        By method, of each record the attributions of its residues.

    Returns
    -------
    polars.DataFrame
        ``method, id, chain, position`` (1-based), ``index`` (0-based in the chain), ``imgt, region`` (empty
        where not known), ``residue, attribution``.
    """
    parts = []
    for record in records:
        for name, chain in zip(record.chain_names, record.chains, strict=True):
            length = len(chain)
            imgt = chain.tracks.get("position", np.zeros(length, np.uint16))
            region = chain.tracks.get("region", np.zeros(length, np.uint8))
            parts.append(
                pl.DataFrame(
                    {
                        "id": [record.id] * length,
                        "chain": [name] * length,
                        "position": np.arange(1, length + 1),
                        "index": np.arange(length),
                        "imgt": [decode_position(int(code)) for code in imgt],
                        "region": [Region(int(code)).name if code else OUTSIDE for code in region],
                        "residue": list(chain.residues),
                    }
                )
            )
    places = pl.concat(parts)
    return pl.concat(
        [
            places.select(
                pl.lit(method).alias("method"),
                pl.all(),
                pl.Series("attribution", np.concatenate(list(own)), dtype=pl.Float64),
            )
            for method, own in values.items()
        ]
    )


def share_table(residues: pl.DataFrame, groups: Mapping[str, str]) -> pl.DataFrame:
    """Give what part of the absolute attribution is in each region, beside its part of the residues.

    Parameters
    ----------
    residues
        From `residue_table`.
    groups
        Unit of resampling of each record, by id.

    Returns
    -------
    polars.DataFrame
        ``method, chain, region`` (of both chains together: chain ``all``; regions together: ``framework``,
        ``CDRs``, ``all``), ``share, length_share`` and ``excess`` (share less length share), each with
        ``_low`` and ``_high``: means over records with 95 % intervals; ``ratio``, of the two means; and
        ``n_records, n_groups``. A record whose attributions are all 0 is left out.
    """
    rows = []
    for (method,), own in residues.group_by("method", maintain_order=True):
        shares = record_shares(own)
        order = shares.select("id").unique(maintain_order=True)["id"].to_list()
        units = np.array([groups[each] for each in order])
        for (chain, region), part in shares.group_by("chain", "region", maintain_order=True):
            columns = part.select("share", "length_share", excess=pl.col("share") - pl.col("length_share"))
            found = bootstrap_means(columns.to_numpy(), clusters=units)
            facts = {"method": method, "chain": chain, "region": region}
            facts |= _named(dict(zip(columns.columns, found, strict=True)))
            ratio = found[0].value / found[1].value if found[1].value else float("nan")
            rows.append({**facts, "ratio": ratio, "n_records": len(order), "n_groups": len(set(units))})
    return pl.DataFrame(rows, infer_schema_length=None)


def record_shares(residues: pl.DataFrame) -> pl.DataFrame:
    """Give the shares of each record: a line for every chain and region that any record has.

    Parameters
    ----------
    residues
        From `residue_table`, of one method.

    Returns
    -------
    polars.DataFrame
        ``chain, region, id, share, length_share``; 0 where a record lacks the region.
    """
    size = pl.col("attribution").abs()
    cells = residues.group_by("id", "chain", "region", maintain_order=True).agg(
        share=size.sum(), length_share=pl.len().cast(pl.Float64)
    )
    totals = cells.group_by("id", maintain_order=True).agg(
        all=pl.col("share").sum(), n=pl.col("length_share").sum()
    )
    totals = totals.filter(pl.col("all") > 0)
    cells = cells.join(totals, on="id", maintain_order="left").select(
        "id", "chain", "region", pl.col("share") / pl.col("all"), pl.col("length_share") / pl.col("n")
    )
    ids = totals.select("id")
    parts = []
    chains = cells["chain"].unique(maintain_order=True).to_list()
    present = set(cells["region"])
    for chain in [*chains, *(["all"] if len(chains) > 1 else [])]:
        for region in [*REGION_NAMES, *TOGETHER, "all"]:
            names = TOGETHER.get(region, (region,))
            if region != "all" and not present & set(names):
                continue
            is_in = pl.lit(True) if region == "all" else pl.col("region").is_in(names)
            of_chain = pl.lit(True) if chain == "all" else pl.col("chain") == chain
            sums = cells.filter(is_in & of_chain).group_by("id").agg(pl.col("share", "length_share").sum())
            lines = ids.join(sums, on="id", how="left", maintain_order="left").fill_null(0.0)
            if chain != "all" or region != "all":
                parts.append(
                    lines.select(pl.lit(chain).alias("chain"), pl.lit(region).alias("region"), pl.all())
                )
    return pl.concat(parts)


def control_table(
    residues: pl.DataFrame, control: pl.DataFrame, groups: Mapping[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Compare the attributions of a model with those of a control on the same records.

    Parameters
    ----------
    residues, control
        From `residue_table`, of the same records, methods and classes.
    groups
        As for `share_table`.

    Returns
    -------
    polars.DataFrame
        ``method, chain, region, difference`` (share in the model less that in the control) with ``_low`` and
        ``_high``, ``control_share, n_records, n_groups``.
    polars.DataFrame
        ``method, correlation`` (Spearman's, of the absolute attributions of a record's residues in both
        models; mean over records) with ``_low`` and ``_high``, ``n_records, n_groups``. Where it is high, the
        labels are not what the method shows.

    References
    ----------
    Adebayo et al. 2018, NeurIPS, arXiv:1810.03292.
    """
    differences, correlations = [], []
    for (method,), own in residues.group_by("method", maintain_order=True):
        other = control.filter(pl.col("method") == method)
        joined = record_shares(own).join(
            record_shares(other), on=["chain", "region", "id"], suffix="_control", maintain_order="left"
        )
        for (chain, region), part in joined.group_by("chain", "region", maintain_order=True):
            units = np.array([groups[each] for each in part["id"]])
            values = part.select(pl.col("share") - pl.col("share_control"), "share_control").to_numpy()
            found = bootstrap_means(values, clusters=units)
            facts = {"method": method, "chain": chain, "region": region, **_named({"difference": found[0]})}
            facts |= {"control_share": found[1].value, "n_records": len(part), "n_groups": len(set(units))}
            differences.append(facts)
        pairs = own.with_columns(control=other["attribution"]).group_by("id", maintain_order=True)
        by_record = {
            str(name): spearman(np.abs(each["attribution"]), np.abs(each["control"]))
            for (name,), each in pairs
        }
        kept = {name: value for name, value in by_record.items() if value == value}
        units = np.array([groups[name] for name in kept])
        (found,) = bootstrap_means(np.array([*kept.values()])[:, None], clusters=units)
        facts = {"method": method, **_named({"correlation": found})}
        correlations.append({**facts, "n_records": len(kept), "n_groups": len(set(units))})
    return (
        pl.DataFrame(differences, infer_schema_length=None),
        pl.DataFrame(correlations, infer_schema_length=None),
    )


def curve_tables(curves: Sequence[Curves], units: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give mean curves, and the areas under them against random order.

    Parameters
    ----------
    curves
        By record.
    units
        Unit of resampling of each record.

    Returns
    -------
    polars.DataFrame
        ``method`` (``random`` too), ``order, kind, fraction, output`` with ``_low`` and ``_high``.
    polars.DataFrame
        ``method, order, kind, area, random`` and ``difference`` (area less that of random order on the same
        records), each with ``_low`` and ``_high``, ``is_better`` (whether the difference is clear of 0 on the
        right side: below for deletion, above for insertion), ``n_records, n_groups``.
    """
    labels = np.asarray(units)
    lines, areas = [], []
    methods = list(dict.fromkeys(method for method, _, _ in curves[0].attributed))
    for kind in KINDS:
        chance = np.stack([each.random[kind] for each in curves])
        lines += _curve_rows({"method": "random", "order": "", "kind": kind}, chance, labels)
        for method in methods:
            for order in ORDERS:
                own = np.stack([each.attributed[method, order, kind] for each in curves])
                facts: dict[str, Any] = {"method": method, "order": order, "kind": kind}
                lines += _curve_rows(facts, own, labels)
                columns = np.stack([area(own), area(chance), area(own) - area(chance)], axis=1)
                total, of_chance, gained = bootstrap_means(columns, clusters=labels)
                found = {"area": total, "random": of_chance, "difference": gained}
                is_better = gained.high < 0 if kind == "deletion" else gained.low > 0
                counts = {"n_records": len(curves), "n_groups": len(set(units))}
                areas.append({**facts, **_named(found), "is_better": bool(is_better), **counts})
    return pl.DataFrame(lines), pl.DataFrame(areas)


def _curve_rows(facts: Mapping[str, Any], values: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    found = bootstrap_means(values, clusters=labels)
    return [
        {**facts, "fraction": fraction, **_named({"output": each})}
        for fraction, each in zip(FRACTIONS, found, strict=True)
    ]


def _named(intervals: Mapping[str, Interval]) -> dict[str, float]:
    return {
        name + end: value
        for name, each in intervals.items()
        for end, value in (("", each.value), ("_low", each.low), ("_high", each.high))
    }
