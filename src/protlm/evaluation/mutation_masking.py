"""All mutated residues of one chain masked at once, the partner native or reverted to germline."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from protlm.evaluation.partner import arm_tables
from protlm.evaluation.residues import over_twenty, residue_facts, residue_table
from protlm.models.language_model import MaskedModel
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, MASK, ContextList, run_contexts
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import Mutated

NATIVE, REVERTED = "native", "reverted"
MIN_MUTATIONS = 2
METRICS = {"native": "hits", "germline": "germline_hits", "cross_entropy": "loss"}
"""Share of masked residues where the native one, or the germline one, is predicted, and the loss."""

_STANDARD = np.frombuffer(STANDARD.encode(), dtype=np.uint8)


def mutated_indices(chain: Chain) -> np.ndarray:
    """Give the 0-based indices of residues that differ from a known germline residue, both of the twenty.

    Parameters
    ----------
    chain
        With tracks `mutated` and `germline`; without them there are none.
    """
    if "mutated" not in chain.tracks or "germline" not in chain.tracks:
        return np.zeros(0, dtype=np.int64)
    residues = np.frombuffer(chain.residues.encode(), dtype=np.uint8)
    germline = chain.tracks["germline"]
    is_known = np.isin(germline, _STANDARD) & np.isin(residues, _STANDARD)
    return np.flatnonzero(is_known & (chain.tracks["mutated"] == Mutated.MUTATED) & (germline != residues))


def has_mutations(record: Record, least: int = MIN_MUTATIONS) -> bool:
    """Tell whether both chains of a pair have enough mutated residues for the test.

    Parameters
    ----------
    record
        Any record.
    least
        In each chain.
    """
    return len(record.chains) == 2 and all(len(mutated_indices(chain)) >= least for chain in record.chains)


def predict_masked_mutations(
    model: MaskedModel,
    records: Sequence[Record],
    *,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_contexts: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Mask all mutated residues of one chain together, and table what the model says at each.

    Four contexts for each pair: either chain masked, with the other one native, or with every mutated
    residue of it put back to germline. A model that reads the partner does better with the native one.

    DISCREPANCY: Burbach & Briney take pairs with more than two mutations in V of each chain and no
    insertion or deletion; here pairs that `has_mutations` accepts, and residues without a germline
    partner, as in insertions, are neither masked nor reverted.

    Parameters
    ----------
    model
        Any masked model.
    records
        Pairs that `has_mutations` accepts.
    max_tokens
        Token budget of a batch.
    on_contexts
        Called with the number of contexts finished.

    Returns
    -------
    polars.DataFrame
        `protlm.evaluation.residues.SCHEMA` of the masked residues, ``partner`` (`NATIVE` or `REVERTED`) and
        ``num_masked``, the number of residues masked together.

    References
    ----------
    Burbach & Briney 2024, Patterns 5:100967 (BALM).
    """
    contexts = ContextList(records)
    facts: list[pl.DataFrame] = []
    rows: list[int] = []
    for number, record in enumerate(records):
        own = residue_facts([record])
        sites = [mutated_indices(chain) for chain in record.chains]
        for chain, name in enumerate(record.chain_names):
            of_chain = own.filter(pl.col("chain") == name)[sites[chain]]
            masks = [(chain, int(index), MASK) for index in sites[chain]]
            partner = record.chains[1 - chain]
            back = [
                (1 - chain, int(index), chr(partner.tracks["germline"][index])) for index in sites[1 - chain]
            ]
            for condition, changes in ((NATIVE, masks), (REVERTED, [*masks, *back])):
                context = contexts.context(number, changes)
                rows += [contexts.read(context, chain, int(index)) for index in sites[chain]]
                facts.append(
                    of_chain.with_columns(partner=pl.lit(condition), num_masked=pl.lit(len(masks), pl.Int32))
                )
    reads = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_contexts)[np.array(rows)]
    return residue_table(model.name, pl.concat(facts), over_twenty(reads, model.layout))


def mutation_masking_tables(table: pl.DataFrame | pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the shares of native and germline predictions, and what a native partner gains.

    Parameters
    ----------
    table
        From `predict_masked_mutations`, of one or more models.

    Returns
    -------
    summary : polars.DataFrame
        ``model, partner, chain, region, n_residues, n_records, n_groups``, and each of `METRICS` with
        ``_low`` and ``_high``.
    gains : polars.DataFrame
        As `protlm.evaluation.partner.partner_tables` gives, of the native partner against the reverted
        one. For ``germline`` a positive gain means that the germline residue is predicted more often.
    """
    sums = {"germline_hits": pl.col("predicted") == pl.col("germline")}
    return arm_tables(table, sums, METRICS, first=NATIVE)
