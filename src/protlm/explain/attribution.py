"""What each residue adds to the output of a fine-tuned model: four methods behind one call.

Shapes: ``n`` records, ``r`` residues and ``s`` sites of one record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from protlm.errors import ModelError
from protlm.explain.attribution_methods import attcat, gradient_times_input, integrate, occlude
from protlm.explain.attribution_sites import find_sites
from protlm.models.predictor import Predictor
from protlm.types.record import Record

Method = Literal["attcat", "grad-x-input", "integrated-gradients", "occlusion"]
METHODS: tuple[Method, ...] = ("attcat", "grad-x-input", "integrated-gradients", "occlusion")
STEPS = 32
"""Points of the integral between the baseline and the input."""


@dataclass(frozen=True)
class Attributed:
    """Attributions of some records."""

    values: list[Float[np.ndarray, " r"]]
    """Of the residues of all chains of each record laid end to end, in the unit of the output."""
    sites: list[Float[np.ndarray, " s"]]
    """The same by token, before a sub-word's value is spread over its residues."""
    gap: list[float]
    """Integrated gradients: by how much all tokens together miss the output's difference to the baseline,
    as a share of that difference. NaN for other methods."""


def attribute(
    predictor: Predictor,
    records: Sequence[Record],
    method: Method,
    classes: Int[np.ndarray, " n"],
    *,
    steps: int = STEPS,
    max_tokens: int | None = None,
) -> Attributed:
    """Give each residue its part in the output of one class.

    Parameters
    ----------
    predictor
        Of a target that is of whole records.
    records
        Few enough to be one batch.
    method
        ``attcat``: of every layer, state times gradient, times the attention that the token receives.
        ``grad-x-input``: word embedding times gradient. ``integrated-gradients``: the same along the way from
        mask tokens. ``occlusion``: the output less that with the token masked.
    classes
        Which output of each record, see `class_outputs`.
    steps
        Of integrated gradients.
    max_tokens
        Token budget of a batch of `occlusion` and `integrated-gradients`; by the device if not said.

    Raises
    ------
    ModelError
        If the target is of residues, or `attcat` is asked of a model that protlm does not run itself.

    Notes
    -----
    Positive speaks for the class. A pair that is read in both orders, or chain by chain, has the sum over
    what it is read in. Special tokens get attributions too; they belong to no residue and are left out.

    References
    ----------
    AttCAT: Qiang et al. 2022, NeurIPS; integrated gradients: Sundararajan et al. 2017, arXiv:1703.01365.
    """
    if predictor.target.level == "residue":
        raise ModelError(
            f"'{predictor.name}' predicts '{predictor.target.name}' of each residue, and attribution "
            "explains one output of a whole record",
            hint="name a Run of --level sequence or pair",
        )
    compute = {"attcat": attcat, "grad-x-input": gradient_times_input}.get(method)
    wanted = torch.as_tensor(classes, dtype=torch.int64, device=predictor.encoder.device)
    if compute is not None:
        batch = predictor.batch(records)
        sites = find_sites(records, predictor.head.facts, batch)
        values = sites.sums(compute(predictor, batch, wanted).double().cpu().numpy())
        return Attributed(sites.spread(values), sites.by_record(values), [float("nan")] * len(records))
    budget = max_tokens or predictor.encoder.token_budget
    found = Attributed([], [], [])
    for record, own in zip(records, wanted, strict=True):
        batch, gap = predictor.batch([record]), float("nan")
        sites = find_sites([record], predictor.head.facts, batch)
        if method == "occlusion":
            values = occlude(predictor, batch, sites.of_token, own, budget)
        else:
            by_token, gap = integrate(predictor, batch, own, steps, budget)
            values = sites.sums(by_token.double().numpy())
        found.values.extend(sites.spread(values))
        found.sites.append(values)
        found.gap.append(gap)
    return found
