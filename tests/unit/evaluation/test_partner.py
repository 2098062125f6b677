"""Random partners, and what models learn from partners, with models whose answers are written down."""

import math

import numpy as np
import polars as pl
import pytest
from builders import antibody
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.table_model import Coupling
from protlm.data.corpus import write_corpus
from protlm.evaluation.mutation_masking import (
    has_mutations,
    mutated_indices,
    mutation_masking_tables,
    predict_masked_mutations,
)
from protlm.evaluation.partner import (
    NONE,
    RANDOM,
    SAME_LOCUS,
    TRUE,
    PairIndex,
    partner_tables,
    predict_with_partners,
)
from protlm.types.record import Chain, Record, Role


def some_pairs(number: int, *, groups: int | None = None) -> list[Record]:
    random = np.random.default_rng(number)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    return [
        antibody(
            f"r{i}",
            "".join(random.choice(list(letters), 8)),
            "".join(random.choice(list(letters), 7)),
            group=f"g{i % groups}" if groups else "",
            locus="K" if i % 3 else "L",
        )
        for i in range(number)
    ]


def test_partners_are_of_another_group_and_of_the_same_loci_where_asked(tmp_path):
    corpus = write_corpus(tmp_path / "c", some_pairs(60, groups=7))
    index = PairIndex.build(corpus)
    for same_locus in (False, True):
        drawn = index.draw(seed=1, same_locus=same_locus)
        assert (drawn >= 0).all()
        assert (index.group[drawn] != index.group).all()
        agrees = index.loci[drawn] == index.loci
        assert agrees.all() if same_locus else not agrees.all()


def test_partners_do_not_depend_on_the_order_of_the_corpus(tmp_path):
    records = some_pairs(30)
    drawn = []
    for name, some in (("one", records), ("two", records[::-1])):
        corpus = write_corpus(tmp_path / name, some)
        index = PairIndex.build(corpus)
        ids = np.array(corpus.column("id"))
        drawn.append(
            dict(zip(ids[index.rows], ids[index.rows[index.draw(seed=3, same_locus=True)]], strict=True))
        )
    assert drawn[0] == drawn[1]
    other = PairIndex.build(corpus)
    assert (other.draw(seed=3, same_locus=False) != other.draw(seed=4, same_locus=False)).any()


def test_records_that_are_no_pair_are_not_in_the_index(tmp_path):
    alone = Record("alone", (Chain("ACD", role=Role.HEAVY, locus="H"),))
    twins = Record("twins", (Chain("ACD", role=Role.HEAVY), Chain("ACE", role=Role.HEAVY)))
    half = Record("half", (Chain("ACD"), Chain("ACE", role=Role.LIGHT)))
    corpus = write_corpus(tmp_path / "c", [alone, *some_pairs(3), twins, half])
    assert len(PairIndex.build(corpus).rows) == 3


def proteins(number: int) -> Record:
    return Record(f"r{number}", (Chain("ACDEFGH"), Chain("KLMNPQR"[number:] + "K")), group=f"g{number}")


def test_pairs_of_proteins_without_roles_keep_the_order_of_their_record(tmp_path):
    corpus = write_corpus(tmp_path / "c", [proteins(0), proteins(1), *some_pairs(3)])
    index = PairIndex.build(corpus)
    assert len(index.rows) == 5
    of_proteins = index.kind == 0
    assert of_proteins.sum() == 2
    # both share their first chain, and partners need two other chains
    assert (index.draw(seed=0, same_locus=False)[of_proteins] == -1).all()


def test_a_partner_without_a_role_is_shown_in_its_place(coupled):
    """Only the first residue of the first chain depends on the partner; lines are of whole chains."""
    donor = Record("p", (Chain("WWWWWWW"), Chain("VVVVVVV")))
    table = predict_with_partners(coupled, [proteins(0)], {RANDOM: [donor]})
    shown = [text for text in coupled.contexts if "VVVVVVV" in text]
    assert shown
    assert all(text.endswith("VVVVVVV<eos>") for text in shown)
    summary, gains = partner_tables(table)
    assert set(summary["region"]) == {"all"}
    gain = math.log(20) - math.log1p(19 * math.exp(-4))
    own = gains.filter((pl.col("metric") == "cross_entropy") & (pl.col("against") == RANDOM))
    assert dict(zip(own["chain"], own["gain"], strict=True)) == pytest.approx(
        {"chain1": gain / 7, "chain2": 0, "both": gain / 15}, abs=1e-5
    )


def test_a_lone_group_has_no_partner_and_a_rare_one_is_found(tmp_path):
    """Of 40 pairs 39 are one clonotype: random tries may miss the other one, the search does not."""
    corpus = write_corpus(tmp_path / "one", some_pairs(4, groups=1))
    assert (PairIndex.build(corpus).draw(seed=0, same_locus=False) == -1).all()
    records = some_pairs(40, groups=1)
    records[7] = Record(records[7].id, records[7].chains, group="other")
    index = PairIndex.build(write_corpus(tmp_path / "two", records))
    drawn = index.draw(seed=0, same_locus=False)
    assert (index.group[drawn] != index.group).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 2**32))
def test_whoever_can_have_a_partner_gets_one(groups, seed):
    number = len(groups)
    index = PairIndex(
        rows=np.arange(number),
        keys=np.arange(number, dtype=np.uint64) * np.uint64(7919),
        group=np.array(groups),
        kind=np.ones(number, dtype=np.int64),
        loci=np.ones(number, dtype=np.int64),
        residues=np.arange(2 * number).reshape(number, 2),
    )
    drawn = index.draw(seed=seed, same_locus=False)
    can = np.array([any(other != group for other in groups) for group in groups])
    assert ((drawn >= 0) == can).all()
    assert all(groups[pair] != groups[other] for pair, other in enumerate(drawn) if other >= 0)


@pytest.fixture
def coupled(table_model):
    """Knows the first heavy residue (A) only where the first light one is K; nothing without a partner."""

    class Coupled(table_model):
        def look_at(self, batch, rows):
            looks = super().look_at(batch, rows)
            return [({(1, 0): "", **letters}, site, text) for letters, site, text in looks]

    return Coupled(couplings=[Coupling(to=(0, 0), source=(1, 0), shows="K", adds={"A": 4.0})])


def test_information_from_the_partner_by_hand(coupled):
    """Gain of the first heavy residue over another partner or none: ln 20 − ln((e⁴ + 19) / e⁴)."""
    records = [antibody(f"r{i}", "ACDEFGH", "KLMNPQR") for i in range(3)]
    partners = [antibody(f"p{i}", "WWWWWWW", "VVVVVVV") for i in range(3)]
    table = predict_with_partners(coupled, records, {RANDOM: partners})
    assert table["partner"].unique(maintain_order=True).to_list() == [TRUE, RANDOM, NONE]
    assert len(table) == 3 * 14 * 3
    assert table.filter(pl.col("partner") == RANDOM)["partner_id"].unique().sort().to_list() == [
        "p0",
        "p1",
        "p2",
    ]
    summary, gains = partner_tables(table)
    gain = math.log(20) - math.log1p(19 * math.exp(-4))
    lines = gains.filter((pl.col("chain") == "heavy") & (pl.col("metric") == "cross_entropy"))
    by_line = {(row["against"], row["region"]): row for row in lines.iter_rows(named=True)}
    for against in (RANDOM, NONE):
        assert by_line[against, "FR1"]["gain"] == pytest.approx(gain, abs=1e-5)
        assert by_line[against, "CDR1"]["gain"] == pytest.approx(0, abs=1e-6)
        assert by_line[against, "all"]["gain"] == pytest.approx(gain / 7, abs=1e-5)
        assert by_line[against, "all"]["p_adjusted"] is None
    accuracy = gains.filter(
        (pl.col("chain") == "heavy") & (pl.col("metric") == "accuracy") & (pl.col("region") == "CDR1")
    )
    assert accuracy["gain"].to_list() == [0.0, 0.0]
    tested = gains.filter(
        pl.col("p_adjusted").is_not_null()
        & (pl.col("metric") == "cross_entropy")
        & (pl.col("against") == NONE)
    )
    assert len(tested) == 14
    assert tested["n_tests"].to_list() == [2 * 14] * 14  # a random and no partner, 14 regions each
    assert tested["p_adjusted"].to_list() == pytest.approx((tested["p_value"] * 28).clip(0, 1).to_list())
    true = summary.filter(
        (pl.col("partner") == TRUE) & (pl.col("chain") == "heavy") & (pl.col("region") == "FR1")
    )
    assert true["accuracy"].to_list() == [1.0]


def test_the_partner_shown_is_the_chain_with_the_missing_role(table_model):
    """A donor whose light chain comes first gives its light chain all the same."""
    model = table_model()
    record = antibody("r", "ACDEFGH", "KLMNPQR")
    donor = antibody("p", "WWWWWWW", "VVVVVVV")
    turned = Record("p", donor.chains[::-1])
    predict_with_partners(model, [record], {SAME_LOCUS: [turned]})
    shown = [text for text in model.contexts if "VVVVVVV" in text]
    assert shown
    assert all(text.endswith("<cls><cls>VVVVVVV<eos>") for text in shown)
    assert not any("WWWWWWW" in text and "VVVVVVV" in text for text in model.contexts)


def test_mutated_residues_are_those_with_another_known_germline():
    record = antibody("r", "ACDEFGH", "KLMNPQR", heavy_germline="ACWWFGH", light_germline="KLMNPQA")
    assert mutated_indices(record.chains[0]).tolist() == [2, 3]
    assert mutated_indices(record.chains[1]).tolist() == [6]
    assert not has_mutations(record)
    assert has_mutations(record, 1)
    assert not has_mutations(antibody("r", "ACDEFGH", "KLMNPQR"), 1)


def test_mutations_are_masked_together_and_the_partner_reverted(table_model):
    record = antibody("r", "ACDEFGH", "KLMNPQR", heavy_germline="ACWWFGH", light_germline="KAMNPQA")
    model = table_model(
        masked={(0, 2): {"D": 1.0}, (0, 3): {"W": 1.0}},
        couplings=[Coupling(to=(0, 3), source=(1, 1), shows="L", adds={"E": 3.0})],
    )
    table = predict_masked_mutations(model, [record])
    assert sorted(map(sorted, model.masked_sites)) == [[(0, 2), (0, 3)]] * 2 + [[(1, 1), (1, 6)]] * 2
    texts = set(model.contexts)
    assert "<cls>AC<mask><mask>FGH<cls><cls>KLMNPQR<eos>" in texts
    assert "<cls>AC<mask><mask>FGH<cls><cls>KAMNPQA<eos>" in texts
    assert "<cls>ACDEFGH<cls><cls>K<mask>MNPQ<mask><eos>" in texts
    assert "<cls>ACWWFGH<cls><cls>K<mask>MNPQ<mask><eos>" in texts
    summary, gains = mutation_masking_tables(table)
    heavy = summary.filter((pl.col("chain") == "heavy") & (pl.col("region") == "all"))
    by_partner = {row["partner"]: row for row in heavy.iter_rows(named=True)}
    # D is always right; E only where the light chain still has its L, else the germline W is predicted
    assert (by_partner["native"]["native"], by_partner["native"]["germline"]) == (1.0, 0.0)
    assert (by_partner["reverted"]["native"], by_partner["reverted"]["germline"]) == (0.5, 0.5)
    assert by_partner["native"]["n_residues"] == 2
    line = gains.filter(
        (pl.col("chain") == "heavy") & (pl.col("region") == "all") & (pl.col("metric") == "native")
    )
    assert line["gain"].to_list() == [0.5]


def test_turns_mask_each_residue_once_and_alike_under_every_partner(table_model):
    record = antibody("r", "ACDEFGHIKL", "KLMNPQR")
    donor = antibody("p", "WWWWWWW", "VVVVVVV")
    model = table_model()
    table = predict_with_partners(model, [record], {RANDOM: [donor]}, turns=3)
    assert len(table) == 3 * 17
    # three turns for each chain under each of three partners
    assert len(model.contexts) == 2 * 3 * 3
    masks = {}
    for text in model.contexts:
        for partner in ("KLMNPQR", "VVVVVVV"):
            if text.endswith(f"<cls><cls>{partner}<eos>"):
                own = text.removeprefix("<cls>").split("<cls>")[0].replace("<mask>", "-")
                masks.setdefault(partner, set()).add(own)
    assert masks["KLMNPQR"] == masks["VVVVVVV"]
    hidden = [index for own in masks["KLMNPQR"] for index, letter in enumerate(own) if letter == "-"]
    assert sorted(hidden) == list(range(10))
    assert sorted(own.count("-") for own in masks["KLMNPQR"]) == [3, 3, 4]


def test_as_many_turns_as_residues_are_one_by_one(coupled):
    records, donor = [antibody("r", "ACDEFGH", "KLMNPQR")], [antibody("p", "WWWWWWW", "VVVVVVV")]
    one_by_one = predict_with_partners(coupled, records, {RANDOM: donor})
    assert predict_with_partners(coupled, records, {RANDOM: donor}, turns=7).equals(one_by_one)
