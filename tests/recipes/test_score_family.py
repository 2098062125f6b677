"""score beside, with and from an alignment; models that learned a family and know where it ends."""

import json

import numpy as np
import polars as pl
import pytest

from fixtures.builders import lively_esm
from protlm.data.alignment import read_alignment
from protlm.data.family import Family
from protlm.errors import ConfigError, DataError
from protlm.recipes.score import score, score_file
from protlm.recipes.score_table import NOT_COVERED
from protlm.scoring.potts import PottsModel
from protlm.scoring.site_independent import SiteIndependent
from protlm.types.variant import parse_variant

WILD_TYPE = "MKTAYIAKQRLE"
ROWS = ("ktAYIAKQRLE", "AYIARQRLD", "AFIAKQKLE", "SYVA-QRLE", "AYLAKNRLD", "TYIAKQRIE")
SIZES = {"num_layers": 1, "hidden_size": 16, "num_heads": 2}


@pytest.fixture
def alignment(tmp_path):
    path = tmp_path / "family.a3m"
    path.write_text("".join(f">r{number}\n{row}\n" for number, row in enumerate(ROWS)))
    return path


@pytest.fixture
def model(tmp_path):
    lively_esm(**SIZES).save(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def family_model(tmp_path):
    model = lively_esm(seed=1, positions="learned", max_tokens=32, **SIZES)
    model.family = Family(WILD_TYPE, tuple(range(3, 12)))
    model.save(tmp_path / "of_family")
    return tmp_path / "of_family"


def write(tmp_path, *mutants):
    path = tmp_path / "variants.csv"
    path.write_text("\n".join(["mutant", *mutants]) + "\n")
    return path


def run(models, path, out, **options):
    said = []
    frame = score_file(models, WILD_TYPE, out, variants=path, device="cpu", say=said.append, **options)
    return frame, said


def test_site_independent_models_stand_beside_and_do_not_enter_the_score(alignment, model, tmp_path):
    path, out = write(tmp_path, "A4S", "A4S:Y5F", "K2A"), tmp_path / "out.csv"
    frame, _ = run([str(model)], path, out, alignment=alignment)
    np.testing.assert_array_equal(frame["score"], frame["score_tiny"])
    laid = read_alignment(alignment, wild_type=WILD_TYPE, min_column_occupancy=0.0)
    variants = [parse_variant(text, WILD_TYPE) for text in ("A4S", "A4S:Y5F")]
    for prior, name in (("uniform", "site_independent"), ("blosum62", "site_independent_blosum62")):
        expected = SiteIndependent.fit(laid, prior=prior).scores(variants)
        np.testing.assert_allclose(frame[f"score_{name}"][:2], expected)
        assert frame[f"score_{name}"][2] is None
    facts = json.loads((tmp_path / "out.csv.meta.json").read_text())["alignment"]
    assert (facts["file"], facts["num_rows"], facts["members"]) == ("family.a3m", 6, [])
    assert facts["beside"] == ["site_independent", "site_independent_blosum62"]


def test_a_model_of_the_alignment_is_a_plan_of_its_own(alignment, tmp_path):
    frame, said = run(
        [], write(tmp_path, "A4S", "A4S:Y5F", "K2A"), tmp_path / "o.csv", plan="potts", alignment=alignment
    )
    laid = read_alignment(alignment, wild_type=WILD_TYPE, min_column_occupancy=0.0)
    variants = [parse_variant(text, WILD_TYPE) for text in ("A4S", "A4S:Y5F")]
    np.testing.assert_allclose(frame["score"][:2], PottsModel.fit(laid).scores(variants))
    assert frame["note"].to_list() == ["", "", NOT_COVERED]
    assert frame["num_masked_contexts"].to_list() == [0, 0, 0]
    assert any("potts: converged" in line for line in said)


def test_a_model_of_the_alignment_is_a_member_of_an_ensemble(alignment, model, tmp_path):
    path = write(tmp_path, "A4S", "Y5F", "L11I")
    frame, _ = run(
        [str(model), "site_independent"], path, tmp_path / "o.csv", alignment=alignment, ensemble="rank"
    )
    ranks = sum(frame[name].rank() - 1 for name in ("score_tiny", "score_site_independent")) / 4
    np.testing.assert_allclose(frame["score"], ranks)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["potts"], {}, "potts is a model of an alignment, and none is given"),
        (["x"], {"plan": "potts"}, "--plan potts is a model of the alignment itself, and --model names x"),
        ([], {"plan": "potts", "fill": "joint"}, "--fill joint goes with masked_marginal, not with potts"),
    ],
)
def test_what_does_not_go_together_is_refused(models, options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run(models, write(tmp_path, "A4S"), tmp_path / "o.csv", **options)


def test_a_loaded_model_does_not_go_with_a_plan_that_takes_none(alignment):
    with pytest.raises(ConfigError, match="and --model names model"):
        score(lively_esm(**SIZES), WILD_TYPE, ["A4S"], plan="potts", alignment=alignment)


def test_insertions_have_no_score_beside(alignment, model, tmp_path):
    path = tmp_path / "variants.fasta"
    path.write_text(f">a\n{WILD_TYPE[:5]}G{WILD_TYPE[5:]}\n>b\n{WILD_TYPE.replace('Q', 'N')}\n")
    frame, _ = run([str(model)], path, tmp_path / "o.csv", plan="pseudo_log_likelihood", alignment=alignment)
    assert frame["score"].null_count() == 0
    assert frame["score_site_independent"].is_null().to_list() == [True, False]


def test_a_family_model_leaves_uncovered_sites_without_a_score(family_model, tmp_path):
    frame, said = run([str(family_model)], write(tmp_path, "A4S", "K2A", "K2A:A4S"), tmp_path / "o.csv")
    assert frame["score"].is_null().to_list() == [False, True, True]
    assert frame["note"].to_list() == ["", NOT_COVERED, NOT_COVERED]
    assert any("2 of 3 variants get no score" in line for line in said)


def test_a_family_model_reads_a_part_of_its_wild_type_at_its_place(family_model, tmp_path):
    """The scores of a part are those of its residues at the positions that they have in the whole."""
    from protlm.models.loading import load_model

    loaded = load_model(family_model, device="cpu")
    part = score(loaded, WILD_TYPE[4:], ["Y1F"], plan="wildtype_marginal")["score"][0]
    loaded.family = None
    elsewhere = score(loaded, WILD_TYPE[4:], ["Y1F"], plan="wildtype_marginal")["score"][0]
    assert abs(part - elsewhere) > 1e-4
    by_hand = _logprobs_at(loaded, WILD_TYPE[4:], first_position=5)
    ids = loaded.layout.ids
    assert part == pytest.approx(by_hand[ids["F"]] - by_hand[ids["Y"]], abs=1e-5)


def _logprobs_at(model, residues, first_position):
    """Run Hugging Face's own module with position ids made here; positions start behind the padding id."""
    import torch

    ids = [model.layout.ids["<cls>"], *(model.layout.ids[letter] for letter in residues)]
    ids.append(model.layout.ids["<eos>"])
    places = [0, *range(first_position, first_position + len(residues) + 1)]
    with torch.inference_mode():
        logits = model.module(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            position_ids=torch.tensor([places]) + model.module.config.pad_token_id + 1,
        ).logits
    return torch.log_softmax(logits[0, 1], dim=-1).numpy()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 8, "long": "tile"}, ConfigError, "cannot be cut"),
        ({"wild_type": "WWWWW"}, DataError, "is no part of it"),
    ],
)
def test_a_family_model_refuses_what_it_did_not_learn(family_model, tmp_path, options, error, message):
    wild_type = options.pop("wild_type", WILD_TYPE)
    with pytest.raises(error, match=message):
        score_file(
            [str(family_model)], wild_type, tmp_path / "o.csv", device="cpu", say=lambda _: None, **options
        )


def test_the_table_is_whole_when_read_again(alignment, model, tmp_path):
    frame, _ = run([str(model)], write(tmp_path, "A4S", "K2A"), tmp_path / "o.parquet", alignment=alignment)
    assert pl.read_parquet(tmp_path / "o.parquet").equals(frame)
