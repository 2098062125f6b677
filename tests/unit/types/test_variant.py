"""Variants: parsed, checked against the wild type, and errors that propose what fits."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.errors import DataError
from protlm.types import variant as variant_module
from protlm.types.alphabet import STANDARD
from protlm.types.variant import (
    Mutation,
    Variant,
    VariantParser,
    all_single_substitutions,
    fitting_offsets,
    likely_offset,
    parse_variant,
)

WILD_TYPE = "HPETLVKVKDAEDQL"


@st.composite
def _variants(draw):
    wild_type = draw(st.text(alphabet=STANDARD, min_size=1, max_size=30))
    sites = draw(st.sets(st.integers(0, len(wild_type) - 1), max_size=5))
    mutations = [
        Mutation(
            index,
            wild_type[index],
            draw(st.sampled_from([each for each in STANDARD if each != wild_type[index]])),
        )
        for index in sorted(sites)
    ]
    return wild_type, Variant(tuple(mutations)), draw(st.integers(-2000, 2000))


@settings(deadline=None, database=None)
@given(_variants())
def test_a_variant_is_read_back_from_its_label_under_any_offset(case):
    wild_type, variant, offset = case
    assert parse_variant(variant.label(offset=offset), wild_type, offset=offset) == variant


@settings(deadline=None, database=None)
@given(_variants())
def test_the_offset_of_a_table_of_all_sites_is_found(case):
    wild_type, _, offset = case
    texts = [name for name, _ in all_single_substitutions(wild_type, offset=offset)]
    assert offset in fitting_offsets(texts, wild_type)
    found = likely_offset(texts, wild_type)
    assert found is not None
    assert found[1] == 1.0


@pytest.mark.parametrize("text", ["", "  ", None, "WT", "wt", "H1H", "H1=", "h1= : P2P"])
def test_empty_wt_and_synonymous_are_the_wild_type(text):
    assert parse_variant(text, WILD_TYPE) == Variant(())


@pytest.mark.parametrize("text", ["H1A:P2G", "h1a:p2g", "  H1A : P2G ", "P2G:H1A"])
def test_case_white_space_and_order_do_not_matter(text):
    assert parse_variant(text, WILD_TYPE).label() == "H1A:P2G"


def test_the_offset_is_subtracted_from_the_printed_position():
    assert parse_variant("H24E", WILD_TYPE, offset=23).mutations == (Mutation(0, "H", "E"),)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("L24A", "names position 24, but positions run from 1 to 15", "--offset 9 or 19"),
        ("H2A", "says position 2 is H, but the wild type has P", "--offset 1"),
        ("W2A", "says position 2 is W", "does it belong to this wild type"),
        ("H0A", "names position 0", "--offset -1"),
        ("H-4A", "names position -4", "--offset -5"),
        ("H1*", "which is a stop", "--invalid drop"),
        ("H1X", "not one of the twenty", "--invalid drop"),
        ("H1A:H1G", "changes the same position twice", "name each position once"),
        ("H1A:H1H", "changes the same position twice", "name each position once"),
        ("H1A;P2G", "cannot read 'H1A;P2G'", "joined by ':'"),
        ("H1A:", "cannot read ''", "as in A42G"),
        ("p.His1Ala", "cannot read 'p.His1Ala'", "write it as H1A"),
        ("p.(His1Ala)", "cannot read", "write it as H1A"),
        ("His1Ter", "cannot read", "write it as H1*"),
        ("p.H1A", "cannot read 'p.H1A'", "write it as H1A"),
        ("Hat1Ala", "cannot read", "as in A42G"),
        ("H1del", "cannot read 'H1del'", "as in A42G"),
        ("nan", "cannot read 'nan'", "as in A42G"),
        ("H" + "9" * 5000 + "A", "cannot read", "as in A42G"),
        ("H٣A", "cannot read", "as in A42G"),
    ],
)
def test_a_wrong_variant_is_named_with_what_was_expected(text, message, hint):
    with pytest.raises(DataError) as caught:
        parse_variant(text, WILD_TYPE)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_proposed_offset_mends_the_case():
    with pytest.raises(DataError, match="--offset 23"):
        parse_variant("H24E", WILD_TYPE)
    assert parse_variant("H24E", WILD_TYPE, offset=23).label(offset=23) == "H24E"


def test_the_offset_is_not_searched_for_where_that_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(variant_module, "fitting_offsets", None)
    for text in ("H24E", "H2A"):
        with pytest.raises(DataError) as caught:
            parse_variant(text, WILD_TYPE, propose_offset=False)
        assert "does it belong to this wild type" in caught.value.hint


def test_a_site_that_is_none_of_the_twenty_has_no_score():
    with pytest.raises(DataError, match="where the wild type has X"):
        parse_variant("X2A", "MXK")
    names = [name for name, _ in all_single_substitutions("MXK")]
    assert len(names) == 2 * 19
    assert not any(name.startswith("X") for name in names)


def test_the_likely_offset_survives_some_wrong_rows():
    texts = ["H24A", "P25A", "E26A", "T27A", "W28A", "junk", ""]
    assert fitting_offsets(texts, WILD_TYPE) == []
    assert likely_offset(texts, WILD_TYPE) == (23, 0.8)
    assert likely_offset(["junk"], WILD_TYPE) is None


def test_applying_writes_the_sequence():
    assert parse_variant("H1A:L15W", WILD_TYPE).apply(WILD_TYPE) == "A" + WILD_TYPE[1:-1] + "W"


@settings(deadline=None, database=None)
@given(st.text(alphabet="HPETAXWThp0123456789-:*= .;", max_size=12), st.integers(-30, 30))
def test_any_text_gives_a_variant_that_applies_or_a_stated_error(text, offset):
    try:
        variant = parse_variant(text, WILD_TYPE, offset=offset)
    except DataError as error:
        stated = bool(error.message and error.hint)
    else:
        stated = set(variant.apply(WILD_TYPE)) <= set(STANDARD)
        stated &= parse_variant(variant.label(offset=offset), WILD_TYPE, offset=offset) == variant
    assert stated


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(
                ["M1L", "m1l", " K2R", "T3S ", "M1W", "T3T", "K2=", "K2*", "A1L", "T9A", "WT", ""]
            ),
            max_size=3,
        ).map(":".join),
        max_size=12,
    )
)
def test_a_parser_of_many_gives_what_each_parsed_alone_gives(texts):
    def outcome(parse, text, **options):
        try:
            return parse(text, **options)
        except DataError as error:
            return error.message, error.hint

    parse = VariantParser("MKT")
    for text in texts:
        alone = outcome(partial(parse_variant, wild_type="MKT"), text, propose_offset=False)
        assert outcome(parse, text) == alone


def test_a_parser_reads_printed_positions():
    parse = VariantParser("HPET", offset=23)
    assert parse("H24E:T27A") == parse("T27A:H24E") == parse_variant("H24E:T27A", "HPET", offset=23)
    with pytest.raises(DataError, match="twice"):
        parse("H24E:H24E")
