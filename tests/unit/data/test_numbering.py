"""Numbering: what is no antibody is counted and kept or dropped as asked, never a crash."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.antibodies import HEAVY_REGIONS, LINKER, TCR_BETA, codes
from protlm.data import domains, numbering
from protlm.data.numbering import MIN_NUMBERED, NumberingReport, number_chains, number_records
from protlm.data.region_columns import merge_regions
from protlm.errors import DataError
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


# --- which types are tried, and how often -----------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """What immunum is asked for: pairs of types and sequences."""
    calls = []
    real = domains._ask

    def ask(function, sequences, types):
        calls.extend((types, each) for each in sequences)
        return real(function, sequences, types)

    monkeypatch.setattr(domains, "_ask", ask)
    return calls


def test_a_locus_or_role_that_is_named_is_the_only_type_tried(asked):
    records = [
        Record("a", (Chain(VH, locus="H"),)),
        Record("b", (Chain(VL, locus="K", role=Role.LIGHT),)),
        Record("c", (Chain(VH[1:], role=Role.HEAVY), Chain(VL[1:], role=Role.LIGHT))),
        Record("d", (Chain(VH[2:-8]),)),  # without the motif of a J gene
    ]
    run(records, receptor="antibody")
    assert sorted(asked) == sorted([("H", VH), ("K", VL), ("H", VH[1:]), ("KL", VL[1:]), ("HKL", VH[2:-8])])


@pytest.mark.parametrize("chain", [VH, VL, VH[:-8], VL[:-8], VH + LINKER, TCR_BETA, V_GENE + "ARFGQGTKVEIK"])
def test_trying_likely_types_first_gives_what_trying_all_gives(chain):
    (all_types,) = domains.number([chain], "HKL")
    (likely,) = domains.DomainFinder("HKL").best([chain], ["HKL"])
    if isinstance(all_types, str):
        assert likely == all_types
    else:
        assert (likely.locus, likely.start, likely.confidence) == (
            all_types.locus,
            all_types.start,
            all_types.confidence,
        )
        assert np.array_equal(likely.positions, all_types.positions)


def test_each_distinct_chain_is_numbered_once_within_and_across_chunks(asked, monkeypatch):
    monkeypatch.setattr(numbering, "CHUNK", 2)
    kept, report = run([pair(str(n), VH, VL) for n in range(7)], receptor="antibody")
    assert sorted(asked) == sorted([("H", VH), ("KL", VL)])
    assert len(kept) == 7
    assert report.numbered == {"H": 7, "K": 7}


def test_what_is_remembered_stays_bounded_and_right():
    finder = domains.DomainFinder("HKL", num_remembered=3)
    sequences = [VH[cut:] for cut in range(6)]
    first = finder.best(sequences, ["H"] * 6)
    assert len(finder._best) == 3
    assert [each.start for each in finder.best(sequences, ["H"] * 6)] == [each.start for each in first]


@pytest.mark.parametrize(
    ("chain", "kind"),
    [
        (Chain(VL, role=Role.HEAVY, locus="H"), "light, named heavy"),
        (Chain(VH, role=Role.LIGHT), "heavy, named light"),
        (Chain(VL, role=Role.LIGHT, locus="L"), "locus K, named L"),
        (Chain(VH, locus="B", role=Role.BETA), "heavy, named beta"),
    ],
)
def test_a_chain_of_another_type_than_named_is_found_counted_and_named(chain, kind):
    (record,), report = run([Record("odd", (chain,))], receptor="antibody")
    assert record.chains[0].locus in "HK"
    assert report.contradicted == {kind: 1}
    assert report.examples[kind] == ["odd"]
    assert f"1 × {kind} (first: 'odd')" in "\n".join(report.lines())


def test_chunks_are_in_order_and_the_same_as_one_by_one(monkeypatch):
    records = [single(str(n), VH[n % 5 :]) for n in range(40)] + [single("x", GENERAL)]
    whole, _ = run(records, receptor="antibody")
    monkeypatch.setattr(numbering, "CHUNK", 3)
    parts, _ = run(records, receptor="antibody")
    assert [record.id for record in parts] == [record.id for record in whole]
    for one, other in zip(whole, parts, strict=True):
        for name in one.chains[0].tracks:
            assert np.array_equal(one.chains[0].tracks[name], other.chains[0].tracks[name])


def test_an_error_of_the_reader_comes_through_the_search_ahead():
    def broken():
        yield single("a", VH)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        run(broken(), receptor="antibody")


# --- T-cell receptors -------------------------------------------------------------------------------


def test_t_cell_receptor_chains_are_found_and_numbered():
    (record,), report = run([single("t", TCR_BETA)])
    chain = record.chains[0]
    assert (chain.locus, chain.role) == ("B", Role.BETA)
    cdr3 = "".join(np.array(list(chain.residues))[chain.tracks["region"] == Region.CDR3])
    assert cdr3 == "ASSLAPGATNEKLF"
    assert record.group == "B|ASSLAPGATNEKLF"
    assert report.numbered == {"B": 1}


def test_a_receptor_that_is_not_asked_for_is_not_numbered():
    _, report = run([single("t", TCR_BETA)], receptor="antibody")
    assert sum(report.unnumbered.values()) == 1
    _, report = run([single("t", VH)], receptor="tcr")
    assert sum(report.unnumbered.values()) == 1
    _, report = run([single("t", VH), single("u", TCR_BETA)], receptor="any")
    assert report.numbered == {"H": 1, "B": 1}


def test_auto_looks_for_both_kinds_where_both_are_there(asked):
    _, report = run([single("t", VH), single("u", TCR_BETA), single("v", VL[:-9])])
    assert report.numbered == {"H": 1, "B": 1, "K": 1}
    assert {types for types, sequence in asked if sequence == VL[:-9]} == {"HKLABGD"}
    asked.clear()
    run([single(str(n), VL[n % 9 : -9]) for n in range(120)])
    assert {types for types, _ in asked} == {"HKLABGD", "HKL"}  # the probe, then what it found


@pytest.mark.parametrize(("count", "is_numbered"), [(3, False), (4, True)])
def test_auto_leaves_general_proteins_alone_that_hold_a_few_receptors(count, is_numbered):
    """Two in a hundred of the first 200 are asked for; 300 follow."""
    proteins = [single(f"p{n}", GENERAL[n % 9 :] * 4) for n in range(500)]
    for place in range(count):
        proteins[50 * place] = single(f"a{place}", VH)
    records, report = run(proteins)
    assert len(records) == 500
    assert sum("region" in record.chains[0].tracks for record in records) == count * is_numbered
    assert report.is_off != is_numbered
    if not is_numbered:
        (line,) = report.lines()
        assert (
            "only 3 × a variable domain of an antibody or a T-cell receptor in the first 200 records" in line
        )
        assert "--receptor antibody" in line


# --- more than one domain ---------------------------------------------------------------------------

SCFV = VH + LINKER + VL
CONSTANT = (
    "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVVTVPSSSLGTQTYICNVNHKPSNTKVDKKV"
)


@pytest.mark.parametrize("scfv", [SCFV, VL + LINKER + VH])
def test_an_scfv_split_is_a_pair_heavy_first_and_the_linker_is_counted(scfv):
    (record,), report = run([single("s", scfv)], two_domains="split")
    assert [chain.residues for chain in record.chains] == [VH, VL]
    assert [chain.role for chain in record.chains] == [Role.HEAVY, Role.LIGHT]
    assert all(set(chain.tracks["region"]) == set(range(1, 8)) for chain in record.chains)
    assert sum(report.domains.values()) == 1
    assert report.num_linker_residues == len(LINKER)
    assert report.numbered == {"H": 1, "K": 1}


def test_calls_and_tracks_of_a_split_chain_go_with_their_domain():
    segment = np.arange(len(SCFV)) % 5
    chain = Chain(SCFV, v_call="IGKV1-39*01", j_call="IGHJ4*01", tracks={"segment": segment.astype(np.uint8)})
    (record,), _ = run([Record("s", (chain,))], two_domains="split")
    heavy, light = record.chains
    assert (heavy.v_call, heavy.j_call) == ("", "IGHJ4*01")
    assert (light.v_call, light.j_call) == ("IGKV1-39*01", "")
    assert heavy.tracks["segment"].tolist() == segment[: len(VH)].tolist()
    assert light.tracks["segment"].tolist() == segment[len(VH) + len(LINKER) :].tolist()


@pytest.mark.parametrize("scfv", [SCFV, VL + LINKER + VH])
def test_an_scfv_kept_has_the_regions_of_its_first_domain_only(scfv):
    (record,), report = run([single("s", scfv)])
    region = record.chains[0].tracks["region"]
    first = len(scfv.partition(LINKER)[0])
    assert region[:first].all()
    assert not region[first:].any()
    (kind,) = report.domains
    assert kind == ("H+K" if scfv is SCFV else "K+H")
    assert report.examples[kind] == ["s"]
    assert f"more than one variable domain: 1 chains with {kind} (first: 's')" in report.lines()


def test_an_scfv_is_an_error_or_dropped_as_asked():
    with pytest.raises(DataError, match=r"record 's', chain 1: more than one variable domain") as caught:
        run([single("s", SCFV)], two_domains="error")
    assert f"H at 1 to {len(VH)}, K at {len(VH) + len(LINKER) + 1} to {len(SCFV)}" in caught.value.message
    assert "--two-domains split" in caught.value.hint
    kept, report = run([single("s", SCFV), single("a", VH)], two_domains="drop")
    assert [record.id for record in kept] == ["a"]
    assert report.num_dropped_for_domains == 1


@pytest.mark.parametrize("policy", ["keep-first", "split", "drop", "error"])
def test_a_constant_domain_is_no_second_variable_domain(policy):
    (record,), report = run([single("fab", VH + CONSTANT)], two_domains=policy)
    assert not report.domains
    assert len(record.chains) == 1
    assert len(record.chains[0]) == len(VH + CONSTANT)


# --- regions of columns -----------------------------------------------------------------------------


def with_regions(strings, outside=0):
    codes_given = np.array(codes(strings) + [0] * outside, dtype=np.uint8)
    return {"region": codes_given}


def test_regions_of_columns_that_agree_are_counted_and_nothing_changes():
    (record,), report = run([Record("a", (Chain(VH, tracks=with_regions(HEAVY_REGIONS)),))])
    assert record.chains[0].tracks["region"].tolist() == codes(HEAVY_REGIONS)
    assert (report.regions_given, report.regions_differ) == (1, 0)
    assert record.chains[0].tracks["position"].all()


def test_regions_of_columns_count_where_the_numbering_differs_and_it_is_named():
    moved = (HEAVY_REGIONS[0] + HEAVY_REGIONS[1][:2], HEAVY_REGIONS[1][2:], *HEAVY_REGIONS[2:])
    (record,), report = run([Record("a", (Chain(VH, tracks=with_regions(moved)),))])
    assert record.chains[0].tracks["region"].tolist() == codes(moved)
    assert (report.regions_given, report.regions_differ) == (1, 1)
    assert "differs in 1; the columns' regions count (first: 'a')" in "\n".join(report.lines())


def test_regions_of_columns_stay_where_a_chain_cannot_be_numbered():
    chain = Chain("G" * 90, tracks={"region": np.full(90, Region.FR1, dtype=np.uint8)})
    (record,), report = run([Record("a", (chain,))], receptor="antibody")
    assert (record.chains[0].tracks["region"] == Region.FR1).all()
    assert report.regions_given == 1
    assert sum(report.unnumbered.values()) == 1


REGION_LISTS = st.lists(st.integers(0, 7), min_size=1, max_size=40)


@given(given_codes=REGION_LISTS, found=REGION_LISTS)
def test_merged_regions_are_in_order_and_never_overrule_a_column(given_codes, found):
    length = min(len(given_codes), len(found))
    one = np.sort(np.array(given_codes[:length], dtype=np.uint8))
    one[np.arange(length) % 3 == 0] = Region.NONE
    other = np.sort(np.array(found[:length], dtype=np.uint8))
    merged, agrees = merge_regions(one, other)
    named = one != Region.NONE
    assert np.array_equal(merged[named], one[named])
    assert (np.diff(merged[merged != Region.NONE].astype(int)) >= 0).all()
    assert np.isin(merged[~named], [Region.NONE, *other]).all()
    for cdr in (Region.CDR1, Region.CDR2, Region.CDR3):
        if (one == cdr).any():
            assert np.array_equal(merged == cdr, one == cdr)
    if agrees:
        assert np.array_equal(merged[~named], other[~named])
