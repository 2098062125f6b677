"""What models and baselines say at each residue: one row per residue and model."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from protlm.data.layout import TokenLayout
from protlm.evaluation.baselines import Baseline
from protlm.evaluation.letters import AMINO_ACIDS, NAMES_OF_REGIONS, letter_codes
from protlm.models.language_model import MaskedModel
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, ContextList, run_contexts
from protlm.scoring.plans import every_residue_masked
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import Mutated, Segment, decode_position

_RECORDS_PER_CALL = 32

SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "group": pl.String,
        "model": pl.String,
        "chain": pl.String,
        "position": pl.String,
        "index": pl.Int32,
        "region": pl.String,
        "segment": pl.String,
        "residue": pl.String,
        "mutated": pl.Boolean,
        "logprob": pl.Float32,
        "predicted": pl.String,
        "predicted_logprob": pl.Float32,
        "entropy": pl.Float32,
        "germline": pl.String,
        "germline_logprob": pl.Float32,
    }
)
"""Columns of ``regions.parquet``: `index` is 0-based in the chain, `position` the IMGT label.

`region`, `segment` and `position` are empty, `mutated`, `germline` and `germline_logprob` null, where
they are not known. Log-probabilities and entropy are in nats, over the twenty amino acids.
"""

_TRACKS = ("position", "region", "segment", "mutated", "germline")
_SEGMENT_NAMES = pl.Series([segment.name if segment else "" for segment in Segment])
_MUTATED = pl.Series([{Mutated.GERMLINE: False, Mutated.MUTATED: True}.get(each) for each in Mutated])


def predict_residues(
    model: MaskedModel,
    records: Sequence[Record],
    *,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_contexts: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Mask every residue of every record once and table what the model says there.

    Probabilities are over the twenty amino acids (the other tokens are left out and the rest
    rescaled), so that models with different vocabularies and the baselines can be compared. Residues
    that are none of the twenty are left out.

    Parameters
    ----------
    model
        Any masked model.
    records
        Antibodies or any proteins.
    max_tokens
        Token budget of a batch.
    on_contexts
        Called with the number of contexts finished.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`; log-probabilities and entropy in nats.
    """
    frames = []
    for start in range(0, len(records), _RECORDS_PER_CALL):
        some = records[start : start + _RECORDS_PER_CALL]
        contexts = ContextList(some)
        rows = np.concatenate([every_residue_masked(contexts, base) for base in range(len(some))])
        reads = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_contexts)[rows]
        frames.append(residue_table(model.name, residue_facts(some), over_twenty(reads, model.layout)))
    return pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMA)


def predict_baseline(baseline: Baseline, records: Sequence[Record]) -> pl.DataFrame:
    """Table what a baseline says at every residue of numbered chains.

    Parameters
    ----------
    baseline
        Fitted on training chains.
    records
        The same as for the models.
    """
    if not len(records):
        return pl.DataFrame(schema=SCHEMA)
    logprobs = baseline.logprobs_of([chain for record in records for chain in record.chains])
    return residue_table(baseline.name, residue_facts(records), logprobs)


def over_twenty(logprobs: np.ndarray, layout: TokenLayout) -> np.ndarray:
    """Rescale log-probabilities over a vocabulary to the twenty amino acids, float64 ``[r, 20]``.

    Parameters
    ----------
    logprobs
        Natural logarithms ``[r, v]``.
    layout
        Whose vocabulary it is.
    """
    standard = logprobs[:, layout.standard_ids].astype(np.float64)
    return standard - np.logaddexp.reduce(standard, axis=1, keepdims=True)


def residue_facts(records: Sequence[Record]) -> pl.DataFrame:
    """Give what is known of each residue without a model, record by record and chain by chain.

    Parameters
    ----------
    records
        At least one.

    Returns
    -------
    polars.DataFrame
        The columns of `SCHEMA` that are not of a model, of every residue, of the twenty or not.
    """
    chains = [chain for record in records for chain in record.chains]
    chain_of = np.repeat(np.arange(len(chains)), [len(chain) for chain in chains])
    record_of = np.repeat(np.arange(len(records)), [len(record) for record in records])
    tracks = {name: np.concatenate([_track(chain, name) for chain in chains]) for name in _TRACKS}
    names = [name for record in records for name in record.chain_names]
    letters = np.frombuffer("".join(chain.residues for chain in chains).encode(), dtype=np.uint8)
    return pl.DataFrame(
        {
            "id": pl.Series([record.id for record in records], dtype=pl.String).gather(record_of),
            "group": pl.Series([record.group or record.id for record in records]).gather(record_of),
            "chain": pl.Series(names).gather(chain_of),
            "position": _labels(tracks["position"]),
            "index": np.concatenate([np.arange(len(chain), dtype=np.int32) for chain in chains]),
            "region": NAMES_OF_REGIONS.gather(tracks["region"]),
            "segment": _SEGMENT_NAMES.gather(tracks["segment"]),
            "residue": _text(letters),
            "mutated": _MUTATED.gather(tracks["mutated"]),
            "germline": _amino_acids(letter_codes(tracks["germline"])),
        }
    )


def residue_table(model: str, facts: pl.DataFrame, logprobs: np.ndarray) -> pl.DataFrame:
    """Put predictions beside the facts, without residues that are none of the twenty.

    Parameters
    ----------
    model
        Name of the model or baseline.
    facts
        Rows of `residue_facts`.
    logprobs
        Natural logarithms over the twenty, a row for each of `facts`, ``[r, 20]``.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`, and what else `facts` has.
    """
    letter = _codes(facts["residue"])
    germline = _codes(facts["germline"])
    best = logprobs.argmax(axis=1)
    of_germline = np.where(germline < 0, np.nan, logprobs[np.arange(len(germline)), germline])
    frame = facts.with_columns(
        model=pl.lit(model),
        logprob=pl.Series(logprobs[np.arange(len(letter)), letter]),
        predicted=AMINO_ACIDS.gather(best),
        predicted_logprob=pl.Series(logprobs.max(axis=1)),
        entropy=pl.Series(-(np.exp(logprobs) * logprobs).sum(axis=1)),
        germline_logprob=pl.Series(of_germline).fill_nan(None),
    )
    more = [name for name in frame.columns if name not in SCHEMA]
    typed = frame.select(*(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()), *more)
    return typed.filter(pl.Series(letter >= 0))


def _labels(codes: np.ndarray) -> pl.Series:
    distinct, place = np.unique(codes, return_inverse=True)
    return pl.Series([decode_position(int(code)) for code in distinct], dtype=pl.String).gather(place)


def _text(letters: np.ndarray) -> pl.Series:
    return pl.Series([chr(code) for code in range(128)]).gather(letters)


def _amino_acids(codes: np.ndarray) -> pl.Series:
    """Write codes of the twenty as letters; null for -1."""
    return pl.Series([*STANDARD, None], dtype=pl.String).gather(np.where(codes < 0, len(STANDARD), codes))


def _codes(letters: pl.Series) -> np.ndarray:
    """Give the place of letters in `STANDARD`, -1 for null and other letters."""
    places = dict(zip(STANDARD, range(len(STANDARD)), strict=True))
    return letters.replace_strict(places, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()


def _track(chain: Chain, name: str) -> np.ndarray:
    values = chain.tracks.get(name)
    return values if values is not None else np.zeros(len(chain), dtype=np.uint8)
