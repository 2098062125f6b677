"""evaluate variants with ensembles: a column beside its members, judged as they are."""

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from fixtures.builders import lively_esm
from protlm.cli.main import app
from protlm.errors import ConfigError
from protlm.recipes.evaluate_variants import evaluate_variants
from protlm.runs import Run
from protlm.scoring.ensembles import combine
from protlm.statistics.metrics import spearman
from protlm.types.variant import all_single_substitutions

WILD_TYPE = "MKTAYIAKQR"


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two families of two Runs, a model alone, and a folder with one assay."""
    root = tmp_path_factory.mktemp("places")
    for number, name in enumerate(("uniform", "cdr3")):
        for seed in range(2):
            run = Run.create(root / name / f"seed-{seed}", verb="pretrain")
            lively_esm(seed=2 * number + seed).save(run.model_path)
            run.finish()
    lively_esm(seed=7).save(root / "alone")
    (root / "assays").mkdir()
    names = [name for name, _ in all_single_substitutions(WILD_TYPE)]
    values = np.random.default_rng(0).normal(size=len(names)).round(3)
    pl.DataFrame({"mutant": names, "DMS_score": values, "DMS_score_bin": (values > 0).astype(int)}).write_csv(
        root / "assays" / "a.csv"
    )
    facts = [("a", "a.csv", "P", WILD_TYPE, "Activity")]
    columns = ["DMS_id", "DMS_filename", "UniProt_ID", "target_seq", "coarse_selection_type"]
    pl.DataFrame(facts, schema=columns, orient="row").write_csv(root / "assays" / "reference.csv")
    return root


def evaluated(places, out, models, **options):
    names = [str(places / name) for name in models]
    run = evaluate_variants(names, places / "assays", out, device="cpu", say=quiet, **options)
    table = pl.read_parquet(run.table_path("assays"))
    overall = table.filter((pl.col("subset") == "all") & (pl.col("depth") == "all"))
    return pl.read_parquet(run.path / "scores" / "a.parquet"), dict(
        overall.select("model", "spearman").iter_rows()
    )


def test_each_family_is_its_members_and_an_ensemble(places, tmp_path):
    scores, judged = evaluated(places, tmp_path / "run", ["uniform", "alone", "cdr3"], ensemble="rank")
    assert set(judged) == {
        *("uniform-seed-0", "uniform-seed-1", "uniform-rank", "alone"),
        *("cdr3-seed-0", "cdr3-seed-1", "cdr3-rank", "blosum62"),
    }
    for name in ("uniform", "cdr3"):
        own = scores.select(f"{name}-seed-0", f"{name}-seed-1").to_numpy().T
        expected = combine(own, "rank").scores
        np.testing.assert_array_equal(scores[f"{name}-rank"], expected)
        assert judged[f"{name}-rank"] == pytest.approx(spearman(expected, scores["value"]))


def test_a_family_is_a_mean_where_nothing_is_said(places, tmp_path):
    scores, judged = evaluated(places, tmp_path / "run", ["uniform"])
    assert set(judged) == {"uniform-seed-0", "uniform-seed-1", "uniform-mean", "blosum62"}
    mean = scores.select("uniform-seed-0", "uniform-seed-1").to_numpy().mean(axis=1)
    np.testing.assert_allclose(scores["uniform-mean"], mean, atol=1e-12)


def test_models_alone_are_an_ensemble_only_if_asked_for(places, tmp_path):
    models = ["alone", "uniform/seed-0"]
    _, judged = evaluated(places, tmp_path / "apart", models)
    assert set(judged) == {"alone", "seed-0", "blosum62"}
    scores, judged = evaluated(places, tmp_path / "together", models, ensemble="z")
    assert set(judged) == {"alone", "seed-0", "ensemble-z", "blosum62"}
    both = combine(scores.select("alone", "seed-0").to_numpy().T, "z").scores
    np.testing.assert_array_equal(scores["ensemble-z"], both)


@pytest.mark.parametrize(("way", "message"), [("z", "there is one"), ("median", "no ensemble 'median'")])
def test_what_cannot_be_put_together(places, tmp_path, way, message):
    arguments = ["evaluate", "variants", str(places / "assays"), "--out", str(tmp_path / "run")]
    answer = CliRunner().invoke(app, [*arguments, "--model", str(places / "alone"), "--ensemble", way])
    assert isinstance(answer.exception, ConfigError)
    assert message in str(answer.exception)
    assert not (tmp_path / "run").exists()


def test_other_evaluations_refuse_a_family(places, tmp_path):
    fasta = tmp_path / "one.fasta"
    fasta.write_text(">a\nMKTAYIAKQR\n")
    arguments = ["evaluate", "regions", "--model", str(places / "uniform"), "--input", str(fasta)]
    answer = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert "uniform' is an ensemble of 2 models" in str(answer.exception)
