import gzip
from itertools import islice

import immunum
import numpy as np
import pytest
from scipy.stats import chi2

from protlm.data.germline import GENE_TYPES, germline_segments, translate
from protlm.data.readers import read_records
from protlm.data.simulate import COUPLED_FAMILY, _segments, repertoire_frame, simulate_repertoire
from protlm.errors import DataError
from protlm.types.record import Role
from protlm.types.regions import Mutated, Segment

HEAVY_3_23 = (
    "EVQLLESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAK"
)


@pytest.fixture(scope="module")
def repertoire():
    return list(simulate_repertoire(200, seed=11))


def contents(record):
    chains = [
        (chain, *(chain.tracks[name].tolist() for name in ("segment", "mutated"))) for chain in record.chains
    ]
    return record.id, record.group, dict(record.labels), chains


def germline_of(allele):
    """Residues of an allele's whole codons, from the table."""
    kind = allele[:4]
    (segment,) = (segment for segment in germline_segments(kind) if segment.allele == allele)
    return translate(segment.sequence, frame=0 if kind[3] == "V" else (len(segment.sequence) - 1) % 3)


def mutated_share(mutation_rate):
    tracks = [
        chain.tracks["mutated"]
        for record in simulate_repertoire(80, mutation_rate=mutation_rate)
        for chain in record.chains
    ]
    return float((np.concatenate(tracks) == Mutated.MUTATED).mean())


def mutual_information(first, second):
    """Give the plug-in mutual information in nats and the degrees of freedom of its null."""
    _, rows = np.unique(first, return_inverse=True)
    _, columns = np.unique(second, return_inverse=True)
    counts = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(counts, (rows, columns), 1)
    joint = counts / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())
    return information, (counts.shape[0] - 1) * (counts.shape[1] - 1)


def families(num_records, pairing_strength):
    records = simulate_repertoire(num_records, pairing_strength=pairing_strength, seed=5)
    return zip(*((r.labels["v_family_heavy"], r.labels["v_family_light"]) for r in records), strict=True)


def test_same_seed_same_records_and_another_seed_others(repertoire):
    again = list(simulate_repertoire(200, seed=11))
    assert [contents(record) for record in again] == [contents(record) for record in repertoire]
    other = list(simulate_repertoire(200, seed=12))
    assert not {r.chains[0].residues for r in other} & {r.chains[0].residues for r in repertoire}


def test_a_record_does_not_depend_on_how_many_are_drawn(repertoire):
    assert [contents(r) for r in simulate_repertoire(7, seed=11)] == [contents(r) for r in repertoire[:7]]
    assert [contents(r) for r in islice(simulate_repertoire(10**9, seed=11), 3)] == [
        contents(r) for r in repertoire[:3]
    ]


def test_records_are_distinct_pairs_of_whole_chains(repertoire):
    assert len({record.chains[0].residues for record in repertoire}) == 200
    assert [repertoire[0].id, repertoire[123].id] == ["sim-000000", "sim-000123"]
    for record in repertoire:
        heavy, light = record.chains
        assert (heavy.role, heavy.locus, heavy.v_call[:4]) == (Role.HEAVY, "H", "IGHV")
        assert light.role is Role.LIGHT
        assert light.v_call[:4] == f"IG{light.locus}V"
        assert light.j_call[:4] == f"IG{light.locus}J"
        for chain in record.chains:
            assert set(chain.residues) <= set("ACDEFGHIKLMNPQRSTVWY")
            assert {name: len(track) for name, track in chain.tracks.items()} == {
                name: len(chain) for name in ("segment", "mutated", "germline")
            }
            segment, mutated, germline = (chain.tracks[name] for name in ("segment", "mutated", "germline"))
            assert ((germline == 0) == (segment == Segment.N)).all()
            same = germline == np.frombuffer(chain.residues.encode(), dtype=np.uint8)
            assert ((mutated == Mutated.GERMLINE) == same).all()


def test_segments_lie_in_order_and_only_a_heavy_chain_has_d(repertoire):
    place = {Segment.V: 0, Segment.D: 1, Segment.J: 2}
    for record in repertoire:
        for chain in record.chains:
            templated = [place[Segment(code)] for code in chain.tracks["segment"] if code != Segment.N]
            assert templated == sorted(templated)
            assert (templated[0], templated[-1]) == (0, 2)
            assert set(chain.tracks["segment"].tolist()) <= {1, 2, 3, 4}
    light_segments = np.concatenate([record.chains[1].tracks["segment"] for record in repertoire])
    heavy_segments = np.concatenate([record.chains[0].tracks["segment"] for record in repertoire])
    assert Segment.D not in light_segments
    assert 2 < (heavy_segments == Segment.D).sum() / 200 < 9
    assert 1 < (heavy_segments == Segment.N).sum() / 200 < 8


def test_mutation_track_says_where_v_and_j_differ_from_their_alleles(repertoire):
    for record in repertoire:
        for chain in record.chains:
            segment, mutated = chain.tracks["segment"], chain.tracks["mutated"]
            v, j = germline_of(chain.v_call), germline_of(chain.j_call)
            last_v = int(np.flatnonzero(segment == Segment.V)[-1])  # its codon may hold one nucleotide of N
            differs = np.array([a != b for a, b in zip(chain.residues[:last_v], v, strict=False)])
            assert (differs == (mutated[:last_v] == Mutated.MUTATED)).all()
            num_j = int((segment == Segment.J).sum()) - 1
            differs = np.array([a != b for a, b in zip(chain.residues[-num_j:], j[-num_j:], strict=True)])
            assert (differs == (mutated[-num_j:] == Mutated.MUTATED)).all()
            assert ((mutated == Mutated.NONE) == (segment == Segment.N)).all()


@pytest.mark.parametrize(
    ("codon", "segment"),
    [("VVV", "V"), ("VVN", "V"), ("VNV", "V"), ("NVV", "V"), ("VNN", "N"), ("NDD", "D"), ("DDJ", "D"),
     ("VND", "N"), ("VDN", "N"), ("NDJ", "N"), ("VDJ", "D")],
)  # fmt: skip
def test_a_codon_belongs_to_the_segment_of_most_of_its_nucleotides(codon, segment):
    origins = np.array([Segment[letter] for letter in codon], dtype=np.uint8)
    assert _segments(origins).tolist() == [Segment[segment]]


def test_tracks_are_the_same_after_the_table_was_written_and_read(tmp_path):
    records = list(simulate_repertoire(30, mutation_rate=0.3))
    repertoire_frame(records).write_csv(tmp_path / "r.csv")
    for record, read in zip(records, read_records(tmp_path / "r.csv"), strict=True):
        for chain, other in zip(record.chains, read.chains, strict=True):
            for name in ("segment", "mutated"):
                assert chain.tracks[name].tolist() == other.tracks[name].tolist()


def test_without_mutation_every_templated_residue_is_germline():
    for record in simulate_repertoire(40, mutation_rate=0.0):
        assert record.labels["num_mutations"] == 0
        for chain in record.chains:
            templated = chain.tracks["segment"] != Segment.N
            assert (chain.tracks["mutated"] == np.where(templated, Mutated.GERMLINE, Mutated.NONE)).all()


def test_mutated_share_rises_with_the_rate():
    low, middle, high = mutated_share(0.01), mutated_share(0.05), mutated_share(0.15)
    assert 0.0 < low < middle < high
    # 60 % of records, three nucleotides in a codon, about three of four substitutions not silent.
    assert 0.05 * 0.6 * 3 * 0.5 < middle < 0.05 * 0.6 * 3


def test_some_records_are_naive(repertoire):
    naive = np.mean([record.labels["num_mutations"] == 0 for record in repertoire])
    assert 0.25 < naive < 0.55


def test_hotspot_serines_mutate_more_than_others():
    codons = {segment.allele: segment.sequence for segment in germline_segments("IGHV")}
    seen = {True: [0, 0], False: [0, 0]}
    for record in simulate_repertoire(300, paired=False, mutation_rate=0.05):
        heavy = record.chains[0]
        sequence = codons[heavy.v_call]
        for index in np.flatnonzero(heavy.tracks["segment"] == Segment.V)[:-1]:
            codon = sequence[3 * index : 3 * index + 3]
            if codon in ("AGC", "AGT") or codon.startswith("TC"):
                tally = seen[codon.startswith("AG")]
                tally[0] += heavy.tracks["mutated"][index] == Mutated.MUTATED
                tally[1] += 1
    assert seen[True][0] / seen[True][1] > 1.4 * seen[False][0] / seen[False][1]


def test_conserved_residues_stay_even_at_the_highest_rate():
    for record in simulate_repertoire(60, paired=False, mutation_rate=0.3):
        cdr3 = record.group.partition("|")[2]
        before, _, after = record.chains[0].residues.rpartition(cdr3)
        assert (before[-1], after[0]) == ("C", "W")
        assert 5 <= len(cdr3) <= 30


def test_usage_follows_the_weights():
    records = list(simulate_repertoire(1500, paired=False, mutation_rate=0.0, seed=3))
    joins = germline_segments("IGHJ")
    share = np.array([np.mean([r.chains[0].j_call == j.allele for r in records]) for j in joins])
    expected = np.array([j.weight for j in joins]) / sum(j.weight for j in joins)
    assert np.abs(share - expected).max() < 4 * np.sqrt(0.25 / 1500)
    assert {r.labels["v_family_heavy"] for r in records} == {f"IGHV{number}" for number in range(1, 8)}


def test_heavy_cdr3_lengths_are_human(repertoire):
    lengths = [len(record.group.partition("|")[2]) for record in repertoire]
    assert 14 < np.mean(lengths) < 17
    assert 3 < np.std(lengths) < 5


def test_the_heavy_chain_is_the_same_without_its_partner_and_at_any_pairing_strength(repertoire):
    heavy = [contents(record)[3][0] for record in repertoire[:20]]
    assert [contents(r)[3][0] for r in simulate_repertoire(20, paired=False, seed=11)] == heavy
    assert [contents(r)[3][0] for r in simulate_repertoire(20, pairing_strength=1.0, seed=11)] == heavy


def test_families_are_independent_without_coupling_and_determined_with_it():
    heavy, light = families(800, 0.0)
    information, freedom = mutual_information(heavy, light)
    assert 2 * 800 * information < chi2.ppf(0.999, freedom)
    by_chance = sum(heavy.count(h) * light.count(COUPLED_FAMILY[h]) for h in set(heavy)) / 800**2
    coupled = np.mean([COUPLED_FAMILY[h] == family for h, family in zip(heavy, light, strict=True)])
    assert abs(coupled - by_chance) < 0.04
    heavy, light = families(800, 0.5)
    coupled = np.mean([COUPLED_FAMILY[h] == family for h, family in zip(heavy, light, strict=True)])
    assert abs(coupled - (0.5 + 0.5 * by_chance)) < 0.06
    heavy, light = families(300, 1.0)
    assert [COUPLED_FAMILY[family] for family in heavy] == list(light)
    assert len(set(COUPLED_FAMILY.values())) == len(COUPLED_FAMILY)


def test_immunum_numbers_the_chains_and_finds_the_same_cdr3(repertoire):
    annotator = immunum.Annotator(chains=["ig"], scheme="imgt")
    results = [(annotator.number(c.residues), c) for record in repertoire for c in record.chains]
    right = [result.error is None and result.chain == chain.locus for result, chain in results]
    assert np.mean(right) >= 0.99
    same = []
    for record, (result, _) in zip(repertoire, results[::2], strict=True):
        numbering = (result.numbering or {}).items()
        found = [residue for label, residue in numbering if 105 <= int(label.rstrip("ABCDEFGHIJ")) <= 117]
        same.append("".join(found) == record.group.partition("|")[2])
    assert np.mean(same) >= 0.95


def test_paired_table_has_one_letter_per_residue(repertoire):
    frame = repertoire_frame(repertoire)
    assert frame.columns == [
        "sequence_id", "heavy", "light", "d_call_heavy",
        "v_call_heavy", "j_call_heavy", "gene_segment_mask_aa_heavy", "nongermline_mask_aa_heavy",
        "v_call_light", "j_call_light", "gene_segment_mask_aa_light", "nongermline_mask_aa_light",
        "v_family_heavy", "v_family_light", "num_mutations", "group",
    ]  # fmt: skip
    for row, record in zip(frame.iter_rows(named=True), repertoire, strict=True):
        assert row["group"] == record.group
        nongermline = 0
        for name, chain in zip(("heavy", "light"), record.chains, strict=True):
            letters, digits = row[f"gene_segment_mask_aa_{name}"], row[f"nongermline_mask_aa_{name}"]
            assert row[name] == chain.residues
            assert letters == "".join(Segment(code).name for code in chain.tracks["segment"])
            assert len(digits) == len(chain)
            assert set(digits) <= {"0", "1"}
            assert all(digit == "1" for digit, letter in zip(digits, letters, strict=True) if letter == "N")
            nongermline += digits.count("1") - letters.count("N")
        assert nongermline == row["num_mutations"] == record.labels["num_mutations"]


def test_unpaired_table_has_plain_names():
    frame = repertoire_frame(simulate_repertoire(3, paired=False))
    assert frame.columns == [
        "sequence_id", "sequence", "d_call", "v_call", "j_call", "gene_segment_mask_aa",
        "nongermline_mask_aa", "v_family", "num_mutations", "group",
    ]  # fmt: skip
    assert frame.height == 3


def test_a_table_needs_records_of_one_kind():
    with pytest.raises(DataError, match="no records"):
        repertoire_frame([])
    mixed = [*simulate_repertoire(1), *simulate_repertoire(1, paired=False)]
    with pytest.raises(DataError, match="paired and unpaired"):
        repertoire_frame(mixed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_records": 0}, "num_records is 0\n.*at least 1"),
        ({"num_records": 2.5}, "num_records is 2.5"),
        ({"seed": -1}, "seed is -1\n.*at least 0"),
        ({"pairing_strength": 1.5}, r"pairing_strength is 1.5\n.*\[0, 1\]"),
        ({"pairing_strength": float("nan")}, "pairing_strength is nan"),
        ({"pairing_strength": 0.5, "paired": False}, "unpaired"),
        ({"mutation_rate": -0.1}, "mutation_rate is -0.1"),
        ({"mutation_rate": 0.5}, r"mutation_rate is 0.5\n.*\[0, 0.3\]"),
    ],
)
def test_a_wrong_value_is_named_at_once(wrong, message):
    with pytest.raises(DataError, match=message):
        simulate_repertoire(**{"num_records": 1, **wrong})


def test_an_unknown_gene_type_is_named():
    with pytest.raises(DataError, match=r"'IGHW'.*\n.*IGHV"):
        germline_segments("IGHW")


def test_translation_of_a_known_segment():
    (segment,) = (s for s in germline_segments("IGHV") if s.allele == "IGHV3-23*01")
    assert translate(segment.sequence) == HEAVY_3_23
    assert (segment.gene, segment.family, segment.anchor) == ("IGHV3-23", "IGHV3", 3 * HEAVY_3_23.rindex("C"))


def test_families_of_distal_genes_are_those_of_their_copies():
    assert {segment.family for segment in germline_segments("IGKV")} == {"IGKV1", "IGKV2", "IGKV3", "IGKV4"}


def test_every_segment_can_be_used():
    for kind in GENE_TYPES:
        segments = germline_segments(kind)
        assert len({segment.allele for segment in segments}) == len(segments)
        for segment in segments:
            assert segment.weight > 0
            assert segment.allele.startswith(kind)
            assert set(segment.sequence) <= set("ACGT")
            assert (segment.anchor == -1) == (kind == "IGHD")
            if kind.endswith("V"):
                assert "*" not in translate(segment.sequence)


def published(folder, name):
    with gzip.open(folder / "germline" / name, "rt") as handle:
        entries = handle.read().split(">")[1:]
    return {entry.partition("__")[0]: "".join(entry.split("\n")[1:]).upper() for entry in entries}


@pytest.mark.real_data
@pytest.mark.parametrize("kind", GENE_TYPES)
def test_the_table_is_that_of_the_published_sets(kind, shared_data):
    sequences = published(shared_data, f"human_{kind[3].lower()}_ungapped.fasta.gz")
    for segment in germline_segments(kind):
        assert sequences[segment.allele] == segment.sequence, segment.allele


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["IGHV", "IGKV", "IGLV"])
def test_the_cysteine_is_at_imgt_position_104(kind, shared_data):
    gapped = published(shared_data, "human_v_imgt_gapped.fasta.gz")
    for segment in germline_segments(kind):
        before = gapped[segment.allele][: 3 * 103]
        assert segment.anchor == len(before) - before.count("."), segment.allele


def test_the_table_is_as_large_as_asked():
    count = {kind: len(germline_segments(kind)) for kind in GENE_TYPES}
    assert count["IGHV"] >= 16
    assert count["IGHD"] >= 10
    assert count["IGHJ"] >= 6
    assert min(count["IGKV"] - 6, count["IGLV"] - 4, count["IGKJ"] - 5, count["IGLJ"] - 3) >= 0
    assert {s.family for s in germline_segments("IGHV")} == {f"IGHV{number}" for number in range(1, 8)}
