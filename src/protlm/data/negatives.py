"""Pairs of proteins that are not known to bind, drawn by counter, whatever the order of the input."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from protlm.data.hashing import combine, mix, uniform
from protlm.data.links import Buckets, pack, unpack

Sampler = Literal["none", "uniform", "same-species", "degree"]
SAMPLERS = ("none", "uniform", "same-species", "degree")

_STREAM = 112
_CHUNK = 1 << 20
_MAX_ROUNDS = 400
_MAX_IDLE = 16
_MOST = 1 << 22
"""Candidates of a round after idle ones, each of which doubles them."""
_CANDIDATE = np.dtype([("key", "<u8"), ("counter", "<u8")])


@dataclass(frozen=True)
class Ends:
    """Proteins that a negative is drawn from, on one side of the links or on both.

    `n` proteins in all.
    """

    degrees: np.ndarray
    """Positive links of each protein on this side, int64 ``[n]``; those without one are never drawn."""
    species: np.ndarray
    """Species of each, int64 ``[n]``."""

    @property
    def members(self) -> np.ndarray:
        """Proteins with a link, ascending."""
        return np.flatnonzero(self.degrees)


def draw_negatives(
    ends: tuple[Ends, Ends],
    count: int,
    known: Buckets,
    drawn: Buckets,
    *,
    sampler: Sampler,
    seed: int,
    part: int = 0,
) -> int:
    """Draw pairs that are in no bucket of `known`, no protein with itself and none twice.

    ``uniform`` draws both proteins alike out of those that have a positive link. ``same-species`` draws a
    species as often as positives have it, then two of its proteins alike. ``degree`` draws each protein as
    often as positives have it, but for rounding: proteins take up a line by their positive links, and each
    of its equal slices is drawn from once, in an order by hash, as if the ends of all links were cut and tied
    anew. What is refused is drawn again by what each protein still lacks, so that those with many links are
    not thinned out.

    Parameters
    ----------
    ends
        Of the first and of the second protein; the same object twice where a link has no sides.
    count
        How many.
    known
        Keys that may not be drawn, ascending in each bucket.
    drawn
        Empty buckets of keys, with as many as `known`; filled.
    sampler
        Not ``"none"``.
    seed
        Another seed gives other pairs.
    part
        Number of the part of the corpus, whose draws are then its own.

    Returns
    -------
    int
        How many were drawn: fewer than asked for where there are hardly more.
    """
    missing, idle = count, 0
    wanted = [_wanted(each, count) for each in ends]
    got = [np.zeros(len(each.degrees)) for each in ends]
    for turn in range(_MAX_ROUNDS):
        if not missing or idle >= _MAX_IDLE:
            break
        weights = [np.maximum(want - have, 0) for want, have in zip(wanted, got, strict=True)]
        if idle:  # what is lacking does not fit together: at first one end of it, then none
            weights = [weights[0] if idle % 2 else wanted[0], wanted[1]]
        weights = [each if each.sum() > 0 else want for each, want in zip(weights, wanted, strict=True)]
        draws = _Draws(ends, sampler, weights)
        num_taken = 0
        count_now = max(missing, min(missing << idle, _MOST))
        seed_now = combine(seed, _STREAM, part, turn)
        for keys in _round(draws, missing, count_now, known, drawn, seed_now):
            num_taken += len(keys)
            for have, proteins in zip(got, draws.sides(keys), strict=True):
                np.add.at(have, proteins, len(keys) / len(proteins))  # without sides each is on both, by half
        missing -= num_taken
        idle = 0 if num_taken else idle + 1
    return count - missing


def _wanted(ends: Ends, count: int) -> np.ndarray:
    """How often each protein should stand in the negatives."""
    return ends.degrees * (count / max(1, ends.degrees.sum()))


def permuted(counters: np.ndarray, count: int, seed: np.ndarray) -> np.ndarray:
    """Give the place of each counter in an order of ``range(count)`` drawn by hash and stored nowhere.

    A Feistel network permutes the next larger power of four; places outside are sent on until inside.

    Parameters
    ----------
    counters
        Below `count`, uint64.
    count
        Of them all.
    seed
        One hash, uint64 ``[1]``.

    Examples
    --------
    >>> order = permuted(np.arange(10, dtype=np.uint64), 10, combine(0))
    >>> sorted(order.tolist()) == list(range(10)), order.tolist() == list(range(10))
    (True, False)
    """
    half = np.uint64(max(1, (max(1, count - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    places = counters.astype(np.uint64).reshape(-1)
    outside = np.arange(len(places))
    while len(outside):
        left, right = places[outside] >> half, places[outside] & low
        for turn in range(4):
            left, right = right, left ^ (combine(seed, turn, right) & low)
        places[outside] = (left << half) | right
        outside = outside[places[outside] >= count]
    return places.reshape(counters.shape)


class _Draws:
    """Turns counters into pairs."""

    def __init__(self, ends: tuple[Ends, Ends], sampler: Sampler, weights: list[np.ndarray]) -> None:
        self.sampler, self.is_sided = sampler, ends[0] is not ends[1]
        self.is_first = ends[0].degrees > 0
        self.members = [each.members for each in ends]
        self.sums = [np.cumsum(each) for each in weights]
        self.degree_sums = np.cumsum(ends[0].degrees)
        self.species = ends[0].species
        self.by_species = [_Grouped(each) for each in ends]

    def pairs(self, counters: np.ndarray, count: int, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give two proteins for each of `count` counters; equal ones are to be refused."""
        hashes = combine(seed, counters)
        u, v = uniform(combine(hashes, 1)), uniform(combine(hashes, 2))
        if self.sampler == "uniform":
            return _pick(self.members[0], u), _pick(self.members[1], v)
        if self.sampler == "degree":  # one draw in each of equal slices, in an order drawn by hash
            if self.is_sided:
                one = (permuted(counters, count, combine(seed, 4)) + u) / count
                other = (permuted(counters, count, combine(seed, 5)) + v) / count
            else:
                places = permuted(
                    np.stack([counters, counters + np.uint64(count)]), 2 * count, combine(seed, 4)
                )
                one, other = (places + np.stack([u, v])) / (2 * count)
            return _by_weight(self.sums[0], one), _by_weight(self.sums[1], other)
        anchors = _by_weight(self.degree_sums, uniform(combine(hashes, 3)))
        species = self.species[anchors]
        return self.by_species[0].pick(species, u), self.by_species[1].pick(species, v)

    def sides(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the proteins of pairs on each side; without sides, those of both, twice."""
        a, b = unpack(keys)
        if self.is_sided:
            is_first = self.is_first[a]
            return np.where(is_first, a, b), np.where(is_first, b, a)
        both = np.concatenate([a, b])
        return both, both


class _Grouped:
    """Proteins by species."""

    def __init__(self, ends: Ends) -> None:
        members = ends.members
        self.members = members[np.argsort(ends.species[members], kind="stable")]
        size = int(ends.species.max(initial=0)) + 1
        self.sizes = np.bincount(ends.species[members], minlength=size)
        self.starts = np.cumsum(self.sizes) - self.sizes

    def pick(self, species: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """A protein of each species; -1 where it has none on this side."""
        sizes = self.sizes[species]
        places = self.starts[species] + (numbers * sizes).astype(np.int64)
        return np.where(sizes > 0, self.members[np.minimum(places, len(self.members) - 1)], -1)


def _pick(members: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return members[(numbers * len(members)).astype(np.int64)]


def _by_weight(sums: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    last = np.searchsorted(sums, sums[-1])  # what rounding up would go past
    return np.minimum(np.searchsorted(sums, numbers * sums[-1], side="right"), last)


def _round(
    draws: _Draws, missing: int, count: int, known: Buckets, drawn: Buckets, seed: np.ndarray
) -> Iterator[np.ndarray]:
    """Draw candidates, and take those that are allowed and new, as many as are missing; gives keys."""
    candidates = Buckets(drawn.folder.with_name("candidates"), drawn.count, _CANDIDATE)
    for start in range(0, count, _CHUNK):
        counters = np.arange(start, min(start + _CHUNK, count), dtype=np.uint64)
        a, b = draws.pairs(counters, count, seed)
        is_pair = (a != b) & (a >= 0) & (b >= 0)
        found = np.zeros(int(is_pair.sum()), dtype=_CANDIDATE)
        found["key"], found["counter"] = pack(a[is_pair], b[is_pair]), counters[is_pair]
        candidates.append(found, mix(found["key"]))
    last = count
    if count > missing:  # then they are few, and the first by counter are taken
        fresh = [_fresh(candidates.read(number), known, drawn, number) for number in range(drawn.count)]
        counters = np.sort(np.concatenate([each["counter"] for each in fresh]))
        last = int(counters[missing - 1]) if len(counters) >= missing else count
    for number in range(drawn.count):
        fresh_here = _fresh(candidates.read(number), known, drawn, number)
        candidates.write(number, fresh_here[:0])
        keys = fresh_here["key"][fresh_here["counter"] <= last]
        if len(keys):
            drawn.write(number, np.sort(np.concatenate([drawn.read(number), keys])))
            yield keys


def _fresh(candidates: np.ndarray, known: Buckets, drawn: Buckets, number: int) -> np.ndarray:
    """Candidates of a bucket that are neither known nor drawn before, each key once by its first counter."""
    if not len(candidates):
        return candidates
    candidates = candidates[np.lexsort((candidates["counter"], candidates["key"]))]
    is_first = np.ones(len(candidates), dtype=bool)
    is_first[1:] = candidates["key"][1:] != candidates["key"][:-1]
    candidates = candidates[is_first]
    for others in (known.read(number), drawn.read(number)):
        candidates = candidates[~_is_in(candidates["key"], others)]
    return candidates


def _is_in(keys: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    if not len(ascending):
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    return ascending[places] == keys
