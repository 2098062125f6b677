"""evaluate tasks and evaluate pairs from end to end: controls, tables, cache, report, bad input."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.simulate import repertoire_frame, simulate_repertoire
from protlm.errors import ConfigError, DataError
from protlm.models.architectures import EsmArchitecture
from protlm.models.features import cached_features, record_features, with_random_weights
from protlm.models.loading import load_model
from protlm.recipes.evaluate_task import evaluate_pairs, evaluate_task, feature_folder
from protlm.report.page import write_report
from protlm.types.record import Chain, Record, Role


def quiet(_: str) -> None:
    pass


def simulated(path, count, **settings):
    repertoire_frame(simulate_repertoire(count, **settings)).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2).build(seed=0).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROTLM_CACHE", str(tmp_path / "cache"))


def auroc(run, method):
    table = pl.read_parquet(run.table_path("metrics"))
    return table.filter((pl.col("method") == method) & (pl.col("metric") == "auroc")).row(0, named=True)


def test_coupled_v_genes_are_found_and_uncoupled_ones_are_not(tmp_path):
    """Positive and negative control: only the pairing differs, so only what sees pairs can tell."""
    options = {"seeds": 2, "num_draws": 200, "say": quiet}
    coupled = simulated(tmp_path / "coupled.parquet", 500, pairing_strength=1.0, mutation_rate=0.0, seed=1)
    run = evaluate_pairs([], coupled, tmp_path / "one", **options)
    found = auroc(run, "v_gene")
    assert found["low"] > 0.7
    assert auroc(run, "ends")["value"] == 0.5  # the classes have the same chains, to the letter
    free = simulated(tmp_path / "free.parquet", 500, pairing_strength=0.0, mutation_rate=0.0, seed=2)
    run = evaluate_pairs([], free, tmp_path / "two", **options)
    for method in ("v_gene", "ends", "mutation_count", "majority"):
        assert auroc(run, method)["value"] == pytest.approx(0.5, abs=0.06)


def test_models_of_one_shape_share_the_network_with_random_weights(tmp_path, model):
    twin = tmp_path / "twin"
    shutil.copytree(model, twin)
    source = simulated(tmp_path / "pairs.parquet", 40, seed=3)
    options = {"folds": 3, "seeds": 1, "random_weights": True, "num_draws": 20, "say": quiet}
    run = evaluate_pairs([model, str(twin)], source, tmp_path / "run", **options)
    methods = pl.read_parquet(run.table_path("predictions"))["method"].unique(maintain_order=True).to_list()
    assert methods[:4] == ["tiny", "twin", "tiny, random weights", "majority"]


def test_a_run_has_what_a_reader_needs(tmp_path, model):
    source = simulated(tmp_path / "pairs.parquet", 60, pairing_strength=1.0, seed=3)
    said = []
    run = evaluate_pairs(
        [model],
        source,
        tmp_path / "run",
        heavy="heavy",
        light="light",
        folds=3,
        seeds=2,
        random_weights=True,
        num_draws=50,
        device="cpu",
        say=said.append,
    )
    assert run.is_done
    predictions = pl.read_parquet(run.table_path("predictions"))
    methods = ["tiny", "tiny, random weights", "majority", "mutation_count", "v_gene", "ends"]
    assert predictions["method"].unique(maintain_order=True).to_list() == methods
    assert predictions["prediction"].is_between(0, 1).all()
    per_method = predictions.group_by("method", "seed").len()
    assert set(per_method["len"]) == {120}
    metrics = pl.read_parquet(run.table_path("metrics"))
    assert dict(metrics.select("method", "kind").unique().iter_rows())["tiny, random weights"] == "baseline"
    defined = metrics.filter(pl.col("value").is_not_nan())
    assert ((defined["low"] <= defined["value"] + 1e-9) & (defined["value"] <= defined["high"] + 1e-9)).all()
    differences = pl.read_parquet(run.table_path("differences"))
    assert set(differences["first"]) == {"tiny"}
    manifest = next(iter(run.read_json("data_manifest.json")["tasks"].values()))
    assert manifest["task"]["target"]["kind"] == "shuffled-pairs"
    assert manifest["splits"]["chain"]["shared_chains"] == 0
    assert manifest["num_records"] == 120  # 60 native and 60 shuffled pairs; the other seed has other pairs
    assert manifest["num_distinct_records"] == predictions["id"].n_unique() > 120
    assert manifest["inputs"][0]["sha256"]
    assert any("0 of" in line and "leakage" in line for line in said)
    page = write_report([run.path], tmp_path / "report.html").read_text()
    assert "Native against shuffled antibody pairs" in page
    assert "not confounded" in page


def test_two_models_are_compared_on_the_same_draws(tmp_path, model):
    other = tmp_path / "other"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2).build(seed=0).save(other)
    source = simulated(tmp_path / "pairs.parquet", 40, seed=3)
    run = evaluate_pairs(
        [model, str(other)],
        source,
        tmp_path / "run",
        heavy="heavy",
        light="light",
        folds=3,
        seeds=1,
        num_draws=50,
        device="cpu",
        say=quiet,
    )
    table = pl.read_parquet(run.table_path("differences"))
    same = table.filter((pl.col("first") == "tiny") & (pl.col("second") == "other"))
    assert same["difference"].drop_nans().to_list() == [0.0] * len(same["difference"].drop_nans())
    assert same.filter(pl.col("metric") == "auroc")["high"][0] == 0.0  # the weights are the same


def records(count=6):
    return [
        Record(f"r{n}", (Chain("QVQLV" + "A" * n, role=Role.HEAVY), Chain("DIQM", role=Role.LIGHT)))
        for n in range(count)
    ]


def test_features_are_means_by_chain_or_the_begin_token(model):
    loaded = load_model(model, device="cpu")
    mean = record_features(loaded, records())
    assert mean.shape == (6, 32)
    assert record_features(loaded, records(), pooling="begin").shape == (6, 16)
    # alone, in another batch, in another order: the same
    alone = np.concatenate([record_features(loaded, [each]) for each in records()])
    np.testing.assert_allclose(mean, alone, atol=1e-5)
    begin = record_features(loaded, records()[::-1], pooling="begin", max_tokens=1)[::-1]
    np.testing.assert_allclose(begin, record_features(loaded, records(), pooling="begin"), atol=1e-5)
    with pytest.raises(DataError, match="1 and 2 chains"):
        record_features(loaded, [*records(2), Record("x", (Chain("MKT"),))])


def test_the_cache_is_found_again_and_never_for_another_model_or_input(model, tmp_path):
    loaded = load_model(model, device="cpu")
    first, was_there = cached_features(loaded, records(), tmp_path)
    assert not was_there
    again, was_there = cached_features(loaded, records(), tmp_path)
    assert was_there
    np.testing.assert_array_equal(first, again)
    for changed in (
        (with_random_weights(loaded, seed=1), records(), "mean"),
        (loaded, records()[::-1], "mean"),
        (loaded, records(), "begin"),
    ):
        assert not cached_features(changed[0], changed[1], tmp_path, pooling=changed[2])[1]
    file = next(iter(sorted(tmp_path.glob("*.safetensors"))))
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(file.read_bytes()[:40])  # cut short: computed again
    again, was_there = cached_features(loaded, records(), tmp_path)
    assert not was_there
    np.testing.assert_array_equal(first, again)


def test_random_weights_are_other_weights_and_leave_the_model_and_the_generator_alone(model):
    loaded = load_model(model, device="cpu")
    before = record_features(loaded, records())
    state = torch.random.get_rng_state()
    fresh = with_random_weights(loaded, seed=5)
    assert torch.equal(state, torch.random.get_rng_state())
    assert fresh.name == "tiny, random weights"
    assert np.abs(record_features(fresh, records()) - before).max() > 1e-3
    np.testing.assert_array_equal(record_features(loaded, records()), before)
    np.testing.assert_array_equal(
        record_features(with_random_weights(loaded, seed=5), records()), record_features(fresh, records())
    )


def test_bad_input_is_named_before_any_work(tmp_path, model):
    with pytest.raises(ConfigError, match="no task card 'native'"):
        evaluate_task("native", [], [tmp_path], tmp_path / "run", say=quiet)
    with pytest.raises(ConfigError, match="--pooling 'max'"):
        evaluate_task("native-pairs-sabdab", [], [tmp_path], tmp_path / "run", pooling="max", say=quiet)
    with pytest.raises(DataError, match="native-pairs-sabdab"):
        evaluate_task("native-pairs-sabdab", [], [tmp_path], tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()
    short = tmp_path / "short"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2, max_tokens=100).build(seed=0).save(
        short
    )
    source = simulated(tmp_path / "pairs.parquet", 20)
    with pytest.raises(DataError, match=r"but model 'short' takes at most 100"):
        evaluate_pairs(
            [str(short)], source, tmp_path / "run", heavy="heavy", light="light", folds=3, say=quiet
        )


def test_the_command_line_prints_a_table_or_json(tmp_path):
    source = simulated(tmp_path / "pairs.parquet", 40, pairing_strength=1.0)
    command = ["evaluate", "pairs", "--input", str(source), "--folds", "3", "--seeds", "1", "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    assert "(v_gene)" in result.output
    result = CliRunner().invoke(app, [*command, str(tmp_path / "b"), "--json"])
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert {row["metric"] for row in rows} >= {"auroc", "mcc"}


def test_features_go_where_the_user_says(monkeypatch, tmp_path):
    assert feature_folder() == tmp_path / "cache" / "features"
    monkeypatch.delenv("PROTLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert feature_folder() == tmp_path / "xdg" / "protlm" / "features"


@pytest.mark.real_data
def test_the_pool_of_sabdab_has_1941_distinct_pairs(shared_data, tmp_path):
    run = evaluate_task(
        "native-pairs-sabdab", [], [shared_data], tmp_path / "run", seeds=1, num_draws=100, say=quiet
    )
    manifest = next(iter(run.read_json("data_manifest.json")["tasks"].values()))
    assert manifest["left_out"] == {"a pair that was there before": 5180 - 1941}
    split = manifest["splits"]["chain"]
    assert sum(split["sizes"].values()) == 2 * 1941
    assert (split["shared_chains"], split["shared_groups"]) == (0, 0)
    assert auroc(run, "ends")["value"] == 0.5
    assert auroc(run, "v_gene")["low"] > 0.5


@pytest.mark.real_data
def test_specificity_is_confounded_by_publication_unless_split_by_it(shared_data, tmp_path):
    run = evaluate_task(
        "specificity-cov-rbd", [], [shared_data], tmp_path / "run", seeds=1, num_draws=100, say=quiet
    )
    manifest = next(iter(run.read_json("data_manifest.json")["tasks"].values()))
    assert manifest["confounded"]["clonotype"]["is_confounded"]
    assert manifest["splits"]["publication"]["shared_values"]["Sources"]["shared"] == 0
    assert manifest["splits"]["clonotype"]["shared_values"]["clonotype"]["shared"] == 0
    table = pl.read_parquet(run.table_path("metrics")).filter(
        (pl.col("method") == "ends_and_source") & (pl.col("metric") == "auroc")
    )
    by_split = dict(table.select("split", "value").iter_rows())
    assert by_split["clonotype"] > 0.8 > 0.7 > by_split["publication"]
