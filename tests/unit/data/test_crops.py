"""Windows of long records: which, how likely, and whatever company they are drawn in."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.builders import random_records
from protlm.data.crops import Crop, crop_records, share_out
from protlm.data.flat import flatten_records
from protlm.data.hashing import combine, uniform
from protlm.data.layout import esm_layout
from protlm.errors import DataError
from protlm.types.record import Chain, Record, Role

MOST = 12


@pytest.fixture(scope="module")
def records():
    return random_records(40, lengths=(3, 40), pairs=False)


def windows(records, *, seed=1, epoch=0, most=MOST):
    """The residues and the region track of each record, cut in one call."""
    cut = crop_records(flatten_records(records), most, seed=seed, epoch=epoch)
    stops = np.cumsum(cut.record_lengths)
    return [
        (cut.residues[stop - length : stop].tobytes().decode(), cut.tracks["region"][stop - length : stop])
        for stop, length in zip(stops, cut.record_lengths, strict=True)
    ]


def test_a_window_is_a_part_of_its_record_and_its_tracks_go_with_it(records):
    for record, (residues, region) in zip(records, windows(records), strict=True):
        whole = record.chains[0]
        assert len(residues) == min(len(whole), MOST)
        starts = range(len(whole) - len(residues) + 1)
        assert any(
            whole.residues[start:].startswith(residues)
            and whole.tracks["region"][start : start + len(residues)].tolist() == region.tolist()
            for start in starts
        )


def test_company_and_order_make_no_difference(records):
    together = [residues for residues, _ in windows(records)]
    order = np.random.default_rng(0).permutation(len(records))
    shuffled = windows([records[index] for index in order])
    assert [shuffled[place][0] for place in np.argsort(order)] == together
    assert [windows([record])[0][0] for record in records] == together


def test_an_epoch_for_each_record_counts_as_it_would_alone(records):
    epochs = np.arange(len(records)) % 3
    alone = [windows([record], epoch=int(epoch))[0][0] for record, epoch in zip(records, epochs, strict=True)]
    assert [residues for residues, _ in windows(records, epoch=epochs)] == alone


def test_seeds_and_epochs_give_other_windows(records):
    drawn = [
        [residues for residues, _ in windows(records, **which)] for which in ({}, {"seed": 2}, {"epoch": 1})
    ]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_every_start_is_equally_likely():
    """10,000 records of ten letters that tell their index; windows of four have seven starts."""
    count = 10_000
    flat = flatten_records([Record(f"r{number}", (Chain("ACDEFGHIKL"),)) for number in range(count)])
    cut = crop_records(flat, 4, seed=0, epoch=0)
    first = cut.residues.reshape(count, 4)[:, 0].tobytes().decode()
    counts = np.array([first.count(letter) for letter in "ACDEFGH"])
    assert counts.sum() == count
    chi_squared = ((counts - count / 7) ** 2 / (count / 7)).sum()
    assert chi_squared < 22.5  # 6 degrees of freedom: one in a thousand is above


def test_single_chains_have_the_windows_that_they_always_had():
    """What 0.1 drew: one number per record, from seed, stream 104, epoch and key."""
    records = flatten_records([Record(name, (Chain("ACDEFGHIKLMNPQRSTVWY"),)) for name in "abcdef"])
    for kind in ("crop", "window"):
        cut = crop_records(records, 5, seed=3, epoch=2, kind=kind)
        drawn = cut.residues.reshape(6, 5)[:, 0].tobytes().decode()
        starts = (uniform(combine(3, 104, 2, records.keys)) * 16).astype(int)
        assert drawn == "".join("ACDEFGHIKLMNPQRSTVWY"[start] for start in starts) == "NQQKNM"


def pairs_of(*lengths):
    """Records of chains whose letters tell the chain and whose column track tells the index."""
    return [
        Record(
            f"r{number}",
            tuple(
                Chain(
                    letter * length,
                    role=Role(place + 1),
                    tracks={"column": np.arange(1, length + 1, dtype=np.uint16)},
                )
                for place, (letter, length) in enumerate(zip("ACD", each, strict=False))
            ),
        )
        for number, each in enumerate(lengths)
    ]


def unroll(cut):
    """For each record the letter, the first and last index, and the role of each chain."""
    found, at, chain = [], 0, 0
    for count in cut.chains_per_record.tolist():
        own = []
        for _ in range(count):
            length = int(cut.chain_lengths[chain])
            columns = cut.tracks["column"][at : at + length].tolist()
            letters = set(cut.residues[at : at + length].tobytes().decode())
            assert len(letters) == 1
            assert columns == list(range(columns[0], columns[0] + length))
            own.append((letters.pop(), columns[0] - 1, columns[-1], int(cut.roles[chain])))
            at, chain = at + length, chain + 1
        found.append(own)
    assert at == len(cut.residues)
    return found


def test_short_chains_stay_whole_and_long_ones_share_the_rest():
    records = pairs_of((90, 10), (60, 70), (30, 5), (40, 40, 41), (100,))
    cut = crop_records(flatten_records(records), 41, seed=0, epoch=0)
    assert cut.chain_lengths.tolist() == [31, 10, 21, 20, 30, 5, 14, 14, 13, 41]
    for record, own in zip(records, unroll(cut), strict=True):
        assert len(own) == len(record.chains)
        for place, (letter, start, stop, role) in enumerate(own):
            assert (letter, role) == ("ACD"[place], place + 1)
            assert 0 <= start < stop <= len(record.chains[place])


def test_shares_are_the_best_there_are():
    """Against a search by one residue at a time: always to the chain that has least and can take more."""
    random = np.random.default_rng(0)
    lengths = random.integers(1, 30, (200, 3))
    limits = np.minimum(random.integers(3, 60, 200), lengths.sum(axis=1) - 1)
    lengths, limits = lengths[limits >= 3], limits[limits >= 3]
    for own, limit, shares in zip(lengths.tolist(), limits.tolist(), share_out(lengths, limits), strict=True):
        kept = [0, 0, 0]
        for _ in range(limit):
            place = min(
                (place for place in range(3) if kept[place] < own[place]), key=lambda each: kept[each]
            )
            kept[place] += 1
        assert shares.tolist() == kept


def test_the_windows_of_the_chains_of_a_record_are_drawn_apart():
    cut = unroll(crop_records(flatten_records(pairs_of(*[(60, 60)] * 300)), 40, seed=0, epoch=0))
    one, other = np.array([[chain[1] for chain in own] for own in cut]).T
    assert set(one) == set(other) == set(range(41))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_one_window_of_two_chains_is_where_it_should_be():
    """Every start of 30 + 20 residues is drawn, and gives the residues that a slice of them would."""
    records = pairs_of(*[(30, 20)] * 2000)
    cut = unroll(crop_records(flatten_records(records), 15, seed=0, epoch=0, kind="window"))
    whole = [("A", index, 1) for index in range(30)] + [("C", index, 2) for index in range(20)]
    windows = {tuple(whole[start : start + 15]) for start in range(36)}
    drawn = {
        tuple((letter, index, role) for letter, start, stop, role in own for index in range(start, stop))
        for own in cut
    }
    assert drawn == windows
    assert {len(own) for own in cut} == {1, 2}


@pytest.mark.parametrize("kind", ["crop", "window"])
def test_pairs_are_cut_alike_in_any_company(kind):
    records = pairs_of((30, 20), (5, 5), (10, 40), (50,), (9, 9, 9))
    flat = flatten_records(records)
    epochs = np.array([0, 1, 2, 3, 4])
    together = unroll(crop_records(flat, 12, seed=1, epoch=epochs, kind=kind))
    alone = [
        unroll(crop_records(flatten_records([record]), 12, seed=1, epoch=number, kind=kind))[0]
        for number, record in enumerate(records)
    ]
    assert together == alone
    assert sum(stop - start for _, start, stop, _ in together[1]) == 10


def test_the_limit_of_the_model_counts_what_stands_between_chains():
    layout = replace(esm_layout(), max_tokens=20)
    crop = Crop(None, layout)
    counts = np.array([1, 2])
    assert crop.limits(counts).tolist() == (20 - layout.num_positions(np.zeros(2, int), counts)).tolist()
    assert crop.limits(counts)[1] < crop.limits(counts)[0] == 18
    assert Crop(7, layout).limits(counts).tolist() == [7, 7]
    with pytest.raises(DataError, match="1 residues are too few for a record of 2 chains"):
        Crop(1, layout).limits(counts)
