"""What a model learns of one chain from the other: loss given the true, a random or no partner."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.hashing import combine, uniform
from protlm.evaluation.arms import arm_gains, arm_summary, with_arms
from protlm.evaluation.regions import METRICS
from protlm.evaluation.residues import over_twenty, residue_facts, residue_table
from protlm.evaluation.slices import ALL, REGION_NAMES, Slices, in_region
from protlm.models.language_model import MaskedModel
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, MASK, ContextList, run_contexts
from protlm.types.record import Record, Role

TRUE, RANDOM, SAME_LOCUS, NONE = "true", "random", "random_same_locus", "none"
CONDITIONS = (TRUE, RANDOM, SAME_LOCUS, NONE)
"""Which partner a chain is shown with. `SAME_LOCUS` is random among pairs of the same loci, so that what
it lacks is more than whether the light chain is kappa or lambda."""

BOTH = "both"
"""Name of the line over both chains of pairs whose chains have no regions."""

_STREAM, _ATTEMPTS = 301, 64
_CHUNK = 1 << 14


@dataclass(frozen=True)
class PairIndex:
    """The pairs of a corpus, as arrays over its rows of two chains: of different roles, or both of none."""

    rows: np.ndarray
    """Row of each pair in the corpus, by ascending content key, int64 ``[n]``."""
    keys: np.ndarray
    group: np.ndarray
    """Number of the group; a record without one is its own."""
    kind: np.ndarray
    """Number of the set of roles: heavy and light, alpha and beta, or neither chain with one."""
    loci: np.ndarray
    """Number of the set of loci: H and K, H and L."""
    residues: np.ndarray
    """Number of the sequence of both chains, by ascending role or in the record's order, ``[n, 2]``."""

    @classmethod
    def build(cls, corpus: Corpus) -> "PairIndex":
        """Look the pairs of a corpus up.

        Parameters
        ----------
        corpus
            May hold other records too, which are left out.
        """
        two = np.flatnonzero(corpus.num_chains_per_record == 2)
        two = two[np.argsort(corpus.keys[two], kind="stable")]
        parts = [corpus.gather(two[start : start + _CHUNK]).roles for start in range(0, len(two), _CHUNK)]
        roles = np.concatenate(parts).reshape(-1, 2) if parts else np.zeros((0, 2), dtype=np.int8)
        # two proteins without roles are the first and the second as their record has them
        is_pair = (roles[:, 0] != roles[:, 1]) == (roles != Role.OTHER).any(axis=1)
        is_pair &= (roles != Role.OTHER).all(axis=1) | (roles == Role.OTHER).all(axis=1)
        rows, roles = two[is_pair], roles[is_pair]
        order = np.argsort(roles, axis=1, kind="stable")
        chain_rows = np.take_along_axis(corpus.chain_rows(rows).reshape(-1, 2), order, axis=1)
        text = {
            name: pl.Series(values=pl.from_arrow(corpus.chain_column(name).take(chain_rows.ravel())))
            for name in ("locus", "residues")
        }
        loci, residues = (_numbers(text[name]).reshape(-1, 2) for name in ("locus", "residues"))
        own = pl.DataFrame({"group": corpus.column("group"), "id": corpus.column("id")})[rows]
        alone = pl.lit("\x1f") + pl.col("id")
        named = own.select(pl.when(pl.col("group") == "").then(alone).otherwise("group"))
        ordered = np.sort(roles, axis=1).astype(np.int64)
        return cls(
            rows=rows,
            keys=corpus.keys[rows],
            group=_numbers(named.to_series()),
            kind=ordered[:, 0] * 256 + ordered[:, 1],
            loci=(loci[:, 0] << 32) + loci[:, 1],
            residues=residues,
        )

    def draw(self, *, seed: int, same_locus: bool) -> np.ndarray:
        """Draw a partner for each pair: another pair, of another group, with other chains.

        The draw is a hash of the seed and the pair's own key among the pairs by key, so the order of the
        corpus does not matter.

        Parameters
        ----------
        seed
            Another one gives other partners.
        same_locus
            Only pairs of the same loci; else of the same roles.

        Returns
        -------
        numpy.ndarray
            Index into this table, -1 where there is none, int64 ``[n]``.
        """
        kind = self.kind
        if same_locus:
            kind = np.unique(np.stack([self.kind, self.loci]), axis=1, return_inverse=True)[1].ravel()
        drawn = np.full(len(self.rows), -1, dtype=np.int64)
        for each in np.unique(kind):
            members = np.flatnonzero(kind == each)
            waiting = members
            for attempt in range(_ATTEMPTS):
                shares = uniform(combine(seed, _STREAM, int(same_locus), attempt, self.keys[waiting]))
                candidates = members[(shares * len(members)).astype(np.int64)]
                fits = self._fits(waiting, candidates)
                drawn[waiting[fits]] = candidates[fits]
                waiting = waiting[~fits]
                if not len(waiting):
                    break
            for pair in waiting:  # nearly all members are of one group
                fitting = members[self._fits(np.full(len(members), pair), members)]
                if len(fitting):
                    drawn[pair] = fitting[int(combine(seed, _STREAM, self.keys[pair])[0] % len(fitting))]
        return drawn

    def _fits(self, pairs: np.ndarray, partners: np.ndarray) -> np.ndarray:
        other_chains = (self.residues[pairs] != self.residues[partners]).all(axis=1)
        return (self.group[pairs] != self.group[partners]) & other_chains


def _numbers(values: pl.Series) -> np.ndarray:
    """Number the distinct values, int64."""
    return values.rank("dense").cast(pl.Int64).to_numpy()


def predict_with_partners(
    model: MaskedModel,
    records: Sequence[Record],
    partners: Mapping[str, Sequence[Record]],
    *,
    turns: int | None = None,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_contexts: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Mask every residue of every pair once under each partner and table what the model says there.

    Parameters
    ----------
    model
        Any masked model.
    records
        Pairs.
    partners
        By condition, a pair for each of `records` whose chain takes the place of the true partner. The
        conditions `TRUE` and `NONE` are always run.
    turns
        Mask a chain's residues in so many turns, each once, in place of one by one: seven turns mask a
        seventh of the chain together. Which go together is a hash of the record, the same for all models and
        partners.
    max_tokens
        Token budget of a batch.
    on_contexts
        Called with the number of contexts finished.

    Returns
    -------
    polars.DataFrame
        `protlm.evaluation.residues.SCHEMA`, ``partner`` (one of `CONDITIONS`) and ``partner_id``.
    """
    bases: list[Record] = []
    facts: list[pl.DataFrame] = []
    places: list[tuple[int, int, int]] = []
    for number, record in enumerate(records):
        own = residue_facts([record])
        for chain, name in enumerate(record.chain_names):
            of_chain = own.filter(pl.col("chain") == name)
            donors = {condition: those[number] for condition, those in partners.items()}
            for condition, partner, base, place in _bases(record, chain, donors):
                facts.append(of_chain.with_columns(partner=pl.lit(condition), partner_id=pl.lit(partner)))
                places.append((len(bases), place, len(record.chains[chain])))
                bases.append(base)
    contexts = ContextList(bases)
    rows = [
        row
        for base, chain, length in places
        for row in _rows_in_turns(contexts, base, chain, _turn_of_each(bases[base].id, length, turns))
    ]
    reads = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_contexts)[np.array(rows)]
    return residue_table(model.name, pl.concat(facts), over_twenty(reads, model.layout))


def _turn_of_each(record_id: str, length: int, turns: int | None) -> np.ndarray:
    """Give the turn in which each residue is masked, int64; turns differ by at most one residue."""
    if turns is None or turns >= length:
        return np.arange(length)
    key = np.frombuffer(hashlib.blake2b(record_id.encode(), digest_size=8).digest(), dtype=np.uint64)
    turn = np.empty(length, dtype=np.int64)
    turn[np.argsort(combine(_STREAM, key, np.arange(length)), kind="stable")] = np.arange(length) % turns
    return turn


def _rows_in_turns(contexts: ContextList, base: int, chain: int, turn: np.ndarray) -> list[int]:
    """Make a context for each turn and read every residue of the chain in its own."""
    made = [
        contexts.context(base, [(chain, int(index), MASK) for index in np.flatnonzero(turn == number)])
        for number in range(int(turn.max()) + 1)
    ]
    return [contexts.read(made[number], chain, index) for index, number in enumerate(turn.tolist())]


def _bases(record: Record, chain: int, donors: Mapping[str, Record]) -> list[tuple[str, str, Record, int]]:
    """Give condition, id of the partner, the record to run, and the place of the chain in it."""
    bases = [(TRUE, record.id, record, chain)]
    role = record.chains[1 - chain].role
    for condition, donor in donors.items():
        of_role = [each for each in donor.chains if each.role is role]
        partner = of_role[0] if len(of_role) == 1 else donor.chains[1 - chain]
        chains = (record.chains[0], partner) if chain == 0 else (partner, record.chains[1])
        bases.append((condition, donor.id, replace(record, chains=chains), chain))
    alone = replace(record, chains=(record.chains[chain],))
    return [*bases, (NONE, "", alone, 0)]


def partner_slices(chains: Sequence[str], *, together: bool) -> Slices:
    """Give the lines by chain and region, or of several regions together.

    Parameters
    ----------
    chains
        Names.
    together
        Framework, CDRs and all residues; else the seven regions.
    """
    regions = ("framework", "CDRs", "all") if together else REGION_NAMES
    return [
        ({"chain": chain, "region": region}, (pl.col("chain") == chain) & in_region(region))
        for chain in chains
        for region in regions
    ]


def partner_tables(table: pl.DataFrame | pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give loss and accuracy under each partner, and what the true partner gains over the others.

    Parameters
    ----------
    table
        From `predict_with_partners`, of one or more models.

    Returns
    -------
    summary : polars.DataFrame
        ``model, partner, chain, region, n_residues, n_records, n_groups``, ``accuracy`` and
        ``cross_entropy`` with ``_low`` and ``_high``.
    gains : polars.DataFrame
        ``model, against, chain, region, metric, value, other_value, gain, gain_low, gain_high, p_value,
        n_tests, p_adjusted, stars, n_residues, n_records, n_groups``. A positive gain favours the true
        partner: nats per residue saved, or accuracy won. p-values are multiplied by ``n_tests``, the number
        of tests of a metric over regions, models and conditions; lines of several regions have none.
    """
    return arm_tables(table, {}, METRICS, first=TRUE)


def arm_tables(
    table: pl.DataFrame | pl.LazyFrame, sums: Mapping[str, pl.Expr], metrics: Mapping[str, str], *, first: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give means under each condition by chain and region, and what one condition gains over the others.

    Parameters
    ----------
    table
        Residues with ``partner``; a lazy one is never held whole.
    sums
        Columns to count besides ``hits`` and ``loss``, as conditions that are true of a residue.
    metrics
        Column of sums for each metric; a lower ``cross_entropy`` is better, and higher values of all others.
    first
        The condition that may gain.

    Returns
    -------
    tuple of polars.DataFrame
        Summary and gains, see `partner_tables`.
    """
    counted = {"hits": pl.col("predicted") == pl.col("residue"), **sums}
    cells = (
        with_arms(table)
        .group_by("arm", "model", "partner", "id", "group", "chain", "region")
        .agg(
            n=pl.len().cast(pl.Float64),
            loss=-pl.col("logprob").cast(pl.Float64).sum(),
            **{name: truth.sum().cast(pl.Float64) for name, truth in counted.items()},
        )
    )
    rows = cells.collect(engine="streaming").sort("arm", "chain", "region", "id")
    chains = sorted(rows["chain"].unique(), key=lambda name: (name != "heavy", name))
    if (rows["region"] == "").all():  # proteins without regions: one line for each chain, one for both
        regions, together = _whole_chains(chains), []
    else:
        regions, together = (partner_slices(chains, together=each) for each in (False, True))
    gains = arm_gains(rows, regions, together, metrics, first=first, lower_is_better=("cross_entropy",))
    return arm_summary(rows, [*regions, *together], metrics), gains


def _whole_chains(chains: Sequence[str]) -> Slices:
    single: Slices = [({"chain": chain, "region": ALL}, pl.col("chain") == chain) for chain in chains]
    return [*single, ({"chain": BOTH, "region": ALL}, pl.lit(True))] if len(chains) > 1 else single
