"""Numbering: what is no antibody is counted and kept or dropped as asked, never a crash."""

import numpy as np
import polars as pl
import pytest

from protlm.data import domains
from protlm.data.numbering import MIN_NUMBERED, NumberingReport, number_chains, number_records
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Region, decode_position

V_GENE = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
J_GENE = "WGQGTLVTVSS"
VH = V_GENE + "SRWGGDGFYAMDY" + J_GENE
VL = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYC"
VL += "QQHYTTPPTFGQGTKVEIK"
# YO08B_YEAST, which immunum calls a heavy chain by its last residue
GENERAL = "MATKGNLKRQTKYFSTIAYTETRGEATLRANYQ"


def pair(name, heavy, light):
    return Record(name, (Chain(heavy, role=Role.HEAVY), Chain(light, role=Role.LIGHT)))


def single(name, residues):
    return Record(name, (Chain(residues),))


def run(records, **options):
    report = NumberingReport()
    return list(number_records(records, report=report, **options)), report


def test_a_pair_gets_positions_regions_locus_and_role():
    (record,), report = run([pair("a", VH, VL)])
    assert [chain.locus for chain in record.chains] == ["H", "K"]
    heavy = record.chains[0]
    cdr3 = "".join(heavy.residues[index] for index in np.flatnonzero(heavy.tracks["region"] == Region.CDR3))
    assert cdr3 == "SRWGGDGFYAMDY"
    assert decode_position(heavy.tracks["position"][V_GENE.index("YYC") + 2]) == "104"
    assert report.numbered == {"H": 1, "K": 1}
    assert not report.partial
    assert not report.put_right


def test_swapped_columns_are_put_heavy_first_and_counted():
    (record,), report = run([pair("a", VL, VH)])
    assert [chain.role for chain in record.chains] == [Role.HEAVY, Role.LIGHT]
    assert [chain.residues for chain in record.chains] == [VH, VL]
    assert report.put_right == 1
    assert "wrong way round in 1 pairs" in "\n".join(report.lines())


def test_two_heavy_chains_as_a_pair_are_counted_and_kept():
    (record,), report = run([pair("a", VH, VH)])
    assert len(record.chains) == 2
    assert report.contradicted == {"heavy, named light": 1}


def test_what_cannot_be_numbered_is_kept_or_dropped_and_counted():
    records = [single("a", VH), single("b", "M" * 80), single("c", "A"), pair("d", VH, "G" * 60)]
    kept, report = run(records)
    assert [record.id for record in kept] == ["a", "b", "c", "d"]
    assert sum(report.unnumbered.values()) == 3
    assert report.num_dropped == 0
    assert "region" not in kept[1].chains[0].tracks
    kept, report = run(records, unnumbered="drop")
    assert [record.id for record in kept] == ["a"]
    assert report.num_dropped == 3
    assert "3 records dropped because a chain is not numbered" in report.lines()
    assert report.examples["low_confidence"] == ["b", "d"]


def test_a_file_without_antibodies_passes_through_and_says_so():
    records = [single("a", GENERAL), single("b", "MKTAYIAKQRQISFVKSHFSRQ" * 3)]
    kept, report = run(records)
    assert kept == records
    assert report.is_off
    assert "--receptor antibody" in report.lines()[0]
    kept, report = run(records, receptor="antibody")
    assert not report.is_off
    assert sum(report.unnumbered.values()) == 2
    kept, report = run([single("a", VH)], receptor="none")
    assert "region" not in kept[0].chains[0].tracks
    assert not report.is_off  # asked for, so nothing to tell


def test_the_yeast_protein_above_shows_why_short_matches_do_not_count(monkeypatch):
    assert number_chains([Chain(GENERAL)]) == ["too_short_a_match"]
    monkeypatch.setattr(domains, "MIN_NUMBERED", 0)
    (chain,) = number_chains([Chain(GENERAL)])
    assert isinstance(chain, Chain)
    assert chain.locus == "H"


def test_a_match_over_a_few_residues_is_no_antibody():
    assert number_chains([Chain(VH[: MIN_NUMBERED - 5])]) == ["too_short_a_match"]
    assert isinstance(number_chains([Chain(VH[: MIN_NUMBERED + 15])])[0], Chain)


@pytest.mark.parametrize("length", [0, 1, 30, 50])
def test_a_cdr3_of_any_usual_length_is_found_whole(length):
    loop = ("ARDYWGSGYTFD" * 10)[:length]
    (chain,) = number_chains([Chain(V_GENE + loop + J_GENE)])
    assert isinstance(chain, Chain)
    assert int((chain.tracks["region"] == Region.CDR3).sum()) == length


@pytest.mark.parametrize("length", [60, 65, 300, 2000])
def test_a_cdr3_beyond_that_is_never_a_crash(length):
    loop = "".join(np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
    (record,), report = run([single("a", V_GENE + loop + J_GENE)])
    region = record.chains[0].tracks["region"]
    assert len(region) == len(record.chains[0])
    whole = int((region == Region.CDR3).sum()) == length
    assert whole or report.partial  # numbered in part, and said so


def test_thousands_of_residues_around_a_domain_stay_outside_of_it():
    (chain,) = number_chains([Chain("G" * 3000 + VH + "G" * 3000)])
    region = chain.tracks["region"]
    assert np.flatnonzero(region)[[0, -1]].tolist() == [3000, 3000 + len(VH) - 1]


def test_labels_that_cannot_be_stored_are_a_reason_and_not_a_crash(monkeypatch):
    labels = [{"position": label, "residue": "A"} for label in ["1"] * 60 + ["111ZZZ"]]
    row = {"error_kind": None, "chain": "H", "query_start": 0, "confidence": 0.9, "numbering": labels}
    monkeypatch.setattr(domains, "_ask", lambda function, sequences, types: pl.Series([row] * len(sequences)))
    assert number_chains([Chain("A" * 61), Chain("A" * 60)]) == [
        "too_many_insertions",
        "inconsistent_numbering",
    ]


def test_nothing_in_gives_nothing_out():
    assert number_chains([]) == []
    assert run([])[0] == []


def test_the_default_group_is_v_gene_and_cdr3():
    chain = Chain(VH, v_call="IGHV3-66*01")
    (record,), _ = run([Record("a", (chain,))])
    assert record.group == "IGHV3-66|SRWGGDGFYAMDY"
    (record,), _ = run([Record("a", (chain,), group="donor 1")])
    assert record.group == "donor 1"


def test_without_a_v_gene_the_default_group_is_locus_and_cdr3_of_the_heavy_chain():
    records = [single("a", VH), single("b", "G" + VH), pair("c", VH, VL), pair("d", VL, VH), single("e", VL)]
    light_first = Record("f", (Chain(VL), Chain(VH)))
    kept, _ = run([*records, light_first, single("g", "M" * 80)])
    heavy, light = "H|SRWGGDGFYAMDY", "K|QQHYTTPPT"
    assert [record.group for record in kept] == [heavy, heavy, heavy, heavy, light, heavy, ""]


def test_a_v_gene_of_any_chain_goes_before_a_locus():
    record = Record("a", (Chain(VH), Chain(VL, v_call="IGKV1-39*01")))
    assert run([record])[0][0].group == "IGKV1-39|QQHYTTPPT"
