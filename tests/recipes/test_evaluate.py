"""evaluate regions and evaluate partner from end to end: tables, interruption, memory, messages."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from fixtures.builders import lively_esm
from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.errors import DataError, ModelError
from protlm.evaluation.baselines import FREQUENCIES, fit_baselines
from protlm.models.language_model import LanguageModel
from protlm.recipes import evaluated
from protlm.recipes.evaluate import evaluate_regions
from protlm.recipes.evaluate_partner import evaluate_partner
from protlm.recipes.evaluated import BASELINE_NAMES
from protlm.report.evaluation_lines import (
    accuracy_lines,
    calibration_lines,
    comparison_lines,
    entropy_lines,
    germline_bias_lines,
    mutation_lines,
    mutation_masking_lines,
    partner_lines,
    segment_lines,
    sequence_lines,
)
from protlm.report.figures.style import BASELINES
from protlm.types.record import Chain, Record, Role

NUM_RECORDS = 10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Ten simulated pairs with regions, segments, mutations and germline residues."""
    simulated = simulate_repertoire(NUM_RECORDS, seed=5, mutation_rate=0.08)
    return write_corpus(tmp_path_factory.mktemp("data") / "corpus", number_records(simulated))


@pytest.fixture(scope="module")
def models(tmp_path_factory, corpus):
    """Two folders with models; the first keeps baselines as a Run does."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two")):
        lively_esm(seed=seed, num_layers=1).save(folder / name)
    (folder / "one" / "tables").mkdir()
    for name, fitted in fit_baselines(corpus).items():
        fitted.write_parquet(folder / "one" / "tables" / f"{name}.parquet")
    return [str(folder / name) for name in ("one", "two")]


def evaluate(models, corpus, out, **settings):
    said: list[str] = []
    run = evaluate_regions(models, corpus.path, out, device="cpu", say=said.append, **settings)
    return run, said


@pytest.fixture(scope="module")
def evaluation(models, corpus, tmp_path_factory):
    return evaluate(models, corpus, tmp_path_factory.mktemp("runs") / "all", by_sequence=True)[0]


@pytest.fixture
def parts_of_three(monkeypatch):
    monkeypatch.setattr(evaluated, "RECORDS_PER_PART", 3)


def table(run, name: str) -> pl.DataFrame:
    return pl.read_parquet(run.table_path(name))


def test_every_table_is_there_and_every_residue_once_per_model(evaluation, corpus):
    assert set(evaluation.tables()) == {
        *("regions", "regions_summary", "segments", "calibration", "calibration_bins", "germline_bias"),
        *("comparisons", "sequences_summary", "sequences_comparisons"),
    }
    residues = table(evaluation, "regions")
    assert len(residues.unique(["model", "id", "chain", "index"])) == len(residues)
    assert dict(residues.group_by("model").agg(pl.len()).iter_rows()) == {
        name: int(corpus.lengths.sum()) for name in ("one", "two", *BASELINE_NAMES)
    }
    assert not list(evaluation.checkpoints_path.rglob("*.parquet"))


def test_a_pair_has_fourteen_regions_and_both_kinds_of_antibody(evaluation):
    summary = table(evaluation, "regions_summary")
    regions = summary.filter(~pl.col("region").is_in(["framework", "CDRs", "all"]))
    assert len(regions.unique(["chain", "region"])) == 14
    of_antibodies = summary.filter((pl.col("region") == "all") & (pl.col("model") == "one"))
    sizes = {(row["chain"], row["residues"]): row["n_records"] for row in of_antibodies.iter_rows(named=True)}
    for chain in ("heavy", "light"):
        parted = sizes[chain, "germline_antibodies"] + sizes[chain, "mutated_antibodies"]
        assert parted == sizes[chain, "all"] == NUM_RECORDS


def test_the_summary_agrees_with_the_residues(evaluation):
    residues = table(evaluation, "regions").filter(
        (pl.col("model") == "two") & (pl.col("chain") == "light") & (pl.col("region") == "CDR3")
    )
    line = table(evaluation, "regions_summary").filter(
        (pl.col("model") == "two")
        & (pl.col("chain") == "light")
        & (pl.col("region") == "CDR3")
        & (pl.col("residues") == "all")
    )
    assert line["n_residues"].item() == len(residues)
    assert line["accuracy"].item() == pytest.approx((residues["predicted"] == residues["residue"]).mean())
    assert line["cross_entropy"].item() == pytest.approx(-residues["logprob"].mean(), rel=1e-5)


def test_shares_of_germline_bias_sum_to_one(evaluation):
    bias = table(evaluation, "germline_bias")
    assert (bias["right"] + bias["germline"] + bias["other"]).to_list() == pytest.approx([1.0] * len(bias))


def test_models_are_compared_with_each_other_and_with_every_baseline(evaluation):
    pairs = set(table(evaluation, "comparisons").select("first", "second").iter_rows())
    against = {(model, each) for model in ("one", "two") for each in BASELINE_NAMES}
    assert pairs == {("one", "two"), *against}


def test_the_baselines_are_one_family_of_tests_and_the_models_another(evaluation):
    """Two models against four baselines, and one against the other, in 14 regions."""
    lines = table(evaluation, "comparisons").filter(
        (pl.col("residues") == "all") & (pl.col("metric") == "accuracy")
    )
    of_models = pl.col("second") == "two"
    assert lines.filter(of_models)["n_tests"].unique().to_list() == [14]
    against = lines.filter(~of_models)
    defined = int(against["p_value"].is_not_nan().sum())
    assert against["n_tests"].unique().to_list() == [defined] == [2 * len(BASELINE_NAMES) * 14]
    expected = (against["p_value"] * defined).clip(0, 1).to_list()
    assert against["p_adjusted"].to_list() == pytest.approx(expected)
    sequences = table(evaluation, "sequences_comparisons").filter(pl.col("antibodies") == "all")
    assert sequences.filter(of_models)["n_tests"].unique().to_list() == [14]
    assert sequences.filter(~of_models)["n_tests"].unique().to_list() == [2 * len(BASELINE_NAMES) * 14]


def test_the_report_knows_the_names_of_the_baselines():
    assert set(BASELINE_NAMES) == set(BASELINES)


def test_a_model_may_not_be_called_as_a_baseline(models, corpus, tmp_path):
    lively_esm(num_layers=1).save(tmp_path / "germline")
    with pytest.raises(ModelError, match="a model is called 'germline', as a baseline is"):
        evaluate([str(tmp_path / "germline")], corpus, tmp_path / "run")


def test_baselines_can_be_fitted_on_another_corpus(models, corpus, tmp_path):
    """A model that is no Run has none of its own; with half of the chains they are others than with all."""
    half = write_corpus(tmp_path / "half", [corpus.record(row) for row in range(5)])
    alone, said = evaluate(models[1:], corpus, tmp_path / "alone", max_records=4)
    assert set(table(alone, "regions")["model"]) == {"two"}
    assert any("--baselines CORPUS fits them" in line for line in said)
    run, said = evaluate(models[1:], corpus, tmp_path / "run", max_records=4, baselines_from=half.path)
    assert set(table(run, "regions")["model"]) == {"two", *BASELINE_NAMES}
    assert "baselines are fitted on half: 5 records" in said


def test_a_run_that_kept_frequencies_alone_has_those_baselines(models, corpus, tmp_path):
    lively_esm(num_layers=1).save(tmp_path / "old")
    (tmp_path / "old" / "tables").mkdir()
    fitted = fit_baselines(corpus)[FREQUENCIES]
    fitted.write_parquet(tmp_path / "old" / "tables" / f"{FREQUENCIES}.parquet")
    run, said = evaluate([str(tmp_path / "old")], corpus, tmp_path / "run", max_records=3)
    assert set(table(run, "regions")["model"]) == {"old", "position_mode", "v_gene_majority"}
    assert any(line.endswith("--baselines CORPUS fits them") for line in said)
    assert any(line.startswith("no baseline 'genes'") for line in said)


def test_terminal_tables_fit_a_hundred_columns(evaluation):
    writers = [
        ("regions_summary", accuracy_lines),
        ("regions_summary", entropy_lines),
        ("regions_summary", mutation_lines),
        ("segments", segment_lines),
        ("calibration", calibration_lines),
        ("germline_bias", germline_bias_lines),
        ("comparisons", comparison_lines),
        ("sequences_summary", sequence_lines),
    ]
    for name, write in writers:
        lines = write(table(evaluation, name))
        assert lines
        assert max(map(len, lines)) <= 100, max(lines, key=len)


def test_an_interrupted_evaluation_goes_on_where_it_was(
    models, corpus, evaluation, tmp_path, monkeypatch, parts_of_three
):
    """Ten records in parts of three. Interrupted in the third part of the first model."""
    plain = LanguageModel.logits
    calls = {"contexts": 0, "left": 2.5 * 3 * 230}

    def interrupted(self, batch, rows=None):
        calls["contexts"] += batch.num_sequences
        if calls["contexts"] > calls["left"]:
            raise KeyboardInterrupt
        return plain(self, batch, rows)

    monkeypatch.setattr(LanguageModel, "logits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(models, corpus, tmp_path / "run")
    calls.update(contexts=0, left=1e9)
    run, said = evaluate(models, corpus, tmp_path / "run")
    assert "one: 6 of 10 records were done before the interruption" in said
    first_six = int(corpus.lengths[:6].sum())
    assert calls["contexts"] == 2 * int(corpus.lengths.sum()) - first_six
    keys = ["model", "id", "chain", "index"]
    columns = [*keys, "predicted", "logprob"]
    expected, found = (table(each, "regions").select(columns).sort(keys) for each in (evaluation, run))
    assert found.drop("logprob").equals(expected.drop("logprob"))
    assert found["logprob"].to_list() == pytest.approx(expected["logprob"].to_list(), abs=1e-4)


def test_parts_of_another_model_are_not_taken_up(models, corpus, tmp_path, monkeypatch, parts_of_three):
    changed = tmp_path / "one"
    lively_esm(seed=0, num_layers=1).save(changed)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("protlm.recipes.evaluate.join_parts", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate([str(changed)], corpus, tmp_path / "run")
    monkeypatch.undo()
    lively_esm(seed=9, num_layers=1).save(changed)
    _, said = evaluate([str(changed)], corpus, tmp_path / "run")
    assert not any("before the interruption" in line for line in said)


def test_parts_of_baselines_over_more_records_are_not_joined(
    models, corpus, tmp_path, monkeypatch, parts_of_three
):
    """Interrupted with all ten records, called again for four of them."""
    monkeypatch.setattr("protlm.recipes.evaluate.RECORDS_PER_PART", 3)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("protlm.recipes.evaluate.join_parts", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(models[:1], corpus, tmp_path / "run")
    run, _ = evaluate(models[:1], corpus, tmp_path / "run", max_records=4)
    rows = table(run, "regions").group_by("model").agg(pl.len(), pl.col("id").n_unique())
    assert set(rows["model"]) == {"one", *BASELINE_NAMES}
    assert rows["id"].to_list() == [4] * 5
    assert rows["len"].n_unique() == 1


def test_the_digest_of_records_knows_roles_chains_and_calls(tmp_path):
    """The same residues in the same order are other input as other records, roles, loci or genes."""

    def digest(*chains):
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        record = Record("a", chains, group="g")
        corpus = write_corpus(path, [record])
        return evaluated.ChosenRecords(corpus, np.arange(1)).digest()

    plain = Chain("MKT", role=Role.HEAVY, locus="H", v_call="IGHV1-2*01")
    same = digest(plain, Chain("GG"))
    assert digest(plain, Chain("GG")) == same
    changed = [
        (replace(plain, role=Role.LIGHT), Chain("GG")),
        (replace(plain, locus="K"), Chain("GG")),
        (replace(plain, v_call="IGHV1-3*01"), Chain("GG")),
        (replace(plain, j_call="IGHJ4*02"), Chain("GG")),
        (plain, Chain("GG", role=Role.LIGHT)),
    ]
    assert len({same, *(digest(*each) for each in changed)}) == 1 + len(changed)
    three = [
        [("a", (plain, plain)), ("b", (plain,))],
        [("a", (plain,)), ("b", (plain, plain))],
    ]
    found = set()
    for place, parts in enumerate(three):
        corpus = write_corpus(tmp_path / f"three-{place}", [Record(name, own) for name, own in parts])
        found.add(evaluated.ChosenRecords(corpus, np.arange(2)).digest())
    assert len(found) == 2


def test_the_table_of_residues_is_written_in_parts(models, corpus, tmp_path, monkeypatch, parts_of_three):
    """No call of the predictor sees more than a part, and the file has what all parts had."""
    from protlm.recipes import evaluate as recipe

    sizes = []
    plain = recipe.predict_residues

    def watched(model, records, **settings):
        sizes.append(len(records))
        return plain(model, records, **settings)

    monkeypatch.setattr(recipe, "predict_residues", watched)
    run, _ = evaluate(models[:1], corpus, tmp_path / "run")
    assert sizes == [3, 3, 3, 1]
    assert pq.read_metadata(run.table_path("regions")).num_rows == 5 * int(corpus.lengths.sum())


def test_partner_from_end_to_end(models, corpus, tmp_path):
    said: list[str] = []
    run = evaluate_partner(
        models[:1], corpus.path, tmp_path / "run", max_records=6, device="cpu", say=said.append
    )
    residues = table(run, "partner")
    per_condition = residues.group_by("partner").agg(pl.len())
    assert per_condition["len"].n_unique() == 1
    assert set(per_condition["partner"]) == {"true", "random", "random_same_locus", "none"}
    gains = table(run, "partner_gain")
    regions = gains.filter(pl.col("p_adjusted").is_not_null() & (pl.col("metric") == "cross_entropy"))
    assert regions.group_by("against").len()["len"].to_list() == [14, 14, 14]
    masked = table(run, "mutation_masking")
    assert masked["mutated"].all()
    assert (masked["germline"] != masked["residue"]).all()
    lines = [
        *partner_lines(gains),
        *mutation_masking_lines(table(run, "mutation_masking_summary"), table(run, "mutation_masking_gain")),
    ]
    assert max(map(len, lines)) <= 100, max(lines, key=len)
    assert any(line.startswith("mutation masking: ") for line in said)
    assert json.loads((run.path / "data_manifest.json").read_text())["num_records"] == 6


def test_a_model_blind_to_the_partner_gains_nothing(models, corpus, tmp_path, monkeypatch):
    """With logits of the masked token alone, every partner gives the same loss."""

    def blind(self, batch, rows):
        return self.module.get_input_embeddings().weight.new_zeros(len(rows), len(self.layout.tokens))

    monkeypatch.setattr(LanguageModel, "logits", blind)
    run = evaluate_partner(
        models[:1], corpus.path, tmp_path / "run", max_records=4, device="cpu", say=lambda _: None
    )
    gains = table(run, "partner_gain").filter(pl.col("metric") == "cross_entropy")
    assert gains["gain"].abs().max() < 1e-6


def test_single_chains_have_no_partner_and_are_told_so(models, corpus, tmp_path):
    records = [corpus.record(row) for row in range(4)]
    single = write_corpus(tmp_path / "c", [Record(each.id, each.chains[:1]) for each in records])
    with pytest.raises(DataError, match="no record of two chains that have different roles"):
        evaluate_partner(models[:1], single.path, tmp_path / "run", device="cpu", say=lambda _: None)


def test_pairs_of_one_group_have_no_random_partner(models, corpus, tmp_path):
    records = [corpus.record(row) for row in range(4)]
    one = write_corpus(tmp_path / "c", [Record(each.id, each.chains, group="g") for each in records])
    with pytest.raises(DataError, match="no pair has a partner of another group"):
        evaluate_partner(models[:1], one.path, tmp_path / "run", device="cpu", say=lambda _: None)
