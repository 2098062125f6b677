"""The baselines of the nearest germline residue and of counts by gene, by hand."""

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar

from protlm.data.corpus import write_corpus
from protlm.data.germline_set import open_germline
from protlm.data.numbering import number_chains
from protlm.evaluation.baselines import TABLES, fit_baselines, fit_together, load_baselines, read_tables
from protlm.evaluation.frequencies import FrequencyBaseline, count_residues
from protlm.evaluation.gene_baseline import GeneBaseline, count_genes, fit_strengths
from protlm.evaluation.germline_baseline import GermlineBaseline, count_germline, fit_germline_share
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import Region, encode_position

V_3_23 = "EVQLLESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAK"
HEAVY = V_3_23 + "PRYSSGWLYFDYWGQGTLVTVSS"
ONE, LAST = encode_position("1"), encode_position("128")


def heavy(name, residues, v_call="IGHV3-23*01", j_call="IGHJ4*02"):
    (chain,) = number_chains([Chain(residues, v_call=v_call, j_call=j_call)])
    return Record(name, (chain,))


def short(name, residues, positions, v_call="", j_call=""):
    track = {"position": np.array([encode_position(each) for each in positions], dtype=np.uint16)}
    return Record(name, (Chain(residues, locus="H", v_call=v_call, j_call=j_call, tracks=track),))


@pytest.fixture
def corpus(tmp_path):
    """Position 1: A A C under V1, A D under V2; position 128: S S under J4, T under J6; 111 and 112 split."""
    return write_corpus(
        tmp_path / "corpus",
        [
            short("a", "AGSS", ("1", "111", "112", "128"), "IGHV1-2*01", "IGHJ4*02"),
            short("b", "AS", ("1", "128"), "IGHV1-2*02", "IGHJ4*01"),
            short("c", "CT", ("1", "128"), "IGHV1-2*02", "IGHJ6*02"),
            short("d", "A", ("1",), "IGHV2-5*01"),
            short("e", "DX", ("1", "128"), "IGHV2-5*01"),
        ],
    )


def test_genes_are_counted_by_v_up_to_111_and_by_j_from_112(corpus):
    rows = {tuple(row) for row in count_genes(corpus).iter_rows()}
    assert rows == {
        ("H", "IGHV1-2", ONE, "A", 2),
        ("H", "IGHV1-2", ONE, "C", 1),
        ("H", "IGHV2-5", ONE, "A", 1),
        ("H", "IGHV2-5", ONE, "D", 1),
        ("H", "IGHV1-2", encode_position("111"), "G", 1),
        ("H", "IGHJ4", encode_position("112"), "S", 1),
        ("H", "IGHJ4", LAST, "S", 2),
        ("H", "IGHJ6", LAST, "T", 1),
    }


def test_in_light_chains_j_begins_at_116(tmp_path):
    positions = np.array([encode_position(each) for each in ("115", "116")], dtype=np.uint16)
    chain = Chain("PT", locus="K", v_call="IGKV1-39", j_call="IGKJ1", tracks={"position": positions})
    corpus = write_corpus(tmp_path / "light", [Record("a", (chain,))])
    assert count_genes(corpus)["gene"].to_list() == ["IGKJ1", "IGKV1-39"]
    baseline = GeneBaseline(
        count_genes(corpus),
        pl.DataFrame({"locus": ["K"], "region": ["CDR3"], "strength": [1e-3]}),
        FrequencyBaseline(count_residues(corpus), use_v_gene=False),
    )
    assert np.exp(baseline.logprobs_of([chain]))[[0, 1], [STANDARD.index(a) for a in "PT"]].min() > 0.99


def test_counts_of_a_gene_are_shrunk_to_the_position(corpus):
    """V2 at 1 with strength 4: f(A) = 3.1 / 7, so p(A) = (1 + 4 · 3.1 / 7) / (2 + 4)."""
    frequencies = FrequencyBaseline(count_residues(corpus), use_v_gene=False)
    strengths = pl.DataFrame({"locus": ["H"] * 3, "region": ["FR1", "CDR3", "FR4"], "strength": [4.0] * 3})
    baseline = GeneBaseline(count_genes(corpus), strengths, frequencies)
    rows = np.exp(baseline.logprobs_of([corpus.record(4).chains[0]]))
    assert rows.shape == (2, 20)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert rows[0, STANDARD.index("A")] == pytest.approx((1 + 4 * 3.1 / 7) / 6)
    assert rows[0, STANDARD.index("D")] == pytest.approx((1 + 4 * 1.1 / 7) / 6)
    assert rows[1, STANDARD.index("S")] == pytest.approx(2.1 / 5)  # no J call: the position alone


def test_the_strength_is_the_likeliest_of_each_residue_given_the_others():
    """Two genes with 50 residues each of their own kind: no shrinkage. 30 genes with A and D each: all."""

    def counts(genes, residues, each):
        return pl.DataFrame(
            {"locus": "H", "gene": genes, "position": ONE, "residue": residues, "count": each},
            schema_overrides={"position": pl.UInt16},
        )

    apart = counts(["IGHV1-2", "IGHV2-5"], ["A", "D"], [50, 50])
    alike = counts([f"IGHV1-{number // 2}" for number in range(60)], ["A", "D"] * 30, [1] * 60)
    assert fit_strengths(apart)["strength"][0] < 0.1
    assert fit_strengths(alike)["strength"][0] > 1000


def test_the_share_that_is_not_copied_is_the_likeliest():
    """90 copies of A and 10 others at a position where f(A) is known; compared with a search by hand."""
    counts = pl.DataFrame(
        {
            "locus": ["H"] * 3,
            "position": [ONE] * 3,
            "residue": ["A", "D", "E"],
            "is_germline": [True, False, False],
            "count": [90, 6, 4],
        },
        schema_overrides={"position": pl.UInt16},
    )
    by_position = pl.DataFrame(
        {"locus": "H", "v_gene": "", "position": ONE, "residue": ["A", "D", "E"], "count": [50, 30, 20]}
    )
    frequencies = FrequencyBaseline(by_position, use_v_gene=False)
    chance = 50.1 / 102

    def loss(share):
        return -(90 * np.log(1 - share + share * chance) + 10.5 * np.log(share))

    expected = minimize_scalar(loss, bounds=(0, 1), method="bounded").x
    (row,) = fit_germline_share(counts, frequencies).iter_rows(named=True)
    assert row["epsilon"] == pytest.approx(expected, abs=1e-4)
    assert (row["region"], row["n_residues"], row["n_germline"]) == ("FR1", 100, 90)


def test_without_a_difference_in_training_a_difference_stays_possible():
    counts = pl.DataFrame(
        {"locus": ["H"], "position": [ONE], "residue": ["A"], "is_germline": [True], "count": [1000]},
        schema_overrides={"position": pl.UInt16},
    )
    by_position = pl.DataFrame(
        {"locus": "H", "v_gene": "", "position": ONE, "residue": ["A", "D"], "count": [500, 500]}
    )
    share = fit_germline_share(counts, FrequencyBaseline(by_position, use_v_gene=False))["epsilon"][0]
    assert 0 < share < 0.01


@pytest.fixture(scope="module")
def antibodies(tmp_path_factory):
    """Three heavy chains of IGHV3-23 and IGHJ4; in the second, position 30 is another residue."""
    mutant = HEAVY[:29] + "T" + HEAVY[30:]
    records = [heavy("a", HEAVY), heavy("b", mutant), heavy("c", HEAVY, v_call="", j_call="")]
    return write_corpus(tmp_path_factory.mktemp("baselines") / "corpus", records)


def test_germline_residues_are_counted_where_v_and_j_reach(antibodies):
    counts = count_germline(antibodies, open_germline())
    assert counts["count"].sum() == 3 * (len(V_3_23) + 15)
    different = counts.filter(~pl.col("is_germline"))
    assert different.select("residue", "count").rows() == [("T", 1)]


def test_the_germline_baseline_mixes_the_germline_residue_with_the_position(antibodies):
    germline = open_germline()
    frequencies = FrequencyBaseline(count_residues(antibodies), use_v_gene=False)
    shares = pl.DataFrame({"locus": ["H"] * 7, "region": [r.name for r in Region if r], "epsilon": [0.2] * 7})
    baseline = GermlineBaseline(shares, germline, frequencies)
    rows = np.exp(baseline.logprobs_of([antibodies.record(1).chains[0]]))
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    # at index 29 the germline has S, as two of the three training chains: f(S) = 2.1 / 5, f(T) = 1.1 / 5
    assert rows[29, STANDARD.index("S")] == pytest.approx(0.8 + 0.2 * 2.1 / 5)
    assert rows[29, STANDARD.index("T")] == pytest.approx(0.2 * 1.1 / 5)
    # at index 100, in the middle of the CDR3, neither gene reaches: f alone
    assert rows[100, STANDARD.index(HEAVY[100])] == pytest.approx(3.1 / 5)


def test_the_germline_baseline_does_not_see_the_residue_where_calls_are_given(antibodies):
    baseline = next(each for each in load_baselines(fit_baselines(antibodies)) if each.name == "germline")
    chain = antibodies.record(0).chains[0]
    changed = Chain(
        "W" * len(chain),
        locus="H",
        v_call=chain.v_call,
        j_call=chain.j_call,
        tracks={"position": chain.tracks["position"]},
    )
    np.testing.assert_allclose(baseline.logprobs_of([chain]), baseline.logprobs_of([changed]))


def test_all_baselines_have_one_interface_and_outlive_a_run(antibodies, tmp_path):
    tables = fit_baselines(antibodies)
    assert set(tables) == set(TABLES)
    for name, table in tables.items():
        table.write_parquet(tmp_path / f"{name}.parquet")
    before, after = load_baselines(tables), load_baselines(read_tables(tmp_path))
    assert [each.name for each in before] == ["position_mode", "v_gene_majority", "germline", "genes"]
    chains = [antibodies.record(row).chains[0] for row in range(3)]
    unnumbered = Chain("MKTAYIAK", locus="H")
    for first, second in zip(before, after, strict=True):
        rows = first.logprobs_of([chains[0], unnumbered, chains[1], chains[2]])
        assert rows.shape == (3 * len(HEAVY) + 8, 20)
        np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1)
        np.testing.assert_allclose(rows[len(HEAVY) : len(HEAVY) + 8], -np.log(20))
        np.testing.assert_allclose(
            rows, second.logprobs_of([chains[0], unnumbered, chains[1], chains[2]]), rtol=1e-6
        )
        np.testing.assert_allclose(rows[: len(HEAVY)], first.logprobs_of([chains[0]]), rtol=1e-6)


def test_two_corpora_count_as_one(antibodies, corpus):
    halves = fit_together([(antibodies, np.array([0])), (antibodies, np.array([1, 2]))])
    whole = fit_baselines(antibodies)
    for name in TABLES:
        assert halves[name].equals(whole[name]), name
    both = fit_together([(antibodies, None), (corpus, None)])
    assert both["train_frequencies"]["count"].sum() == 3 * len(HEAVY) + 10


def test_tables_of_nothing_give_no_baseline(tmp_path):
    proteins = write_corpus(tmp_path / "proteins", [Record("a", (Chain("MKTAYIAK"),))])
    assert load_baselines(fit_baselines(proteins)) == []
    assert load_baselines({}) == []
