"""Layouts: each is recognised by its columns, and its facts end up where they belong."""

import csv
import gzip
import io
import json

import numpy as np
import polars as pl
import pytest

from fixtures.antibodies import HEAVY_REGIONS, LIGHT_REGIONS, TCR_BETA, VH, VL, cdr_mask, codes
from protlm.cli.prepare import LAYOUT_NAMES
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, iterate_records, read_records
from protlm.data.readers.layouts import LAYOUTS, REGION_KINDS, recognise
from protlm.errors import DataError
from protlm.types.record import Role
from protlm.types.regions import Mutated, Region, Segment

DROP = InputPolicy(invalid="drop")
PRODUCTIVE_ONLY = InputPolicy(invalid="drop", unproductive="drop")


@pytest.fixture
def table(tmp_path):
    """Write rows of a table; the first line may be metadata."""

    def table(rows, name="x.tsv", first_line=None):
        mark = "," if ".csv" in name else "\t"
        text = io.StringIO()
        if first_line is not None:
            text.write(first_line + "\n")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter=mark, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue().encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return table


def read(path, *, policy=None, **columns):
    report = ReadReport()
    records = list(iterate_records(path, columns=ColumnNames(**columns), policy=policy, report=report))
    return records, report


def regions_aa(strings, end=""):
    return {f"{kind}_aa{end}": text for kind, text in zip(REGION_KINDS, strings, strict=True)}


# --- recognition ------------------------------------------------------------------------------------

HEADERS = {
    "joined": ["text", "cdr_mask"],
    "oas-paired": ["sequence_alignment_aa_heavy", "sequence_alignment_aa_light", "v_call_heavy"],
    "oas": ["sequence", "v_call", "sequence_alignment_aa", "Redundancy", "ANARCI_numbering"],
    "abstar-paired": ["name", "sequence_aa:0", "sequence_aa:1", "cdr_mask_aa:0"],
    "abstar": ["sequence_id", "v_call", "sequence_aa", "cdr_mask_aa", "gene_segment_mask_aa"],
    "cov-abdab": ["Name", "Ab or Nb", "VH or VHH", "VL", "Heavy V Gene", "CDRH3"],
    "thera-sabdab": ["Therapeutic", "HeavySequence", "LightSequence", "HeavySequence(ifbispec)"],
    "sabdab-pairs": ["abid", "heavy_seq", "light_seq", "cdr3_heavy_cw"],
    "tenx-pairs": ["dataset", "cell", "variable_domain_heavy", "variable_domain_light"],
    "gdpa1": ["antibody_id", "vh_protein_sequence", "vl_protein_sequence"],
    "airr": ["sequence_id", "sequence", "v_call", "locus", "productive", "sequence_aa"],
    "tcr-pairs": ["id", "tra_sequence", "trb_sequence", "sequence_alpha", "sequence_beta"],
    "pairs": ["id", "heavy", "light"],
    "plain": ["id", "sequence", "v_call", "fwr1"],
}


def test_the_command_line_lists_every_layout_and_every_layout_has_an_example_here():
    assert tuple(LAYOUT_NAMES) == ("auto", *LAYOUTS)
    assert set(HEADERS) == set(LAYOUTS)


@pytest.mark.parametrize("name", HEADERS)
def test_a_layout_is_told_from_its_columns_in_any_order_and_letter_case(name, tmp_path):
    header = HEADERS[name]
    for columns in (header, header[::-1], [each.upper() for each in header]):
        assert recognise(columns, "auto", tmp_path).name == name


def test_a_layout_can_be_asked_for_and_is_refused_where_its_columns_are_not_there(table):
    path = table([{"id": "a", "sequence": VH, "heavy": VL}])
    assert read(path)[0][0].chains[0].residues == VL  # a heavy column goes before a plain one
    records, report = read(path, layout="plain")
    assert records[0].chains[0].residues == VH
    assert report.lines()[0] == "layout: one sequence per row"
    with pytest.raises(DataError, match="layout 'cov-abdab' has one of the columns 'VH or VHH'"):
        read(path, layout="cov-abdab")
    with pytest.raises(DataError, match="no layout is called 'oass'") as caught:
        read(path, layout="oass")
    assert "did you mean 'oas'" in caught.value.hint
    with pytest.raises(DataError, match="--layout plain says which columns hold chains, and so do --heavy"):
        read(path, layout="plain", heavy="heavy")


# --- AIRR -------------------------------------------------------------------------------------------


def airr(**cells):
    return {
        "sequence_id": "a",
        "sequence": "GAGGTGCAG",
        "v_call": "IGHV3-66*01,IGHV3-66*04",
        "d_call": "IGHD3-10*01",
        "j_call": "IGHJ4*02",
        "locus": "IGH",
        "productive": "T",
        "sequence_aa": VH,
        **regions_aa(HEAVY_REGIONS),
        **cells,
    }


def test_an_airr_row_gives_residues_calls_locus_role_and_regions(table):
    (record,), report = read(table([airr()]))
    chain = record.chains[0]
    assert chain.residues == VH
    assert (chain.v_call, chain.d_call, chain.j_call) == ("IGHV3-66*01", "IGHD3-10*01", "IGHJ4*02")
    assert (chain.locus, chain.role) == ("H", Role.HEAVY)
    assert chain.tracks["region"].tolist() == codes(HEAVY_REGIONS)
    assert report.lines()[0] == "layout: AIRR rearrangement"
    assert not report.changed


def test_an_empty_cell_of_residues_is_made_up_for_by_the_next_column_and_counted(table):
    gapped = VH[:30] + "--" + VH[30:]
    rows = [
        airr(sequence_id="a", sequence_alignment_aa=gapped),
        airr(sequence_id="b", sequence_aa="", sequence_alignment_aa=gapped),
    ]
    records, report = read(table(rows))
    assert [record.chains[0].residues for record in records] == [VH, VH]
    assert report.changed["'sequence_aa' is empty, 'sequence_alignment_aa' read instead"] == 1
    assert report.changed["gaps, removed"] == 1


def test_an_airr_table_of_nucleotides_is_refused_and_says_how_to_force_it(table):
    row = {"sequence_id": "a", "sequence": "GAGGTGCAG", "rev_comp": "F", "v_call": "IGHV3-66*01"}
    with pytest.raises(DataError, match="without residues: 'sequence' holds nucleotides") as caught:
        read(table([row]))
    assert "--sequence sequence" in caught.value.hint
    assert read(table([row]), sequence="sequence")[0][0].chains[0].residues == "GAGGTGCAG"


@pytest.mark.parametrize("word", ["F", "false", "False", "no"])
def test_unproductive_rows_are_counted_and_kept_or_dropped(table, word):
    path = table([airr(sequence_id="a"), airr(sequence_id="b", productive=word)])
    records, report = read(path)
    assert [record.id for record in records] == ["a", "b"]
    assert report.changed == {"not productive, kept": 1}
    records, report = read(path, policy=PRODUCTIVE_ONLY)
    assert [record.id for record in records] == ["a"]
    assert report.dropped == {"not productive (--unproductive keep keeps such rows)": 1}
    assert "row 2, record 'b'" in report.examples[next(iter(report.dropped))][0]


def test_a_germline_alignment_becomes_letters_and_mutations_residue_by_residue(table):
    germline = "EVQLVXSG-"
    rows = [
        airr(
            sequence_aa="EVQKVESGG", germline_alignment_aa=germline, **dict.fromkeys(regions_aa([""] * 7), "")
        )
    ]
    (record,), _ = read(table(rows))
    tracks = record.chains[0].tracks
    assert bytes(tracks["germline"]) == b"EVQLV\0SG\0"
    M, G, N = Mutated.MUTATED, Mutated.GERMLINE, Mutated.NONE
    assert tracks["mutated"].tolist() == [G, G, G, M, G, N, G, G, N]


def test_a_germline_alignment_goes_with_the_gapped_sequence_where_that_is_given(table):
    empty = dict.fromkeys(regions_aa([""] * 7), "")
    row = airr(
        sequence_aa="MAEVQKESGG",
        sequence_alignment_aa="EVQK-ESGG",
        germline_alignment_aa="EVQLVE-GG",
        **empty,
    )
    (record,), _ = read(table([row]))
    assert bytes(record.chains[0].tracks["germline"]) == b"\0\0EVQLE\0GG"


@pytest.mark.parametrize("germline", ["EVQ", VH[1:] + "A", "E" * 200])
def test_a_germline_that_does_not_align_is_left_out_and_counted(table, germline):
    (record,), report = read(table([airr(germline_alignment_aa=germline)]))
    assert "germline" not in record.chains[0].tracks
    (rule,) = report.changed
    assert rule.endswith("left out")
    assert "germline_alignment_aa" in rule


def test_a_locus_that_is_none_is_counted_and_the_v_call_is_asked(table):
    (record,), report = read(table([airr(locus="heavy-ish")]))
    assert record.chains[0].locus == "H"
    assert report.changed == {"column 'locus' says 'heavy-ish', which is no locus such as IGH; not read": 1}
    for locus in ("H", "IGH", "igh", "Heavy"):
        (record,), report = read(table([airr(locus=locus, v_call="")]))
        assert record.chains[0].locus == "H"
        assert not report.changed
    (record,), _ = read(table([airr(locus="TRB", v_call="TRBV7-9*01")]))
    assert (record.chains[0].locus, record.chains[0].role) == ("B", Role.BETA)


# --- OAS --------------------------------------------------------------------------------------------

METADATA = {"Run": "SRR1", "Species": "human", "Disease": "None, healthy", "Unique sequences": 2}


def oas(end="", strings=HEAVY_REGIONS, **cells):
    row = {
        "sequence": "GAGG",
        "locus": "H",
        "productive": "T",
        "v_call": "IGHV3-66*01" if strings is HEAVY_REGIONS else "IGKV1-39*01",
        "d_call": "",
        "j_call": "IGHJ4*02" if strings is HEAVY_REGIONS else "IGKJ1*01",
        "sequence_alignment_aa": "".join(strings),
        "germline_alignment_aa": "".join(strings).replace("Y", "S"),
        "fwr1": "GAG",
        **regions_aa(strings),
        "ANARCI_numbering": "{'fwh1': {'1 ': 'E'}}",
        "Redundancy": "3",
        **cells,
    }
    return {f"{name}{end}": value for name, value in row.items()}


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv"])
def test_the_first_line_of_an_oas_file_is_metadata_that_labels_may_name(table, quoted, name):
    text = json.dumps(METADATA)
    line = '"' + text.replace('"', '""') + '"' if quoted else text
    path = table([oas(), oas()], name, first_line=line)
    records, report = read(path, labels=("Species", "Redundancy", "Disease"))
    assert report.lines()[0] == "layout: OAS, unpaired"
    assert [record.id for record in records] == ["x:1", "x:2"]
    assert records[0].labels == {"Species": "human", "Redundancy": "3", "Disease": "None, healthy"}
    chain = records[0].chains[0]
    assert not report.changed
    assert (chain.residues, chain.locus) == (VH, "H")
    assert chain.tracks["region"].tolist() == codes(HEAVY_REGIONS)
    assert (chain.tracks["mutated"] == Mutated.MUTATED).sum() == VH.count("Y")
    with pytest.raises(DataError, match="there is no column 'Specis'") as caught:
        read(path, labels=("Specis",))
    assert "did you mean 'Species'" in caught.value.hint


def test_a_paired_oas_row_gives_both_chains(table):
    row = {"sequence_id_heavy": "cell1", **oas("_heavy"), **oas("_light", LIGHT_REGIONS, locus="K")}
    (record,), report = read(table([row], "x.csv.gz", first_line=json.dumps(METADATA)))
    assert report.lines()[0] == "layout: OAS, paired"
    assert record.id == "cell1"
    assert [chain.residues for chain in record.chains] == [VH, VL]
    assert [chain.locus for chain in record.chains] == ["H", "K"]
    for chain, strings in zip(record.chains, (HEAVY_REGIONS, LIGHT_REGIONS), strict=True):
        assert chain.tracks["region"].tolist() == codes(strings)


def test_broken_metadata_is_named_and_line_numbers_count_it(table):
    with pytest.raises(DataError, match=r"the first line looks like metadata, but is no JSON"):
        read(table([oas()], "x.csv", first_line='{"Run": '))
    path = table([oas()], "x.csv", first_line=json.dumps(METADATA))
    path.write_text(path.read_text() + "too,short\n")
    with pytest.raises(DataError, match=r"row 2 \(line 4\): 2 values for"):
        read(path)


# --- abstar and joined pairs ------------------------------------------------------------------------


def test_abstar_masks_become_regions_segments_and_mutations(table):
    segments = "V" * 96 + "N" * 5 + "D" * 5 + "J" * (len(VH) - 106)
    nongermline = "1" + "0" * (len(VH) - 1)
    row = {
        "sequence_id": "a",
        "sequence": "GAG",
        "sequence_aa": VH,
        "cdr_mask_aa": cdr_mask(HEAVY_REGIONS),
        "gene_segment_mask_aa": segments,
        "nongermline_mask_aa": nongermline,
    }
    (record,), report = read(table([row], "x.csv"))
    assert report.lines()[0] == "layout: abstar"
    tracks = record.chains[0].tracks
    assert tracks["region"].tolist() == codes(HEAVY_REGIONS)
    assert "".join(Segment(code).name for code in tracks["segment"]) == segments
    assert tracks["mutated"][0] == Mutated.MUTATED
    assert (tracks["mutated"] == Mutated.NONE).sum() == 5


def test_abstar_pairs_in_parquet_with_numbered_columns(tmp_path):
    path = tmp_path / "x.parquet"
    row = {"name": "p"}
    for end, strings in ((":0", HEAVY_REGIONS), (":1", LIGHT_REGIONS)):
        row |= {f"sequence_aa{end}": "".join(strings), f"cdr_mask_aa{end}": cdr_mask(strings)}
    pl.DataFrame([row]).write_parquet(path)
    (record,), report = read(path)
    assert report.lines()[0] == "layout: abstar, paired"
    assert record.id == "p"
    assert [chain.role for chain in record.chains] == [Role.HEAVY, Role.LIGHT]
    assert record.chains[1].tracks["region"].tolist() == codes(LIGHT_REGIONS)


@pytest.mark.parametrize("marks", ["<cls><cls>", "<sep>", "</s></s>"])
def test_joined_pairs_are_parted_with_their_mask(table, marks):
    zeros = "0" * marks.count("<")
    mask = cdr_mask(HEAVY_REGIONS) + zeros + cdr_mask(LIGHT_REGIONS)
    (record,), _ = read(table([{"text": VH + marks + VL, "cdr_mask": mask}], "x.csv"))
    assert [chain.residues for chain in record.chains] == [VH, VL]
    assert [chain.role for chain in record.chains] == [Role.HEAVY, Role.LIGHT]
    assert record.chains[0].tracks["region"].tolist() == codes(HEAVY_REGIONS)
    assert record.chains[1].tracks["region"].tolist() == codes(LIGHT_REGIONS)


@pytest.mark.parametrize("mask", ["0" * (len(VH) + len(VL)), "0" * len(VH) + "30" + "0" * len(VL)])
def test_a_joined_mask_without_zeros_for_the_marks_is_refused_and_never_shifted(table, mask):
    path = table([{"text": f"{VH}<cls><cls>{VL}", "cdr_mask": mask}], "x.csv")
    with pytest.raises(DataError, match=r"row 1, .*column 'cdr_mask' has"):
        read(path)
    records, report = read(path, policy=DROP)
    assert not records
    assert report.dropped == {"column 'cdr_mask' does not have one letter per residue and mark": 1}


def test_a_joined_row_of_one_chain_or_of_three(table):
    rows = [{"text": VH, "cdr_mask": ""}, {"text": f"{VH}<cls>{VL}<cls>{VL}", "cdr_mask": ""}]
    records, report = read(table(rows, "x.csv"), policy=DROP)
    assert [[chain.residues for chain in record.chains] for record in records] == [[VH]]
    assert report.dropped == {"more than two chains in column 'text'": 1}


def test_a_joined_row_reads_all_its_masks_and_names_the_columns_of_one_chain_that_it_cannot(table):
    segments = ["V" * (len(each) - 12) + "NN" + "J" * 10 for each in (VH, VL)]
    mutations = ["1" + "0" * (len(each) - 1) for each in (VH, VL)]
    row = {
        "id": "a",
        "text": f"{VH}<cls><cls>{VL}",
        "cdr_mask": cdr_mask(HEAVY_REGIONS) + "00" + cdr_mask(LIGHT_REGIONS),
        "gene_segment_mask_aa": "00".join(segments),
        "nongermline_mask_aa": "00".join(mutations),
        "v_call": "IGHV3-66*01",
        "j_call": "IGHJ4*02",
        "locus": "IGH",
        "cdr3": "SRWGGDGFYAMDY",
    }
    (record,), report = read(table([row], "x.csv"))
    for chain, own in zip(record.chains, segments, strict=True):
        assert "".join(Segment(code).name for code in chain.tracks["segment"]) == own
        assert np.flatnonzero(chain.tracks["mutated"] == Mutated.MUTATED).tolist() == [0]
        assert (chain.v_call, chain.j_call) == ("", "")
    assert record.chains[0].tracks["region"].tolist() == codes(HEAVY_REGIONS)
    assert any(line.endswith("not read: v_call, j_call, locus, cdr3") for line in report.lines())


# --- databases --------------------------------------------------------------------------------------


def test_cov_abdab_rows_with_nanobodies_and_words_for_nothing(table):
    base = {"Heavy V Gene": "IGHV3-66 (Human)", "Light V Gene": "ND", "CDRH3": "SRWGGDGFYAMDY"}
    rows = [
        {"Name": "a", "Ab or Nb": "Ab", "VH or VHH": VH, "VL": VL, **base},
        {"Name": "b", "Ab or Nb": "Nb", "VH or VHH": VH, "VL": "", **base},
        {"Name": "c", "Ab or Nb": "Ab", "VH or VHH": VH, "VL": "ND", **base},
        {"Name": "d", "Ab or Nb": "Ab", "VH or VHH": "ND", "VL": "ND", **base},
    ]
    records, report = read(table(rows), policy=DROP)
    assert [len(record.chains) for record in records] == [2, 1, 1]
    assert report.changed["single chain, as 'Ab or Nb' says Nb"] == 1
    assert report.changed["no light chain, kept with the other one alone"] == 1
    assert "row 3, record 'c'" in report.examples["no light chain, kept with the other one alone"][0]
    assert report.dropped == {"empty sequence": 1}
    heavy = records[0].chains[0]
    assert (heavy.v_call, heavy.locus) == ("IGHV3-66", "H")
    inside = np.flatnonzero(heavy.tracks["region"])
    assert set(heavy.tracks["region"][inside]) == {Region.CDR3}
    assert VH[inside[0] : inside[-1] + 1] == "SRWGGDGFYAMDY"


def test_a_second_pair_of_a_bispecific_is_counted_or_made_a_record(table):
    rows = [
        {
            "Therapeutic": "a",
            "HC": VH,
            "LC": VL,
            "HeavySequence(ifbispec)": "na",
            "LightSequence(ifbispec)": "na",
        },
        {
            "Therapeutic": "b",
            "HC": VH,
            "LC": VL,
            "HeavySequence(ifbispec)": VH[1:],
            "LightSequence(ifbispec)": VL[1:],
        },
    ]
    path = table(rows)
    records, report = read(path)
    assert [record.id for record in records] == ["a", "b"]
    assert report.changed == {"second variable domain pair, not read (--bispecific both reads it)": 1}
    records, report = read(path, policy=InputPolicy(bispecific="both"))
    assert [record.id for record in records] == ["a", "b", "b:fv2"]
    assert [chain.residues for chain in records[2].chains] == [VH[1:], VL[1:]]
    assert not report.changed


def test_composite_ids_and_junctions_of_single_cell_pairs(table):
    row = {
        "dataset": "d1",
        "cell": "AAAC-1",
        "variable_domain_heavy": VH,
        "cdr3_junction_heavy": "CSRWGGDGFYAMDYW",
        "variable_domain_light": VL,
        "light_locus": "IGK",
    }
    (record,), _ = read(table([row]))
    assert record.id == "d1:AAAC-1"
    heavy, light = record.chains
    assert "".join(np.array(list(VH))[heavy.tracks["region"] == Region.CDR3]) == "SRWGGDGFYAMDY"
    assert light.locus == "K"


def test_t_cell_receptor_pairs_get_their_roles_and_calls(table):
    row = {
        "id": "t",
        "alpha_chain": "MKT",
        "beta_chain": TCR_BETA,
        "v_call_beta": "TRBV7-9*01",
        "v_call_alpha": "",
    }
    (record,), report = read(table([row]))
    assert report.lines()[0] == "layout: T-cell receptor pairs"
    assert [chain.role for chain in record.chains] == [Role.ALPHA, Role.BETA]
    assert [chain.locus for chain in record.chains] == ["", "B"]
    (record,), _ = read(table([row | {"alpha_chain": ""}]))
    assert [chain.role for chain in record.chains] == [Role.BETA]


# --- regions that do not fit ------------------------------------------------------------------------


def shifted(strings):
    """Strings of which one residue moved from a region into the next: joined, they are still the sequence."""
    return (strings[0] + strings[1][0], strings[1][1:], *strings[2:])


BAD_REGIONS = {
    "another length": (regions_aa((*HEAVY_REGIONS[:3], "IYPTNGY", *HEAVY_REGIONS[4:])), "'fwr3_aa'"),
    "other residues": (regions_aa((*HEAVY_REGIONS[:3], "WWWW", *HEAVY_REGIONS[4:])), "'cdr2_aa'"),
    "out of order": (regions_aa(HEAVY_REGIONS[::-1]), "'cdr1_aa'"),
    "a mask too short": ({"cdr_mask_aa": "0" * 30}, "'cdr_mask_aa'"),
    "an unknown label": ({"cdr_mask_aa": "0" * 30 + "7" + "0" * (len(VH) - 31)}, "'cdr_mask_aa'"),
    "a mask out of order": ({"cdr_mask_aa": "2" * 30 + "1" * (len(VH) - 30)}, "'cdr_mask_aa'"),
    "a mask against strings": (
        {**regions_aa(HEAVY_REGIONS), "cdr_mask_aa": cdr_mask(shifted(HEAVY_REGIONS))},
        "'cdr1_aa'",
    ),
}


@pytest.mark.parametrize("case", BAD_REGIONS)
def test_regions_that_do_not_fit_are_named_counted_and_never_used(table, case):
    cells, column = BAD_REGIONS[case]
    path = table([{"id": "a", "v_call": "", "sequence_aa": VH, **cells}])
    records, report = read(path, policy=DROP)  # auto: kept, to be numbered
    assert "region" not in records[0].chains[0].tracks
    (rule,) = report.changed
    assert column in rule
    assert rule.endswith("left out, to be numbered instead")
    assert "row 1, record 'a'" in report.examples[rule][0]
    with pytest.raises(DataError, match=r"row 1, record 'a': .*column") as caught:
        read(path, policy=InputPolicy(regions="columns"))
    assert column in caught.value.message
    records, report = read(path, policy=InputPolicy(regions="columns", invalid="drop"))
    assert not records
    assert sum(report.dropped.values()) == 1
    records, report = read(path, policy=InputPolicy(regions="immunum"))
    assert not report.changed
    assert "region" not in records[0].chains[0].tracks


def test_regions_columns_are_demanded_where_there_are_none(table, tmp_path):
    policy = InputPolicy(regions="columns")
    with pytest.raises(DataError, match="--regions columns, but no column with regions goes with 'sequence'"):
        read(table([{"id": "a", "sequence": VH}]), policy=policy)
    with pytest.raises(DataError, match="the columns with regions are empty"):
        read(table([{"id": "a", "sequence": VH, "cdr3": ""}]), policy=policy)
    (tmp_path / "x.fasta").write_text(f">a\n{VH}\n")
    with pytest.raises(DataError, match=r"--regions columns, but .*x\.fasta is FASTA"):
        read(tmp_path / "x.fasta", policy=policy)


def test_a_leader_and_a_constant_domain_stay_outside_of_the_regions_of_columns(table):
    row = {"id": "a", "sequence_aa": "MAWS" + VH + "ASTKG", **regions_aa(HEAVY_REGIONS)}
    (record,), _ = read(table([row]))
    assert record.chains[0].tracks["region"].tolist() == [0] * 4 + codes(HEAVY_REGIONS) + [0] * 5


def test_read_records_takes_a_layout_labels_and_paired_ids(table, tmp_path):
    path = table([{"id": "a", "sequence": VH, "heavy": VL, "y": "1"}])
    (record,) = read_records(path, layout="plain", labels=("y",))
    assert (record.chains[0].residues, record.labels) == (VH, {"y": "1"})
    (tmp_path / "x.fasta").write_text(f">a_L\n{VL}\n>a_H\n{VH}\n")
    (record,) = read_records(tmp_path / "x.fasta", paired_ids=True)
    assert [chain.residues for chain in record.chains] == [VH, VL]
