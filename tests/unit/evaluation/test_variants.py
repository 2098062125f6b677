"""Benchmark metrics and averages: by hand, by brute force, and against ProteinGym's published tables."""

import itertools
import math

import numpy as np
import polars as pl
import pytest
import scipy.stats

from protlm.data.readers.assay_reference import AssayFacts, find_assays, read_reference
from protlm.data.readers.assays import Assay, read_assay
from protlm.errors import ConfigError, DataError
from protlm.evaluation.variant_averages import (
    average_assays,
    bootstrap_averages,
    compare_averages,
    missing_cells,
)
from protlm.evaluation.variants import METRICS, SCHEMA, assay_metrics, assay_rows, strict_top_recall
from protlm.types.variant import parse_variant

TOLERANCE = 5e-4 + 1e-9  # published to three decimals
BREAKDOWNS = {
    "average": "Average_Spearman",
    **{
        f"function_{name}": f"Function_{name}"
        for name in ("Activity", "Binding", "Expression", "OrganismalFitness", "Stability")
    },
    **{f"msa_depth_{name}": f"{name}_MSA_depth" for name in ("Low", "Medium", "High")},
    **{f"taxon_{name}": f"Taxa_{name}" for name in ("Human", "Prokaryote", "Virus")},
    "taxon_Eukaryote": "Taxa_Other_Eukaryote",
}


def sample(seed, num_rows):
    """Untied scores, values correlated with them, and labels."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=num_rows)
    values = scores + generator.normal(size=num_rows)
    return scores, values, values >= np.median(values)


def proteingym(scores, values, is_fit):
    """The published definitions, variant by variant."""
    pairs = [(s, t) for s, t in itertools.product(scores[is_fit], scores[~is_fit])]
    called = scores >= np.median(scores)
    tp, tn = (called & is_fit).sum(), (~called & ~is_fit).sum()
    fp, fn = (called & ~is_fit).sum(), (~called & is_fit).sum()
    gains = (values - values.min()) / (values.max() - values.min())
    top = int(len(values) * 0.1)
    gain = sum(gains[row] / math.log2(rank + 2) for rank, row in enumerate(np.argsort(-scores)[:top]))
    ideal = sum(each / math.log2(rank + 2) for rank, each in enumerate(sorted(gains, reverse=True)[:top]))
    best, found = values > np.percentile(values, 90), scores > np.percentile(scores, 90)
    return {
        "spearman": scipy.stats.spearmanr(scores, values).statistic,
        "auroc": np.mean([(s > t) + (s == t) / 2 for s, t in pairs]),
        "mcc": (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
        "ndcg": gain / ideal,
        "top_recall": (best & found).sum() / best.sum(),
    }


@pytest.mark.parametrize("num_rows", [10, 11, 21, 37, 100, 101, 151])
def test_all_five_metrics_are_proteingyms(num_rows):
    scores, values, is_fit = sample(num_rows, num_rows)
    found = assay_metrics(scores, values, is_fit)
    expected = proteingym(scores, values, is_fit)
    assert {name: found[name] for name in METRICS} == pytest.approx(expected, abs=1e-12)
    assert (found["n"], found["n_fit"], found["n_skipped"]) == (num_rows, is_fit.sum(), 0)


@pytest.mark.parametrize("seed", range(5))
def test_top_recall_is_strict_on_ties_too(seed):
    generator = np.random.default_rng(seed)
    scores, values = generator.integers(30, size=90), generator.integers(40, size=90)
    best, found = values > np.percentile(values, 90), scores > np.percentile(scores, 90)
    assert strict_top_recall(scores, values) == pytest.approx((best & found).sum() / best.sum(), abs=1e-12)


def test_top_recall_of_eleven_takes_one():
    """The 0.9 quantile of 0 … 10 is 9, so only the best is above it; 9 itself is not."""
    assert strict_top_recall(range(11), range(11)) == 1
    assert strict_top_recall([*range(9), 10, 9], range(11)) == 0


def test_top_recall_without_a_best_variant_is_undefined():
    assert math.isnan(strict_top_recall(range(10), [0] * 8 + [1] * 2))
    assert math.isnan(strict_top_recall([], []))
    assert strict_top_recall([1] * 20, range(20)) == 0


def test_a_score_at_the_median_is_called_fit():
    """Median 2: three of five are called, both fit ones among them: (5 · 2 - 3 · 2) / sqrt(3 · 2 · 2 · 3)."""
    found = assay_metrics([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 0, 0, 1, 1])
    assert found["mcc"] == pytest.approx(4 / 6, abs=1e-12)
    assert assay_metrics([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 0, 0, 1, 1], cut=3)["mcc"] == 1


def test_nan_scores_are_refused_or_skipped_and_counted():
    scores, values, is_fit = sample(3, 40)
    holed = np.where(np.arange(40) % 8 == 0, np.nan, scores)
    with pytest.raises(DataError, match="scores: 5 of 40 values are NaN"):
        assay_metrics(holed, values, is_fit)
    kept = ~np.isnan(holed)
    skipped = assay_metrics(holed, values, is_fit, missing="skip")
    assert skipped == assay_metrics(scores[kept], values[kept], is_fit[kept]) | {"n_skipped": 5}
    nothing = assay_metrics([np.nan] * 3, [1, 2, 3], [0, 1, 1], missing="skip")
    assert (nothing["n"], nothing["n_skipped"]) == (0, 3)
    assert all(math.isnan(nothing[name]) for name in METRICS)


def test_nan_values_and_unequal_lengths_are_refused():
    with pytest.raises(DataError, match="values: 1 of 2 values is NaN"):
        assay_metrics([1, 2], [1, np.nan], missing="skip")
    with pytest.raises(DataError, match=r"shapes differ .*scores \(2,\), values \(2,\), is_fit \(3,\)"):
        assay_metrics([1, 2], [1, 2], [0, 1, 1])


def test_without_labels_auroc_and_mcc_are_undefined():
    found = assay_metrics([1, 2, 3], [1, 2, 3])
    assert math.isnan(found["auroc"])
    assert math.isnan(found["mcc"])
    assert found["spearman"] == 1


def assay(mutants, values, **facts):
    facts = AssayFacts("a", "MKTAYW", **facts)
    array = np.array(values, dtype=float)
    variants = [parse_variant(text, facts.wild_type) for text in mutants]
    return Assay(facts, list(mutants), variants, array, array >= np.median(array), "median")


def test_rows_are_by_model_subset_and_depth():
    """Sites 2 to 6 are covered. MCC of the singles cuts at the median of all scores, -0.5, not of theirs.

    Values' median is 2.5, so of the singles only A4G is fit; scores 1, 2, 0 are all called: undefined.
    """
    table = assay(
        ["M1L", "K2R", "A4G", "K2R:T3S", "K2R:T3S:A4G:Y5F:W6F", "T3S:A4G"],
        [1, 2, 3, 4, 0, 5],
        uniprot="P",
        msa_start=1,
        msa_stop=6,
    )
    rows = assay_rows(table, {"m": [1, 2, 0, -1, -2, -3]})
    assert rows.schema == pl.Schema(SCHEMA)
    sizes = {(row["subset"], row["depth"]): row["n"] for row in rows.iter_rows(named=True)}
    assert sizes == {
        ("all", "all"): 6,
        ("all", "1"): 3,
        ("all", "2"): 2,
        ("all", "5+"): 1,
        ("covered", "all"): 5,
        ("covered", "1"): 2,
        ("covered", "2"): 2,
        ("covered", "5+"): 1,
    }
    assert rows["uniprot"].unique().to_list() == ["P"]
    singles = rows.row(by_predicate=(pl.col("subset") == "all") & (pl.col("depth") == "1"), named=True)
    assert singles["spearman"] == pytest.approx(scipy.stats.spearmanr([1, 2, 0], [1, 2, 3]).statistic)
    assert (singles["n_fit"], singles["mcc"]) == (1, None)
    whole = rows.row(by_predicate=(pl.col("subset") == "all") & (pl.col("depth") == "all"), named=True)
    assert whole["mcc"] == pytest.approx(-1 / 3)
    assert "covered" not in assay_rows(assay(["M1L", "K2R"], [0, 1]), {"m": [0, 1]})["subset"]


def test_rows_name_the_assay_and_the_model_in_errors():
    table = assay(["M1L", "K2R"], [0, 1])
    with pytest.raises(DataError, match="assay 'a', model 'm': 3 scores for 2 variants"):
        assay_rows(table, {"m": [1, 2, 3]})
    with pytest.raises(DataError, match="assay 'a', model 'm': scores: 1 of 2 values is NaN"):
        assay_rows(table, {"m": [1, np.nan]})
    assert assay_rows(table, {"m": [1, np.nan]}, missing="skip")["n_skipped"].to_list() == [1, 1]
    with pytest.raises(DataError, match="coverage of 3 variants, not 2"):
        assay_rows(table, {"m": [1, 2]}, covered=np.array([True] * 3))


def cells(rows, **more):
    """Rows of assay, uniprot, function, model, value."""
    names = ["assay", "uniprot", "function", "model", "spearman"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(**more)


HAND = cells(
    [
        ("a1", "P", "Activity", "m", 0.1),
        ("a2", "P", "Activity", "m", 0.3),
        ("a3", "Q", "Activity", "m", 0.6),
        ("a4", "P", "Stability", "m", 0.8),
        ("a5", "R", "Stability", "m", None),
        ("a6", "S", "Binding", "m", 0.5),
        ("a5", "R", "Stability", "n", 0.2),
    ]
)


def test_averages_are_assay_then_protein_then_function():
    """m: Activity ((0.1 + 0.3) / 2 + 0.6) / 2 = 0.4; Stability 0.8 of one protein; Binding 0.5."""
    lines = {row["model"]: row for row in average_assays(HAND, ["spearman"]).iter_rows(named=True)}
    m = lines["m"]
    assert (m["function_Activity"], m["function_Binding"], m["function_Stability"]) == pytest.approx(
        (0.4, 0.5, 0.8)
    )
    assert m["average"] == pytest.approx((0.4 + 0.5 + 0.8) / 3)
    assert (m["n_assays"], m["n_missing"], m["n_proteins"], m["n_functions"]) == (5, 1, 3, 3)
    n = lines["n"]
    assert (n["average"], n["n_assays"], n["n_missing"], n["n_functions"]) == (0.2, 1, 5, 1)
    assert n["function_Activity"] is None


def test_missing_cells_are_named():
    """m has a null for a5, n no line for five assays; NaN counts as null."""
    named = missing_cells(HAND, ["spearman"])
    assert named.filter(pl.col("model") == "m")["assay"].to_list() == ["a5"]
    assert named.filter(pl.col("model") == "n")["assay"].to_list() == ["a1", "a2", "a3", "a4", "a6"]
    holed = HAND.with_columns(pl.col("spearman").fill_null(math.nan))
    assert missing_cells(holed, ["spearman"]).equals(named)
    assert average_assays(holed, ["spearman"]).equals(average_assays(HAND, ["spearman"]))


def test_breakdowns_are_over_proteins_whatever_their_function():
    """Human: P (0.1 + 0.3 + 0.8) / 3 = 0.4 and Q 0.6. Depth 2: units P/Activity 0.2 and P/Stability 0.8."""
    human = HAND.filter(pl.col("model") == "m", pl.col("uniprot").is_in(["P", "Q"]))
    table = human.with_columns(taxon=pl.lit("Human"), msa_depth=pl.lit("Low"), depth=pl.lit("all"))
    doubles = table.filter(pl.col("uniprot") == "P").with_columns(depth=pl.lit("2"))
    line = average_assays(pl.concat([table, doubles]), ["spearman"]).row(0, named=True)
    assert (line["taxon_Human"], line["msa_depth_Low"], line["depth_2"]) == pytest.approx((0.5, 0.5, 0.5))
    assert line["average"] == pytest.approx((0.4 + 0.8) / 2)
    assert "depth_1" not in line


def test_subsets_and_metrics_are_averaged_apart_and_ranked():
    table = pl.concat(
        [
            HAND.with_columns(subset=pl.lit("all"), auroc=pl.lit(0.75)),
            HAND.with_columns(subset=pl.lit("covered"), auroc=pl.lit(0.5), spearman=-pl.col("spearman")),
        ]
    )
    lines = average_assays(table, ["spearman", "auroc"])
    order = lines.filter(pl.col("metric") == "spearman").select("subset", "model").rows()
    assert order == [("all", "m"), ("all", "n"), ("covered", "n"), ("covered", "m")]
    assert lines.filter(pl.col("metric") == "auroc", pl.col("subset") == "covered")["average"].to_list() == [
        0.5,
        0.5,
    ]


def test_an_assay_without_protein_is_its_own_and_without_function_one_class():
    table = HAND.filter(pl.col("model") == "m").drop("uniprot", "function").drop_nulls()
    line = average_assays(table, ["spearman"]).row(0, named=True)
    assert line["average"] == line["function_all"] == pytest.approx((0.1 + 0.3 + 0.6 + 0.8 + 0.5) / 5)


def test_tables_that_would_give_wrong_averages_are_refused():
    with pytest.raises(DataError, match="two lines for one model for 1 of the assays: a1"):
        average_assays(pl.concat([HAND, HAND.head(1)]), ["spearman"])
    with pytest.raises(DataError, match="two sets of facts for 1 of the assays: a5"):
        average_assays(
            HAND.with_columns(uniprot=pl.col("uniprot") + pl.col("model").replace("m", "")), ["spearman"]
        )
    holed = HAND.with_columns(function=pl.col("function").replace("Binding", None))
    with pytest.raises(DataError, match="1 of 6 assays have no function class: a6"):
        average_assays(holed, ["spearman"])
    with pytest.raises(DataError, match="no column 'auroc'"):
        average_assays(HAND, ["auroc"])


@pytest.fixture(scope="module")
def synthetic():
    """40 assays of 30 proteins in three classes, three models, a few cells missing."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        level = generator.normal(0.4, 0.15)
        facts = (f"a{number}", f"P{number % 30}", ["Activity", "Binding", "Stability"][number % 7 % 3])
        for shift, model in enumerate(["one", "two", "three"]):
            value = None if (number, model) in {(3, "two"), (17, "three")} else level - 0.05 * shift
            rows.append((*facts, model, value if value is None else value + generator.normal(0, 0.05)))
    return cells(rows)


def test_the_bootstrap_averages_are_the_averages(synthetic):
    lines = bootstrap_averages(synthetic, "spearman", num_draws=200)
    averages = average_assays(synthetic, ["spearman"])
    assert lines["model"].to_list() == averages["model"].to_list()
    for name in ("average", "n_assays", "n_proteins"):
        assert lines[name].to_list() == pytest.approx(averages[name].to_list(), abs=1e-12)
    assert (lines["low"] < lines["average"]).all()
    assert (lines["average"] < lines["high"]).all()


def test_the_standard_error_is_that_of_stratified_means(synthetic):
    """Closed form without missing cells: the square root of (Σ of variance / proteins) over classes."""
    complete = synthetic.filter(~pl.col("assay").is_in(["a3", "a17"]))
    units = complete.group_by("model", "function", "uniprot").agg(pl.col("spearman").mean())
    wide = units.pivot("model", index=["function", "uniprot"], values="spearman")
    lines = bootstrap_averages(complete, "spearman", num_draws=10_000)
    best = lines["model"][0]
    assert lines["standard_error"][0] == 0
    for model, error in lines.select("model", "standard_error").rows()[1:]:
        by_class = wide.with_columns(gap=pl.col(model) - pl.col(best)).group_by("function")
        parts = by_class.agg(pl.col("gap").var(ddof=0) / pl.len())["gap"]
        assert error == pytest.approx(math.sqrt(parts.sum()) / len(parts), rel=0.03)


def test_classes_are_resampled_independently_for_the_standard_error():
    """One gap per protein, 0 or 1 by turns, alike in two classes: variance 1/4, so sqrt(1/4 / 40 / 2)."""
    rows = [
        (f"{function}{number}", f"P{number}", function, model, (number % 2) * (model == "good"))
        for function in ("Activity", "Stability")
        for number in range(40)
        for model in ("good", "poor")
    ]
    lines = bootstrap_averages(cells(rows).with_columns(pl.col("spearman").cast(pl.Float64)), "spearman")
    assert lines["model"].to_list() == ["good", "poor"]
    assert lines["standard_error"].to_list() == pytest.approx([0, math.sqrt(1 / 4 / 40 / 2)], rel=0.04)


def test_the_interval_resamples_proteins_with_all_their_assays(synthetic):
    """Brute force: draw proteins, average what was drawn as often as it was."""
    one = synthetic.filter(pl.col("model") == "one")
    units = one.group_by("uniprot", "function").agg(pl.col("spearman").mean())
    proteins = units["uniprot"].unique().sort().to_list()
    held = {
        name: units.filter(pl.col("uniprot") == name).select("function", "spearman").rows()
        for name in proteins
    }
    generator = np.random.default_rng(1)
    averages = []
    for _ in range(4000):
        by_class = {}
        for name in generator.choice(proteins, size=len(proteins)):
            for function, value in held[name]:
                by_class.setdefault(function, []).append(value)
        averages.append(np.mean([np.mean(values) for values in by_class.values()]))
    line = bootstrap_averages(one, "spearman").row(0, named=True)
    width = np.quantile(averages, 0.975) - np.quantile(averages, 0.025)
    assert line["high"] - line["low"] == pytest.approx(width, rel=0.05)
    assert line["low"] == pytest.approx(np.quantile(averages, 0.025), abs=0.05 * width)


def test_the_paired_difference_is_on_common_cells(synthetic):
    """Missing: a3 of two, a17 of three; the difference is that of averages without both assays."""
    found = compare_averages(synthetic, "spearman", "two", "three")
    common = synthetic.filter(~pl.col("assay").is_in(["a3", "a17"]))
    averages = dict(average_assays(common, ["spearman"]).select("model", "average").rows())
    assert found.value == pytest.approx(averages["two"] - averages["three"], abs=1e-12)
    assert found.n == 38
    assert found.low < found.value < found.high
    mirrored = compare_averages(synthetic, "spearman", "three", "two")
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


def test_a_shift_common_to_all_assays_is_certain(synthetic):
    one = synthetic.filter(pl.col("model") == "one")
    worse = one.with_columns(model=pl.lit("worse"), spearman=pl.col("spearman") - 0.25)
    table = pl.concat([one, worse])
    found = compare_averages(table, "spearman", "one", "worse")
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)
    line = bootstrap_averages(table, "spearman").row(1, named=True)
    assert (line["model"], line["best"]) == ("worse", "one")
    assert (line["difference"], line["standard_error"]) == pytest.approx((-0.25, 0), abs=1e-12)
    assert line["high"] - line["low"] > 0.05


def test_draws_depend_on_the_seed_alone(synthetic):
    first = bootstrap_averages(synthetic, "spearman", num_draws=300, seed=4)
    assert first.equals(bootstrap_averages(synthetic, "spearman", num_draws=300, seed=4))
    other = bootstrap_averages(synthetic, "spearman", num_draws=300, seed=5)
    assert first["average"].equals(other["average"])
    assert not first["low"].equals(other["low"])
    assert first["standard_error"][1] != other["standard_error"][1]


def test_one_protein_or_a_model_without_a_cell_has_no_interval():
    lines = bootstrap_averages(HAND.filter(pl.col("assay").is_in(["a1", "a5"])), "spearman", num_draws=50)
    by_model = {row["model"]: row for row in lines.iter_rows(named=True)}
    assert by_model["m"]["average"] == 0.1
    assert by_model["m"]["low"] is None
    m = HAND.filter(pl.col("model") == "m")
    empty = pl.concat([m, m.with_columns(model=pl.lit("none"), spearman=pl.lit(None, pl.Float64))])
    last = bootstrap_averages(empty, "spearman", num_draws=50).row(-1, named=True)
    assert (last["model"], last["n_assays"]) == ("none", 0)
    assert last["average"] is last["low"] is last["standard_error"] is None


def test_bootstraps_that_make_no_sense_are_refused(synthetic):
    with pytest.raises(ConfigError, match="num_draws"):
        bootstrap_averages(synthetic, "spearman", num_draws=1)
    with pytest.raises(ConfigError, match="confidence"):
        compare_averages(synthetic, "spearman", "one", "two", confidence=95)
    with pytest.raises(DataError, match="no model 'tow'"):
        compare_averages(synthetic, "spearman", "one", "tow")
    with pytest.raises(DataError, match="no subset 'covered'"):
        bootstrap_averages(synthetic, "spearman", subset="covered")
    with pytest.raises(DataError, match="no assay in common"):
        compare_averages(HAND, "spearman", "m", "n")


@pytest.fixture(scope="module")
def published(shared_data):
    """ProteinGym's table of assays × models as lines, and its summary."""
    folder = shared_data / "proteingym"
    summary = pl.read_csv(folder / "zero_shot_Spearman_summary.csv")
    wide = pl.read_csv(folder / "zero_shot_Spearman_DMS_level.csv.gz").rename({"DMS ID": "assay"})
    lines = wide.unpivot(summary["Model_name"], index="assay", variable_name="model", value_name="spearman")
    facts = read_reference(folder / "DMS_substitutions_reference.csv.gz")
    names = ("uniprot", "function", "taxon", "msa_depth")
    known = [{"assay": name} | {each: getattr(facts[name], each) for each in names} for name in facts]
    return lines.join(pl.DataFrame(known), on="assay"), summary


@pytest.mark.parametrize("column", BREAKDOWNS)
def test_published_averages_of_all_97_models_are_reproduced(published, column):
    lines, summary = published
    joined = average_assays(lines, ["spearman"]).join(summary, left_on="model", right_on="Model_name")
    assert joined.height == 97
    assert (joined[column] - joined[BREAKDOWNS[column]]).abs().max() <= TOLERANCE


def test_published_ranks_and_the_17_missing_cells(published):
    lines, summary = published
    averages = average_assays(lines, ["spearman"])
    assert averages["model"].to_list() == summary["Model_name"].to_list()
    missing = missing_cells(lines, ["spearman"])
    assert (missing.height, set(missing["model"])) == (17, {"Protriever"})
    assert averages["n_missing"].sum() == 17


def test_published_standard_errors_are_reproduced(published):
    """Theirs are unseeded and have three decimals: half a unit, and 2 % for two samples of draws."""
    lines, summary = published
    found = bootstrap_averages(lines, "spearman")
    joined = found.join(summary, left_on="model", right_on="Model_name")
    assert set(found["best"]) == {"AIDO Protein-RAG (16B)"}
    gap = (joined["standard_error"] - joined["Bootstrap_standard_error_Spearman"]).abs()
    assert (gap <= TOLERANCE + 0.02 * joined["standard_error"]).all()


def test_published_esm1v_scores_give_the_published_correlations(shared_data):
    """Meier et al. judged the 4,788 variants that alignment methods score; all 4,996 give 0.017 less."""
    folder, _ = find_assays(shared_data / "dms")
    path, facts = next(each for each in folder.assays if each[1].id == "BLAT_ECOLX_Ranganathan2015")
    real = read_assay(path, facts)
    table = pl.read_csv(path, separator="\t")
    assert table["mutant"].to_list() == real.mutants
    scores = table.select(pl.mean_horizontal(pl.col("^esm1v_t33_650M_UR90_[1-5]$"))).to_series()
    uncovered = np.isin(np.arange(24, 287), [*range(24, 30), 56, 238, 284, 285, 286])
    rows = assay_rows(real, {"esm1v": scores.to_numpy()}, covered=real.covered(~uncovered))
    found = {row["subset"]: row for row in rows.filter(pl.col("depth") == "all").iter_rows(named=True)}
    assert (found["all"]["n"], found["covered"]["n"]) == (4996, 4788)
    assert found["all"]["spearman"] == pytest.approx(0.702581, abs=1e-6)
    assert found["covered"]["spearman"] == pytest.approx(0.719916, abs=1e-6)
