"""Backbones: rows stay with their residues, and what does not fit is named."""

import numpy as np
import pytest

from protlm.errors import DataError
from protlm.types.structure import Backbone


def make_backbone() -> Backbone:
    coordinates = np.arange(5 * 12, dtype=np.float32).reshape(5, 4, 3)
    coordinates[1, 1] = np.nan
    coordinates[3, 3] = np.nan  # O alone
    return Backbone("x", "ACDEF", coordinates, np.array([0, 0, 1, 1, 2]), ("A", "a", "B"), tuple("12345"))


def test_crop_keeps_rows_letters_and_ids_together() -> None:
    whole = make_backbone()
    part = whole.crop([0, 3, 4])
    assert (part.residues, part.chain_ids, part.residue_ids) == ("AEF", ("A", "a", "B"), ("1", "4", "5"))
    np.testing.assert_array_equal(part.coordinates, whole.coordinates[[0, 3, 4]])
    assert whole.crop([1, 4]).chain_index.tolist() == [0, 1]  # the chain without residues is left out
    assert whole.crop([1, 4]).chain_ids == ("A", "B")


def test_chain_ids_are_case_sensitive() -> None:
    assert make_backbone().chain("a").residues == "DE"
    with pytest.raises(DataError, match="no chain 'b'"):
        make_backbone().chain("b")


def test_a_residue_without_o_is_resolved() -> None:
    assert make_backbone().is_resolved.tolist() == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"residues": "ACDE"}, r"\[5, 4, 3\] for 4 residues"),
        ({"chain_index": np.array([0, 1, 0, 1, 2])}, "chain by chain"),
        ({"chain_index": np.array([0, 0, 2, 2, 2])}, "chain by chain"),
        ({"chain_index": np.array([0, 0, 1, 1, 1])}, "chain by chain"),
        ({"chain_index": np.zeros(5)}, "one integer"),
        ({"chain_ids": ("A", "B", "A")}, "repeat"),
        ({"residue_ids": ("1",)}, "1 residue ids for 5"),
        ({"coordinates": np.full((5, 4, 3), np.inf)}, "infinite coordinate at position 1"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, message: str) -> None:
    whole = make_backbone()
    values = {name: getattr(whole, name) for name in whole.__slots__} | change
    with pytest.raises(DataError, match=message):
        Backbone(**values)


def test_indices_must_rise() -> None:
    for indices in ([1, 0], [2, 2], [-1], [5]):
        with pytest.raises(DataError, match="must rise"):
            make_backbone().crop(indices)
