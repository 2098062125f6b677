"""A chain holds residue letters only; the chains of a record have names that differ."""

import pytest

from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.record import Chain, Record, Role


def test_every_legal_letter_makes_a_chain():
    assert len(Chain(STANDARD + UNUSUAL)) == 26


@pytest.mark.parametrize(
    ("residues", "where"),
    [
        ("acdef", "'a' at position 1"),
        ("ACé", "'é' at position 3"),
        ("AC-D", "'-' at position 3"),
        ("ACD*", r"'\*' at position 4"),
        ("ACD\n", r"'\\n' at position 4"),
        ("A C", "' ' at position 2"),
    ],
)
def test_a_letter_that_is_no_residue_is_named_with_its_position(residues, where):
    with pytest.raises(DataError, match=where + r" of a chain(.|\n)*hint: .*clean_residues"):
        Chain(residues)


def test_chain_names_are_roles_numbered_where_they_repeat():
    heavy, light, other = Role.HEAVY, Role.LIGHT, Role.OTHER

    def names(*roles):
        return Record("a", tuple(Chain("MK", role=role) for role in roles)).chain_names

    assert names(heavy) == ("heavy",)
    assert names(heavy, light) == ("heavy", "light")
    assert names(heavy, light, heavy) == ("heavy1", "light", "heavy2")
    assert names(other) == ("chain1",)
    assert names(other, heavy, other, light, light) == ("chain1", "heavy", "chain3", "light1", "light2")
