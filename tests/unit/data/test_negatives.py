"""Links on disk and the negatives drawn beside them, against calculations with plain sets."""

import numpy as np
import pytest

from protlm.data.hashing import combine, mix
from protlm.data.links import (
    BINDS,
    LINK,
    SWAPPED,
    Buckets,
    LinkCounts,
    hold_out,
    one_per_cluster_pair,
    pack,
    part_links,
    settle,
    unpack,
)
from protlm.data.negatives import Ends, draw_negatives, permuted

KEY = np.dtype("<u8")


def links_of(rows):
    """Links of (a, b, score, binds)."""
    links = np.zeros(len(rows), dtype=LINK)
    a, b = np.array([row[:2] for row in rows]).T
    links["key"], links["score"] = pack(a, b), [row[2] for row in rows]
    links["flags"] = np.where([row[3] for row in rows], BINDS, 0) | np.where(a > b, SWAPPED, 0)
    return links


def on_disk(folder, links, *, count=8):
    buckets = Buckets(folder, count)
    for start in range(0, len(links), 7):
        part = links[start : start + 7]
        buckets.append(part, mix(part["key"]))
    return buckets


def all_of(buckets):
    return np.concatenate([buckets.read(number) for number in range(buckets.count)])


def settled(tmp_path, rows, *, count=8, **given):
    counts = LinkCounts()
    known, kept = Buckets(tmp_path / "known", count, KEY), Buckets(tmp_path / "kept", count)
    given = {"min_score": None, "keeps_others": True, **given}
    settle(on_disk(tmp_path / "rows", links_of(rows), count=count), known, kept, counts=counts, **given)
    return known, kept, counts


def test_keys_hold_both_numbers():
    a, b = np.array([3, 2**32 - 1, 0]), np.array([1, 5, 0])
    low, high = unpack(pack(a, b))
    assert (low.tolist(), high.tolist()) == ([1, 5, 0], [3, 2**32 - 1, 0])
    assert (pack(a, b) == pack(b, a)).all()


def test_both_orders_repeats_scores_and_labels(tmp_path):
    rows = [
        (1, 2, 300.0, True),  # the best of three rows counts
        (2, 1, 800.0, True),
        (1, 2, 500.0, True),
        (3, 4, 650.0, True),  # too low
        (5, 6, 900.0, True),  # contradicted
        (5, 6, 900.0, False),
        (7, 8, 950.0, False),
    ]
    known, kept, counts = settled(tmp_path, rows, min_score=700)
    found = {tuple(int(each[0]) for each in unpack(link["key"][None])): link for link in all_of(kept)}
    assert set(found) == {(1, 2), (7, 8)}
    assert found[1, 2]["score"] == 800
    assert not found[7, 8]["flags"] & BINDS
    pairs = {tuple(int(each[0]) for each in unpack(key[None])) for key in all_of(known)}
    assert pairs == {(1, 2), (3, 4), (5, 6)}  # of any score, but not what only ever is labelled 0
    assert counts.dropped == {
        "rows: B–A beside A–B, read as one link": 1,
        "rows: a link that was there before": 2,
        "links: labelled both 0 and 1": 1,
        "links: score below 700": 1,
    }


def test_the_number_of_buckets_and_the_order_of_rows_change_nothing(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        (int(a), int(b), float(score), True) for a, b, score in random.integers(0, 30, (400, 3)) if a != b
    ]
    once = all_of(settled(tmp_path / "one", rows)[1])
    shuffled = [rows[place] for place in random.permutation(len(rows))]
    again = all_of(settled(tmp_path / "two", shuffled, count=64)[1])
    assert once["key"].tolist() == again["key"].tolist()
    assert once["score"].tolist() == again["score"].tolist()
    best = {}
    for a, b, score, _ in rows:
        best[min(a, b), max(a, b)] = max(score, best.get((min(a, b), max(a, b)), 0))
    a, b = unpack(once["key"])
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), once["score"].tolist(), strict=True)) == best


def test_one_link_per_pair_of_clusters_is_the_best(tmp_path):
    clusters = np.arange(40) % 4  # representatives 0 to 3
    random = np.random.default_rng(1)
    rows = [
        (int(a), int(b), float(score), True) for a, b, score in random.integers(0, 40, (300, 3)) if a != b
    ]
    _, kept, counts = settled(tmp_path, rows)
    before = all_of(kept)
    one_per_cluster_pair(kept, clusters, counts)
    links = all_of(kept)
    cells = [tuple(sorted((int(x) % 4, int(y) % 4))) for x, y in zip(*unpack(links["key"]), strict=True)]
    assert sorted(cells) == sorted({tuple(sorted((a % 4, b % 4))) for a, b, *_ in rows})
    for cell, link in zip(cells, links, strict=True):
        scores = [s for a, b, s, _ in rows if tuple(sorted((a % 4, b % 4))) == cell]
        assert link["score"] == max(scores)
    assert counts.dropped["links: another of the same two clusters was kept"] == len(before) - len(links)


def test_what_straddles_is_left_out(tmp_path):
    rows = [(a, b, 0.0, True) for a in range(60) for b in range(a + 1, 60)]
    _, kept, counts = settled(tmp_path, rows)
    clusters = np.arange(60) // 2 * 2
    is_held_out = hold_out(clusters, combine(7, np.arange(60)), 0.3, seed=0)
    assert (is_held_out[0::2] == is_held_out[1::2]).all()
    held = int(is_held_out.sum())
    assert 8 <= held <= 30
    part_links(kept, is_held_out, counts)
    assert len(all_of(kept)) == held * (held - 1) // 2 + (60 - held) * (59 - held) // 2
    assert counts.dropped["links: straddling, one protein held out and one not"] == held * (60 - held)
    shares = [
        hold_out(np.arange(4000), combine(7, np.arange(4000)), 0.3, seed=seed).mean() for seed in (0, 1)
    ]
    assert all(abs(share - 0.3) < 0.03 for share in shares)
    assert shares[0] != shares[1]


def network(tmp_path, *, size=200, count=900, seed=0, sides=False):
    """Positives with hubs, on disk and as a set, and their degrees."""
    random = np.random.default_rng(seed)
    ends = (random.random((2, count * 3)) ** 3 * size).astype(int)
    if sides:
        ends[0] //= 4
        ends[1] = size // 4 + ends[1] * 3 // 4
    positives = list({(min(a, b), max(a, b)) for a, b in ends.T.tolist() if a != b})
    positives = sorted(positives)[:: max(1, len(positives) // count)]
    known, _, _ = settled(tmp_path, [(a, b, 0.0, True) for a, b in positives])
    return known, set(positives), np.bincount(np.array(positives).ravel(), minlength=size)


def drawn_pairs(tmp_path, known, ends, count, **given):
    drawn = Buckets(tmp_path / "drawn", known.count, KEY)
    for number in range(known.count):
        drawn.write(number, np.zeros(0, dtype=KEY))
    number = draw_negatives(ends, count, known, drawn, **{"seed": 0, **given})
    keys = all_of(drawn)
    assert len(keys) == number
    return list(zip(*(each.tolist() for each in unpack(keys)), strict=True))


@pytest.mark.parametrize("sampler", ["uniform", "same-species", "degree"])
def test_no_negative_is_known_a_self_pair_or_there_twice(tmp_path, sampler):
    known, positives, degrees = network(tmp_path)
    species = np.arange(len(degrees)) % 3
    ends = Ends(degrees, species)
    pairs = drawn_pairs(tmp_path, known, (ends, ends), 800, sampler=sampler)
    assert len(pairs) == len(set(pairs)) == 800
    assert not set(pairs) & positives
    assert all(a < b and degrees[a] and degrees[b] for a, b in pairs)
    if sampler == "same-species":
        assert all(species[a] == species[b] for a, b in pairs)


def test_degrees_are_matched_and_uniform_ones_are_not(tmp_path):
    known, positives, degrees = network(tmp_path, size=1500, count=1500)
    assert degrees.max() > 20
    ends = (Ends(degrees, np.zeros_like(degrees)),) * 2
    correlation = {}
    for sampler in ("degree", "uniform"):
        pairs = drawn_pairs(tmp_path, known, ends, len(positives), sampler=sampler)
        got = np.bincount(np.array(pairs).ravel(), minlength=len(degrees))
        correlation[sampler] = np.corrcoef(degrees, got)[0, 1]
    assert correlation["degree"] > 0.97
    assert correlation["uniform"] < 0.5


def test_uniform_draws_all_members_alike(tmp_path):
    known, _, degrees = network(tmp_path, size=40, count=60)
    ends = (Ends(degrees, np.zeros_like(degrees)),) * 2
    members = np.flatnonzero(degrees)
    counts = np.zeros(40)
    for seed in range(30):
        np.add.at(counts, np.array(drawn_pairs(tmp_path, known, ends, 60, sampler="uniform", seed=seed)), 1)
    free = np.array([len(members) - 1 - degrees[each] for each in members])  # partners that are no positive
    expected = free / free.sum() * counts.sum()
    assert np.abs(counts[members] - expected).max() < 5 * np.sqrt(expected.max())


def test_two_sides_stay_apart(tmp_path):
    known, positives, degrees = network(tmp_path, sides=True)
    is_first = np.arange(len(degrees)) < 50
    species = np.zeros_like(degrees)
    ends = Ends(degrees * is_first, species), Ends(degrees * ~is_first, species)
    for sampler in ("uniform", "degree"):
        pairs = drawn_pairs(tmp_path, known, ends, 300, sampler=sampler)
        assert len(set(pairs) - positives) == 300
        assert all(a < 50 <= b for a, b in pairs)


def test_where_hardly_any_are_left_all_of_them_are_drawn(tmp_path):
    """Twelve proteins have 66 pairs; 60 are positive, and ten negatives are asked for."""
    rows = [(a, b, 0.0, True) for a in range(12) for b in range(a + 1, 12)]
    missing = {(0, 1), (2, 5), (3, 9), (4, 11), (6, 7), (8, 10)}
    known, _, _ = settled(tmp_path, [row for row in rows if row[:2] not in missing])
    ends = (Ends(np.full(12, 10), np.zeros(12, dtype=np.int64)),) * 2
    for sampler in ("uniform", "degree"):
        assert set(drawn_pairs(tmp_path, known, ends, 10, sampler=sampler)) == missing


def test_seeds_and_parts_draw_others(tmp_path):
    known, _, degrees = network(tmp_path)
    ends = (Ends(degrees, np.zeros_like(degrees)),) * 2
    one, same, other, part = (
        set(drawn_pairs(tmp_path, known, ends, 300, sampler="uniform", **given))
        for given in ({}, {}, {"seed": 1}, {"part": 1})
    )
    assert one == same
    assert len(one & other) < 30
    assert len(one & part) < 30


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 1000])
def test_an_order_by_hash_has_each_place_once(count):
    counters = np.arange(count, dtype=np.uint64)
    orders = [permuted(counters, count, combine(seed)).tolist() for seed in range(2)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert count < 10 or orders[0] != orders[1]
    parts = [permuted(part, count, combine(0)).tolist() for part in np.array_split(counters, 3)]
    assert [place for part in parts for place in part] == orders[0]
