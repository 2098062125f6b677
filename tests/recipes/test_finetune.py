"""finetune: heads that learn, are saved and judged; every way to train, to split and to be refused."""

import numpy as np
import polars as pl
import pytest

from fixtures.builders import lively_esm, random_residues
from fixtures.subwords import SUBWORDS
from protlm.errors import ConfigError, DataError, ModelError, RunError
from protlm.models.heads import HeadConfig
from protlm.models.loading import load_model
from protlm.models.predictor import load_predictor, load_predictors
from protlm.recipes.finetune import finetune
from protlm.recipes.finetune_config import FinetuneConfig

QUIET = {"say": lambda _: None, "device": "cpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    lively_esm(hidden_size=8, num_heads=2).save(folder)
    return str(folder)


def write(path, columns):
    pl.DataFrame(columns).write_csv(path, separator="\t")
    return str(path)


def sequences(count, *, seed=0, lengths=(8, 20)):
    """Half of them are rich in W, so that a class can be learned from their composition."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        letters = "WWWWACD" if number % 2 else "KRACDGG"
        rows.append(random_residues(random, int(random.integers(*lengths)), letters))
    return rows


@pytest.fixture
def table(tmp_path):
    rows = sequences(60)
    return write(
        tmp_path / "data.tsv",
        {
            "id": [f"p{number}" for number in range(60)],
            "sequence": rows,
            "label": ["rich" if number % 2 else "poor" for number in range(60)],
            "share": [row.count("W") / len(row) for row in rows],
            "donor": [f"d{number // 4}" for number in range(60)],
            "states": ["".join("h" if letter == "W" else "e" for letter in row) for row in rows],
        },
    )


def config(model, table, *, steps=30, **values):
    data = {"input": table, "target": "label", "folds": None, "by": ["donor"], "holdout": 0.3}
    data |= values.pop("data", {})
    training = {"max_steps": steps, "eval_every": 10, **values.pop("training", {})}
    return FinetuneConfig.from_dict(
        {"model": model, "data": data, "training": training, "num_draws": 50, **values}
    )


def value_of(run, metric, kind="model"):
    metrics = pl.read_parquet(run.table_path("finetune_metrics"))
    return metrics.filter((pl.col("kind") == kind) & (pl.col("metric") == metric))["value"][0]


def test_a_frozen_model_learns_a_class_and_leaves_what_it_promises(model, table, tmp_path):
    run = finetune(config(model, table, steps=150), tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    assert value_of(run, "auroc") > 0.9
    metrics = pl.read_parquet(run.table_path("finetune_metrics"))
    assert set(metrics["method"]) == {"run", "majority", "length", "composition"}
    own = metrics.filter(pl.col("metric") == "auroc")
    assert (own["low"] <= own["value"]).all()
    assert (own["value"] <= own["high"]).all()
    found = pl.read_parquet(run.table_path("predictions"))
    assert found["probability_rich"].is_between(0, 1).all()
    assert (found["predicted"] == "rich").equals(found["probability_rich"] > 0.5)
    sizes = run.read_json("data_manifest.json")["folds"][0]
    assert sizes["test"] == len(found)
    assert sizes["train"] + sizes["valid"] + sizes["test"] == 60


def test_features_are_read_once(model, table, tmp_path, monkeypatch):
    from protlm.models.language_model import LanguageModel

    finetune(config(model, table, steps=2), tmp_path / "a", cache=tmp_path / "cache", **QUIET)
    calls = []
    monkeypatch.setattr(LanguageModel, "hidden", lambda *_: calls.append(1))
    run = finetune(config(model, table, steps=2), tmp_path / "b", cache=tmp_path / "cache", **QUIET)
    assert run.is_done
    assert not calls


@pytest.mark.parametrize(
    ("adapt", "changed"),
    [
        ({"kind": "full"}, {"layer.0", "layer.1", "word_embeddings"}),
        ({"kind": "last", "layers": 1}, {"layer.1"}),
        ({"kind": "lora", "rank": 2}, {"layer.0", "layer.1"}),
    ],
)
def test_what_is_trained_changes_and_predicts_itself_after_loading(model, table, tmp_path, adapt, changed):
    from protlm.models.loading import load_model

    training = {"step_tokens": 200, "optimizer": {"learning_rate": 0.01, "warmup_steps": 1}}
    settings = config(model, table, steps=20, adapt=adapt, training=training)
    run = finetune(settings, tmp_path / "run", **QUIET)
    before, after = (
        load_model(model).module.state_dict(),
        load_predictor(run.path).encoder.module.state_dict(),
    )
    moved = {
        part
        for name, values in before.items()
        for part in ("layer.0", "layer.1", "word_embeddings")
        if part in name and values.is_floating_point() and not values.equal(after[name])
    }
    assert moved == changed
    assert run.adapter_path.exists() == (adapt["kind"] == "lora")


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_saved_and_loaded_it_predicts_the_same(model, table, tmp_path, kind, monkeypatch):
    """The Run predicts with the model as loaded; here the model in memory is asked too."""
    from protlm.recipes import finetune_part

    kept = []
    train = finetune_part.train

    def spy(trained, *arguments, **options):
        train(trained, *arguments, **options)
        kept.append(trained.eval())

    monkeypatch.setattr(finetune_part, "train", spy)
    training = {"step_tokens": 200, "keep": "last", "optimizer": {"learning_rate": 0.01, "warmup_steps": 1}}
    run = finetune(
        config(model, table, steps=10, adapt={"kind": kind}, training=training), tmp_path / "run", **QUIET
    )
    from protlm.data.readers import read_records

    records = read_records(table)
    first = np.stack(kept[0].predict(records))
    again = np.stack(load_predictor(run.path, device="cpu").predict(records))
    assert np.ptp(first[:, 1]) > 0.01
    np.testing.assert_allclose(first, again, atol=1e-6)


def test_a_number_comes_back_in_its_own_unit(model, table, tmp_path):
    data = {"target": "share"}
    run = finetune(
        config(model, table, steps=300, data=data), tmp_path / "run", cache=tmp_path / "c", **QUIET
    )
    assert value_of(run, "spearman") > 0.6
    found = pl.read_parquet(run.table_path("predictions"))
    assert abs(found["predicted"].mean() - found["truth"].mean()) < 0.15
    facts = load_predictor(run.path).head.facts
    assert 0 < facts.mean < 1
    assert facts.sd > 0


def test_residues_have_a_row_each_and_positions_count_from_one(model, table, tmp_path):
    data = {"target": "states", "level": "residue"}
    run = finetune(
        config(model, table, steps=100, data=data), tmp_path / "run", cache=tmp_path / "c", **QUIET
    )
    found = pl.read_parquet(run.table_path("predictions"))
    assert (found["position"] == found["index"] + 1).all()
    assert found["index"].min() == 0
    rows = {row["id"]: row for row in pl.read_csv(table, separator="\t").iter_rows(named=True)}
    for (name,), own in found.group_by("id"):
        assert own["truth"].str.join("").item() == rows[str(name)]["states"]
    assert value_of(run, "auroc") > 0.9


def test_seeds_folds_and_nested_subsets_have_models_and_a_curve(model, table, tmp_path):
    settings = config(
        model, table, steps=4, seeds=[0, 1], subsets=[10, 20, "all"], data={"holdout": None, "folds": 2}
    )
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    metrics = pl.read_parquet(run.table_path("finetune_metrics"))
    assert metrics.filter(pl.col("kind") == "model")["num_train"].unique().sort().to_list()[:2] == [10, 20]
    assert (metrics["n_seeds"] == 2).all()
    assert metrics["sd_over_seeds"].null_count() == 0
    members = load_predictors(run.path)
    assert len(members) == 4
    assert members[0].encoder is members[3].encoder
    found = pl.read_parquet(run.table_path("predictions"))
    assert found.filter(subset="all", seed=1)["id"].n_unique() == 60  # each record is judged once


def test_a_smaller_subset_is_inside_a_larger_one(model, table):
    from protlm.data.readers import read_records
    from protlm.recipes.finetune_split import subset

    records, rows = read_records(table), np.arange(5, 60)
    small, large = (set(subset(records, rows, size, seed=1).tolist()) for size in (8, 30))
    assert len(small) == 8
    assert small < large <= set(rows.tolist())
    assert small != set(subset(records, rows, 8, seed=2).tolist())
    turned = subset(records[::-1], np.arange(55), 8, seed=1)  # the order of the records does not matter
    assert {records[row].id for row in small} == {records[::-1][row].id for row in turned.tolist()}


@pytest.mark.parametrize("encoder", ["separate", "concatenated"])
def test_a_pair_is_the_same_in_both_orders(model, tmp_path, encoder):
    first, second = sequences(24), sequences(24, seed=1)
    table = write(
        tmp_path / "pairs.tsv",
        {"a": first, "b": second, "label": [number // 2 % 2 for number in range(24)]},
    )
    data = {"level": "pair", "first": "a", "second": "b", "by": ["chain"], "holdout": 0.3}
    settings = config(model, table, steps=5, data=data, head={"encoder": encoder, "hidden_size": 4})
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    from protlm.types.record import Chain, Record

    pairs = [
        Record(f"p{n}", (Chain(a), Chain(b))) for n, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    turned = [Record(pair.id, pair.chains[::-1]) for pair in pairs]
    predictor = load_predictor(run.path)
    ours, theirs = np.stack(predictor.predict(pairs)), np.stack(predictor.predict(turned))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.ptp(ours) > 0


def test_an_interrupted_run_goes_on_and_another_setting_is_refused(model, table, tmp_path, monkeypatch):
    from protlm.recipes import finetune as module

    settings = config(model, table, steps=4, seeds=[0, 1])
    whole = finetune(settings, tmp_path / "whole", cache=tmp_path / "cache", **QUIET)
    calls = []

    def stop(*arguments, **options):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments, **options)

    original = module.train_part
    monkeypatch.setattr(module, "train_part", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"seeds \(\[0, 1\], now \[0, 2\]\) changed"):
        finetune(
            config(model, table, steps=4, seeds=[0, 2]), tmp_path / "run", cache=tmp_path / "cache", **QUIET
        )
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    ours, theirs = (pl.read_parquet(each.table_path("predictions")) for each in (run, whole))
    assert ours.equals(theirs)


def test_shuffled_labels_are_the_same_ones_exchanged_inside_a_part():
    from protlm.recipes.finetune_part import shuffled
    from protlm.types.record import Chain, Record
    from protlm.types.target import LabelledRecords, Target

    records = [Record(f"r{number}", (Chain("MKT"),)) for number in range(40)]
    labelled = LabelledRecords(records, Target("value", "sequence"), list(map(float, range(40))))
    first, second = np.arange(0, 20), np.arange(20, 35)
    values = shuffled(labelled, [first, second], seed=1).values
    assert sorted(values[:20]) == list(range(20))
    assert sorted(values[20:35]) == list(range(20, 35))
    assert values[35:] == list(range(35, 40))  # those to judge on keep theirs
    assert sum(value == place for place, value in enumerate(values[:35])) < 10


def test_labels_that_several_may_hold(model, tmp_path):
    rows = sequences(40)
    labels = [";".join(name for name in "WG" if name in row) or "none" for row in rows]
    table = write(tmp_path / "t.tsv", {"sequence": rows, "label": labels})
    data = {"kind": "labels", "by": [], "random": True, "holdout": 0.4}
    run = finetune(
        config(model, table, steps=100, data=data), tmp_path / "run", cache=tmp_path / "c", **QUIET
    )
    found = pl.read_parquet(run.table_path("predictions"))
    assert {"probability_W", "probability_G"} < set(found.columns)
    assert value_of(run, "macro_auroc") > 0.7


def broken(table, path, **columns):
    frame = pl.read_csv(table, separator="\t").with_columns(**columns)
    frame.write_csv(path, separator="\t")
    return str(path)


def refuse(model, table, tmp_path, match, *, error=DataError, **data):
    with pytest.raises(error, match=match):
        finetune(config(model, table, steps=2, data=data), tmp_path / "no", cache=tmp_path / "c", **QUIET)
    assert not (tmp_path / "no").exists()


def test_missing_labels_are_an_error_or_counted(model, table, tmp_path):
    label = pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("NA")).otherwise(pl.col("label"))
    path = broken(table, tmp_path / "b.tsv", label=label)
    refuse(model, path, tmp_path, "3 of 60 records have no 'label'")
    settings = config(model, path, steps=2, data={"missing": "drop"})
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    assert run.read_json("data_manifest.json")["left_out"] == {"no 'label'": 3}


def test_a_class_of_one_is_an_error_or_counted(model, table, tmp_path):
    label = pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("odd")).otherwise(pl.col("label"))
    path = broken(table, tmp_path / "b.tsv", label=label)
    refuse(model, path, tmp_path, "1 of 3 classes of 'label' have one record: odd")
    settings = config(model, path, steps=2, data={"rare": "drop"})
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    assert sum(run.read_json("data_manifest.json")["left_out"].values()) == 1
    assert run.read_json("data_manifest.json")["target"]["classes"] == ["poor", "rich"]


def test_constant_targets_are_refused(model, table, tmp_path):
    refuse(model, broken(table, tmp_path / "b.tsv", label=pl.lit("same")), tmp_path, "the same for all")
    path = broken(table, tmp_path / "c.tsv", label=pl.lit(1.5))
    refuse(model, path, tmp_path, r"the same for all records \(1.5\)", kind="value")


def test_residue_labels_of_another_length_are_refused(model, table, tmp_path):
    path = broken(table, tmp_path / "b.tsv", states=pl.col("states") + "h")
    refuse(model, path, tmp_path, "residues and .* values of 'states'", target="states", level="residue")


def test_a_class_that_is_not_in_training_counts_as_wrong_and_is_said(model, table, tmp_path):
    rows = pl.read_csv(table, separator="\t")
    part = pl.when(pl.col("label") == "rich").then(pl.lit("test")).otherwise(pl.lit("train"))
    part = pl.when(pl.int_range(pl.len()) < 8).then(pl.lit("test")).otherwise(part)
    label = pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("third")).otherwise(pl.col("label"))
    rows.with_columns(part=part, label=label).write_csv(tmp_path / "b.tsv", separator="\t")
    said = []
    settings = config(
        model, str(tmp_path / "b.tsv"), steps=2, data={"split": "part", "holdout": None, "by": []}
    )
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", say=said.append, device="cpu")
    assert any("classes that are not in training, always wrong: rich 30" in line for line in said)
    found = pl.read_parquet(run.table_path("predictions"))
    assert len(found.filter(pl.col("truth") == "rich")) == 30


@pytest.mark.parametrize("policy", ["keep", "drop", "error"])
def test_pairs_that_straddle_a_split(model, tmp_path, policy):
    rows = sequences(24)
    table = write(
        tmp_path / "p.tsv",
        {
            "a": [*rows[:20], rows[0], rows[1], *rows[22:]],  # two chains of the test part are in training
            "b": sequences(24, seed=1),
            "label": [number // 2 % 2 for number in range(24)],
            "part": ["train"] * 18 + ["test"] * 6,
        },
    )
    data = {"level": "pair", "first": "a", "second": "b", "by": [], "holdout": None, "split": "part"}
    data |= {"straddling": policy, "validation": 0}
    if policy == "error":
        refuse(model, table, tmp_path, "2 of 6 pairs to judge on", **data)
        return
    run = finetune(config(model, table, steps=2, data=data), tmp_path / "run", cache=tmp_path / "c", **QUIET)
    assert len(pl.read_parquet(run.table_path("predictions"))) == (6 if policy == "keep" else 4)
    assert any("2 of 6 pairs" in line for line in run.read_json("data_manifest.json")["lines"])


def test_how_to_split_must_be_said(model, table, tmp_path):
    refuse(model, table, tmp_path, "say what to judge on", error=ConfigError, holdout=None)
    refuse(model, table, tmp_path, "say what stays on one side", error=ConfigError, by=[])
    refuse(model, table, tmp_path, "contradict", error=ConfigError, folds=3)


def full(model, table, **training):
    own = {"step_tokens": 120, "optimizer": {"learning_rate": 0.01, "warmup_steps": 1}, "keep": "last"}
    return config(model, table, steps=8, adapt={"kind": "full"}, training={**own, **training})


def test_a_training_that_is_cut_short_ends_with_the_same_bits(model, table, tmp_path, monkeypatch):
    from protlm.training.supervised_job import SupervisedJob

    settings = full(model, table, save_every=2, eval_every=4)
    whole = finetune(settings, tmp_path / "whole", **QUIET)
    steps = SupervisedJob.steps

    def until_fifth(self, first_step):
        for step, batches in steps(self, first_step):
            if step == 5:
                raise KeyboardInterrupt
            yield step, batches

    monkeypatch.setattr(SupervisedJob, "steps", until_fifth)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings, tmp_path / "run", **QUIET)
    monkeypatch.undo()
    run = finetune(settings, tmp_path / "run", **QUIET)
    ours, theirs = (pl.read_parquet(each.table_path("predictions")) for each in (run, whole))
    assert ours.equals(theirs)
    assert [line["step"] for line in run.metrics() if line["split"] == "eval"] == [0, 4, 8]


def test_small_passes_give_the_gradient_of_the_whole_step(model, table, tmp_path):
    """Without dropout, which differs from pass to pass."""
    whole = full(model, table).model_copy(update={"head": HeadConfig(dropout=0.0)})
    parts = full(model, table, micro_tokens=25).model_copy(update={"head": HeadConfig(dropout=0.0)})
    first = finetune(whole, tmp_path / "whole", **QUIET)
    second = finetune(parts, tmp_path / "parts", **QUIET)
    ours, theirs = (
        pl.read_parquet(each.table_path("predictions"))["probability_rich"].to_numpy()
        for each in (first, second)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_report_shows_metrics_curve_and_shortfall(model, table, tmp_path):
    from protlm.report.finetuning import finetuning_section
    from protlm.report.sources import RunSource

    settings = config(model, table, steps=2, subsets=[10, "all"])
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    section = finetuning_section(RunSource("run", run), {"run": "#0072B2"})
    assert section is not None
    texts = [block.text for block in section.blocks if hasattr(block, "text")]
    assert any("is not above the baseline 'composition' in AUROC" in text for text in texts)
    assert (
        sum(type(block).__name__ == "Table" for block in section.blocks) == 5
    )  # two of metrics, differences, identities, labels


def test_the_command_line_needs_no_file_of_settings(model, table, tmp_path):
    from typer.testing import CliRunner

    from protlm.cli.main import app

    words = ["finetune", "--model", model, "--input", table, "--target", "label", "--by", "donor"]
    words += ["--holdout", "0.3", "--seeds", "2", "--set", "training.max_steps=2", "--set", "num_draws=20"]
    out, cache = str(tmp_path / "run"), str(tmp_path / "cache")
    result = CliRunner().invoke(app, [*words, "--out", out, "--cache", cache, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "seed-1" in result.stdout
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(app, [*words, "--out", out, "--cache", cache, "--json"])
    assert result.exit_code == 0, result.output
    assert '"metric":"auroc"' in result.stdout


CARD = """
name: own
version: 1
title: Own numbers
about: Made for a test.
level: sequence
data:
  - name: own
    file: own.tsv
    id: id
    chains: [{column: sequence}]
    licence: none
    citation: none
    origin: made up
target: {kind: value, column: tm}
splits:
  - {name: given, column: part, train: [train], valid: [valid], test: [test]}
seeds: 1
baselines: [majority, composition]
"""


def test_a_task_card_brings_its_labels_and_folds(model, tmp_path):
    rows = sequences(40)
    write(
        tmp_path / "own.tsv",
        {
            "id": [f"p{number}" for number in range(40)],
            "sequence": rows,
            "tm": [row.count("W") / len(row) for row in rows],
            "part": [("train", "valid", "test", "train")[number % 4] for number in range(40)],
        },
    )
    (tmp_path / "card.yaml").write_text(CARD)
    data = {"task": str(tmp_path / "card.yaml"), "task_data": [str(tmp_path)]}
    settings = FinetuneConfig.from_dict(
        {"model": model, "data": data, "training": {"max_steps": 20}, "num_draws": 20}
    )
    run = finetune(settings, tmp_path / "run", cache=tmp_path / "cache", **QUIET)
    manifest = run.read_json("data_manifest.json")
    assert manifest["target"]["kind"] == "value"
    assert [(each["train"], each["valid"], each["test"]) for each in manifest["folds"]] == [(20, 10, 10)]
    found = pl.read_parquet(run.table_path("predictions"))
    assert found["id"].sort().to_list() == sorted(f"p{number}" for number in range(2, 40, 4))


def test_what_to_learn_must_be_said(model):
    with pytest.raises(ConfigError, match="either input and target, or a task"):
        FinetuneConfig.from_dict({"model": model, "data": {}})
    with pytest.raises(ConfigError, match="needs task_data"):
        FinetuneConfig.from_dict({"model": model, "data": {"task": "localisation"}})


def test_a_model_of_sub_words_has_no_residue_level(model, table, tmp_path, monkeypatch):
    words = load_model(model, device="cpu")
    words.layout = SUBWORDS
    monkeypatch.setattr("protlm.recipes.finetune.load_encoder", lambda *_: words)
    settings = config(model, table, steps=2, data={"target": "states", "level": "residue"})
    with pytest.raises(ModelError, match="finetune --level residue needs one residue per token"):
        finetune(settings, tmp_path / "run", **QUIET)


def test_a_share_of_the_training_records_is_rounded_up_and_nested(model, table):
    from protlm.data.readers import read_records
    from protlm.recipes.finetune_split import subset

    records, rows = read_records(table), np.arange(55)
    sizes = {share: subset(records, rows, share, seed=1) for share in ("20%", "50%", "99%")}
    assert [len(each) for each in sizes.values()] == [11, 28, 55]
    assert set(sizes["20%"].tolist()) < set(sizes["50%"].tolist())
    with pytest.raises(ConfigError, match="numbers or shares"):
        config(model, table, subsets=[10, "20%"])
    with pytest.raises(ConfigError, match="subsets"):
        config(model, table, subsets=["0%"])
