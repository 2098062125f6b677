"""evaluate variants from end to end on assays made here: tables, baselines, samples, bad input."""

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.readers.assay_reference import AssayFacts
from protlm.data.readers.assays import Assay
from protlm.errors import ConfigError, DataError, Interrupted
from protlm.models.architectures import EsmArchitecture
from protlm.recipes import score_run
from protlm.recipes.evaluate_variants import blosum62_scores, evaluate_variants, thin
from protlm.scoring.plans import make_plan
from protlm.scoring.variants import score_variants
from protlm.types.record import Chain, Record
from protlm.types.variant import all_single_substitutions, parse_variant

WILD_TYPE = "MKTAYIAKQR"


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture
def model(tmp_path):
    settings = EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2)
    settings.build(seed=0).save(tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.fixture
def folder(tmp_path):
    """Two assays of one protein and one of another, with ProteinGym's columns."""
    folder = tmp_path / "assays"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [name for name, _ in all_single_substitutions(WILD_TYPE)] + ["M1L:K2R", "K2R:T3S:A4G"]
    facts = []
    for assay, protein, function in (("a", "P", "Activity"), ("b", "P", "Binding"), ("c", "Q", "Binding")):
        values = rng.normal(size=len(names)).round(3)
        table = pl.DataFrame(
            {"mutant": names, "DMS_score": values, "DMS_score_bin": (values > 0).astype(int)}
        )
        table.write_csv(folder / f"{assay}.csv")
        facts.append((assay, f"{assay}.csv", protein, WILD_TYPE, function))
    columns = ["DMS_id", "DMS_filename", "UniProt_ID", "target_seq", "coarse_selection_type"]
    pl.DataFrame(facts, schema=columns, orient="row").write_csv(folder / "reference.csv")
    return folder


def test_a_folder_becomes_averages_over_proteins_and_functions(folder, model, tmp_path):
    run = evaluate_variants([model], folder, tmp_path / "run", device="cpu", say=quiet)
    assert run.is_done
    table = pl.read_parquet(run.table_path("assays")).filter(pl.col("depth") == "all")
    of = {(row["assay"], row["model"]): row["spearman"] for row in table.iter_rows(named=True)}
    assert set(table["model"]) == {"tiny", "blosum62"}
    averages = pl.read_parquet(run.table_path("averages")).filter(pl.col("metric") == "spearman")
    found = dict(averages.select("model", "average").iter_rows())
    for name in found:
        by_hand = (of["a", name] + (of["b", name] + of["c", name]) / 2) / 2
        assert found[name] == pytest.approx(by_hand)
    scores = pl.read_parquet(run.path / "scores" / "b.parquet")
    assert scores.columns == ["mutant", "value", "is_fit", "tiny", "blosum62"]


def test_scores_are_those_of_the_plan(folder, model, tmp_path):
    from protlm.models.loading import load_model

    run = evaluate_variants(
        [model], folder, tmp_path / "run", assays=["a"], fill="joint", device="cpu", say=quiet
    )
    scores = pl.read_parquet(run.path / "scores" / "a.parquet")
    variants = [parse_variant(text, WILD_TYPE) for text in scores["mutant"]]
    record = Record("a", (Chain(WILD_TYPE),))
    plan = make_plan("masked_marginal", fill="joint")
    expected = score_variants(load_model(model, device="cpu"), plan, record, variants).scores
    np.testing.assert_allclose(scores["tiny"].to_numpy(), expected, atol=1e-5)


def test_an_alignment_adds_the_site_independent_model_and_the_covered_subset(folder, model, tmp_path):
    alignment = tmp_path / "family.a2m"
    rows = ["MKTAYIAKQr", "MKTAYLAKQr", "MRTAYIAKQ.", "MKSAYIGKQ.", "LKTAFIAKE."]
    alignment.write_text("".join(f">r{number}\n{row}\n" for number, row in enumerate(rows)))
    run = evaluate_variants(
        [model], folder, tmp_path / "run", alignments={"a": alignment}, device="cpu", say=quiet
    )
    table = pl.read_parquet(run.table_path("assays"))
    covered = table.filter((pl.col("subset") == "covered") & (pl.col("depth") == "all"))
    assert set(covered["model"]) == {"tiny", "blosum62", "site_independent", "site_independent_blosum62"}
    assert set(covered["assay"]) == {"a"}
    assert set(covered["n"]) == {9 * 19 + 2}  # the last residue of the query stands beside the columns


def test_blosum62_is_the_change_of_the_score_summed():
    """M→L 2 − M→M 5 = −3; K→R 2 − K→K 5 = −3."""
    variants = [parse_variant(text, WILD_TYPE) for text in ("M1L", "M1L:K2R", "K2R")]
    assay = Assay(
        AssayFacts("a", WILD_TYPE), ["", "", ""], variants, np.zeros(3), np.zeros(3, dtype=bool), "median"
    )
    assert blosum62_scores(assay).tolist() == [-3.0, -6.0, -3.0]


def test_a_sample_keeps_the_shares_of_the_numbers_of_mutations():
    singles = [variant for _, variant in all_single_substitutions(WILD_TYPE)]
    doubles = [parse_variant(f"M1{each}:K2R", WILD_TYPE) for each in "ACDEFGHIL"]
    variants = singles[:171] + doubles * 19
    number = len(variants)
    assay = Assay(
        AssayFacts("a", WILD_TYPE),
        [str(place) for place in range(number)],
        variants,
        np.arange(number, dtype=float),
        np.zeros(number, dtype=bool),
        "median",
    )
    small = thin(assay, 40, seed=1)
    assert np.bincount(small.depths).tolist() == [0, 20, 20]
    assert len(set(small.mutants)) == 40
    assert small.values.tolist() == [float(name) for name in small.mutants]
    assert thin(assay, 40, seed=1).mutants == small.mutants
    assert thin(assay, 40, seed=2).mutants != small.mutants
    assert thin(assay, number) is assay


def test_what_is_not_there_is_named(folder, model, tmp_path):
    with pytest.raises(DataError, match="no assay 'd'"):
        evaluate_variants([model], folder, tmp_path / "run", assays=["d"], say=quiet)
    with pytest.raises(ConfigError, match="--alignment x"):
        evaluate_variants([model], folder, tmp_path / "run", alignments={"x": tmp_path}, say=quiet)
    assert not (tmp_path / "run").exists()


def test_the_command_prints_averages_and_who_is_below_a_baseline(folder, model, tmp_path):
    answer = CliRunner().invoke(
        app,
        [
            "evaluate",
            "variants",
            str(folder),
            "--model",
            model,
            "--sample",
            "50",
            "--out",
            str(tmp_path / "run"),
        ],
    )
    assert answer.exit_code == 0, answer.output
    assert "averages over 3 assays" in answer.stdout
    assert "(blosum62)" in answer.stdout
    averages = pl.read_parquet(tmp_path / "run/tables/intervals.parquet").filter(
        (pl.col("metric") == "spearman") & (pl.col("subset") == "all")
    )
    values = dict(averages.select("model", "average").iter_rows())
    assert ("BELOW a baseline: tiny" in answer.stdout) == (values["tiny"] < values["blosum62"])


def test_one_protein_has_an_average_without_an_interval(folder, model, tmp_path):
    command = [
        "evaluate",
        "variants",
        str(folder),
        "--model",
        model,
        "--assay",
        "a",
        "--out",
        tmp_path / "run",
    ]
    answer = CliRunner().invoke(app, list(map(str, command)))
    assert answer.exit_code == 0, answer.output
    assert "averages over 1 assays" in answer.stdout


@pytest.mark.parametrize(("plan", "left"), [("masked_marginal", 2), ("wildtype_marginal", 3)])
def test_an_interrupted_run_scores_no_finished_assay_again(folder, model, tmp_path, monkeypatch, plan, left):
    """Interrupted in the second of three assays; another plan takes up nothing of the first."""
    real, scored = score_run.run_contexts, []

    def second_stops(*given, **options):
        scored.append(1)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return real(*given, **options)

    out = tmp_path / "run"
    monkeypatch.setattr(score_run, "run_contexts", second_stops)
    with pytest.raises(Interrupted, match="the same command resumes"):
        evaluate_variants([model], folder, out, device="cpu", say=quiet)
    run = evaluate_variants([model], folder, out, plan=plan, device="cpu", say=quiet)
    assert len(scored) == 2 + left
    whole = evaluate_variants([model], folder, tmp_path / "whole", plan=plan, device="cpu", say=quiet)
    assert pl.read_parquet(run.table_path("assays")).equals(pl.read_parquet(whole.table_path("assays")))
    assert not run.checkpoints_path.exists()
