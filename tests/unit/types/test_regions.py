"""Numbered positions and regions as small integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.errors import DataError
from protlm.types.regions import IMGT_RANGES, Region, decode_position, encode_position, imgt_regions


@settings(deadline=None, database=None)
@given(st.integers(256, 65535))
def test_every_code_is_read_back_from_its_label(code):
    assert encode_position(decode_position(code)) == code


def test_zero_is_not_numbered():
    assert decode_position(0) == ""
    assert imgt_regions(np.zeros(3, dtype=np.uint16)).tolist() == [Region.NONE] * 3


@pytest.mark.parametrize("label", ["", "0", "256", "A1", "12a", "1-2", "-5", "1.5"])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(DataError, match="not a numbered position"):
        encode_position(label)


def test_more_insertions_than_fit_are_refused():
    assert decode_position(encode_position("111IU")) == "111IU"  # the 255th
    with pytest.raises(DataError, match="more insertions than the 255"):
        encode_position("111IV")


def test_regions_follow_the_imgt_ranges_without_a_hole():
    numbers = np.arange(0, 130)
    found = imgt_regions((numbers << 8).astype(np.uint16))
    for region, (first, last) in IMGT_RANGES.items():
        assert (found[first : last + 1] == region).all()
    assert found[0] == found[129] == Region.NONE
    assert (found[1:129] > 0).all()


def test_an_insertion_is_in_the_region_of_its_number():
    codes = np.array(
        [encode_position(label) for label in ("105", "111A", "112AB", "117", "118")], dtype=np.uint16
    )
    assert imgt_regions(codes).tolist() == [Region.CDR3] * 4 + [Region.FR4]
