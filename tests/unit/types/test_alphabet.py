"""Every letter that is not one of the twenty has a stated policy."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.types.alphabet import STANDARD, UNUSUAL, ResidueError, clean_residues


def test_plain_residues_come_back_as_they_are_and_count_nothing():
    counts = Counter()
    assert clean_residues(STANDARD, counts=counts) == STANDARD
    assert not counts


@pytest.mark.parametrize(
    ("text", "residues", "rule"),
    [
        ("mkT", "MKT", "lower case, made upper case"),
        ("MKT*", "MKT", "stop at the end, removed"),
        (" M K\tT\n", "MKT", "white space, removed"),
        ("MXT", "MXT", "X, kept"),
        ("MUT", "MUT", "U, kept"),
        ("ACGT" * 5, "ACGT" * 5, "only A C G T U N, kept (nucleotides? protlm reads proteins)"),
    ],
)
def test_what_is_mended_or_kept_is_counted_once_per_sequence(text, residues, rule):
    counts = Counter()
    assert clean_residues(text, counts=counts) == residues
    assert counts == {rule: 1}


def test_every_unusual_letter_is_kept_and_counted_by_itself():
    counts = Counter()
    assert clean_residues(UNUSUAL, counts=counts) == UNUSUAL
    assert counts == {f"{letter}, kept": 1 for letter in UNUSUAL}


@pytest.mark.parametrize(
    ("text", "message", "reason"),
    [
        ("", "empty", "empty sequence"),
        ("*", "empty", "empty sequence"),
        ("  ", "empty", "empty sequence"),
        ("MK*T", "stop '*' at position 3, before the end", "stop inside the sequence"),
        ("MKT**", "stop '*' at position 4", "stop inside the sequence"),
        ("MK-T", "gap '-' at position 3", "gap in the sequence (--gaps remove deletes gaps)"),
        ("MK.T", "gap '.' at position 3", "gap in the sequence (--gaps remove deletes gaps)"),
        ("MK1T", "'1' at position 3", "letter that is no residue"),
        ("M K@T", "'@' at position 3", "letter that is no residue"),
        ("MKÄT", "'Ä' at position 3", "letter that is no residue"),
        ("MK\0T", "at position 3", "letter that is no residue"),
    ],
)
def test_what_is_no_residue_is_refused_with_its_place_and_a_reason_to_count_by(text, message, reason):
    with pytest.raises(ResidueError) as caught:
        clean_residues(text)
    assert message in caught.value.message
    assert caught.value.reason == reason
    assert caught.value.hint


@pytest.mark.parametrize("letter", ["ß", "ı", "ſ", "ﬁ"])
def test_letters_that_unicode_would_turn_into_residues_are_refused(letter):
    assert letter.upper().isascii()  # which is what makes them treacherous
    with pytest.raises(ResidueError, match="not a residue letter"):
        clean_residues(f"MK{letter}T")


def test_a_refused_sequence_counts_nothing():
    counts = Counter()
    with pytest.raises(ResidueError):
        clean_residues("mk1x*", counts=counts)
    assert not counts


def test_gaps_are_removed_where_that_is_asked_for():
    counts = Counter()
    assert clean_residues("-MK.T-", gaps="remove", counts=counts) == "MKT"
    assert counts == {"gaps, removed": 1}
    with pytest.raises(ResidueError, match="empty"):
        clean_residues("--..", gaps="remove")


@settings(deadline=None, database=None)
@given(st.text(alphabet=STANDARD + UNUSUAL + "acdxz-.* \t\r\n", max_size=30))
def test_cleaning_twice_is_cleaning_once(text):
    try:
        residues = clean_residues(text, gaps="remove")
    except ResidueError:
        return
    counts = Counter()
    assert clean_residues(residues, counts=counts) == residues
    assert set(residues) <= set(STANDARD + UNUSUAL)
    assert all(rule.endswith(("kept", "proteins)")) for rule in counts)


@settings(deadline=None, database=None)
@given(st.text(max_size=20))
def test_any_text_gives_residues_or_a_stated_error(text):
    try:
        residues = clean_residues(text)
    except ResidueError as error:
        stated = bool(error.message and error.reason)
    else:
        stated = bool(residues) and set(residues) <= set(STANDARD + UNUSUAL)
    assert stated
