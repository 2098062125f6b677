"""Averages over assays as ProteinGym has them: assay to protein to function, with bootstrap errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.evaluation.variants import ALL, DEPTHS, FACTS, METRICS
from protlm.statistics.bootstrap import Interval, percentile_interval, resample_counts

_ORDER = {
    "function": ("Activity", "Binding", "Expression", "OrganismalFitness", "Stability"),
    "msa_depth": ("Low", "Medium", "High"),
    "taxon": ("Human", "Eukaryote", "Prokaryote", "Virus"),
}
_KEYS = ("subset", "metric", "model")

_Floats = npt.NDArray[np.float64]


def average_assays(table: pl.DataFrame, metrics: Sequence[str] = METRICS) -> pl.DataFrame:
    """Average each model's metrics as ProteinGym does.

    The mean over the assays of one protein within a function class, then over the proteins of the class,
    then over the classes. For MSA depth and taxon: over the assays of a protein, then over proteins. For a
    mutation depth: over the assays of a protein within a function class, then over all of these alike.
    Missing cells are left out of each mean and counted; `missing_cells` names them.

    Parameters
    ----------
    table
        A line per assay and model, as from `protlm.evaluation.variants.assay_rows`: ``assay, model`` and
        the metrics, null or NaN where missing. ``subset`` and ``depth`` are ``all`` where not given; an
        assay without ``uniprot`` is a protein of its own; ``function`` is known for all assays or for none,
        which then are one class, ``all``.
    metrics
        Columns to average.

    Returns
    -------
    polars.DataFrame
        A line per subset, metric and model, best first: ``subset, metric, model, average``, a column for
        each class of ``function_…, msa_depth_…, taxon_…, depth_…``, then ``n_assays`` and ``n_proteins``
        averaged, ``n_missing`` cells and ``n_functions``, fewer of which make averages incomparable.

    Raises
    ------
    DataError
        If a column is missing, an assay has two lines for one model, two sets of facts, or no function
        although others have.

    References
    ----------
    Notin et al., ProteinGym, NeurIPS 2023, ``performance_DMS_benchmarks.py``.

    Examples
    --------
    Two assays of one protein count as one: ((0.2 + 0.4) / 2 + 0.9) / 2.

    >>> table = pl.DataFrame({"model": ["m"] * 3, "assay": ["a", "b", "c"], "uniprot": ["P", "P", "Q"],
    ...     "spearman": [0.2, 0.4, 0.9]})
    >>> average_assays(table, ["spearman"])["average"].round(6).to_list()
    [0.6]
    """
    cells = _cells(table, metrics)
    main, by_depth = cells.filter(pl.col("depth") == ALL), cells.filter(pl.col("depth") != ALL)
    of_function = _nested_means(main, "function")
    value = pl.col("value")
    result = of_function.group_by(_KEYS).agg(average=value.mean(), n_functions=value.count())
    counts = main.group_by(_KEYS).agg(
        n_assays=value.count(),
        n_proteins=pl.col("uniprot").filter(value.is_not_null()).n_unique(),
        n_missing=value.null_count(),
    )
    parts = [
        ("function", of_function),
        *((kind, _nested_means(main, kind)) for kind in ("msa_depth", "taxon")),
    ]
    names: list[str] = []
    for kind, means in parts:
        labels = _labels(means[kind], _ORDER[kind])
        names += [f"{kind}_{label}" for label in labels]
        result = result.join(_spread(means, kind, labels), on=_KEYS, how="left")
    units = by_depth.group_by(*_KEYS, "depth", "uniprot", "function").agg(value.mean())
    depths = [depth for depth in DEPTHS if (units["depth"] == depth).any()]
    result = result.join(_spread(units, "depth", depths), on=_KEYS, how="left").join(counts, on=_KEYS)
    names += [f"depth_{depth}" for depth in depths]
    result = result.select(
        *_KEYS, "average", *names, "n_assays", "n_proteins", "n_missing", "n_functions"
    ).with_columns(pl.col("metric").cast(pl.Enum(list(metrics))))
    ordered = result.sort(
        "subset", "metric", "average", "model", descending=[False, False, True, False], nulls_last=True
    )
    return ordered.with_columns(pl.col("metric").cast(pl.String))


def missing_cells(table: pl.DataFrame, metrics: Sequence[str] = METRICS) -> pl.DataFrame:
    """Name the cells that `average_assays` leaves out.

    Parameters
    ----------
    table, metrics
        As for `average_assays`.

    Returns
    -------
    polars.DataFrame
        ``subset, metric, model, assay``; also where a model has no line for an assay that another has.
    """
    cells = _cells(table, metrics)
    empty = cells.filter((pl.col("depth") == ALL) & pl.col("value").is_null())
    return empty.select(*_KEYS, "assay").sort(*_KEYS, "assay")


def bootstrap_averages(
    table: pl.DataFrame,
    metric: str,
    *,
    subset: str = ALL,
    num_draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Give each model's average with its interval, and ProteinGym's standard error against the best.

    The standard error is that of the difference to the model with the highest average, 0 for itself: the
    proteins of each function class are resampled by themselves, and it is the standard deviation over the
    draws of the mean over classes. A class with one protein adds nothing to it.

    DISCREPANCY: a protein with assays in two classes is then drawn twice, independently. The interval
    resamples proteins once for all classes. A draw without a protein of some class is left out.

    Parameters
    ----------
    table
        As for `average_assays`.
    metric
        Which column.
    subset
        Which of the table's subsets.
    num_draws
        Bootstrap samples, at least 2. The standard error from 10,000 is itself known to 0.7 %.
    seed
        Of the random draws; all models are judged on the same ones.
    confidence
        Of the interval, above 0 and below 1.

    Returns
    -------
    polars.DataFrame
        A line per model, best first: ``model, average, low, high, best, difference, standard_error,
        n_assays, n_proteins``. `difference` is the model's average minus that of `best`, over the
        cells that both have.

    Raises
    ------
    DataError
        As for `average_assays`, or if there is no such column or subset.
    ConfigError
        If `num_draws` or `confidence` is out of range.

    References
    ----------
    Notin et al., ProteinGym, NeurIPS 2023, ``performance_DMS_benchmarks.py``,
    ``compute_bootstrap_standard_error_functional_categories``.
    """
    _check_settings(num_draws, confidence)
    cells = _one_metric(table, metric, subset)
    units = _Units.of(cells)
    values = units.average()
    order = sorted(
        range(len(values)), key=lambda index: (np.isnan(values[index]), -np.nan_to_num(values[index]))
    )
    best = order[0]
    to_best = _Units(units.models, units.values - units.values[:, :, [best]])
    differences = to_best.average()
    errors = [_standard_deviation(column) for column in to_best.draw_by_class(num_draws, seed).T]
    draws = units.draw_proteins(num_draws, seed)
    counts = cells.group_by("model").agg(
        n_assays=pl.col("value").count(),
        n_proteins=pl.col("uniprot").filter(pl.col("value").is_not_null()).n_unique(),
    )
    known = {row["model"]: row for row in counts.iter_rows(named=True)}
    rows = []
    for index in order:
        model = units.models[index]
        sizes = known[model]
        interval = percentile_interval(
            values[index], draws[:, index], sizes["n_assays"], sizes["n_proteins"], confidence
        )
        rows.append(
            {
                "model": model,
                "average": interval.value,
                "low": interval.low,
                "high": interval.high,
                "best": units.models[best],
                "difference": float(differences[index]),
                "standard_error": errors[index],
                "n_assays": sizes["n_assays"],
                "n_proteins": sizes["n_proteins"],
            }
        )
    return pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))


def compare_averages(
    table: pl.DataFrame,
    metric: str,
    first: str,
    second: str,
    *,
    subset: str = ALL,
    num_draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Give the difference of two models' averages, first minus second, on the assays that both have.

    Parameters
    ----------
    table, metric, subset
        As for `bootstrap_averages`.
    first, second
        Names of models in the table.
    num_draws, seed, confidence
        Of the bootstrap, which resamples proteins with all of their assays.

    Returns
    -------
    Interval
        `n` is the number of assays that both have.

    Raises
    ------
    DataError
        As for `bootstrap_averages`, or if a model is not in the table or no assay has both.
    ConfigError
        As for `bootstrap_averages`.
    """
    _check_settings(num_draws, confidence)
    cells = _one_metric(table, metric, subset)
    for name in (first, second):
        if name not in cells["model"]:
            raise DataError(f"no model '{name}' in the table", hint=did_you_mean(name, set(cells["model"])))
    keys = ["assay", "uniprot", "function"]
    one, other = (cells.filter(pl.col("model") == name).drop_nulls("value") for name in (first, second))
    both = one.join(other, on=keys, suffix="_other").with_columns(
        value=pl.col("value") - pl.col("value_other")
    )
    if both.is_empty():
        raise DataError(f"'{first}' and '{second}' have no assay in common", hint="score the same assays")
    units = _Units.of(both)
    draws = units.draw_proteins(num_draws, seed)[:, 0]
    return percentile_interval(
        float(units.average()[0]), draws, both.height, both["uniprot"].n_unique(), confidence
    )


@dataclass(frozen=True)
class _Units:
    """Means over the assays of one protein within one function class."""

    models: list[str]
    values: _Floats
    """Shape (classes, proteins, models); NaN where there is none."""

    @classmethod
    def of(cls, cells: pl.DataFrame) -> "_Units":
        """Average the cells of each model, class and protein."""
        means = cells.group_by("model", "function", "uniprot").agg(pl.col("value").mean())
        codes, labels = [], []
        for name in ("function", "uniprot", "model"):
            distinct, code = np.unique(means[name].to_numpy().astype(str), return_inverse=True)
            codes.append(code)
            labels.append(distinct.tolist())
        values = np.full([len(each) for each in labels], np.nan)
        values[tuple(codes)] = means["value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return cls(labels[-1], values)

    def average(self) -> _Floats:
        """Give the mean over proteins and then over classes, by model."""
        once = np.ones((1, self.values.shape[1]))
        return self._averages([once] * len(self.values))[0]

    def draw_proteins(self, num_draws: int, seed: int) -> _Floats:
        """Give averages under resampled proteins, shape (draws, models)."""
        return self._averages([_counts(self.values.shape[1], num_draws, seed)] * len(self.values))

    def draw_by_class(self, num_draws: int, seed: int) -> _Floats:
        """Give averages where each class resamples its own proteins."""
        num_classes, num_proteins, _ = self.values.shape
        seeds = np.random.SeedSequence(seed).generate_state(num_classes)
        drawn = []
        for layer, own_seed in zip(self.values, seeds, strict=True):
            members = np.flatnonzero(~np.isnan(layer).all(axis=1))
            counts = np.zeros((num_draws, num_proteins))
            counts[:, members] = _counts(len(members), num_draws, int(own_seed))
            drawn.append(counts)
        return self._averages(drawn)

    def _averages(self, counts: Sequence[_Floats]) -> _Floats:
        """Average with each protein as often as it was drawn; NaN where a class of the model is empty."""
        shape = (len(counts[0]), len(self.models))
        total, num_classes = np.zeros(shape), np.zeros(shape[1])
        for layer, drawn in zip(self.values, counts, strict=True):
            known = ~np.isnan(layer)
            present = known.any(axis=0)
            with np.errstate(invalid="ignore"):
                means = (drawn @ np.nan_to_num(layer)) / (drawn @ known)
            total += np.where(present, means, 0)
            num_classes += present
        with np.errstate(invalid="ignore"):
            return total / num_classes


def _counts(num_units: int, num_draws: int, seed: int) -> _Floats:
    return np.concatenate(list(resample_counts(num_units, num_draws, seed))).astype(np.float64)


def _standard_deviation(draws: _Floats) -> float:
    known = draws[~np.isnan(draws)]
    return float(known.std(ddof=1)) if len(known) > 1 else np.nan


def _cells(table: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    """Give a line per subset, metric, model, assay and depth, with all facts and nulls where none was."""
    for name in ("assay", "model", *metrics):
        if name not in table.columns:
            raise DataError(f"the table has no column '{name}'", hint=did_you_mean(name, table.columns))
    defaults = {"subset": pl.lit(ALL), "depth": pl.lit(ALL)}
    defaults |= {name: pl.lit(None, pl.String) for name in FACTS}
    table = table.with_columns(
        **{name: value for name, value in defaults.items() if name not in table.columns}
    )
    table = table.with_columns(pl.col(name).cast(pl.String) for name in FACTS)
    facts = table.select("assay", *FACTS).unique()
    _refuse_repeated(facts, ["assay"], "two sets of facts")
    _refuse_repeated(table, ["subset", "depth", "model", "assay"], "two lines for one model")
    unknown = facts.filter(pl.col("function").is_null())["assay"].sort().to_list()
    if unknown and len(unknown) < facts.height:
        listing = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        raise DataError(
            f"{len(unknown)} of {facts.height} assays have no function class: {listing}",
            hint="name it in the reference table (coarse_selection_type), or leave these assays out",
        )
    facts = facts.with_columns(
        uniprot=pl.coalesce("uniprot", "assay"), function=pl.col("function").fill_null(ALL)
    )
    slices = table.select("subset", "depth", "assay").unique()
    grid = slices.join(table.select("model").unique(), how="cross").join(facts, on="assay")
    long = table.unpivot(metrics, index=["subset", "depth", "model", "assay"], variable_name="metric")
    long = long.with_columns(pl.col("value").cast(pl.Float64).fill_nan(None))
    grid = grid.join(pl.DataFrame({"metric": list(metrics)}), how="cross")
    return grid.join(long, on=["subset", "depth", "model", "assay", "metric"], how="left")


def _one_metric(table: pl.DataFrame, metric: str, subset: str) -> pl.DataFrame:
    cells = _cells(table, [metric])
    if subset not in cells["subset"]:
        raise DataError(
            f"the table has no subset '{subset}'", hint=did_you_mean(subset, set(cells["subset"]))
        )
    return cells.filter((pl.col("subset") == subset) & (pl.col("depth") == ALL))


def _refuse_repeated(rows: pl.DataFrame, keys: list[str], what: str) -> None:
    repeated = rows.filter(rows.select(keys).is_duplicated())["assay"].unique().sort().to_list()
    if repeated:
        raise DataError(
            f"{what} for {len(repeated)} of the assays: {', '.join(repeated[:5])}", hint="keep one of each"
        )


def _nested_means(cells: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Average over the assays of a protein within a class of this kind, then over its proteins."""
    known = cells.filter(pl.col(kind).is_not_null())
    proteins = known.group_by(*_KEYS, kind, "uniprot").agg(pl.col("value").mean())
    return proteins.group_by(*_KEYS, kind).agg(pl.col("value").mean())


def _labels(found: pl.Series, order: Sequence[str]) -> list[str]:
    present = set(found.to_list())
    return [label for label in order if label in present] + sorted(present - set(order))


def _spread(means: pl.DataFrame, kind: str, labels: Sequence[str]) -> pl.DataFrame:
    """Give a column per class, with the mean of its lines."""
    value = pl.col("value")
    columns = [value.filter(pl.col(kind) == label).mean().alias(f"{kind}_{label}") for label in labels]
    return means.group_by(_KEYS).agg(columns)


def _check_settings(num_draws: int, confidence: float) -> None:
    if num_draws < 2:
        raise ConfigError(f"num_draws: expected at least 2, found {num_draws}", hint="10000 is usual")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: {confidence} is out of range", hint="give 0.95 for 95 %")
