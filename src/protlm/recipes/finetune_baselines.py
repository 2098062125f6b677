"""What stands beside a fine-tuned model: regressions of residues and of the untuned model's vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse

from protlm.data.numbering import NumberingReport, number_records
from protlm.data.roles import with_roles
from protlm.evaluation.learners import FEW_STRENGTHS, LARGE, STRENGTHS, Features, fit_path, loss, num_numbers
from protlm.evaluation.pair_features import distinct_chains, join_chains
from protlm.evaluation.trivial import variant_one_hot
from protlm.models.features import cached_features
from protlm.models.heads import HeadFacts, views
from protlm.models.language_model import LanguageModel
from protlm.recipes.finetune_zero_shot import ZeroShot, zero_shot
from protlm.types.record import Record, Role
from protlm.types.target import LabelledRecords, Target

ONE_HOT, EMBEDDINGS = "one_hot", "embeddings"


@dataclass(frozen=True)
class RegressionInputs:
    """What the baselines look at, made once for all subsets, folds and seeds."""

    features: Mapping[str, Features] = field(default_factory=dict)
    """By name of the baseline, a row per record."""
    likelihood: ZeroShot | None = None
    lines: Sequence[str] = ()
    """What they are, and which are missing for what reason."""


def regression_inputs(
    encoder: LanguageModel,
    labelled: LabelledRecords,
    facts: HeadFacts,
    judged: np.ndarray,
    folder: Path,
    *,
    wild_type: str | None,
    most_contexts: int,
) -> RegressionInputs:
    """Make the inputs of baselines of a number (all of them) or of two classes (one-hot residues).

    Parameters
    ----------
    encoder
        As it is before it is tuned.
    labelled
        All records.
    facts
        Of the head, for how records are put to the model.
    judged
        Rows of which a likelihood is needed.
    folder
        Where features are kept.
    wild_type
        Of the records, if they are variants of one; a file or residues.
    most_contexts
        As for `zero_shot`.
    """
    target = labelled.target
    if target.level == "residue" or target.kind not in ("value", "binary"):
        return RegressionInputs()
    features: dict[str, Features] = {}
    lines = []
    table, reason = one_hot(labelled.records, target)
    if table is None:
        lines.append(f"no baseline '{ONE_HOT}': {reason}")
    else:
        features[ONE_HOT] = table
    if target.kind == "binary":
        return RegressionInputs(features, None, lines)
    features[EMBEDDINGS] = embeddings(encoder, labelled.records, facts, folder)
    found = zero_shot(
        encoder, labelled.records, judged, wild_type=wild_type, most_contexts=most_contexts, best=target.best
    )
    return RegressionInputs(features, found, [*lines, *found.lines])


def one_hot(records: Sequence[Record], target: Target) -> tuple[sparse.csr_array | None, str]:
    """Give a column for each residue at each place, or say why that cannot be.

    Parameters
    ----------
    records
        Of one length, or antibodies, which are laid out by their IMGT positions.
    target
        What is predicted of them.
    """
    roles = [chain.role for record in records for chain in record.chains]
    if target.level == "pair" and Role.OTHER in roles:
        return None, "the chains of a pair have no roles, so no place is the first chain's"
    table = variant_one_hot(records)
    if table is None and any(role in (Role.HEAVY, Role.LIGHT) for role in roles):
        table = variant_one_hot(list(number_records(records, receptor="any", report=NumberingReport())))
    return table, "records differ in length, and not every chain can be numbered"


def embeddings(
    encoder: LanguageModel, records: Sequence[Record], facts: HeadFacts, folder: Path
) -> np.ndarray:
    """Give the means over the residues of each chain, read as the head has them read.

    Parameters
    ----------
    encoder
        As it is before it is tuned.
    records, facts, folder
        As for `regression_inputs`.

    Returns
    -------
    numpy.ndarray
        float32 ``[n, d]``: chains one after another; as `join_chains` has them where those of a pair have no
        roles, or each is an input of its own.
    """
    if facts.num_views == 1:
        made = with_roles(views(records, facts), encoder.layout)
        return cached_features(encoder, made, folder, pooling="mean")[0]
    chains, rows = distinct_chains(records)
    alone = [Record(f"chain {number}", (chain,)) for number, chain in enumerate(chains)]
    found, _ = cached_features(encoder, with_roles(alone, encoder.layout), folder, pooling="mean")
    return join_chains(found, rows, is_ordered=False)


def regress(
    features: Features, labelled: LabelledRecords, train: np.ndarray, valid: np.ndarray, test: np.ndarray
) -> list[np.ndarray]:
    """Fit ridge or logistic regressions and predict with the one that is best on the validation records.

    Parameters
    ----------
    features
        A row per record.
    labelled
        All records.
    train, valid, test
        Rows of them. Where there is none to choose by, or the same are judged, the strength of the penalty is
        a middle one.

    Returns
    -------
    list of numpy.ndarray
        As `Predictor.read` has them: ``[1]`` of a value, ``[2]`` of two classes.
    """
    kind = labelled.target.kind
    values = np.asarray(labelled.values, dtype=np.float64 if kind == "value" else np.bool_)
    if kind == "binary" and len(np.unique(values[train])) < 2:
        only = float(values[train][0])
        return [np.array([1 - only, only])] * len(test)
    strengths = FEW_STRENGTHS if num_numbers(features) > LARGE else STRENGTHS
    if isinstance(features, np.ndarray):
        features = features.astype(np.float64)
    path = fit_path(kind, features[train], values[train], strengths, "the records to judge on", 2)
    best = len(strengths) // 2
    if len(valid) and not np.intersect1d(valid, test).size:
        best = int(np.argmin([loss(kind, each, values[valid]) for each in path.outputs(features[valid])]))
    found = path.outputs(features[test])[best]
    return list(found[:, None] if kind == "value" else np.stack([1 - found, found], axis=1))
