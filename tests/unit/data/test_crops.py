"""Windows of long records: which, how likely, and whatever company they are drawn in."""

import numpy as np
import pytest

from fixtures.builders import random_records
from protlm.data.crops import crop_records
from protlm.data.flat import flatten_records
from protlm.errors import DataError
from protlm.types.record import Chain, Record

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


def test_records_of_several_chains_are_whole_or_an_error():
    short, long = Record("ab", (Chain("ACDE"), Chain("FGHI"))), Record("cd", (Chain("ACDEFGHI"), Chain("KL")))
    alone = Record("e", (Chain("ACDEFGHIKLMN"),))
    cut = crop_records(flatten_records([short, alone]), 8, seed=0, epoch=0)
    assert cut.chain_lengths.tolist() == [4, 4, 8]
    assert cut.residues[:8].tobytes() == b"ACDEFGHI"
    with pytest.raises(DataError, match="several chains has 10 residues, over 8"):
        crop_records(flatten_records([short, long]), 8, seed=0, epoch=0)
