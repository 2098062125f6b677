"""Values of variants: recall of one end, baselines of the untuned model, replicates, paired comparisons."""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from fixtures.builders import lively_esm
from protlm.errors import ConfigError, DataError, RunError
from protlm.evaluation.learners import STRENGTHS
from protlm.models.heads import HeadConfig, head_facts
from protlm.models.loading import load_model
from protlm.recipes.finetune import finetune
from protlm.recipes.finetune_baselines import embeddings, one_hot, regress
from protlm.recipes.finetune_config import FinetuneConfig
from protlm.recipes.finetune_split import subset
from protlm.recipes.finetune_zero_shot import zero_shot
from protlm.report.finetuning_differences import (
    difference_lines,
    differences_section,
    finetuning_differences,
)
from protlm.report.sources import RunSource
from protlm.statistics.metrics import spearman, top_recall
from protlm.types.record import Chain, Record, Role
from protlm.types.target import LabelledRecords, Target

QUIET = {"say": lambda _: None, "device": "cpu"}
WILD_TYPE = "MKTAYIAKQRQISFVKSHFS"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    lively_esm(hidden_size=8, num_heads=2).save(folder)
    return str(folder)


def variants(count, *, seed=0):
    """Up to three letters of the wild type exchanged; each site and letter has its own effect."""
    random = np.random.default_rng(seed)
    rows, values = [], []
    while len(rows) < count:
        letters, value = list(WILD_TYPE), 0.0
        for site in random.choice(8, size=int(random.integers(1, 4)), replace=False).tolist():
            letters[site] = "ACDEFGHIKL"[int(random.integers(10))]
            value += (ord(letters[site]) * 31 + site * 17) % 23 / 10
        if "".join(letters) not in rows:
            rows.append("".join(letters))
            values.append(value)
    return rows, values


@pytest.fixture
def table(tmp_path):
    rows, values = variants(90)
    columns = {"id": [f"v{n}" for n in range(90)], "sequence": rows, "kd": values}
    pl.DataFrame(columns).write_csv(tmp_path / "data.tsv", separator="\t")
    return str(tmp_path / "data.tsv")


def config(model, table, *, steps=20, **values):
    data = {"input": table, "target": "kd", "kind": "value", "random": True, "holdout": 0.3, "best": "low"}
    data |= values.pop("data", {})
    training = {"max_steps": steps, "eval_every": 10, **values.pop("training", {})}
    return FinetuneConfig.from_dict(
        {"model": model, "data": data, "training": training, "num_draws": 50, **values}
    )


def metrics_of(run):
    return pl.read_parquet(run.table_path("finetune_metrics"))


def test_recall_is_of_the_end_that_is_best_and_missing_where_it_is_not_said(model, table, tmp_path):
    run = finetune(config(model, table), tmp_path / "run", cache=tmp_path / "c", **QUIET)
    found = pl.read_parquet(run.table_path("predictions"))
    given, truth = found["predicted"].to_numpy(), found["truth"].to_numpy()
    row = metrics_of(run).filter(kind="model", metric="top_recall").row(0, named=True)
    assert row["value"] == pytest.approx(top_recall(-given, -truth))
    assert row["low"] <= row["value"] <= row["high"]
    silent = finetune(
        config(model, table, data={"best": None}), tmp_path / "b", cache=tmp_path / "c", **QUIET
    )
    assert "top_recall" not in set(metrics_of(silent)["metric"])


def test_baselines_stand_beside_every_subset_and_seed_and_are_of_the_untuned_model(model, table, tmp_path):
    shared = {"seeds": [0, 1], "subsets": ["50%", "all"]}
    frozen = finetune(config(model, table, **shared), tmp_path / "a", cache=tmp_path / "c", **QUIET)
    training = {"step_tokens": 200, "optimizer": {"learning_rate": 0.05, "warmup_steps": 1}}
    full = config(model, table, adapt={"kind": "full"}, training=training, **shared)
    tuned = finetune(full, tmp_path / "b", cache=tmp_path / "c", **QUIET)
    names = {"mean", "length", "composition", "one_hot", "embeddings", "zero_shot, pseudo_log_likelihood"}
    for run in (frozen, tuned):
        own = metrics_of(run).filter(kind="baseline")
        assert {name for (name, _), _ in own.group_by("method", "subset")} == names
        assert (own["n_seeds"] == 2).all()
        assert set(own["subset"]) == {"50%", "all"}
    ours, theirs = (metrics_of(run).filter(kind="baseline").drop("sd_over_seeds") for run in (frozen, tuned))
    assert ours.equals(theirs)
    likelihood = metrics_of(frozen).filter(pl.col("method").str.starts_with("zero_shot"))
    assert set(likelihood["metric"]) == {"spearman", "pearson", "top_recall"}  # it has no unit
    assert likelihood.filter(metric="spearman")["value"].n_unique() == 1  # and learns nothing
    gap = pl.read_parquet(frozen.table_path("finetune_differences")).filter(
        subset="all", second="one_hot", metric="spearman"
    )
    assert gap["difference"][0] == pytest.approx(gap["first_value"][0] - gap["second_value"][0])


def test_plain_baselines_see_no_model(model, table, tmp_path):
    run = finetune(config(model, table, baselines="plain"), tmp_path / "a", cache=tmp_path / "c", **QUIET)
    assert set(metrics_of(run).filter(kind="baseline")["method"]) == {"mean", "length", "composition"}


def labelled_variants(count=80):
    rows, values = variants(count)
    records = [Record(f"v{n}", (Chain(row),)) for n, row in enumerate(rows)]
    return LabelledRecords(records, Target("value", "sequence", name="kd", best="low"), values)


def test_one_hot_ridge_is_chosen_on_the_validation_records_alone():
    labelled = labelled_variants()
    train, valid, test = np.arange(40), np.arange(40, 60), np.arange(60, 80)
    features, _ = one_hot(labelled.records, labelled.target)
    letters = np.array([list(record.chains[0].residues) for record in labelled.records])
    columns = []
    for site in range(letters.shape[1]):
        names, counts = np.unique(letters[:, site], return_counts=True)
        columns += [letters[:, site] == name for name in np.delete(names, counts.argmax())]
    table, values = np.stack(columns, axis=1).astype(float), np.array(labelled.values)
    fits = [Ridge(alpha=1 / each).fit(table[train], values[train]) for each in STRENGTHS]
    errors = [((fit.predict(table[valid]) - values[valid]) ** 2).mean() for fit in fits]
    best = fits[int(np.argmin(errors))]
    assert int(np.argmin(errors)) > 0, "the weakest or the strongest penalty would prove little"
    found = np.concatenate(regress(features, labelled, train, valid, test))
    np.testing.assert_allclose(found, best.predict(table[test]), atol=1e-3)
    other = list(labelled.values)
    other[60:] = np.random.default_rng(0).normal(size=20).tolist()
    changed = LabelledRecords(labelled.records, labelled.target, other)
    assert np.array_equal(found, np.concatenate(regress(features, changed, train, valid, test)))
    judged = np.concatenate(regress(features, labelled, train, test, test))
    middle = fits[len(STRENGTHS) // 2].predict(table[test])  # records that are judged choose nothing
    np.testing.assert_allclose(judged, middle, atol=1e-3)


@pytest.mark.parametrize("is_sparse", [True, False])
def test_a_regression_does_not_depend_on_the_unit_of_the_values(is_sparse):
    labelled = labelled_variants()
    train, valid, test = np.arange(40), np.arange(40, 60), np.arange(60, 80)
    table, _ = one_hot(labelled.records, labelled.target)
    features = table if is_sparse else table.toarray()
    ours = np.concatenate(regress(features, labelled, train, valid, test))
    in_molar = LabelledRecords(labelled.records, labelled.target, [1e-9 * each for each in labelled.values])
    theirs = np.concatenate(regress(features, in_molar, train, valid, test))
    assert len(np.unique(ours)) > 10
    np.testing.assert_allclose(1e9 * theirs, ours, atol=1e-6)


def test_settings_of_a_value_are_refused_where_they_would_do_nothing(model, table, tmp_path):
    frame = pl.read_csv(table, separator="\t").with_columns(binds=(pl.col("kd") > 2).cast(int))
    frame.write_csv(tmp_path / "b.tsv", separator="\t")
    data = {"input": str(tmp_path / "b.tsv"), "target": "binds", "kind": "auto", "best": None}
    for name, value in (("best", "low"), ("wild_type", WILD_TYPE), ("replicates", "error")):
        with pytest.raises(ConfigError, match=f"'{name}.*' is for a value, and 'binds' is binary"):
            finetune(config(model, table, data={**data, name: value}), tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_a_wild_type_that_is_not_there_is_found_before_anything_is_written(model, table, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        finetune(config(model, table, data={"wild_type": "nowhere.fasta"}), tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_records_too_long_for_a_likelihood_leave_only_it_out(model):
    encoder, labelled = load_model(model), labelled_variants(5)
    encoder.layout = replace(encoder.layout, max_tokens=10)
    found = zero_shot(encoder, labelled.records, np.arange(5), most_contexts=10_000)
    assert not found.scores
    assert "no baseline 'zero_shot'" in found.lines[-1]


def test_why_there_is_no_one_hot_is_said():
    single = Target("value", "sequence")
    assert one_hot([Record("a", (Chain("MKT"),)), Record("b", (Chain("MK"),))], single)[0] is None
    pairs = [Record(n, (Chain("MKT"), Chain("MKA"))) for n in "ab"]
    table, reason = one_hot(pairs, Target("value", "pair"))
    assert table is None
    assert "no roles" in reason


def test_antibodies_of_several_lengths_are_laid_out_by_position():
    vh = (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
        "SRWGG{}DGFYAMDYWGQGTLVTVSS"
    )
    records = [Record(str(n), (Chain(vh.format("A" * n), Role.HEAVY),)) for n in range(3)]
    table, _ = one_hot(records, Target("value", "sequence"))
    assert table is not None
    assert table.shape[0] == 3
    assert 1 <= table.shape[1] < 20  # all but the inserted places agree


def test_embeddings_of_pairs_without_roles_do_not_depend_on_the_order(model, tmp_path):
    encoder = load_model(model)
    pairs = [Record(n, (Chain(a), Chain(b))) for n, a, b in (("x", "MKTAYW", "QISF"), ("y", "MKT", "VKSHFS"))]
    turned = [Record(pair.id, pair.chains[::-1]) for pair in pairs]
    facts = head_facts(Target("value", "pair"), HeadConfig(), 8, pairs)
    ours, theirs = (embeddings(encoder, each, facts, tmp_path) for each in (pairs, turned))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_masked_marginals_and_pseudo_likelihood_are_those_of_score(model):
    import protlm

    encoder, labelled = load_model(model), labelled_variants(12)
    rows = np.arange(12)
    texts = [record.chains[0].residues for record in labelled.records]
    names = [
        ":".join(
            f"{old}{n}{new}" for n, (old, new) in enumerate(zip(WILD_TYPE, own, strict=True), 1) if old != new
        )
        for own in texts
    ]
    expected = protlm.score(encoder, WILD_TYPE, names, plan="masked_marginal")["score"].to_numpy()
    found = zero_shot(encoder, labelled.records, rows, wild_type=WILD_TYPE, most_contexts=0)
    assert found.name == "zero_shot, masked_marginal"
    np.testing.assert_allclose([found.scores[row] for row in range(12)], expected, atol=1e-5)
    low = zero_shot(encoder, labelled.records, rows, wild_type=WILD_TYPE, most_contexts=0, best="low")
    np.testing.assert_allclose([low.scores[row] for row in range(12)], -expected, atol=1e-5)
    for plan, most in (("pseudo_log_likelihood", 10_000), ("one_fell_swoop", 0)):
        expected = protlm.score(encoder, WILD_TYPE, names, plan=plan)["score"].to_numpy()
        found = zero_shot(encoder, labelled.records, rows, most_contexts=most)
        assert found.name == f"zero_shot, {plan}"
        ours = np.array([found.scores[row] for row in range(12)]) * len(WILD_TYPE)
        np.testing.assert_allclose(ours - ours[0], expected - expected[0], atol=1e-4)
        assert np.ptp(expected) > 0.01


def test_a_wild_type_of_another_length_is_said(model):
    labelled = labelled_variants(5)
    found = zero_shot(
        load_model(model), labelled.records, np.arange(5), wild_type=WILD_TYPE[:-1], most_contexts=0
    )
    assert found.name == "zero_shot, one_fell_swoop"
    assert "5 of 5 records differ in length" in found.lines[0]


@pytest.fixture
def replicated(tmp_path):
    """Three measurements of each of 30 inputs, under ids of their own."""
    rows, values = variants(30)
    shift = [-0.5, 0.0, 0.8]
    columns = {
        "id": [f"v{n}-{copy}" for copy in range(3) for n in range(30)],
        "sequence": rows * 3,
        "kd": [value + shift[copy] for copy in range(3) for value in values],
        "lab": [f"l{copy}{n % 15}" for copy in range(3) for n in range(30)],
    }
    pl.DataFrame(columns).write_csv(tmp_path / "replicated.tsv", separator="\t")
    return str(tmp_path / "replicated.tsv"), dict(zip(rows, values, strict=True))


def test_replicates_are_averaged_and_counted(model, replicated, tmp_path):
    path, values = replicated
    run = finetune(config(model, path), tmp_path / "run", cache=tmp_path / "c", **QUIET)
    facts = run.read_json("data_manifest.json")
    assert facts["num_records"] == 30
    (line,) = [line for line in facts["lines"] if "several values" in line]
    assert "90 records are 30 inputs" in line
    assert f"sd {np.std([-0.5, 0.0, 0.8], ddof=1):.3g} inside" in line
    found = pl.read_parquet(run.table_path("predictions"))
    asked = {f"v{n}-0": value + 0.1 for n, value in enumerate(values.values())}
    for row in found.iter_rows(named=True):
        assert row["truth"] == pytest.approx(asked[row["id"]])


def test_kept_replicates_stay_on_one_side_and_in_one_subset(model, replicated, tmp_path):
    path, _ = replicated
    settings = config(model, path, data={"replicates": "keep"}, subsets=["20%", "50%", "all"], steps=2)
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "c", **QUIET)
    found = pl.read_parquet(run.table_path("predictions")).filter(subset="all")
    inputs = found["id"].str.split("-").list.first()
    assert (inputs.value_counts()["count"] == 3).all()
    assert found.group_by("group").len()["len"].to_list() == [3] * inputs.n_unique()
    sizes = metrics_of(run).filter(kind="model", metric="rmse")["num_train"].to_list()
    assert all(size % 3 == 0 for size in sizes)
    with pytest.raises(DataError, match="90 records are 30 inputs"):
        finetune(config(model, path, data={"replicates": "error"}), tmp_path / "e", **QUIET)


def test_averaging_keeps_what_the_groups_of_the_parts_were(model, replicated, tmp_path):
    path, _ = replicated
    data = {"by": ["lab"], "random": False}
    run = finetune(config(model, path, data=data, steps=2), tmp_path / "run", cache=tmp_path / "c", **QUIET)
    found = pl.read_parquet(run.table_path("predictions"))
    numbers = {int(name[1:].split("-")[0]) for name in found["id"]}
    assert {number % 15 for number in numbers} == {n % 15 for n in range(30) if n in numbers}
    assert all((number + 15) % 30 in numbers for number in numbers)  # both of a lab are on one side


def test_equal_inputs_are_drawn_together_whatever_their_ids():
    records = [Record(f"{copy}{n}", (Chain(row),)) for n, row in enumerate(variants(20)[0]) for copy in "abc"]
    drawn = [subset(records, np.arange(60), size, seed=3) for size in (10, 20, 30)]
    assert [len(own) for own in drawn] == [12, 21, 30]
    assert all({row // 3 for row in own} == {row // 3 for row in own[::3]} for own in drawn)
    assert set(drawn[0]) < set(drawn[1]) < set(drawn[2])


def test_a_task_refuses_another_policy():
    data = {"task": "avgfp", "task_data": ["here"], "replicates": "keep"}
    with pytest.raises(ConfigError, match="averages equal records"):
        FinetuneConfig.from_dict({"model": "m", "data": data})


def test_two_runs_are_compared_on_the_same_draws(model, table, tmp_path):
    shared = {"seeds": [0, 1, 2], "subsets": ["50%", "all"]}
    one = finetune(config(model, table, steps=40, **shared), tmp_path / "one", cache=tmp_path / "c", **QUIET)
    settings = config(model, table, steps=2, **{**shared, "seeds": [1, 2]})
    other = finetune(settings, tmp_path / "other", cache=tmp_path / "c", **QUIET)
    sources = [RunSource("one", one), RunSource("other", other)]
    found = finetuning_differences(sources, num_draws=200)
    row = found.filter(subset="50%", metric="spearman").row(0, named=True)
    means = []
    for run in (one, other):
        own = pl.read_parquet(run.table_path("predictions")).filter(pl.col("seed") > 0, subset="50%")
        by_seed = [
            spearman(part["predicted"].to_numpy(), part["truth"].to_numpy())
            for _, part in own.group_by("seed", maintain_order=True)
        ]
        means.append(np.array(by_seed))
    assert row["n_seeds"] == 2
    assert row["difference"] == pytest.approx(means[0].mean() - means[1].mean())
    assert row["sd_over_seeds"] == pytest.approx((means[0] - means[1]).std(ddof=1))
    assert row["low"] < row["difference"] < row["high"]
    shutil.copytree(one.path, tmp_path / "copy")
    same = finetuning_differences([sources[0], RunSource("copy", type(one)(tmp_path / "copy"))], num_draws=50)
    assert same.select("difference", "low", "high").to_numpy().tolist() == [[0.0] * 3] * len(same)
    assert "one minus other" in difference_lines(found)[0]
    section = differences_section(sources)
    assert section is not None
    assert len(section.blocks) == 2


def test_what_was_not_judged_on_the_same_records_is_not_compared(model, table, tmp_path):
    one = finetune(config(model, table, steps=2), tmp_path / "one", cache=tmp_path / "c", **QUIET)
    settings = config(model, table, steps=2, data={"seed": 5})
    other = finetune(settings, tmp_path / "other", cache=tmp_path / "c", **QUIET)
    with pytest.raises(RunError, match="was judged on 27 rows, 'b' on 27, of which"):
        finetuning_differences([RunSource("a", one), RunSource("b", other)], num_draws=10)
    section = differences_section([RunSource("a", one), RunSource("b", other)])
    assert section is not None
    assert "Not compared" in section.blocks[0].text
    with pytest.raises(RunError, match="nothing to compare"):
        finetuning_differences([RunSource("a", one)])


def test_other_groups_are_not_compared_and_other_training_sizes_are_said(model, table, tmp_path):
    side = pl.when(pl.int_range(90) < 30).then(pl.lit("test")).otherwise(pl.lit("train"))
    whole = pl.read_csv(table, separator="\t").with_columns(side=side, lab=pl.int_range(90) // 10)
    sources = []
    for name, frame, by in (("a", whole, []), ("b", whole.head(50), []), ("c", whole, ["lab"])):
        path = tmp_path / f"{name}.tsv"
        frame.write_csv(path, separator="\t")
        data = {"input": str(path), "split": "side", "by": by, "random": False, "holdout": None}
        settings = config(model, table, steps=2, data=data, baselines="plain")
        sources.append(
            RunSource(name, finetune(settings, tmp_path / name, cache=tmp_path / "cache", **QUIET))
        )
    sizes = [metrics_of(source.run).filter(kind="model")["num_train"][0] for source in sources[:2]]
    assert sizes[0] > sizes[1]
    lines = difference_lines(finetuning_differences(sources[:2], num_draws=10))
    assert f"all ({sizes[0]} and {sizes[1]} records)" in "\n".join(lines)
    with pytest.raises(RunError, match="in other groups, 30 and 3,"):
        finetuning_differences(sources[::2], num_draws=10)


def test_two_classes_have_one_hot_beside_them(model, table, tmp_path):
    frame = pl.read_csv(table, separator="\t")
    binds = (pl.col("sequence").str.slice(2, 1) == "T").cast(int)  # as in the wild type
    frame.with_columns(binds=binds).write_csv(tmp_path / "b.tsv", separator="\t")
    data = {"target": "binds", "kind": "binary", "best": None}
    run = finetune(
        config(model, str(tmp_path / "b.tsv"), data=data), tmp_path / "run", cache=tmp_path / "c", **QUIET
    )
    own = metrics_of(run).filter(method="one_hot")
    assert {"auroc", "auprc"} <= set(own["metric"])
    assert own.filter(metric="auroc")["value"][0] > 0.7
