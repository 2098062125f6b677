"""prepare with a corpus of pairs and negatives: the same pairs, and others of the same chains."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus, CorpusWriter, plain_chain_hash
from protlm.data.hashing import mix
from protlm.data.links import BINDS, HELD_OUT, LINK, SWAPPED, Buckets, LinkCounts, pack, settle
from protlm.errors import ConfigError, DataError
from protlm.recipes.outputs import claim_folder
from protlm.recipes.pair_parts import KEY, PairParts
from protlm.recipes.prepare import HELD_OUT as HELD_OUT_NAME
from protlm.recipes.prepare import TRAIN
from protlm.recipes.prepare_pairs import PairSettings, PreparedPairs
from protlm.types.record import Record, Role

_NUM_BUCKETS = 8


def prepare_negatives(
    source: Path | str, out: Path | str, *, settings: PairSettings, force: bool = False
) -> PreparedPairs:
    """Add pairs that are not known to bind to a corpus of pairs, such as heavy with other light chains.

    Roles, tracks, calls, labels and groups stay; the label ``binds`` is added. Where the corpus has the
    subsets ``train`` and ``holdout``, negatives are drawn within each. Where the chains of a record have two
    roles, a negative has both.

    Parameters
    ----------
    source
        A corpus, or ``FOLDER:SUBSET``; records of other than two chains are left out and counted.
    out
        Corpus folder to make.
    settings
        `negatives`, `positive_fraction`, `sides` and `seed` count; the others are refused.
    force
        Replace a corpus that is there.

    Raises
    ------
    ConfigError
        If a setting is given that the corpus has decided already.
    DataError
        If the corpus has no pair, or the folder is taken.
    """
    settings.check()
    _refuse_others(settings)
    corpus, out = Corpus(source), Path(out)
    claim_folder(out)
    if out.resolve() == corpus.path.resolve():
        raise DataError(f"{out} is the corpus that is read", hint="choose another --out")
    counts = LinkCounts()
    with (
        CorpusWriter(out, force=force) as writer,
        tempfile.TemporaryDirectory(prefix=f".{out.name}-links-", dir=out.parent) as temporary,
    ):
        chains = _Chains(corpus, counts)
        if not len(chains.records):
            raise DataError(
                f"{corpus.name} has no pair of two different chains", hint="are its records pairs?"
            )
        pairs = _pairs(chains, corpus, settings, Path(temporary), counts)
        pairs.draw(
            settings.negatives or "none",
            settings.positive_fraction,
            seed=settings.seed,
            folder=Path(temporary),
        )
        _write(writer, chains, pairs)
        manifest: dict[str, Any] = {
            **{
                name: corpus.manifest[name]
                for name in ("inputs", "columns", "split")
                if name in corpus.manifest
            },
            "source": {"name": corpus.name, "digest": corpus.digest, "num_records": len(corpus)},
            "dropped": counts.dropped,
            "pairs": {"sides": 1 if pairs.is_first is None else 2, **pairs.facts},
        }
        made = writer.close(manifest)
    return PreparedPairs(made, [*counts.lines(), *pairs.notes])


def _refuse_others(settings: PairSettings) -> None:
    default = PairSettings()
    for name in ("min_score", "cluster_identity", "clusters", "one_per_cluster_pair", "holdout"):
        if getattr(settings, name) != getattr(default, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for files of links, and this is a corpus, which is split and "
                "clustered already",
                hint="leave it out, or give it when the corpus is made",
            )


class _Chains:
    """The distinct chains of the pairs of a corpus, numbered by content."""

    def __init__(self, corpus: Corpus, counts: LinkCounts) -> None:
        self.corpus = corpus
        counts.drop("records: not two chains", int((corpus.num_chains_per_record != 2).sum()))
        records = np.flatnonzero(corpus.num_chains_per_record == 2)
        rows = corpus.chain_rows(records).reshape(-1, 2)
        roles = corpus.chain_roles(records).reshape(-1, 2)
        column = corpus.chain_column("residues")
        used, places = np.unique(rows, return_inverse=True)
        digests = [plain_chain_hash(column[int(row)].as_py())[:8] for row in used.tolist()]
        self.contents, codes = np.unique(
            np.array([int.from_bytes(each, "little") for each in digests], dtype=np.uint64),
            return_inverse=True,
        )
        codes = codes[places.reshape(-1, 2)]
        is_self = codes[:, 0] == codes[:, 1]
        counts.drop("records: a chain with itself", int(is_self.sum()))
        order = np.argsort(corpus.keys[records], kind="stable")
        order = order[~is_self[order]]
        self.records, self.roles, self.codes = records[order], roles[order], codes[order]
        self.swaps = self.roles[:, 0] > self.roles[:, 1]
        self.codes[self.swaps] = self.codes[self.swaps, ::-1]
        flat, first = np.unique(self.codes, return_index=True)
        self.home = np.zeros((len(self.contents), 2), dtype=np.int64)
        self.home[flat] = np.stack([first // 2, first % 2], axis=1)

    def is_first(self, sides: str) -> np.ndarray | None:
        """Whether each chain is of the first kind; `None` where there is one kind."""
        found = np.zeros((2, len(self.contents)), dtype=bool)
        for side in range(2):
            found[side, self.codes[:, side]] = True
        shared = int((found[0] & found[1]).sum())
        has_roles = bool((self.roles[:, 0] != self.roles[:, 1]).all())
        if shared and (has_roles or sides == "two"):
            raise DataError(
                f"{shared:,} chains of {self.corpus.name} stand on both sides of a pair",
                hint="leave such records out, or --sides two",
            )
        return found[0] if not shared and (has_roles or sides != "one") else None

    def name(self, code: int) -> str:
        """Say which chain of which record it is, or its own name where the record is called ``A+B``."""
        place, side = self.home[code].tolist()
        record = self._record(place)
        parts = record.id.split("+")
        if len(parts) == 2 and "pairs" in self.corpus.manifest:
            return parts[side]
        return f"{record.id}:{record.chain_names[side]}"

    def single(self, code: int) -> Record:
        """Give a chain as a record of its own."""
        place, side = self.home[code].tolist()
        record = self._record(place)
        return Record(self.name(code), (record.chains[side],), group=record.group)

    def positive(self, place: int, *, binds: bool) -> Record:
        """Give a pair of the corpus with its label."""
        record = self.corpus.record(int(self.records[place]))
        return replace(record, labels={**record.labels, "binds": int(binds)})

    def negative(self, a: int, b: int) -> Record:
        """Pair two chains; the group is that of the first, with that of the second where neither leads."""
        one, other = self.single(a), self.single(b)
        groups = dict.fromkeys([one.group] if self._leads(a) else [one.group, other.group])
        return Record(
            f"{one.id}+{other.id}",
            (one.chains[0], other.chains[0]),
            labels={"binds": 0},
            group="|".join(group for group in groups if group),
        )

    def _record(self, place: int) -> Record:
        record = self.corpus.record(int(self.records[place]))
        return replace(record, chains=record.chains[::-1]) if self.swaps[place] else record

    def _leads(self, code: int) -> bool:
        place, side = self.home[code].tolist()
        role = np.sort(self.roles[place])[side]
        return role == Role.HEAVY


def _pairs(
    chains: _Chains, corpus: Corpus, settings: PairSettings, folder: Path, counts: LinkCounts
) -> PairParts:
    """Put the pairs on disk, with the part of each."""
    a, b = chains.codes.T
    links = np.zeros(len(a), dtype=LINK)
    links["key"] = pack(a, b)
    links["score"] = -np.arange(len(a)) / max(1, len(a))  # the first of equals by record key is kept
    links["flags"] = np.where(_binds(chains), BINDS, 0) | np.where(a > b, SWAPPED, 0)
    parts = [TRAIN, HELD_OUT_NAME]
    if corpus.subset or not all(name in corpus.manifest["subsets"] for name in parts):
        parts = [""]
    else:
        held_out = Corpus(f"{corpus.path}:{HELD_OUT_NAME}").keys
        is_held_out = np.isin(corpus.keys[chains.records], held_out)
        links["flags"] |= np.where(is_held_out, HELD_OUT, 0).astype(np.uint8)
    rows, kept = Buckets(folder / "rows", _NUM_BUCKETS), Buckets(folder / "kept", _NUM_BUCKETS)
    known = Buckets(folder / "known", _NUM_BUCKETS, KEY)
    rows.append(links, mix(links["key"]))
    keeps = settings.negatives in (None, "none")
    settle(rows, known, kept, min_score=None, keeps_others=keeps, counts=counts)
    is_first = chains.is_first(settings.sides)
    names = pl.Series("name", [chains.name(code) for code in range(len(chains.contents))])
    return PairParts(kept, known, names, is_first, parts)


def _binds(chains: _Chains) -> np.ndarray:
    """Whether each pair binds: all do, but those with a label that says no."""
    labels = chains.corpus.column("labels")
    return np.array(['"binds": 0' not in (labels[row] or "") for row in chains.records.tolist()])


def _write(writer: CorpusWriter, chains: _Chains, pairs: PairParts) -> None:
    keys = pack(*chains.codes.T)
    unique, first = np.unique(keys, return_index=True)
    drawn = pairs.drawn
    for number in range(pairs.kept.count):
        found, flags, _, part = pairs.bucket(number)
        a, b = pairs.ordered(found)
        binds = (flags & BINDS) > 0
        is_drawn = np.isin(found, np.concatenate([each.read(number) for each in drawn]))
        places = first[np.minimum(np.searchsorted(unique, found), len(unique) - 1)]
        tables = pairs.subsets(binds, part)
        for index in range(len(found)):
            subsets = ["", *(name for name, chosen in tables if chosen[index])]
            if is_drawn[index]:
                record = chains.negative(int(a[index]), int(b[index]))
            else:
                record = chains.positive(int(places[index]), binds=bool(binds[index]))
            writer.add(record, subsets=subsets)
    for name, codes in pairs.singles(pairs.used()):
        for code in codes.tolist():
            writer.add(chains.single(code), subsets=[name])
