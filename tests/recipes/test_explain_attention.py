"""explain attention from structures to a report, through the real command line; and bad input to it."""

import contextlib
import io
import json
import sys
import tarfile

import numpy as np
import polars as pl
import pytest

from fixtures.builders import batch_of
from fixtures.complexes import line_of, write_complexes, write_pdb
from fixtures.subwords import SUBWORDS
from protlm.cli.main import main
from protlm.data.layout import FILE_NAME
from protlm.errors import ModelError
from protlm.explain.attention import attention_maps
from protlm.models.architectures import EsmArchitecture
from protlm.models.loading import load_model
from protlm.recipes.explain_attention import explain_attention

TABLES = {
    f"attention_{name}"
    for name in ("heads", "chosen", "example", "complexes", "cases", "summary", "differences")
}


def protlm(*arguments):
    """Give exit status, standard output and standard error."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    old, sys.argv = sys.argv, ["protlm", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leave:
        status = leave.code
    finally:
        sys.argv = old
    return status, out.getvalue(), err.getvalue()


def save_model(folder, **sizes):
    EsmArchitecture.Config(**{"num_layers": 2, "hidden_size": 16, "num_heads": 2, **sizes}).build(
        seed=0
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with eight complexes, them in a tar, and a model."""
    folder = tmp_path_factory.mktemp("explain")
    write_complexes(folder / "complexes", 8)
    with tarfile.open(folder / "complexes.tar.gz", "w:gz") as archive:
        archive.add(folder / "complexes", "complexes")
    save_model(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def finished(place):
    status, out, err = protlm(
        *("explain", "attention", "--model", place / "tiny", "--structures", place / "complexes.tar.gz"),
        *("--repeats", 2, "--out", place / "run"),
    )
    assert status == 0, err
    return place / "run", out, err


def test_a_run_has_its_tables_and_says_what_it_judged(finished):
    run, out, err = finished
    assert (run / "DONE").exists()
    assert {path.stem for path in (run / "tables").iterdir()} == TABLES
    assert "8 complexes of 8 groups" in err
    assert "chosen and fitted on 4 complexes" in err
    assert "residue pairs against contacts: 8 complexes" in out
    assert "tiny, best head, AUROC: over 'antigen shuffled'" in out
    assert "over 'another antibody'" in out
    assert max(map(len, out.splitlines())) < 260


def test_heads_are_what_the_maps_say(finished, place):
    """One head of one complex, recomputed from the model, the coordinates and the formula."""
    run, _, _ = finished
    cases = pl.read_parquet(run / "tables" / "attention_complexes.parquet").row(0, named=True)
    example = pl.read_parquet(run / "tables" / "attention_example.parquet")
    case, layer, head = example.select("case", "layer", "head").row(0)
    antibody, antigen = (
        pl.read_parquet(run / "tables" / "attention_complexes.parquet")
        .filter(pl.col("case") == case)
        .select("antibody_chains", "antigen_chains")
        .row(0)
    )
    assert (cases["n_antibody"], cases["n_antigen"]) == (12, 14)
    model = load_model(str(place / "tiny"))
    tokens = [0, *(model.layout.ids[letter] for letter in antibody), 0, 0]
    tokens += [*(model.layout.ids[letter] for letter in antigen), 2]
    batch = batch_of(model.layout, f"{antibody}/{antigen}")
    assert batch.tokens.tolist() == tokens
    full = attention_maps(model, batch)[0][layer - 1, head - 1].double().numpy()
    kept = [*range(1, 13), *range(15, 29)]
    both = (full + full.T)[np.ix_(kept, kept)]
    corrected = both - np.outer(both.sum(1), both.sum(0)) / both.sum()
    np.testing.assert_allclose(
        example["attention"].to_numpy().reshape(12, 14), corrected[:12, 12:], atol=1e-6
    )
    contacts = example["contact"].to_numpy().reshape(12, 14)
    assert contacts[np.arange(6), np.arange(6)].all()  # the two faces
    assert not contacts[6:].any()
    assert not contacts[:, 6:].any()
    assert example.select("antibody_position", "antigen_position").row(15) == (2, 2)


def test_the_report_shows_it_without_torch(finished, tmp_path):
    run, _, _ = finished
    status, _, err = protlm("report", run, "--out", tmp_path / "report.html")
    assert status == 0, err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "Attention and binding sites: run",
        "AUROC by layer and head",
        "P@L/2",
        "CDRs and amino acids",
    ):
        assert text in page


def test_a_folder_gives_the_same_as_a_tar_and_json_is_lines(finished, place, tmp_path):
    run, _, _ = finished
    status, out, err = protlm(
        *("explain", "attention", "--model", place / "tiny", "--structures", place / "complexes"),
        *("--repeats", 2, "--out", tmp_path / "again", "--json"),
    )
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0].keys() >= {"level", "model", "method", "condition", "auroc", "precision_l"}
    for name in TABLES:
        ours, theirs = (
            pl.read_parquet(each / "tables" / f"{name}.parquet") for each in (run, tmp_path / "again")
        )
        assert ours.equals(theirs), name


def explain(place, out, *more, model="tiny", structures="complexes"):
    return protlm(
        *("explain", "attention", "--model", place / model, "--structures", place / structures),
        *("--repeats", 1, "--out", out, *more),
    )


def test_a_finished_run_is_kept(finished, place):
    run, _, _ = finished
    status, _, err = explain(place, run)
    assert status == 1
    assert "holds a finished 'explain' Run" in err


def test_long_complexes_are_left_out_or_cut_and_counted(place, tmp_path):
    folder = tmp_path / "complexes"
    write_complexes(folder, 6)
    for side in "rl":
        source = folder.parent / "long" / f"C000_{side}_b.pdb"
        write_complexes(folder.parent / "long", 1, seed=9, antigen=40)
        (folder / f"L000_{side}_b.pdb").write_bytes(source.read_bytes())
    save_model(tmp_path / "short", positions="learned", max_tokens=34)
    answers = {
        long: explain(tmp_path, tmp_path / long, "--long", long, model="short")
        for long in ("error", "drop", "crop")
    }
    status, _, err = answers["error"]
    assert (status, "1 of 7 complexes are over the limit" in err, "'L000', has 52 residues" in err) == (
        1,
        True,
        True,
    )
    assert "--long drop or crop" in err
    assert answers["drop"][0] == 0, answers["drop"][2]
    assert "L000; left out" in answers["drop"][2]
    manifest = json.loads((tmp_path / "drop" / "data_manifest.json").read_text())
    assert (manifest["num_records"], manifest["left_out"]) == (6, ["L000"])
    assert answers["crop"][0] == 0, answers["crop"][2]
    cut = pl.read_parquet(tmp_path / "crop" / "tables" / "attention_complexes.parquet").row(-1, named=True)
    assert (cut["case"], cut["n_antigen"], cut["n_contacts"] > 10) == ("L000", 18, True)
    assert "antigen cut from 40 to 18 residues" in cut["notes"]
    assert cut["partner"] is not None


def test_models_that_cannot_part_chains_are_refused_first(place, tmp_path):
    save_model(tmp_path / "single")
    path = tmp_path / "single" / FILE_NAME
    layout = json.loads(path.read_text())
    layout["separator"] = ["<sep>"]
    path.write_text(json.dumps(layout))
    status, _, err = protlm(
        *("explain", "attention", "--model", tmp_path / "single", "--structures", place / "nowhere"),
        *("--out", tmp_path / "out"),
    )
    assert status == 1
    assert "the vocabulary lacks the chain separator <sep>" in err
    assert not (tmp_path / "out").exists()


def test_a_model_of_sub_words_is_refused_by_name(place, tmp_path, monkeypatch):
    words = load_model(str(place / "tiny"))
    words.layout = SUBWORDS
    monkeypatch.setattr("protlm.recipes.explain_attention.load_models", lambda *_: [words])
    with pytest.raises(ModelError, match="explain attention needs one residue per token, and model 'tiny'"):
        explain_attention([str(place / "tiny")], place / "complexes", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_archives_that_lead_outside_are_refused(place, tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.add(place / "complexes" / "C000_r_b.pdb", "../C000_r_b.pdb", recursive=False)
    status, _, err = explain(place, tmp_path / "out", structures=tmp_path / "bad.tar")
    assert status == 1
    assert "its member '../C000_r_b.pdb' leads outside of it, so nothing was unpacked" in err
    assert not (tmp_path.parent / "C000_r_b.pdb").exists()


def test_what_is_no_complex_is_refused(place, tmp_path):
    structures = tmp_path / "structures"
    structures.mkdir()
    (structures / "text.txt").write_text("no structure")
    for source, says in (
        (structures, "has no structure file"),
        (structures / "text.txt", "neither a folder nor a tar"),
    ):
        status, _, err = explain(place, tmp_path / "out", structures=source)
        assert (status, says in err, "Traceback" in err) == (1, True, False), err
    write_pdb(structures / "A_r_b.pdb", {"H": ("GGG", line_of(3))})
    write_pdb(structures / "A_l_b.pdb", {"A": ("GGG", line_of(3, y=6.0))})
    status, _, err = explain(place, tmp_path / "out", structures=structures)
    assert status == 1
    assert "leaves none with another antigen to judge on" in err


def test_one_chain_only_is_refused(place, tmp_path):
    structures = tmp_path / "structures"
    structures.mkdir()
    write_pdb(structures / "A.pdb", {"H": ("GGG", line_of(3))})
    (tmp_path / "cases.tsv").write_text("case\nA_H:B\n")
    status, _, err = explain(
        place, tmp_path / "out", "--cases", tmp_path / "cases.tsv", structures=structures
    )
    assert status == 1
    assert "has no protein chain 'B'" in err
