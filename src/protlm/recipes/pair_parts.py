"""The pairs of a corpus in the making, on disk, in one part or in train and holdout, and their negatives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.hashing import mix
from protlm.data.links import BINDS, HELD_OUT, LINK, Buckets, each_bucket, unpack
from protlm.data.negatives import Ends, Sampler, draw_negatives
from protlm.errors import ConfigError

BINDING, RANDOM, SINGLE = "binding", "random", "single"
KEY = np.dtype("<u8")
_SPECIES = r"^(\d+)\."


@dataclass
class PairParts:
    """Links that are kept, and pairs drawn beside them."""

    kept: Buckets
    known: Buckets
    """Keys that no negative may have."""
    names: pl.Series
    """Of each protein."""
    is_first: np.ndarray | None
    """Whether each protein is of the first kind; `None` where there is one kind only."""
    parts: Sequence[str]
    """Names of the parts; one empty name where there is one."""
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    drawn: list[Buckets] = field(default_factory=list)

    def draw(self, sampler: Sampler, positive_fraction: float, *, seed: int, folder: Path) -> None:
        """Draw the negatives of each part from the proteins of its positives, and count.

        Parameters
        ----------
        sampler, seed
            As for `protlm.data.negatives.draw_negatives`; ``"none"`` only counts.
        positive_fraction
            Share of binding pairs.
        folder
            For what is drawn.

        Raises
        ------
        ConfigError
            If species are asked for and the names have none.
        """
        size = len(self.names)
        species = self._species() if sampler == "same-species" else np.zeros(size, dtype=np.int64)
        for part, name in enumerate(self.parts):
            degrees = self.degrees(part)
            num_binding = int(degrees.sum()) // 2
            facts: dict[str, Any] = {"binding": num_binding, "random": self._num_others(part)}
            drawn = Buckets(folder / f"drawn-{part}", self.kept.count, KEY)
            if sampler != "none":
                wanted = round(num_binding * (1 - positive_fraction) / positive_fraction)
                ends = self._ends(degrees, species)
                facts["random"] = draw_negatives(
                    ends, wanted, self.known, drawn, sampler=sampler, seed=seed, part=part
                )
                self._forbid(drawn)
                if facts["random"] < wanted:
                    self.notes.append(
                        f"{name or 'all'}: only {facts['random']:,} of {wanted:,} negatives could be drawn; "
                        "there are hardly other pairs that are not linked"
                    )
            self.drawn.append(drawn)
            if facts["random"] and num_binding:
                facts["degree_correlation"] = self._degree_correlation(degrees, part)
            self.facts[name or "all"] = facts
            self.notes.append(_part_line(name, facts))
        self.facts["negatives"] = {
            "sampler": sampler,
            "seed": seed,
            "positive_fraction": positive_fraction if sampler != "none" else None,
            "never": "a link of any score in the input, a protein with itself, a pair twice",
        }

    def bucket(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Give keys, flags, scores and parts of the pairs of a bucket, in the order of their hashes.

        Parameters
        ----------
        number
            Of the bucket.
        """
        links = self.kept.read(number)
        drawn = [each.read(number) for each in self.drawn]
        counts = [len(links), *map(len, drawn)]
        part = np.repeat([0, *range(len(drawn))], counts)
        part[: len(links)] = (links["flags"] & HELD_OUT) > 0
        pairs = np.zeros(sum(counts), dtype=LINK)
        pairs[: len(links)] = links
        pairs["key"][len(links) :] = np.concatenate([*drawn, np.zeros(0, dtype=KEY)])
        order = np.argsort(mix(pairs["key"]))
        pairs = pairs[order]
        return pairs["key"], pairs["flags"], pairs["score"], part[order]

    def ordered(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the two proteins of each key, that of the first kind first.

        Parameters
        ----------
        keys
            uint64 ``[n]``.
        """
        a, b = unpack(keys)
        if self.is_first is None:
            return a, b
        is_first = self.is_first[a]
        return np.where(is_first, a, b), np.where(is_first, b, a)

    def subsets(self, binds: np.ndarray, part: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Name the tables of pairs beside the main one, each with its pairs, bool ``[n]``.

        Parameters
        ----------
        binds
            Whether each pair is known to bind, bool ``[n]``.
        part
            Part of each, ``[n]``.
        """
        kinds = [(BINDING, binds), (RANDOM, ~binds)]
        if len(self.parts) == 1:
            return kinds
        by_part = [(name, part == number) for number, name in enumerate(self.parts)]
        both = [(f"{name}-{kind}", its & chosen) for name, its in by_part for kind, chosen in kinds]
        return [*by_part, *kinds, *both]

    def used(self) -> np.ndarray:
        """Whether each protein is in some pair of each part, bool ``[parts, n]``."""
        used = np.zeros((len(self.parts), len(self.names)), dtype=bool)
        for number in range(self.kept.count):
            keys, _, _, part = self.bucket(number)
            for side in unpack(keys):
                used[part, side] = True
        return used

    def singles(self, used: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Name the tables of single proteins, each with its proteins, int64.

        Parameters
        ----------
        used
            From `used`.
        """
        found = [(SINGLE, used.any(axis=0))]
        if len(self.parts) > 1:
            found += [(f"{name}-{SINGLE}", its) for name, its in zip(self.parts, used, strict=True)]
        return [(name, np.flatnonzero(its)) for name, its in found]

    def degrees(self, part: int | None) -> np.ndarray:
        """Count the binding links of each protein in a part, int64; for `None` the kept links of any kind.

        Parameters
        ----------
        part
            Its number.
        """
        degrees = np.zeros(len(self.names), dtype=np.int64)
        for links in each_bucket(self.kept):
            chosen = np.ones(len(links), dtype=bool)
            if part is not None:
                chosen = (links["flags"] & BINDS > 0) & ((links["flags"] & HELD_OUT > 0) == part)
            for side in unpack(links["key"][chosen]):
                np.add.at(degrees, side, 1)
        return degrees

    def _ends(self, degrees: np.ndarray, species: np.ndarray) -> tuple[Ends, Ends]:
        if self.is_first is None:
            ends = Ends(degrees, species)
            return ends, ends
        return Ends(degrees * self.is_first, species), Ends(degrees * ~self.is_first, species)

    def _forbid(self, drawn: Buckets) -> None:
        """No later part may draw the same pair."""
        if len(self.parts) > 1:
            for number in range(drawn.count):
                keys = np.concatenate([self.known.read(number), drawn.read(number)])
                self.known.write(number, np.sort(keys))

    def _num_others(self, part: int) -> int:
        return sum(
            int(((links["flags"] & BINDS == 0) & ((links["flags"] & HELD_OUT > 0) == part)).sum())
            for links in each_bucket(self.kept)
        )

    def _degree_correlation(self, degrees: np.ndarray, part: int) -> float | None:
        """Pearson's r over the proteins of a part: links that bind against pairs that do not."""
        others = np.zeros(len(degrees))
        for number in range(self.kept.count):
            keys, flags, _, its = self.bucket(number)
            for side in unpack(keys[(flags & BINDS == 0) & (its == part)]):
                np.add.at(others, side, 1)
        chosen = (degrees > 0) | (others > 0)
        one, other = degrees[chosen].astype(np.float64), others[chosen]
        return round(float(np.corrcoef(one, other)[0, 1]), 4) if one.std() and other.std() else None

    def _species(self) -> np.ndarray:
        found = self.names.str.extract(_SPECIES, 1)
        lacking = found.is_null().to_numpy() & (self.degrees(None) > 0)
        if lacking.any():
            raise ConfigError(
                f"--negatives same-species, but {int(lacking.sum()):,} ids name no species, such as "
                f"'{self.names[int(np.flatnonzero(lacking)[0])]}'",
                hint="ids must begin with a taxon and a dot, as 4932.YGL103W does in STRING",
            )
        return np.unique(found.fill_null("").to_numpy(), return_inverse=True)[1].astype(np.int64)


def _part_line(name: str, facts: dict[str, Any]) -> str:
    if not facts["binding"] + facts["random"]:
        return (
            f"EMPTY: no pair fell into subset {name}; clusters are drawn by hash, and both proteins must be "
            "on one side: try another --seed or a larger --holdout"
        )
    line = f"{name + ': ' if name else ''}{facts['binding']:,} binding and {facts['random']:,} other pairs"
    if facts.get("degree_correlation") is not None:
        line += f"; how often proteins stand in the two correlates with r = {facts['degree_correlation']:.3f}"
    return line
