"""predict: a fine-tuned Run on new records, in order, resumable, with the spread of its models."""

import numpy as np
import polars as pl
import pytest

from fixtures.builders import lively_esm, random_records, random_residues
from protlm.data.readers import ColumnNames, read_records
from protlm.errors import DataError, ModelError, RunError
from protlm.models.heads import Head, HeadConfig, head_facts
from protlm.models.predictor import Predictor, load_predictors, predict_all
from protlm.recipes import predict as module
from protlm.recipes.predict import predict_file
from protlm.runs import Run
from protlm.types.record import Chain, Record
from protlm.types.target import Target

QUIET = {"say": lambda _: None, "device": "cpu"}


def make_run(path, target, *, seeds=(0, 1), **settings):
    """Write a Run as finetune does, without training: one frozen encoder, a head per seed."""
    encoder = lively_esm(hidden_size=8, num_heads=2)
    run = Run.create(path, verb="finetune")
    encoder.save(run.model_path)
    records = [Record("a", (Chain("MKTAY"),))]
    for seed in seeds:
        facts = head_facts(target, HeadConfig(**settings), 8, records)
        head = Head(facts, seed=seed)
        for parameter in head.layers.parameters():
            parameter.data.normal_()
        head.save(path / f"seed-{seed}" / "head")
    run.write_json("predictors.json", {"format_version": 1, "folders": [f"seed-{seed}" for seed in seeds]})
    run.finish()
    return path


@pytest.fixture
def fasta(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "new.fasta"
    path.write_text("".join(f">r{n}\n{random_residues(random, 5 + n % 7)}\n" for n in range(23)))
    return path


def test_mean_and_spread_over_the_models_in_input_order(fasta, tmp_path):
    target = Target("classes", "sequence", ("x", "y", "z"))
    run = make_run(tmp_path / "run", target)
    predict_file(run, fasta, tmp_path / "out.parquet", **QUIET)
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found["id"].to_list() == [f"r{n}" for n in range(23)]
    records = read_records(fasta)
    one, other = (np.stack(each.predict(records)) for each in load_predictors(run, device="cpu"))
    names = [f"probability_{name}" for name in "xyz"]
    np.testing.assert_allclose(found.select(names).to_numpy(), (one + other) / 2, atol=1e-6)
    spread = np.abs(one - other) / np.sqrt(2)
    np.testing.assert_allclose(found.select(["sd_x", "sd_y", "sd_z"]).to_numpy(), spread, atol=1e-6)
    assert found["predicted"].to_list() == [target.classes[n] for n in ((one + other) / 2).argmax(axis=1)]


def test_a_csv_says_the_same_as_parquet(fasta, tmp_path):
    run = make_run(tmp_path / "run", Target("value", "sequence"))
    for name in ("out.parquet", "out.csv"):
        predict_file(run, fasta, tmp_path / name, **QUIET)
    table, text = pl.read_parquet(tmp_path / "out.parquet"), pl.read_csv(tmp_path / "out.csv")
    assert table.columns == text.columns == ["id", "predicted", "sd_predicted"]
    np.testing.assert_allclose(table["predicted"].to_numpy(), text["predicted"].to_numpy(), rtol=1e-12)
    assert (tmp_path / "out.csv.meta.json").exists()
    assert sorted(path.name for path in tmp_path.glob("out*")) == [
        "out.csv",
        "out.csv.meta.json",
        "out.parquet",
    ]


def test_an_interrupted_prediction_goes_on(fasta, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", Target("binary", "sequence", ("no", "yes")))
    monkeypatch.setattr(module, "CHUNK_RECORDS", 5)
    predict_file(run, fasta, tmp_path / "whole.parquet", **QUIET)
    sizes = []

    def stop(predictors, records, **options):
        sizes.append(len(records))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return predict_all(predictors, records, **options)

    monkeypatch.setattr(module, "predict_all", stop)
    with pytest.raises(Exception, match="interrupted"):
        predict_file(run, fasta, tmp_path / "out.parquet", **QUIET)
    assert not (tmp_path / "out.parquet").exists()
    sizes[:] = [0] * 10
    predict_file(run, fasta, tmp_path / "out.parquet", **QUIET)
    assert sizes[10:] == [5, 5, 3]  # the first two parts were there
    whole, resumed = pl.read_parquet(tmp_path / "whole.parquet"), pl.read_parquet(tmp_path / "out.parquet")
    assert resumed.equals(whole)
    with pytest.raises(RunError, match="exists"):
        predict_file(run, fasta, tmp_path / "out.parquet", **QUIET)


def test_residues_have_a_row_each(fasta, tmp_path):
    run = make_run(tmp_path / "run", Target("classes", "residue", ("h", "e", "c")), seeds=(0,))
    predict_file(run, fasta, tmp_path / "out.parquet", **QUIET)
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.columns[:4] == ["id", "chain", "position", "index"]
    assert "sd_h" not in found.columns
    own = found.filter(id="r3")
    assert own["index"].to_list() == list(range(8))
    assert own["position"].to_list() == list(range(1, 9))


def test_heads_on_one_encoder_read_each_record_once(tmp_path, monkeypatch):
    from protlm.models.language_model import LanguageModel

    run = make_run(tmp_path / "run", Target("value", "sequence"), seeds=(0, 1, 2))
    predictors, calls, hidden = load_predictors(run, device="cpu"), [], LanguageModel.hidden
    monkeypatch.setattr(LanguageModel, "hidden", lambda *given: calls.append(1) or hidden(*given))
    found = predict_all(predictors, random_records(6, pairs=False))
    assert len(calls) == 1
    assert len(found) == 3


def test_what_is_no_fine_tuned_run_is_refused(fasta, tmp_path):
    run = make_run(tmp_path / "run", Target("value", "sequence"))
    with pytest.raises(ModelError, match="fine-tuned"):
        predict_file(run / "model", fasta, tmp_path / "out.parquet", **QUIET)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("heavy\tlight\nMKT\tGGA\n")
    columns = ColumnNames(heavy="heavy", light="light")
    with pytest.raises(DataError, match="has 2 chains, and the head was made for 1"):
        predict_file(run, pairs, tmp_path / "out.parquet", columns=columns, **QUIET)


@pytest.mark.parametrize("pooling", ["mean", "begin", "attention"])
@pytest.mark.parametrize("encoder", ["separate", "concatenated"])
def test_no_pooling_looks_at_special_tokens(pooling, encoder, monkeypatch):
    """Whatever stands at begin, end and separator tokens, only `begin` may notice, and only of the first."""
    random = np.random.default_rng(1)
    pairs = [
        Record(f"p{n}", (Chain(random_residues(random, 6)), Chain(random_residues(random, 9))))
        for n in range(3)
    ]
    target = Target("value", "pair")
    head = Head(head_facts(target, HeadConfig(pooling=pooling, encoder=encoder), 8, pairs))
    head.layers[-1].weight.data.normal_()
    if head.pooling.score is not None:
        head.pooling.score.weight.data.normal_()
    predictor = Predictor(lively_esm(hidden_size=8, num_heads=2), head.eval())
    before = np.stack(predictor.predict(pairs))
    hidden = type(predictor.encoder).hidden

    def spoiled(self, batch):
        states = hidden(self, batch).clone()
        special = ~batch.is_residue
        special[batch.offsets[:-1].long()] &= pooling != "begin"
        states[special] = 1e3
        return states

    monkeypatch.setattr(type(predictor.encoder), "hidden", spoiled)
    np.testing.assert_array_equal(np.stack(predictor.predict(pairs)), before)
