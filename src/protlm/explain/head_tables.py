"""Tables of heads, of methods by complex, and of their means and differences with intervals over antigens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from protlm.explain.complexes import Complex
from protlm.explain.contact_metrics import LEVELS, METRICS, truth_of
from protlm.explain.head_analysis import CONDITIONS, MODEL_METHODS, TRUE, HeadReadings, Key
from protlm.statistics.bootstrap import Interval, bootstrap_difference, bootstrap_means

BASELINE = ""
"""The model of methods that need none."""


def complex_table(complexes: Sequence[Complex], groups: np.ndarray, partners: np.ndarray) -> pl.DataFrame:
    """Describe what was judged.

    Parameters
    ----------
    complexes, groups, partners
        As in `protlm.explain.head_methods`.

    Returns
    -------
    polars.DataFrame
        ``case, group, partner`` (whose antigen the control was shown), both partners' chains as shown, counts
        of residues, contacts and interface residues, ``cdr_share`` of the antibody's interface, ``notes``.
    """
    rows = []
    for one, group, partner in zip(complexes, groups.tolist(), partners.tolist(), strict=True):
        touches = one.contacts.any(axis=1)
        rows.append(
            {
                "case": one.record.id,
                "group": group,
                "partner": complexes[partner].record.id if partner >= 0 else None,
                "antibody_chains": "/".join(chain.residues for chain in one.antibody),
                "antigen_chains": "/".join(chain.residues for chain in one.antigen),
                "n_antibody": one.contacts.shape[0],
                "n_antigen": one.contacts.shape[1],
                "n_contacts": int(one.contacts.sum()),
                "n_antibody_interface": int(touches.sum()),
                "n_antigen_interface": int(one.contacts.any(axis=0).sum()),
                "cdr_share": float(one.is_cdr[touches].mean()),
                "notes": "; ".join(one.notes),
            }
        )
    return pl.DataFrame(rows)


def head_table(name: str, readings: HeadReadings, groups: np.ndarray) -> pl.DataFrame:
    """Give every head of a model under every condition, on all complexes.

    Parameters
    ----------
    name
        Of the model.
    readings
        Of its heads.
    groups
        Of the complexes; resampled for the intervals.

    Returns
    -------
    polars.DataFrame
        ``model, level, condition, layer, head`` (both 1-based), ``n_cases, n_groups`` and each of `METRICS`
        with ``_low`` and ``_high``. The highest of many heads is so in part by chance; what a head does on
        complexes that it was not chosen on is in `summary_table`.
    """
    rows = []
    for (condition, level), values in readings.metrics.items():
        num_cases, num_heads, num_metrics = values.shape
        intervals = _intervals(values.reshape(num_cases, -1), groups)
        for head in range(num_heads):
            own = intervals[head * num_metrics : (head + 1) * num_metrics]
            layer, place = divmod(head, readings.num_heads)
            keys = {"model": name, "level": level, "condition": condition}
            rows.append(
                {
                    **keys,
                    "layer": layer + 1,
                    "head": place + 1,
                    **_sizes(values[:, head], groups),
                    **_named(own),
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def case_table(
    values: Mapping[str, Mapping[Key, np.ndarray]], complexes: Sequence[Complex], groups: np.ndarray
) -> pl.DataFrame:
    """Give every method on every complex.

    Parameters
    ----------
    values
        By model (`BASELINE` for methods without one), ``[c, 4]`` for each method, condition and level.
    complexes, groups
        All.

    Returns
    -------
    polars.DataFrame
        ``level, model, method, condition, case, group``, `METRICS`, and ``base_rate``, the precision of
        chance.
    """
    rates = {level: [truth_of(one, level).base_rate for one in complexes] for level in LEVELS}
    rows = []
    for model, method, condition, level, own in _lines(values):
        for index, one in enumerate(complexes):
            row = {"level": level, "model": model, "method": method, "condition": condition}
            row |= {"case": one.record.id, "group": int(groups[index])}
            row |= dict(zip(METRICS, own[index].tolist(), strict=True))
            rows.append({**row, "base_rate": rates[level][index]})
    return pl.DataFrame(rows, infer_schema_length=None)


def summary_table(values: Mapping[str, Mapping[Key, np.ndarray]], groups: np.ndarray) -> pl.DataFrame:
    """Give means over complexes.

    Parameters
    ----------
    values, groups
        As for `case_table`.

    Returns
    -------
    polars.DataFrame
        ``level, model, method, condition, n_cases, n_groups`` and each of `METRICS` with ``_low`` and
        ``_high``, 95 % from resampling groups of alike antigens.
    """
    rows = []
    for model, method, condition, level, own in _lines(values):
        row = {"level": level, "model": model, "method": method, "condition": condition}
        rows.append({**row, **_sizes(own, groups), **_named(_intervals(own, groups))})
    return pl.DataFrame(rows, infer_schema_length=None)


def difference_table(values: Mapping[str, Mapping[Key, np.ndarray]], groups: np.ndarray) -> pl.DataFrame:
    """Compare a model's methods with the controls, the baselines and other models, on the same complexes.

    Parameters
    ----------
    values, groups
        As for `case_table`.

    Returns
    -------
    polars.DataFrame
        ``level, model, method, against`` (a condition, a baseline or a model), ``kind`` of it, ``metric,
        difference, low, high, n_cases, n_groups``; above 0 the first is better.
    """
    baselines = values.get(BASELINE, {})
    models = {name: own for name, own in values.items() if name != BASELINE}
    rows = []
    for level in LEVELS:
        for model, own in models.items():
            for method in MODEL_METHODS:
                first = own[method, TRUE, level]
                others = [
                    ("control", each, own.get((method, each, level))) for each in CONDITIONS if each != TRUE
                ]
                others += [
                    ("baseline", each[0], found) for each, found in baselines.items() if each[2] == level
                ]
                later = list(models)[list(models).index(model) + 1 :]
                others += [("model", each, models[each][method, TRUE, level]) for each in later]
                for kind, against, second in others:
                    if second is not None:
                        keys = {
                            "level": level,
                            "model": model,
                            "method": method,
                            "kind": kind,
                            "against": against,
                        }
                        rows += [{**keys, **row} for row in _differences(first, second, groups)]
    return pl.DataFrame(rows, infer_schema_length=None)


def _lines(values: Mapping[str, Mapping[Key, np.ndarray]]) -> list[tuple[str, str, str, str, np.ndarray]]:
    """Order lines by level, then models before baselines, then method and condition."""
    lines = [
        (model, method, condition, level, own)
        for model, by_key in values.items()
        for (method, condition, level), own in by_key.items()
    ]
    methods = [*MODEL_METHODS, *dict.fromkeys(line[1] for line in lines)]
    models = [*(name for name in values if name != BASELINE), BASELINE]
    conditions = list(CONDITIONS)
    return sorted(
        lines,
        key=lambda line: (
            LEVELS.index(line[3]),
            models.index(line[0]),
            methods.index(line[1]),
            conditions.index(line[2]),
        ),
    )


def _intervals(values: np.ndarray, groups: np.ndarray) -> list[Interval]:
    is_defined = ~np.isnan(values)
    return bootstrap_means(
        np.where(is_defined, values, 0.0), weights=is_defined.astype(np.float64), clusters=groups
    )


def _differences(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for place, metric in enumerate(METRICS):
        both = ~np.isnan(first[:, place]) & ~np.isnan(second[:, place])
        if not both.any():
            continue
        found = bootstrap_difference(first[both, place], second[both, place], clusters=groups[both])
        sizes = {"n_cases": int(both.sum()), "n_groups": len(np.unique(groups[both]))}
        interval = {"difference": found.value, "low": found.low, "high": found.high}
        rows.append({"metric": metric, **interval, **sizes})
    return rows


def _sizes(values: np.ndarray, groups: np.ndarray) -> dict[str, int]:
    is_defined = ~np.isnan(values[:, 0])
    return {"n_cases": int(is_defined.sum()), "n_groups": len(np.unique(groups[is_defined]))}


def _named(intervals: Sequence[Interval]) -> dict[str, float]:
    row: dict[str, float] = {}
    for metric, found in zip(METRICS, intervals, strict=True):
        row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
    return row
