"""Names that stand for several models: folders of Runs, and the five ESM-1v of the catalogue."""

import json

import pytest
from typer.testing import CliRunner

from fixtures.builders import lively_esm
from protlm.cli.main import app
from protlm.errors import ModelError
from protlm.models.catalog import catalog
from protlm.models.loading import load_members, load_model
from protlm.models.members import FILE_NAME, expand, find_ensemble, write_members
from protlm.runs import Run


@pytest.fixture
def folder(tmp_path):
    """Three finished Runs with models of their own; seed 10 comes behind seed 2."""
    for seed in (0, 2, 10):
        trained(tmp_path / "fam", seed)
    return tmp_path / "fam"


def trained(folder, seed, *, is_done=True):
    run = Run.create(folder / f"seed-{seed}", verb="pretrain")
    lively_esm(seed=seed).save(run.model_path)
    if is_done:
        run.finish()
    return run


def test_a_folder_of_runs_is_its_members_in_the_order_of_their_seeds(folder):
    ensemble = find_ensemble(folder)
    assert ensemble is not None
    assert ensemble.members == tuple(str(folder / f"seed-{seed}") for seed in (0, 2, 10))
    assert ensemble.shown == ("fam-seed-0", "fam-seed-2", "fam-seed-10")


def test_members_are_loaded_each_with_its_own_weights(folder):
    models = load_members([str(folder), str(folder / "seed-2")], device="cpu")
    assert [model.name for model in models] == ["fam-seed-0", "fam-seed-2", "fam-seed-10", "seed-2"]
    first, second, _, again = (model.module.lm_head.bias for model in models)
    assert not first.equal(second)
    assert second.equal(again)


def test_what_is_one_model_stays_one(folder, tmp_path):
    lively_esm().save(tmp_path / "one")
    names = ["esm2-8m", str(folder / "seed-0"), str(tmp_path / "one"), "no-such-name"]
    assert expand(names) == [(name, None) for name in names]
    assert find_ensemble(tmp_path) is None  # whatever else lies in it


def test_the_list_of_a_folder_counts_and_not_what_lies_beside(folder):
    write_members(folder, ["seed-0", "seed-2"])
    write_members(folder, ["seed-0"])
    ensemble = find_ensemble(folder)
    assert ensemble is not None
    assert len(ensemble.members) == 3  # those that were there before are kept
    (folder / FILE_NAME).write_text(json.dumps({"format_version": 1, "members": ["seed-10", "seed-0"]}))
    assert [name for _, name in expand([str(folder)])] == ["fam-seed-10", "fam-seed-0"]


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_member_that_is_not_trained_is_named_and_the_others_can_be_taken(folder, has_begun):
    write_members(folder, ["seed-3"])
    if has_begun:
        trained(folder, 3, is_done=False)
    with pytest.raises(
        ModelError, match=r"1 of the 4 models of .*fam are not trained yet \(first: seed-3\)"
    ) as caught:
        load_members([str(folder)])
    assert f"--model {folder / 'seed-10'}" in str(caught.value)
    assert "seed-3" not in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 1}', '{"members": ["a"]}'])
def test_a_damaged_list_is_refused(folder, text):
    (folder / FILE_NAME).write_text(text)
    with pytest.raises(ModelError, match=r"ensemble\.json is damaged"):
        find_ensemble(folder)


def test_a_list_of_a_later_format_is_refused(folder):
    (folder / FILE_NAME).write_text('{"format_version": 2, "members": []}')
    with pytest.raises(ModelError, match="format 2"):
        find_ensemble(folder)


def test_where_one_model_is_needed_an_ensemble_is_refused(folder, tmp_path):
    with pytest.raises(
        ModelError, match=r"'.*fam' is an ensemble of 3 models.*\n.*seed-0; score and evaluate"
    ):
        load_model(folder)
    with pytest.raises(ModelError, match="'esm1v' is an ensemble of 5 models"):
        load_model("esm1v")
    fasta = tmp_path / "one.fasta"
    fasta.write_text(">a\nMKTAYIAKQR\n")
    arguments = ["embed", "--model", str(folder), "--input", str(fasta), "--out", str(tmp_path / "e.parquet")]
    answer = CliRunner().invoke(app, arguments)
    assert isinstance(answer.exception, ModelError)
    assert "is an ensemble of 3 models" in str(answer.exception)


def test_the_catalogue_names_the_published_models():
    entries = catalog()
    assert {f"esm2-{size}" for size in ("8m", "35m", "150m", "650m", "3b", "15b")} <= set(entries)
    assert {"esm1b", "esmc-300m", "esmc-600m", *(f"esm1v-{seed}" for seed in range(1, 6))} <= set(entries)
    assert expand(["esm1v"]) == [(f"esm1v-{seed}", f"esm1v-{seed}") for seed in range(1, 6)]
    assert not entries["esm1v"].is_on_hub
    assert entries["esm1v"].convert_command is None
    assert all(member in entries for entry in entries.values() for member in entry.members)


def test_the_catalogue_shows_the_members():
    answer = CliRunner().invoke(app, ["models"])
    assert "esm1v-1 … esm1v-5" in answer.stdout
    answer = CliRunner().invoke(app, ["models", "esm1v"])
    assert "esm1v-1, esm1v-2, esm1v-3, esm1v-4, esm1v-5" in answer.stdout
