"""Nearest germline genes and the tracks that follow, by hand and against the simulator's truth."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.data.germline_alignment import Block, Junctions, nearest_v
from protlm.data.germline_assignment import assign_germline, num_mutations
from protlm.data.germline_genes import UNKNOWN_RATE, find_v, unspliced_residues
from protlm.data.germline_report import GermlineReport
from protlm.data.germline_set import GermlineSet, open_germline
from protlm.data.numbering import number_chains, number_records
from protlm.data.simulate import simulate_repertoire
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import Mutated, Region, Segment

V_3_23 = "EVQLLESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAK"
J_4 = "YFDYWGQGTLVTVSS"
HEAVY = V_3_23 + "PRYSSGWL" + J_4
SEGMENTS = "V" * 98 + "NNDDDDDN" + "J" * 15


def assigned(*chains, germline=None, **options):
    report = GermlineReport()
    numbered = [chain for chain in number_chains(chains) if isinstance(chain, Chain)]
    records = [Record(str(index), (chain,)) for index, chain in enumerate(numbered)]
    made = assign_germline(records, germline or open_germline(), report=report, **options)
    return [record.chains[0] for record in made], report


def letters(chain):
    return "".join("?VNDJ"[code] for code in chain.tracks["segment"])


def changed(text, index, residue):
    return text[:index] + residue + text[index + 1 :]


def test_a_rearrangement_is_parted_into_its_genes():
    (chain,), _ = assigned(Chain(HEAVY))
    assert (chain.v_call, chain.d_call, chain.j_call) == ("IGHV3-23*01", "IGHD6-19*01", "IGHJ4*02")
    assert letters(chain) == SEGMENTS
    templated = np.array([letter != "N" for letter in SEGMENTS])
    own = np.frombuffer(HEAVY.encode(), dtype=np.uint8)
    np.testing.assert_array_equal(chain.tracks["germline"], np.where(templated, own, 0))
    np.testing.assert_array_equal(
        chain.tracks["mutated"], np.where(templated, Mutated.GERMLINE, Mutated.NONE)
    )
    assert num_mutations(chain) == 0


def test_mutations_are_counted_in_v_alone():
    mutant = changed(changed(HEAVY, 30, "T"), len(HEAVY) - 4, "A")  # S31T in V, and T to A in FR4
    (chain,), _ = assigned(Chain(mutant))
    mutated = np.flatnonzero(chain.tracks["mutated"] == Mutated.MUTATED)
    assert mutated.tolist() == [30, len(HEAVY) - 4]
    assert bytes(chain.tracks["germline"][mutated]) == b"ST"
    assert num_mutations(chain) == 1


def test_mutations_are_not_known_without_tracks():
    assert num_mutations(Chain("EVQL")) is None
    unknown = {"mutated": np.zeros(4, np.uint8), "segment": np.full(4, Segment.V, np.uint8)}
    assert num_mutations(Chain("EVQL", tracks=unknown)) is None
    by_region = {"mutated": np.array([2, 1, 2, 2], np.uint8), "region": np.array([1, 2, 6, 7], np.uint8)}
    assert num_mutations(Chain("EVQL", tracks=by_region)) == 1


def test_a_call_in_the_set_is_used_even_where_another_gene_is_nearer():
    (chain,), report = assigned(Chain(HEAVY, v_call="IGHV3-30*18", j_call="IGHJ6"))
    assert (chain.v_call, chain.j_call) == ("IGHV3-30*18", "IGHJ6")
    assert num_mutations(chain) > 5
    assert letters(chain).endswith("J" * 11)
    assert report.calls["V"] == {"have the allele that their call names": 1}
    assert report.calls["J"] == {"have the nearest allele of the gene that their call names": 1}


def test_a_call_that_the_set_lacks_is_counted_and_the_nearest_gene_taken():
    (chain,), report = assigned(Chain(HEAVY, v_call="IGHV99-1*01"))
    assert chain.v_call == "IGHV99-1*01"  # the input's own word stays
    assert num_mutations(chain) == 0
    assert any("not in the set" in how for how in report.calls["V"])
    assert any("not in the set" in line and "'0'" in line for line in report.lines())


def test_tracks_of_the_input_stay_and_the_rest_agrees_with_them():
    given_segments = np.full(len(HEAVY), Segment.V, dtype=np.uint8)
    given_segments[98:] = Segment.N
    (chain,), report = assigned(Chain(HEAVY, tracks={"segment": given_segments}))
    np.testing.assert_array_equal(chain.tracks["segment"], given_segments)
    assert not chain.tracks["germline"][98:].any()
    assert not chain.tracks["mutated"][98:].any()
    assert (chain.tracks["mutated"][:98] == Mutated.GERMLINE).all()
    assert +report.kept == {"segment": 1}


def test_all_tracks_of_the_input_stay_as_they_are():
    rng = np.random.default_rng(2)
    tracks = {
        "segment": rng.integers(0, 5, len(HEAVY)).astype(np.uint8),
        "germline": rng.choice(np.frombuffer(STANDARD.encode(), np.uint8), len(HEAVY)),
        "mutated": rng.integers(0, 3, len(HEAVY)).astype(np.uint8),
    }
    (chain,), report = assigned(Chain(HEAVY, tracks=tracks))
    for name, values in tracks.items():
        np.testing.assert_array_equal(chain.tracks[name], values)
    assert chain.v_call == "IGHV3-23*01"
    assert report.kept == {"segment": 1, "germline": 1, "mutated": 1}


def test_an_insertion_is_mutated_and_has_no_germline_residue():
    longer = HEAVY[:54] + "GGG" + HEAVY[54:]  # CDR2 with three residues more
    (chain,), _ = assigned(Chain(longer))
    inserted = (chain.tracks["segment"] == Segment.V) & (chain.tracks["germline"] == 0)
    assert inserted.sum() == 3
    assert (chain.tracks["mutated"][inserted] == Mutated.MUTATED).all()
    assert (chain.tracks["region"][inserted] == Region.CDR2).all()


def test_an_unknown_residue_is_neither_germline_nor_mutated():
    (chain,), report = assigned(Chain(changed(HEAVY, 5, "X")))
    assert chain.tracks["mutated"][5] == Mutated.NONE
    assert chain.tracks["germline"][5] == ord("E")
    assert report.without_mutations["H"] == 1


def test_the_constant_domain_is_of_no_segment():
    (chain,), _ = assigned(Chain(HEAVY + "ASTKGPSVFPLAP"))
    assert letters(chain) == SEGMENTS + "?" * 13
    assert not chain.tracks["mutated"][len(HEAVY) :].any()


def test_a_fragment_without_framework_4_has_v_alone():
    (chain,), report = assigned(Chain(HEAVY[:103]))
    assert letters(chain).startswith("V" * 98)
    assert set(letters(chain)[98:]) == {"?"}
    assert chain.j_call == ""
    assert report.calls["J"] == {"assigned none: too few residues of it": 1}


def test_a_fragment_that_begins_late_loses_nothing_by_it():
    (chain,), report = assigned(Chain(HEAVY[20:]))
    assert letters(chain) == SEGMENTS[20:]
    assert report.without_mutations["H"] == 1


def test_chains_below_the_minimal_identity_get_nothing_and_are_counted():
    chains, report = assigned(Chain(changed(HEAVY, 3, "W")), Chain(HEAVY), min_identity=1.0)
    assert set(letters(chains[0])) == {"?", "J"}
    assert num_mutations(chains[0]) is None
    assert letters(chains[1]) == SEGMENTS
    assert report.calls["V"]["assigned none: below the minimal identity"] == 1
    with pytest.raises(DataError, match="not a share"):
        assigned(Chain(HEAVY), min_identity=60)


def test_where_most_chains_are_far_from_the_set_all_pass_as_they_are():
    chains, report = assigned(Chain(HEAVY), germline=of_loci("H", "IGHV6-1"), min_median=0.73)
    assert "segment" not in chains[0].tracks
    assert report.is_off
    assert "left out" in report.lines()[0]
    chains, report = assigned(Chain(HEAVY), min_median=0.73)
    assert letters(chains[0]) == SEGMENTS
    assert not report.is_off


def of_loci(loci, gene=""):
    genes = [each for each in open_germline().genes if each.locus in loci and gene in each.name]
    return GermlineSet("some", tuple(genes))


def test_chains_of_other_loci_and_without_numbers_pass_and_are_counted():
    records = [Record("protein", (Chain("MKTAYIAKQR"),)), *number_records([Record("a", (Chain(HEAVY),))])]
    report = GermlineReport()
    made = list(assign_germline(records, of_loci("KL"), report=report))
    assert made == records
    assert sum(report.calls["V"].values()) == 2
    (line,) = report.lines()
    assert "compared with no chain: the set has no V gene for 1 of locus H; protlm prepare --germline" in line
    assert (report.num_unnumbered, report.other_loci) == (1, {"H": 1})


def test_where_nothing_can_be_compared_it_is_said_unless_nobody_asked():
    def lines(records, **options):
        report = GermlineReport()
        assert list(assign_germline(records, of_loci("KL"), report=report, **options)) == records
        return report.lines()

    protein, numbered = Record("p", (Chain("MKTAYIAKQR"),)), Record("a", (numbered_heavy(),))
    assert lines([protein] * 2) == ["germline genes compared with no chain: none of 2 is numbered"]
    assert lines([protein], min_median=0.73) == []
    (line,) = lines([protein, numbered], min_median=0.73)
    assert "has no V gene for 1 of locus H among the first records" in line


def test_chains_like_those_of_another_species_are_counted_by_locus():
    few_changed = "".join("A" if 0 < index < 60 and index % 2 else each for index, each in enumerate(HEAVY))
    chains, report = assigned(Chain(HEAVY), Chain(HEAVY), Chain(few_changed), min_median=0.73)
    assert "segment" in chains[2].tracks
    (line,) = [line for line in report.lines() if "another species" in line]
    assert line.startswith("germline identity of V, locus H: 1 of 3 chains are below 73%")
    _, report = assigned(Chain(HEAVY))
    assert not any("another species" in line for line in report.lines())


def test_a_chain_without_a_v_gene_has_its_j_gene_whatever_its_neighbours_are():
    strange = "".join("W" if index < 90 and each != "C" else each for index, each in enumerate(HEAVY))
    numbered = replace(numbered_heavy(), residues=strange)
    mutated = "".join("A" if index % 3 == 0 and index < 95 else each for index, each in enumerate(HEAVY))
    neighbours = [numbered_heavy(), replace(numbered_heavy(), residues=mutated)]

    def rates(chains):
        block = Block.of(
            np.frombuffer("".join(chain.residues for chain in chains).encode(), np.uint8),
            np.concatenate([chain.tracks["position"] for chain in chains]),
            np.array([len(chain) for chain in chains]),
        )
        table = open_germline().table("H", "V")
        return find_v(block, Junctions.of(block), table, [""] * len(chains), 0.5)

    alone, among = rates([numbered]), rates([numbered, *neighbours])
    assert not alone.is_assigned[0]
    assert alone.rates[0] == among.rates[0] == UNKNOWN_RATE
    assert among.rates[2] > among.rates[1]
    made = [
        next(
            iter(assign_germline([Record(str(n), (each,)) for n, each in enumerate(chains)], open_germline()))
        )
        for chains in ([numbered], [numbered, *neighbours], [numbered, neighbours[1]] * 3)
    ]
    assert len({each.chains[0].j_call for each in made}) == 1
    for each in made[1:]:
        np.testing.assert_array_equal(each.chains[0].tracks["segment"], made[0].chains[0].tracks["segment"])


def test_given_segments_take_no_germline_residue_that_was_found_for_another_segment():
    codes = {"V": Segment.V, "N": Segment.N, "D": Segment.D, "J": Segment.J}
    own = "V" * 101 + "N" * 5 + "J" * 15  # V three residues longer than found, no D
    given = np.array([codes[letter] for letter in own], dtype=np.uint8)
    (chain,), _ = assigned(Chain(HEAVY, tracks={"segment": given}))
    agree = np.array([one == other for one, other in zip(own, SEGMENTS, strict=True)])
    templated = agree & (given != Segment.N)
    residues = np.frombuffer(HEAVY.encode(), dtype=np.uint8)
    np.testing.assert_array_equal(chain.tracks["germline"], np.where(templated, residues, 0))
    np.testing.assert_array_equal(chain.tracks["mutated"] != Mutated.NONE, templated)
    assert (chain.v_call, chain.d_call, chain.j_call) == ("IGHV3-23*01", "", "IGHJ4*02")


def test_a_d_gene_is_named_only_where_the_given_segments_have_it():
    codes = {"V": Segment.V, "N": Segment.N, "D": Segment.D, "J": Segment.J}
    given = np.array([codes[letter] for letter in SEGMENTS], dtype=np.uint8)
    (chain,), _ = assigned(Chain(HEAVY, tracks={"segment": given}))
    assert chain.d_call == "IGHD6-19*01"
    elsewhere = np.where(given == Segment.D, np.uint8(Segment.N), given)
    elsewhere[98:100] = Segment.D
    (chain,), _ = assigned(Chain(HEAVY, tracks={"segment": elsewhere}))
    assert chain.d_call == ""
    (chain,), _ = assigned(Chain(HEAVY, tracks={"germline": np.zeros(len(HEAVY), np.uint8)}))
    assert chain.d_call == "IGHD6-19*01"


def test_every_v_gene_of_the_set_is_nearest_to_itself():
    germline = open_germline()
    for locus in "HKL":
        table = germline.table(locus, "V")
        for row, name in enumerate(table.names):
            residue = np.flatnonzero(table.framework[row] >= 0)
            own = np.frombuffer(STANDARD.encode(), np.uint8)[table.framework[row, residue]]
            block = Block.of(own, ((residue + 1) << 8).astype(np.uint16), np.array([len(own)]))
            found = nearest_v(block, Junctions.of(block), table)
            assert found.identity[0] == 1
            first = next(
                each
                for place, each in enumerate(table.names)
                if (table.framework[place] == table.framework[row]).all()
            )
            assert table.names[found.gene[0]] == first, name


@cache
def numbered_heavy():
    (chain,) = number_chains([Chain(HEAVY)])
    return chain


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, len(HEAVY) - 1), st.sampled_from(STANDARD), max_size=12))
def test_tracks_hold_together_whatever_is_mutated(substitutions):
    residues = HEAVY
    for index, residue in substitutions.items():
        residues = changed(residues, index, residue)
    source = replace(numbered_heavy(), residues=residues)
    (record,) = assign_germline([Record("a", (source,))], open_germline())
    chain = record.chains[0]
    segment, germline, mutated = (chain.tracks[name] for name in ("segment", "germline", "mutated"))
    own = np.frombuffer(residues.encode(), dtype=np.uint8)
    order = "".join("?VNDJ"[code] for code in segment).replace("?", "")
    assert re.fullmatch("V+N*D*N*J*", order)
    is_n = segment == Segment.N
    assert not germline[is_n].any()
    assert not mutated[is_n].any()
    np.testing.assert_array_equal(mutated[~is_n] == Mutated.GERMLINE, own[~is_n] == germline[~is_n])
    in_v = chain.tracks["region"] <= Region.FR3
    assert (segment[in_v] == Segment.V).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(HEAVY) - 1), st.sampled_from(STANDARD))
def test_unspliced_germline_residues_do_not_depend_on_the_chains_own(index, residue):
    def laid_on(text):
        block = Block.of(
            np.frombuffer(text.encode(), np.uint8),
            numbered_heavy().tracks["position"],
            np.array([len(text)]),
        )
        return unspliced_residues(block, open_germline(), "H", ["IGHV3-23*01"], ["IGHJ4*02"])

    codes = laid_on(HEAVY)
    np.testing.assert_array_equal(codes, laid_on(changed(HEAVY, index, residue)))
    text = "".join("." if code < 0 else STANDARD[code] for code in codes)
    assert text == V_3_23 + "." * 8 + J_4


@pytest.fixture(scope="module")
def confusion():
    """Residues of 600 simulated pairs by locus, true and found segment; and by true and found mutation."""
    truth = list(simulate_repertoire(600, seed=3))
    bare = [replace(record, chains=tuple(Chain(c.residues) for c in record.chains)) for record in truth]
    found = list(assign_germline(number_records(bare), open_germline()))
    tables: dict[str, Counter] = {locus: Counter() for locus in "HKL"}
    genes = Counter()
    for before, after in zip(truth, found, strict=True):
        for true, chain in zip(before.chains, after.chains, strict=True):
            if "segment" not in chain.tracks:
                continue
            pairs = zip(true.tracks["segment"].tolist(), chain.tracks["segment"].tolist(), strict=True)
            tables[true.locus].update(("segment", *pair) for pair in pairs)
            pairs = zip(true.tracks["mutated"].tolist(), chain.tracks["mutated"].tolist(), strict=True)
            tables[true.locus].update(("mutated", *pair) for pair in pairs)
            both = (true.tracks["germline"] > 0) & (chain.tracks["germline"] > 0)
            same = true.tracks["germline"] == chain.tracks["germline"]
            tables[true.locus].update({"germline": int(both.sum()), "same": int((both & same).sum())})
            genes[true.locus] += 1
            genes["V", true.locus] += true.v_call.split("*")[0] == chain.v_call.split("*")[0]
    return tables, genes


def recall_and_precision(table, track, code):
    right = table[track, code, code]
    true = sum(count for key, count in table.items() if key[:2] == (track, code))
    found = sum(count for key, count in table.items() if key[::2] == (track, code))
    return right / true, right / found


@pytest.mark.parametrize(
    ("locus", "segment", "recall", "precision"),
    [
        ("H", Segment.V, 0.99, 0.999),
        ("H", Segment.J, 0.97, 0.99),
        ("H", Segment.D, 0.80, 0.95),
        ("H", Segment.N, 0.93, 0.67),
        ("K", Segment.V, 0.99, 0.99),
        ("K", Segment.J, 0.96, 0.99),
        ("L", Segment.V, 0.99, 0.99),
        ("L", Segment.J, 0.96, 0.99),
    ],
)
def test_segments_of_simulated_chains_are_found_again(confusion, locus, segment, recall, precision):
    found = recall_and_precision(confusion[0][locus], "segment", segment)
    assert found[0] >= recall
    assert found[1] >= precision


@pytest.mark.parametrize("locus", "HKL")
def test_mutations_and_genes_of_simulated_chains_are_found_again(confusion, locus):
    table, genes = confusion[0][locus], confusion[1]
    recall, precision = recall_and_precision(table, "mutated", Mutated.MUTATED)
    assert recall >= 0.91
    assert precision >= 0.99
    assert table["same"] / table["germline"] >= 0.998
    assert genes["V", locus] / genes[locus] >= 0.99
