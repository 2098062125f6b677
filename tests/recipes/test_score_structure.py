"""score --plan inverse_folding: where the wild type lies in a structure, and what is said of it."""

import json

import numpy as np
import polars as pl
import pytest

from fixtures.structures import pdb_lines, small_encoder, walk
from protlm.data.readers.structure import read_structure
from protlm.errors import ConfigError, DataError, Interrupted
from protlm.recipes import score_structure
from protlm.recipes.laid_backbone import lay_along
from protlm.recipes.score import score, score_file
from protlm.recipes.score_structure import StructureInput
from protlm.scoring.inverse_folding import open_inverse_folding
from protlm.types.structure import Backbone
from protlm.types.variant import parse_variant

WILD = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
LIGHT = "DIQMTQSPSSLSASVGDRVTITC"


@pytest.fixture
def files(tmp_path):
    """A structure of two chains, of which residues 4 and 12 of the first are not resolved, and two models."""
    both = walk(WILD + LIGHT, chains=(len(WILD), len(LIGHT)))
    atoms = both.coordinates.copy()
    atoms[[3, 11]] = np.nan
    backbone = Backbone("both", both.residues, atoms, both.chain_index, both.chain_ids)
    (tmp_path / "both.pdb").write_text(pdb_lines(backbone))
    for kind in ("gvp-transformer", "protein-mpnn"):
        small_encoder(kind).save(tmp_path / kind)
    return tmp_path, backbone


def test_each_residue_keeps_its_coordinates(files):
    """The wild type lacks a residue that the structure has, and begins and ends elsewhere."""
    folder, backbone = files
    wild = "AG" + WILD[4:14] + WILD[15:] + "KK"
    placed, lines = lay_along(read_structure(folder / "both.pdb"), wild)
    assert placed.residues == wild + LIGHT
    rows = [*range(4, 14), *range(15, len(WILD))]
    expected = np.full((len(wild), 4, 3), np.nan)
    expected[2:-2] = backbone.coordinates[rows]
    np.testing.assert_allclose(placed.coordinates[: len(wild)], expected, atol=1e-3)
    np.testing.assert_allclose(placed.coordinates[len(wild) :], backbone.coordinates[len(WILD) :], atol=1e-3)
    assert placed.chain_ids == ("H", "L")
    assert "28 of 32 residues of the wild type have a place in it, 27 are resolved" in lines[0]
    assert "its other 5 residues are left out" in lines[0]
    assert lay_along(read_structure(folder / "both.pdb"), wild, is_alone=True)[0].chain_ids == ("H",)


def test_other_letters_are_those_of_the_wild_type_and_are_told(files):
    folder, _ = files
    wild = WILD.replace("Y", "F", 1)
    placed, lines = lay_along(read_structure(folder / "both.pdb"), wild)
    assert placed.residues.startswith(wild)
    assert "where they differ: 1 (F for Y at position 5)" in lines[1]


@pytest.mark.parametrize("kind", ["gvp-transformer", "protein-mpnn"])
def test_a_table_is_written_with_where_it_comes_from(files, kind):
    folder, backbone = files
    said = []
    frame = score_file(
        [],
        WILD,
        folder / "scores.csv",
        sites="4,20",
        plan="inverse-folding",
        structure=StructureInput(f"{folder / 'both.pdb'}:H", folder / kind),
        device="cpu",
        say=said.append,
    )
    rounded = Backbone(
        "x", backbone.residues, backbone.coordinates.round(3), backbone.chain_index, backbone.chain_ids
    )
    variants = [parse_variant(label, WILD) for label in frame["mutant"]]
    expected = open_inverse_folding(small_encoder(kind), rounded).scores(variants)
    np.testing.assert_allclose(frame["score"].fill_null(np.nan).to_numpy(), expected, atol=1e-4)
    is_mpnn = kind == "protein-mpnn"
    assert frame["score"].null_count() == 19 * is_mpnn  # position 4 is not resolved
    assert (frame["note"] == "not resolved in the structure").sum() == 19 * is_mpnn
    assert any("19 of 38 variants mutate a residue that is not resolved" in line for line in said)
    facts = json.loads((folder / "scores.csv.meta.json").read_text())
    assert facts["plan"] == "inverse_folding"
    assert facts["structure"]["chains"] == ["H", "L"]
    assert facts["structure"]["model"] == kind


@pytest.mark.parametrize("kind", ["gvp-transformer", "protein-mpnn"])
def test_an_interrupted_scan_goes_on_where_it_stopped(files, kind, monkeypatch):
    folder, _ = files
    given = StructureInput(folder / "both.pdb", folder / kind)
    options = {"plan": "inverse_folding", "structure": given, "device": "cpu"}
    whole = score_file([], WILD, folder / "whole.parquet", say=lambda _: None, **options)
    monkeypatch.setattr(score_structure, "_CHUNK", 200)
    opened, scored = score_structure.open_inverse_folding, []

    def counting(*arguments, **settings):
        folding = opened(*arguments, **settings)
        own = folding.scores

        def scores(variants, **more):
            if len(scored) == 2:
                scored.append(0)
                raise KeyboardInterrupt
            scored.append(len(variants))
            return own(variants, **more)

        folding.scores = scores
        return folding

    monkeypatch.setattr(score_structure, "open_inverse_folding", counting)
    with pytest.raises(Interrupted, match="the same command resumes"):
        score_file([], WILD, folder / "cut.parquet", say=lambda _: None, **options)
    said = []
    cut = score_file([], WILD, folder / "cut.parquet", say=said.append, **options)
    assert scored == [200, 200, 0, 200, 27]
    assert "inverse_folding: resuming after 400 of 627 variants" in said
    assert not (folder / "cut.parquet.parts").exists()
    assert cut["mutant"].equals(whole["mutant"])
    for values in (cut["score"], cut["score_inverse_folding"]):
        np.testing.assert_allclose(
            values.fill_null(np.nan).to_numpy(), whole["score"].fill_null(np.nan).to_numpy(), atol=1e-5
        )


def test_it_is_a_member_beside_a_language_model(files, tiny_model):
    folder, _ = files
    frame = score(
        [tiny_model, "inverse_folding"],
        WILD,
        ["K2R", "Q9E:F19Y"],
        plan="wildtype_marginal",
        structure=folder / "both.pdb",
        structure_model=folder / "protein-mpnn",
        device="cpu",
    )
    own = frame.select(pl.col("^score_.*$"))
    assert own.width == 2
    np.testing.assert_allclose(frame["score"], own.mean_horizontal())


def test_each_row_is_told_which_model_gave_no_score_and_why(files):
    """Positions 4 and 12 are not resolved; the alignment begins at position 7."""
    folder, _ = files
    rows = [WILD[6:], WILD[6:].replace("R", "K"), WILD[6:].replace("Q", "E")]
    (folder / "family.a3m").write_text("".join(f">r{number}\n{row}\n" for number, row in enumerate(rows)))
    frame = score(
        ["site_independent", "inverse_folding"],
        WILD,
        ["Q9E", "K2R", "I12V", "K2R:A4S"],
        alignment=folder / "family.a3m",
        structure=folder / "both.pdb",
        structure_model=folder / "protein-mpnn",
        device="cpu",
    )
    covered, resolved = "not covered by the alignment", "not resolved in the structure"
    assert frame["note"].to_list() == ["", covered, resolved, f"{covered}; {resolved}"]
    assert frame["score"].is_null().to_list() == [False, True, True, True]
    assert frame["score_inverse_folding"].is_null().to_list() == [False, False, True, True]


@pytest.mark.parametrize(
    ("models", "plan", "given", "error", "message"),
    [
        ([], "inverse_folding", ("both.pdb", None), ConfigError, "needs a structure and a model"),
        ([], "masked_marginal", ("both.pdb", "protein-mpnn"), ConfigError, "none is named"),
        (["esm2-8m"], "inverse_folding", ("both.pdb", "protein-mpnn"), ConfigError, "--model names esm2-8m"),
        ([], "inverse_folding", ("both.pdb:X", "protein-mpnn"), DataError, "no protein chain 'X'"),
        ([], "inverse_folding", ("both.pdb:L", "protein-mpnn"), DataError, "does not fit chain 'L'"),
        ([], "inverse_folding", ("none.pdb", "protein-mpnn"), DataError, "no such file"),
    ],
)
def test_what_is_missing_is_named(files, models, plan, given, error, message):
    folder, _ = files
    source, model = (None if each is None else folder / each for each in given)
    with pytest.raises(error, match=message):
        score_file(
            models,
            WILD,
            folder / "scores.csv",
            plan=plan,
            structure=StructureInput(source, model),
            device="cpu",
            say=lambda _: None,
        )


def test_insertions_have_no_place_in_a_backbone(files):
    folder, _ = files
    (folder / "longer.csv").write_text(f"mutated_sequence\nG{WILD}\n")
    with pytest.raises(DataError, match="one place for each residue"):
        score_file(
            [],
            WILD,
            folder / "scores.csv",
            variants=folder / "longer.csv",
            plan="inverse_folding",
            structure=StructureInput(folder / "both.pdb", folder / "protein-mpnn"),
            device="cpu",
            say=lambda _: None,
        )
