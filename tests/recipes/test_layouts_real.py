"""Published tables as they are: layout, records, loci, regions of columns, agreement with the numbering."""

import pytest

from protlm.data.domains import DomainFinder, number
from protlm.data.numbering import NumberingReport, number_records
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, iterate_records

pytestmark = pytest.mark.real_data

DROP = InputPolicy(invalid="drop", duplicate_ids="rename", unproductive="drop")
PAIRED = InputPolicy(invalid="drop", paired_ids=True)
BOTH = InputPolicy(invalid="drop", bispecific="both")

# file: policy, layout, records, loci, chains with regions of columns, of these differing
FILES = {
    "antibody_specificity/catnap_hiv_heavy_airr.tsv.gz": (
        *(DROP, "layout: AIRR rearrangement", 237, {"H": 233, "L": 2}),
        *(236, 18),
    ),
    "antibody_specificity/catnap_hiv_light_airr.tsv.gz": (
        *(DROP, "layout: AIRR rearrangement", 221, {"H": 2, "K": 127, "L": 92}),
        *(221, 3),
    ),
    "antibody_specificity/cov_abdab_2022-03-04.tsv.gz": (
        *(DROP, "layout: CoV-AbDab", 4_078, {"H": 4_074, "K": 2_265, "L": 1_358}),
        *(7_645, 70),
    ),
    "antibody_specificity/boughter_polyreactivity.tsv.gz": (
        *(DROP, "layout: heavy and light columns", 842, {"H": 841, "K": 774, "L": 67}),
        *(0, 0),
    ),
    "antibody_pairs/sabdab_fv_pairs.tsv.gz": (
        *(DROP, "layout: pairs of SAbDab structures", 5_180, {"H": 5_150, "K": 3_945, "L": 1_235}),
        *(10_360, 1),
    ),
    "antibody_pairs/tenx_pbmc_bcr_pairs.tsv.gz": (
        *(DROP, "layout: pairs of single cells (10x)", 482, {"H": 482, "K": 301, "L": 181}),
        *(964, 1),
    ),
    "antibody_pairs/therasabdab_2025-02.tsv.gz": (
        *(BOTH, "layout: Thera-SAbDab", 1_290, {"H": 1_288, "K": 1_066, "L": 179}),
        *(0, 0),
    ),
    "antibody_developability/GDPa1_v1.2.tsv.gz": (
        *(DROP, "layout: GDPa1 developability", 246, {"H": 246, "K": 217, "L": 29}),
        *(0, 0),
    ),
    "antibody_pairs/imgt_mab_db_variable.fa.gz": (
        *(PAIRED, "6 × one chain of its name, kept alone", 546, {"H": 541, "K": 482, "L": 63}),
        *(0, 0),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_read_whole_and_its_regions_agree(shared_data, name):
    policy, first_line, num_records, loci, given, differ = FILES[name]
    reading, numbering = ReadReport(), NumberingReport()
    records = iterate_records(shared_data / name, policy=policy, report=reading)
    assert sum(1 for _ in number_records(records, report=numbering)) == num_records
    assert reading.lines()[0].startswith(first_line)
    assert numbering.numbered == loci
    assert (numbering.regions_given, numbering.regions_differ) == (given, differ)
    assert not numbering.domains  # variable domains only, and no constant one taken for one


def test_constant_domains_of_whole_chains_are_no_second_variable_domain(shared_data):
    path = shared_data / "antibody_developability" / "GDPa1_v1.2.tsv.gz"
    columns = ColumnNames(heavy="hc_protein_sequence", light="lc_protein_sequence")
    report = NumberingReport()
    assert sum(1 for _ in number_records(iterate_records(path, columns=columns), report=report)) == 246
    assert report.numbered == {"H": 246, "K": 217, "L": 29}
    assert not report.domains


def test_t_cell_receptors_are_found_without_being_told(shared_data):
    path = shared_data / "tcr_epitope" / "titan_tcrs.tsv.gz"
    columns = ColumnNames(sequence="tcr_full", id="id")
    report = NumberingReport()
    head = [record for _, record in zip(range(2_000), iterate_records(path, columns=columns), strict=False)]
    assert sum(1 for _ in number_records(head, report=report)) == 2_000
    assert set(report.numbered) == {"B"}
    assert report.numbered["B"] == 1_806


@pytest.mark.parametrize("name", ["antibody_pretrain/srr_hkl_10k.tsv.gz", "antibody_numbering/imgt_K.tsv.gz"])
def test_trying_likely_types_first_changes_no_chain(shared_data, name):
    records = list(iterate_records(shared_data / name, policy=DROP))
    residues = list(dict.fromkeys(chain.residues for record in records for chain in record.chains))[:3_000]
    by_all = number(residues, "HKL")
    by_likely = DomainFinder("HKL").best(residues, ["HKL"] * len(residues))
    for one, other in zip(by_all, by_likely, strict=True):
        assert (one.locus, one.start) == (other.locus, other.start)
        assert one.positions.tobytes() == other.positions.tobytes()
