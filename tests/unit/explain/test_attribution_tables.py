"""Shares of regions, curves and controls by hand."""

import numpy as np
import polars as pl
import pytest
import torch

from fixtures.builders import as_record, lively_esm
from protlm.explain.attribution import attribute
from protlm.explain.attribution_curves import FRACTIONS, Curves, area, masked_sites, record_curves
from protlm.explain.attribution_tables import (
    control_table,
    curve_tables,
    record_shares,
    residue_table,
    share_table,
)
from protlm.models.heads import Head, HeadConfig, head_facts
from protlm.models.predictor import Predictor
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Region, encode_position
from protlm.types.target import Target

CDR3, FR1 = int(Region.CDR3), int(Region.FR1)


def antibody(name: str, regions: str) -> Record:
    """A heavy chain of one letter per region: c for CDR3, f for FR1, - for none."""
    codes = np.array([{"c": CDR3, "f": FR1, "-": 0}[each] for each in regions], dtype=np.uint8)
    positions = np.array([encode_position("111A") if each == "c" else 0 for each in regions], dtype=np.uint16)
    heavy = Chain("A" * len(regions), role=Role.HEAVY, tracks={"region": codes, "position": positions})
    return Record(name, (heavy, Chain("GG", role=Role.LIGHT)))


def lines_of(table: pl.DataFrame, **facts) -> dict:
    for name, value in facts.items():
        table = table.filter(pl.col(name) == value)
    (line,) = table.iter_rows(named=True)
    return line


RECORDS = [antibody("a", "fcc-"), antibody("b", "ffcc")]
VALUES = {"occlusion": [np.array([1, -2, 3, 0, 2, -2.0]), np.array([0, 0, 5, -5, 0, 0.0])]}
GROUPS = {"a": "one", "b": "two"}


def test_every_residue_has_its_place():
    table = residue_table(RECORDS, VALUES)
    assert len(table) == 12
    row = table.row(2, named=True)
    assert row == {
        "method": "occlusion",
        "id": "a",
        "chain": "heavy",
        "position": 3,
        "index": 2,
        "imgt": "111A",
        "region": "CDR3",
        "residue": "A",
        "attribution": 3.0,
    }
    assert table.row(3, named=True)["region"] == ""
    assert table["chain"].to_list() == (["heavy"] * 4 + ["light"] * 2) * 2


def test_shares_by_hand():
    shares = share_table(residue_table(RECORDS, VALUES), GROUPS)
    cdr3 = lines_of(shares, chain="heavy", region="CDR3")
    assert cdr3["share"] == pytest.approx((5 / 10 + 1) / 2)
    assert cdr3["length_share"] == pytest.approx((2 / 6 + 2 / 6) / 2)
    assert cdr3["excess"] == pytest.approx(0.75 - 1 / 3)
    assert cdr3["ratio"] == pytest.approx(0.75 * 3)
    assert (cdr3["share_low"], cdr3["share_high"]) == pytest.approx((0.5, 1.0))
    assert (cdr3["n_records"], cdr3["n_groups"]) == (2, 2)
    assert lines_of(shares, chain="heavy", region="CDRs")["share"] == pytest.approx(0.75)
    assert lines_of(shares, chain="heavy", region="framework")["share"] == pytest.approx(0.05)
    assert lines_of(shares, chain="light", region="all")["share"] == pytest.approx(0.2)
    assert lines_of(shares, chain="all", region="CDRs")["share"] == pytest.approx(0.75)


def test_groups_are_drawn_together():
    shares = share_table(residue_table(RECORDS, VALUES), {"a": "one", "b": "one"})
    assert np.isnan(lines_of(shares, chain="heavy", region="CDR3")["share_low"])


def test_a_record_without_any_attribution_is_left_out():
    values = {"occlusion": [VALUES["occlusion"][0], np.zeros(6)]}
    shares = share_table(residue_table(RECORDS, values), GROUPS)
    assert shares["n_records"].unique().to_list() == [1]
    assert lines_of(shares, chain="heavy", region="CDR3")["share"] == pytest.approx(0.5)


def test_a_record_lacking_a_region_has_a_share_of_zero():
    records = [RECORDS[0], antibody("b", "ffff")]
    shares = record_shares(residue_table(records, VALUES))
    assert lines_of(shares, id="b", chain="heavy", region="CDR3")["share"] == 0


def test_a_control_by_hand():
    own = residue_table(RECORDS, VALUES)
    other = residue_table(RECORDS, {"occlusion": [VALUES["occlusion"][0], np.array([5, 5, 0, 0, 0, 0.0])]})
    differences, alike = control_table(own, other, GROUPS)
    line = lines_of(differences, chain="heavy", region="CDR3")
    assert line["difference"] == pytest.approx((0 + 1) / 2)
    assert line["control_share"] == pytest.approx((0.5 + 0) / 2)
    assert alike["correlation"][0] == pytest.approx((1 - 0.5) / 2)  # of b: two of six are high, elsewhere


def test_masks_by_hand():
    order = np.array([3, 1, 0, 2, 4, 5, 6, 7, 8, 9])
    deletion = masked_sites(order, "deletion")
    assert [np.flatnonzero(line).tolist() for line in deletion[[0, 3, 4]]] == [[], [3], [1, 3]]
    assert deletion[-1].all()
    np.testing.assert_array_equal(masked_sites(order, "insertion"), ~deletion)


def test_area_of_a_straight_line():
    assert area(np.array(FRACTIONS)) == pytest.approx(0.5)


def test_areas_are_set_against_chance():
    falling, flat = np.array([1 - each for each in FRACTIONS]), np.full(len(FRACTIONS), 0.8)
    one = Curves(
        {
            ("occlusion", order, kind): falling
            for order in ("signed", "absolute")
            for kind in ("deletion", "insertion")
        },
        {"deletion": flat, "insertion": flat},
    )
    curves, areas = curve_tables([one, one], ["a", "b"])
    for kind, is_better in (("deletion", True), ("insertion", False)):
        line = lines_of(areas, kind=kind, order="signed")
        assert line["difference"] == pytest.approx(0.5 - 0.8)
        assert line["is_better"] is is_better
    assert len(curves) == 2 * 3 * len(FRACTIONS)


def test_curves_go_the_way_that_attributions_say():
    """Without layers the output is a mean over residues, so that occlusion is exact for every set of them."""
    model = lively_esm(num_layers=1)
    model.module.esm.encoder.layer = torch.nn.ModuleList()
    model.module.esm.encoder.emb_layer_norm_after = torch.nn.Identity()
    model.module.esm.embeddings.token_dropout = False
    record = as_record("QVQLVEDIQMTAWYKGHPNC")
    facts = head_facts(Target("binary", "sequence", ("no", "yes")), HeadConfig(), 16, [record])
    predictor = Predictor(model, Head(facts)).eval()
    predictor.head.layers[-1].weight.data.normal_()
    sites = attribute(predictor, [record], "occlusion", np.array([1])).sites[0]
    found = record_curves(predictor, record, {"occlusion": sites}, 1, max_tokens=30)
    with torch.no_grad():
        whole = float(predictor.outputs(predictor.batch([record]))[0, 0])
    highest = np.sort(sites)[::-1]
    expected = [whole - highest[: round(fraction * 20)].sum() for fraction in FRACTIONS]
    deletion = found.attributed["occlusion", "signed", "deletion"]
    np.testing.assert_allclose(deletion, expected, atol=1e-5)
    insertion = found.attributed["occlusion", "signed", "insertion"]
    assert insertion[0] == pytest.approx(deletion[-1])
    assert insertion[-1] == pytest.approx(deletion[0])
    assert area(deletion) < area(found.random["deletion"])
    again = record_curves(predictor, record, {"occlusion": sites}, 1, seed=1)
    assert not np.allclose(again.random["deletion"], found.random["deletion"])
