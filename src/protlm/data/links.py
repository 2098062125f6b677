"""Links between proteins by number: gathered on disk in buckets, so that memory is bounded by a bucket.

A link is one 64-bit key, the lower of its two protein numbers above the other, so A–B and B–A are one. Its
bucket and its place there go by the hash of the key; neither depends on the order of the input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from protlm.data.hashing import combine, mix, uniform

LINK = np.dtype([("key", "<u8"), ("score", "<f4"), ("flags", "u1")])
"""A link: its key, its score (0 where there is none), and flags."""
BINDS, SWAPPED, HELD_OUT = 1, 2, 4
"""Flags: known to bind; the second protein has the lower number, in the file; in the held-out part."""

_HOLDOUT_STREAM = 111
_NUM_EXAMPLES = 3
_SHIFT, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


def pack(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Give the key of each link, uint64 ``[n]``.

    Parameters
    ----------
    a, b
        Protein numbers below 2³², int64 ``[n]``.
    """
    low, high = np.minimum(a, b).astype(np.uint64), np.maximum(a, b).astype(np.uint64)
    return (low << _SHIFT) | high


def unpack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the two protein numbers of each link, the lower one first, int64 ``[n]`` each.

    Parameters
    ----------
    keys
        From `pack`.
    """
    return (keys >> _SHIFT).astype(np.int64), (keys & _LOW).astype(np.int64)


@dataclass
class Buckets:
    """Arrays of one type, spread over files by a hash."""

    folder: Path
    """Where the files go; made if it is not there."""
    count: int
    """Of files, a power of two."""
    dtype: np.dtype = LINK

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def append(self, values: np.ndarray, hashes: np.ndarray) -> None:
        """Put each value into the bucket of its hash.

        Parameters
        ----------
        values
            Of the type ``[n]``.
        hashes
            uint64 ``[n]``.
        """
        bucket = self.bucket_of(hashes)
        order = np.argsort(bucket, kind="stable")
        stops = np.cumsum(np.bincount(bucket, minlength=self.count))
        values = values[order]
        for number, (start, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True)):
            if stop > start:
                with self._path(number).open("ab") as file:
                    file.write(values[start:stop].tobytes())

    def read(self, number: int) -> np.ndarray:
        """Give all values of a bucket.

        Parameters
        ----------
        number
            Of the bucket.
        """
        path = self._path(number)
        return np.fromfile(path, dtype=self.dtype) if path.exists() else np.zeros(0, dtype=self.dtype)

    def write(self, number: int, values: np.ndarray) -> None:
        """Replace the values of a bucket.

        Parameters
        ----------
        number
            Of the bucket.
        values
            Of the type ``[n]``.
        """
        values.astype(self.dtype, copy=False).tofile(self._path(number))

    def bucket_of(self, hashes: np.ndarray) -> np.ndarray:
        """Give the bucket of each hash, by its upper bits.

        Parameters
        ----------
        hashes
            uint64 ``[n]``.
        """
        bits = self.count.bit_length() - 1
        if not bits:
            return np.zeros(len(hashes), dtype=np.int64)
        return (hashes >> np.uint64(64 - bits)).astype(np.int64)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.bin"


@dataclass
class LinkCounts:
    """What became of the rows of a file of links, in the words of the report."""

    dropped: dict[str, int] = field(default_factory=dict)
    """Rows, links or sequences left out, by what they are and why."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first few places of each reason, where they are known."""

    def drop(self, reason: str, count: int, places: Sequence[str] = ()) -> None:
        """Count what was left out.

        Parameters
        ----------
        reason
            ``"rows: "`` or the like, and why, short.
        count
            How many; 0 is not noted.
        places
            Some of them.
        """
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + int(count)
            kept = self.examples.setdefault(reason, [])
            kept += places[: _NUM_EXAMPLES - len(kept)]
            if not kept:
                del self.examples[reason]

    def lines(self) -> list[str]:
        """Say what was left out, a line each."""
        found = []
        for reason, count in self.dropped.items():
            kind, _, why = reason.partition(": ")
            first = f" (first: {'; '.join(self.examples[reason])})" if reason in self.examples else ""
            found.append(f"{count:,} {kind} left out: {why}{first}")
        return found


def bucket_count(num_bytes: int) -> int:
    """Give a number of buckets with about half a million links in each.

    Parameters
    ----------
    num_bytes
        Of the input, uncompressed.
    """
    count = 8
    while count < 1024 and count * (16 << 20) < num_bytes:
        count *= 2
    return count


def settle(
    rows: Buckets,
    known: Buckets,
    kept: Buckets,
    *,
    min_score: float | None,
    keeps_others: bool,
    counts: LinkCounts,
) -> None:
    """Make each link one: from all rows of it, the best score and whether it binds.

    Parameters
    ----------
    rows
        What the file says.
    known
        Gets the keys of all links that bind by some row, of any score, ascending: no negative may be one.
    kept
        Gets the links that are kept, in the order of their hashes.
    min_score
        Least best score that is kept.
    keeps_others
        Whether links that do not bind are kept.
    counts
        Filled.
    """
    for number in range(rows.count):
        links = rows.read(number)
        order = np.lexsort((-links["score"], links["key"]))
        links = links[order]
        keys, first, sizes = np.unique(links["key"], return_index=True, return_counts=True)
        if not len(keys):
            continue
        binds = np.add.reduceat((links["flags"] & BINDS).astype(np.int64), first)
        swapped = np.add.reduceat(((links["flags"] & SWAPPED) > 0).astype(np.int64), first)
        has_both = (swapped > 0) & (swapped < sizes)
        counts.drop("rows: B–A beside A–B, read as one link", int(has_both.sum()))
        counts.drop("rows: a link that was there before", int((sizes - 1 - has_both).sum()))
        links = links[first]
        contradict = (binds > 0) & (binds < sizes)
        counts.drop("links: labelled both 0 and 1", int(contradict.sum()))
        is_kept = ~contradict
        if min_score is not None:
            is_low = is_kept & (links["score"] < min_score)
            counts.drop(f"links: score below {min_score:g}", int(is_low.sum()))
            is_kept &= ~is_low
        if not keeps_others:
            is_other = is_kept & (binds == 0)
            counts.drop("links: labelled 0, as negatives are drawn instead", int(is_other.sum()))
            is_kept &= ~is_other
        known.write(number, keys[binds > 0])
        links = links[is_kept]
        kept.write(number, links[np.argsort(mix(links["key"]))])


def hold_out(clusters: np.ndarray, contents: np.ndarray, share: float, *, seed: int) -> np.ndarray:
    """Draw the proteins of held-out clusters by a hash of their representative's content; bool ``[n]``.

    Parameters
    ----------
    clusters
        Representative of each protein, int64 ``[n]``.
    contents
        Content hash of each protein, uint64 ``[n]``.
    share
        Of clusters, in [0, 1).
    seed
        Another seed gives another draw.
    """
    return uniform(combine(seed, _HOLDOUT_STREAM, contents[clusters])) < share


def part_links(kept: Buckets, is_held_out: np.ndarray, counts: LinkCounts) -> None:
    """Mark the links whose proteins are both held out, and leave out those that straddle; in place.

    Parameters
    ----------
    kept
        Links.
    is_held_out
        Of each protein, bool ``[n]``.
    counts
        Filled.
    """
    for number in range(kept.count):
        links = kept.read(number)
        a, b = unpack(links["key"])
        straddles = is_held_out[a] != is_held_out[b]
        links["flags"] |= np.where(is_held_out[a], HELD_OUT, 0).astype(np.uint8)
        counts.drop("links: straddling, one protein held out and one not", int(straddles.sum()))
        kept.write(number, links[~straddles])


def one_per_cluster_pair(kept: Buckets, clusters: np.ndarray, counts: LinkCounts) -> None:
    """Keep the link with the best score, ties by hash, of each pair of clusters and label; in place.

    Parameters
    ----------
    kept
        Links.
    clusters
        Representative of each protein, int64 ``[n]``.
    counts
        Filled.
    """
    by_clusters = Buckets(kept.folder.with_name("by-clusters"), kept.count)
    before = after = 0
    for number in range(kept.count):
        links = kept.read(number)
        before += len(links)
        by_clusters.append(links, mix(_cluster_keys(links, clusters)))
        kept.write(number, links[:0])
    for number in range(kept.count):
        links = by_clusters.read(number)
        keys, binds = _cluster_keys(links, clusters), links["flags"] & BINDS
        order = np.lexsort((mix(links["key"]), -links["score"], binds, keys))
        is_first = np.ones(len(order), dtype=bool)
        same = (keys[order][1:] == keys[order][:-1]) & (binds[order][1:] == binds[order][:-1])
        is_first[1:] = ~same
        links = links[order[is_first]]
        after += len(links)
        kept.append(links, mix(links["key"]))
        by_clusters.write(number, links[:0])
    for number in range(kept.count):
        links = kept.read(number)
        kept.write(number, links[np.argsort(mix(links["key"]))])
    counts.drop("links: another of the same two clusters was kept", before - after)


def _cluster_keys(links: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    a, b = unpack(links["key"])
    return pack(clusters[a], clusters[b])


def each_bucket(buckets: Buckets) -> Iterator[np.ndarray]:
    """Give the values of one bucket after another.

    Parameters
    ----------
    buckets
        Any.
    """
    for number in range(buckets.count):
        yield buckets.read(number)
