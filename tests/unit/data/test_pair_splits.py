"""Sides of pairs, checked against their definition; splits by time."""

from collections import Counter

import numpy as np
import pytest

from protlm.data.pair_splits import HOLDOUT, NO_SIDE, TRAIN, split_by_time, split_pairs
from protlm.errors import ConfigError, DataError

RANDOM = np.random.default_rng(4)
NODES = [tuple(f"p{each}" for each in RANDOM.choice(60, 2, replace=False)) for _ in range(900)]
NAMES = [str(number) for number in range(900)]


def definition(nodes, part):
    """Class of each test pair, from the two sides alone."""
    seen = {node for own, side in zip(nodes, part, strict=True) if side == TRAIN for node in own}
    return [
        "c" + str(3 - sum(node in seen for node in own)) if side == HOLDOUT else ""
        for own, side in zip(nodes, part, strict=True)
    ]


@pytest.mark.parametrize("classes", [("c1",), ("c2",), ("c3",), ("c2", "c3"), ("c1", "c2", "c3")])
def test_the_classes_are_what_they_are_called(classes):
    sides = split_pairs(NODES, 0.3, classes=classes, names=NAMES)
    assert list(sides.classes) == definition(NODES, sides.part)
    assert {each for each in sides.classes if each} == set(classes)
    assert sum(sides.left_out.values()) == (sides.part == NO_SIDE).sum()
    assert (sides.part == NO_SIDE).any() == (classes in [("c2",), ("c3",)])


def test_a_share_of_ends_gives_its_square_and_its_product_of_pairs():
    """Of 0.3 of the ends some 0.09 of the pairs have both, and some 0.42 one."""
    counts = Counter(split_pairs(NODES, 0.3, classes=("c2", "c3"), names=NAMES).classes)
    assert 0.06 < counts["c3"] / 900 < 0.13
    assert 0.36 < counts["c2"] / 900 < 0.48


def test_the_order_is_nothing_and_the_seed_draws_others():
    classes = ("c1", "c2", "c3")
    first = split_pairs(NODES, 0.3, classes=classes, names=NAMES)
    turned = split_pairs(NODES[::-1], 0.3, classes=classes, names=NAMES[::-1])
    assert first.part.tolist() == turned.part[::-1].tolist()
    assert first.part.tolist() != split_pairs(NODES, 0.3, classes=classes, names=NAMES, seed=1).part.tolist()


def test_both_sides_of_unlike_partners_are_held_out():
    """Four epitopes beside two hundred receptors: one of four epitopes, a quarter of the receptors."""
    nodes = [(f"tcr{number % 200}", f"epitope{number % 4}") for number in range(0, 800, 1) if number % 7]
    sides = split_pairs(nodes, 0.25, names=[str(number) for number in range(len(nodes))])
    held = {node for own, side in zip(nodes, sides.part, strict=True) if side == HOLDOUT for node in own}
    kept = {node for own, side in zip(nodes, sides.part, strict=True) if side == TRAIN for node in own}
    assert not held & kept
    assert sum(node.startswith("epitope") for node in held) == 1


def test_pairs_that_leave_a_side_empty_are_refused():
    nodes = [("a", f"b{number}") for number in range(10)]  # the hub is on one side, all its pairs with it
    with pytest.raises(DataError, match="no pair is left for the"):
        split_pairs(nodes, 0.2, names=list(map(str, range(10))))
    with pytest.raises(ConfigError, match="'c4' is no class"):
        split_pairs(NODES, 0.2, classes=("c4",), names=NAMES)


def test_time_keeps_a_date_together_and_leaves_out_what_has_none():
    dates = ["2020-01-01", "2019", "2020-06-02", "", "2020-06-02", "2018-05", "2021-02-03T10:00"]
    sides = split_by_time(dates, share=0.4)
    assert sides.part.tolist() == [TRAIN, TRAIN, TRAIN, NO_SIDE, TRAIN, TRAIN, HOLDOUT]
    assert sides.left_out == {"records without a date": 1}
    after = split_by_time(dates, after="2020-05")
    assert after.part.tolist() == [TRAIN, TRAIN, HOLDOUT, NO_SIDE, HOLDOUT, TRAIN, HOLDOUT]
    assert split_by_time(["2020-01", "2020-12", "2021"], after="2020").part.tolist() == [
        TRAIN,
        TRAIN,
        HOLDOUT,
    ]


def test_bad_dates_are_refused():
    for dates, given, message in (
        (["2020", "May 2020"], {"share": 0.5}, "'May 2020' of record 2 is no date"),
        (["2020", "20201"], {"share": 0.5}, "'20201' of record 2 is no date"),
        (["2020", "2021"], {"after": "soon"}, "'soon' is no date"),
        (["", ""], {"share": 0.5}, "no record has a date"),
        (["2020", "2021"], {"after": "2022"}, "the test side is empty: dates go from 2020 to 2021"),
        (["2020", "2020"], {"share": 0.5}, "the test side is empty"),
    ):
        with pytest.raises(DataError, match=message):
            split_by_time(dates, **given)
