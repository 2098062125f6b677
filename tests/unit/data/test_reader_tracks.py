"""Per-residue columns: whatever is written from known regions is read back; nothing else is ever accepted."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fixtures.antibodies import cdr_mask, codes
from protlm.data.readers.tracks import (
    SEGMENT_CODES,
    germline_track,
    mask_codes,
    regions_of_mask,
    regions_of_strings,
)
from protlm.types.alphabet import STANDARD, ResidueError
from protlm.types.regions import REGIONS, Region

SEVEN = st.lists(st.text(STANDARD, min_size=1, max_size=12), min_size=7, max_size=7)
OUTSIDE = st.text(STANDARD, max_size=8)


def named(strings):
    return {region: (region.name.lower(), text) for region, text in zip(REGIONS, strings, strict=True)}


@given(strings=SEVEN, before=OUTSIDE, behind=OUTSIDE)
def test_seven_strings_give_their_regions_wherever_the_domain_lies(strings, before, behind):
    residues, joined = before + "".join(strings) + behind, "".join(strings)
    assume(residues.find(joined) == residues.rfind(joined))
    expected = [0] * len(before) + codes(strings) + [0] * len(behind)
    assert regions_of_strings(named(strings), residues).tolist() == expected


@given(strings=SEVEN)
def test_a_mask_of_seven_regions_gives_them_back(strings):
    residues = "".join(strings)
    found = regions_of_mask(cdr_mask(strings), "cdr_mask_aa", residues, len(residues))
    assert found.tolist() == codes(strings)


@given(strings=SEVEN, change=st.integers(0, 6), letters=st.text(STANDARD, min_size=1, max_size=5))
def test_strings_of_another_length_are_accepted_only_where_they_are_in_the_sequence(strings, change, letters):
    residues = "".join(strings)
    changed = list(strings)
    changed[change] += letters
    if "".join(changed) not in residues:
        with pytest.raises(ResidueError, match="is no part of the sequence"):
            regions_of_strings(named(changed), residues)


def test_cdrs_alone_give_the_frameworks_between_them():
    strings = {Region.CDR1: ("cdr1", "WW"), Region.CDR2: ("cdr2", "YY"), Region.CDR3: ("cdr3", "FF")}
    found = regions_of_strings(strings, "MKWWAAYYGGFFC")
    assert found.tolist() == [0, 0, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 0]


def test_a_string_at_two_places_is_refused():
    with pytest.raises(ResidueError, match="'SAS' of column 'cdr2' is at more than one place"):
        regions_of_strings({Region.CDR2: ("cdr2", "SAS")}, "MSASKSASM")


def test_gaps_lower_case_and_a_stop_in_region_strings_do_not_matter():
    strings = {Region.CDR3: ("cdr3_aa", "a--rd.y "), Region.FR4: ("fwr4_aa", "WGQG*")}
    assert regions_of_strings(strings, "CARDYWGQG").tolist() == [0, 6, 6, 6, 6, 7, 7, 7, 7]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("0000", [0, 0, 0, 0]),  # no CDR: which framework is not known
        ("0110", [1, 2, 2, 3]),
        ("0220", [0, 4, 4, 5]),  # before a CDR2 may be two frameworks and a CDR1
        ("1033", [2, 0, 6, 6]),  # between CDR1 and CDR3 as well
        ("0334", [0, 6, 6, 7]),
        ("3333", [6, 6, 6, 6]),
    ],
)
def test_zeros_whose_framework_is_not_known_stay_open(mask, expected):
    assert regions_of_mask(mask, "cdr_mask_aa", "MKTA", 4).tolist() == expected


@pytest.mark.parametrize("mask", ["2011", "1101", "3330030"])
def test_cdrs_out_of_order_or_in_two_stretches_are_refused(mask):
    with pytest.raises(ResidueError, match=r"has CDR\d at position \d"):
        regions_of_mask(mask, "cdr_mask_aa", "M" * len(mask), len(mask))


@pytest.mark.parametrize("letter", ["x", "é", "🧬", "\0", " "])
def test_a_letter_that_is_no_code_is_named_with_its_place(letter):
    with pytest.raises(ResidueError, match="at position 2"):
        mask_codes(f"V{letter}V", SEGMENT_CODES, "gene_segment_mask_aa", "MKT", 3)


@given(
    residues=st.text(STANDARD, min_size=4, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    unknown=st.sets(st.integers(0, 29)),
)
def test_a_germline_equal_to_its_sequence_is_found_at_every_known_residue(residues, cuts, unknown):
    aligned = list(residues)
    germline = ["X" if index in unknown else letter for index, letter in enumerate(residues)]
    for cut in sorted((cut for cut in cuts if cut <= len(residues)), reverse=True):  # deletions
        aligned.insert(cut, "-")
        germline.insert(cut, "W")
    track = germline_track("".join(germline), "".join(aligned), "germline_alignment_aa", residues)
    expected = [0 if index in unknown else ord(letter) for index, letter in enumerate(residues)]
    assert track.tolist() == expected


def test_a_shifted_germline_is_refused_though_its_length_fits():
    residues = "EVQLVESGGGLVQPGGSLRLSCAAS"
    with pytest.raises(ResidueError, match="agrees in fewer than half"):
        germline_track(residues[1:] + "A", residues, "germline_alignment_aa", residues)
    assert np.count_nonzero(germline_track(residues, residues, "germline_alignment_aa", residues)) == 25


@pytest.mark.parametrize(
    ("germline", "alignment", "message"),
    [
        ("MK", "MKTAYIA", "column 'my has it' has 2 letters for 7 aligned with it"),
        ("MKT", "WWW", "the alignment with column 'my has it' is not at one place of the sequence"),
        ("WWWWWWW", "MKTAYIA", "column 'my has it' agrees in fewer than half of its letters"),
    ],
)
def test_a_germline_that_does_not_align_has_one_reason_whatever_is_wrong(germline, alignment, message):
    with pytest.raises(ResidueError) as caught:
        germline_track(germline, alignment, "my has it", "MKTAYIA")
    assert caught.value.message == message
    assert caught.value.reason == "column 'my has it' does not align with the sequence"
