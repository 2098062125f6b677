"""score with several models: three ways to one score, missing scores, provenance, what is refused."""

import json
import statistics

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata
from typer.testing import CliRunner

import protlm
from fixtures.builders import lively_esm
from protlm.cli.main import app
from protlm.errors import ConfigError
from protlm.recipes.score_table import score_table
from protlm.runs import Run
from protlm.scoring.libraries import single_substitutions
from protlm.scoring.wild_type import read_wild_type

WILD_TYPE = "MKTAYIAKQR"


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Three finished Runs in one folder."""
    folder = tmp_path_factory.mktemp("runs") / "fam"
    for seed in range(3):
        run = Run.create(folder / f"seed-{seed}", verb="pretrain")
        lively_esm(seed=seed).save(run.model_path)
        run.finish()
    return folder


def by_hand(way, columns):
    if way == "mean":
        return [statistics.mean(row) for row in zip(*columns, strict=True)]
    if way == "z":
        columns = [
            [(each - statistics.mean(column)) / statistics.pstdev(column) for each in column]
            for column in columns
        ]
    else:
        columns = [(rankdata(column) - 1) / (len(column) - 1) for column in columns]
    return [statistics.mean(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("way", ["mean", "z", "rank"])
def test_the_score_is_that_of_the_ensemble_and_says_so(family, tmp_path, way):
    variants = tmp_path / "variants.csv"
    variants.write_text("mutant\nM1L\nK2R\nA4G:Y5W\nK2G\nM1P\nQ4R\n")
    out = tmp_path / "scores.csv"
    arguments = ["score", "--model", str(family), "--wild-type", WILD_TYPE, "--variants", str(variants)]
    arguments += ["--invalid", "drop", "--ensemble", way, "--out", str(out), "--device", "cpu"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.exception
    assert "score: mean of the " in answer.stderr
    table = pl.read_csv(out)
    assert table["score"].null_count() == 1  # Q4R: there is no Q
    table = table.drop_nulls("score")
    columns = [table[f"score_fam-seed-{seed}"].to_list() for seed in range(3)]
    np.testing.assert_allclose(table["score"], by_hand(way, columns), atol=1e-12)
    facts = json.loads((tmp_path / "scores.csv.meta.json").read_text())
    assert facts["ensemble"] == way
    assert [each["name"] for each in facts["models"]] == [f"fam-seed-{seed}" for seed in range(3)]


def test_the_mean_is_what_is_taken_where_nothing_is_said(family):
    default = protlm.score(str(family), WILD_TYPE)
    assert default.equals(protlm.score(str(family), WILD_TYPE, ensemble="mean"))
    assert not np.allclose(default["score"], protlm.score(str(family), WILD_TYPE, ensemble="z")["score"])


def test_a_family_beside_other_models_is_one_ensemble(family):
    other = lively_esm(seed=9)
    other.name = "other"
    table = protlm.score([str(family), other], WILD_TYPE, ["M1L", "K2R", "T3A"], ensemble="rank")
    columns = {name for name in table.columns if name.startswith("score_")}
    assert columns == {"score_fam-seed-0", "score_fam-seed-1", "score_fam-seed-2", "score_other"}
    assert table["score"].to_list() == pytest.approx(by_hand("rank", table.select(columns).to_numpy().T))


def test_a_variant_that_one_model_leaves_out_has_no_score_and_is_counted(monkeypatch):
    from protlm.recipes import score_table as recipe

    first, second = lively_esm(seed=0), lively_esm(seed=1)
    first.name, second.name = "first", "second"
    run_plan = recipe.run_plan

    def deaf(model, *arguments, **options):
        found = run_plan(model, *arguments, **options)
        if model.name == "second":
            found.scores[:7] = np.nan
        return found

    monkeypatch.setattr(recipe, "run_plan", deaf)
    said: list[str] = []
    wild_type = read_wild_type(WILD_TYPE)
    table = single_substitutions(wild_type)
    frame, _ = score_table([first, second], table, wild_type, ensemble="rank", say=said.append)
    assert frame["score"].is_null().to_list() == [True] * 7 + [False] * (len(frame) - 7)
    assert frame["score_first"].null_count() == 0
    assert any("7 of 190 variants have no ensemble score" in line for line in said)


@pytest.mark.parametrize("models", [["one"], ["one", "family"]])
def test_wrong_ensembles_stop_before_anything_is_loaded(family, tmp_path, models):
    lively_esm().save(tmp_path / "one")
    places = {"one": str(tmp_path / "one"), "family": str(family)}
    way = "z" if len(models) == 1 else "median"
    message = "there is one" if len(models) == 1 else "no ensemble 'median'"
    arguments = ["score", "--wild-type", WILD_TYPE, "--all-single", "--ensemble", way]
    for name in models:
        arguments += ["--model", places[name]]
    answer = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "s.csv")])
    assert isinstance(answer.exception, ConfigError)
    assert message in str(answer.exception)
    assert not (tmp_path / "s.csv").exists()
