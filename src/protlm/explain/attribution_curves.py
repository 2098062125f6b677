"""Whether what a method points at matters: outputs as residues are masked, or brought back, in its order."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from protlm.data.hashing import combine, uniform
from protlm.explain.attribution_methods import hidden_outputs
from protlm.explain.attribution_sites import find_sites
from protlm.models.predictor import Predictor
from protlm.types.record import Record

Kind = Literal["deletion", "insertion"]
KINDS: tuple[Kind, ...] = ("deletion", "insertion")
ORDERS = ("signed", "absolute")
"""From the highest attribution down; from the largest, whatever its sign."""
FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of the tokens that are masked, or brought back: closest where few say most."""
RANDOM_DRAWS = 3
_STREAM = 0x617474


@dataclass(frozen=True)
class Curves:
    """Outputs of the explained class of one record, at `FRACTIONS`."""

    attributed: dict[tuple[str, str, Kind], Float[np.ndarray, " f"]]
    """By method, order and kind."""
    random: dict[Kind, Float[np.ndarray, " f"]]
    """Mean over random orders."""


def record_curves(
    predictor: Predictor,
    record: Record,
    sites: dict[str, Float[np.ndarray, " s"]],
    wanted: int,
    *,
    seed: int = 0,
    max_tokens: int | None = None,
) -> Curves:
    """Mask the tokens of a record, and bring them back, in the order of their attributions and of chance.

    Parameters
    ----------
    predictor
        That was explained.
    record
        One.
    sites
        Attributions by method, from `Attributed.sites`.
    wanted
        The class.
    seed
        Of the random orders, and of the order of equal attributions.
    max_tokens
        Token budget of a batch; by the device if not said.

    Returns
    -------
    Curves
        `deletion`: all residues are there at first, and then the first in order are masked. `insertion`: all
        are masked at first.

    References
    ----------
    Petsiuk et al. 2018, BMVC, arXiv:1806.07421.
    """
    batch = predictor.batch([record])
    of_token = find_sites([record], predictor.head.facts, batch).of_token
    num_sites = int(of_token.max()) + 1
    key = batch.record_keys[:1].numpy().view(np.uint64)
    chance = [
        uniform(combine(_STREAM, seed, key, draw, np.arange(num_sites))) for draw in range(RANDOM_DRAWS)
    ]
    orders: dict[tuple[str, str], np.ndarray] = {}
    for method, values in sites.items():
        orders[method, "signed"] = np.lexsort((chance[0], -values))
        orders[method, "absolute"] = np.lexsort((chance[0], -np.abs(values)))
    for draw, numbers in enumerate(chance):
        orders["", str(draw)] = np.argsort(numbers)
    masks = np.concatenate([masked_sites(order, kind) for order in orders.values() for kind in KINDS])
    distinct, back = np.unique(masks, axis=0, return_inverse=True)  # both ends of all curves are two inputs
    outputs = hidden_outputs(
        predictor,
        batch,
        of_token,
        distinct,
        torch.tensor(wanted, device=predictor.encoder.device),
        max_tokens or predictor.encoder.token_budget,
    )
    rows = iter(outputs[back.reshape(-1)].reshape(-1, len(FRACTIONS)))
    found: dict[tuple[str, str, Kind], np.ndarray] = {
        (method, order, kind): next(rows) for method, order in orders for kind in KINDS
    }
    draws = [str(draw) for draw in range(RANDOM_DRAWS)]
    return Curves(
        {names: values for names, values in found.items() if names[0]},
        {kind: np.mean([found["", draw, kind] for draw in draws], axis=0) for kind in KINDS},
    )


def masked_sites(order: Int[np.ndarray, " s"], kind: Kind) -> np.ndarray:
    """Give which sites are masked at each of `FRACTIONS`, bool ``[f, s]``.

    Parameters
    ----------
    order
        Sites, the first to go or to come back first.
    kind
        Whether they go or come back.

    Examples
    --------
    >>> masked_sites(np.array([2, 0, 1]), "deletion")[5].tolist()  # 0.4 of 3 is 1 site
    [False, False, True]
    """
    counts = np.rint(np.array(FRACTIONS) * len(order))[:, None]
    is_first = np.argsort(order)[None, :] < counts
    return is_first if kind == "deletion" else ~is_first


def area(curve: Float[np.ndarray, "*n f"]) -> Float[np.ndarray, "*n"]:
    """Give the area under a curve over `FRACTIONS`: the mean output on the way, in its unit.

    Parameters
    ----------
    curve
        Outputs.
    """
    return np.trapezoid(curve, np.array(FRACTIONS), axis=-1)
